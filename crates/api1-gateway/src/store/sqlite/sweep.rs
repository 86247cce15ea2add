//! sweep and purge: what time does to jobs.

use std::time::Duration;

use jobs_core::job::StateName;
use jobs_core::lease::LeaseKey;
use jobs_core::lifecycle::{self, DuplicateCause};
use jobs_core::store::{Judge, Retention, Swept};
use jobs_core::time::{Now, Timestamp};
use rusqlite::{OptionalExtension, Result};

use super::attempt;
use super::batch::Batch;
use super::codes::Counter;
use super::enqueue::orphan_key;
use super::known::Effect;
use super::operation::Cost;
use super::operators::unresolve;

/// Most jobs that one call ends or deletes, so that settles and claims never wait long for it.
const STEP_LIMIT: usize = 500;
/// Most payload that one call deletes: SQLite reads all of it to give its pages back.
const STEP_BYTES: i64 = 8 * 1024 * 1024;
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
            row.decide_blocking(&judge.policy(&row.job.destination));
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
    row.decide_blocking(&policy);
    batch.save(&row, was)?;
    attempt::insert(&mut batch.statements, &row, &lapsed.attempt)?;
    if lapsed.attempt.next_run_at.is_some() {
        batch.count(Counter::Duplicates(DuplicateCause::LeaseLapsed), 1);
    }
    swept.lapsed.push((key, lapsed.ended.worker, row.job));
    Ok(())
}

/// See [`jobs_core::store::JobStore::purge`]. A key's time begins when its job is purged.
pub(super) fn purge(batch: &mut Batch<'_>, retention: Retention, now: Timestamp) -> Result<u64> {
    let done = "SELECT seq FROM job WHERE state IN (2, 4) AND finished_at <= ? ORDER BY finished_at LIMIT ?";
    let dead =
        "SELECT seq FROM job WHERE state = 3 AND place IS NULL AND finished_at <= ? ORDER BY finished_at LIMIT ?";
    let limit = batch.spend(STEP_LIMIT);
    let mut gone = find(batch, done, before(now, retention.succeeded), limit)?;
    gone.extend(find(batch, dead, before(now, retention.dead), limit - gone.len())?);
    let mut bytes = 0;
    let mut purged = 0;
    for seq in gone {
        if bytes > STEP_BYTES {
            break;
        }
        bytes += delete(batch, seq, now)?;
        purged += 1;
    }
    batch.count(Counter::Purged, purged);
    let keys = "DELETE FROM idempotency_key WHERE seq IN (SELECT seq FROM idempotency_key
        WHERE purged_at IS NOT NULL AND purged_at <= ? ORDER BY purged_at LIMIT ?)";
    batch.conn.prepare_cached(keys)?.execute((before(now, retention.keys), STEP_LIMIT as i64))?;
    Ok(purged.cast_unsigned())
}

/// Deletes a finished job with all that belongs to it, and answers how much payload that was.
fn delete(batch: &mut Batch<'_>, seq: i64, now: Timestamp) -> Result<i64> {
    let Some(row) = batch.row(seq)? else { return Ok(0) };
    let state: StateName = row.job.state.name();
    let size = "SELECT length(body) FROM request WHERE seq = ?";
    let bytes = batch.conn.prepare_cached(size)?.query_row([seq], |row| row.get(0)).optional()?;
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
    Ok(bytes.unwrap_or_default())
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
