//! Destinations that keep what they receive and answer by a script, or with whatever bytes a test likes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::http::{Request, Server, read_request, write};

/// What a destination does once it has read a request.
#[derive(Debug, Clone)]
pub(crate) enum Reaction {
    /// Answers with these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// Answers with these bytes and closes it.
    AnswerAndClose(Vec<u8>),
    /// Closes it without an answer.
    Close,
    /// Resets it without an answer.
    Reset,
    /// Writes these bytes and then nothing, for ever.
    Stall(Vec<u8>),
    /// Writes the first bytes, then the second again and again, as long as the client takes them.
    Endless(Vec<u8>, Vec<u8>),
    /// Takes its time, then answers with these bytes and keeps the connection.
    Slow(Duration, Vec<u8>),
    /// Waits until the gate is open, then does that.
    Wait(watch::Receiver<bool>, Box<Reaction>),
}

pub(crate) struct Destination {
    server: Server,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Destination {
    /// Reacts to the request by what `script` says of it and of its number, from 0.
    pub(crate) async fn start(script: impl Fn(&Request, usize) -> Reaction + Send + Sync + 'static) -> Destination {
        let seen = Arc::new(Seen::default());
        let (script, served) = (Arc::new(script), seen.clone());
        let server = Server::start(move |stream| serve(stream, served.clone(), script.clone())).await;
        Destination { server, seen }
    }

    /// Always reacts the same.
    pub(crate) async fn always(reaction: Reaction) -> Destination {
        Destination::start(move |_, _| reaction.clone()).await
    }

    /// Reacts to nothing until the gate is open, then always the same.
    pub(crate) async fn gated(gate: watch::Receiver<bool>, reaction: Reaction) -> Destination {
        Destination::start(move |_, _| Reaction::Wait(gate.clone(), Box::new(reaction.clone()))).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Most requests that were waiting for their reaction at the same time.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.seen.most_in_flight.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Seen>, script: Arc<impl Fn(&Request, usize) -> Reaction>) {
    seen.connections.fetch_add(1, Ordering::SeqCst);
    while let Some(request) = read_request(&mut stream).await {
        let in_flight = seen.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let goes_on = react(&mut stream, script(&request, number)).await;
        seen.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !goes_on {
            return;
        }
    }
}

/// Whether the connection stays.
async fn react(stream: &mut TcpStream, reaction: Reaction) -> bool {
    match reaction {
        Reaction::Answer(bytes) => write(stream, &bytes).await.is_ok(),
        Reaction::AnswerAndClose(bytes) => {
            write(stream, &bytes).await.ok();
            false
        }
        Reaction::Slow(time, bytes) => {
            tokio::time::sleep(time).await;
            write(stream, &bytes).await.is_ok()
        }
        Reaction::Wait(mut gate, reaction) => {
            gate.wait_for(|open| *open).await.unwrap();
            Box::pin(react(stream, *reaction)).await
        }
        Reaction::Close => false,
        Reaction::Reset => {
            stream.set_zero_linger().unwrap();
            false
        }
        Reaction::Stall(bytes) => {
            write(stream, &bytes).await.ok();
            read_request(stream).await;
            false
        }
        Reaction::Endless(first, again) => {
            if write(stream, &first).await.is_ok() {
                while write(stream, &again).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            }
            false
        }
    }
}

/// A port on which connecting hangs, because its queue is full and nobody accepts; until [`Full::accept_all`].
pub(crate) struct Full {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    queued: Vec<TcpStream>,
}

impl Full {
    pub(crate) async fn start() -> Full {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        // The queue holds one or two more than it was asked for; the first connection that hangs shows that it is full.
        while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
            assert!(queued.len() < 16, "the queue never fills");
        }
        Full { listener, address, queued }
    }

    /// Takes all connections, those that were only there to fill the queue and those of the worker, and answers the next one
    /// of the worker.
    pub(crate) async fn accept_next(&mut self) -> TcpStream {
        loop {
            let (stream, peer) = self.listener.accept().await.unwrap();
            if !self.queued.iter().any(|queued| queued.local_addr().unwrap() == peer) {
                return stream;
            }
        }
    }
}
