//! Destinations that answer as no server should. Each is a listener of its own, which counts the requests it has read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::trio::ports::ANY_PORT;

/// What it does to whoever calls it.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Answers with this, and keeps the connection.
    Say(&'static [u8]),
    /// Answers with this, and closes it.
    SayAndClose(&'static [u8]),
    /// Answers with the first, then the second again and again, thousands of times a second.
    Flood(&'static [u8], &'static [u8]),
    /// The same, every 100 ms.
    Drip(&'static [u8], &'static [u8]),
    /// Answers before it has read anything, reads nothing, and closes the connection after a while.
    SayUnasked(&'static [u8]),
    /// Closes the connection with a reset.
    Reset,
    /// Sends the caller to itself again.
    Redirect(u16),
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hostile {
    /// By which the gateway knows it.
    pub(super) name: &'static str,
    act: Act,
    /// What the gateway may record of an attempt.
    pub(super) outcomes: &'static [&'static str],
}

const DRIP: Duration = Duration::from_millis(100);

/// Between two writes of a flood.
const FLOOD: Duration = Duration::from_millis(5);

/// The unread answer is there long before this.
const UNASKED: Duration = Duration::from_millis(500);

const DOWN: &[&str] = &["down"];
const OK: &[&str] = &["ok"];
const ERROR: &[&str] = &["error"];

const fn hostile(name: &'static str, outcomes: &'static [&'static str], act: Act) -> Hostile {
    Hostile { name, act, outcomes }
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNK: &[u8] = b"40\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
const HEADER: &[u8] = b"X-Header: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n";

/// All of them.
pub(super) const ALL: &[Hostile] = &[
    hostile("endless-chunks", OK, Act::Flood(CHUNKED, CHUNK)),
    hostile("endless-length", OK, Act::Flood(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n", CHUNK)),
    hostile("slow-body", DOWN, Act::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x")),
    hostile("slow-head", DOWN, Act::Drip(b"HTTP/1.1 200 OK\r\nX: ", b"y")),
    hostile(
        "giant-header",
        DOWN,
        Act::Flood(b"HTTP/1.1 200 OK\r\nX: ", b"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"),
    ),
    hostile("headers-without-end", DOWN, Act::Flood(b"HTTP/1.1 200 OK\r\n", HEADER)),
    hostile(
        "trailers-without-end",
        DOWN,
        Act::Flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", HEADER),
    ),
    hostile("continue-without-end", DOWN, Act::Flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    hostile(
        "bad-chunk",
        DOWN,
        Act::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"),
    ),
    hostile(
        "chunk-beyond-64-bits",
        DOWN,
        Act::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n"),
    ),
    hostile("two-lengths", DOWN, Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nhello")),
    hostile("closed-in-the-head", DOWN, Act::SayAndClose(b"HTTP/1.1 200 OK\r\nConte")),
    hostile("closed-in-the-body", DOWN, Act::SayAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")),
    hostile("closed", DOWN, Act::SayAndClose(b"")),
    hostile("reset", DOWN, Act::Reset),
    hostile("redirect-302", ERROR, Act::Redirect(302)),
    hostile("redirect-307", ERROR, Act::Redirect(307)),
    hostile("redirect-308", ERROR, Act::Redirect(308)),
    // Whether the answer comes before the request or behind it, is the network's will.
    hostile("answers-unasked", &["ok", "down"], Act::SayUnasked(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")),
    hostile(
        "refuses-unasked",
        &["overload", "down"],
        Act::SayUnasked(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"),
    ),
    // What stands behind an answer is nobody's, and least of all the next job's.
    hostile(
        "one-answer-too-many",
        &["error", "down"],
        Act::Say(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    ),
    hostile(
        "a-body-where-there-is-none",
        &["ok", "down"],
        Act::Say(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ),
    hostile("garbage", DOWN, Act::SayAndClose(b"\x00\xff\x16\x03\x01 hello\r\n\r\n")),
    hostile("http-09", DOWN, Act::SayAndClose(b"<html>hello</html>")),
    hostile("status-999", ERROR, Act::Say(b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n")),
    hostile("status-99", DOWN, Act::Say(b"HTTP/1.1 99 What\r\nContent-Length: 0\r\n\r\n")),
    hostile(
        "switches",
        &["error", "down"],
        Act::Say(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello"),
    ),
    hostile(
        "retry-after-for-ever",
        &["overload"],
        Act::Say(b"HTTP/1.1 503 No\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n"),
    ),
    hostile(
        "headers-of-bytes",
        OK,
        Act::Say(b"HTTP/1.1 200 \xff\xfe\r\nContent-Type: \xff\xfe\r\nContent-Length: 3\r\n\r\n\x00\xff\xfe"),
    ),
];

/// A hostile destination that listens.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) hostile: Hostile,
    pub(super) address: SocketAddr,
    read: Arc<AtomicU64>,
}

impl Listening {
    /// Requests that were read so far; `None` where it never reads.
    pub(super) fn requests(&self) -> Option<u64> {
        match self.hostile.act {
            Act::SayUnasked(_) => None,
            Act::Say(_) | Act::SayAndClose(_) | Act::Flood(..) | Act::Drip(..) | Act::Reset | Act::Redirect(_) => {
                Some(self.read.load(Ordering::Relaxed))
            }
        }
    }
}

/// Listens as all of them, for as long as `tasks` lives.
///
/// # Errors
/// When there is no port left.
pub(super) async fn listen(tasks: &mut JoinSet<()>) -> io::Result<Vec<Listening>> {
    let mut all = Vec::new();
    for hostile in ALL {
        let listener = TcpListener::bind(ANY_PORT).await?;
        let (address, read) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        all.push(Listening { hostile: *hostile, address, read: Arc::clone(&read) });
        tasks.spawn(serve(listener, address, hostile.act, read));
    }
    Ok(all)
}

async fn serve(listener: TcpListener, address: SocketAddr, act: Act, read: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let read = Arc::clone(&read);
        // That a connection breaks is what this is about.
        connections.spawn(async move { drop(misbehave(stream, address, act, &read).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn misbehave(mut stream: TcpStream, address: SocketAddr, act: Act, read: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Act::SayUnasked(answer) = act {
        stream.write_all(answer).await?;
        tokio::time::sleep(UNASKED).await;
        return Ok(());
    }
    loop {
        if !request(&mut stream).await? {
            return Ok(());
        }
        read.fetch_add(1, Ordering::Relaxed);
        match act {
            Act::Say(answer) => stream.write_all(answer).await?,
            Act::SayAndClose(answer) => return stream.write_all(answer).await,
            Act::Redirect(status) => {
                let answer =
                    format!("HTTP/1.1 {status} There\r\nLocation: http://{address}/\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await?;
            }
            Act::Reset => return SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
            Act::Flood(first, again) => {
                stream.write_all(first).await?;
                let again = again.repeat(64);
                loop {
                    stream.write_all(&again).await?;
                    // Endless, and yet not all that a small machine can do: the worker is to be judged, not the machine.
                    tokio::time::sleep(FLOOD).await;
                }
            }
            Act::Drip(first, again) => {
                stream.write_all(first).await?;
                loop {
                    tokio::time::sleep(DRIP).await;
                    stream.write_all(again).await?;
                }
            }
            Act::SayUnasked(_) => return Ok(()),
        }
    }
}

/// Reads one request whole; false if the connection ends before.
async fn request(stream: &mut TcpStream) -> io::Result<bool> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(false);
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if bytes.len() >= end + 4 + length {
            return Ok(true);
        }
    }
}
