//! enqueue: jobs come in, each under its key only one time.

use std::collections::BTreeSet;

use jobs_core::job::{IdempotencyKey, JobId, NewJob, StateName};
use jobs_core::lifecycle;
use jobs_core::store::{Enqueued, StoreError};
use jobs_core::time::Timestamp;
use rusqlite::OptionalExtension;

use super::batch::Batch;
use super::codes::{Counter, STATES, number};
use super::columns::{Binder, Reader};
use super::error::Failed;
use super::operation::Cost;
use super::request;
use super::row::Row;

/// What enqueueing `jobs` may write.
pub(super) fn cost(jobs: &[NewJob]) -> Cost {
    let headers =
        |job: &NewJob| job.request.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    Cost { jobs: jobs.len(), bytes: jobs.iter().map(|job| job.request.body.len() + headers(job)).sum() }
}

/// See [`jobs_core::store::JobStore::enqueue`]. A job id that is known already is refused, with all of `jobs`.
pub(super) fn enqueue(batch: &mut Batch<'_>, jobs: Vec<NewJob>, now: Timestamp) -> Result<Vec<Enqueued>, Failed> {
    let mut ids = BTreeSet::new();
    for job in &jobs {
        if !ids.insert(job.id) || batch.seq_of(job.id)?.is_some() {
            return Err(Failed::Refused(StoreError::Unusable(format!("job {} exists already", job.id))));
        }
    }
    let answers = jobs.into_iter().map(|job| enqueue_one(batch, job, now));
    Ok(answers.collect::<rusqlite::Result<_>>()?)
}

fn enqueue_one(batch: &mut Batch<'_>, mut new: NewJob, now: Timestamp) -> rusqlite::Result<Enqueued> {
    let idempotency = new.idempotency.take();
    if let Some(key) = &idempotency
        && let Some(bound) = find_key(batch, key)?
    {
        return repeat(batch, key, &bound);
    }
    batch.known.last_seq += 1;
    let (job, request) = lifecycle::enqueue(new, batch.known.last_seq, batch.known.epochs.last(), now);
    let destination = batch.destination(&job.destination)?;
    let row = Row { job, destination, blocks: false };
    batch.insert(&row)?;
    request::insert(batch.conn, row.seq(), &request)?;
    if let Some(key) = idempotency {
        bind_key(batch, &row, &key)?;
    }
    batch.count(Counter::Accepted, 1);
    Ok(Enqueued::Accepted(row.job))
}

/// What a key is bound to.
struct Bound {
    seq: i64,
    id: JobId,
    fingerprint: Vec<u8>,
    state: StateName,
}

fn find_key(batch: &Batch<'_>, key: &IdempotencyKey) -> rusqlite::Result<Option<Bound>> {
    let sql = "SELECT key.seq, key.job_id, key.fingerprint, coalesce(job.state, key.ended)
        FROM idempotency_key AS key LEFT JOIN job ON job.seq = key.seq WHERE key.scope = ? AND key.key = ?";
    let bound = batch.conn.prepare_cached(sql)?.query_row((&key.scope, &key.key), |found| {
        let mut columns = Reader::new(found);
        Ok(Bound {
            seq: columns.get()?,
            id: JobId(columns.uuid()?),
            fingerprint: columns.get()?,
            state: columns.word(&STATES)?,
        })
    });
    bound.optional()
}

/// The key came before. A replay is counted, so that its answer leaves only after a commit of its own: a plain read could
/// see a job whose commit has yet to reach the disk.
fn repeat(batch: &Batch<'_>, key: &IdempotencyKey, bound: &Bound) -> rusqlite::Result<Enqueued> {
    if bound.fingerprint != key.fingerprint {
        return Ok(Enqueued::KeyReused { id: bound.id });
    }
    let sql = "UPDATE idempotency_key SET replays = replays + 1 WHERE seq = ?";
    batch.conn.prepare_cached(sql)?.execute([bound.seq])?;
    Ok(Enqueued::Replayed { id: bound.id, state: bound.state })
}

fn bind_key(batch: &Batch<'_>, row: &Row, key: &IdempotencyKey) -> rusqlite::Result<()> {
    let sql = "INSERT INTO idempotency_key (seq, scope, key, fingerprint, job_id) VALUES (?, ?, ?, ?, ?)";
    let mut statement = batch.conn.prepare_cached(sql)?;
    let mut columns = Binder::new(&mut statement);
    columns.put(row.seq())?.put(&key.scope)?.put(&key.key)?.put(key.fingerprint.as_slice())?;
    columns.uuid(row.job.id.0)?.execute()?;
    Ok(())
}

/// The job of row `seq` is purged, having ended in `state`: from `now` on its key, if it had one, lives alone.
pub(super) fn orphan_key(batch: &Batch<'_>, seq: i64, state: StateName, now: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE idempotency_key SET ended = ?, purged_at = ? WHERE seq = ?";
    batch.conn.prepare_cached(sql)?.execute((number(&STATES, state), now.as_millis(), seq))?;
    Ok(())
}
