//! What every clause needs: a store, a clock that the test turns, workers, and jobs to hand in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::StoreUnderTest;
use crate::charging::Evidence;
use crate::destination::{OrderingOnDead, Policy};
use crate::gate::Kind;
use crate::job::{
    Attempt, DeadReason, DestinationName, Epoch, IdempotencyKey, Job, JobId, NewJob, Pending, Priority, Request, State,
    StateName, Tick, WorkerId,
};
use crate::lease::{LEASE_TERM, LeaseKey, SWEEP_INTERVAL};
use crate::lifecycle::{Cancel, Redrive, SettleResult};
use crate::outcome::{Class, Outcome};
use crate::store::{
    Claimed, Enqueued, Grant, JobStore, Judge, Lease, Report, Retention, SettleAnswer, Settlement, Swept,
};
use crate::time::{Mono, Now, Timestamp};

/// The worker that does what no other is named for.
pub const WORKER: WorkerId = WorkerId(Uuid::from_u128(0xa));
pub const OTHER_WORKER: WorkerId = WorkerId(Uuid::from_u128(0xb));

/// When every clause begins.
pub const BEGIN: Now = Now { wall: Timestamp::from_millis(1_800_000_000_000), mono: Mono::from_millis(60_000) };

/// A fixed [`Judge`]: the same policy and evidence for every job of a destination.
#[derive(Debug, Clone, Default)]
pub struct TestJudge {
    pub policies: BTreeMap<DestinationName, Policy>,
    pub evidence: BTreeMap<DestinationName, Evidence>,
}

impl Judge for TestJudge {
    fn weigh(&self, job: &Job, _: Epoch, _: &Outcome, _: WorkerId, _: Now) -> (Arc<Policy>, Evidence) {
        let evidence = self.evidence.get(&job.destination).copied();
        (self.policy(&job.destination), evidence.unwrap_or_default())
    }

    fn policy(&self, destination: &DestinationName) -> Arc<Policy> {
        Arc::new(self.policies.get(destination).cloned().unwrap_or_default())
    }
}

pub fn destination(name: &str) -> DestinationName {
    name.parse().expect("a test names destinations well")
}

/// The destination of jobs that are given no other.
pub fn api2() -> DestinationName {
    destination("api2")
}

pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A job for [`api2`] with nothing special, due at [`BEGIN`].
pub fn plain_job(id: u128, body: Bytes) -> NewJob {
    NewJob {
        id: JobId(Uuid::from_u128(id)),
        id_is_new: false,
        destination: api2(),
        request: Request { body, ..Request::default() },
        idempotency: None,
        run_at: BEGIN.wall,
        expires_after: None,
        priority: Priority::default(),
        ordering_key: None,
        max_attempts: None,
        traceparent: None,
        redriven_from: None,
        callback: None,
    }
}

pub fn key(scope: &str, key: &str, fingerprint: u8) -> IdempotencyKey {
    IdempotencyKey { scope: scope.to_owned(), key: key.to_owned(), fingerprint: [fingerprint; 32] }
}

/// An evidence with which failures are the destination's.
pub fn outage() -> Evidence {
    Evidence { now: Tick(5), others_fail: true, ..Evidence::default() }
}

/// A store at work.
pub struct Rig {
    pub store: Arc<dyn JobStore>,
    pub now: Now,
    pub judge: TestJudge,
    jobs: u128,
}

/// Verbs as a gateway calls them; each panics where the store fails.
impl Rig {
    pub async fn open(under_test: &impl StoreUnderTest) -> Rig {
        let mut judge = TestJudge::default();
        judge.evidence.insert(api2(), outage());
        Rig { store: under_test.open(BEGIN).await, now: BEGIN, judge, jobs: 0 }
    }

    /// Closes the store and opens it again.
    pub async fn reopen(&mut self, under_test: &impl StoreUnderTest) {
        self.store.close().await.expect("the store closes");
        self.store = under_test.open(self.now).await;
    }

