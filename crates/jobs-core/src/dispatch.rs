//! Who may get the next job: the gateway's memory of its destinations and workers.
//!
//! It grants claims round-robin over the destinations that have work, within their limits, and remembers what each
//! destination answered, so that a failure can be judged by the others'. All of it is soft: losing it at a restart can neither
//! lose nor strand a job. It never looks at a job that waits; the store does, within what is granted here.
//!
//! Reservations are made in [`Dispatcher::plan`] and corrected by [`Dispatcher::claimed`], so a limit holds exactly for one
//! worker or fifty without their knowing of each other.

mod bucket;
mod evidence;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::bucket::Bucket;
use self::evidence::Answers;
use crate::charging::Evidence;
use crate::destination::{Destination, Policy};
pub use crate::gate::GateStateName;
use crate::job::{DestinationName, Epoch, Job, State, Tick, WorkerId};
use crate::lease::{LEASE_TERM, LeaseKey};
use crate::outcome::{Class, Outcome};
use crate::store::{Claimed, GateRecord, Grant, Judge, SettleAnswer, Swept};
use crate::time::{Mono, Now, Timestamp};

/// While several destinations have work, one may hold at most this share of the fleet's slots: a destination that hangs
/// must not take them all before its first timeout.
const SHARE_AMONG_SEVERAL: f64 = 0.5;
/// While only one of several destinations has work it may hold more, but not the slots another would need to start at once.
const SHARE_ALONE: f64 = 0.875;

/// The gateway's memory of destinations and workers. Wrap it in a [`Mutex`]; every method is short.
#[derive(Debug)]
pub struct Dispatcher {
    tick: Tick,
    desks: BTreeMap<DestinationName, Desk>,
    sessions: BTreeMap<WorkerId, Session>,
    /// The destination after which the next round begins.
    served: Option<DestinationName>,
}

/// What is known of one destination.
#[derive(Debug, Default)]
struct Desk {
    /// `None`: configured no more, or not yet.
    settings: Option<Arc<Destination>>,
    policy: Arc<Policy>,
    gate: GateRecord,
    /// Leases and reservations.
    in_flight: u32,
    /// From when on a job may be claimable; `None`: none is known to wait.
    due: Option<Timestamp>,
    /// When `due` was last brought forward: an older claim that found nothing says nothing about newer work.
    due_since: Tick,
    bucket: Option<Bucket>,
    answers: Answers,
    last_error: Option<String>,
}

/// A worker that was heard from.
#[derive(Debug)]
struct Session {
    heard: Mono,
    concurrency: u32,
}

/// A destination as shown to people.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationView {
    pub name: DestinationName,
    pub title: String,
    /// Empty where it is configured no more.
    pub url: String,
    pub state: GateStateName,
    /// Why it is held, where it is.
    pub reason: Option<String>,
    /// Configured no more: its jobs wait until it is again.
    pub removed: bool,
    pub limit: Option<u32>,
    pub in_flight: u32,
    pub last_error: Option<String>,
    pub since: Option<Timestamp>,
}

impl Dispatcher {
    /// `start`: of the store, see [`crate::store::JobStore::start`].
    pub fn new(start: u32) -> Self {
        Dispatcher {
            tick: Tick::first_of_start(start),
            desks: BTreeMap::new(),
            sessions: BTreeMap::new(),
            served: None,
        }
    }

    /// The destinations as configured, at the start and at each reload. One that is no longer listed is held, with its jobs.
    pub fn configure(&mut self, mut destinations: BTreeMap<DestinationName, Arc<Destination>>) {
        let tick = self.next_tick();
        for (name, desk) in &mut self.desks {
            if let Some(settings) = destinations.remove(name) {
                desk.configure(settings, tick);
            } else {
                desk.settings = None;
            }
        }
        for (name, settings) in destinations {
            self.desks.entry(name).or_default().configure(settings, tick);
        }
    }

