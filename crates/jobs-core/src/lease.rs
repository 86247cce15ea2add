//! Who holds what, until when: the part of a lease that lives in memory, on the monotonic clock.
//!
//! A lease is renewed only by a heartbeat that lists it, so one whose claim answer was lost on the way lapses although its
//! worker lives, and all leases of a dead worker lapse together. A store embeds one table; after a start every lease it
//! finds in its rows gets a full term, and so does every lease after a stall of the gateway itself, whose own silence
//! says nothing about its workers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{DestinationName, Epoch, JobId, WorkerId};
use crate::time::Mono;

/// How long a lease lasts without being renewed. Five missed heartbeats; short, because a dead worker's jobs wait it out.
pub const LEASE_TERM: Duration = Duration::from_secs(5);
/// How often a worker renews.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often the gateway looks for lapsed leases. With [`LEASE_TERM`] it bounds how long a dead worker's jobs wait.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// A sweep this late means that the gateway itself stood still, and may not have heard heartbeats that were sent.
pub const STALL: Duration = Duration::from_secs(2);

/// A lease by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct LeaseKey {
    pub job_id: JobId,
    pub epoch: Epoch,
}

/// A live lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub epoch: Epoch,
    pub worker: WorkerId,
    pub destination: DestinationName,
    pub cancel_requested: bool,
    pub deadline: Mono,
}

impl Held {
    /// A full term from `now` on. Never shorter than before: what asks for it may have waited, and its `now` be the older one.
    fn renew(&mut self, now: Mono) {
        self.deadline = self.deadline.max(now.plus(LEASE_TERM));
    }
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extended {
    /// No longer the worker's: it may not start these calls.
    pub lost: Vec<LeaseKey>,
    /// Still the worker's, but nobody wants them any more.
    pub cancel: Vec<LeaseKey>,
}

/// The live leases of one store; at most one per job.
#[derive(Debug, Clone, Default)]
pub struct LeaseTable {
    held: BTreeMap<JobId, Held>,
    swept: Option<Mono>,
}

impl LeaseTable {
    /// A lease begins, or is found in a row after a start.
    pub fn grant(
        &mut self,
        key: LeaseKey,
        worker: WorkerId,
        destination: DestinationName,
        cancel_requested: bool,
        now: Mono,
    ) {
        let held = Held { epoch: key.epoch, worker, destination, cancel_requested, deadline: now.plus(LEASE_TERM) };
        self.held.insert(key.job_id, held);
    }

    /// A lease ends. Another epoch's lease of the same job stays.
    pub fn end(&mut self, key: LeaseKey) {
        if self.held.get(&key.job_id).is_some_and(|held| held.epoch == key.epoch) {
            self.held.remove(&key.job_id);
        }
    }

    /// The holder of a job, if any, is to be told at its next heartbeat that nobody wants it.
    pub fn request_cancel(&mut self, job_id: JobId) {
        if let Some(held) = self.held.get_mut(&job_id) {
            held.cancel_requested = true;
        }
    }

    /// Renews those of `holding` that are `worker`'s for a full term from now.
    pub fn extend(&mut self, worker: WorkerId, holding: &[LeaseKey], now: Mono) -> Extended {
        let mut extended = Extended::default();
        for key in holding {
            match self.held.get_mut(&key.job_id) {
                Some(held) if held.epoch == key.epoch && held.worker == worker => {
                    held.renew(now);
                    if held.cancel_requested {
                        extended.cancel.push(*key);
                    }
                }
                Some(_) | None => extended.lost.push(*key),
            }
        }
        extended
    }

    /// The leases whose deadline has passed. They stay until [`LeaseTable::end`]. After a stall none has: all get a full term.
    pub fn overdue(&mut self, now: Mono) -> Vec<LeaseKey> {
        let stalled = self.swept.is_some_and(|swept| now.since(swept) > STALL);
        self.swept = Some(now);
        if stalled {
            self.held.values_mut().for_each(|held| held.renew(now));
        }
        let overdue = self.held.iter().filter(|(_, held)| held.deadline <= now);
        overdue.map(|(job_id, held)| LeaseKey { job_id: *job_id, epoch: held.epoch }).collect()
    }

