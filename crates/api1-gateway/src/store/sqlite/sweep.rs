//! sweep and purge: what time does to jobs.

use std::time::Duration;

use jobs_core::job::StateName;
use jobs_core::lease::LeaseKey;
use jobs_core::lifecycle::{self, DuplicateCause};
use jobs_core::store::{Judge, Purged, Retention, Swept};
use jobs_core::time::{Now, Timestamp};
use rusqlite::Result;

use super::attempt;
use super::batch::Batch;
use super::checkpoint::{self, MAX_LOG};
use super::codes::Counter;
use super::enqueue::orphan_key;
use super::known::Effect;
use super::operation::Cost;
use super::operators::unresolve;

/// Most jobs that one call ends or deletes, so that settles and claims never wait long for it.
const STEP_LIMIT: usize = 500;
/// Most payload, answers and attempts that one call deletes: SQLite reads all of it to give its pages back.
const STEP_BYTES: u64 = 8 * 1024 * 1024;
/// Nearly always they find nothing to do; when they do, they make do with what the batch can spare.
pub(super) const COST: Cost = Cost { jobs: 1, bytes: 0 };

/// See [`jobs_core::store::JobStore::sweep`].
pub(super) fn sweep(batch: &mut Batch<'_>, judge: &dyn Judge, now: Now) -> Result<Swept> {
    let mut swept = Swept::default();
    let overdue = batch.known.leases.overdue(now.mono);
    for key in overdue.into_iter().take(batch.spend(STEP_LIMIT)) {
        batch.then(Effect::Ended(key));
        lapse(batch, key, judge, now.wall, &mut swept)?;
    }
    let past =
        "SELECT seq FROM job WHERE state = 0 AND deadline IS NOT NULL AND deadline <= ? ORDER BY deadline LIMIT ?";
    let limit = batch.spend(STEP_LIMIT);
    for seq in find(batch, past, now.wall.as_millis(), limit)? {
        let Some(mut row) = batch.row(seq)? else { continue };
        let was = row.was();
        if lifecycle::expire(&mut row.job, now.wall).is_some() {
            row.decide_blocking(judge.policy(&row.job.destination).ordering_on_dead);
            batch.save(&row, was)?;
            swept.expired.push(row.job);
        }
    }
    Ok(swept)
}

fn lapse(batch: &mut Batch<'_>, key: LeaseKey, judge: &dyn Judge, now: Timestamp, swept: &mut Swept) -> Result<()> {
    let Some(mut row) = batch.row_of(key.job_id)? else { return Ok(()) };
    let was = row.was();
    let policy = judge.policy(&row.job.destination);
    // An operation before this one in the batch may have ended it.
    let Some(lapsed) = lifecycle::lapse(&mut row.job, key.epoch, &policy, now) else { return Ok(()) };
    row.decide_blocking(policy.ordering_on_dead);
    batch.save(&row, was)?;
    attempt::log(&mut batch.statements, &row, &lapsed.attempt, None)?;
    if lapsed.attempt.next_run_at.is_some() {
        batch.count(Counter::Duplicates(DuplicateCause::LeaseLapsed), 1);
    }
    swept.lapsed.push((key, lapsed.ended.worker, row.job));
    Ok(())
}

/// See [`jobs_core::store::JobStore::purge`]. A key's time begins when its job is purged.
pub(super) fn purge(batch: &mut Batch<'_>, retention: Retention, now: Timestamp) -> Result<Purged> {
    let done = "SELECT seq FROM job WHERE state IN (2, 4) AND finished_at <= ? ORDER BY finished_at LIMIT ?";
    let dead =
        "SELECT seq FROM job WHERE state = 3 AND place IS NULL AND finished_at <= ? ORDER BY finished_at LIMIT ?";
    let mut spare = batch.spend(STEP_LIMIT);
    let mut gone = find(batch, done, before(now, retention.succeeded), spare)?;
    gone.extend(find(batch, dead, before(now, retention.dead), spare - gone.len())?);
    let mut more = gone.len() == spare;
    let mut bytes = 0;
    let mut jobs = 0;
    for seq in gone {
        let size = Size::of(batch, seq)?;
        let writes = size.writes();
        if bytes > STEP_BYTES || writes > spare && !(jobs == 0 && fits(batch, writes - spare, writes)) {
            more = true;
            break;
        }
        spare = spare.saturating_sub(writes);
        bytes += size.bytes + size.attempts;
        delete(batch, seq, now)?;
        jobs += 1;
    }
    batch.count(Counter::Purged, jobs);
    let keys = "DELETE FROM idempotency_key WHERE seq IN (SELECT seq FROM idempotency_key
        WHERE purged_at IS NOT NULL AND purged_at <= ? ORDER BY purged_at LIMIT ?)";
    // With what the jobs have left of their share.
    let most = spare + batch.spend(STEP_LIMIT.saturating_sub(spare));
    let forgotten = batch.conn.prepare_cached(keys)?.execute((before(now, retention.keys), most as i64))?;
    Ok(Purged { jobs: jobs.cast_unsigned(), more: more || forgotten == most })
}