    /// What a freshly opened store holds: live leases, gates as persisted, and the destinations that have jobs.
    pub fn restore(
        &mut self,
        leases: &[(LeaseKey, WorkerId, DestinationName)],
        gates: BTreeMap<DestinationName, GateRecord>,
        with_jobs: impl IntoIterator<Item = DestinationName>,
    ) {
        for (_, _, destination) in leases {
            self.desk(destination).in_flight += 1;
        }
        for (name, gate) in gates {
            self.desk(&name).gate = gate;
        }
        for name in with_jobs {
            self.work_arrived(&name, Timestamp::default());
        }
    }

    /// A job of `destination` may be claimable from `run_at` on.
    pub fn work_arrived(&mut self, destination: &DestinationName, run_at: Timestamp) {
        let tick = self.next_tick();
        let desk = self.desk(destination);
        desk.due = Some(desk.due.map_or(run_at, |due| due.min(run_at)));
        desk.due_since = tick;
    }

    /// A worker lives.
    pub fn heard_from(&mut self, worker: WorkerId, now: Now) {
        if let Some(session) = self.sessions.get_mut(&worker) {
            session.heard = now.mono;
        }
    }

    /// What `worker`, which can have `concurrency` attempts in flight, may claim now: at most `max` in all, reserved
    /// until [`Dispatcher::claimed`] or [`Dispatcher::claim_failed`].
    pub fn plan(&mut self, worker: WorkerId, concurrency: u32, max: u32, now: Now) -> Vec<Grant> {
        self.sessions.insert(worker, Session { heard: now.mono, concurrency });
        self.sessions.retain(|_, session| now.mono.since(session.heard) < LEASE_TERM);
        let begun = self.next_tick();
        let ready: Vec<DestinationName> = self.ready(now);
        let share = self.share(ready.len());
        let mut grants: BTreeMap<usize, Grant> = BTreeMap::new();
        let mut left = max;
        // A first round that gives each its part, then one for what the others left.
        for quantum in [max.div_ceil(u32::try_from(ready.len().max(1)).unwrap_or(u32::MAX)), max] {
            for (place, name) in ready.iter().enumerate() {
                let desk = self.desk(name);
                let count = desk.reserve(quantum.min(left), share, now.mono);
                if count > 0 {
                    left -= count;
                    let grant = grants.entry(place).or_insert_with(|| desk.grant(name, begun));
                    grant.max += count;
                    self.served = Some(name.clone());
                }
            }
        }
        grants.into_values().collect()
    }

    /// The store has leased what it could of `grants`: the rest of the reservations is given back.
    pub fn claimed(&mut self, grants: &[Grant], claimed: &Claimed) {
        let mut unused: BTreeMap<&DestinationName, u32> =
            grants.iter().map(|grant| (&grant.destination, grant.max)).collect();
        for lease in &claimed.leases {
            if let Some(count) = unused.get_mut(&lease.job.destination) {
                *count = count.saturating_sub(1);
            }
        }
        for (name, count) in unused {
            self.desk(name).give_back(count);
        }
        for (name, next) in &claimed.exhausted {
            let begun = grants.iter().find(|grant| grant.destination == *name).map(|grant| grant.begun);
            let desk = self.desk(name);
            if begun.is_some_and(|begun| desk.due_since <= begun) {
                desk.due = *next;
            }
        }
    }

    /// The store could not say what it leased: whatever it was will lapse.
    pub fn claim_failed(&mut self, grants: &[Grant]) {
        for grant in grants {
            self.desk(&grant.destination).give_back(grant.max);
        }
    }

    /// Leases have ended, and jobs wait again.
    pub fn settled(&mut self, answers: &[SettleAnswer]) {
        for answer in answers {
            if let SettleAnswer::Known { job, ended, .. } = answer {
                if ended.is_some() {
                    self.lease_ended(&job.destination);
                }
                self.job_changed(job);
            }
        }
    }

    /// Leases have lapsed and waiting jobs expired.
    pub fn swept(&mut self, swept: &Swept) {
        for (_, _, job) in &swept.lapsed {
            self.lease_ended(&job.destination);
            self.job_changed(job);
        }
        for job in &swept.expired {
            self.job_changed(job);
        }
    }

