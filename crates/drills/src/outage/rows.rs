//! What a recovery writes into the store, seen by another reader of its file.
//!
//! The release of a backlog must not rewrite it: a mass update is itself an outage. So the rows of jobs are read just before the
//! recovery and again when its first 2xx is known. One that waits both times and that no worker has claimed meanwhile, which its
//! epoch shows, must be the same; the rows of gates are counted that are not.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use serde::Serialize;

/// Rows that differ between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Written {
    /// Of jobs that were not claimed in between; how many there were of these.
    pub(super) waiting: u64,
    pub(super) looked_at: u64,
    /// Of gates.
    pub(super) gates: u64,
}

/// The store's rows at one moment.
#[derive(Debug)]
pub(super) struct Rows {
    /// Those that wait, by job: the epoch of its last claim, and a hash of the whole row.
    jobs: HashMap<i64, (i64, u64)>,
    gates: HashMap<i64, u64>,
}

impl Rows {
    /// Reads the store below `folder`; `None` if it cannot be read, as where it is no file.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(folder.join("jobs.db"), flags).ok()?;
        // One snapshot for both tables.
        let snapshot = conn.transaction().ok()?;
        let jobs = all(&snapshot, "SELECT seq, last_epoch, * FROM job WHERE state = 0", |row| {
            Ok((row.get(0)?, (row.get(1)?, hash(row, 2)?)))
        });
        let gates =
            all(&snapshot, "SELECT destination, * FROM destination_gate", |row| Ok((row.get(0)?, hash(row, 1)?)));
        Some(Rows { jobs: jobs.ok()?, gates: gates.ok()? })
    }

    /// What was written between this look and a `later` one, claims and what follows from them apart.
    pub(super) fn written_until(&self, later: &Rows) -> Written {
        let pairs = self.jobs.iter().filter_map(|(job, before)| Some((before, later.jobs.get(job)?)));
        let unclaimed: Vec<bool> = pairs.filter(|(a, b)| a.0 == b.0).map(|(a, b)| a.1 != b.1).collect();
        let gates = later.gates.iter().filter(|(gate, hash)| self.gates.get(*gate) != Some(hash)).count();
        Written {
            waiting: unclaimed.iter().filter(|differs| **differs).count() as u64,
            looked_at: unclaimed.len() as u64,
            gates: gates as u64,
        }
    }
}

fn all<T>(
    conn: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<(i64, T)>,
) -> rusqlite::Result<HashMap<i64, T>> {
    conn.prepare(sql)?.query_map([], |row| read(row))?.collect()
}

/// A hash of the columns from `first` on.
fn hash(row: &Row<'_>, first: usize) -> rusqlite::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for column in first..row.as_ref().column_count() {
        match row.get_ref(column)? {
            ValueRef::Null => 0.hash(&mut hasher),
            ValueRef::Integer(value) => value.hash(&mut hasher),
            ValueRef::Real(value) => value.to_bits().hash(&mut hasher),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.hash(&mut hasher),
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(jobs: &[(i64, i64, u64)], gates: &[(i64, u64)]) -> Rows {
        let jobs = jobs.iter().map(|(job, epoch, hash)| (*job, (*epoch, *hash))).collect();
        Rows { jobs, gates: gates.iter().copied().collect() }
    }

    #[test]
    fn a_row_that_changed_without_a_claim_is_counted_and_a_claimed_one_is_not() {
        let before = rows(&[(1, 5, 10), (2, 0, 20), (3, 0, 30)], &[(1, 100), (2, 200)]);
        let after = rows(&[(1, 9, 11), (2, 0, 21), (3, 0, 30)], &[(1, 101), (2, 200)]);
        assert_eq!(before.written_until(&after), Written { waiting: 1, looked_at: 2, gates: 1 });
        assert_eq!(before.written_until(&before), Written { waiting: 0, looked_at: 3, gates: 0 });
    }
}
