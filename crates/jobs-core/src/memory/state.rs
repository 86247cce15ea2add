//! The verbs of a store, over jobs in memory: pure, so that a simulation can drive them and other stores be compared with them.
//!
//! Where the contract of [`crate::store::JobStore`] leaves something open, what happens here is what the differential test
//! expects of every store: the first `seq` and the first epoch's counter are 1 and rise by one; a sweep ends leases before
//! it ends waiting jobs; a purge deletes jobs before keys; what has reached its time (`<=`) is past it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::STEP_LIMIT;
use super::keys::Keys;
use super::lane::Lane;
use super::shelf::{Record, Shelf};
use crate::callback;
use crate::destination::OrderingOnDead;
use crate::gate::Kind;
use crate::job::{DestinationName, Epoch, Job, JobId, NewJob, Request, WorkerId};
use crate::lease::{Extended, LeaseKey, LeaseTable};
use crate::lifecycle::{
    self, Cancel, Claiming, DuplicateCause, Redrive, SettleContext, SettleResult, Settled, Unclaimable,
};
use crate::outcome::{Outcome, Response};
use crate::steering::AuditLine;
use crate::store::{
    Claimed, Enqueued, Filter, GateRecord, Grant, JobDetail, Judge, Lease, Page, Payloads, Purged, Report, Retention,
    SettleAnswer, Settlement, Stats, Steered, StoreError, Swept,
};
use crate::time::{Mono, Now, Timestamp};

/// Most jobs on one page, as the contract says.
pub(super) const MAX_PAGE: u32 = 1_000;

/// Everything a store remembers.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) shelf: Shelf,
    keys: Keys,
    leases: LeaseTable,
    gates: BTreeMap<DestinationName, GateRecord>,
    purged: u64,
    attempts: u64,
    duplicates: BTreeMap<DuplicateCause, u64>,
    pub(super) last_redrive: u32,
    pub(super) last_act: u64,
    /// The latest last.
    pub(super) audit: VecDeque<AuditLine>,
}

impl State {
    /// An empty store in gateway start `start` (>= 1).
    pub fn new(start: u32) -> Self {
        State {
            shelf: Shelf::new(Epoch::new(start, 0)),
            keys: Keys::default(),
            leases: LeaseTable::default(),
            gates: BTreeMap::new(),
            purged: 0,
            attempts: 0,
            duplicates: BTreeMap::new(),
            last_redrive: 0,
            last_act: 0,
            audit: VecDeque::new(),
        }
    }

    /// The number of the present gateway start.
    pub fn start(&self) -> u32 {
        u32::try_from(self.shelf.last_epoch.start()).unwrap_or(Epoch::MAX_START)
    }

    /// The process ended and the store was opened again as gateway start `start`, above the last one: every lease in it
    /// gets a full term from `now`.
    pub fn restart(&mut self, start: u32, now: Mono) {
        debug_assert!(start > self.start());
        self.shelf.last_epoch = Epoch::new(start, 0);
        let before = std::mem::take(&mut self.leases);
        for (job_id, held) in before.iter() {
            let key = LeaseKey { job_id: *job_id, epoch: held.epoch };
            self.leases.grant(key, held.worker, held.destination.clone(), held.cancel_requested, now);
        }
    }

    /// See [`crate::store::JobStore::enqueue`]. A job id that is known already is refused, with the whole batch.
    pub fn enqueue(&mut self, jobs: Vec<NewJob>, now: Now) -> Result<Vec<Enqueued>, StoreError> {
        let mut ids = BTreeSet::new();
        let mut given = jobs.iter().filter(|job| !job.id_is_new);
        if let Some(job) = given.find(|job| !ids.insert(job.id) || self.shelf.seq_of(job.id).is_some()) {
            return Err(StoreError::Unusable(format!("job {} exists already", job.id)));
        }
        Ok(jobs.into_iter().map(|job| self.enqueue_one(job, now.wall)).collect())
    }

    fn enqueue_one(&mut self, mut new: NewJob, now: Timestamp) -> Enqueued {
        let idempotency = new.idempotency.take();
        if let Some(key) = &idempotency
            && let Some(bound) = self.keys.get_mut(key)
        {
            let id = bound.job;
            if bound.fingerprint != key.fingerprint {
                return Enqueued::KeyReused { id };
            }
            bound.replays += 1;
            let ended = bound.ended;
            let present = self.shelf.find(id).map(|record| record.job.state.name());
            let state = present.or(ended).expect("a key is told how its job ended when the job goes");
            return Enqueued::Replayed { id, state };
        }
        let name = idempotency.as_ref().map(|key| (key.scope.clone(), key.key.clone()));
        let after = new.callback.as_ref().and_then(|callback| callback.still_trying_after);
        let job = self.shelf.accept(new, name, now);
        if let Some(key) = idempotency {
            self.keys.bind(key, job.id);
        }
        if let Some(notice) = after.and_then(|after| callback::still_trying(&job, after)) {
            self.shelf.accept(notice, None, now);
        }
        Enqueued::Accepted(job)
    }

