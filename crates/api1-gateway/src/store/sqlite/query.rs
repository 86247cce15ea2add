//! Queries about single jobs, counts and gates. Pages of jobs are in [`super::list`].

use jobs_core::job::{DestinationName, JobId, Priority, Request};
use jobs_core::outcome::Response;
use jobs_core::store::{JobDetail, Stats};
use jobs_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result};

use super::codes::{COUNTERS, Counter, number};
use super::columns::Reader;
use super::names::parse_name;
use super::row::{self, Row};
use super::{attempt, operators, request};

/// A job with its attempt log.
pub(super) fn job(conn: &Connection, id: JobId) -> Result<Option<JobDetail>> {
    let mut find = conn.prepare_cached(&row::BY_ID)?;
    let found = find.query_row(row::id_key(id), |row| decode(conn, row)).optional()?;
    let Some(row) = found else { return Ok(None) };
    Ok(Some(JobDetail {
        attempts: attempt::read_all(conn, row.seq())?,
        resolution: operators::resolution(conn, row.seq())?,
        job: row.job,
    }))
}

pub(super) fn request(conn: &Connection, id: JobId) -> Result<Option<Request>> {
    seq_of(conn, id)?.map_or(Ok(None), |seq| request::read(conn, seq))
}

pub(super) fn response(conn: &Connection, id: JobId) -> Result<Option<(Option<u16>, Response)>> {
    seq_of(conn, id)?.map_or(Ok(None), |seq| attempt::read_response(conn, seq))
}

pub(super) fn stats(conn: &Connection) -> Result<Stats> {
    let mut stats = Stats::default();
    let sql = "SELECT kind, value, name FROM counter LEFT JOIN destination ON id = destination";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut columns = Reader::new(row);
        let counter = columns.word(&COUNTERS)?;
        let value = columns.u64()?;
        match counter {
            Counter::Accepted => stats.accepted = value,
            Counter::Purged => stats.purged = value,
            Counter::Attempts => stats.attempts = value,
            Counter::Duplicates(cause) => drop(stats.duplicates.insert(cause, value)),
            Counter::Jobs(state) => {
                let destination = parse_name(&columns.text()?)?;
                stats.destinations.entry(destination).or_default().insert(state, value);
            }
            Counter::Resolved => drop(stats.resolved.insert(parse_name(&columns.text()?)?, value)),
        }
    }
    Ok(stats)
}

/// The earliest `run_at` of all that wait for a destination, heads of their ordering key or not.
pub(super) fn oldest_due(conn: &Connection, destination: &DestinationName) -> Result<Option<Timestamp>> {
    let Some(destination) = destination_number(conn, destination)? else { return Ok(None) };
    let sql = "SELECT run_at FROM job WHERE state = 0 AND destination = ? AND head = ? AND priority = ?
        ORDER BY run_at LIMIT 1";
    let mut find = conn.prepare_cached(sql)?;
    let mut oldest: Option<i64> = None;
    for head in [true, false] {
        for priority in 0..=Priority::MAX.level() {
            let found = find.query_row((destination, head, priority), |row| row.get(0)).optional()?;
            oldest = oldest.into_iter().chain(found).min();
        }
    }
    Ok(oldest.map(Timestamp::from_millis))
}

/// What `counter` says over all destinations.
pub(super) fn count(conn: &Connection, counter: Counter) -> Result<i64> {
    let sql = "SELECT coalesce(sum(value), 0) FROM counter WHERE kind = ?";
    conn.prepare_cached(sql)?.query_row([number(&COUNTERS, counter)], |row| row.get(0))
}

pub(super) fn destination_number(conn: &Connection, name: &DestinationName) -> Result<Option<i64>> {
    let mut find = conn.prepare_cached("SELECT id FROM destination WHERE name = ?")?;
    find.query_row([name.as_str()], |row| row.get(0)).optional()
}

/// A row of [`row::select`], by a connection that knows no names by heart.
pub(super) fn decode(conn: &Connection, found: &rusqlite::Row<'_>) -> Result<Row> {
    row::decode(found, |number| {
        let mut find = conn.prepare_cached("SELECT name FROM destination WHERE id = ?").ok()?;
        find.query_row([number], |row| parse_name(row.get_ref(0)?.as_str()?)).ok()
    })
}

pub(super) fn seq_of(conn: &Connection, id: JobId) -> Result<Option<i64>> {
    conn.prepare_cached(&row::SEQ_BY_ID)?.query_row(row::id_key(id), |row| row.get(0)).optional()
}
