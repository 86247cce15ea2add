//! What the ledger tells: the JSON of `GET /api2/ledger` and `GET /api2/ledger/{key}`.

use std::collections::BTreeMap;

use jobs_core::time::Timestamp;
use serde::Serialize;

use super::seconds::Second;
use super::{Entry, Ledger, hash};

/// All counters. Every request is in exactly one of `by_status` and `in_flight`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub requests: u64,
    /// Distinct keys answered 2xx.
    pub accepted: u64,
    /// Distinct keys seen.
    pub distinct: u64,
    /// 2xx answers to a key that had one before.
    pub duplicates: u64,
    /// By status, or `reset`, `closed` (after hanging), `abandoned` (the client hung up first).
    pub by_status: BTreeMap<String, u64>,
    pub in_flight: u64,
    pub most_in_flight: u64,
    pub first_request_at: Option<Timestamp>,
    pub last_request_at: Option<Timestamp>,
    pub first_ok_at: Option<Timestamp>,
    pub last_ok_at: Option<Timestamp>,
    /// Keys whose counters had to be forgotten; above 0, a later request under one of them counts as new.
    pub forgotten_keys: u64,
    pub per_second: Vec<Second>,
}

/// One key's requests, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    pub key: String,
    /// How many arrived; more than are listed if the oldest were forgotten.
    pub arrived: u32,
    /// How many were answered 2xx.
    pub ok: u32,
    pub requests: Vec<RequestReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestReport {
    /// When it had arrived in full.
    pub time: Timestamp,
    /// `Job-Attempt` and `Job-Epoch`; null where missing or no number.
    pub attempt: Option<u64>,
    pub epoch: Option<u64>,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub bytes: usize,
    /// CRC-32 (IEEE) of the body, as 8 hex digits.
    pub body_crc32: String,
    /// The status answered; null while in flight and where the connection was broken.
    pub status: Option<u16>,
    /// `in_flight`, `answered`, `reset`, `closed` or `abandoned`.
    pub end: &'static str,
}

impl Ledger {
    /// All counters as they are.
    pub fn summary(&self) -> Summary {
        Summary {
            requests: self.requests,
            accepted: self.accepted,
            distinct: self.distinct,
            duplicates: self.duplicates,
            by_status: self.by_end.clone(),
            in_flight: self.in_flight,
            most_in_flight: self.most_in_flight,
            first_request_at: self.first_request_at,
            last_request_at: self.last_request_at,
            first_ok_at: self.first_ok_at,
            last_ok_at: self.last_ok_at,
            forgotten_keys: self.forgotten,
            per_second: self.seconds.list(),
        }
    }

    /// What arrived under `key`; `None` if nothing did, or it was forgotten.
    pub fn key(&self, key: &str) -> Option<KeyReport> {
        let counts = self.counts.get(&hash(key))?;
        let entries = self.details.get(key).into_iter().flatten();
        let requests = entries.map(Entry::report).collect();
        Some(KeyReport { key: key.to_owned(), arrived: counts.requests, ok: counts.oks, requests })
    }
}

impl Entry {
    fn report(&self) -> RequestReport {
        use super::End::{Abandoned, Answered, Closed, Reset};
        let (status, end) = match self.end {
            None => (None, "in_flight"),
            Some(Answered(status)) => (Some(status), "answered"),
            Some(Reset) => (None, "reset"),
            Some(Closed) => (None, "closed"),
            Some(Abandoned) => (None, "abandoned"),
        };
        RequestReport {
            time: self.at,
            attempt: self.attempt,
            epoch: self.epoch,
            method: self.method.to_string(),
            target: self.target.to_string(),
            bytes: self.bytes,
            body_crc32: format!("{:08x}", self.crc32),
            status,
            end,
        }
    }
}