    /// See [`crate::store::JobStore::claim`].
    pub fn claim(&mut self, worker: WorkerId, grants: &[Grant], now: Now) -> Claimed {
        let (mut claimed, mut payloads) = (Claimed::default(), Payloads::default());
        for grant in grants {
            let leases = self.claim_granted(worker, grant, now, &mut payloads, &mut claimed.died);
            let found = leases.len();
            claimed.leases.extend(leases);
            if payloads.is_full() {
                break;
            }
            if found < grant.max as usize {
                let next = self.shelf.lane(&grant.destination).and_then(|lane| lane.next_due(now.wall));
                claimed.exhausted.push((grant.destination.clone(), next));
            }
        }
        claimed
    }

    fn claim_granted(
        &mut self,
        worker: WorkerId,
        grant: &Grant,
        now: Now,
        payloads: &mut Payloads,
        died: &mut Vec<Job>,
    ) -> Vec<Lease> {
        let mut leases = Vec::new();
        let mut passed_over = Vec::new();
        let mut fresh = grant.kind == Kind::Regular;
        while leases.len() < grant.max as usize {
            fresh &= leases.len() < grant.fresh as usize;
            let lane = self.shelf.lane(&grant.destination);
            let first_fresh = lane.filter(|_| fresh).and_then(|lane| lane.first_fresh(grant.fresh_after, now.wall));
            fresh = first_fresh.is_some();
            let first = |lane: &Lane| match grant.kind {
                Kind::Regular => lane.first_due(grant.released_below, now.wall),
                Kind::Probe { .. } => lane.first_to_probe(grant.released_below, now.wall),
            };
            let Some(seq) = first_fresh.or_else(|| lane.and_then(first)) else { break };
            let epoch = Epoch::from_u64(self.shelf.last_epoch.as_u64() + 1);
            let claiming = Claiming {
                epoch,
                worker,
                destination_epoch: grant.destination_epoch,
                released_below: grant.released_below,
                begun: grant.begun,
                ok_begun: grant.ok_begun,
            };
            let record = self.shelf.get(seq);
            if !record.job.is_intact(&record.request) {
                self.shelf.change(seq, |record| {
                    lifecycle::corrupt(&mut record.job, now.wall);
                    record.decide_blocking(grant.ordering_on_dead);
                });
                died.push(self.shelf.get(seq).job.clone());
                continue;
            }
            // What is passed over takes no room.
            if lifecycle::out_of_time(&record.job, now.wall).is_none() && !payloads.admit(&record.request) {
                break;
            }
            match self.shelf.change(seq, |record| lifecycle::claim(&mut record.job, &claiming, now.wall)) {
                Ok(()) => {
                    self.shelf.last_epoch = epoch;
                    let Record { job, request, .. } = self.shelf.get(seq);
                    let key = LeaseKey { job_id: job.id, epoch };
                    self.leases.grant(key, worker, job.destination.clone(), false, now.mono);
                    leases.push(Lease { job: job.clone(), epoch, request: request.clone() });
                }
                Err(Unclaimable::Expired | Unclaimable::NotDue | Unclaimable::NotPending) => {
                    let (lane, record) = self.shelf.lane_mut(seq);
                    lane.pass_over(record);
                    passed_over.push(seq);
                }
            }
        }
        for seq in passed_over {
            let (lane, record) = self.shelf.lane_mut(seq);
            lane.relist(record);
        }
        leases
    }

    /// See [`crate::store::JobStore::extend`].
    pub fn extend(&mut self, worker: WorkerId, holding: &[LeaseKey], now: Now) -> Extended {
        self.leases.extend(worker, holding, now.mono)
    }

    /// See [`crate::store::JobStore::settle`]. `judge` weighs each attempted outcome of a known job, one time, in order.
    pub fn settle(
        &mut self,
        worker: WorkerId,
        settlements: Vec<Settlement>,
        judge: &dyn Judge,
        now: Now,
    ) -> Vec<SettleAnswer> {
        settlements.into_iter().map(|settlement| self.settle_one(worker, settlement, judge, now)).collect()
    }

