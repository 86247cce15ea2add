//! claim: which waiting jobs go next, and to whom.
//!
//! The order is that of [`jobs_core::store::JobStore::claim`]: priority, then the lower of (`run_at`, or 0 if a recovery has
//! released the job; `seq`). The cost of a claim does not depend on how many jobs wait. Due jobs are the first entries of an
//! index; jobs behind another of their ordering key are in another part of it. Released jobs are the first entries of a second
//! index, by the outage that made them wait; outages with jobs left are few, because these jobs go before all others of
//! their priority once released. So a recovery rewrites no row: the two lists are merged here. Fresh jobs are the last due
//! entries of the first index, and looked for among few.

use std::collections::BTreeSet;

use jobs_core::gate::Kind;
use jobs_core::job::{Job, JobId, Priority, WorkerId};
use jobs_core::lease::LeaseKey;
use jobs_core::lifecycle::{self, Claiming};
use jobs_core::store::{Claimed, Grant, Lease, Payloads};
use jobs_core::time::{Now, Timestamp};
use rusqlite::{OptionalExtension, Result};

use super::batch::Batch;
use super::known::Effect;
use super::operation::Cost;
use super::request;

/// Jobs out of time that a claim walks over before it leaves them to the sweep, and jobs due of late that it looks at for fresh
/// ones: some milliseconds.
const MAX_PASSED_OVER: usize = 2_000;
/// Where the search for priorities begins.
const ABOVE_ALL: i64 = Priority::MAX.level() as i64 + 1;

/// Where the search for outages begins.
const BEFORE_ALL: i64 = -1;

const NEXT_PRIORITY: &str = "SELECT priority FROM job
    WHERE state = 0 AND destination = ?1 AND head = 1 AND priority < ?2 ORDER BY priority DESC LIMIT 1";
const DUE: &str = "SELECT seq, run_at, deadline FROM job
    WHERE state = 0 AND destination = ?1 AND head = 1 AND priority = ?2 AND run_at <= ?3 ORDER BY run_at, seq";
const LATELY_DUE: &str = "SELECT seq, run_at, deadline, accepted_at > ?3 FROM job
    WHERE state = 0 AND destination = ?1 AND head = 1 AND priority = ?2 AND run_at > ?3 AND run_at <= ?4
    ORDER BY run_at, seq";
const NEXT_OUTAGE: &str = "SELECT fail_epoch FROM job
    WHERE state = 0 AND head = 1 AND cause = 2 AND destination = ?1 AND priority = ?2 AND fail_epoch > ?3 AND fail_epoch < ?4
    ORDER BY fail_epoch LIMIT 1";
const RELEASED: &str = "SELECT seq, 0, deadline FROM job
    WHERE state = 0 AND head = 1 AND cause = 2 AND destination = ?1 AND priority = ?2 AND fail_epoch = ?3 ORDER BY seq";
const NEXT_DUE: &str = "SELECT run_at FROM job
    WHERE state = 0 AND destination = ?1 AND head = 1 AND priority = ?2 AND run_at > ?3 ORDER BY run_at LIMIT 1";

/// What serving `grants` may write.
pub(super) fn cost(grants: &[Grant]) -> Cost {
    Cost { jobs: grants.iter().map(|grant| grant.max as usize).sum(), bytes: 0 }
}

/// See [`jobs_core::store::JobStore::claim`].
pub(super) fn claim(batch: &mut Batch<'_>, worker: WorkerId, grants: &[Grant], now: Now) -> Result<Claimed> {
    let (mut claimed, mut payloads) = (Claimed::default(), Payloads::default());
    for grant in grants {
        let Some(destination) = batch.known.names.number(&grant.destination) else {
            if grant.max > 0 {
                claimed.exhausted.push((grant.destination.clone(), None));
            }
            continue;
        };
        let most = grant.max as usize;
        let mut search = Search {
            batch,
            worker,
            grant,
            destination,
            now,
            most,
            payloads: &mut payloads,
            leases: Vec::new(),
            died: Vec::new(),
            gave_up: false,
        };
        search.run()?;
        if search.wanted() > 0 && !search.gave_up {
            claimed.exhausted.push((grant.destination.clone(), search.next_due()?));
        }
        claimed.leases.append(&mut search.leases);
        claimed.died.append(&mut search.died);
        if payloads.is_full() {
            break;
        }
    }
    Ok(claimed)
}

/// The search for the jobs of one grant.
struct Search<'a, 'b> {
    batch: &'a mut Batch<'b>,
    worker: WorkerId,
    grant: &'a Grant,
    destination: i64,
    now: Now,
    /// Leases to find, at the present stage of the search.
    most: usize,
    /// Of all grants.
    payloads: &'a mut Payloads,
    leases: Vec<Lease>,
    died: Vec<Job>,
    /// There may be more than was looked at.
    gave_up: bool,
}

/// A job's place in the order of its priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    run_at: i64,
    seq: i64,
}

