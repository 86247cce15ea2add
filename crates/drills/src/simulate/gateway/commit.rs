//! One commit: what waited for it takes effect in one moment, settles first and claims last, and is then answered.

use std::time::Duration;

use jobs_core::destination::OrderingOnDead;
use jobs_core::job::{Epoch, JobId, WorkerId};
use jobs_core::lease::{LEASE_TERM, LeaseKey};
use jobs_core::lifecycle::{Cancel, SettleResult};
use jobs_core::outcome::{Class, Outcome};
use jobs_core::protocol::{ClaimResponse, SettleResponse, WireLease, WireRequest, WireResult, WireSettled};
use jobs_core::store::{Enqueued, Judge, Lease, Report, SettleAnswer, Settlement};
use jobs_core::time::Now;

use super::{Gateway, Op, Parked, UNSYNCED};
use crate::simulate::brain::Planned;
use crate::simulate::bug::Bug;
use crate::simulate::event::GatewayEvent;
use crate::simulate::network::{Answer, Call, Receipt};
use crate::simulate::plan::{MS, Us};
use crate::simulate::world::World;

impl World {
    /// To be part of the next commit.
    pub(super) fn commit(&mut self, op: Op) {
        if self.gateway.bug == Some(Bug::TakesReportsEarly)
            && let Op::Settle { call, settlements, .. } = &op
        {
            let (call, results) = (*call, settlements.iter().map(early).collect());
            self.watch.reports_taken(settlements);
            self.reply(call, Answer::Settled(SettleResponse { results }));
        }
        self.gateway.waiting.push(op);
        self.begin_commit();
    }

    fn begin_commit(&mut self) {
        if self.gateway.committing.is_empty() && !self.gateway.waiting.is_empty() {
            self.gateway.committing = std::mem::take(&mut self.gateway.waiting);
            let takes = self.dice.between(self.plan.commit);
            self.gateway_later(takes, GatewayEvent::Committed);
        }
    }

    /// The commit is over: all in it takes effect.
    pub(super) fn committed(&mut self) {
        let mut ops = std::mem::take(&mut self.gateway.committing);
        ops.sort_by_key(rank);
        self.gateway.keep_what_is_synced(&ops, self.now);
        for op in ops {
            self.apply(op);
        }
        let changes = self.gateway.brain.changes();
        let saving = self.gateway.waiting.iter().any(|op| matches!(op, Op::SaveGates { .. }));
        if !changes.is_empty() && !saving {
            self.gateway.waiting.push(Op::SaveGates { changes, calls: Vec::new() });
        }
        self.watch.gates(&self.gateway.brain.views());
        self.look();
        self.begin_commit();
    }

