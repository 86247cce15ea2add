//! What an operation works in: one transaction of the writer, shared by all operations of a batch.
//!
//! Rows go through here, so that what depends on a change is never forgotten: the ordering key's head and the kept counters.
//! Memory that must not run ahead of the disk follows as [`Effect`]s once the batch is committed.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jobs_core::job::{DestinationName, JobId, StateName};
use jobs_core::redrive::{self, Verdict};
use rusqlite::{Connection, OptionalExtension, Params, Result};

use super::codes::{COUNTERS, Counter, number};
use super::enqueue;
use super::known::{Effect, Known};
use super::lane;
use super::operators;
use super::row::{self, Row, Was};
use super::statements::Statements;

static BY_SEQ: LazyLock<String> = LazyLock::new(|| row::select("FROM job WHERE seq = ?"));

/// A transaction under way.
pub(super) struct Batch<'a> {
    pub(super) conn: &'a Connection,
    pub(super) known: &'a mut Known,
    /// For what is done once a job.
    pub(super) statements: Statements<'a>,
    counts: BTreeMap<(Counter, i64), i64>,
    effects: Vec<Effect>,
    /// Outcomes by mass redrive.
    told: BTreeMap<(u32, Verdict), i64>,
    /// Jobs that may be written beyond those that were announced, without filling the log.
    spare: usize,
    /// The disk has too little left for more jobs; what is stored may still be settled.
    pub(super) refuses_jobs: bool,
}

impl<'a> Batch<'a> {
    /// `conn` is in a transaction. `spare`: see [`Batch::spend`].
    pub(super) fn new(conn: &'a Connection, known: &'a mut Known, spare: usize) -> Self {
        let statements = Statements::new(conn);
        let (counts, effects, told) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Batch { conn, known, statements, counts, effects, told, spare, refuses_jobs: false }
    }

    /// For an operation that cannot say beforehand how much there is to do: of the `wanted` jobs, how many it may write.
    pub(super) fn spend(&mut self, wanted: usize) -> usize {
        let granted = wanted.min(self.spare);
        self.spare -= granted;
        granted
    }

    pub(super) fn row(&mut self, seq: i64) -> Result<Option<Row>> {
        self.one_row(&BY_SEQ, [seq])
    }

    pub(super) fn row_of(&mut self, id: JobId) -> Result<Option<Row>> {
        if let Some(row) = self.known.leased_rows.get(&id) {
            return Ok(Some(row.clone()));
        }
        self.one_row(&row::BY_ID, row::id_key(id))
    }

    pub(super) fn seq_of(&mut self, id: JobId) -> Result<Option<i64>> {
        self.statements.get(&row::SEQ_BY_ID)?.query_row(row::id_key(id), |found| found.get(0)).optional()
    }

    /// The number of a destination, which it is given now if it has none.
    pub(super) fn destination(&mut self, name: &DestinationName) -> Result<i64> {
        self.known.names.intern(self.conn, name)
    }

    /// Adds a new job.
    pub(super) fn insert(&mut self, row: &Row) -> Result<()> {
        let head = lane::pass_head(self.conn, row, None)?;
        row::insert(&mut self.statements, row, head)?;
        self.count_job(row.destination, row.job.state.name(), 1);
        Ok(())
    }

    /// Writes a row that has changed. `was` is what it was before.
    pub(super) fn save(&mut self, row: &Row, was: Was) -> Result<()> {
        let head = lane::pass_head(self.conn, row, was.place)?;
        row::update(&mut self.statements, row, head)?;
        let is = row.job.state.name();
        // What is known of a row is what was committed: until this is, it is read from the database.
        self.known.leased_rows.remove(&row.job.id);
        match (was.state, is) {
            (_, StateName::Leased) => self.then(Effect::RowLeased(Box::new(row.clone()))),
            (StateName::Leased, _) => self.then(Effect::RowFreed(row.job.id)),
            _ => {}
        }
        if is != was.state {
            self.count_job(row.destination, was.state, -1);
            self.count_job(row.destination, is, 1);
        }
        if is != was.state && is.is_terminal() && row.job.callback.is_some() {
            enqueue::tell_caller(self, row)?;
        }
        if was.state == StateName::Dead && is != StateName::Dead && operators::unresolve(self.conn, row.seq())? > 0 {
            self.count_of(Counter::Resolved, row.destination, -1);
        }
        if let Some(told) = redrive::verdict(&row.job).filter(|_| !was.told) {
            *self.told.entry(told).or_default() += 1;
        }
        Ok(())
    }

    pub(super) fn count(&mut self, counter: Counter, change: i64) {
        *self.counts.entry((counter, 0)).or_default() += change;
    }

    pub(super) fn count_job(&mut self, destination: i64, state: StateName, change: i64) {
        self.count_of(Counter::Jobs(state), destination, change);
    }

    pub(super) fn count_of(&mut self, counter: Counter, destination: i64, change: i64) {
        *self.counts.entry((counter, destination)).or_default() += change;
    }

    pub(super) fn then(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Writes what is written once per batch, and hands out what is to follow the commit.
    pub(super) fn finish(self) -> Result<Vec<Effect>> {
        let add = "INSERT INTO counter (kind, destination, value) VALUES (?1, ?2, ?3)
            ON CONFLICT (kind, destination) DO UPDATE SET value = value + excluded.value";
        let mut add = self.conn.prepare_cached(add)?;
        for ((counter, destination), change) in self.counts.into_iter().filter(|(_, change)| *change != 0) {
            add.execute((number(&COUNTERS, counter), destination, change))?;
        }
        for ((redrive, verdict), jobs) in self.told {
            operators::tell(self.conn, redrive, verdict, jobs)?;
        }
        Ok(self.effects)
    }

    fn one_row(&mut self, sql: &'static str, key: impl Params) -> Result<Option<Row>> {
        let names = &self.known.names;
        let find = self.statements.get(sql)?;
        find.query_row(key, |found| row::decode(found, |number| names.name(number))).optional()
    }
}
