//! What a job is: the request that was accepted, the limits its caller set, and how far it has come.
//!
//! States carry their data, so that an impossible job (a lease without a holder, an end without a time) cannot be written
//! down. Only [`crate::lifecycle`] changes a job's state.

mod state;

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::state::{Cause, DeadReason, Leased, Pending, State, StateName};

use crate::callback::Callback;
use crate::outcome::Class;
use crate::time::Timestamp;

/// Names a job for ever. A UUID of version 7; also the `Idempotency-Key` that the destination receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = "uuid", example = "0199d1b2-7c3e-7a10-8f00-4f6b1e2d3c4b"))]
pub struct JobId(pub Uuid);

/// Bits of a job's id that its number takes: enough for a trillion jobs. The time at the front stays, and 33 bits that
/// are random from one millisecond to the next; two ids of one millisecond may differ by their number alone.
const NUMBER_BITS: u32 = 40;

impl JobId {
    /// This id, ending in the job's number, by which a store finds it without an index. Unchanged where the number has more than 40 bits.
    pub fn ending_in(self, seq: u64) -> JobId {
        if seq >> NUMBER_BITS > 0 {
            return self;
        }
        JobId(Uuid::from_u128(self.0.as_u128() >> NUMBER_BITS << NUMBER_BITS | u128::from(seq)))
    }

    /// The number it ends in, if it was made by [`JobId::ending_in`]; else any.
    pub fn number(self) -> u64 {
        self.0.as_u128() as u64 & ((1 << NUMBER_BITS) - 1)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Names one run of a worker process: a restarted worker is another worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = "uuid"))]
pub struct WorkerId(pub Uuid);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Names one lease of a job, and fences its former holders: of two epochs of a job the higher is the later.
///
/// It is (number of this gateway start, counter): the start number is made durable before the first claim, so epochs rise
/// across crashes although the claims themselves need not be durable. Below 2^53, so that any JSON reader keeps it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = u64))]
pub struct Epoch(u64);

impl Epoch {
    /// Below every epoch that is ever issued.
    pub const NONE: Epoch = Epoch(0);
    /// Gateway starts that fit: 2^21 - 1, a start every minute for four years.
    pub const MAX_START: u32 = (1 << 21) - 1;

    /// The epoch numbered `counter` of gateway start `start` (1 to [`Epoch::MAX_START`]).
    pub const fn new(start: u32, counter: u32) -> Self {
        Epoch(((start as u64) << 32) | counter as u64)
    }

    pub const fn from_u64(raw: u64) -> Self {
        Epoch(raw)
    }

    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The gateway start this epoch was issued in.
    pub const fn start(self) -> u64 {
        self.0 >> 32
    }
}

/// A point of the gateway's logical time: (number of this gateway start, count of grants and answers so far).
///
/// "Another job got an ok since this attempt began" is a comparison of two ticks; a jump of the wall clock cannot bend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Before everything.
    pub const NEVER: Tick = Tick(0);

    /// The first tick of gateway start `start`.
    pub const fn first_of_start(start: u32) -> Self {
        Tick((start as u64) << 40)
    }

    pub const fn next(self) -> Self {
        Tick(self.0 + 1)
    }
}

/// The configured name of a destination: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", example = "api2"))]
pub struct DestinationName(Arc<str>);

/// Why a text cannot name a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a destination: use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"
)]
pub struct NotADestinationName(pub String);

impl DestinationName {
    /// Long enough for `team.system.operation`, short enough for a metric label and a table column.
    pub const MAX_LEN: usize = 64;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DestinationName {
    type Err = NotADestinationName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if starts_well && text.len() <= Self::MAX_LEN && text.bytes().all(known) {
            Ok(DestinationName(Arc::from(text)))
        } else {
            Err(NotADestinationName(text.to_owned()))
        }
    }
}

impl<'de> Deserialize<'de> for DestinationName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Borrow<str> for DestinationName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Of two due jobs of a destination the one with the higher priority goes first. 0 to 9; 0 unless the caller says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = u8, maximum = 9))]
pub struct Priority(u8);

impl Priority {
    pub const MAX: Priority = Priority(9);

    /// `None` above 9.
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::MAX.0 { Some(Priority(level)) } else { None }
    }

    pub const fn level(self) -> u8 {
        self.0
    }
}

/// What is to be sent, kept byte for byte and never changed after acceptance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// `None`: the destination's own method.
    pub method: Option<String>,
    /// Path and query to add to the destination's URL (store and forward); `None`: its URL as it stands.
    pub path: Option<String>,
    pub content_type: Option<String>,
    /// Further end-to-end headers of the caller, in order.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// A key by which a caller may repeat a request without making a second job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The client principal: two clients may use the same key.
    pub scope: String,
    pub key: String,
    /// SHA-256 over destination, method, path, content type and body: the same key with another one is refused.
    pub fingerprint: [u8; 32],
}

/// A job as it comes in: everything known before it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    pub id: JobId,
    /// The id was made for this job, and nobody was told of it: the stored job's ends in its number (see [`JobId::ending_in`]).
    pub id_is_new: bool,
    pub destination: DestinationName,
    pub request: Request,
    pub idempotency: Option<IdempotencyKey>,
    /// Not before this moment; a moment in the past means now.
    pub run_at: Timestamp,
    pub expires_after: Option<Duration>,
    pub priority: Priority,
    pub ordering_key: Option<String>,
    pub max_attempts: Option<u32>,
    pub traceparent: Option<String>,
    pub redriven_from: Option<JobId>,
    pub callback: Option<Callback>,
}

