//! The waiting jobs of one destination, kept so that a claim finds the next one without looking at the others.
//!
//! A lane holds copies of what decides about a claim, never the jobs themselves: `put` after a change and `take` before the
//! next one keep it true. Within an ordering key only the head can be claimed: the job accepted first among those that wait,
//! are leased, or are dead and block, and it only while no other job of the key is leased (which happens after a redrive of an
//! earlier one).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::shelf::Record;
use crate::job::{Cause, Priority, State};
use crate::time::Timestamp;

/// A waiting job, as far as a claim looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    priority: Reverse<Priority>,
    run_at: Timestamp,
    seq: u64,
    /// For a job that its destination failed: the destination's epoch at that claim. A later epoch releases the job.
    outage: Option<u64>,
    accepted_at: Timestamp,
}

/// An unfinished job's part in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting(Waiting),
    Leased,
    /// Dead, and nobody of its ordering key may pass.
    Blocking,
}

impl Place {
    fn of(record: &Record) -> Option<Place> {
        let job = &record.job;
        match &job.state {
            State::Pending(pending) => Some(Place::Waiting(Waiting {
                priority: Reverse(job.priority),
                run_at: pending.run_at,
                seq: job.seq,
                outage: (pending.cause == Cause::Destination).then_some(pending.fail_epoch),
                accepted_at: job.accepted_at,
            })),
            State::Leased(_) => Some(Place::Leased),
            State::Dead { .. } if record.blocks => Some(Place::Blocking),
            State::Dead { .. } | State::Succeeded { .. } | State::Cancelled { .. } => None,
        }
    }
}

/// The jobs of one ordering key that are not done with, in the order of acceptance.
#[derive(Debug, Clone, Default)]
struct Chain {
    places: BTreeMap<u64, Place>,
    leased: usize,
}

impl Chain {
    fn claimable(&self) -> Option<Waiting> {
        match self.places.first_key_value() {
            Some((_, Place::Waiting(waiting))) if self.leased == 0 => Some(*waiting),
            Some((_, Place::Waiting(_) | Place::Leased | Place::Blocking)) | None => None,
        }
    }

    fn insert(&mut self, seq: u64, place: Place) {
        self.leased += usize::from(place == Place::Leased);
        self.places.insert(seq, place);
    }

    fn remove(&mut self, seq: u64) {
        if self.places.remove(&seq) == Some(Place::Leased) {
            self.leased -= 1;
        }
    }
}

/// One destination's unfinished jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    /// All that wait, heads or not.
    waiting: BTreeSet<(Timestamp, u64)>,
    /// The heads, in the order of a claim by their own time, with when they were accepted.
    heads: BTreeMap<(Reverse<Priority>, Timestamp, u64), Timestamp>,
    /// Those heads that an outage made wait, by its epoch, in the order of a claim once they are released.
    outages: BTreeMap<u64, BTreeSet<(Reverse<Priority>, u64)>>,
    chains: BTreeMap<String, Chain>,
}

impl Lane {
    /// A job came, or has changed.
    pub(super) fn put(&mut self, record: &Record) {
        let Some(place) = Place::of(record) else { return };
        let seq = record.job.seq;
        if let Place::Waiting(waiting) = place {
            self.waiting.insert((waiting.run_at, seq));
        }
        match (&record.job.ordering_key, place) {
            (Some(key), _) => self.change_chain(key, |chain| chain.insert(seq, place)),
            (None, Place::Waiting(waiting)) => self.show(waiting),
            (None, Place::Leased | Place::Blocking) => {}
        }
    }

    /// A job is about to change, or to go.
    pub(super) fn take(&mut self, record: &Record) {
        let Some(place) = Place::of(record) else { return };
        let seq = record.job.seq;
        if let Place::Waiting(waiting) = place {
            self.waiting.remove(&(waiting.run_at, seq));
        }
        match (&record.job.ordering_key, place) {
            (Some(key), _) => self.change_chain(key, |chain| chain.remove(seq)),
            (None, Place::Waiting(waiting)) => self.hide(waiting),
            (None, Place::Leased | Place::Blocking) => {}
        }
    }

    /// Holds up the job's ordering key, as one that is leased for ever would.
    #[cfg(any(test, feature = "conformance"))]
    pub(super) fn jam(&mut self, record: &Record) {
        if let Some(key) = &record.job.ordering_key {
            self.change_chain(key, |chain| chain.insert(record.job.seq, Place::Leased));
        }
    }

