//! The durable store: one SQLite file, written by one thread.
//!
//! In reading order: [`open`] makes sure of the file, [`schema`] says what is in it; [`queue`] gathers what is asked,
//! [`writer`] runs it in batches, a [`batch`] at a time, by the verbs [`enqueue`], [`claim`], [`settle`], [`steer`],
//! [`operators`] and [`sweep`]; [`checkpoint`] and the [`checkpointer`] keep the log small. [`readers`] answer questions ([`query`], [`list`]) beside the writer.
//!
//! SQL decides one thing only: which rows can be claimed, and in what order. Every change of a job is computed by
//! `jobs_core::lifecycle` on the row as it was, in the transaction that writes it. [`audit`] checks a file that nobody has open.

mod attempt;
pub mod audit;
mod backup;
mod batch;
mod checkpoint;
mod checkpointer;
mod claim;
mod codes;
mod columns;
mod enqueue;
mod epochs;
mod error;
mod known;
mod lane;
mod list;
mod names;
mod open;
mod operation;
mod operators;
mod query;
mod queue;
mod readers;
mod request;
mod row;
mod schema;
mod settle;
mod space;
mod statements;
mod steer;
mod steering;
mod sweep;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jobs_core::destination::OrderingOnDead;
use jobs_core::job::{DestinationName, JobId, NewJob, Request, WorkerId};
use jobs_core::lease::{Extended, LeaseKey};
use jobs_core::lifecycle::{Cancel, Redrive};
use jobs_core::meters::Meters;
use jobs_core::outcome::Response;
use jobs_core::store::{
    Claimed, Enqueued, Filter, GateRecord, Grant, JobDetail, JobStore, Judge, Page, Purged, Retention, SettleAnswer,
    Settlement, Stats, Steered, StoreError, Swept,
};
use jobs_core::time::{Now, Timestamp};

use self::checkpoint::{Checkpoints, Meter};
use self::checkpointer::Checkpointer;
use self::known::Known;
use self::open::OpenError;
use self::operation::{Class, Cost};
use self::queue::Queue;
use self::readers::Readers;
use self::space::Disk;
use self::writer::Writer;

/// What a verb that touches one row costs.
const ONE: Cost = Cost { jobs: 1, bytes: 0 };

/// How a store treats its disk.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Whether commits are synced. If not, what is acknowledged is gone when the power fails: for a drill that must see that.
    pub synced: bool,
    /// New jobs are refused while the disk has fewer bytes free than this, so that what is stored can still be settled.
    pub min_free: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Terms { synced: true, min_free: 0 }
    }
}

/// A [`JobStore`] in a SQLite file. Dropping it without closing it ends its writer all the same, a little later.
pub struct SqliteStore {
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    meter: Arc<Meter>,
    disk: Disk,
    start: u32,
}

impl SqliteStore {
    /// Opens the file at `path`, or makes it. Leases found in it get a full term from `now`. Blocks: it may have to recover
    /// from a crash, or to bring an older schema up.
    pub fn open(path: &Path, now: Now) -> Result<SqliteStore, StoreError> {
        Self::open_on(path, Terms::default(), now)
    }

    /// As [`SqliteStore::open`], on other than the usual terms.
    pub fn open_on(path: &Path, terms: Terms, now: Now) -> Result<SqliteStore, StoreError> {
        Self::try_open(path, terms, now).map_err(|error| error.of(path))
    }

    fn try_open(path: &Path, terms: Terms, now: Now) -> Result<SqliteStore, OpenError> {
        let path = open::resolve(path)?;
        let lock = open::lock(&path)?;
        let mut conn = open::connect(&path)?;
        let meter = Arc::new(Meter::default());
        meter.watch(&mut conn)?;
        schema::migrate(&conn, now.wall)?;
        let start = known::take_durable_start(&conn)?.ok_or(OpenError::NoStartsLeft)?;
        checkpoint::truncate(&conn, &meter)?;
        open::sync_folder(&path)?;
        let known = Known::load(&conn, start, now.mono)?;
        let queue = Arc::new(Queue::new());
        let readers = Arc::new(Readers::open(&path, Arc::clone(&queue))?);
        let disk = Disk::under(open::parent(&path), terms.min_free);
        let (queue_, readers_, meter_) = (Arc::clone(&queue), Arc::clone(&readers), Arc::clone(&meter));
        let database = File::open(&path)?;
        let checkpointer = Checkpointer::spawn(open::connect_beside(&path)?, database, Arc::clone(&queue))?;
        let checkpoints = Checkpoints::new(meter_, Arc::clone(&readers), checkpointer, disk.clone());
        Writer { conn, known, queue: queue_, readers: readers_, checkpoints, synced: terms.synced, lock }.spawn()?;
        Ok(SqliteStore { queue, readers, meter, disk, start })
    }

    /// Bytes in use of the log that has yet to be copied into the database.
    pub fn log_bytes(&self) -> u64 {
        self.meter.log_bytes()
    }

    /// Commits since it was opened.
    pub fn commits(&self) -> u64 {
        self.meter.commits()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.queue.close_unwatched();
    }
}

#[async_trait]
impl JobStore for SqliteStore {
    fn start(&self) -> u32 {
        self.start
    }