    fn settle_one(&mut self, worker: WorkerId, settlement: Settlement, judge: &dyn Judge, now: Now) -> SettleAnswer {
        let LeaseKey { job_id, epoch } = settlement.key;
        let Some(seq) = self.shelf.seq_of(job_id) else { return SettleAnswer::UnknownJob };
        let settled = match settlement.report {
            Report::Released => self.shelf.change(seq, |record| lifecycle::release(&mut record.job, epoch, now.wall)),
            Report::Attempted(outcome) => self.settle_attempted(seq, epoch, outcome, worker, judge, now),
        };
        self.attempts += u64::from(settled.attempt.is_some());
        if let Some(cause) = settled.duplicate {
            *self.duplicates.entry(cause).or_default() += 1;
        }
        let ended = settled.ended.map(|lease| (LeaseKey { job_id, epoch: lease.epoch }, lease.worker));
        if let Some((key, _)) = ended {
            self.leases.end(key);
        }
        let job = self.shelf.get(seq).job.clone();
        SettleAnswer::Known { result: settled.result, job, attempt: settled.attempt, ended }
    }

    fn settle_attempted(
        &mut self,
        seq: u64,
        epoch: Epoch,
        outcome: Outcome,
        worker: WorkerId,
        judge: &dyn Judge,
        now: Now,
    ) -> Settled {
        let (policy, evidence) = judge.weigh(&self.shelf.get(seq).job, epoch, &outcome, worker, now);
        let context = SettleContext { worker, start: self.start(), policy: &policy, evidence: &evidence };
        self.shelf.change(seq, |record| {
            let settled = lifecycle::settle(&mut record.job, epoch, &outcome, &context, now.wall);
            if settled.result == SettleResult::Applied {
                record.decide_blocking(policy.ordering_on_dead);
                record.attempts.extend(settled.attempt.clone());
                record.response =
                    outcome.response.map(|response| (outcome.status, response)).or(record.response.take());
            }
            settled
        })
    }

    /// See [`crate::store::JobStore::cancel`]. A dead job that blocks its ordering key can always be cancelled, also if its
    /// destination has come to say otherwise since it died: nothing else would ever free the key.
    pub fn cancel(&mut self, id: JobId, ordering_on_dead: OrderingOnDead, now: Now) -> Steered<Cancel> {
        let seq = self.shelf.seq_of(id)?;
        let answer = self.shelf.change(seq, |record| {
            let on_dead = if record.blocks { OrderingOnDead::Block } else { ordering_on_dead };
            lifecycle::cancel(&mut record.job, on_dead, now.wall)
        });
        if answer == Cancel::Requested {
            self.leases.request_cancel(id);
        }
        Some((answer, self.shelf.get(seq).job.clone()))
    }

    /// See [`crate::store::JobStore::redrive`].
    pub fn redrive(&mut self, id: JobId, new_key: bool, now: Now) -> Steered<Redrive> {
        let seq = self.shelf.seq_of(id)?;
        let last_issued = self.shelf.last_epoch;
        let answer =
            self.shelf.change(seq, |record| lifecycle::redrive(&mut record.job, new_key, last_issued, now.wall));
        Some((answer, self.shelf.get(seq).job.clone()))
    }

    /// See [`crate::store::JobStore::sweep`]: [`STEP_LIMIT`] of either at most. A job whose lease lapsed and whose time has
    /// run out is in both lists.
    pub fn sweep(&mut self, judge: &dyn Judge, now: Now) -> Swept {
        let mut swept = Swept::default();
        for key in self.leases.overdue(now.mono).into_iter().take(STEP_LIMIT) {
            self.leases.end(key);
            let seq = self.shelf.seq_of(key.job_id).expect("a leased job is not purged");
            let policy = judge.policy(&self.shelf.get(seq).job.destination);
            let lapsed = self.shelf.change(seq, |record| {
                let lapsed = lifecycle::lapse(&mut record.job, key.epoch, &policy, now.wall)?;
                record.decide_blocking(policy.ordering_on_dead);
                record.attempts.push(lapsed.attempt.clone());
                Some(lapsed)
            });
            let Some(lapsed) = lapsed else { continue };
            if lapsed.attempt.next_run_at.is_some() {
                *self.duplicates.entry(DuplicateCause::LeaseLapsed).or_default() += 1;
            }
            swept.lapsed.push((key, lapsed.ended.worker, self.shelf.get(seq).job.clone()));
        }
        for seq in self.shelf.out_of_time(now.wall, STEP_LIMIT) {
            let policy = judge.policy(&self.shelf.get(seq).job.destination);
            let expired = self.shelf.change(seq, |record| {
                let expired = lifecycle::expire(&mut record.job, now.wall).is_some();
                record.decide_blocking(policy.ordering_on_dead);
                expired
            });
            // The end of an earlier one may have ended it: the notice that a job is still being tried.
            if expired {
                swept.expired.push(self.shelf.get(seq).job.clone());
            }
        }
        swept
    }

