//! Clients that take their time: they hold a connection with next to nothing, and must be hung up on within a bound.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jobs_core::process::clock;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::wire::{self, Answer};

/// A byte so often: enough that the connection is never silent.
const DRIP: Duration = Duration::from_millis(250);

/// How often it is looked who has been hung up on without a word.
const LOOK: Duration = Duration::from_secs(1);

/// Whoever is not hung up on after so long has found a way to stay.
const PATIENCE: Duration = Duration::from_secs(100);

/// A reader that reads nothing takes no more than this.
const SMALL_BUFFER: usize = 4 * 1024;

/// How a client is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing is ever sent.
    Silent,
    /// A head, byte by byte.
    Head,
    /// The same, behind a request that was as it should be.
    SecondHead,
    /// A body, byte by byte.
    Body,
    /// The same, of a request that was refused by its head.
    RefusedBody,
    /// Answers are asked for and never read.
    Reader,
}

impl Way {
    pub(super) const ALL: [Way; 6] =
        [Way::Silent, Way::Head, Way::SecondHead, Way::Body, Way::RefusedBody, Way::Reader];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Way::Silent => "idle connections",
            Way::Head => "slow heads",
            Way::SecondHead => "slow second heads",
            Way::Body => "slow bodies",
            Way::RefusedBody => "slow bodies of refused requests",
            Way::Reader => "readers that do not read",
        }
    }

    /// The gateway's own deadline: within half of it more it is hung up on, or three times it on a machine that does other things.
    pub(super) fn bound(self, timed: bool) -> Duration {
        let deadline = match self {
            Way::Silent | Way::Head | Way::SecondHead | Way::RefusedBody => Duration::from_secs(10),
            Way::Body | Way::Reader => Duration::from_secs(30),
        };
        if timed { deadline * 3 / 2 } else { deadline * 3 }
    }

    /// What is sent at once, and again and again after it.
    fn sends(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Way::Silent | Way::Reader => (b"", b""),
            Way::Head | Way::SecondHead => (b"POST /api1/process/fuzzed HTTP/1.1\r\nHost: x\r\nX: ", b"y"),
            Way::Body => (b"POST /api1/process/fuzzed HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"y"),
            Way::RefusedBody => {
                (b"POST /no/such/route HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n")
            }
        }
    }
}

/// What became of a number of slow clients of one kind.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Until each was hung up on, in seconds; not a number where it was not.
    pub(super) after: Vec<f64>,
    pub(super) answers: Vec<Answer>,
}

/// Plays `count` of them at once.
///
/// # Errors
/// When a connection does not come about.
pub(super) async fn play(address: SocketAddr, way: Way, count: usize) -> io::Result<Ended> {
    if way == Way::Reader {
        return hoarders(address, count).await;
    }
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let stream = open(address, way).await?;
        clients.spawn(tokio::time::timeout(PATIENCE, one(stream, way)));
    }
    let mut ended = Ended::default();
    for client in clients.join_all().await {
        match client {
            Ok((after, received)) => {
                ended.after.push(after.as_secs_f64());
                ended.answers.extend(wire::answers(&received));
            }
            Err(_never) => ended.after.push(f64::NAN),
        }
    }
    Ok(ended)
}

/// A connection that is as good as any so far.
async fn open(address: SocketAddr, way: Way) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if way == Way::SecondHead {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        let mut answer = Vec::new();
        while wire::answers(&answer).is_empty() {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(stream)
}

/// How long it takes until the other side hangs up, and what it says before.
async fn one(mut stream: TcpStream, way: Way) -> (Duration, Vec<u8>) {
    let began = clock::instant();
    let (first, again) = way.sends();
    let mut received = Vec::new();
    let mut writable = stream.write_all(first).await.is_ok();
    loop {
        tokio::select! {
            read = stream.read_buf(&mut received) => match read {
                Ok(0) | Err(_) => return (began.elapsed(), received),
                Ok(_) => {}
            },
            () = tokio::time::sleep(DRIP) => {
                // Once it cannot be written to, what can be read tells the end.
                writable = writable && (again.is_empty() || stream.write_all(again).await.is_ok());
            }
        }
    }
}

/// Asks for far more than it has room for, and takes nothing.
async fn hoarder(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    socket.connect(&address.into())?;
    socket.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(socket.into())?;
    let ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2_000);
    // The gateway reads no more requests once it cannot answer: what is left unwritten is of no use to anybody.
    drop(tokio::time::timeout(DRIP, stream.write_all(&ask)).await);
    Ok(stream)
}

/// Clients that never read, until the other side has given their connections up, without reading from them: what it wrote before
/// stands between us and its farewell.
async fn hoarders(address: SocketAddr, count: usize) -> io::Result<Ended> {
    let mut left = Vec::new();
    for _ in 0..count {
        left.push((hoarder(address).await?, clock::instant()));
    }
    let mut ended = Ended::default();
    let began = clock::instant();
    while !left.is_empty() && began.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK).await;
        let held = held();
        left.retain(|(stream, began)| {
            let is_held = ends(stream).is_ok_and(|(ours, theirs)| held.contains(&(theirs, ours)));
            if !is_held {
                ended.after.push(began.elapsed().as_secs_f64());
            }
            is_held
        });
    }
    ended.after.extend(left.iter().map(|_| f64::NAN));
    Ok(ended)
}

/// The ports of both ends of a connection, ours first.
fn ends(stream: &TcpStream) -> io::Result<(u16, u16)> {
    Ok((stream.local_addr()?.port(), stream.peer_addr()?.port()))
}

/// The connections that a program of this machine holds, as the ports of its end and of the other one, by the system's table in Linux's
/// `/proc`. To read it takes the system some milliseconds, with thousands of connections in it.
fn held() -> HashSet<(u16, u16)> {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let both = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (from, to, state) = (fields.next()?, fields.next()?, fields.next()?);
        (state == ESTABLISHED).then_some((port(from)?, port(to)?))
    };
    table.lines().filter_map(both).collect()
}
