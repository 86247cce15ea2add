//! Requests with a little wrong in them: good ones, changed by the will of a seed, on many connections at once.
//!
//! Behind each comes a last, good request that asks for the connection to be closed. Whatever the gateway makes of the first, it must
//! answer without a failure of its own, or hang up, or wait for what it takes for the rest of a body.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::wire::{self, Answer};
use crate::ledger::mixed;

/// Connections at a time.
const AT_ONCE: usize = 16;

/// Without a word for so long, the gateway waits for more.
const SILENCE: Duration = Duration::from_millis(250);

/// Most changes made to one request.
const MOST_CHANGES: u64 = 4;

/// The longest run of one byte that is put in.
const LONGEST_RUN: u64 = 2_000;

const LAST: &[u8] = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// What is changed: a request of every kind there is, but for those that would hold up a destination or copy the store.
const TEMPLATES: &[&str] = &[
    "POST /api1/process/fuzzed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: k-1\r\nJob-Delay: 1s\r\nJob-Priority: 3\r\nContent-Length: 13\r\n\r\n{\"a\":[1,2,3]}",
    "POST /api1/process/fuzzed HTTP/1.1\r\nHost: x\r\nJob-Ordering-Key: a\r\nJob-Expires-After: 1h\r\nJob-Max-Attempts: 2\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /api1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 84\r\n\r\n[{\"destination\":\"fuzzed\",\"payload\":{\"a\":1},\"priority\":1,\"headers\":{\"X-A\":\"b\"}},{},7]",
    "POST /api1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 69\r\n\r\n{\"destination\":\"fuzzed\",\"payload_base64\":\"aGVsbG8=\",\"delay_ms\":1000}\n",
    "PUT /forward/fuzzed/some/path?a=b&c=%20d HTTP/1.1\r\nHost: x\r\nX-Own: 1\r\nCookie: c=1\r\nAuthorization: Basic YTpi\r\nJob-Client-Key: f-1\r\nContent-Length: 5\r\n\r\nhello",
    "GET /api1/jobs/0191f0f0-0000-7000-8000-000000000000?wait=1s HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /api1/jobs?state=pending&destination=fuzzed&q=a&limit=10&cursor=abc HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /api1/jobs/0191f0f0-0000-7000-8000-000000000000/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "POST /api1/jobs/0191f0f0-0000-7000-8000-000000000000/redrive HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "HEAD /api1/destinations/fuzzed HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    "GET /api1/stats HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
    "GET /problems/bad_json HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\r\n",
    "POST /jobstore/v1/settle HTTP/1.1\r\nHost: x\r\nContent-Length: 150\r\n\r\n{\"worker\":\"00000000-0000-4000-8000-000000000001\",\"outcomes\":[{\"job_id\":\"0191f0f0-0000-7000-8000-000000000000\",\"epoch\":7,\"class\":\"ok\",\"latency_ms\":1}]}",
    "POST /jobstore/v1/extend HTTP/1.1\r\nHost: x\r\nContent-Length: 136\r\n\r\n{\"worker\":\"00000000-0000-4000-8000-000000000001\",\"holding\":[{\"job_id\":\"0191f0f0-0000-7000-8000-000000000000\",\"epoch\":9007199254740991}]}",
];

/// What readers of HTTP and JSON treat in a way of their own.
const TOKENS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\t",
    " ",
    ":",
    ";",
    ",",
    "%",
    "%00",
    "%ff",
    "..",
    "/",
    "//",
    "?",
    "#",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "-1",
    "0",
    "18446744073709551616",
    "1e999",
    "NaN",
    "null",
    "true",
    "chunked",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 3\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: websocket\r\n",
    "HTTP/1.0",
    "\u{feff}",
    "\u{202e}",
    "é",
];

/// What came of all.
#[derive(Debug, Default)]
pub(super) struct Fuzzed {
    pub(super) cases: u64,
    pub(super) answers: Vec<(u64, Answer)>,
}

/// The case number `number` of `seed`.
pub(super) fn case(seed: u64, number: u64) -> Vec<u8> {
    let mut dice = Dice { seed: mixed(seed, number), rolls: 0 };
    let mut bytes = dice.pick(TEMPLATES).as_bytes().to_vec();
    for _ in 0..1 + dice.below(MOST_CHANGES) {
        change(&mut bytes, &mut dice);
    }
    bytes
}

struct Dice {
    seed: u64,
    rolls: u64,
}

impl Dice {
    /// 0 to `sides - 1`.
    fn below(&mut self, sides: u64) -> u64 {
        self.rolls += 1;
        mixed(self.seed, self.rolls) % sides.max(1)
    }

    fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.place(from.len())]
    }
}

fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.place(bytes.len());
    let end = (at + 1 + dice.place(40)).min(bytes.len());
    match dice.below(8) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        3 => {
            let run = vec![u8::try_from(dice.below(256)).unwrap_or_default(); dice.place(LONGEST_RUN as usize)];
            bytes.splice(at..at, run);
        }
        4 | 5 => {
            let token = dice.pick(TOKENS).bytes();
            bytes.splice(at..at, token);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
    }
}

/// Plays the cases 0 to `cases - 1` of `seed`.
///
/// # Errors
/// When the gateway takes no connections any more.
pub(super) async fn play(address: SocketAddr, cases: u64, seed: u64) -> io::Result<Fuzzed> {
    let next = Arc::new(AtomicU64::new(0));
    let mut attackers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let next = Arc::clone(&next);
        attackers.spawn(async move {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= cases {
                    return Ok::<_, io::Error>(answers);
                }
                let bytes = [&case(seed, number), LAST].concat();
                let heard = wire::exchange(address, &bytes, SILENCE).await?;
                answers.extend(heard.answers.into_iter().map(|answer| (number, answer)));
            }
        });
    }
    let mut fuzzed = Fuzzed { cases, answers: Vec::new() };
    for answers in attackers.join_all().await {
        fuzzed.answers.extend(answers?);
    }
    Ok(fuzzed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_cases_and_hardly_one_is_like_another() {
        let cases = |seed| (0..200).map(|number| case(seed, number)).collect::<Vec<_>>();
        assert_eq!(cases(1), cases(1));
        let mut distinct = cases(1);
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 190, "{}", distinct.len());
    }

    #[test]
    fn each_template_has_the_length_that_it_says() {
        for template in TEMPLATES {
            let (head, body) = template.split_once("\r\n\r\n").unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if let Some(length) = length {
                assert_eq!(length.parse(), Ok(body.len()), "{head}");
            }
        }
    }
}
