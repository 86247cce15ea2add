//! Who may get the next job: the gateway's memory of its destinations and workers.
//!
//! It grants claims round-robin over the destinations that have work, within their limits, and remembers what each
//! destination answered, so that a failure can be judged by the others'. What one destination may be granted is decided at
//! its desk, by its gate. All of it is soft: losing it at a restart can neither lose nor strand a job. It never looks at
//! a job that waits; the store does, within what is granted here.
//!
//! Reservations are made in [`Dispatcher::plan`] and corrected by [`Dispatcher::claimed`], so a limit holds exactly for one
//! worker or fifty without their knowing of each other.

mod bucket;
mod desk;
mod evidence;
mod leases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::desk::Desk;
use crate::charging::Evidence;
use crate::destination::{Destination, HealthCheck, Policy};
pub use crate::gate::GateStateName;
use crate::gate::{Kind, Transition};
use crate::job::{DestinationName, Epoch, Job, State, Tick, WorkerId};
use crate::lease::{LEASE_TERM, LeaseKey};
use crate::outcome::Outcome;
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

/// A worker that was heard from.
#[derive(Debug)]
struct Session {
    heard: Mono,
    concurrency: u32,
}

/// A gate whose state has changed. Until [`Dispatcher::persisted`] its destination is granted nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub destination: DestinationName,
    pub record: GateRecord,
    /// What the destination's answers brought about; `None` if it was done by hand.
    pub transition: Option<Transition>,
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
    /// Calls in flight it may have.
    pub limit: u32,
    /// Calls a second it may have; `None`: as many as the limit lets through.
    pub rate: Option<f64>,
    /// How often it has recovered.
    pub epoch: u64,
    pub in_flight: u32,
    /// Workers that cannot reach it of late, while others can: their networks' trouble, for which nobody is held.
    pub cut_off: Vec<WorkerId>,
    /// Oks a second before its latest outage, or of late: what it can be expected to take. 0 if unknown.
    pub goodput: f64,
    pub last_error: Option<String>,
    /// When it was held because of failures.
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
    pub fn configure(&mut self, mut destinations: BTreeMap<DestinationName, Arc<Destination>>, now: Now) {
        let tick = self.next_tick();
        for (name, desk) in &mut self.desks {
            match destinations.remove(name) {
                Some(settings) => desk.configure(settings, tick, now.mono),
                None => desk.remove(),
            }
        }
        for (name, settings) in destinations {
            self.desks.entry(name).or_default().configure(settings, tick, now.mono);
        }
    }

    /// What a freshly opened store holds: live leases, gates as persisted, and the destinations that have jobs. A gate that
    /// was open is open still; any other of a destination with jobs starts carefully.
    pub fn restore(
        &mut self,
        leases: &[(LeaseKey, WorkerId, DestinationName)],
        mut gates: BTreeMap<DestinationName, GateRecord>,
        with_jobs: impl IntoIterator<Item = DestinationName>,
        now: Now,
    ) {
        for name in with_jobs {
            self.work_arrived(&name, Timestamp::default());
            gates.entry(name).or_default();
        }
        for (name, gate) in gates {
            self.desk(&name).restore(&gate, now);
        }
        let tick = self.next_tick();
        for (key, worker, destination) in leases {
            self.desk(destination).adopt(*key, *worker, tick, now.mono);
        }
    }

    /// A job of `destination` may be claimable from `run_at` on.
    pub fn work_arrived(&mut self, destination: &DestinationName, run_at: Timestamp) {
        let tick = self.next_tick();
        self.desk(destination).work_arrived(run_at, tick);
    }

    /// A worker lives.
    pub fn heard_from(&mut self, worker: WorkerId, now: Now) {
        if let Some(session) = self.sessions.get_mut(&worker) {
            session.heard = now.mono;
        }
    }

    /// Workers that live, as far as is known.
    pub fn workers(&self, now: Now) -> usize {
        self.sessions.values().filter(|session| now.mono.since(session.heard) < LEASE_TERM).count()
    }

    /// What `worker`, which can have `concurrency` attempts in flight, may claim now: at most `max` in all, reserved
    /// until [`Dispatcher::claimed`] or [`Dispatcher::claim_failed`]. One grant for a destination.
    pub fn plan(&mut self, worker: WorkerId, concurrency: u32, max: u32, now: Now) -> Vec<Grant> {
        self.sessions.insert(worker, Session { heard: now.mono, concurrency });
        self.sessions.retain(|_, session| now.mono.since(session.heard) < LEASE_TERM);
        let begun = self.next_tick();
        let ready: Vec<DestinationName> = self.ready(now);
        let share = self.share(now);
        let mut grants: BTreeMap<usize, Grant> = BTreeMap::new();
        let mut left = max;
        // A first round that gives each its part, then one for what the others left.
        for quantum in [max.div_ceil(u32::try_from(ready.len().max(1)).unwrap_or(u32::MAX)), max] {
            for (place, name) in ready.iter().enumerate() {
                let desk = self.desk(name);
                if let Some(admission) = desk.reserve(quantum.min(left), share, now.mono) {
                    left -= admission.count;
                    let grant = grants.entry(place).or_insert_with(|| desk.grant(name, admission, begun));
                    grant.max += admission.count;
                    self.served = Some(name.clone());
                }
            }
        }
        let mut grants: Vec<Grant> = grants.into_values().collect();
        for grant in grants.iter_mut().filter(|grant| grant.kind == Kind::Regular) {
            self.desk(&grant.destination.clone()).reserve_for_fresh(grant, now.wall);
        }
        grants
    }

    /// The store has leased what it could of `grants`: the rest of the reservations is given back.
    pub fn claimed(&mut self, grants: &[Grant], claimed: &Claimed, now: Now) {
        for grant in grants {
            let leases = claimed.leases.iter().filter(|lease| lease.job.destination == grant.destination);
            self.desk(&grant.destination).claimed(grant, leases, now.mono);
        }
        if claimed.leases.is_empty() {
            // What kept it from its jobs may last: the next health check tries again, not the next claim.
            grants.iter().for_each(|grant| self.desk(&grant.destination).missed(grant));
        }
        for (name, next) in &claimed.exhausted {
            if let Some(grant) = grants.iter().find(|grant| grant.destination == *name) {
                self.desk(name).exhausted(grant, *next);
            }
        }
        if let (Some(grant), Some(lease)) = (grants.last(), claimed.leases.last())
            && grant.destination != lease.job.destination
            && claimed.exhausted.last().is_none_or(|(name, _)| *name != grant.destination)
        {
            // The claim ended before it came to all: the next begins with those, or a destination of large payloads would have each.
            self.served = Some(lease.job.destination.clone());
        }
    }

    /// The store could not say what it leased: whatever it was will lapse.
    pub fn claim_failed(&mut self, grants: &[Grant], now: Now) {
        self.claimed(grants, &Claimed::default(), now);
    }

    /// Leases have ended, and jobs wait again.
    pub fn settled(&mut self, answers: &[SettleAnswer], now: Now) {
        for answer in answers {
            if let SettleAnswer::Known { job, ended, .. } = answer {
                if let Some((key, _)) = ended {
                    self.desk(&job.destination).lease_ended(*key, now.mono);
                }
                self.job_changed(job);
            }
        }
    }

    /// Leases have lapsed and waiting jobs expired.
    pub fn swept(&mut self, swept: &Swept, now: Now) {
        for (key, _, job) in &swept.lapsed {
            self.desk(&job.destination).lease_ended(*key, now.mono);
            self.job_changed(job);
        }
        for job in &swept.expired {
            self.job_changed(job);
        }
    }

    /// Time has passed: opens the gates that only it was missing for. To be called now and then, and what it
    /// [changed](Dispatcher::changes) written down.
    pub fn look(&mut self, now: Now) {
        let tick = self.next_tick();
        self.desks.values_mut().for_each(|desk| desk.look(tick, now));
    }

    /// A job has another state: it may be claimable, or have made way for the next of its ordering key.
    pub fn job_changed(&mut self, job: &Job) {
        match &job.state {
            _ if job.ordering_key.is_some() => self.work_arrived(&job.destination, Timestamp::default()),
            State::Pending(pending) => {
                let run_at = self.desk(&job.destination).due_at(pending);
                self.work_arrived(&job.destination, run_at);
            }
            State::Leased(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => {}
        }
    }

    /// When a claim that [`Dispatcher::plan`] granted nothing at `now` should look again although nothing wakes it; `None`:
    /// not before something does.
    pub fn wake_in(&self, now: Now) -> Option<Duration> {
        self.desks.values().filter_map(|desk| desk.wake_in(now)).min()
    }

    /// The gates whose state has changed and is not known to be durable. Each is named until [`Dispatcher::persisted`].
    pub fn changes(&self) -> Vec<Change> {
        self.desks.iter().filter_map(|(name, desk)| desk.change(name)).collect()
    }

    /// `change` is on the disk: its destination may be granted again, unless its gate has changed once more.
    pub fn persisted(&mut self, change: &Change) {
        self.desk(&change.destination).persisted(&change.record);
    }

    /// The health checks that are due: each is to be made by one worker, and what it found told to
    /// [`Dispatcher::health_checked`].
    pub fn health_checks(&mut self, now: Now) -> Vec<(DestinationName, HealthCheck)> {
        let due = |(name, desk): (&DestinationName, &mut Desk)| {
            desk.take_health_check(now.mono).map(|check| (name.clone(), check))
        };
        self.desks.iter_mut().filter_map(due).collect()
    }

    /// What a health check found.
    pub fn health_checked(&mut self, name: &DestinationName, healthy: bool) {
        if let Some(desk) = self.desks.get_mut(name) {
            desk.health_checked(healthy);
        }
    }

    /// The destinations whose jobs `worker` is to release, as far as it has not sent them. `new`: what the answer that tells
    /// it brings along.
    pub fn releases(&self, worker: WorkerId, new: &BTreeSet<LeaseKey>) -> Vec<DestinationName> {
        let held = self.desks.iter().filter(|(_, desk)| desk.is_to_be_released(worker, new));
        held.map(|(name, _)| name.clone()).collect()
    }

    /// Holds a destination by hand. Answers whether such a destination is known.
    pub fn pause(&mut self, name: &DestinationName, now: Now) -> bool {
        self.hold(name, true, now)
    }

    /// Ends a pause. Answers whether such a destination is known.
    pub fn resume(&mut self, name: &DestinationName, now: Now) -> bool {
        self.hold(name, false, now)
    }

    /// A configured destination.
    pub fn destination(&self, name: &str) -> Option<Arc<Destination>> {
        self.desks.get(name)?.settings.clone()
    }

    /// All destinations that are configured or have jobs, by name.
    pub fn views(&self) -> Vec<DestinationView> {
        self.desks.iter().map(|(name, desk)| desk.view(name)).collect()
    }

    fn hold(&mut self, name: &DestinationName, paused: bool, now: Now) -> bool {
        let tick = self.next_tick();
        let desk = self.desks.get_mut(name);
        desk.map(|desk| desk.pause(paused, tick, now)).is_some()
    }

    /// Destinations that could be granted something, in the order of their turns.
    fn ready(&self, now: Now) -> Vec<DestinationName> {
        let all = self.desks.iter().filter(|(_, desk)| desk.is_ready(now)).map(|(name, _)| name.clone());
        let mut ready: Vec<DestinationName> = all.collect();
        let first = ready.partition_point(|name| self.served.as_ref().is_some_and(|served| name <= served));
        ready.rotate_left(first);
        ready
    }

    /// Most leases one destination may hold now; no bound where there is only one at all.
    fn share(&self, now: Now) -> u32 {
        if self.desks.values().filter(|desk| desk.is_served()).count() < 2 {
            return u32::MAX;
        }
        let busy = self.desks.values().filter(|desk| desk.is_busy(now)).count();
        let fleet: u64 = self.sessions.values().map(|session| u64::from(session.concurrency)).sum();
        let part = if busy > 1 { SHARE_AMONG_SEVERAL } else { SHARE_ALONE };
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

impl Judge for Mutex<Dispatcher> {
    fn weigh(&self, job: &Job, epoch: Epoch, outcome: &Outcome, worker: WorkerId, now: Now) -> (Arc<Policy>, Evidence) {
        let mut dispatcher = lock(self);
        let tick = dispatcher.next_tick();
        let desk = dispatcher.desk(&job.destination);
        let evidence = desk.weigh(job, epoch, outcome, worker, tick, now);
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
