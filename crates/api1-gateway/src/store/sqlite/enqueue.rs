//! enqueue: jobs come in, each under its key only one time.

use std::collections::BTreeSet;

use jobs_core::callback;
use jobs_core::destination::OrderingOnDead;
use jobs_core::job::{IdempotencyKey, JobId, NewJob, StateName};
use jobs_core::lifecycle;
use jobs_core::store::{Enqueued, StoreError};
use jobs_core::time::Timestamp;
use rusqlite::OptionalExtension;

use super::attempt;
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

/// See [`jobs_core::store::JobStore::enqueue`]. A job id that is known already is refused, with all of `jobs`, as they are
/// while the disk is nearly full.
pub(super) fn enqueue(batch: &mut Batch<'_>, jobs: Vec<NewJob>, now: Timestamp) -> Result<Vec<Enqueued>, Failed> {
    if batch.refuses_jobs {
        return Err(Failed::Refused(StoreError::Full("too little disk space is left for more jobs".to_owned())));
    }
    let mut ids = BTreeSet::new();
    for job in jobs.iter().filter(|job| !job.id_is_new) {
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
    let after = new.callback.as_ref().and_then(|callback| callback.still_trying_after);
    let row = accept(batch, new, now)?;
    if let Some(key) = idempotency {
        bind_key(batch, &row, &key)?;
    }
    if let Some(notice) = after.and_then(|after| callback::still_trying(&row.job, after)) {
        accept(batch, notice, now)?;
    }
    Ok(Enqueued::Accepted(row.job))
}

fn accept(batch: &mut Batch<'_>, new: NewJob, now: Timestamp) -> rusqlite::Result<Row> {
    batch.known.last_seq += 1;
    let (job, request) = lifecycle::enqueue(new, batch.known.last_seq, batch.known.epochs.last(), now);
    let destination = batch.destination(&job.destination)?;
    let row = Row { job, destination, blocks: false };
    batch.insert(&row)?;
    request::insert(&mut batch.statements, row.seq(), &request)?;
    batch.count(Counter::Accepted, 1);
    Ok(row)
}

/// A job has just ended: its caller is told, if that is wanted, and not also that it is still being tried.
pub(super) fn tell_caller(batch: &mut Batch<'_>, ended: &Row) -> rusqlite::Result<()> {
    let answer = attempt::read_response(batch.conn, ended.seq())?;
    let Some(new) = callback::of_end(&ended.job, answer.as_ref()) else { return Ok(()) };
    let now = ended.job.updated_at;
    if let Some(mut notice) = batch.row_of(callback::notice_id(&ended.job))?
        && notice.job.state.name() == StateName::Pending
    {
        let was = notice.was();
        lifecycle::cancel(&mut notice.job, OrderingOnDead::Free, now);
        batch.save(&notice, was)?;
    }
    match batch.seq_of(new.id)? {
        Some(_) => Ok(()),
        None => accept(batch, new, now).map(drop),
    }
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
