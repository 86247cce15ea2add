//! A store that does as a test says: holds its answers back, fails, breaks, runs out of space. Otherwise a memory store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use jobs_core::destination::OrderingOnDead;
use jobs_core::job::{DestinationName, JobId, NewJob, Request, WorkerId};
use jobs_core::lease::{Extended, LeaseKey};
use jobs_core::lifecycle::{Cancel, Redrive};
use jobs_core::memory::MemoryStore;
use jobs_core::outcome::Response;
use jobs_core::redrive::{Change, MassRedrive, Plan, Unfit};
use jobs_core::steering::{Act, AuditLine, Redriven, Resolution, Resolve, Steering};
use jobs_core::store::{
    Claimed, Enqueued, Filter, GateRecord, Grant, JobDetail, JobStore, Judge, Page, Purged, Retention, SettleAnswer,
    Settlement, Stats, Steered, StoreError, Swept,
};
use jobs_core::time::{Now, Timestamp};
use tokio::sync::watch;

pub(crate) struct FakeStore {
    inner: MemoryStore,
    /// What an enqueue answers instead of storing.
    pub(crate) refusal: Mutex<Option<StoreError>>,
    /// What a write of a gate answers instead.
    pub(crate) gate_refusal: Mutex<Option<StoreError>>,
    /// What a look at a job answers instead.
    pub(crate) read_refusal: Mutex<Option<StoreError>>,
    pub(crate) free: Mutex<Option<u64>>,
    /// While true, enqueues, claims and settles are carried out but not answered.
    pub(crate) holds: watch::Sender<bool>,
    /// While true, so are the counters.
    pub(crate) holds_stats: watch::Sender<bool>,
    /// Answers held back so far.
    pub(crate) held: watch::Sender<u32>,
    /// Why the store has broken, once it has.
    pub(crate) broken: watch::Sender<Option<String>>,
}

impl FakeStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(FakeStore {
            inner: MemoryStore::new(),
            refusal: Mutex::new(None),
            gate_refusal: Mutex::new(None),
            read_refusal: Mutex::new(None),
            free: Mutex::new(None),
            holds: watch::Sender::new(false),
            holds_stats: watch::Sender::new(false),
            held: watch::Sender::new(0),
            broken: watch::Sender::new(None),
        })
    }

    /// Waits until the next answer is held back.
    pub(crate) async fn next_held(&self, before: u32) {
        self.held.subscribe().wait_for(|held| *held > before).await.unwrap();
    }

    async fn hold_back<T>(&self, answer: T) -> T {
        if *self.holds.borrow() {
            self.held.send_modify(|held| *held += 1);
            self.holds.subscribe().wait_for(|holds| !holds).await.unwrap();
        }
        answer
    }
}

#[async_trait]
impl Steering for FakeStore {
    async fn find(&self, filter: Filter, above: u64, limit: u32) -> Result<Page, StoreError> {
        self.inner.find(filter, above, limit).await
    }

    async fn resolve(&self, id: JobId, resolution: Resolution) -> Result<Steered<Resolve>, StoreError> {
        self.inner.resolve(id, resolution).await
    }

    async fn start_redrive(&self, plan: Plan, by: String, now: Now) -> Result<MassRedrive, StoreError> {
        self.inner.start_redrive(plan, by, now).await
    }

    async fn mass_redrive(&self, number: u32) -> Result<Option<MassRedrive>, StoreError> {
        self.inner.mass_redrive(number).await
    }

    async fn mass_redrives(&self, limit: u32) -> Result<Vec<MassRedrive>, StoreError> {
        self.inner.mass_redrives(limit).await
    }

    async fn change_redrive(
        &self,
        number: u32,
        change: Change,
        now: Now,
    ) -> Result<Option<(Result<(), Unfit>, MassRedrive)>, StoreError> {
        self.inner.change_redrive(number, change, now).await
    }

    async fn redrive_step(
        &self,
        number: u32,
        jobs: Vec<JobId>,
        to: u64,
        end: bool,
        now: Now,
    ) -> Result<Option<Redriven>, StoreError> {
        self.inner.redrive_step(number, jobs, to, end, now).await
    }