    /// The next job in the order of a regular claim that is due, whatever its own deadline says.
    pub(super) fn first_due(&self, released_below: u64, now: Timestamp) -> Option<u64> {
        highest_first().find_map(|priority| {
            let released = self.released(priority, released_below).map(|seq| (Timestamp::default(), seq));
            released.into_iter().chain(self.due(priority, now)).min().map(|(_, seq)| seq)
        })
    }

    /// The next job in the order of a claim that was accepted and fell due after `before`.
    pub(super) fn first_fresh(&self, before: Timestamp, now: Timestamp) -> Option<u64> {
        if before >= now {
            return None; // the clock was set back
        }
        highest_first().find_map(|priority| {
            let lately = (Bound::Excluded((priority, before, u64::MAX)), Bound::Included((priority, now, u64::MAX)));
            let mut fresh = self.heads.range(lately).filter(|(_, accepted)| **accepted > before);
            fresh.next().map(|((_, _, seq), _)| *seq)
        })
    }

    /// The next job in the order of a probe.
    pub(super) fn first_to_probe(&self, released_below: u64, now: Timestamp) -> Option<u64> {
        let due = highest_first().filter_map(|priority| {
            let (run_at, seq) = self.due(priority, now)?;
            Some((run_at, priority, seq))
        });
        let released = || highest_first().find_map(|priority| self.released(priority, released_below));
        due.min().map(|(_, _, seq)| seq).or_else(released)
    }

    /// The first head of a priority that is due by its own time.
    fn due(&self, priority: Reverse<Priority>, now: Timestamp) -> Option<(Timestamp, u64)> {
        let earliest = (priority, Timestamp::default(), 0);
        let mut due = self.heads.range(earliest..=(priority, now, u64::MAX));
        due.next().map(|((_, run_at, seq), _)| (*run_at, *seq))
    }

    /// The first head of a priority that an outage made wait, of those that are released.
    fn released(&self, priority: Reverse<Priority>, released_below: u64) -> Option<u64> {
        let outages = self.outages.range(..released_below);
        let firsts = outages.filter_map(|(_, heads)| heads.range((priority, 0)..=(priority, u64::MAX)).next());
        firsts.map(|(_, seq)| *seq).min()
    }

    /// When the next head that is not due yet falls due by its own `run_at`.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let after_now = |priority| (Bound::Excluded((priority, now, u64::MAX)), Bound::Unbounded);
        highest_first()
            .filter_map(|priority| {
                let next = self.heads.range(after_now(priority)).next();
                next.filter(|((found, ..), _)| *found == priority).map(|((_, run_at, _), _)| *run_at)
            })
            .min()
    }

    /// When the oldest of all that wait is due by its own `run_at`.
    pub(super) fn oldest_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(run_at, _)| *run_at)
    }

    /// A claim passes a waiting head over: [`Lane::first_due`] no longer answers with it until [`Lane::relist`].
    pub(super) fn pass_over(&mut self, record: &Record) {
        if let Some(Place::Waiting(waiting)) = Place::of(record) {
            self.hide(waiting);
        }
    }

    /// The claim that passed a head over has ended.
    pub(super) fn relist(&mut self, record: &Record) {
        if let Some(Place::Waiting(waiting)) = Place::of(record) {
            self.show(waiting);
        }
    }

    fn change_chain(&mut self, key: &str, change: impl FnOnce(&mut Chain)) {
        let chain = self.chains.entry(key.to_owned()).or_default();
        let before = chain.claimable();
        change(chain);
        let after = chain.claimable();
        if chain.places.is_empty() {
            self.chains.remove(key);
        }
        if before != after {
            before.into_iter().for_each(|waiting| self.hide(waiting));
            after.into_iter().for_each(|waiting| self.show(waiting));
        }
    }

    fn show(&mut self, waiting: Waiting) {
        self.heads.insert((waiting.priority, waiting.run_at, waiting.seq), waiting.accepted_at);
        if let Some(epoch) = waiting.outage {
            self.outages.entry(epoch).or_default().insert((waiting.priority, waiting.seq));
        }
    }

    fn hide(&mut self, waiting: Waiting) {
        self.heads.remove(&(waiting.priority, waiting.run_at, waiting.seq));
        if let Some(epoch) = waiting.outage
            && let Some(heads) = self.outages.get_mut(&epoch)
        {
            heads.remove(&(waiting.priority, waiting.seq));
            if heads.is_empty() {
                self.outages.remove(&epoch);
            }
        }
    }
}

fn highest_first() -> impl Iterator<Item = Reverse<Priority>> {
    (0..=Priority::MAX.level()).rev().filter_map(Priority::new).map(Reverse)
}