    /// A job has another state: it may be claimable, or have made way for the next of its ordering key.
    pub fn job_changed(&mut self, job: &Job) {
        match &job.state {
            _ if job.ordering_key.is_some() => self.work_arrived(&job.destination, Timestamp::default()),
            State::Pending(pending) => self.work_arrived(&job.destination, pending.run_at),
            State::Leased(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => {}
        }
    }

    /// When a parked claim should look again although nothing wakes it; `None`: not before something does.
    pub fn wake_in(&self, now: Now) -> Option<Duration> {
        self.desks.values().filter_map(|desk| desk.wake_in(now)).min()
    }

    /// Holds a destination by hand. Answers the gate to persist; `None` if no such destination is known.
    pub fn pause(&mut self, name: &DestinationName) -> Option<GateRecord> {
        let desk = self.desks.get_mut(name)?;
        desk.gate.paused = true;
        Some(desk.gate.clone())
    }

    /// Ends a pause. Answers the gate to persist; `None` if no such destination is known.
    pub fn resume(&mut self, name: &DestinationName) -> Option<GateRecord> {
        self.work_arrived_if_known(name);
        let desk = self.desks.get_mut(name)?;
        desk.gate.paused = false;
        Some(desk.gate.clone())
    }

    /// A configured destination.
    pub fn destination(&self, name: &str) -> Option<Arc<Destination>> {
        self.desks.get(name)?.settings.clone()
    }

    /// All destinations that are configured or have jobs, by name.
    pub fn views(&self) -> Vec<DestinationView> {
        self.desks.iter().map(|(name, desk)| desk.view(name)).collect()
    }

    fn work_arrived_if_known(&mut self, name: &DestinationName) {
        if self.desks.contains_key(name) {
            self.work_arrived(name, Timestamp::default());
        }
    }

    fn lease_ended(&mut self, destination: &DestinationName) {
        let desk = self.desk(destination);
        desk.in_flight = desk.in_flight.saturating_sub(1);
    }

    /// Destinations that could be granted something, in the order of their turns.
    fn ready(&self, now: Now) -> Vec<DestinationName> {
        let is_ready = |desk: &Desk| desk.is_served() && desk.due.is_some_and(|due| due <= now.wall);
        let all = self.desks.iter().filter(|(_, desk)| is_ready(desk)).map(|(name, _)| name.clone());
        let mut ready: Vec<DestinationName> = all.collect();
        let first = ready.partition_point(|name| self.served.as_ref().is_some_and(|served| name <= served));
        ready.rotate_left(first);
        ready
    }

    /// Most leases one destination may hold while `ready` of them have work; no bound where there is only one at all.
    fn share(&self, ready: usize) -> u32 {
        if self.desks.values().filter(|desk| desk.is_served()).count() < 2 {
            return u32::MAX;
        }
        let fleet: u64 = self.sessions.values().map(|session| u64::from(session.concurrency)).sum();
        let part = if ready > 1 { SHARE_AMONG_SEVERAL } else { SHARE_ALONE };
        // A cast of a float saturates; one slot at least, or a fleet of one worker with one slot would never start.
        ((fleet as f64 * part) as u32).max(1)
    }

    fn desk(&mut self, name: &DestinationName) -> &mut Desk {
        if !self.desks.contains_key(name) {
            self.desks.insert(name.clone(), Desk::default());
        }
        self.desks.get_mut(name).expect("inserted above if it was missing")
    }

    fn next_tick(&mut self) -> Tick {
        self.tick = self.tick.next();
        self.tick
    }
}

impl Desk {
    fn configure(&mut self, settings: Arc<Destination>, tick: Tick) {
        self.policy = Arc::new(settings.policy.clone());
        self.bucket = settings.rate_limit.map(|limit| Bucket::new(limit, self.bucket.as_ref()));
        if self.settings.is_none() {
            // Jobs may have waited for it all along.
            self.due = Some(Timestamp::default());
            self.due_since = tick;
        }
        self.settings = Some(settings);
    }

    fn is_served(&self) -> bool {
        self.settings.is_some() && !self.gate.paused
    }

    fn limit(&self) -> Option<u32> {
        self.settings.as_ref().and_then(|settings| settings.max_in_flight)
    }

    /// Takes up to `wanted` places, as far as limit, `share` and rate allow; answers how many.
    fn reserve(&mut self, wanted: u32, share: u32, now: Mono) -> u32 {
        let room = self.limit().unwrap_or(u32::MAX).min(share).saturating_sub(self.in_flight);
        let wanted = wanted.min(room);
        let count = self.bucket.as_mut().map_or(wanted, |bucket| bucket.take(wanted, now));
        self.in_flight += count;
        count
    }

