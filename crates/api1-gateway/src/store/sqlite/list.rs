//! Pages of jobs, latest accepted first, or earliest first.
//!
//! A page never takes long: after [`PAGE_TIME`] it ends where it is, with what it has found, and says where to go on. Where
//! few jobs can match, an index of only those is walked; else all jobs, a stretch of `seq` at a time.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jobs_core::job::{Job, StateName};
use jobs_core::process::clock;
use jobs_core::store::{Filter, Page};
use jobs_core::time::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result, named_params};

use super::codes::{Counter, DEAD_REASONS, STATES, number};
use super::error::is_interrupted;
use super::query::{count, decode, destination_number, seq_of};
use super::row;

/// A page is answered within about this, so that a list is usable while the store is busy.
const PAGE_TIME: Duration = Duration::from_millis(15);
/// So many jobs are listed whatever the time, where no text has to be searched for: it takes a millisecond or two, and a processor that
/// was busy with something else meanwhile is no reason for a page of a single job.
const LEAST_PAGE: usize = 100;
/// Most jobs on one page.
const MAX_PAGE: u32 = 1_000;
/// Jobs looked at between two looks at the time.
const STRETCH: i64 = 2_000;
/// Up to so many waiting jobs are sorted rather than searched for among all others.
const FEW: i64 = 5_000;

static BY_SEQ: LazyLock<String> = LazyLock::new(|| row::select("FROM job WHERE seq = ?"));

/// Which end of the jobs a page begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    LatestFirst,
    EarliestFirst,
}

/// See [`jobs_core::store::JobStore::list`].
pub(super) fn list(conn: &Connection, filter: &Filter, below: Option<u64>, limit: u32) -> Result<Page> {
    page(conn, filter, Order::LatestFirst, below, limit, clock::instant() + PAGE_TIME)
}

/// See [`jobs_core::steering::Steering::find`].
pub(super) fn find(conn: &Connection, filter: &Filter, above: u64, limit: u32) -> Result<Page> {
    page(conn, filter, Order::EarliestFirst, Some(above), limit, clock::instant() + PAGE_TIME)
}

/// `from`: where the page before ended.
fn page(
    conn: &Connection,
    filter: &Filter,
    order: Order,
    from: Option<u64>,
    limit: u32,
    until: Instant,
) -> Result<Page> {
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
    let from = from.map(|from| i64::try_from(from).unwrap_or(i64::MAX));
    let (position, end) = match order {
        Order::LatestFirst => (from.map_or(last + 1, |from| from.min(last + 1)), first),
        Order::EarliestFirst => (from.map_or(first - 1, |from| from.max(first - 1)), last),
    };
    let source = Source::choose(conn, filter)?;
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    let mut walk = Walk { conn, filter, destination, source, order, position, end, limit, until, jobs: Vec::new() };
    match walk.run() {
        // The writer needs the log: the page ends here.
        Err(error) if is_interrupted(&error) => {}
        ended => ended?,
    }
    let next = (!walk.is_at_end()).then_some(walk.position.cast_unsigned());
    Ok(Page { jobs: walk.jobs, next })
}

/// Where the jobs of a page are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    All,
    /// An index of only those in the state that is asked for.
    Index(&'static str),
    /// Only these.
    Given(Vec<i64>),
}

impl Source {
    fn choose(conn: &Connection, filter: &Filter) -> Result<Source> {
        if !filter.ids.is_empty() {
            let seqs = filter.ids.iter().filter_map(|id| seq_of(conn, *id).transpose());
            return Ok(Source::Given(seqs.collect::<Result<_>>()?));
        }
        Ok(match filter.state {
            Some(StateName::Leased) => Source::Index("job_leased"),
            Some(StateName::Dead) => Source::Index("job_dead_seq"),
            Some(StateName::Pending) if count(conn, Counter::Jobs(StateName::Pending))? <= FEW => {
                Source::Index("job_waiting")
            }
            Some(StateName::Pending | StateName::Succeeded | StateName::Cancelled) | None => Source::All,
        })
    }
}

