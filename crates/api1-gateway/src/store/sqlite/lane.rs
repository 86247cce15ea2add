//! Ordering keys: which job of a key may be claimed.
//!
//! Of a key the jobs count that wait, are leased, or are dead and block. The first accepted of them can be claimed if it
//! waits, and only while no job of the key is leased (a leased one can come after it once an earlier one was redriven). That
//! answer is kept in `job.head`, so that a claim never asks: every change of a keyed job asks here, three index look-ups.

use rusqlite::{Connection, Result};

use super::row::{Place, Row};

const OTHERS: &str = "SELECT
    (SELECT seq FROM job WHERE destination = ?1 AND ordering_key = ?2 AND place = 0 AND seq <> ?3 ORDER BY seq LIMIT 1),
    EXISTS (SELECT 1 FROM job WHERE destination = ?1 AND ordering_key = ?2 AND place = 1 AND seq <> ?3),
    (SELECT seq FROM job WHERE destination = ?1 AND ordering_key = ?2 AND place = 2 AND seq <> ?3 ORDER BY seq LIMIT 1)";

/// The jobs of a key but one.
#[derive(Debug)]
struct Others {
    first_waiting: Option<i64>,
    any_leased: bool,
    first_blocking: Option<i64>,
}

impl Others {
    fn of(conn: &Connection, row: &Row, key: &str) -> Result<Others> {
        conn.prepare_cached(OTHERS)?.query_row((row.destination, key, row.seq()), |found| {
            Ok(Others { first_waiting: found.get(0)?, any_leased: found.get(1)?, first_blocking: found.get(2)? })
        })
    }

    /// The claimable job of the key, if the one left out is `seq` and has `place`.
    fn claimable(&self, seq: i64, place: Option<Place>) -> Option<i64> {
        let with = |first: Option<i64>, is_one: bool| first.into_iter().chain(is_one.then_some(seq)).min();
        let any_leased = self.any_leased || place == Some(Place::Leased);
        let waiting = with(self.first_waiting, place == Some(Place::Waiting));
        let blocking = with(self.first_blocking, place == Some(Place::Blocking));
        waiting.filter(|waiting| !any_leased && blocking.is_none_or(|blocking| *waiting < blocking))
    }
}

/// A job is about to change its place from `before` to the row's: passes the head on, and answers whether the row is it now.
pub(super) fn pass_head(conn: &Connection, row: &Row, before: Option<Place>) -> Result<bool> {
    let Some(key) = &row.job.ordering_key else { return Ok(true) };
    let others = Others::of(conn, row, key)?;
    let was = others.claimable(row.seq(), before);
    let is = others.claimable(row.seq(), row.place());
    if was != is {
        for (seq, head) in [(was, false), (is, true)] {
            if let Some(seq) = seq.filter(|seq| *seq != row.seq()) {
                conn.prepare_cached("UPDATE job SET head = ? WHERE seq = ?")?.execute((head, seq))?;
            }
        }
    }
    Ok(is == Some(row.seq()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Others = Others { first_waiting: None, any_leased: false, first_blocking: None };

    #[test]
    fn the_first_that_waits_is_claimable() {
        assert_eq!(NOBODY.claimable(5, Some(Place::Waiting)), Some(5));
        assert_eq!(Others { first_waiting: Some(3), ..NOBODY }.claimable(5, Some(Place::Waiting)), Some(3));
        assert_eq!(Others { first_waiting: Some(7), ..NOBODY }.claimable(5, Some(Place::Waiting)), Some(5));
        assert_eq!(Others { first_waiting: Some(7), ..NOBODY }.claimable(5, None), Some(7));
    }

    #[test]
    fn nobody_passes_one_that_is_leased_whatever_its_place() {
        assert_eq!(Others { first_waiting: Some(3), ..NOBODY }.claimable(5, Some(Place::Leased)), None);
        assert_eq!(Others { any_leased: true, ..NOBODY }.claimable(5, Some(Place::Waiting)), None);
    }

    #[test]
    fn a_dead_one_that_blocks_stops_those_behind_it_and_not_those_before() {
        let blocked = Others { first_blocking: Some(4), ..NOBODY };
        assert_eq!(blocked.claimable(5, Some(Place::Waiting)), None);
        assert_eq!(blocked.claimable(3, Some(Place::Waiting)), Some(3));
        assert_eq!(Others { first_waiting: Some(7), ..NOBODY }.claimable(5, Some(Place::Blocking)), None);
    }
}
