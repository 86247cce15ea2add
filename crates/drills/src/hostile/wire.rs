//! Bytes on a bare socket, and what comes back: answers read as a cautious proxy would, so that one too many is noticed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jobs_core::job::JobId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Accepted;

/// More than the gateway answers to anything that is asked of it here.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The beginning of every answer.
const BEGINNING: &[u8] = b"HTTP/1.";

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// It says when to come again.
    pub(super) retry_after: bool,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The job it acknowledges.
    pub(super) fn acknowledged(&self) -> Option<JobId> {
        let accepted = serde_json::from_slice::<Accepted>(&self.body);
        accepted.ok().filter(|_| self.status == 202).map(|accepted| accepted.id)
    }

    /// Whether it is the server's own failure: a 5xx, unless it is a 503 that says when to come again.
    pub(super) fn is_failure(&self) -> bool {
        self.status >= 500 && !(self.status == 503 && self.retry_after)
    }
}

/// What came back on one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) answers: Vec<Answer>,
    /// The other side hung up.
    pub(super) closed: bool,
}

impl Heard {
    pub(super) fn statuses(&self) -> Vec<u16> {
        self.answers.iter().map(|answer| answer.status).collect()
    }
}

/// Connects, writes `bytes` and reads until the other side hangs up, or until nothing has come for `silence`.
///
/// # Errors
/// When no connection comes about. One that breaks later is an answer of its own: it is closed.
pub(super) async fn exchange(address: SocketAddr, bytes: &[u8], silence: Duration) -> io::Result<Heard> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // The other side may answer and hang up before it has read all, and what it said is still there to be read.
    let (mut reading, mut writing) = stream.split();
    let (mut received, mut closed) = (Vec::new(), false);
    let read = async {
        while received.len() < MOST_BYTES {
            match tokio::time::timeout(silence, reading.read_buf(&mut received)).await {
                Ok(Ok(0) | Err(_)) => {
                    closed = true;
                    return;
                }
                Ok(Ok(_)) => {}
                Err(_silent) => return,
            }
        }
    };
    let write = async {
        // A refusal in the middle of it shows in what is read.
        drop(writing.write_all(bytes).await);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
    Ok(Heard { answers: answers(&received), closed })
}

/// The answers in what was received. One to a HEAD has a length and no body; the next beginning tells.
pub(super) fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while bytes.starts_with(BEGINNING) {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { break };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let header = |name: &str| {
            let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            fields.find(|(known, _)| *known == name).map(|(_, value)| value.trim().to_owned())
        };
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let rest = &bytes[end + 4..];
        // What begins like an answer is one, unless it is a body of just the length that was told.
        let after = rest.get(length..);
        let is_whole = after.is_some_and(|after| after.is_empty() || after.starts_with(BEGINNING));
        let has_no_body = (100..200).contains(&status) || (rest.starts_with(BEGINNING) && !is_whole);
        let (body, rest) = rest.split_at(if has_no_body { 0 } else { rest.len().min(length) });
        answers.push(Answer { status, retry_after: header("retry-after").is_some(), body: body.to_vec() });
        bytes = rest;
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_told_from_the_next_and_a_body_is_no_answer() {
        let text =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 17\r\n\r\nHTTP/1.1 200 OK\r\n\
                     HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 500 ";
        let found = answers(text);
        let statuses: Vec<u16> = found.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [100, 202, 503]);
        assert_eq!(found[1].body, b"HTTP/1.1 200 OK\r\n");
        assert!(found[2].retry_after && !found[2].is_failure());
    }

    #[test]
    fn an_answer_to_a_head_request_has_a_length_and_no_body() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\nHTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n";
        let found = answers(text);
        assert_eq!(found.len(), 2);
        assert!(found[1].is_failure());
    }
}
