//! The contract of whatever remembers the jobs.
//!
//! A store remembers; it never decides. Each verb selects jobs, calls [`crate::lifecycle`] on them and writes what it left,
//! in one atomic step. What a store may choose is only how it finds the claimable rows fast; which they are, and in which order,
//! is written at [`JobStore::claim`]. Every clause here is a test of [`crate::conformance`], run on every store.

mod payloads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::charging::Evidence;
use crate::destination::{OrderingOnDead, Policy};
use crate::gate::Kind;
use crate::job::{Attempt, DeadReason, DestinationName, Epoch, Job, JobId, NewJob, Request, StateName, Tick, WorkerId};
use crate::lease::{Extended, LeaseKey};
use crate::lifecycle::{Cancel, DuplicateCause, Redrive, SettleResult};
use crate::meters::Meters;
use crate::outcome::{Outcome, Response};
use crate::steering::{Resolution, Steering};
use crate::time::{Now, Timestamp};

pub use self::payloads::{MAX_CLAIM_BYTES, Payloads};

/// Why a store did not do what was asked. In every case nothing was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk: rolled back, and the store goes on serving. If it ends before its next commit, what was rolled
    /// back may be there again: like any failure this one leaves open whether it was stored.
    #[error("the disk is full: {0}")]
    Full(String),
    /// The write may or may not be durable: ask again with the same idempotency key. The store is unusable from now on.
    #[error("the outcome of a write is unknown, so the store has stopped: {0}")]
    Broken(String),
    /// A question took too long or made way for a write, or too much waits to be written: nothing was changed, ask again.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// It is closing, or has closed.
    #[error("the store is closed")]
    Closed,
    /// It cannot be opened, or was asked for what no correct caller asks.
    #[error("{0}")]
    Unusable(String),
}

/// What became of one accepted request, in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is the large one: a box would only add an allocation"
)]
pub enum Enqueued {
    Accepted(Job),
    /// The same key and request came before: that job, as it is now.
    Replayed {
        id: JobId,
        state: StateName,
    },
    /// The same key came before with another request: nothing was stored.
    KeyReused {
        id: JobId,
    },
}

/// How much of one destination's work may be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub destination: DestinationName,
    pub max: u32,
    /// The destination's present epoch.
    pub destination_epoch: u64,
    /// Jobs that their destination failed in an epoch below this are due: those before its latest recovery, or, for a
    /// probe that a healthy health check asked for, those of the present outage too.
    pub released_below: u64,
    /// So many of `max` go to fresh jobs first, as far as there are any...
    pub fresh: u32,
    /// ...which are those that were accepted and fell due by their own time after this, tried or not.
    pub fresh_after: Timestamp,
    /// A probe is claimed in an order of its own.
    pub kind: Kind,
    /// What a job that is found corrupt does to those behind it.
    pub ordering_on_dead: OrderingOnDead,
    pub begun: Tick,
    /// See [`crate::job::Leased::ok_begun`].
    pub ok_begun: Tick,
}

/// A job in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// As the claim left it: its state is leased.
    pub job: Job,
    pub epoch: Epoch,
    pub request: Request,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claimed {
    /// In order: destinations as granted, and within each the order of [`JobStore::claim`].
    pub leases: Vec<Lease>,
    /// For each granted destination that had fewer claimable jobs than it was granted, and was looked through: when its next
    /// waiting job falls due by its own `run_at`; `None` if none waits.
    pub exhausted: Vec<(DestinationName, Option<Timestamp>)>,
    /// Jobs that were found corrupt on the way, dead as they are now, in the order in which they were found.
    pub died: Vec<Job>,
}

/// One outcome, as the worker reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub key: LeaseKey,
    pub report: Report,
}

/// What became of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    Attempted(Outcome),
    /// Not sent.
    Released,
}

/// What a settle came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is the large one: a box would only add an allocation"
)]
pub enum SettleAnswer {
    UnknownJob,
    Known {
        result: SettleResult,
        /// As the settle left it.
        job: Job,
        /// The line it added to the attempt log.
        attempt: Option<Attempt>,
        /// The live lease it ended, and its holder: the reporter's own, or after a late ok that of a newer holder.
        ended: Option<(LeaseKey, WorkerId)>,
    },
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Leases that lapsed, with the jobs as the lapse left them.
    pub lapsed: Vec<(LeaseKey, WorkerId, Job)>,
    /// Waiting jobs whose time ran out.
    pub expired: Vec<Job>,
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Jobs that are gone.
    pub jobs: u64,
    /// It stopped at a limit: there may be more to delete.
    pub more: bool,
}

/// The answer to a cancel or redrive; `None` where there is no such job.
pub type Steered<T> = Option<(T, Job)>;

