//! One destination, as far as it matters to who may call it next: its settings, its gate, what it answered, and the leases
//! that are out.
//!
//! A change of the gate's state must be durable before anything is granted under it, or a crash would bring back an outage
//! that has ended, or jobs as failed in an epoch that never was. So a desk with an unsaved change grants nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::Bucket;
use super::evidence::Answers;
use super::leases::Leases;
use super::{Change, DestinationView};
use crate::charging::{Evidence, is_charged};
use crate::destination::{Destination, HealthCheck, OrderingOnDead, Policy};
use crate::gate::{Admission, Answer, Gate, GateSettings, GateStateName, Kind, Sent, Transition};
use crate::job::{Cause, DestinationName, Epoch, Job, Leased, Pending, State, Tick, WorkerId};
use crate::lease::LeaseKey;
use crate::outcome::{Class, Outcome};
use crate::store::{GateRecord, Grant, Lease};
use crate::time::{Mono, Now, Timestamp};

/// Of what is granted while a backlog drains, the part that is reserved for fresh jobs, in percent, so that today's callers do
/// not wait behind an outage they had no part in, nor one of them that was refused behind all the others.
const FRESH_SHARE: i64 = 20;
/// How long a job counts as fresh: accepted and due by its own time less than this ago, and not before the drain began...
pub(super) const FRESH: Duration = Duration::from_secs(5);
/// ...but for the time that a recovery may take to be noticed.
const NOTICED: Duration = Duration::from_secs(1);
/// How often a destination that is held is asked whether it is healthy.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

/// What is known of one destination.
#[derive(Debug)]
pub(super) struct Desk {
    /// `None`: configured no more, or not yet.
    pub(super) settings: Option<Arc<Destination>>,
    /// Something is known of it that a new gate would not know.
    has_past: bool,
    pub(super) policy: Arc<Policy>,
    gate: Gate,
    /// The gate as it is to be persisted; `None` once it has been.
    unsaved: Option<Unsaved>,
    leases: Leases,
    /// A probe has been granted to a claim that the store has not answered yet.
    probing: bool,
    /// From when on a job may be claimable; `None`: none is known to wait.
    due: Option<Timestamp>,
    /// When `due` was last brought forward: an older claim that found nothing says nothing about newer work.
    due_since: Tick,
    /// Since the last recovery more has always been due than was granted.
    draining: bool,
    drain_began: Timestamp,
    /// Hundredths of a lease that the fresh have not had yet; below zero what they had too many.
    fresh_credit: i64,
    bucket: Option<Bucket>,
    answers: Answers,
    last_error: Option<String>,
    next_check: Mono,
}

#[derive(Debug)]
struct Unsaved {
    record: GateRecord,
    transition: Option<Transition>,
}

impl Default for Desk {
    fn default() -> Self {
        Desk {
            settings: None,
            has_past: false,
            policy: Arc::default(),
            gate: Gate::new(GateSettings::default(), Mono::default()),
            unsaved: None,
            leases: Leases::default(),
            probing: false,
            due: None,
            due_since: Tick::NEVER,
            draining: false,
            drain_began: Timestamp::default(),
            fresh_credit: 0,
            bucket: None,
            answers: Answers::default(),
            last_error: None,
            next_check: Mono::default(),
        }
    }
}

impl Desk {
    pub(super) fn configure(&mut self, settings: Arc<Destination>, tick: Tick, now: Mono) {
        self.policy = Arc::new(settings.policy.clone());
        self.bucket = settings.rate_limit.map(|limit| Bucket::new(limit, self.bucket.as_ref()));
        if self.settings.is_none() {
            // Jobs may have waited for it all along.
            self.work_arrived(Timestamp::default(), tick);
            if self.has_past {
                self.gate.restart(now);
            } else {
                self.gate = Gate::new(capped(&settings), now);
            }
        }
        self.gate.configure(capped(&settings));
        self.settings = Some(settings);
        self.has_past = true;
    }

    /// It is configured no more.
    pub(super) fn remove(&mut self) {
        self.settings = None;
    }

    /// The gate as it was before a restart.
    pub(super) fn restore(&mut self, record: &GateRecord, now: Now) {
        let settings = self.settings.as_deref().map_or_else(GateSettings::default, capped);
        self.gate = Gate::restore(settings, record, now);
        self.has_past = true;
        (self.draining, self.drain_began) = (true, now.wall);
    }

    /// A lease that the store found in its rows after a restart.
    pub(super) fn adopt(&mut self, key: LeaseKey, worker: WorkerId, tick: Tick, now: Mono) {
        let sent = self.gate.adopt(tick, now);
        if let Some(sent) = self.leases.begin(key, worker, sent, Tick::NEVER) {
            self.gate.ended(key.job_id, sent, now);
        }
    }

