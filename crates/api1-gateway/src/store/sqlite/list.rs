//! Pages of jobs, latest accepted first.
//!
//! A page never takes long: after [`PAGE_TIME`] it ends where it is, with what it has found, and says where to go on. Where
//! few jobs can match, an index of only those is walked; else all jobs, a stretch of `seq` at a time.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jobs_core::job::{Job, StateName};
use jobs_core::process::clock;
use jobs_core::store::{Filter, Page};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use super::codes::{Counter, STATES, number};
use super::error::is_interrupted;
use super::query::{count, decode, destination_number};
use super::row;

/// A page is answered within about this, so that a list is usable while the store is busy.
const PAGE_TIME: Duration = Duration::from_millis(15);
/// Most jobs on one page.
const MAX_PAGE: u32 = 1_000;
/// Jobs looked at between two looks at the time.
const STRETCH: i64 = 2_000;
/// Up to so many waiting jobs are sorted rather than searched for among all others.
const FEW: i64 = 5_000;

static BY_SEQ: LazyLock<String> = LazyLock::new(|| row::select("FROM job WHERE seq = ?"));

/// See [`jobs_core::store::JobStore::list`].
pub(super) fn list(conn: &Connection, filter: &Filter, below: Option<u64>, limit: u32) -> Result<Page> {
    list_until(conn, filter, below, limit, clock::instant() + PAGE_TIME)
}

fn list_until(conn: &Connection, filter: &Filter, below: Option<u64>, limit: u32, until: Instant) -> Result<Page> {
    let destination = match &filter.destination {
        Some(name) => match destination_number(conn, name)? {
            Some(number) => Some(number),
            None => return Ok(Page::default()),
        },
        None => None,
    };
    let outermost = "SELECT (SELECT min(seq) FROM job), (SELECT max(seq) FROM job)";
    let (first, last): (Option<i64>, Option<i64>) = conn.query_row(outermost, [], |row| row.try_into())?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(Page::default()) };
    let below = below.map_or(i64::MAX, |below| i64::try_from(below).unwrap_or(i64::MAX));
    let source = Source::choose(conn, filter.state)?;
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    let position = below.min(last + 1);
    let mut walk = Walk { conn, filter, destination, source, position, first, limit, until, jobs: Vec::new() };
    match walk.run() {
        // The writer needs the log: the page ends here.
        Err(error) if is_interrupted(&error) => {}
        ended => ended?,
    }
    let next = (walk.position > first).then_some(walk.position.cast_unsigned());
    Ok(Page { jobs: walk.jobs, next })
}

/// Where the jobs of a page are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    All,
    /// An index of only those in the state that is asked for.
    Index(&'static str),
}

/// Parameters: the `seq` to stay below, the one to stop at, state and destination (null: any).
const OF_ALL: &str = "SELECT seq FROM job WHERE seq < ?1 AND seq >= ?2
    AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR destination = ?4) ORDER BY seq DESC";
/// Parameters: the `seq` to stay below, the most to answer, the destination (null: any).
const OF_WAITING: &str = "SELECT seq FROM job INDEXED BY job_waiting
    WHERE state = 0 AND seq < ?1 AND (?3 IS NULL OR destination = ?3) ORDER BY seq DESC LIMIT ?2";
const OF_LEASED: &str = "SELECT seq FROM job INDEXED BY job_leased
    WHERE state = 1 AND seq < ?1 AND (?3 IS NULL OR destination = ?3) ORDER BY seq DESC LIMIT ?2";
const OF_DEAD: &str = "SELECT seq FROM job INDEXED BY job_dead_seq
    WHERE state = 3 AND seq < ?1 AND (?3 IS NULL OR destination = ?3) ORDER BY seq DESC LIMIT ?2";

impl Source {
    fn choose(conn: &Connection, state: Option<StateName>) -> Result<Source> {
        Ok(match state {
            Some(StateName::Leased) => Source::Index(OF_LEASED),
            Some(StateName::Dead) => Source::Index(OF_DEAD),
            Some(StateName::Pending) if count(conn, Counter::Jobs(StateName::Pending))? <= FEW => {
                Source::Index(OF_WAITING)
            }
            Some(StateName::Pending | StateName::Succeeded | StateName::Cancelled) | None => Source::All,
        })
    }
}

/// A page in the making.
struct Walk<'a> {
    conn: &'a Connection,
    filter: &'a Filter,
    destination: Option<i64>,
    source: Source,
    /// All jobs from here on have been looked at.
    position: i64,
    /// No job is before it.
    first: i64,
    limit: usize,
    until: Instant,
    jobs: Vec<Job>,
}

