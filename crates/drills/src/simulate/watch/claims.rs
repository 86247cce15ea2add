//! Acceptance and claims, as the watch sees them.

use std::time::Duration;

use jobs_core::dispatch::GateStateName;
use jobs_core::gate::Kind;
use jobs_core::job::{Cause, Job, JobId, State, StateName, WorkerId};
use jobs_core::lease::{Extended, LeaseKey};
use jobs_core::memory;
use jobs_core::store::{Claimed, Enqueued, Lease};
use jobs_core::time::Now;

use super::{Claim, Live, Offer, Rule, Watch, Watched, legal, named};
use crate::simulate::brain::Planned;
use crate::simulate::gateway::body_of;
use crate::simulate::network::Receipt;
use crate::simulate::plan::Us;

/// Probes that may be claimed within a second, health checks aside.
const PROBES_PER_SECOND: usize = 4;

impl Watch {
    /// A job was stored.
    pub(crate) fn accepted(&mut self, job: &Job, store: &memory::State, now: Us) {
        self.dirty = true;
        self.accepted += 1;
        self.open += 1;
        let Some(Offer { post, not_before, other_body, keyed, ordering }) = self.offers.remove(&job.id) else {
            return self.violated(Rule::FromARequest, format!("job {} was stored and never asked for", job.id));
        };
        let body = store.request(job.id).map(|request| request.body);
        if body.as_deref() != Some(body_of(post, other_body).as_bytes()) {
            self.violated(Rule::FromARequest, format!("job {} is stored with {body:?} for post {post}", job.id));
        }
        if let Some(first) = self.by_post[post].replace(job.id).filter(|_| keyed) {
            self.violated(Rule::OnePerKey, format!("post {post} made the jobs {first} and {}", job.id));
        }
        self.by_seq.insert(job.seq, job.id);
        let site = self.names[&job.destination];
        let watched = Watched {
            post,
            other_body,
            site,
            seq: job.seq,
            ordering,
            not_before,
            state: StateName::Pending,
            blocks: false,
            generation: 0,
            cancel_requested: false,
            live: None,
            claims: Vec::new(),
            oks: 0,
            arrivals: 0,
            failures: 0,
            lapses: 0,
            forgotten: 0,
            failed_claim: 0,
            last_settle: 0,
            last_down: 0,
            may_rot: false,
            purged: false,
            accepted_at: now,
            first_ok_at: None,
        };
        if let Some(key) = &watched.ordering {
            self.chains.entry((site, key.clone())).or_default().insert(job.seq);
        }
        self.jobs.insert(job.id, watched);
        self.note("enqueue: accepted");
    }

    /// What else a commit made of requests.
    pub(crate) fn replayed(&mut self, enqueued: &[Enqueued]) {
        for answer in enqueued {
            match answer {
                Enqueued::Accepted(_) => {}
                Enqueued::Replayed { .. } => self.note("enqueue: replayed"),
                Enqueued::KeyReused { .. } => self.note("enqueue: key reused"),
            }
        }
    }