    pub(super) fn work_arrived(&mut self, run_at: Timestamp, tick: Tick) {
        self.due = Some(self.due.map_or(run_at, |due| due.min(run_at)));
        self.due_since = tick;
    }

    /// From when on a waiting job is due: at once if a recovery has released it, as one whose attempt outlasted the outage.
    pub(super) fn due_at(&self, pending: &Pending) -> Timestamp {
        let released = pending.cause == Cause::Destination && pending.fail_epoch < self.gate.epoch();
        if released { Timestamp::default() } else { pending.run_at }
    }

    /// Configured, and not held by hand.
    pub(super) fn is_served(&self) -> bool {
        self.settings.is_some() && self.gate.state() != GateStateName::Paused
    }

    /// It has work that an open gate does not hold.
    pub(super) fn is_busy(&self, now: Now) -> bool {
        self.is_ready(now) && !self.gate.is_open()
    }

    /// Something could be granted, as far as limits allow.
    pub(super) fn is_ready(&self, now: Now) -> bool {
        let Some(due) = self.due.filter(|_| self.is_served() && self.unsaved.is_none()) else { return false };
        if !self.gate.is_open() {
            return due <= now.wall;
        }
        let probe = self.gate.probe(now.mono).filter(|_| !self.probing);
        probe.is_some_and(|probe| due <= now.wall || probe.kind == Kind::Probe { on_health: true })
    }

    fn max_in_flight(&self) -> u32 {
        self.settings.as_ref().and_then(|settings| settings.max_in_flight).unwrap_or(u32::MAX)
    }

    /// Takes up to `wanted` places, as far as the operator's bounds, the gate and, unless it is open, `share` allow.
    pub(super) fn reserve(&mut self, wanted: u32, share: u32, now: Mono) -> Option<Admission> {
        // Calls that hang since before the outage may take all of the share, and must not keep probes from going out.
        let share = if self.gate.is_open() { u32::MAX } else { share };
        let room = self.max_in_flight().min(share).saturating_sub(self.leases.in_flight());
        let tokens = self.bucket.as_ref().map_or(u32::MAX, |bucket| bucket.available(now));
        if self.probing && self.gate.is_open() {
            return None;
        }
        let admission = self.gate.admit(wanted.min(room).min(tokens), now)?;
        if let Some(bucket) = &mut self.bucket {
            bucket.take(admission.count, now);
        }
        self.leases.reserve(admission.count);
        self.probing |= admission.kind != Kind::Regular;
        Some(admission)
    }

    /// A grant of nothing yet, to be added to.
    pub(super) fn grant(&self, name: &DestinationName, admission: Admission, begun: Tick) -> Grant {
        Grant {
            destination: name.clone(),
            max: 0,
            destination_epoch: self.gate.epoch(),
            released_below: admission.released_below,
            fresh: 0,
            fresh_after: Timestamp::default(),
            kind: admission.kind,
            ordering_on_dead: self
                .settings
                .as_ref()
                .map_or(OrderingOnDead::Free, |known| known.policy.ordering_on_dead),
            begun,
            ok_begun: self.answers.ok_begun(),
        }
    }

    /// Reserves of a grant what is for fresh jobs. What is not a whole one is kept for the next, so that small grants are as
    /// fair as large ones.
    pub(super) fn reserve_for_fresh(&mut self, grant: &mut Grant, now: Timestamp) {
        if !self.draining {
            return;
        }
        self.fresh_credit += FRESH_SHARE * i64::from(grant.max);
        grant.fresh = u32::try_from(self.fresh_credit / 100).unwrap_or(0).min(grant.max);
        grant.fresh_after = now.minus(FRESH).max(self.drain_began.minus(NOTICED));
        self.fresh_credit -= 100 * i64::from(grant.fresh);
    }

    /// A claim under `grant` ended after `leased`, of which `fresh` were: fresh jobs come first, and had more than their part of
    /// it, or nobody had any.
    fn account_for_fresh(&mut self, grant: &Grant, leased: u32, fresh: u32) {
        let is_of_this_drain = self.draining && grant.destination_epoch == self.gate.epoch();
        if grant.fresh_after == Timestamp::default() || !is_of_this_drain {
            return;
        }
        let not_had = i64::from(grant.fresh.saturating_sub(fresh));
        let not_leased = i64::from(grant.max.saturating_sub(leased));
        // Where none came for a while, those that come are not owed for it.
        self.fresh_credit = (self.fresh_credit + 100 * not_had - FRESH_SHARE * not_leased).min(99);
    }