/// A stored job, without the request it carries (see [`Request`], kept apart because it never changes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    /// Order of acceptance: unique, rising, given by the store.
    pub seq: u64,
    pub destination: DestinationName,
    pub accepted_at: Timestamp,
    pub priority: Priority,
    pub ordering_key: Option<String>,
    /// The caller's own bound on charged attempts; `None`: the destination's.
    pub max_attempts: Option<u32>,
    pub expires_after: Option<Duration>,
    pub traceparent: Option<String>,
    pub redriven_from: Option<JobId>,
    /// Where its end is told.
    pub callback: Option<DestinationName>,
    /// Over the request and the fields above: see [`Job::checksum_of`].
    pub checksum: u32,

    pub state: State,
    pub updated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub progress: Progress,
}

/// How far a job has come: what the rules remember between its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Settled sends of this generation, ok included. Lost ones are in `lost`.
    pub attempts: u32,
    /// Those that count against the bound on attempts.
    pub charged: u32,
    /// Failures since the destination last recovered, in destination epoch `failures_epoch`: the n of the retry delay.
    pub failures: u32,
    pub failures_epoch: u64,
    /// Leases of this generation that lapsed.
    pub lost: u32,
    /// `overload` answers in a row.
    pub overloads: u32,
    /// When the latest attempt of any class was settled.
    pub last_settled: Tick,
    /// When the latest `down` was settled.
    pub last_down: Tick,
    /// When the first `suspect` answer of this generation was settled.
    pub first_suspect: Tick,
    /// 0 at first; each redrive adds one.
    pub generation: u32,
    /// The last epoch issued to any job before the present generation: an answer under it or below is of an earlier one, or of
    /// no lease at all.
    pub generation_floor: Epoch,
    /// The last epoch issued to this job.
    pub last_epoch: Epoch,
    /// The epoch of the last settle that took effect: a repetition of it is harmless.
    pub settled_epoch: Epoch,
    /// After an outcome nobody knows: not sent again later than this, because the destination has forgotten the key.
    pub resend_until: Option<Timestamp>,
    /// 0: the destination receives the bare job id as key; else a redrive asked for a new key, this one's generation.
    pub key_generation: u32,
    pub last_error: Option<String>,
    /// The mass redrive that made this generation.
    pub redrive: Option<u32>,
}

impl Job {
    /// The number the next attempt carries in `Job-Attempt`: 1 at first; lost attempts count, since they may have arrived.
    pub fn next_attempt_number(&self) -> u32 {
        self.progress.attempts + self.progress.lost + 1
    }

    /// The `Idempotency-Key` the destination receives: the bare job id, unless a redrive asked for a new key.
    pub fn delivery_key(&self) -> String {
        match self.progress.key_generation {
            0 => self.id.to_string(),
            generation => format!("{}-{generation}", self.id),
        }
    }

    /// CRC-32 over what must never change: id, destination, acceptance, ordering key, and the whole request. It finds rot
    /// on the disk before a wrong request is sent; it is no defence against a forger.
    pub fn checksum_of(
        id: JobId,
        destination: &DestinationName,
        accepted_at: Timestamp,
        ordering_key: Option<&str>,
        request: &Request,
    ) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        let mut part = |bytes: &[u8]| {
            crc.update(&(bytes.len() as u64).to_le_bytes());
            crc.update(bytes);
        };
        part(id.0.as_bytes());
        part(destination.as_str().as_bytes());
        part(&accepted_at.as_millis().to_le_bytes());
        for text in [ordering_key, request.method.as_deref(), request.path.as_deref(), request.content_type.as_deref()]
        {
            part(&[u8::from(text.is_some())]);
            part(text.unwrap_or_default().as_bytes());
        }
        for (name, value) in &request.headers {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        part(&request.body);
        crc.finalize()
    }

    /// Whether `request`, as read back, is what was accepted.
    pub fn is_intact(&self, request: &Request) -> bool {
        self.checksum
            == Self::checksum_of(self.id, &self.destination, self.accepted_at, self.ordering_key.as_deref(), request)
    }
}

/// One line of a job's attempt log. Written once, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// As in `Job-Attempt`.
    pub number: u32,
    pub epoch: Epoch,
    pub worker: WorkerId,
    /// When the lease was granted.
    pub started_at: Timestamp,
    /// As the worker measured it; for a lost attempt, until the lapse.
    pub duration: Duration,
    pub outcome: AttemptOutcome,
    pub charged: bool,
    pub status: Option<u16>,
    pub error: Option<String>,
    /// The beginning of the destination's answer, as text.
    pub response_excerpt: Option<String>,
    /// When the job was to be tried again, where it was.
    pub next_run_at: Option<Timestamp>,
    pub retry_delay: Option<Duration>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    Settled(Class),
    /// The worker went silent: what became of the call is not known.
    Lost,
}

impl AttemptOutcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            AttemptOutcome::Settled(class) => class.as_str(),
            AttemptOutcome::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests;
