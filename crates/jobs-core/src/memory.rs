//! The store that forgets: everything in memory, behind one lock.
//!
//! It is the reference model: [`State`] is pure and synchronous, a simulation drives it, and the other stores are compared
//! with it. As a store of its own it serves tests and demos; nothing survives the process.

mod keys;
mod lane;
mod shelf;
#[cfg(any(test, feature = "conformance"))]
mod spoil;
mod state;
mod steering;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

pub use self::state::State;
use crate::destination::OrderingOnDead;
use crate::job::{DestinationName, JobId, NewJob, Request, WorkerId};
use crate::lease::{Extended, LeaseKey};
use crate::lifecycle::{Cancel, Redrive};
use crate::outcome::Response;
use crate::store::{
    Claimed, Enqueued, Filter, GateRecord, Grant, JobDetail, JobStore, Judge, Page, Purged, Retention, SettleAnswer,
    Settlement, Stats, Steered, StoreError, Swept,
};
use crate::time::{Now, Timestamp};

/// Most jobs that one sweep or purge ends: "some hundreds", so that no step holds the store for long.
pub const STEP_LIMIT: usize = 500;

/// The number of the only start a store without a past can be in.
const FIRST_START: u32 = 1;

/// A [`JobStore`] without a disk.
#[derive(Debug)]
pub struct MemoryStore {
    guarded: Mutex<Guarded>,
}

#[derive(Debug)]
struct Guarded {
    state: State,
    is_closed: bool,
}

impl MemoryStore {
    pub fn new() -> Self {
        MemoryStore { guarded: Mutex::new(Guarded { state: State::new(FIRST_START), is_closed: false }) }
    }

    fn lock(&self) -> Result<MutexGuard<'_, Guarded>, StoreError> {
        self.guarded.lock().map_err(|_| StoreError::Broken("a step panicked half-way".to_owned()))
    }

    /// Runs one verb, unless the store is closed.
    fn step<T>(&self, verb: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let mut guarded = self.lock()?;
        if guarded.is_closed { Err(StoreError::Closed) } else { Ok(verb(&mut guarded.state)) }
    }

    /// Does as a durable store whose process ended and began again: for comparing one with this.
    #[cfg(any(test, feature = "conformance"))]
    pub fn restart(&self, now: Now) -> Result<(), StoreError> {
        let mut guarded = self.lock()?;
        let start = guarded.state.start() + 1;
        guarded.state.restart(start, now.mono);
        guarded.is_closed = false;
        Ok(())
    }

    /// Spoils the stored request of a job as a failing disk would, also while closed. Answers whether there was one.
    #[cfg(any(test, feature = "conformance"))]
    pub fn rot(&self, id: JobId) -> Result<bool, StoreError> {
        Ok(self.lock()?.state.rot(id))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl JobStore for MemoryStore {
    fn start(&self) -> u32 {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner).state.start()
    }

    async fn enqueue(&self, jobs: Vec<NewJob>, now: Now) -> Result<Vec<Enqueued>, StoreError> {
        self.step(|state| state.enqueue(jobs, now))?
    }

    async fn claim(&self, worker: WorkerId, grants: Vec<Grant>, now: Now) -> Result<Claimed, StoreError> {
        self.step(|state| state.claim(worker, &grants, now))
    }

    async fn extend(&self, worker: WorkerId, holding: Vec<LeaseKey>, now: Now) -> Result<Extended, StoreError> {
        self.step(|state| state.extend(worker, &holding, now))
    }

    async fn settle(
        &self,
        worker: WorkerId,
        settlements: Vec<Settlement>,
        judge: Arc<dyn Judge>,
        now: Now,
    ) -> Result<Vec<SettleAnswer>, StoreError> {
        self.step(|state| state.settle(worker, settlements, judge.as_ref(), now))
    }

    async fn cancel(
        &self,
        id: JobId,
        ordering_on_dead: OrderingOnDead,
        now: Now,
    ) -> Result<Steered<Cancel>, StoreError> {
        self.step(|state| state.cancel(id, ordering_on_dead, now))
    }

    async fn redrive(&self, id: JobId, new_key: bool, now: Now) -> Result<Steered<Redrive>, StoreError> {
        self.step(|state| state.redrive(id, new_key, now))
    }

    async fn sweep(&self, judge: Arc<dyn Judge>, now: Now) -> Result<Swept, StoreError> {
        self.step(|state| state.sweep(judge.as_ref(), now))
    }

    async fn purge(&self, retention: Retention, now: Now) -> Result<Purged, StoreError> {
        self.step(|state| state.purge(retention, now))
    }

    async fn job(&self, id: JobId) -> Result<Option<JobDetail>, StoreError> {
        self.step(|state| state.job(id))
    }

    async fn request(&self, id: JobId) -> Result<Option<Request>, StoreError> {
        self.step(|state| state.request(id))
    }

    async fn response(&self, id: JobId) -> Result<Option<(Option<u16>, Response)>, StoreError> {
        self.step(|state| state.response(id))
    }

    async fn list(&self, filter: Filter, below: Option<u64>, limit: u32) -> Result<Page, StoreError> {
        self.step(|state| state.list(&filter, below, limit))
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.step(|state| state.stats())
    }

    async fn oldest_due(&self, destination: &DestinationName) -> Result<Option<Timestamp>, StoreError> {
        self.step(|state| state.oldest_due(destination))
    }

    async fn gates(&self) -> Result<BTreeMap<DestinationName, GateRecord>, StoreError> {
        self.step(|state| state.gates())
    }

    async fn put_gate(&self, destination: DestinationName, gate: GateRecord) -> Result<(), StoreError> {
        self.step(|state| state.put_gate(destination, gate))
    }

    async fn leases(&self) -> Result<Vec<(LeaseKey, WorkerId, DestinationName)>, StoreError> {
        self.step(|state| state.leases())
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.step(|_| None)
    }

    /// Never completes: memory does not fail and go on.
    async fn broken(&self) -> String {
        std::future::pending().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        let mut guarded = self.lock()?;
        if std::mem::replace(&mut guarded.is_closed, true) { Err(StoreError::Closed) } else { Ok(()) }
    }
}