    /// The store has leased `leases` of what `grant` allowed; the rest of the reservation is given back.
    pub(super) fn claimed<'a>(&mut self, grant: &Grant, leases: impl Iterator<Item = &'a Lease>, now: Mono) {
        let admission = Admission { count: grant.max, released_below: grant.released_below, kind: grant.kind };
        self.leases.end_reservation(grant.max);
        self.probing &= grant.kind == Kind::Regular;
        let (mut unused, mut fresh) = (grant.max, 0);
        for lease in leases {
            unused = unused.saturating_sub(1);
            let State::Leased(Leased { worker, from, .. }) = &lease.job.state else { continue };
            fresh += u32::from(lease.job.accepted_at.min(from.run_at) > grant.fresh_after);
            let worker = *worker;
            let key = LeaseKey { job_id: lease.job.id, epoch: lease.epoch };
            let sent = self.gate.granted(key.job_id, admission, grant.begun, grant.destination_epoch, now);
            let through = self.answers.ok_through(worker);
            if let Some(sent) = self.leases.begin(key, worker, sent, through) {
                self.gate.ended(key.job_id, sent, now);
            }
        }
        self.account_for_fresh(grant, grant.max - unused, fresh);
        if unused > 0 {
            self.gate.give_back(admission, grant.destination_epoch, unused);
            if let Some(bucket) = &mut self.bucket {
                bucket.give_back(unused);
            }
        }
    }

    /// A claim under `grant` found all that is due; the next job is due at `next`.
    pub(super) fn exhausted(&mut self, grant: &Grant, next: Option<Timestamp>) {
        if self.due_since <= grant.begun {
            self.due = next;
        }
        if grant.kind == Kind::Regular && grant.destination_epoch == self.gate.epoch() {
            self.draining = false;
            self.fresh_credit = 0;
        }
        if grant.destination_epoch == self.gate.epoch() {
            self.gate.nothing_is_due(grant.kind);
        }
    }

    /// The claim of the probe `grant` found no job at all, of whatever destination, and does not say that none is due.
    pub(super) fn missed(&mut self, grant: &Grant) {
        if grant.kind != Kind::Regular && grant.destination_epoch == self.gate.epoch() {
            self.gate.nothing_is_due(grant.kind);
        }
    }

    /// A lease was settled, released, or lapsed.
    pub(super) fn lease_ended(&mut self, key: LeaseKey, now: Mono) {
        if let Some(sent) = self.leases.end(key) {
            self.gate.ended(key.job_id, sent, now);
        }
    }

    /// See [`Gate::look`].
    pub(super) fn look(&mut self, tick: Tick, now: Now) {
        if let Some(transition) = self.gate.look(now) {
            self.changed(Some(transition), tick, now);
        }
    }

    /// Judges an outcome by the others, then takes note of it.
    pub(super) fn weigh(
        &mut self,
        job: &Job,
        epoch: Epoch,
        outcome: &Outcome,
        worker: WorkerId,
        tick: Tick,
        now: Now,
    ) -> Evidence {
        let mut evidence = self.answers.evidence_about(job.id, worker, tick, self.gate.epoch());
        evidence.misconfigured = self.gate.is_misconfigured();
        let lease = match &job.state {
            State::Leased(lease) if lease.epoch == epoch => lease,
            // A late success is still a success; any other late answer has been counted as lost. Neither says how the
            // destination is now, nor when it was otherwise: nobody is judged by it.
            State::Leased(_)
            | State::Pending(_)
            | State::Succeeded { .. }
            | State::Dead { .. }
            | State::Cancelled { .. } => return evidence,
        };
        let key = LeaseKey { job_id: job.id, epoch };
        let unknown = Sent { begun: lease.begun, at: Mono::default(), epoch: 0, in_flight: 1, kind: Kind::Regular };
        let (sent, through) = self.leases.sent(key).unwrap_or((unknown, Tick::NEVER));
        let sent = Sent { begun: lease.begun, epoch: lease.destination_epoch, ..sent };
        evidence.worker_ok = through;
        evidence.is_probe = sent.kind != Kind::Regular;
        let class = outcome.class;
        let charged = class.is_retryable() && is_charged(class, lease.begun, &job.progress, &evidence);
        self.answers.note(job.id, worker, class, lease.begun, tick);
        if class != Class::Ok {
            self.last_error = outcome.in_words();
        }
        let answer = Answer { job: job.id, worker, outcome, sent, at: tick, charged };
        if let Some(transition) = self.gate.answered(&answer, now) {
            self.changed(Some(transition), tick, now);
        }
        // The refusal that showed the fault says as little about its job as those after it.
        evidence.misconfigured = self.gate.is_misconfigured();
        evidence.is_paced = self.gate.paces(now.mono);
        evidence
    }

    /// Holds it by hand, or ends that.
    pub(super) fn pause(&mut self, paused: bool, tick: Tick, now: Now) {
        self.gate.pause(paused, now.mono);
        self.changed(None, tick, now);
    }

    /// The gate's state is another: to be persisted, and told.
    fn changed(&mut self, transition: Option<Transition>, tick: Tick, now: Now) {
        let untold = self.unsaved.take().and_then(|unsaved| unsaved.transition);
        self.unsaved = Some(Unsaved { record: self.gate.record(now), transition: transition.or(untold) });
        // What an outage or a pause held may be due; a gate that opened is asked for its probes.
        self.work_arrived(Timestamp::default(), tick);
        self.has_past = true;
        (self.draining, self.drain_began, self.fresh_credit) = (true, now.wall, 0);
        self.next_check = now.mono;
    }

    pub(super) fn change(&self, name: &DestinationName) -> Option<Change> {
        let Unsaved { record, transition } = self.unsaved.as_ref()?;
        Some(Change { destination: name.clone(), record: record.clone(), transition: *transition })
    }

    /// `record` is on the disk. If the gate has not changed since, it may grant again.
    pub(super) fn persisted(&mut self, record: &GateRecord) {
        self.unsaved = self.unsaved.take().filter(|unsaved| unsaved.record != *record);
    }

    /// The health check to make now, if one is due.
    pub(super) fn take_health_check(&mut self, now: Mono) -> Option<HealthCheck> {
        let check = self.health_check()?.clone();
        if self.next_check > now {
            return None;
        }
        self.next_check = now.plus(HEALTH_INTERVAL);
        Some(check)
    }

    /// The health check, while it is of use.
    fn health_check(&self) -> Option<&HealthCheck> {
        let settings = self.settings.as_ref().filter(|_| self.is_served() && self.gate.is_open())?;
        settings.health_check.as_ref()
    }

    pub(super) fn health_checked(&mut self, healthy: bool) {
        self.gate.checked(healthy);
    }

    /// Whether `worker` holds leases that are not to be sent any more, `new` ones not counted. Not while it has a probe among
    /// them: that one is to be sent, and a worker is told of destinations only.
    pub(super) fn is_to_be_released(&self, worker: WorkerId, new: &BTreeSet<LeaseKey>) -> bool {
        (!self.is_served() || self.gate.is_open()) && self.leases.are_all_regular(worker, new)
    }

    /// How long until time alone makes something grantable here, or a health check due.
    pub(super) fn wake_in(&self, now: Now) -> Option<Duration> {
        let check = self.health_check().map(|_| self.next_check.since(now.mono));
        // What is due and may go is held back by the fleet's slots, or by a write: their ends wake.
        [check, self.grant_in(now)].into_iter().flatten().filter(|wait| !wait.is_zero()).min()
    }

    fn grant_in(&self, now: Now) -> Option<Duration> {
        if !self.is_served() || self.leases.in_flight() >= self.max_in_flight() {
            return None;
        }
        let until_due = self.due?.since(now.wall);
        let until_token = self.bucket.as_ref().map_or(Duration::ZERO, |bucket| bucket.wait(now.mono));
        Some(self.gate.wait(now.mono)?.max(until_due).max(until_token))
    }

    pub(super) fn view(&self, name: &DestinationName) -> DestinationView {
        let (since, why) = self.gate.reason().unzip();
        let state = self.gate.state();
        let (state, reason) = match &self.settings {
            None => (GateStateName::Paused, Some("removed from the settings")),
            Some(_) if state == GateStateName::Paused => (state, Some("paused by hand")),
            Some(_) => (state, why),
        };
        DestinationView {
            name: name.clone(),
            title: self.settings.as_ref().map_or_else(|| name.to_string(), |settings| settings.title.clone()),
            url: self.settings.as_ref().map(|settings| settings.url.clone()).unwrap_or_default(),
            state,
            reason: reason.map(str::to_owned),
            removed: self.settings.is_none(),
            limit: self.gate.limit(),
            rate: self.gate.rate(),
            epoch: self.gate.epoch(),
            in_flight: self.leases.in_flight(),
            cut_off: self.gate.cut_off(),
            goodput: self.gate.expected_goodput(),
            last_error: self.last_error.clone(),
            since,
        }
    }
}

/// The gate's settings, within the operator's own bound.
fn capped(settings: &Destination) -> GateSettings {
    let GateSettings { start_limit, max_limit } = settings.gate;
    let max_limit = settings.max_in_flight.map_or(max_limit, |most| most.min(max_limit));
    GateSettings { start_limit, max_limit }
}
