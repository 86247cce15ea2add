//! Who grants: the gateway's dispatcher with its gates, or for comparison nobody, as in the original design, where each job
//! sleeps on its own timer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jobs_core::charging::Evidence;
use jobs_core::destination::{Destination, Policy};
use jobs_core::dispatch::{Change, DestinationView, Dispatcher};
use jobs_core::gate::Kind;
use jobs_core::job::{DestinationName, Epoch, Job, Tick, WorkerId};
use jobs_core::lease::LeaseKey;
use jobs_core::outcome::Outcome;
use jobs_core::store::{Claimed, GateRecord, Grant, Judge, SettleAnswer, Swept};
use jobs_core::time::Now;

use super::bug::Bug;
use super::plan::RetryBy;

/// A grant, and how each destination looked at that moment.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) grants: Vec<Grant>,
    pub(super) now: Now,
    pub(super) views: Vec<DestinationView>,
    /// The watch's count of steps.
    pub(super) step: u64,
}

impl Planned {
    pub(super) fn kind(&self, name: &DestinationName) -> Option<Kind> {
        self.grants.iter().find(|grant| grant.destination == *name).map(|grant| grant.kind)
    }
}

pub(super) struct Brain {
    dispatcher: Mutex<Dispatcher>,
    /// The destinations, where each job sleeps on its own timer.
    timers: Option<Vec<DestinationName>>,
    bug: Option<Bug>,
}

impl Brain {
    pub(super) fn new(start: u32, policy: RetryBy, names: &[DestinationName], bug: Option<Bug>) -> Self {
        let timers = (policy == RetryBy::Timers).then(|| names.to_vec());
        Brain { dispatcher: Mutex::new(Dispatcher::new(start)), timers, bug }
    }

    fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.dispatcher.lock().expect("the simulation has one thread")
    }

    pub(super) fn configure(&self, settings: BTreeMap<DestinationName, Arc<Destination>>, now: Now) {
        self.dispatcher().configure(settings, now);
    }

    pub(super) fn restore(
        &self,
        leases: &[(LeaseKey, WorkerId, DestinationName)],
        gates: BTreeMap<DestinationName, GateRecord>,
        with_jobs: Vec<DestinationName>,
        now: Now,
    ) {
        self.dispatcher().restore(leases, gates, with_jobs, now);
    }

    pub(super) fn heard_from(&self, worker: WorkerId, now: Now) {
        self.dispatcher().heard_from(worker, now);
    }

    pub(super) fn plan(&self, worker: WorkerId, concurrency: u32, max: u32, step: u64, now: Now) -> Planned {
        if let Some(names) = &self.timers {
            let grant = |name: &DestinationName| Grant {
                destination: name.clone(),
                max,
                destination_epoch: 0,
                released_below: 0,
                fresh: 0,
                fresh_after: jobs_core::time::Timestamp::default(),
                kind: Kind::Regular,
                begun: Tick(1),
                ok_begun: Tick::NEVER,
            };
            return Planned { grants: names.iter().map(grant).collect(), now, views: Vec::new(), step };
        }
        let mut grants = self.dispatcher().plan(worker, concurrency, max, now);
        let views = self.views();
        if self.bug == Some(Bug::ReleasesNobody) {
            grants.iter_mut().for_each(|grant| grant.released_below = 0);
        }
        Planned { grants, now, views, step }
    }

    pub(super) fn claimed(&self, planned: &Planned, claimed: &Claimed, now: Now) {
        if self.timers.is_some() {
            return;
        }
        let regular = planned.grants.iter().all(|grant| grant.kind == Kind::Regular);
        if self.bug == Some(Bug::UncountedGrants) && regular {
            let uncounted = Claimed { leases: Vec::new(), ..claimed.clone() };
            return self.dispatcher().claimed(&planned.grants, &uncounted, now);
        }
        self.dispatcher().claimed(&planned.grants, claimed, now);
    }

    pub(super) fn settled(&self, answers: &[SettleAnswer], now: Now) {
        self.dispatcher().settled(answers, now);
    }

    pub(super) fn swept(&self, swept: &Swept, now: Now) {
        self.dispatcher().swept(swept, now);
    }

    pub(super) fn job_changed(&self, job: &Job) {
        self.dispatcher().job_changed(job);
    }

    pub(super) fn pause(&self, name: &DestinationName, paused: bool, now: Now) {
        let mut dispatcher = self.dispatcher();
        if paused {
            dispatcher.pause(name, now)
        } else {
            dispatcher.resume(name, now)
        };
    }

    /// Changes of gates that are not durable yet.
    pub(super) fn changes(&self) -> Vec<Change> {
        if self.timers.is_some() { Vec::new() } else { self.dispatcher().changes() }
    }

    pub(super) fn persisted(&self, change: &Change) {
        self.dispatcher().persisted(change);
    }

    pub(super) fn releases(&self, worker: WorkerId, new: &BTreeSet<LeaseKey>) -> Vec<DestinationName> {
        if self.timers.is_some() { Vec::new() } else { self.dispatcher().releases(worker, new) }
    }

    pub(super) fn health_checks(&self, now: Now) -> Vec<DestinationName> {
        if self.timers.is_some() {
            return Vec::new();
        }
        self.dispatcher().health_checks(now).into_iter().map(|(name, _)| name).collect()
    }

    pub(super) fn health_checked(&self, name: &DestinationName, healthy: bool) {
        self.dispatcher().health_checked(name, healthy);
    }

    pub(super) fn wake_in(&self, now: Now) -> Option<Duration> {
        self.dispatcher().wake_in(now)
    }

    pub(super) fn views(&self) -> Vec<DestinationView> {
        if self.timers.is_some() { Vec::new() } else { self.dispatcher().views() }
    }

    /// Whose policies and evidence a settle is judged by.
    pub(super) fn judge(&self) -> BrainJudge<'_> {
        BrainJudge { brain: self }
    }
}

pub(super) struct BrainJudge<'a> {
    brain: &'a Brain,
}

impl Judge for BrainJudge<'_> {
    fn weigh(&self, job: &Job, epoch: Epoch, outcome: &Outcome, worker: WorkerId, now: Now) -> (Arc<Policy>, Evidence) {
        let (policy, evidence) = self.brain.dispatcher.weigh(job, epoch, outcome, worker, now);
        if self.brain.timers.is_some() {
            // Nothing is known of others, and nothing is charged.
            return (policy, Evidence { now: evidence.now, is_probe: true, ..Evidence::default() });
        }
        let ok_at = |tick| Evidence { other_ok: tick, ok_begun: tick, worker_ok: tick, ..evidence };
        let evidence = match self.brain.bug {
            Some(Bug::ChargesOutage) => Evidence { is_probe: false, ..ok_at(evidence.now) },
            Some(Bug::NeverCharges) => Evidence { others_fail: true, ..ok_at(Tick::NEVER) },
            _ => evidence,
        };
        (policy, evidence)
    }

    fn policy(&self, destination: &DestinationName) -> Arc<Policy> {
        self.brain.dispatcher.policy(destination)
    }
}