    /// An acknowledgement leaves the gateway.
    pub(crate) fn acknowledging(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            if let Receipt::Stored(id) = receipt
                && !self.jobs.contains_key(id)
            {
                self.violated(Rule::DurableFirst, format!("job {id} is acknowledged and not stored"));
            }
        }
    }

    /// A claim was committed.
    pub(crate) fn claimed(&mut self, worker: WorkerId, planned: &Planned, claimed: &Claimed, store: &memory::State) {
        if self.rotting {
            self.find_rotten(store);
        }
        for lease in &claimed.leases {
            self.claimed_one(worker, planned, lease);
        }
        for view in &planned.views {
            let Some(site) = self.names.get(&view.name).copied() else { continue };
            let count = claimed.leases.iter().filter(|lease| lease.job.destination == view.name).count();
            match view.state {
                _ if count == 0 => {}
                GateStateName::Open
                    if planned.kind(&view.name) == Some(Kind::Probe { on_health: true }) && count == 1 => {}
                GateStateName::Open => self.check_probes(site, count, planned.now),
                GateStateName::Closed | GateStateName::Ramp => {
                    let in_flight = self.sites[site].in_flight.get(&view.epoch).copied().unwrap_or_default();
                    if in_flight > view.limit {
                        let what = format!("{in_flight} leases of {} at a limit of {}", view.name, view.limit);
                        self.violated(Rule::WithinLimit, what);
                    }
                }
                GateStateName::Paused => {
                    self.violated(Rule::ProbeBudget, format!("{count} leases of {}, which is paused", view.name));
                }
            }
        }
    }

    fn check_probes(&mut self, site: usize, count: usize, now: Now) {
        let probes = &mut self.sites[site].probes;
        probes.extend(std::iter::repeat_n(now.mono, count));
        probes.retain(|at| now.mono.since(*at) < Duration::from_secs(1));
        let count = probes.len();
        if count > PROBES_PER_SECOND {
            self.violated(Rule::ProbeBudget, format!("{count} leases of destination {site} within a second"));
        }
    }

    fn claimed_one(&mut self, worker: WorkerId, planned: &Planned, lease: &Lease) {
        self.step += 1;
        let id = lease.job.id;
        let key = LeaseKey { job_id: id, epoch: lease.epoch };
        let State::Leased(leased) = &lease.job.state else {
            return self.violated(Rule::OneLease, format!("{key:?} was granted and is not leased"));
        };
        if lease.epoch <= self.last_epoch {
            self.violated(Rule::OneLease, format!("{key:?} is not above {:?}", self.last_epoch));
        }
        self.last_epoch = lease.epoch;
        let Some(job) = self.jobs.get(&id) else {
            return self.violated(Rule::FromARequest, format!("{key:?} is of no accepted job"));
        };
        match job.state {
            StateName::Pending => {}
            StateName::Leased => {
                let what = format!("{key:?} goes to worker {} while {:?} is live", named(worker), job.live);
                return self.violated(Rule::OneLease, what);
            }
            StateName::Succeeded | StateName::Dead | StateName::Cancelled => {
                return self.violated(Rule::EndsStay, format!("{key:?} is claimed and was {}", job.state.as_str()));
            }
        }
        let due =
            if leased.from.cause == Cause::New { leased.from.run_at.max(job.not_before) } else { leased.from.run_at };
        let early = due > planned.now.wall;
        let released =
            early && leased.from.cause == Cause::Destination && self.sites[job.site].alive > job.failed_claim;
        let kind = planned.kind(&lease.job.destination);
        let on_health = kind == Some(Kind::Probe { on_health: true }) && leased.from.cause == Cause::Destination;
        if early && !released && !on_health {
            let what = format!("{key:?} goes at {} and is due at {due}", planned.now.wall);
            return self.violated(Rule::NotBeforeItsTime, what);
        }
        let (generation, site) = (job.generation, job.site);
        self.check_order(id, key);
        let counts = kind == Some(Kind::Regular);
        let live = Live {
            epoch: lease.epoch,
            renewed: planned.now.mono,
            from: leased.from,
            begun: planned.step,
            destination_epoch: leased.destination_epoch,
            counts,
        };
        self.move_to(id, StateName::Leased, legal::of_claim(leased.from.cause, released));
        if counts {
            *self.sites[site].in_flight.entry(leased.destination_epoch).or_default() += 1;
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.live = Some(live);
            job.claims.push(Claim { epoch: lease.epoch, arrived: false, released: false, reported: false, generation });
        }
    }

    fn check_order(&mut self, id: JobId, key: LeaseKey) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(name) = &job.ordering else { return };
        let Some(chain) = self.chains.get(&(job.site, name.clone())) else { return };
        let first = chain.first().copied();
        let leased = |seq: &&u64| {
            let other = self.by_seq.get(*seq).and_then(|id| self.jobs.get(id));
            other.is_some_and(|other| other.state == StateName::Leased)
        };
        let other = chain.iter().find(leased);
        if first != Some(job.seq) || other.is_some() {
            let what =
                format!("{key:?} (seq {}) of {name:?} goes while {first:?} is first and {other:?} is leased", job.seq);
            self.violated(Rule::InOrder, what);
        }
    }

    /// A heartbeat that listed `holding` was answered.
    pub(crate) fn extended(&mut self, holding: &[LeaseKey], extended: &Extended, now: Now) {
        for key in holding {
            if extended.lost.contains(key) {
                self.note("extend: lost");
                continue;
            }
            let live = self.jobs.get_mut(&key.job_id).and_then(|job| job.live.as_mut());
            match live.filter(|live| live.epoch == key.epoch) {
                Some(live) => live.renewed = now.mono,
                None => self.violated(Rule::OneLease, format!("{key:?} was renewed and is not live")),
            }
            self.note("extend: renewed");
        }
        for _ in &extended.cancel {
            self.note("extend: told to cancel");
        }
    }
}