/// What is left to do of a stage of the search.
enum Stage {
    Over,
    /// The next jobs may be others than were found.
    Again,
}

/// What became of a candidate.
enum Taken {
    Leased,
    PassedOver,
    /// It was corrupt, and is dead: the next job of its ordering key may be the next of all.
    Died,
    /// No epoch can be issued at the moment, or the payloads are as many as one claim takes.
    Refused,
}

impl Search<'_, '_> {
    fn run(&mut self) -> Result<()> {
        let all = self.most;
        match self.grant.kind {
            Kind::Regular => {
                self.most = all.min(self.grant.fresh as usize);
                self.take_by_priority(Self::fresh)?;
                if self.payloads.is_full() {
                    return Ok(());
                }
                self.most = all;
                self.take_by_priority(Self::candidates)
            }
            Kind::Probe { .. } => {
                while self.wanted() > 0 {
                    let candidates = self.probes()?;
                    if let Stage::Over = self.take_all(&candidates)? {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// Leases what `find` finds of each priority, the highest first.
    fn take_by_priority(&mut self, find: impl Fn(&mut Self, i64) -> Result<Vec<Candidate>>) -> Result<()> {
        let mut below = ABOVE_ALL;
        while self.wanted() > 0
            && let Some(priority) = self.next_priority(below)?
        {
            let candidates = find(self, priority)?;
            below = match self.take_all(&candidates)? {
                Stage::Over => priority,
                Stage::Again => ABOVE_ALL,
            };
        }
        Ok(())
    }

    fn take_all(&mut self, candidates: &[Candidate]) -> Result<Stage> {
        for candidate in candidates {
            match self.take(candidate.seq)? {
                Taken::Leased | Taken::PassedOver => {}
                Taken::Died => return Ok(Stage::Again),
                Taken::Refused => {
                    self.gave_up = true;
                    self.most = 0;
                    break;
                }
            }
        }
        Ok(Stage::Over)
    }

    fn wanted(&self) -> usize {
        self.most.saturating_sub(self.leases.len())
    }

    /// The highest priority below `below` at which a head waits.
    fn next_priority(&self, below: i64) -> Result<Option<i64>> {
        let mut find = self.batch.conn.prepare_cached(NEXT_PRIORITY)?;
        find.query_row((self.destination, below), |row| row.get(0)).optional()
    }

    /// The next jobs of one priority, as many as are wanted.
    fn candidates(&mut self, priority: i64) -> Result<Vec<Candidate>> {
        let mut candidates = self.list(DUE, priority, self.now.wall.as_millis())?;
        let released = self.released(priority)?;
        if !released.is_empty() {
            candidates.extend(released);
            candidates.sort_unstable();
            self.keep_first(&mut candidates);
        }
        Ok(candidates)
    }

    /// The next jobs in the order of a probe, as many as are wanted.
    fn probes(&mut self) -> Result<Vec<Candidate>> {
        let (mut due, mut released, mut below) = (Vec::new(), Vec::new(), ABOVE_ALL);
        while let Some(priority) = self.next_priority(below)? {
            below = priority;
            due.extend(self.list(DUE, priority, self.now.wall.as_millis())?);
            let mut of_priority = self.released(priority)?;
            of_priority.sort_unstable();
            released.extend(of_priority);
        }
        // Stable: of those due at the same moment the higher priority stays first.
        due.sort_by_key(|candidate| candidate.run_at);
        due.extend(released);
        self.keep_first(&mut due);
        Ok(due)
    }

    /// As many of `candidates` as are wanted. A released job may be due by its own time as well: its first place counts.
    fn keep_first(&self, candidates: &mut Vec<Candidate>) {
        let mut seen = BTreeSet::new();
        candidates.retain(|candidate| seen.insert(candidate.seq));
        candidates.truncate(self.wanted());
    }

    /// The first jobs of each outage that is over, as many as are wanted.
    fn released(&mut self, priority: i64) -> Result<Vec<Candidate>> {
        let mut released = Vec::new();
        let mut outage = BEFORE_ALL;
        while let Some(next) = self.next_outage(priority, outage)? {
            outage = next;
            released.extend(self.list(RELEASED, priority, outage)?);
        }
        Ok(released)
    }

    /// The next fresh jobs of one priority, as many as are wanted and found among those that fell due of late.
    fn fresh(&mut self, priority: i64) -> Result<Vec<Candidate>> {
        let now = self.now.wall;
        let mut candidates = Vec::new();
        let mut statement = self.batch.conn.prepare_cached(LATELY_DUE)?;
        let mut rows =
            statement.query((self.destination, priority, self.grant.fresh_after.as_millis(), now.as_millis()))?;
        let mut looked_at = 0;
        while candidates.len() < self.wanted()
            && looked_at < MAX_PASSED_OVER
            && let Some(row) = rows.next()?
        {
            looked_at += 1;
            let deadline: Option<i64> = row.get(2)?;
            if row.get(3)? && deadline.is_none_or(|deadline| deadline > now.as_millis()) {
                candidates.push(Candidate { run_at: row.get(1)?, seq: row.get(0)? });
            }
        }
        Ok(candidates)
    }

    /// The first outage after `after`, by its epoch, that is released and left jobs waiting.
    fn next_outage(&self, priority: i64, after: i64) -> Result<Option<i64>> {
        let mut find = self.batch.conn.prepare_cached(NEXT_OUTAGE)?;
        let released_below = self.grant.released_below.cast_signed();
        find.query_row((self.destination, priority, after, released_below), |row| row.get(0)).optional()
    }

    /// The first of the jobs that `sql` lists and that are not out of time, as many as are wanted.
    fn list(&mut self, sql: &str, priority: i64, bound: i64) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        let mut passed_over = 0;
        let mut statement = self.batch.conn.prepare_cached(sql)?;
        let mut rows = statement.query((self.destination, priority, bound))?;
        while candidates.len() < self.wanted()
            && let Some(row) = rows.next()?
        {
            let deadline: Option<i64> = row.get(2)?;
            if deadline.is_none_or(|deadline| deadline > self.now.wall.as_millis()) {
                candidates.push(Candidate { run_at: row.get(1)?, seq: row.get(0)? });
            } else if passed_over == MAX_PASSED_OVER {
                self.gave_up = true;
                break;
            } else {
                passed_over += 1;
            }
        }
        Ok(candidates)
    }

    /// Leases one job, unless what the disk gives back of it is not what was accepted.
    fn take(&mut self, seq: i64) -> Result<Taken> {
        let Some(epoch) = self.batch.known.epochs.next() else { return Ok(Taken::Refused) };
        let mut row = self.batch.row(seq)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let request = request::read_in(&mut self.batch.statements, seq)?.unwrap_or_default();
        let was = row.was();
        if !row.job.is_intact(&request) {
            lifecycle::corrupt(&mut row.job, self.now.wall);
            row.decide_blocking(self.grant.ordering_on_dead);
            self.batch.save(&row, was)?;
            self.died.push(row.job);
            return Ok(Taken::Died);
        }
        let claiming = Claiming {
            epoch,
            worker: self.worker,
            destination_epoch: self.grant.destination_epoch,
            released_below: self.grant.released_below,
            begun: self.grant.begun,
            ok_begun: self.grant.ok_begun,
        };
        if lifecycle::claim(&mut row.job, &claiming, self.now.wall).is_err() {
            // Its index entry says otherwise than its row: something rotted. Whoever waits behind it is not held up.
            self.gave_up = true;
            return Ok(Taken::PassedOver);
        }
        if !self.payloads.admit(&request) {
            // Nothing is written of the job: it waits as before.
            return Ok(Taken::Refused);
        }
        self.batch.save(&row, was)?;
        self.batch.known.epochs.issued(epoch);
        self.begin_lease(row.job.id, &claiming);
        self.leases.push(Lease { job: row.job, epoch, request });
        Ok(Taken::Leased)
    }

    fn begin_lease(&mut self, job_id: JobId, claiming: &Claiming) {
        let key = LeaseKey { job_id, epoch: claiming.epoch };
        let destination = self.grant.destination.clone();
        self.batch.then(Effect::Leased { key, worker: claiming.worker, destination, now: self.now.mono });
    }

    /// When the next head that is not due yet falls due by its own time.
    fn next_due(&self) -> Result<Option<Timestamp>> {
        let mut find = self.batch.conn.prepare_cached(NEXT_DUE)?;
        let mut next: Option<i64> = None;
        let mut below = ABOVE_ALL;
        while let Some(priority) = self.next_priority(below)? {
            below = priority;
            let at = (self.destination, priority, self.now.wall.as_millis());
            let found = find.query_row(at, |row| row.get(0)).optional()?;
            next = next.into_iter().chain(found).min();
        }
        Ok(next.map(Timestamp::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_claim_walks_along_indexes_only_and_never_sorts() {
        let conn = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&conn, Timestamp::default()).unwrap();
        for (sql, index) in [
            (NEXT_PRIORITY, "job_waiting (destination=? AND head=? AND priority<?)"),
            (DUE, "job_waiting (destination=? AND head=? AND priority=? AND run_at<?)"),
            (LATELY_DUE, "job_waiting (destination=? AND head=? AND priority=? AND run_at>? AND run_at<?)"),
            (NEXT_DUE, "job_waiting (destination=? AND head=? AND priority=? AND run_at>?)"),
            (NEXT_OUTAGE, "job_outage (destination=? AND priority=? AND fail_epoch>? AND fail_epoch<?)"),
            (RELEASED, "job_outage (destination=? AND priority=? AND fail_epoch=?)"),
        ] {
            let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let mut rows = explain.raw_query();
            let mut plan = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                plan.push(row.get::<_, String>(3).unwrap());
            }
            assert!(plan.len() == 1 && plan[0].ends_with(index), "{sql}: {plan:?}");
        }
    }
}