    async fn note(&self, act: Act) -> Result<(), StoreError> {
        self.inner.note(act).await
    }

    async fn audit(&self, below: Option<u64>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        self.inner.audit(below, limit).await
    }
}

#[async_trait]
impl JobStore for FakeStore {
    fn start(&self) -> u32 {
        self.inner.start()
    }

    async fn enqueue(&self, jobs: Vec<NewJob>, now: Now) -> Result<Vec<Enqueued>, StoreError> {
        let refusal = self.refusal.lock().unwrap().clone();
        match refusal {
            Some(refusal) => Err(refusal),
            None => self.hold_back(self.inner.enqueue(jobs, now).await).await,
        }
    }

    async fn claim(&self, worker: WorkerId, grants: Vec<Grant>, now: Now) -> Result<Claimed, StoreError> {
        self.hold_back(self.inner.claim(worker, grants, now).await).await
    }

    async fn extend(&self, worker: WorkerId, holding: Vec<LeaseKey>, now: Now) -> Result<Extended, StoreError> {
        self.inner.extend(worker, holding, now).await
    }

    async fn settle(
        &self,
        worker: WorkerId,
        settlements: Vec<Settlement>,
        judge: Arc<dyn Judge>,
        now: Now,
    ) -> Result<Vec<SettleAnswer>, StoreError> {
        self.hold_back(self.inner.settle(worker, settlements, judge, now).await).await
    }

    async fn cancel(&self, id: JobId, dead: OrderingOnDead, now: Now) -> Result<Steered<Cancel>, StoreError> {
        self.inner.cancel(id, dead, now).await
    }

    async fn redrive(&self, id: JobId, new_key: bool, now: Now) -> Result<Steered<Redrive>, StoreError> {
        self.inner.redrive(id, new_key, now).await
    }

    async fn sweep(&self, judge: Arc<dyn Judge>, now: Now) -> Result<Swept, StoreError> {
        self.inner.sweep(judge, now).await
    }

    async fn purge(&self, retention: Retention, now: Now) -> Result<Purged, StoreError> {
        self.inner.purge(retention, now).await
    }

    async fn job(&self, id: JobId) -> Result<Option<JobDetail>, StoreError> {
        let refusal = self.read_refusal.lock().unwrap().clone();
        match refusal {
            Some(refusal) => Err(refusal),
            None => self.inner.job(id).await,
        }
    }

    async fn request(&self, id: JobId) -> Result<Option<Request>, StoreError> {
        self.inner.request(id).await
    }

    async fn response(&self, id: JobId) -> Result<Option<(Option<u16>, Response)>, StoreError> {
        self.inner.response(id).await
    }

    async fn list(&self, filter: Filter, below: Option<u64>, limit: u32) -> Result<Page, StoreError> {
        self.inner.list(filter, below, limit).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.holds_stats.subscribe().wait_for(|holds| !holds).await.unwrap();
        self.inner.stats().await
    }

    async fn oldest_due(&self, destination: &DestinationName) -> Result<Option<Timestamp>, StoreError> {
        self.inner.oldest_due(destination).await
    }

    async fn gates(&self) -> Result<BTreeMap<DestinationName, GateRecord>, StoreError> {
        self.inner.gates().await
    }

    async fn put_gate(&self, destination: DestinationName, gate: GateRecord) -> Result<(), StoreError> {
        let refusal = self.gate_refusal.lock().unwrap().clone();
        match refusal {
            Some(refusal) => Err(refusal),
            None => self.inner.put_gate(destination, gate).await,
        }
    }

    async fn leases(&self) -> Result<Vec<(LeaseKey, WorkerId, DestinationName)>, StoreError> {
        self.inner.leases().await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(*self.free.lock().unwrap())
    }

    async fn broken(&self) -> String {
        let mut broken = self.broken.subscribe();
        let reason = broken.wait_for(Option::is_some).await.unwrap();
        reason.clone().unwrap()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
