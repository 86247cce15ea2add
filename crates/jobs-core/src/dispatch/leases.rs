//! The leases of one destination that are out, and the places kept for claims that are under way.

use std::collections::{BTreeMap, BTreeSet};

use crate::gate::{Kind, Sent};
use crate::job::{Tick, WorkerId};
use crate::lease::LeaseKey;

#[derive(Debug, Default)]
pub(super) struct Leases {
    held: BTreeMap<LeaseKey, Held>,
    /// Leases that ended before it was told here that they had begun: the store had answered the settle before the claim.
    ended_early: BTreeSet<LeaseKey>,
    /// Granted to claims that the store has not answered yet.
    reserved: u32,
}

#[derive(Debug)]
struct Held {
    worker: WorkerId,
    sent: Sent,
    /// When, of all before it was granted, the latest ok through its worker arrived.
    through: Tick,
}

impl Leases {
    /// Leases and reservations.
    pub(super) fn in_flight(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX).saturating_add(self.reserved)
    }

    pub(super) fn reserve(&mut self, count: u32) {
        self.reserved += count;
    }

    pub(super) fn end_reservation(&mut self, count: u32) {
        self.reserved = self.reserved.saturating_sub(count);
    }

    /// A lease is out. Answers with what was sent if it has ended by now.
    #[must_use]
    pub(super) fn begin(&mut self, key: LeaseKey, worker: WorkerId, sent: Sent, through: Tick) -> Option<Sent> {
        if self.ended_early.remove(&key) {
            return Some(sent);
        }
        self.held.insert(key, Held { worker, sent, through });
        None
    }

    /// A lease was settled, released, or lapsed: what was sent under it, if that is known.
    pub(super) fn end(&mut self, key: LeaseKey) -> Option<Sent> {
        let held = self.held.remove(&key);
        if held.is_none() {
            self.ended_early.insert(key);
        }
        held.map(|held| held.sent)
    }

    /// What was sent under a live lease, and when before that the latest ok through its worker had arrived.
    pub(super) fn sent(&self, key: LeaseKey) -> Option<(Sent, Tick)> {
        self.held.get(&key).map(|held| (held.sent, held.through))
    }

    /// Whether `worker` holds leases, `new` ones not counted, and no probe among them.
    pub(super) fn are_all_regular(&self, worker: WorkerId, new: &BTreeSet<LeaseKey>) -> bool {
        let mut held = self.held.iter().filter(|(key, held)| held.worker == worker && !new.contains(key)).peekable();
        held.peek().is_some() && held.all(|(_, held)| held.sent.kind == Kind::Regular)
    }
}