    /// A commit that reached the disk in the moment of a crash.
    pub(super) fn commit_unheard(&mut self, mut ops: Vec<Op>) {
        ops.sort_by_key(rank);
        self.gateway.keep_what_is_synced(&ops, self.now);
        ops.into_iter().for_each(|op| self.apply(op));
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Settle { call, worker, settlements, health, now } => {
                for found in &health {
                    self.gateway.brain.health_checked(&found.destination, found.healthy);
                }
                self.settle(call, worker, &settlements, now);
            }
            Op::Enqueue { call, jobs, now } => {
                let enqueued = self.gateway.state.enqueue(jobs, now).expect("each job has an id of its own");
                for answer in &enqueued {
                    if let Enqueued::Accepted(job) = answer {
                        self.gateway.brain.job_changed(job);
                        self.watch.accepted(job, &self.gateway.state, self.now);
                    }
                }
                self.watch.replayed(&enqueued);
                if let Some(call) = call {
                    let receipts: Vec<Receipt> = enqueued.iter().map(receipt).collect();
                    self.watch.acknowledging(&receipts);
                    self.reply(call, Answer::Posted(receipts));
                }
            }
            Op::Cancel { call, id, now } => {
                let on_dead = self.gateway.on_dead(id);
                if let Some(job) = self.gateway.forgets_cancel(id) {
                    self.watch.cancelled(Cancel::Requested, &job);
                } else if let Some((answer, job)) = self.gateway.state.cancel(id, on_dead, now) {
                    self.watch.cancelled(answer, &job);
                    self.gateway.brain.job_changed(&job);
                }
                self.reply(call, Answer::Steered);
            }
            Op::Redrive { call, id, new_key, now } => {
                if let Some((answer, job)) = self.gateway.state.redrive(id, new_key, now) {
                    self.watch.redriven(answer, &job);
                    self.gateway.brain.job_changed(&job);
                }
                self.reply(call, Answer::Steered);
            }
            Op::SaveGates { changes, calls } => {
                for change in changes {
                    self.gateway.state.put_gate(change.destination.clone(), change.record.clone());
                    self.gateway.brain.persisted(&change);
                }
                for call in calls {
                    self.reply(call, Answer::Steered);
                }
            }
            Op::Sweep(now) => {
                let told = self.gateway.sweep_now(now);
                self.gateway.expire_leased(now);
                let swept = self.gateway.state.sweep(&self.gateway.brain.judge(), told);
                self.gateway.brain.swept(&swept, now);
                self.watch.swept(&swept, now);
                self.gateway.misplace(&swept);
            }
            Op::Purge(now) => {
                let mut retention = self.plan.retention;
                if self.gateway.bug == Some(Bug::ForgetsKeysWithJobs) {
                    retention.keys = retention.succeeded;
                }
                self.gateway.state.purge(retention, now);
                self.watch.purged(&self.gateway.state);
            }
            Op::Claim { parked, planned } => self.claim_granted(parked, &planned),
        }
    }

    fn settle(&mut self, call: Call, worker: WorkerId, settlements: &[Settlement], now: Now) {
        let told = self.gateway.told(settlements);
        let answers = self.gateway.state.settle(worker, told, &self.gateway.brain.judge(), now);
        self.gateway.brain.settled(&answers, now);
        self.gateway.jam(&answers);
        self.gateway.reported.extend(settlements.iter().map(|settlement| settlement.key));
        self.gateway.brain.heard_from(worker, now);
        self.watch.settled(worker, settlements, &answers);
        self.watch.reports_taken(settlements);
        let results = settlements.iter().zip(&answers).map(|(settlement, answer)| result(settlement.key, answer));
        self.reply(call, Answer::Settled(SettleResponse { results: results.collect() }));
    }

    fn claim_granted(&mut self, parked: Parked, planned: &Planned) {
        let worker = parked.asked.worker;
        let mut now = self.gateway.lease_now(planned.now);
        if self.gateway.bug == Some(Bug::ClaimsEarly) {
            now.wall = now.wall.plus(Duration::from_millis(700));
        }
        let claimed = self.gateway.state.claim(worker, &planned.grants, now);
        self.gateway.brain.claimed(planned, &claimed, self.gateway.now(self.now));
        self.watch.claimed(worker, planned, &claimed, &self.gateway.state);
        let is_open = self.gateway.open.contains_key(&parked.call.id);
        if !self.gateway.up {
            return; // whoever asked will never know
        }
        if claimed.leases.is_empty() {
            if self.now < parked.until && is_open {
                self.gateway.parked.push(parked);
            } else {
                self.reply(parked.call, Answer::Claimed(ClaimResponse::default()));
            }
        } else if is_open {
            let new =
                claimed.leases.iter().map(|lease| LeaseKey { job_id: lease.job.id, epoch: lease.epoch }).collect();
            let release = self.gateway.brain.releases(worker, &new);
            let probes = self.gateway.health_checks(self.gateway.now(self.now));
            let leases = self.gateway.wire_all(claimed.leases);
            self.reply(parked.call, Answer::Claimed(ClaimResponse { leases, probes, release }));
        } else {
            // Whoever asked has hung up: what it would have had is released.
            let released = |lease: &Lease| Settlement {
                key: LeaseKey { job_id: lease.job.id, epoch: lease.epoch },
                report: Report::Released,
            };
            let settlements: Vec<Settlement> = claimed.leases.iter().map(released).collect();
            self.settle(parked.call, worker, &settlements, planned.now);
        }
    }
}

impl Gateway {
    /// Keeps the state as it was before `ops`, if nothing of them needs to be synced and a crash is near that may forget them: one
    /// state for each commit since the last synced one.
    fn keep_what_is_synced(&mut self, ops: &[Op], now: Us) {
        self.commits += 1;
        match self.bug {
            Some(Bug::LosesSyncedWrites) => {
                if self.commits.is_multiple_of(40) {
                    self.unsynced = vec![self.state.clone()];
                }
                return;
            }
            Some(Bug::ForgetsEnds) => {
                if ops.iter().any(|op| matches!(op, Op::Enqueue { .. })) {
                    self.unsynced.clear();
                } else if self.unsynced.is_empty() {
                    self.unsynced.push(self.state.clone());
                }
                return;
            }
            _ => {}
        }
        let near = self.forgetting.iter().any(|crash| *crash >= now && crash - now <= UNSYNCED);
        if !ops.iter().all(|op| matches!(op, Op::Claim { .. })) {
            self.unsynced.clear();
        } else if near {
            self.unsynced.push(self.state.clone());
        }
    }

