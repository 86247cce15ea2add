//! The load generator: a small HTTP/1.1 client over bare sockets, the same for both sides of every comparison.
//!
//! It shares two cores with the servers it measures, so it does as little as one can: one request, prepared once, written as it
//! is; of the answer, the status and the length. Connections are kept; nothing is pipelined.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::process::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::usage::Cpu;

/// Connections of the load, and calls in flight of `direct`, which does best with about so many.
pub(super) const CONNECTIONS: usize = 64;

/// Bytes of the payload of a usual job.
pub(super) const USUAL_PAYLOAD: usize = 200;

/// More than any answer we ask for has: a batch's has a result for each of its jobs.
const ANSWER_BYTES: usize = 1024 * 1024;

/// What was done, and what it took.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) answers: u64,
    pub(super) took: Duration,
    /// Processor time of this process.
    pub(super) client_cpu: Duration,
}

impl Done {
    pub(super) fn per_second(&self) -> f64 {
        self.answers as f64 / self.took.as_secs_f64()
    }

    /// What the client took of the machine's whole processor time.
    pub(super) fn client_share(&self) -> f64 {
        self.client_cpu.as_secs_f64() / (self.took.as_secs_f64() * super::usage::cores() as f64)
    }
}

/// A kept connection.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(1024) })
    }

    /// Sends `request` and reads the answer; the body is what is returned.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not a 2xx with a length.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(answer) = Head::of(&self.buffer)? else { continue };
            if self.buffer.len() >= answer.body_at + answer.length {
                return Ok(&self.buffer[answer.body_at..answer.body_at + answer.length]);
            }
            if self.buffer.len() > ANSWER_BYTES {
                return Err(io::Error::other("the answer is too long"));
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    body_at: usize,
    length: usize,
}

impl Head {
    /// The head of a 2xx answer; `None` while it is not complete.
    fn of(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&bytes[..end]).map_err(io::Error::other)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1).is_none_or(|code| !code.starts_with('2')) {
            return Err(io::Error::other(format!("answered {status:?}")));
        }
        let is_length = |name: &str| name.eq_ignore_ascii_case("content-length");
        let length = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| is_length(name));
        let length = length.and_then(|(_, value)| value.trim().parse().ok());
        let length = length.ok_or_else(|| io::Error::other("the answer has no length"))?;
        Ok(Some(Head { body_at: end + 4, length }))
    }
}

/// A whole request. `body` is JSON.
pub(super) fn request(method: &str, address: SocketAddr, path: &str, body: &str) -> Arc<[u8]> {
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    text.into_bytes().into()
}

/// A payload of the usual size.
pub(super) fn payload() -> String {
    payload_of(USUAL_PAYLOAD)
}

/// A payload of `bytes`, at least some tens.
pub(super) fn payload_of(bytes: usize) -> String {
    let fields = r#""name":"hello","order":48151623,"amount":"42.00","note":"#;
    let note = bytes.saturating_sub(fields.len() + 4);
    format!(r#"{{{fields}"{}"}}"#, "n".repeat(note))
}

/// A body of `POST /api1/jobs`: `count` items with this payload and these further fields.
pub(super) fn batch(payload: &str, fields: &str, count: usize) -> String {
    let item = format!(r#"{{"payload":{payload}{fields}}}"#);
    format!("[{}]", vec![item; count].join(","))
}

/// Posts `request` over and over on [`CONNECTIONS`] connections, for `span`.
pub(super) async fn for_a_while(address: SocketAddr, request: &Arc<[u8]>, span: Duration) -> io::Result<Done> {
    let began = clock::instant();
    all_connections(address, request, async move || began.elapsed() < span).await
}

/// Posts `request` `count` times on [`CONNECTIONS`] connections.
pub(super) async fn times(address: SocketAddr, request: &Arc<[u8]>, count: usize) -> io::Result<Done> {
    let permits = Arc::new(Semaphore::new(count));
    all_connections(address, request, async move || {
        permits.try_acquire().map(tokio::sync::SemaphorePermit::forget).is_ok()
    })
    .await
}

/// Posts `request` once for each permit on [`CONNECTIONS`] connections, until the semaphore is closed.
pub(super) async fn as_permitted(
    address: SocketAddr,
    request: &Arc<[u8]>,
    permits: &Arc<Semaphore>,
) -> io::Result<Done> {
    let permits = Arc::clone(permits);
    all_connections(address, request, async move || {
        permits.acquire().await.map(tokio::sync::SemaphorePermit::forget).is_ok()
    })
    .await
}

async fn all_connections<F>(address: SocketAddr, request: &Arc<[u8]>, go_on: F) -> io::Result<Done>
where
    F: AsyncFn() -> bool + Clone + 'static,
{
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address).await?);
    }
    let (began, cpu) = (clock::instant(), Cpu::of_this_process());
    let mut running = JoinSet::new();
    // Not on other threads: the load generator has one.
    let local = tokio::task::LocalSet::new();
    for mut connection in connections {
        let (request, go_on) = (Arc::clone(request), go_on.clone());
        running.spawn_local_on(
            async move {
                let mut answers = 0_u64;
                while go_on().await {
                    connection.exchange(&request).await?;
                    answers += 1;
                }
                Ok::<_, io::Error>(answers)
            },
            &local,
        );
    }
    let ended = local.run_until(running.join_all()).await;
    let answers: io::Result<Vec<u64>> = ended.into_iter().collect();
    let client_cpu = Cpu::of_this_process().since(cpu);
    Ok(Done { answers: answers?.into_iter().sum(), took: began.elapsed(), client_cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_the_bytes_it_should_and_is_json() {
        for bytes in [USUAL_PAYLOAD, 100 * 1024] {
            let payload = payload_of(bytes);
            assert_eq!(payload.len(), bytes);
            serde_json::from_str::<serde_json::Value>(&payload).unwrap();
        }
    }

    #[test]
    fn an_answer_is_its_status_and_its_length() {
        let head = |text: &str| Head::of(text.as_bytes());
        assert_eq!(
            head("HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabc").unwrap(),
            Some(Head { body_at: 44, length: 3 })
        );
        assert_eq!(head("HTTP/1.1 202 Accepted\r\ncontent-le").unwrap(), None);
        assert!(head("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
