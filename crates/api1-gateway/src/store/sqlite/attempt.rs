//! What has happened to a job: its attempt log, and the last answer it got.

use jobs_core::job::{Attempt, WorkerId};
use jobs_core::outcome::Response;
use rusqlite::{Connection, OptionalExtension, Result};

use super::codes::{OUTCOMES, number};
use super::columns::{Binder, Reader, nanos};
use super::row::Row;
use super::statements::Statements;

/// Adds a line to the log of a job, and keeps what the destination answered in the place of the answer before. The job's generation and
/// the line's number, which rises within it, make the line's place.
pub(super) fn log(
    statements: &mut Statements<'_>,
    row: &Row,
    attempt: &Attempt,
    answer: Option<&Response>,
) -> Result<()> {
    // Nearly all jobs have one attempt and a short answer, which would cost a page more in each commit in a table of its own.
    let is_first = row.job.progress.generation == 0 && attempt.number == 1;
    let whole_of = answer.filter(|_| is_first).and_then(|answer| whole_of(attempt, answer));
    let statement = statements.get(
        "INSERT INTO attempt (seq, generation, number, epoch, worker, started_at, duration, outcome, charged, status,
            error, excerpt, next_run_at, retry_delay, whole_of) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut columns = Binder::new(statement);
    columns.put(row.seq())?.put(row.job.progress.generation)?.put(attempt.number)?.u64(attempt.epoch.as_u64())?;
    columns.uuid(attempt.worker.0)?.time(attempt.started_at)?.put(nanos(attempt.duration))?;
    columns.put(number(&OUTCOMES, attempt.outcome))?.put(attempt.charged)?.put(attempt.status)?;
    columns.put(attempt.error.as_deref())?.put(attempt.response_excerpt.as_deref())?;
    columns.time_or_null(attempt.next_run_at)?.put(attempt.retry_delay.map(nanos))?.put(whole_of)?.execute()?;
    match answer {
        Some(answer) if whole_of.is_none() => keep_response(statements, row.seq(), attempt.status, answer),
        Some(_) | None => Ok(()),
    }
}

/// The content type of an answer that is all in the line's excerpt, '' if it has none; `None` if the line does not say all of it.
fn whole_of<'a>(attempt: &Attempt, answer: &'a Response) -> Option<&'a str> {
    let excerpt = attempt.response_excerpt.as_deref()?;
    let is_whole = !answer.truncated && excerpt.as_bytes() == answer.body && answer.content_type.as_deref() != Some("");
    is_whole.then(|| answer.content_type.as_deref().unwrap_or_default())
}

/// The log of a job, oldest first.
pub(super) fn read_all(conn: &Connection, seq: i64) -> Result<Vec<Attempt>> {
    let mut statement = conn.prepare_cached(
        "SELECT number, epoch, worker, started_at, duration, outcome, charged, status, error, excerpt, next_run_at,
            retry_delay FROM attempt WHERE seq = ? ORDER BY generation, number",
    )?;
    let attempts = statement.query_map([seq], |row| {
        let mut columns = Reader::new(row);
        Ok(Attempt {
            number: columns.small()?,
            epoch: columns.epoch()?,
            worker: WorkerId(columns.uuid()?),
            started_at: columns.time()?,
            duration: columns.duration()?,
            outcome: columns.word(&OUTCOMES)?,
            charged: columns.flag()?,
            status: columns.small_or_null()?,
            error: columns.text_or_null()?,
            response_excerpt: columns.text_or_null()?,
            next_run_at: columns.time_or_null()?,
            retry_delay: columns.duration_or_null()?,
        })
    })?;
    attempts.collect()
}

/// Keeps an answer that the log does not, in the place of the one before.
fn keep_response(statements: &mut Statements<'_>, seq: i64, status: Option<u16>, response: &Response) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO response (seq, status, content_type, truncated, body) VALUES (?, ?, ?, ?, ?)";
    let line = (seq, status, response.content_type.as_deref(), response.truncated, response.body.as_ref());
    statements.get(sql)?.execute(line)?;
    Ok(())
}

/// The answer that was kept, with its status.
pub(super) fn read_response(conn: &Connection, seq: i64) -> Result<Option<(Option<u16>, Response)>> {
    let kept = "SELECT status, content_type, truncated, body FROM response WHERE seq = ?";
    let whole = "SELECT status, nullif(whole_of, ''), 0, CAST(excerpt AS BLOB) FROM attempt
        WHERE seq = ? AND generation = 0 AND number = 1 AND whole_of IS NOT NULL";
    for sql in [kept, whole] {
        let response = conn.prepare_cached(sql)?.query_row([seq], |row| {
            let mut columns = Reader::new(row);
            let status = columns.small_or_null()?;
            let content_type = columns.text_or_null()?;
            let truncated = columns.flag()?;
            Ok((status, Response { content_type, truncated, body: columns.bytes()? }))
        });
        if let Some(response) = response.optional()? {
            return Ok(Some(response));
        }
    }
    Ok(None)
}