    /// See [`crate::store::JobStore::purge`]: [`STEP_LIMIT`] jobs at most, then as many keys. A key's time begins when its
    /// job is purged.
    pub fn purge(&mut self, retention: Retention, now: Now) -> Purged {
        let gone = self.shelf.past_retention(retention, now.wall, STEP_LIMIT);
        let jobs = gone.len();
        for seq in gone {
            let record = self.shelf.remove(seq);
            if let Some(name) = record.key {
                self.keys.orphan(name, record.job.state.name(), now.wall);
            }
        }
        self.purged += jobs as u64;
        let keys = self.keys.forget(retention.keys, now.wall, STEP_LIMIT);
        Purged { jobs: jobs as u64, more: jobs == STEP_LIMIT || keys == STEP_LIMIT }
    }

    pub fn job(&self, id: JobId) -> Option<JobDetail> {
        self.shelf.find(id).map(|record| JobDetail {
            job: record.job.clone(),
            attempts: record.attempts.clone(),
            resolution: record.resolution.clone(),
        })
    }

    pub fn request(&self, id: JobId) -> Option<Request> {
        self.shelf.find(id).map(|record| record.request.clone())
    }

    pub fn response(&self, id: JobId) -> Option<(Option<u16>, Response)> {
        self.shelf.find(id).and_then(|record| record.response.clone())
    }

    /// See [`crate::store::JobStore::list`]. A page is short only at the end.
    pub fn list(&self, filter: &Filter, below: Option<u64>, limit: u32) -> Page {
        let limit = limit.clamp(1, MAX_PAGE) as usize;
        let found = self.shelf.latest_first(below.unwrap_or(u64::MAX)).filter(|record| matches(filter, record));
        let mut jobs: Vec<_> = found.take(limit + 1).map(|record| record.job.clone()).collect();
        let has_more = jobs.len() > limit;
        jobs.truncate(limit);
        let next = jobs.last().filter(|_| has_more).map(|job| job.seq);
        Page { jobs, next }
    }

    pub fn stats(&self) -> Stats {
        Stats {
            accepted: self.shelf.last_seq,
            purged: self.purged,
            attempts: self.attempts,
            duplicates: self.duplicates.clone(),
            destinations: self.shelf.counts().clone(),
            resolved: self.shelf.resolved().clone(),
        }
    }

    /// See [`crate::store::JobStore::oldest_due`]: of all that wait, heads of their ordering key or not.
    pub fn oldest_due(&self, destination: &DestinationName) -> Option<Timestamp> {
        self.shelf.lane(destination).and_then(|lane| lane.oldest_due())
    }

    pub fn gates(&self) -> BTreeMap<DestinationName, GateRecord> {
        self.gates.clone()
    }

    pub fn put_gate(&mut self, destination: DestinationName, gate: GateRecord) {
        self.gates.insert(destination, gate);
    }

    pub fn leases(&self) -> Vec<(LeaseKey, WorkerId, DestinationName)> {
        let held = self.leases.iter();
        held.map(|(job_id, held)| {
            (LeaseKey { job_id: *job_id, epoch: held.epoch }, held.worker, held.destination.clone())
        })
        .collect()
    }

    /// How often a request came again under an idempotency key; `None` for a key that is not bound.
    pub fn replays(&self, scope: &str, key: &str) -> Option<u64> {
        self.keys.get(&(scope.to_owned(), key.to_owned())).map(|bound| bound.replays)
    }
}

pub(super) fn matches(filter: &Filter, record: &Record) -> bool {
    let job = &record.job;
    let says = |text: &str| {
        let in_error = job.progress.last_error.as_deref().is_some_and(|error| error.contains(text));
        in_error || String::from_utf8_lossy(&record.request.body).contains(text)
    };
    filter.fits(job)
        && filter.resolved.is_none_or(|wanted| wanted == record.resolution.is_some())
        && filter.text.as_deref().is_none_or(says)
}
