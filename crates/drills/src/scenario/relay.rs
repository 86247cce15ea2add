//! A relay between the workers and a destination, for what no server can do to its callers: be unreachable.
//!
//! It passes bytes on, and can become a *black hole* (connecting hangs, because the queue of its socket is full, and what was
//! connected is silent) or be *closed to one process*, whose connections are reset while those of others live: that worker's
//! network is partitioned, as far as this destination goes. It answers a request that carries [`POISON`] itself, with 500.
//!
//! Which process a connection is of, it reads from Linux's `/proc`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::trio::ports::ANY_PORT;

/// A request with this in its body is answered 500, always.
pub(super) const POISON: &str = r#""poison":true"#;

const POISONED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Connections that wait to be accepted, in usual times.
const BACKLOG: i32 = 1024;

/// A connection of this machine to itself comes about in microseconds; one that has not by now hangs.
const HANGS: Duration = Duration::from_millis(100);

/// More connections than fill a queue of length nothing.
const FILLERS: usize = 8;

/// More than a request of a drill has, so that its body is read in one piece.
const BUFFER_BYTES: usize = 16 * 1024;

/// Who gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    Open,
    Hole,
    /// Open to all but this process.
    ClosedTo(u32),
}

/// A listening relay. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    listener: Option<TcpListener>,
    passage: watch::Sender<Passage>,
}

impl Relay {
    pub(super) async fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind(ANY_PORT).await?;
        let address = listener.local_addr()?;
        Ok(Relay { address, listener: Some(listener), passage: watch::Sender::new(Passage::Open) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to pass on to `upstream`.
    pub(super) fn lead_to(&mut self, upstream: SocketAddr) {
        if let Some(listener) = self.listener.take() {
            tokio::spawn(serve(listener, upstream, self.passage.subscribe()));
        }
    }

    /// From now on, also for connections that exist.
    pub(super) fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, mut passage: watch::Receiver<Passage>) {
    loop {
        if *passage.borrow_and_update() == Passage::Hole {
            let fillers = fill_queue(&listener).await;
            let over = passage.changed().await;
            // It fails only for a socket that does not listen.
            drop(SockRef::from(&listener).listen(BACKLOG));
            drop(fillers);
            if over.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            biased; // what is closed lets nobody in any more
            changed = passage.changed() => if changed.is_err() { return },
            accepted = listener.accept() => {
                if let Ok((stream, peer)) = accepted {
                    tokio::spawn(pass_on(stream, peer, upstream, passage.clone()));
                }
            }
        }
    }
}

/// Makes connecting hang: nobody accepts, and the queue has no place left.
async fn fill_queue(listener: &TcpListener) -> Vec<TcpStream> {
    let mut fillers = Vec::new();
    let Ok(address) = listener.local_addr() else { return fillers };
    // It fails only for a socket that does not listen.
    drop(SockRef::from(listener).listen(0));
    while fillers.len() < FILLERS {
        match tokio::time::timeout(HANGS, TcpStream::connect(address)).await {
            Ok(Ok(filler)) => fillers.push(filler),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    fillers
}

/// Passes on until either side hangs up, or the connection is cut.
async fn pass_on(mut client: TcpStream, peer: SocketAddr, upstream: SocketAddr, mut passage: watch::Receiver<Passage>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let Ok(own) = client.local_addr() else { return };
    let (from, to) = (peer.port(), own.port());
    let (mut sent, mut answered) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    passage.mark_changed(); // look at once
    loop {
        let went_well = tokio::select! {
            biased; // what is cut passes nothing on any more
            changed = passage.changed() => {
                let now = *passage.borrow_and_update();
                match now {
                    Passage::Open => {}
                    // Silent until it is over, and of no use then.
                    Passage::Hole => return drop(passage.changed().await),
                    Passage::ClosedTo(process) if owns(process, from, to) => return reset(client),
                    Passage::ClosedTo(_) => {}
                }
                changed.is_ok()
            }
            read = client.read(&mut sent) => match read {
                Ok(0) | Err(_) => false,
                Ok(length) if carries_poison(&sent[..length]) => {
                    // A client that has gone does not need the answer.
                    return drop(client.write_all(POISONED).await);
                }
                Ok(length) => server.write_all(&sent[..length]).await.is_ok(),
            },
            read = server.read(&mut answered) => match read {
                Ok(0) | Err(_) => false,
                Ok(length) => client.write_all(&answered[..length]).await.is_ok(),
            },
        };
        if !went_well {
            return;
        }
    }
}

fn carries_poison(bytes: &[u8]) -> bool {
    bytes.windows(POISON.len()).any(|window| window == POISON.as_bytes())
}

/// Closes with a reset instead of a farewell.
fn reset(stream: TcpStream) {
    // Without it the client sees an orderly end, which is a broken connection, too.
    drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
}

/// Whether the connection from the local port `from` to our port `to` is of `process`. Connections to other ports may be from the
/// same one, those that are over among them.
fn owns(process: u32, from: u16, to: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let ends = [from, to].map(|port| format!("0100007F:{port:04X}"));
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let Some(inode) = rows
        .filter(|row| row.get(1..3).is_some_and(|found| found == ends))
        .find_map(|row| row.get(9).map(|inode| format!("socket:[{inode}]")))
    else {
        return false;
    };
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    open.flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == inode.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay to a server that answers everything with "pong".
    async fn relay() -> Relay {
        let server = TcpListener::bind(ANY_PORT).await.unwrap();
        let mut relay = Relay::listen().await.unwrap();
        relay.lead_to(server.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = server.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut bytes = [0; 1024];
                    while matches!(stream.read(&mut bytes).await, Ok(length) if length > 0) {
                        stream.write_all(b"pong").await.unwrap();
                    }
                });
            }
        });
        relay
    }

    async fn ask(stream: &mut TcpStream, question: &str) -> io::Result<String> {
        stream.write_all(question.as_bytes()).await?;
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).await?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[tokio::test]
    async fn it_passes_on_and_answers_poison_itself() {
        let relay = relay().await;
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "ping").await.unwrap(), "pong");
        let answer = ask(&mut stream, r#"{"poison":true}"#).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    }

    #[tokio::test]
    async fn a_hole_neither_answers_nor_lets_anybody_connect_until_it_is_over() {
        let relay = relay().await;
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "ping").await.unwrap(), "pong");
        relay.set(Passage::Hole);
        assert!(tokio::time::timeout(3 * HANGS, ask(&mut stream, "ping")).await.is_err());
        assert!(tokio::time::timeout(3 * HANGS, TcpStream::connect(relay.address())).await.is_err());
        relay.set(Passage::Open);
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "ping").await.unwrap(), "pong");
    }

    #[tokio::test]
    async fn it_is_closed_to_one_process_and_open_to_the_others() {
        let relay = relay().await;
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        relay.set(Passage::ClosedTo(1));
        assert_eq!(ask(&mut stream, "ping").await.unwrap(), "pong");
        relay.set(Passage::ClosedTo(std::process::id()));
        assert!(ask(&mut stream, "ping").await.is_err());
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        assert!(!matches!(ask(&mut stream, "ping").await.as_deref(), Ok("pong")));
    }
}