    /// All live leases, by job.
    pub fn iter(&self) -> impl Iterator<Item = (&JobId, &Held)> {
        self.held.iter()
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn key(job: u128, counter: u32) -> LeaseKey {
        LeaseKey { job_id: JobId(Uuid::from_u128(job)), epoch: Epoch::new(1, counter) }
    }

    fn worker(n: u128) -> WorkerId {
        WorkerId(Uuid::from_u128(n))
    }

    fn table(keys: &[LeaseKey]) -> LeaseTable {
        let mut table = LeaseTable::default();
        for key in keys {
            table.grant(*key, worker(1), "api2".parse().unwrap(), false, Mono::from_millis(0));
        }
        table
    }

    /// Sweeps every quarter second, as the gateway does, up to `until_ms`; answers the first overdue leases and when.
    fn sweep(table: &mut LeaseTable, from_ms: u64, until_ms: u64) -> Option<(u64, Vec<LeaseKey>)> {
        (from_ms..=until_ms).step_by(250).find_map(|ms| {
            let overdue = table.overdue(Mono::from_millis(ms));
            (!overdue.is_empty()).then_some((ms, overdue))
        })
    }

    #[test]
    fn a_lease_nobody_renews_is_overdue_after_its_term() {
        let mut table = table(&[key(1, 1)]);
        assert_eq!(sweep(&mut table, 0, 10_000), Some((5_000, vec![key(1, 1)])));
    }

    #[test]
    fn only_listed_leases_are_renewed() {
        let mut table = table(&[key(1, 1), key(2, 2)]);
        assert_eq!(sweep(&mut table, 0, 4_000), None);
        assert_eq!(table.extend(worker(1), &[key(1, 1)], Mono::from_millis(4_000)), Extended::default());
        assert_eq!(sweep(&mut table, 4_250, 8_000), Some((5_000, vec![key(2, 2)])));
    }

    #[test]
    fn a_stale_epoch_or_another_worker_has_lost_the_lease() {
        let mut table = table(&[key(1, 2)]);
        assert_eq!(table.extend(worker(1), &[key(1, 1)], Mono::from_millis(1)).lost, [key(1, 1)]);
        assert_eq!(table.extend(worker(2), &[key(1, 2)], Mono::from_millis(1)).lost, [key(1, 2)]);
    }

    #[test]
    fn ending_an_old_lease_leaves_the_new_one() {
        let mut table = table(&[key(1, 2)]);
        table.end(key(1, 1));
        assert_eq!(table.len(), 1);
        table.end(key(1, 2));
        assert!(table.is_empty());
    }

    #[test]
    fn after_a_stall_of_the_gateway_every_lease_gets_a_full_term() {
        let mut table = table(&[key(1, 1)]);
        assert_eq!(sweep(&mut table, 0, 1_000), None);
        assert_eq!(sweep(&mut table, 60_000, 70_000), Some((65_000, vec![key(1, 1)])));
    }

    #[test]
    fn what_waited_for_its_turn_shortens_no_lease() {
        let mut table = table(&[key(1, 1)]);
        assert_eq!(table.overdue(Mono::from_millis(0)), []);
        // A stall. The sweep is asked for first, and then waits for the writer; a heartbeat overtakes it.
        let (asked, heard) = (60_000, 60_003);
        assert_eq!(table.extend(worker(1), &[key(1, 1)], Mono::from_millis(heard)), Extended::default());
        assert_eq!(table.overdue(Mono::from_millis(asked)), []);
        assert_eq!(sweep(&mut table, asked + 250, 64_750), None);
        assert_eq!(table.overdue(Mono::from_millis(65_002)), []);
        assert_eq!(table.overdue(Mono::from_millis(65_003)), [key(1, 1)]);
        assert_eq!(table.extend(worker(1), &[key(1, 1)], Mono::from_millis(66_000)), Extended::default());
        assert_eq!(table.extend(worker(1), &[key(1, 1)], Mono::from_millis(65_500)), Extended::default());
        assert_eq!(sweep(&mut table, 65_250, 72_000), Some((71_000, vec![key(1, 1)])));
    }

    #[test]
    fn a_holder_learns_of_a_cancel_at_its_next_heartbeat() {
        let mut table = table(&[key(1, 1)]);
        table.request_cancel(key(1, 1).job_id);
        assert_eq!(table.extend(worker(1), &[key(1, 1)], Mono::from_millis(1)).cancel, [key(1, 1)]);
    }
}