/// What SQL can say of a filter; an absent condition is null.
const CONDITIONS: &str = "(:destination IS NULL OR destination = :destination)
    AND (:dead_reason IS NULL OR dead_reason = :dead_reason)
    AND (:created_from IS NULL OR accepted_at >= :created_from)
    AND (:created_until IS NULL OR accepted_at <= :created_until)
    AND (:finished_from IS NULL OR finished_at >= :finished_from)
    AND (:finished_until IS NULL OR finished_at <= :finished_until)
    AND (:resolved IS NULL OR :resolved = EXISTS (SELECT 1 FROM resolution WHERE resolution.seq = job.seq))";

/// A page in the making.
struct Walk<'a> {
    conn: &'a Connection,
    filter: &'a Filter,
    destination: Option<i64>,
    source: Source,
    order: Order,
    /// All jobs from the beginning to here have been looked at.
    position: i64,
    /// No job is beyond it.
    end: i64,
    limit: usize,
    until: Instant,
    jobs: Vec<Job>,
}

impl Walk<'_> {
    /// Looks at some jobs at least, so that a list comes to its end also where each page has no time.
    fn run(&mut self) -> Result<()> {
        while !self.is_at_end() {
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
                if self.is_long_enough() && self.is_over() {
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

    fn is_at_end(&self) -> bool {
        match self.order {
            Order::LatestFirst => self.position <= self.end,
            Order::EarliestFirst => self.position >= self.end,
        }
    }

    fn is_ahead(&self, seq: i64) -> bool {
        match self.order {
            Order::LatestFirst => seq < self.position,
            Order::EarliestFirst => seq > self.position,
        }
    }

    /// Whether the page may end here if it has to.
    fn is_long_enough(&self) -> bool {
        let searches = self.filter.text.is_some() || self.filter.error.is_some();
        searches || self.jobs.len() >= LEAST_PAGE
    }

    /// Whether the time for this page is.
    fn is_over(&self) -> bool {
        clock::instant() >= self.until
    }

    /// The next jobs that fit as far as SQL can say, and where the jobs after them begin.
    fn stretch(&self) -> Result<(Vec<i64>, i64)> {
        match &self.source {
            Source::All => {
                let end = match self.order {
                    Order::LatestFirst => self.position - STRETCH,
                    Order::EarliestFirst => self.position + STRETCH,
                };
                Ok((self.select("", self.position, end, i64::MAX)?, end))
            }
            Source::Index(index) => {
                let found = self.select(&format!("INDEXED BY {index}"), self.position, self.end, STRETCH)?;
                let end = if (found.len() as i64) < STRETCH { self.end } else { found[found.len() - 1] };
                Ok((found, end))
            }
            Source::Given(seqs) => {
                let mut found = Vec::new();
                for seq in seqs.iter().filter(|seq| self.is_ahead(**seq)) {
                    let before = if self.order == Order::LatestFirst { seq + 1 } else { seq - 1 };
                    found.extend(self.select("", before, *seq, 1)?);
                }
                found.sort_unstable();
                found.dedup();
                if self.order == Order::LatestFirst {
                    found.reverse();
                }
                Ok((found, self.end))
            }
        }
    }

    /// Jobs from beyond `position` to `end` that fit as far as SQL can say, `limit` at most.
    fn select(&self, index: &str, position: i64, end: i64, limit: i64) -> Result<Vec<i64>> {
        let (range, order) = match self.order {
            Order::LatestFirst => ("seq < :position AND seq >= :end", "DESC"),
            Order::EarliestFirst => ("seq > :position AND seq <= :end", "ASC"),
        };
        // An index is only used where its state is written out.
        let state = match self.filter.state {
            Some(state) => format!("state = {}", number(&STATES, state)),
            None => "TRUE".to_owned(),
        };
        let sql = format!(
            "SELECT seq FROM job {index} WHERE {state} AND {range} AND {CONDITIONS} ORDER BY seq {order} LIMIT :limit"
        );
        let filter = self.filter;
        let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
        let mut statement = self.conn.prepare_cached(&sql)?;
        let parameters = named_params! {
            ":position": position,
            ":end": end,
            ":limit": limit,
            ":destination": self.destination,
            ":dead_reason": filter.dead_reason.map(|reason| number(&DEAD_REASONS, reason)),
            ":created_from": millis(filter.created_from),
            ":created_until": millis(filter.created_until),
            ":finished_from": millis(filter.finished_from),
            ":finished_until": millis(filter.finished_until),
            ":resolved": filter.resolved,
        };
        let found = statement.query_map(parameters, |row| row.get(0))?;
        found.collect()
    }

    /// Whether the texts that are looked for are there: in the request's body or the last error, or in the last error alone.
    fn has_text(&self, seq: i64) -> Result<bool> {
        let Filter { text, error, .. } = self.filter;
        if text.is_none() && error.is_none() {
            return Ok(true);
        }
        let sql = "SELECT last_error, body FROM job LEFT JOIN request ON request.seq = job.seq WHERE job.seq = ?";
        self.conn.prepare_cached(sql)?.query_row([seq], |row| {
            let contains = |column: usize, text: &str| -> Result<bool> {
                Ok(match row.get_ref(column)? {
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).contains(text),
                    ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => text.is_empty(),
                })
            };
            let has_error = error.as_deref().map_or(Ok(true), |text| contains(0, text))?;
            let has_text =
                text.as_deref().map_or(Ok(true), |text| Ok::<_, Error>(contains(0, text)? || contains(1, text)?))?;
            Ok(has_error && has_text)
        })
    }
}

#[cfg(test)]
mod tests {
    use jobs_core::conformance::rig::api2;
    use jobs_core::job::{Epoch, JobId, NewJob, Priority, Request};
    use jobs_core::lifecycle;
    use uuid::Uuid;

    use super::super::row::Row;
    use super::super::statements::Statements;
    use super::super::{request, schema};
    use super::*;

    const JOBS: u64 = 30;

    /// A database of jobs whose bodies are "odd" and "even".
    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        schema::migrate(&conn, Timestamp::default()).unwrap();
        conn.execute("INSERT INTO destination VALUES (1, 'api2')", []).unwrap();
        let mut statements = Statements::new(&conn);
        for seq in 1..=JOBS {
            let body = if seq % 2 == 0 { "even" } else { "odd" };
            let new = NewJob {
                id: JobId(Uuid::from_u128(u128::from(seq))),
                id_is_new: false,
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
                callback: None,
            };
            let (job, sent) = lifecycle::enqueue(new, seq, Epoch::NONE, Timestamp::default());
            row::insert(&mut statements, &Row { job, destination: 1, blocks: false }, true).unwrap();
            request::insert(&mut statements, seq as i64, &sent).unwrap();
        }
        drop(statements);
        conn
    }

    #[test]
    fn a_list_whose_pages_have_no_time_comes_to_its_end_all_the_same() {
        let conn = database();
        let over = clock::instant();
        for (state, text) in [(None, None), (Some(StateName::Pending), None), (None, Some("even".to_owned()))] {
            let wanted = if text.is_some() { JOBS / 2 } else { JOBS };
            let filter = Filter { state, text, destination: Some(api2()), ..Filter::default() };
            for order in [Order::LatestFirst, Order::EarliestFirst] {
                let further = |one: &u64, other: &u64| (order == Order::LatestFirst) == (one > other) && one != other;
                let (mut found, mut pages, mut from) = (Vec::new(), 0, None);
                loop {
                    let page = page(&conn, &filter, order, from, 10, over).unwrap();
                    found.extend(page.jobs.into_iter().map(|job| job.seq));
                    pages += 1;
                    let Some(next) = page.next else { break };
                    assert!(from.is_none_or(|from| further(&from, &next)), "a page goes on where the one before ended");
                    from = Some(next);
                }
                assert_eq!(found.len() as u64, wanted, "{filter:?}");
                assert!(found.is_sorted_by(further), "{found:?}");
                // One job a page where its text has to be looked at, and else as many as are asked for.
                assert!(if filter.text.is_some() { pages >= wanted } else { pages == wanted / 10 }, "{pages} pages");
            }
        }
    }
}