/// A job with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDetail {
    pub job: Job,
    pub attempts: Vec<Attempt>,
    /// Of a dead job.
    pub resolution: Option<Resolution>,
}

/// Which jobs to list. All conditions that are set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Filter {
    pub state: Option<StateName>,
    pub destination: Option<DestinationName>,
    /// Text that the request's body or the last error contains.
    #[serde(rename = "q")]
    pub text: Option<String>,
    /// Text that the last error contains.
    pub error: Option<String>,
    pub dead_reason: Option<DeadReason>,
    /// Whether an operator has [resolved](Resolution) it.
    pub resolved: Option<bool>,
    /// When it was accepted, and when it ended; each bound is included.
    pub created_from: Option<Timestamp>,
    pub created_until: Option<Timestamp>,
    pub finished_from: Option<Timestamp>,
    pub finished_until: Option<Timestamp>,
    /// One of these; empty: any.
    pub ids: Vec<JobId>,
}

/// A page of jobs, latest accepted first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    pub jobs: Vec<Job>,
    /// List on from below this `seq`; `None` at the end. A page may be short, even empty, and still have one: a store
    /// stops looking when its time for a page is over.
    pub next: Option<u64>,
}

/// Kept counters, never scans.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    pub accepted: u64,
    pub purged: u64,
    /// Settled sends.
    pub attempts: u64,
    /// Requests that may have reached a destination twice, by cause.
    pub duplicates: BTreeMap<DuplicateCause, u64>,
    /// Jobs by destination and state; a state without jobs may be missing.
    pub destinations: BTreeMap<DestinationName, BTreeMap<StateName, u64>>,
    /// How many of the dead are [resolved](Resolution); a destination without may be missing.
    pub resolved: BTreeMap<DestinationName, u64>,
}

impl Stats {
    /// Jobs in `state` over all destinations.
    pub fn in_state(&self, state: StateName) -> u64 {
        self.destinations.values().filter_map(|states| states.get(&state)).sum()
    }
}

/// How long finished jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Succeeded and cancelled.
    pub succeeded: Duration,
    pub dead: Duration,
    /// Idempotency keys outlive their job by this.
    pub keys: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Retention { succeeded: day, dead: 30 * day, keys: day }
    }
}

/// What must survive of a destination's gate. Written on transitions only.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GateRecord {
    /// How often it has recovered.
    pub epoch: u64,
    /// Held because of failures, since then, with the reason for people.
    pub open: Option<(Timestamp, String)>,
    /// It is open because of how it is configured.
    pub misconfigured: bool,
    pub hold_until: Option<Timestamp>,
    /// Oks per second before the outage: what a ramp begins from. 0 if unknown.
    pub goodput: f64,
    /// Held by hand.
    pub paused: bool,
}

/// What the gateway's memory knows and a store needs in the middle of a step: policies, and what the other jobs say.
///
/// Called inside a store's transaction with the job as it was: it must be quick and must not call the store.
pub trait Judge: Send + Sync {
    /// Takes note of an outcome of `job` and answers with what the destination's other answers make of it.
    fn weigh(&self, job: &Job, epoch: Epoch, outcome: &Outcome, worker: WorkerId, now: Now) -> (Arc<Policy>, Evidence);

    /// The policy of a destination, or the default where it is configured no more.
    fn policy(&self, destination: &DestinationName) -> Arc<Policy>;
}

/// Where jobs live. Shared by all requests of a gateway; every method may be called at any time from any task.
#[async_trait]
pub trait JobStore: Steering {
    /// The number of this start of the gateway (>= 1), made durable before the store was handed out: it rises with every open.
    fn start(&self) -> u32;

    /// Accepts `jobs` in their order, all in one durable commit, which has happened when this answers. `seq` rises in
    /// order of acceptance. A key of the same scope that came before, in an earlier call or this one, makes a replay
    /// (same fingerprint: counted, durably, before the answer) or is refused (another fingerprint). Unfinished earlier jobs
    /// of the same (destination, ordering key) block a job until they have ended. An id that is new is made to end in `seq`. No epoch issued until now is ever a job's own.
    async fn enqueue(&self, jobs: Vec<NewJob>, now: Now) -> Result<Vec<Enqueued>, StoreError>;

