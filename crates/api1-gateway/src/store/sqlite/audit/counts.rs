//! Kept counts beside the rows they count.

use std::collections::BTreeMap;

use jobs_core::job::StateName;
use jobs_core::lifecycle::DuplicateCause;
use rusqlite::{Connection, Result};

use super::super::codes::{Counter, STATES};
use super::super::columns::Reader;
use super::super::query;
use super::Audit;

/// Destinations are numbered from 1 without gaps: the gateway reads them as a list.
pub(super) fn names(conn: &Connection, audit: &mut Audit) -> Result<()> {
    let (count, last): (i64, i64) =
        conn.query_row("SELECT count(*), coalesce(max(id), 0) FROM destination", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if count != last {
        audit.note(format!("{count} destinations are numbered up to {last}"));
    }
    super::note_rows(
        conn,
        audit,
        "SELECT destination FROM destination_gate WHERE destination NOT IN (SELECT id FROM destination)",
        |number| format!("there is a gate of destination {number}, which does not exist"),
    )
}

pub(super) fn all(conn: &Connection, audit: &mut Audit) -> Result<()> {
    let kept =
        by_state(conn, "SELECT kind - 5, destination, value FROM counter WHERE kind BETWEEN 5 AND 9 AND value <> 0")?;
    let there = by_state(conn, "SELECT state, destination, count(*) FROM job GROUP BY state, destination")?;
    for key in kept.keys().chain(there.keys().filter(|key| !kept.contains_key(*key))) {
        let (kept, there) = (kept.get(key).copied().unwrap_or_default(), there.get(key).copied().unwrap_or_default());
        if kept != there {
            let (state, destination) = key;
            audit.note(format!(
                "{kept} jobs of destination {destination} are counted as {} and {there} are",
                state.as_str()
            ));
        }
    }
    let resolved = "SELECT job.seq FROM resolution JOIN job ON job.seq = resolution.seq WHERE job.state <> 3
        UNION ALL SELECT seq FROM resolution WHERE seq NOT IN (SELECT seq FROM job)";
    super::note_rows(conn, audit, resolved, |seq| format!("row {seq} is settled otherwise and is of no dead job"))?;
    totals(conn, audit)
}

fn totals(conn: &Connection, audit: &mut Audit) -> Result<()> {
    let rows = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    let [accepted, purged, attempts] =
        [Counter::Accepted, Counter::Purged, Counter::Attempts].map(|counter| query::count(conn, counter));
    let (accepted, purged, attempts) = (accepted?, purged?, attempts?);
    let jobs = rows("SELECT count(*) FROM job")?;
    if accepted != jobs + purged {
        audit.note(format!("{accepted} jobs are counted as accepted, and {jobs} are there and {purged} purged"));
    }
    let last = rows("SELECT coalesce(max(seq), 0) FROM job")?;
    if last > accepted {
        audit.note(format!("the last job is number {last} and {accepted} are counted as accepted"));
    }
    let resolved = query::count(conn, Counter::Resolved)?;
    let settled = rows("SELECT count(*) FROM resolution")?;
    if resolved != settled {
        audit.note(format!("{resolved} dead jobs are counted as settled otherwise and {settled} are"));
    }
    // What belonged to purged jobs is counted and no longer there.
    let lapsed = query::count(conn, Counter::Duplicates(DuplicateCause::LeaseLapsed))?;
    let logged = [
        ("attempts", attempts, rows("SELECT count(*) FROM attempt WHERE outcome <> 0")?),
        (
            "leases that lapsed",
            lapsed,
            rows("SELECT count(*) FROM attempt WHERE outcome = 0 AND next_run_at IS NOT NULL")?,
        ),
    ];
    for (what, counted, there) in logged {
        if counted < there || (purged == 0 && counted != there) {
            audit.note(format!("{counted} {what} are counted and {there} are logged"));
        }
    }
    Ok(())
}

/// Rows of (state, destination, count).
fn by_state(conn: &Connection, sql: &str) -> Result<BTreeMap<(StateName, i64), i64>> {
    let mut statement = conn.prepare(sql)?;
    let counts = statement.query_map([], |row| {
        let mut columns = Reader::new(row);
        Ok(((columns.word(&STATES)?, columns.get()?), columns.get()?))
    })?;
    counts.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::codes::{COUNTERS, number};
    use super::*;

    #[test]
    fn the_counters_of_jobs_begin_where_the_sql_says() {
        for state in STATES {
            let code = number(&COUNTERS, Counter::Jobs(state));
            assert!((5..=9).contains(&code));
            assert_eq!(code - 5, number(&STATES, state));
        }
    }
}
