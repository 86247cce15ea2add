//! What the writer knows by heart. All of it but the leases' deadlines is on the disk too, and is read from there at open; a row, when
//! it is asked for.

use std::collections::HashMap;

use jobs_core::job::{DestinationName, Epoch, JobId, WorkerId};
use jobs_core::lease::{LeaseKey, LeaseTable};
use jobs_core::time::Mono;
use rusqlite::{Connection, OptionalExtension, Result};

use super::codes::{COUNTERS, Counter, number};
use super::columns::Reader;
use super::epochs::Epochs;
use super::names::Names;
use super::row::Row;

/// The writer's memory.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) names: Names,
    pub(super) epochs: Epochs,
    pub(super) last_seq: u64,
    /// Changed only by [`Effect`]s, when what they follow from is committed.
    pub(super) leases: LeaseTable,
    /// Rows of jobs that were leased since the start, as they are on the disk, so that a settle reads nothing: as many as there are
    /// leases, at most.
    pub(super) leased_rows: HashMap<JobId, Row>,
}

/// What a batch changes in memory while it runs, as it was before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    names: usize,
    epochs: Epochs,
    last_seq: u64,
}

/// What follows in memory from a batch once it is committed.
#[derive(Debug)]
pub(super) enum Effect {
    Leased {
        key: LeaseKey,
        worker: WorkerId,
        destination: DestinationName,
        now: Mono,
    },
    Ended(LeaseKey),
    CancelRequested(JobId),
    StartTaken(u32),
    /// The row of a leased job was written.
    RowLeased(Box<Row>),
    /// The row of a job was written that is leased no longer.
    RowFreed(JobId),
}

impl Known {
    /// Reads it all. `start` has been made durable; every lease found gets a full term from `now`.
    pub(super) fn load(conn: &Connection, start: u32, now: Mono) -> Result<Known> {
        let names = Names::load(conn)?;
        let leases = load_leases(conn, &names, now)?;
        let accepted = "SELECT value FROM counter WHERE kind = ? AND destination = 0";
        let last_seq: Option<i64> =
            conn.query_row(accepted, [number(&COUNTERS, Counter::Accepted)], |row| row.get(0)).optional()?;
        let last_seq = last_seq.unwrap_or_default().cast_unsigned();
        Ok(Known { names, epochs: Epochs::new(start), last_seq, leases, leased_rows: HashMap::new() })
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { names: self.names.count(), epochs: self.epochs, last_seq: self.last_seq }
    }

    /// The batch that began at `mark` was rolled back.
    pub(super) fn restore(&mut self, mark: Mark) {
        self.names.truncate(mark.names);
        self.epochs = mark.epochs;
        self.last_seq = mark.last_seq;
    }

    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Leased { key, worker, destination, now } => self.leases.grant(key, worker, destination, false, now),
            Effect::Ended(key) => self.leases.end(key),
            Effect::CancelRequested(job_id) => self.leases.request_cancel(job_id),
            Effect::StartTaken(start) => self.epochs.taken(start),
            Effect::RowLeased(row) => drop(self.leased_rows.insert(row.job.id, *row)),
            Effect::RowFreed(job_id) => drop(self.leased_rows.remove(&job_id)),
        }
    }
}

fn load_leases(conn: &Connection, names: &Names, now: Mono) -> Result<LeaseTable> {
    let mut leases = LeaseTable::default();
    let mut statement =
        conn.prepare("SELECT id, epoch, worker, destination, cancel_requested FROM job WHERE state = 1")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut columns = Reader::new(row);
        let key = LeaseKey { job_id: JobId(columns.uuid()?), epoch: columns.epoch()? };
        let worker = WorkerId(columns.uuid()?);
        let destination = columns.name(|number| names.name(number))?;
        leases.grant(key, worker, destination, columns.flag()?, now);
    }
    Ok(leases)
}

/// As [`take_start`], committed. In a transaction, because what a statement writes that answers with a row is else committed as the
/// statement is put away, and nobody hears how that went: a gateway would go on under a number that the next start takes again.
pub(super) fn take_durable_start(conn: &Connection) -> Result<Option<u32>> {
    let transaction = conn.unchecked_transaction()?;
    let start = take_start(&transaction)?;
    transaction.commit()?;
    Ok(start)
}

/// The number that is in `epoch`'s high half, made durable by the caller: see [`Epochs`].
pub(super) fn take_start(conn: &Connection) -> Result<Option<u32>> {
    let sql = "UPDATE meta SET value = value + 1 WHERE name = 'start' AND value < ? RETURNING value";
    conn.query_row(sql, [Epoch::MAX_START], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests {
    use jobs_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_start_whose_number_cannot_be_committed_fails_and_the_number_is_still_to_be_had() {
        let mut conn = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&conn, Timestamp::default()).unwrap();
        conn.commit_hook(Some(|| true)).unwrap();
        assert!(take_durable_start(&conn).is_err());
        conn.commit_hook(None::<fn() -> bool>).unwrap();
        assert_eq!(take_durable_start(&conn), Ok(Some(1)));
    }
}
