//! The ledger: what arrived at `simulate`, by key, by answer and by second. It is the independent witness of every drill.
//!
//! Pure and bounded. The counters stay right when details are forgotten: a key's numbers outlive the list of its requests, and
//! both limits are far above what a drill sends. It judges nothing: whether a duplicate was allowed is for the drill to say.

mod payloads;
mod report;
mod seconds;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jobs_core::time::Timestamp;

pub use payloads::Payload;
pub use report::{KeyReport, RequestReport, Summary};

use payloads::Payloads;
use seconds::Seconds;

/// How many keys have their counters kept: enough for the largest drill five times over. About 40 bytes each.
pub const MAX_KEYS: usize = 5_000_000;

/// How many of the latest keys have their requests kept, to be read one by one. About half a kilobyte each.
pub const MAX_KEYS_IN_DETAIL: usize = 100_000;

/// How many of a key's latest requests are kept: more than a job has attempts by default.
pub const MAX_REQUESTS_PER_KEY: usize = 100;

/// The longest key kept; a request with a longer one counts like one without.
pub const MAX_KEY_BYTES: usize = 512;

/// What is known of a request when it arrives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrival<'a> {
    /// Its `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// Its `Job-Attempt` and `Job-Epoch`, where they are numbers.
    pub attempt: Option<u64>,
    pub epoch: Option<u64>,
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    pub bytes: usize,
    /// CRC-32 (IEEE) of the body.
    pub crc32: u32,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Answered(u16),
    /// Its connection was reset.
    Reset,
    /// Its connection was closed without an answer, after hanging.
    Closed,
    /// The client hung up, or the port was closed, before the answer was due.
    Abandoned,
}

impl End {
    fn name(self) -> String {
        match self {
            End::Answered(status) => status.to_string(),
            End::Reset => "reset".to_owned(),
            End::Closed => "closed".to_owned(),
            End::Abandoned => "abandoned".to_owned(),
        }
    }

    fn is_ok(self) -> bool {
        matches!(self, End::Answered(200..=299))
    }
}

/// Names a request that has arrived and not yet ended.
#[derive(Debug, Clone)]
pub struct Ticket {
    era: u64,
    number: u64,
    key: Option<Arc<str>>,
}

/// Everything that arrived since it was last cleared.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Rises when the ledger is cleared, so that a request from before does not count as one of now.
    era: u64,
    requests: u64,
    accepted: u64,
    distinct: u64,
    duplicates: u64,
    in_flight: u64,
    most_in_flight: u64,
    by_end: BTreeMap<String, u64>,
    first_request_at: Option<Timestamp>,
    last_request_at: Option<Timestamp>,
    first_ok_at: Option<Timestamp>,
    last_ok_at: Option<Timestamp>,
    counts: HashMap<u64, KeyCounts>,
    counts_order: VecDeque<u64>,
    forgotten: u64,
    details: HashMap<Arc<str>, VecDeque<Entry>>,
    details_order: VecDeque<Arc<str>>,
    payloads: Payloads,
    seconds: Seconds,
}

/// A key's counters, under a 64-bit hash of it: at a million keys the chance that any two share one is below 1 in 10 million.
#[derive(Debug, Default, Clone, Copy)]
struct KeyCounts {
    requests: u32,
    oks: u32,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    at: Timestamp,
    attempt: Option<u64>,
    epoch: Option<u64>,
    method: Box<str>,
    target: Box<str>,
    bytes: usize,
    crc32: u32,
    end: Option<End>,
}

impl Ledger {
    /// Notes a request that has arrived in full. Its [`ended`](Self::ended) must follow.
    pub fn arrived(&mut self, at: Timestamp, arrival: Arrival<'_>) -> Ticket {
        self.requests += 1;
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        self.first_request_at.get_or_insert(at);
        self.last_request_at = Some(at);
        self.seconds.request(at);
        let key = arrival.key.filter(|key| key.len() <= MAX_KEY_BYTES).map(|key| self.known(key));
        if let Some(key) = &key {
            let counts = self.counts_of(key);
            counts.requests += 1;
            let first = counts.requests == 1;
            self.distinct += u64::from(first);
            self.detail(key, at, arrival);
        }
        Ticket { era: self.era, number: self.requests, key }
    }

    /// Notes how a request ended. A request from before the last clearing is ignored.
    pub fn ended(&mut self, at: Timestamp, ticket: &Ticket, end: End) {
        if ticket.era != self.era {
            return;
        }
        self.in_flight -= 1;
        *self.by_end.entry(end.name()).or_default() += 1;
        if end.is_ok() {
            self.first_ok_at.get_or_insert(at);
            self.last_ok_at = Some(at);
            self.seconds.ok(at);
        }
        let Some(key) = &ticket.key else { return };
        if end.is_ok() {
            let counts = self.counts_of(key);
            counts.oks += 1;
            if counts.oks == 1 { self.accepted += 1 } else { self.duplicates += 1 }
        }
        let entries = self.details.get_mut(key).into_iter().flatten();
        if let Some(entry) = entries.rev().find(|entry| entry.number == ticket.number) {
            entry.end = Some(end);
        }
    }

    /// Keeps the body of the latest request under `key`, within the limits there.
    pub fn keep_payload(&mut self, key: &str, payload: Payload) {
        if key.len() <= MAX_KEY_BYTES {
            self.payloads.keep(key, payload);
        }
    }

    /// The body last received under `key`, if it is still kept.
    pub fn payload(&self, key: &str) -> Option<Payload> {
        self.payloads.get(key)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Ledger { era: self.era + 1, ..Ledger::default() };
    }

    fn known(&self, key: &str) -> Arc<str> {
        self.details.get_key_value(key).map_or_else(|| key.into(), |(key, _)| key.clone())
    }

    fn counts_of(&mut self, key: &str) -> &mut KeyCounts {
        let hash = hash(key);
        if !self.counts.contains_key(&hash) {
            if self.counts.len() == MAX_KEYS
                && let Some(oldest) = self.counts_order.pop_front()
            {
                self.counts.remove(&oldest);
                self.forgotten += 1;
            }
            self.counts_order.push_back(hash);
        }
        self.counts.entry(hash).or_default()
    }

    fn detail(&mut self, key: &Arc<str>, at: Timestamp, arrival: Arrival<'_>) {
        if !self.details.contains_key(key) {
            if self.details.len() == MAX_KEYS_IN_DETAIL
                && let Some(oldest) = self.details_order.pop_front()
            {
                self.details.remove(&oldest);
            }
            self.details_order.push_back(key.clone());
        }
        let entries = self.details.entry(key.clone()).or_insert_with(|| VecDeque::with_capacity(1));
        if entries.len() == MAX_REQUESTS_PER_KEY {
            entries.pop_front();
        }
        let Arrival { attempt, epoch, method, target, bytes, crc32, .. } = arrival;
        let (method, target, number) = (method.into(), target.into(), self.requests);
        entries.push_back(Entry { number, at, attempt, epoch, method, target, bytes, crc32, end: None });
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