    /// Leases to `worker`, for each grant in turn, at most `max` due jobs of its destination that are heads of their
    /// ordering key. A regular grant: higher priority first, then the lower of (`run_at` or, if released by a recovery, 0;
    /// `seq`); but up to `fresh` fresh jobs come before all others, in that same order. A probe: what is due by its own `run_at` first, the lowest of (`run_at`, higher priority, `seq`), which puts what has just been probed behind all
    /// that has not; then what is released, higher priority first, then the lower `seq`. Every lease has an epoch above all
    /// issued before. A job whose time has run out is not leased, nor one whose request fails its checksum: that one is dead
    /// (corrupt), and named in the answer. The claim ends before a job with which its payloads would come to more than
    /// [`MAX_CLAIM_BYTES`], if it has leased any. Need not be durable. Leases last [`crate::lease::LEASE_TERM`].
    async fn claim(&self, worker: WorkerId, grants: Vec<Grant>, now: Now) -> Result<Claimed, StoreError>;

    /// Renews those leases of `holding` that are live and `worker`'s, for a full term; names the others, and those to cancel.
    async fn extend(&self, worker: WorkerId, holding: Vec<LeaseKey>, now: Now) -> Result<Extended, StoreError>;

    /// Settles each outcome by [`crate::lifecycle::settle`] or `release`, in order, asking `judge` for policy and evidence,
    /// and adds to the attempt log. Answers in order, after one durable commit. Repeating it changes nothing. The answer body
    /// of the last attempt that had one is kept. A job that ends, or is dead and does not block, frees the next of its ordering key.
    async fn settle(
        &self,
        worker: WorkerId,
        settlements: Vec<Settlement>,
        judge: Arc<dyn Judge>,
        now: Now,
    ) -> Result<Vec<SettleAnswer>, StoreError>;

    /// [`crate::lifecycle::cancel`], durable. A leased job's holder is told at its next heartbeat.
    async fn cancel(
        &self,
        id: JobId,
        ordering_on_dead: OrderingOnDead,
        now: Now,
    ) -> Result<Steered<Cancel>, StoreError>;

    /// [`crate::lifecycle::redrive`], durable. The job keeps its place (`seq`) in its ordering key. No epoch issued until now is
    /// of its new generation.
    async fn redrive(&self, id: JobId, new_key: bool, now: Now) -> Result<Steered<Redrive>, StoreError>;

    /// Ends leases past their deadline ([`crate::lifecycle::lapse`]) and waiting jobs past theirs
    /// ([`crate::lifecycle::expire`]), some hundreds a call at most.
    async fn sweep(&self, judge: Arc<dyn Judge>, now: Now) -> Result<Swept, StoreError>;

    /// Deletes finished jobs older than `retention` with all that belongs to them, some hundreds a call at most, and keys
    /// that have outlived theirs. Keeps a dead job that blocks its ordering key.
    async fn purge(&self, retention: Retention, now: Now) -> Result<Purged, StoreError>;

    /// A job with its attempt log, oldest first.
    async fn job(&self, id: JobId) -> Result<Option<JobDetail>, StoreError>;

    /// The request, byte for byte.
    async fn request(&self, id: JobId) -> Result<Option<Request>, StoreError>;

    /// The answer kept of the last attempt that had one, with its status.
    async fn response(&self, id: JobId) -> Result<Option<(Option<u16>, Response)>, StoreError>;

    /// At most `limit` (1 to 1,000) jobs, latest accepted first, with `seq` below `below` if set.
    async fn list(&self, filter: Filter, below: Option<u64>, limit: u32) -> Result<Page, StoreError>;

    async fn stats(&self) -> Result<Stats, StoreError>;

    /// When the oldest waiting job of a destination fell or falls due by its own `run_at`; `None` if none waits.
    async fn oldest_due(&self, destination: &DestinationName) -> Result<Option<Timestamp>, StoreError>;

    /// The gates as last written.
    async fn gates(&self) -> Result<BTreeMap<DestinationName, GateRecord>, StoreError>;

    /// Durable.
    async fn put_gate(&self, destination: DestinationName, gate: GateRecord) -> Result<(), StoreError>;

    /// The live leases by destination and worker: what a gateway counts in flight after a start.
    async fn leases(&self) -> Result<Vec<(LeaseKey, WorkerId, DestinationName)>, StoreError>;

    /// What it can tell of its own work.
    fn meters(&self) -> Meters {
        Meters::default()
    }

    /// Bytes free where the store writes, beside its own log; `None` if that means nothing for it.
    async fn free_bytes(&self) -> Result<Option<u64>, StoreError>;

    /// Copies all that is stored to the file `to`, which must not exist, while everything goes on; the copy is whole and durable
    /// when this answers. [`StoreError::Unusable`], with the reason, if it cannot be made: here, for a store without a file.
    async fn backup(&self, to: PathBuf) -> Result<(), StoreError> {
        Err(StoreError::Unusable(format!("no backup to {}: this store is no file", to.display())))
    }

    /// Completes with the reason when the store has broken and the process must end.
    async fn broken(&self) -> String;

    /// Finishes what was begun, checkpoints, and closes. Later calls answer [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}