    pub async fn reopen_if_durable<S: StoreUnderTest>(&mut self, under_test: &S) {
        if S::DURABLE {
            self.reopen(under_test).await;
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    pub fn policy(&mut self, change: impl FnOnce(&mut Policy)) {
        change(self.judge.policies.entry(api2()).or_default());
    }

    /// A job with an id of its own, and nothing special.
    pub fn job(&mut self) -> NewJob {
        self.jobs += 1;
        let id = 0x0190_0000_0000_7000_8000_0000_0000_0000 + self.jobs;
        NewJob { run_at: self.now.wall, ..plain_job(id, Bytes::from(format!("body {}", self.jobs))) }
    }

    pub fn job_of(&mut self, ordering_key: &str) -> NewJob {
        NewJob { ordering_key: Some(ordering_key.to_owned()), ..self.job() }
    }

    pub async fn enqueue(&self, jobs: Vec<NewJob>) -> Vec<Enqueued> {
        self.store.enqueue(jobs, self.now).await.expect("jobs are accepted")
    }

    pub async fn accept(&self, job: NewJob) -> Job {
        match self.enqueue(vec![job]).await.pop() {
            Some(Enqueued::Accepted(job)) => job,
            other => panic!("expected a job to be accepted, got {other:?}"),
        }
    }

    /// Accepts a job with nothing special.
    pub async fn accept_one(&mut self) -> JobId {
        let job = self.job();
        self.accept(job).await.id
    }

    pub async fn accept_keyed(&mut self, ordering_key: &str) -> JobId {
        let job = self.job_of(ordering_key);
        self.accept(job).await.id
    }

    pub fn grant(max: u32, destination_epoch: u64) -> Grant {
        Grant {
            destination: api2(),
            max,
            destination_epoch,
            released_below: destination_epoch,
            fresh: 0,
            fresh_after: Timestamp::default(),
            kind: Kind::Regular,
            ordering_on_dead: OrderingOnDead::Free,
            begun: Tick(2),
            ok_begun: Tick::NEVER,
        }
    }

    pub async fn claim_granted(&self, worker: WorkerId, grants: Vec<Grant>) -> Claimed {
        self.store.claim(worker, grants, self.now).await.expect("a claim is answered")
    }

    pub async fn claim_by(&self, worker: WorkerId, max: u32) -> Vec<Lease> {
        self.claim_granted(worker, vec![Self::grant(max, 0)]).await.leases
    }

    /// Claims up to `max` jobs of the usual destination in its first epoch.
    pub async fn claim(&self, max: u32) -> Vec<LeaseKey> {
        keys(&self.claim_by(WORKER, max).await)
    }

    /// Claims the one job that is claimable.
    pub async fn claim_one(&self) -> LeaseKey {
        let keys = self.claim(2).await;
        assert_eq!(keys.len(), 1, "one job is claimable");
        keys[0]
    }

    /// The ids of all jobs that could be claimed now, in order; they are released again.
    pub async fn claimable(&self) -> Vec<JobId> {
        let leases = self.claim(1_000).await;
        let released = leases.iter().map(|key| Settlement { key: *key, report: Report::Released }).collect();
        self.settle_all(WORKER, released).await;
        leases.iter().map(|key| key.job_id).collect()
    }

    pub async fn settle_all(&self, worker: WorkerId, settlements: Vec<Settlement>) -> Vec<SettleAnswer> {
        let judge = Arc::new(self.judge.clone());
        let count = settlements.len();
        let answers = self.store.settle(worker, settlements, judge, self.now).await.expect("a settle is answered");
        assert_eq!(answers.len(), count, "one answer for each outcome");
        answers
    }

    pub async fn settle_by(&self, worker: WorkerId, key: LeaseKey, report: Report) -> Settled {
        let answer = self.settle_all(worker, vec![Settlement { key, report }]).await.remove(0);
        match answer {
            SettleAnswer::Known { result, job, attempt, ended } => Settled { result, job, attempt, ended },
            SettleAnswer::UnknownJob => panic!("{} is not known", key.job_id),
        }
    }

    pub async fn settle(&self, key: LeaseKey, class: Class) -> Settled {
        self.settle_by(WORKER, key, Report::Attempted(Outcome::of(class))).await
    }

    pub async fn settle_outcome(&self, key: LeaseKey, outcome: Outcome) -> Settled {
        self.settle_by(WORKER, key, Report::Attempted(outcome)).await
    }

    pub async fn release(&self, key: LeaseKey) -> Settled {
        self.settle_by(WORKER, key, Report::Released).await
    }

    pub async fn extend(&self, worker: WorkerId, holding: &[LeaseKey]) -> crate::lease::Extended {
        self.store.extend(worker, holding.to_vec(), self.now).await.expect("a heartbeat is answered")
    }

    pub async fn sweep(&self) -> Swept {
        self.store.sweep(Arc::new(self.judge.clone()), self.now).await.expect("a sweep is answered")
    }

    /// Lets `time` pass, sweeping as often as a gateway does; all that was found.
    pub async fn sweep_for(&mut self, time: Duration) -> Swept {
        let (end, mut all) = (self.now.plus(time), self.sweep().await);
        while self.now.mono < end.mono {
            self.pass(SWEEP_INTERVAL);
            let swept = self.sweep().await;
            all.lapsed.extend(swept.lapsed);
            all.expired.extend(swept.expired);
        }
        all
    }

    /// Lets all leases lapse.
    pub async fn lapse(&mut self) -> Swept {
        self.sweep_for(LEASE_TERM).await
    }

    pub async fn cancel(&self, id: JobId) -> (Cancel, Job) {
        self.cancel_where(id, OrderingOnDead::Free).await
    }

    pub async fn cancel_where(&self, id: JobId, ordering_on_dead: OrderingOnDead) -> (Cancel, Job) {
        let answer = self.store.cancel(id, ordering_on_dead, self.now).await.expect("a cancel is answered");
        answer.expect("the job is known")
    }

    pub async fn redrive(&self, id: JobId) -> (Redrive, Job) {
        self.redrive_with(id, false).await
    }

    pub async fn redrive_with(&self, id: JobId, new_key: bool) -> (Redrive, Job) {
        let answer = self.store.redrive(id, new_key, self.now).await.expect("a redrive is answered");
        answer.expect("the job is known")
    }

    pub async fn purge(&self, retention: Retention) -> u64 {
        self.store.purge(retention, self.now).await.expect("a purge is answered").jobs
    }

    pub async fn stored(&self, id: JobId) -> Job {
        self.store.job(id).await.expect("a job is read").expect("the job is known").job
    }

    pub async fn attempts(&self, id: JobId) -> Vec<Attempt> {
        self.store.job(id).await.expect("a job is read").expect("the job is known").attempts
    }

    /// A job that has ended in `state`: the others are made by hand.
    pub async fn ended(&mut self, state: StateName) -> JobId {
        let id = self.accept_one().await;
        self.end(id, state).await;
        id
    }

    /// Ends a claimable job in `state`.
    pub async fn end(&self, id: JobId, state: StateName) {
        match state {
            StateName::Cancelled => drop(self.cancel(id).await),
            StateName::Succeeded => drop(self.settle(self.claim_this(id).await, Class::Ok).await),
            StateName::Dead => drop(self.settle(self.claim_this(id).await, Class::JobFail).await),
            StateName::Pending | StateName::Leased => panic!("{state:?} is no end"),
        }
        assert_eq!(self.stored(id).await.state.name(), state);
    }

    /// Claims `id` and no other: what else was claimable is released.
    pub async fn claim_this(&self, id: JobId) -> LeaseKey {
        let leases = self.claim(1_000).await;
        let (mine, others): (Vec<LeaseKey>, Vec<LeaseKey>) = leases.iter().partition(|key| key.job_id == id);
        let released = others.iter().map(|key| Settlement { key: *key, report: Report::Released }).collect();
        self.settle_all(WORKER, released).await;
        *mine.first().expect("the job is claimable")
    }
}

/// A settle's answer for a known job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub result: SettleResult,
    pub job: Job,
    pub attempt: Option<Attempt>,
    pub ended: Option<(LeaseKey, WorkerId)>,
}

pub fn keys(leases: &[Lease]) -> Vec<LeaseKey> {
    leases.iter().map(|lease| LeaseKey { job_id: lease.job.id, epoch: lease.epoch }).collect()
}

pub fn ids(leases: &[Lease]) -> Vec<JobId> {
    leases.iter().map(|lease| lease.job.id).collect()
}

/// How a job waits.
pub fn pending(job: &Job) -> Pending {
    let State::Pending(pending) = &job.state else { panic!("expected a waiting job, found {job:?}") };
    *pending
}

/// Why a job is dead.
pub fn dead(job: &Job) -> DeadReason {
    let State::Dead { reason, .. } = &job.state else { panic!("expected a dead job, found {job:?}") };
    *reason
}