    fn give_back(&mut self, count: u32) {
        self.in_flight = self.in_flight.saturating_sub(count);
        if let Some(bucket) = &mut self.bucket {
            bucket.give_back(count);
        }
    }

    fn grant(&self, name: &DestinationName, begun: Tick) -> Grant {
        Grant {
            destination: name.clone(),
            max: 0,
            destination_epoch: self.gate.epoch,
            begun,
            ok_begun: self.answers.ok_begun(),
        }
    }

    /// How long until time alone makes something grantable here. A full destination is woken by its settles instead.
    fn wake_in(&self, now: Now) -> Option<Duration> {
        if !self.is_served() || self.limit().is_some_and(|limit| self.in_flight >= limit) {
            return None;
        }
        let until_due = self.due?.since(now.wall);
        let until_token = self.bucket.as_ref().map_or(Duration::ZERO, |bucket| bucket.wait(now.mono));
        // What is due and has a token is held back by the fleet's slots: its settles wake.
        Some(until_due.max(until_token)).filter(|wait| !wait.is_zero())
    }

    fn view(&self, name: &DestinationName) -> DestinationView {
        let held = !self.is_served();
        let reason = match (&self.settings, self.gate.paused) {
            (None, _) => Some("removed from the settings".to_owned()),
            (Some(_), true) => Some("paused by hand".to_owned()),
            (Some(_), false) => None,
        };
        DestinationView {
            name: name.clone(),
            title: self.settings.as_ref().map_or_else(|| name.to_string(), |settings| settings.title.clone()),
            url: self.settings.as_ref().map(|settings| settings.url.clone()).unwrap_or_default(),
            state: if held { GateStateName::Paused } else { GateStateName::Closed },
            reason,
            removed: self.settings.is_none(),
            limit: self.limit(),
            in_flight: self.in_flight,
            last_error: self.last_error.clone(),
            since: self.gate.open.as_ref().map(|(since, _)| *since),
        }
    }

    /// Judges an outcome by the others, then takes note of it.
    fn weigh(&mut self, job: &Job, epoch: Epoch, outcome: &Outcome, worker: WorkerId, tick: Tick) -> Evidence {
        let evidence = self.answers.evidence_about(job.id, worker, tick, self.gate.epoch);
        let begun = match &job.state {
            State::Leased(lease) if lease.epoch == epoch => lease.begun,
            // A late success is still a success; any other late answer has been counted as lost.
            State::Leased(_) | State::Pending(_) | State::Dead { .. } | State::Cancelled { .. }
                if outcome.class == Class::Ok =>
            {
                Tick::NEVER
            }
            State::Leased(_)
            | State::Pending(_)
            | State::Succeeded { .. }
            | State::Dead { .. }
            | State::Cancelled { .. } => return evidence,
        };
        self.answers.note(job.id, worker, outcome.class, begun, tick);
        if outcome.class != Class::Ok {
            self.last_error =
                outcome.error.clone().or_else(|| outcome.status.map(|status| format!("answered {status}")));
        }
        evidence
    }
}

impl Judge for Mutex<Dispatcher> {
    fn weigh(
        &self,
        job: &Job,
        epoch: Epoch,
        outcome: &Outcome,
        worker: WorkerId,
        _now: Now,
    ) -> (Arc<Policy>, Evidence) {
        let mut dispatcher = lock(self);
        let tick = dispatcher.next_tick();
        let desk = dispatcher.desk(&job.destination);
        let evidence = desk.weigh(job, epoch, outcome, worker, tick);
        (Arc::clone(&desk.policy), evidence)
    }

    fn policy(&self, destination: &DestinationName) -> Arc<Policy> {
        Arc::clone(&lock(self).desk(destination).policy)
    }
}

/// The lock, also after a panic elsewhere: what it guards is soft state, and every method leaves it usable.
fn lock(dispatcher: &Mutex<Dispatcher>) -> MutexGuard<'_, Dispatcher> {
    dispatcher.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