impl Walk<'_> {
    /// Looks at some jobs at least, so that a list comes to its end also where each page has no time.
    fn run(&mut self) -> Result<()> {
        while self.position > self.first {
            let (stretch, end) = self.stretch()?;
            for seq in stretch {
                if self.jobs.len() == self.limit {
                    return Ok(());
                }
                if self.has_text(seq)? {
                    let mut find = self.conn.prepare_cached(&BY_SEQ)?;
                    self.jobs.push(find.query_row([seq], |found| decode(self.conn, found))?.job);
                }
                self.position = seq;
                if self.is_over() {
                    return Ok(());
                }
            }
            self.position = end;
            if self.is_over() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the time for this page is.
    fn is_over(&self) -> bool {
        clock::instant() >= self.until
    }

    /// The next jobs whose state and destination fit, and where the jobs after them begin.
    fn stretch(&self) -> Result<(Vec<i64>, i64)> {
        let Walk { position, destination, .. } = *self;
        match self.source {
            Source::All => {
                let end = position - STRETCH;
                let state = self.filter.state.map(|state| number(&STATES, state));
                let mut statement = self.conn.prepare_cached(OF_ALL)?;
                let found = statement.query_map((position, end, state, destination), |row| row.get(0))?;
                Ok((found.collect::<Result<_>>()?, end))
            }
            Source::Index(sql) => {
                let mut statement = self.conn.prepare_cached(sql)?;
                let found = statement.query_map((position, STRETCH, destination), |row| row.get(0))?;
                let found: Vec<i64> = found.collect::<Result<_>>()?;
                let end = if (found.len() as i64) < STRETCH { self.first } else { found[found.len() - 1] };
                Ok((found, end))
            }
        }
    }

    /// Whether the request's body or the last error contains what is looked for.
    fn has_text(&self, seq: i64) -> Result<bool> {
        let Some(text) = &self.filter.text else { return Ok(true) };
        let sql = "SELECT last_error, body FROM job LEFT JOIN request ON request.seq = job.seq WHERE job.seq = ?";
        self.conn.prepare_cached(sql)?.query_row([seq], |row| {
            for column in 0..2 {
                if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(column)?
                    && String::from_utf8_lossy(bytes).contains(text)
                {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}

#[cfg(test)]
mod tests {
    use jobs_core::conformance::rig::api2;
    use jobs_core::job::{Epoch, JobId, NewJob, Priority, Request};
    use jobs_core::lifecycle;
    use jobs_core::time::Timestamp;
    use uuid::Uuid;

    use super::super::row::Row;
    use super::super::{request, schema};
    use super::*;

    const JOBS: u64 = 30;

    /// A database of jobs whose bodies are "odd" and "even".
    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        schema::migrate(&conn, Timestamp::default()).unwrap();
        conn.execute("INSERT INTO destination VALUES (1, 'api2')", []).unwrap();
        for seq in 1..=JOBS {
            let body = if seq % 2 == 0 { "even" } else { "odd" };
            let new = NewJob {
                id: JobId(Uuid::from_u128(u128::from(seq))),
                destination: api2(),
                request: Request { body: body.into(), ..Request::default() },
                idempotency: None,
                run_at: Timestamp::default(),
                expires_after: None,
                priority: Priority::default(),
                ordering_key: None,
                max_attempts: None,
                traceparent: None,
                redriven_from: None,
            };
            let (job, sent) = lifecycle::enqueue(new, seq, Epoch::NONE, Timestamp::default());
            row::insert(&conn, &Row { job, destination: 1, blocks: false }, true).unwrap();
            request::insert(&conn, seq as i64, &sent).unwrap();
        }
        conn
    }

    #[test]
    fn a_list_whose_pages_have_no_time_comes_to_its_end_all_the_same() {
        let conn = database();
        let over = clock::instant();
        for (state, text) in [(None, None), (Some(StateName::Pending), None), (None, Some("even".to_owned()))] {
            let wanted = if text.is_some() { JOBS / 2 } else { JOBS };
            let filter = Filter { state, text, destination: Some(api2()) };
            let (mut found, mut pages, mut below) = (Vec::new(), 0, None);
            loop {
                let page = list_until(&conn, &filter, below, 10, over).unwrap();
                found.extend(page.jobs.into_iter().map(|job| job.seq));
                pages += 1;
                let Some(next) = page.next else { break };
                assert!(below.is_none_or(|below| next < below), "a page goes on where the one before ended");
                below = Some(next);
            }
            assert_eq!(found.len() as u64, wanted, "{filter:?}");
            assert!(found.is_sorted_by(|one, other| one > other) && pages as u64 >= wanted, "{pages} pages: {found:?}");
        }
    }
}