    fn on_dead(&self, id: JobId) -> OrderingOnDead {
        let found = self.state.job(id);
        found.map_or(OrderingOnDead::Free, |found| self.brain.judge().policy(&found.job.destination).ordering_on_dead)
    }

    /// What the store is told of a report: all of it, unless a seeded bug has its way.
    fn told(&self, settlements: &[Settlement]) -> Vec<Settlement> {
        let mut told = settlements.to_vec();
        let Some(bug) = self.bug else { return told };
        let leases = self.state.leases();
        for settlement in &mut told {
            let live = leases.iter().find(|(key, ..)| key.job_id == settlement.key.job_id).map(|(key, ..)| key.epoch);
            let stale = live != Some(settlement.key.epoch);
            match (bug, &settlement.report) {
                (Bug::CountsReportsTwice, _) if !self.reported.contains(&settlement.key) => {}
                (Bug::NoEpochCheck | Bug::CountsReportsTwice, _) => {
                    settlement.key.epoch = live.unwrap_or(settlement.key.epoch)
                }
                (Bug::DropsLateOk, Report::Attempted(outcome)) if outcome.class == Class::Ok && stale => {
                    settlement.report = Report::Attempted(Outcome::of(Class::Down));
                }
                (Bug::CountsReleases, Report::Released) => {
                    settlement.report = Report::Attempted(Outcome::of(Class::Down));
                }
                _ => {}
            }
        }
        told
    }

    fn wire_all(&self, leases: Vec<Lease>) -> Vec<WireLease> {
        let mut wire: Vec<WireLease> = leases.into_iter().map(|lease| self.wire(lease)).collect();
        match (self.bug, wire.as_mut_slice()) {
            (Some(Bug::MixesPayloads), [first, second, ..]) => std::mem::swap(&mut first.payload, &mut second.payload),
            (Some(Bug::WrongDestination), [.., last]) if self.commits.is_multiple_of(9) => {
                last.destination.clone_from(&self.names[0]);
            }
            _ => {}
        }
        wire
    }

    fn wire(&self, lease: Lease) -> WireLease {
        let wrong = u64::from(self.bug == Some(Bug::WrongEpochOnWire));
        let timeout = self.settings.get(&lease.job.destination).map(|settings| settings.attempt_timeout);
        WireLease {
            job_id: lease.job.id,
            epoch: Epoch::from_u64(lease.epoch.as_u64() + wrong),
            lease_ms: u64::try_from(LEASE_TERM.as_millis()).unwrap_or(u64::MAX),
            attempt: lease.job.next_attempt_number(),
            request: WireRequest {
                method: String::new(),
                url: String::new(),
                headers: Vec::new(),
                timeout_ms: timeout.map_or(MS, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
                rules: Vec::new(),
            },
            destination: lease.job.destination,
            payload: String::from_utf8(lease.request.body.to_vec()).ok(),
            payload_base64: None,
            traceparent: None,
            parent_span: None,
        }
    }
}

/// In which order the parts of a commit take effect.
fn rank(op: &Op) -> u8 {
    match op {
        Op::Settle { .. } => 0,
        Op::Enqueue { .. }
        | Op::Cancel { .. }
        | Op::Redrive { .. }
        | Op::SaveGates { .. }
        | Op::Sweep(_)
        | Op::Purge(_) => 1,
        Op::Claim { .. } => 2,
    }
}

fn receipt(answer: &Enqueued) -> Receipt {
    match answer {
        Enqueued::Accepted(job) => Receipt::Stored(job.id),
        Enqueued::Replayed { id, .. } => Receipt::Stored(*id),
        Enqueued::KeyReused { .. } => Receipt::KeyReused,
    }
}

fn result(key: LeaseKey, answer: &SettleAnswer) -> WireSettled {
    let unknown = |result| WireSettled { job_id: key.job_id, result, state: None, attempts: 0, retry_delay_ms: None };
    match answer {
        SettleAnswer::UnknownJob => unknown(WireResult::UnknownJob),
        SettleAnswer::Known { result, job, .. } => WireSettled {
            state: Some(job.state.name()),
            attempts: job.progress.attempts,
            ..unknown(match result {
                SettleResult::Applied | SettleResult::Repeated => WireResult::Ok,
                SettleResult::LeaseLost => WireResult::LeaseLost,
                SettleResult::AlreadyFinished => WireResult::AlreadyFinished,
            })
        },
    }
}

/// What a hasty gateway would say.
fn early(settlement: &Settlement) -> WireSettled {
    let job_id = settlement.key.job_id;
    WireSettled { job_id, result: WireResult::Ok, state: None, attempts: 0, retry_delay_ms: None }
}