/// Whether a job whose `writes` are beyond a step's share by `more` can go all the same: if the log has room for it, or never will.
fn fits(batch: &mut Batch<'_>, more: usize, writes: usize) -> bool {
    batch.spend(more) == more || writes > checkpoint::in_jobs(MAX_LOG)
}

/// What a job takes of the disk.
struct Size {
    /// Its payload, and the answer that was kept.
    bytes: u64,
    /// Its attempt log.
    attempts: u64,
}

impl Size {
    fn of(batch: &Batch<'_>, seq: i64) -> Result<Size> {
        // A line of the log is some 100 bytes and its texts. No body is read for its length.
        let sql = "SELECT coalesce((SELECT length(body) FROM request WHERE seq = ?1), 0)
                + coalesce((SELECT length(body) FROM response WHERE seq = ?1), 0),
            (SELECT coalesce(sum(100 + coalesce(octet_length(error), 0) + coalesce(octet_length(excerpt), 0)
                + coalesce(octet_length(whole_of), 0)), 0) FROM attempt WHERE seq = ?1)";
        batch.conn.prepare_cached(sql)?.query_row([seq], |row| {
            let [bytes, attempts] = [row.get::<_, i64>(0)?, row.get::<_, i64>(1)?].map(i64::cast_unsigned);
            Ok(Size { bytes, attempts })
        })
    }

    /// As how many jobs its deletion counts in the log. Payload and answer have pages of their own, which are given back
    /// unwritten. Lines of the log are in pages that are half full at worst, and are written once more as they empty.
    fn writes(&self) -> usize {
        1 + checkpoint::in_jobs(2 * self.attempts)
    }
}

/// Deletes a finished job with all that belongs to it.
fn delete(batch: &mut Batch<'_>, seq: i64, now: Timestamp) -> Result<()> {
    let Some(row) = batch.row(seq)? else { return Ok(()) };
    let state: StateName = row.job.state.name();
    for sql in [
        "DELETE FROM job WHERE seq = ?",
        "DELETE FROM request WHERE seq = ?",
        "DELETE FROM attempt WHERE seq = ?",
        "DELETE FROM response WHERE seq = ?",
    ] {
        batch.conn.prepare_cached(sql)?.execute([seq])?;
    }
    orphan_key(batch, seq, state, now)?;
    if unresolve(batch.conn, seq)? > 0 {
        batch.count_of(Counter::Resolved, row.destination, -1);
    }
    batch.count_job(row.destination, state, -1);
    Ok(())
}

/// The rows that `sql` selects before a moment, `limit` at most.
fn find(batch: &Batch<'_>, sql: &str, until: i64, limit: usize) -> Result<Vec<i64>> {
    let mut statement = batch.conn.prepare_cached(sql)?;
    statement.query_map((until, limit as i64), |row| row.get(0))?.collect()
}

/// The latest moment that lies `age` in the past, in milliseconds.
fn before(now: Timestamp, age: Duration) -> i64 {
    now.as_millis().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use jobs_core::time::Mono;
    use rusqlite::Connection;

    use super::super::known::Known;
    use super::super::schema;
    use super::*;

    #[test]
    fn no_more_keys_are_deleted_than_the_log_has_room_for() {
        const DAY: i64 = 24 * 3_600 * 1_000;
        let conn = Connection::open_in_memory().unwrap();
        schema::migrate(&conn, Timestamp::default()).unwrap();
        let key = "INSERT INTO idempotency_key VALUES (?1, 's', ?1, x'00', zeroblob(16), 0, 2, 0)";
        for seq in 1..=9 {
            conn.execute(key, [seq]).unwrap();
        }
        let mut known = Known::load(&conn, 1, Mono::default()).unwrap();
        for (spare, left) in [(0, 9), (2, 7), (100, 0)] {
            let mut batch = Batch::new(&conn, &mut known, spare);
            let purged = Purged { jobs: 0, more: left > 0 };
            assert_eq!(purge(&mut batch, Retention::default(), Timestamp::from_millis(DAY)), Ok(purged));
            let count = conn.query_row("SELECT count(*) FROM idempotency_key", [], |row| row.get::<_, i64>(0));
            assert_eq!(count, Ok(left), "with room for {spare}");
        }
    }
}