    async fn enqueue(&self, jobs: Vec<NewJob>, now: Now) -> Result<Vec<Enqueued>, StoreError> {
        let cost = enqueue::cost(&jobs);
        self.queue.ask(Class::Enqueue, cost, move |batch| enqueue::enqueue(batch, jobs, now.wall)).await
    }

    async fn claim(&self, worker: WorkerId, grants: Vec<Grant>, now: Now) -> Result<Claimed, StoreError> {
        let cost = claim::cost(&grants);
        self.queue.ask(Class::Claim, cost, move |batch| Ok(claim::claim(batch, worker, &grants, now)?)).await
    }

    async fn extend(&self, worker: WorkerId, holding: Vec<LeaseKey>, now: Now) -> Result<Extended, StoreError> {
        self.queue.glance(move |leases| leases.extend(worker, &holding, now.mono)).await
    }

    async fn settle(
        &self,
        worker: WorkerId,
        settlements: Vec<Settlement>,
        judge: Arc<dyn Judge>,
        now: Now,
    ) -> Result<Vec<SettleAnswer>, StoreError> {
        let cost = settle::cost(&settlements);
        let work =
            move |batch: &mut batch::Batch<'_>| Ok(settle::settle(batch, worker, settlements, judge.as_ref(), now)?);
        self.queue.ask(Class::Settle, cost, work).await
    }

    async fn cancel(
        &self,
        id: JobId,
        ordering_on_dead: OrderingOnDead,
        now: Now,
    ) -> Result<Steered<Cancel>, StoreError> {
        let work = move |batch: &mut batch::Batch<'_>| Ok(steer::cancel(batch, id, ordering_on_dead, now.wall)?);
        self.queue.ask(Class::Enqueue, ONE, work).await
    }

    async fn redrive(&self, id: JobId, new_key: bool, now: Now) -> Result<Steered<Redrive>, StoreError> {
        let work = move |batch: &mut batch::Batch<'_>| Ok(steer::redrive(batch, id, new_key, now.wall)?);
        self.queue.ask(Class::Enqueue, ONE, work).await
    }

    async fn sweep(&self, judge: Arc<dyn Judge>, now: Now) -> Result<Swept, StoreError> {
        let work = move |batch: &mut batch::Batch<'_>| Ok(sweep::sweep(batch, judge.as_ref(), now)?);
        self.queue.ask(Class::Settle, sweep::COST, work).await
    }

    async fn purge(&self, retention: Retention, now: Now) -> Result<Purged, StoreError> {
        let work = move |batch: &mut batch::Batch<'_>| Ok(sweep::purge(batch, retention, now.wall)?);
        self.queue.ask(Class::Enqueue, sweep::COST, work).await
    }

    async fn job(&self, id: JobId) -> Result<Option<JobDetail>, StoreError> {
        self.readers.read(move |conn| query::job(conn, id)).await
    }

    async fn request(&self, id: JobId) -> Result<Option<Request>, StoreError> {
        self.readers.read(move |conn| query::request(conn, id)).await
    }

    async fn response(&self, id: JobId) -> Result<Option<(Option<u16>, Response)>, StoreError> {
        self.readers.read(move |conn| query::response(conn, id)).await
    }

    async fn list(&self, filter: Filter, below: Option<u64>, limit: u32) -> Result<Page, StoreError> {
        self.readers.read(move |conn| list::list(conn, &filter, below, limit)).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.readers.read(query::stats).await
    }

    async fn oldest_due(&self, destination: &DestinationName) -> Result<Option<Timestamp>, StoreError> {
        let destination = destination.clone();
        self.readers.read(move |conn| query::oldest_due(conn, &destination)).await
    }

    async fn gates(&self) -> Result<BTreeMap<DestinationName, GateRecord>, StoreError> {
        self.readers.read(|conn| Ok(steer::read_gates(conn)?.into_iter().collect())).await
    }

    async fn put_gate(&self, destination: DestinationName, gate: GateRecord) -> Result<(), StoreError> {
        let work = move |batch: &mut batch::Batch<'_>| Ok(steer::put_gate(batch, &destination, &gate)?);
        self.queue.ask(Class::Settle, ONE, work).await
    }

    async fn leases(&self) -> Result<Vec<(LeaseKey, WorkerId, DestinationName)>, StoreError> {
        let all = |leases: &mut jobs_core::lease::LeaseTable| {
            let held = leases.iter();
            held.map(|(job_id, held)| {
                (LeaseKey { job_id: *job_id, epoch: held.epoch }, held.worker, held.destination.clone())
            })
            .collect()
        };
        self.queue.glance(all).await
    }

    fn meters(&self) -> Meters {
        self.meter.meters()
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.queue.check()?;
        let free = self.disk.free_bytes().map_err(|error| {
            StoreError::Unusable(format!("cannot ask for the free space of {}: {error}", self.disk.folder().display()))
        })?;
        Ok(Some(free))
    }

    /// The database as it is at the end of the copying.
    async fn backup(&self, to: PathBuf) -> Result<(), StoreError> {
        self.queue.backup(to).await
    }

    async fn broken(&self) -> String {
        self.queue.broken().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.queue.close().await
    }
}
