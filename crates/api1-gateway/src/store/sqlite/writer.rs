//! The one thread that writes: it takes what waits, runs it in one transaction, commits, and answers.
//!
//! Nothing is answered before the commit that holds it. What fails for want of space is rolled back and refused, as is what
//! could not begin because another program holds the file; whatever else fails leaves it unknown what is on the disk, so the
//! writer ends and with it the store: see [`super::error`].

use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jobs_core::process::clock;
use jobs_core::store::StoreError;
use rusqlite::{Connection, Result};

use super::backup;
use super::batch::Batch;
use super::checkpoint::{self, Checkpoints};
use super::error::{Fate, is_busy};
use super::known::{self, Effect, Known};
use super::operation::Operation;
use super::queue::{Queue, Taken};
use super::readers::Readers;

/// All that the thread owns.
pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) known: Known,
    pub(super) queue: Arc<Queue>,
    pub(super) readers: Arc<Readers>,
    pub(super) checkpoints: Checkpoints,
    /// Whether a commit that must be durable is synced; false only for a drill that is to lose.
    pub(super) synced: bool,
    /// Held as long as the writer is there.
    pub(super) lock: File,
}

impl Writer {
    /// Starts the thread, which ends when the store is closed or has broken.
    pub(super) fn spawn(self) -> std::io::Result<()> {
        let queue = Arc::clone(&self.queue);
        let run = move || {
            let end = match catch_unwind(AssertUnwindSafe(|| self.run())) {
                Ok(Ok(())) => StoreError::Closed,
                Ok(Err(error)) => StoreError::Broken(error.to_string()),
                Err(panic) => StoreError::Broken(format!("the writer panicked: {}", panic_text(panic.as_ref()))),
            };
            queue.end(end);
        };
        std::thread::Builder::new().name("sqlite-writer".to_owned()).spawn(run).map(drop)
    }

    /// Serves until the store is closed. An error: what a write has come to is unknown.
    fn run(self) -> Result<()> {
        let Writer { conn, known, queue, readers, checkpoints, synced, lock } = self;
        let mut desk = Desk { conn: &conn, known, checkpoints, may_sync: synced, is_synced: true };
        while let Some(mut taken) = queue.take(desk.checkpoints.room())? {
            let backup = taken.backup.take();
            desk.serve(taken)?;
            if let Some(wanted) = backup {
                backup::run(&conn, wanted, || {
                    desk.serve(queue.take_waiting(desk.checkpoints.room())?)?;
                    Ok(queue.check().is_ok())
                })?;
            }
        }
        readers.close();
        desk.checkpoints.close(&conn)?;
        conn.close().map_err(|(_, error)| error)?;
        drop(lock);
        Ok(())
    }
}

/// The writer at work. It shares the connection with a backup that is under way.
struct Desk<'a> {
    conn: &'a Connection,
    known: Known,
    checkpoints: Checkpoints,
    /// See [`Writer::synced`].
    may_sync: bool,
    /// Whether commits are synced: `PRAGMA synchronous` is FULL rather than NORMAL.
    is_synced: bool,
}

impl Desk<'_> {
    fn serve(&mut self, mut taken: Taken) -> Result<()> {
        for look in taken.glances.drain(..) {
            look(&mut self.known.leases);
        }
        if taken.operations.is_empty() {
            return Ok(());
        }
        if checkpoint::log_bytes(taken.cost) > self.checkpoints.room()
            && let Err(refusal) = self.checkpoints.make_room(self.conn)?
        {
            answer(taken.operations, Err(refusal));
            return Ok(());
        }
        self.write(taken)?;
        self.checkpoints.tend(self.conn)
    }

    /// Runs a batch. An error: what it has come to is unknown, as its waiters learn when the writer has ended.
    fn write(&mut self, mut taken: Taken) -> Result<()> {
        let begun = self.begin(taken.durable && self.may_sync);
        if begun.as_ref().is_err_and(is_busy) {
            // Only here it is known that nothing was done. A shell with a transaction of its own must not end the gateway.
            let reason = "another program writes to the database file and does not let go of it: end that program";
            log::error!("{reason}");
            answer(taken.operations, Err(StoreError::Busy(reason.to_owned())));
            return Ok(());
        }
        let mark = self.known.mark();
        match begun.and_then(|()| self.transact(&mut taken)) {
            Ok(effects) => {
                effects.into_iter().for_each(|effect| self.known.apply(effect));
                answer(taken.operations, Ok(()));
                Ok(())
            }
            Err(error) => match (Fate::of(&error), self.roll_back()) {
                (Fate::Full(reason), Ok(())) => {
                    self.known.restore(mark);
                    log::error!(reason = reason.as_str(); "the disk is full: what was asked is refused");
                    answer(taken.operations, Err(StoreError::Full(reason)));
                    self.checkpoints.relieve(self.conn)
                }
                (Fate::Full(_), Err(worse)) => Err(worse),
                (Fate::Unknown, _) => Err(error),
            },
        }
    }

    fn begin(&mut self, synced: bool) -> Result<()> {
        self.sync(synced)?;
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    fn transact(&mut self, taken: &mut Taken) -> Result<Vec<Effect>> {
        let spare = checkpoint::spare_jobs(self.checkpoints.room(), taken.cost);
        let mut batch = Batch::new(self.conn, &mut self.known, spare);
        batch.refuses_jobs = taken.durable && self.checkpoints.is_disk_too_full_for(taken.cost);
        for operation in &mut taken.operations {
            operation.run(&mut batch)?;
        }
        if taken.durable
            && let Some(start) = batch.known.epochs.wanted_start()
        {
            known::take_start(self.conn)?;
            batch.then(Effect::StartTaken(start));
        }
        let effects = batch.finish()?;
        let begun = clock::instant();
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        if taken.durable {
            self.checkpoints.committed(taken.operations.len(), begun.elapsed());
        }
        Ok(effects)
    }

    /// Chooses whether commits are synced. A later synced commit syncs all before it, since the log is one file.
    fn sync(&mut self, durable: bool) -> Result<()> {
        if self.is_synced != durable {
            // Not a cached statement: this one does its work while it is prepared.
            self.conn.execute_batch(if durable {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            })?;
            self.is_synced = durable;
        }
        Ok(())
    }

    fn roll_back(&self) -> Result<()> {
        // Some failures have rolled back already.
        if self.conn.is_autocommit() { Ok(()) } else { self.conn.execute_batch("ROLLBACK") }
    }
}

fn answer(operations: Vec<Box<dyn Operation>>, ended: Result<(), StoreError>) {
    for operation in operations {
        operation.answer(ended.clone());
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use bytes::Bytes;
    use jobs_core::conformance::rig::{BEGIN, Rig, TestJudge, WORKER, plain_job};
    use jobs_core::job::{Job, NewJob};
    use jobs_core::lease::LeaseKey;
    use jobs_core::lifecycle::SettleResult;
    use jobs_core::outcome::{Class, Outcome};
    use jobs_core::store::{Enqueued, JobStore, Judge, Report, SettleAnswer, Settlement};
    use rusqlite::{Error, ffi};
    use tempfile::TempDir;

    use super::super::SqliteStore;
    use super::super::error::Failed;
    use super::super::operation::{Class as Of, Cost};
    use super::super::{claim, settle};
    use super::*;

    fn store() -> (TempDir, Arc<SqliteStore>) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("jobs.db"), BEGIN).unwrap();
        (folder, Arc::new(store))
    }

    fn job(n: u128, bytes: usize) -> NewJob {
        plain_job(n, Bytes::from(vec![b'x'; bytes]))
    }

    async fn query(store: &SqliteStore, class: Of, sql: &'static str) -> i64 {
        let read = move |batch: &mut Batch<'_>| Ok(batch.conn.query_row(sql, [], |row| row.get(0))?);
        store.queue.ask(class, Cost::default(), read).await.unwrap()
    }

    /// Keeps the writer busy until the answer is dropped.
    async fn hold(store: &Arc<SqliteStore>) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let holding = Arc::clone(store);
        tokio::spawn(async move {
            let wait = move |_: &mut Batch<'_>| {
                begun.send(()).expect("the test waits for this");
                assert!(released.recv().is_err(), "it ends when the other side is dropped");
                Ok(())
            };
            holding.queue.ask(Of::Claim, Cost::default(), wait).await
        });
        has_begun.await.unwrap();
        release
    }

    fn failing(code: i32) -> impl FnOnce(&mut Batch<'_>) -> Result<(), Failed> + Send {
        move |_| Err(Failed::Sqlite(Error::SqliteFailure(ffi::Error::new(code), None)))
    }

    #[tokio::test]
    async fn a_full_disk_refuses_what_was_asked_and_the_store_goes_on() {
        let (_folder, store) = store();
        let pages: i64 = query(&store, Of::Settle, "PRAGMA page_count").await;
        let limit: i64 = query(&store, Of::Settle, "PRAGMA max_page_count = 1").await;
        assert_eq!(limit, pages, "the file may not grow any more");
        let refused = store.enqueue(vec![job(1, 100_000)], BEGIN).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
        assert_eq!(store.stats().await.unwrap().accepted, 0);

        query(&store, Of::Settle, "PRAGMA max_page_count = 1000000").await;
        let accepted = store.enqueue(vec![job(1, 100_000)], BEGIN).await.unwrap();
        assert!(matches!(&accepted[0], Enqueued::Accepted(Job { seq: 1, .. })), "nothing is remembered of the refusal");
        let claimed = store.claim(WORKER, vec![Rig::grant(9, 0)], BEGIN).await.unwrap();
        assert_eq!(claimed.leases.len(), 1);
    }

    #[tokio::test]
    async fn all_of_a_batch_are_refused_with_the_one_that_found_the_disk_full() {
        let (_folder, store) = store();
        let held = hold(&store).await;
        let small = store.enqueue(vec![job(1, 10)], BEGIN);
        let full = store.queue.ask(Of::Enqueue, Cost::default(), failing(ffi::SQLITE_FULL));
        let claim = store.claim(WORKER, vec![Rig::grant(9, 0)], BEGIN);
        let (small, full, claim, ()) = tokio::join!(biased; small, full, claim, async { drop(held) });
        assert!(matches!(small, Err(StoreError::Full(_))), "{small:?}");
        assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
        assert!(matches!(claim, Err(StoreError::Full(_))), "{claim:?}");
        assert!(store.leases().await.unwrap().is_empty(), "a lease that was rolled back is not remembered");
        assert_eq!(store.enqueue(vec![job(1, 10)], BEGIN).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_settle_that_was_rolled_back_is_settled_again_as_if_it_had_never_been_asked() {
        let (_folder, store) = store();
        store.enqueue(vec![job(1, 10)], BEGIN).await.unwrap();
        let lease = store.claim(WORKER, vec![Rig::grant(1, 0)], BEGIN).await.unwrap().leases.remove(0);
        let settle = || {
            let key = LeaseKey { job_id: lease.job.id, epoch: lease.epoch };
            let settlement = Settlement { key, report: Report::Attempted(Outcome::of(Class::Ok)) };
            store.settle(WORKER, vec![settlement], Arc::new(TestJudge::default()), BEGIN)
        };
        let held = hold(&store).await;
        let full = store.queue.ask(Of::Settle, Cost::default(), failing(ffi::SQLITE_FULL));
        let (settled, full, ()) = tokio::join!(biased; settle(), full, async { drop(held) });
        assert!(matches!(settled, Err(StoreError::Full(_))), "{settled:?}");
        assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
        let again = settle().await.unwrap();
        assert!(matches!(&again[0], SettleAnswer::Known { result: SettleResult::Applied, .. }), "{again:?}");
        let stored = store.job(lease.job.id).await.unwrap().unwrap();
        assert_eq!(stored.job.state.name(), jobs_core::job::StateName::Succeeded);
    }

    #[tokio::test]
    async fn a_job_that_is_leased_and_settled_in_one_batch_is_not_taken_for_leased() {
        let (_folder, store) = store();
        store.enqueue(vec![job(1, 10)], BEGIN).await.unwrap();
        let succeed = |key| vec![Settlement { key, report: Report::Attempted(Outcome::of(Class::Ok)) }];
        let both = move |batch: &mut Batch<'_>| {
            let lease = claim::claim(batch, WORKER, &[Rig::grant(1, 0)], BEGIN)?.leases.remove(0);
            let key = LeaseKey { job_id: lease.job.id, epoch: lease.epoch };
            settle::settle(batch, WORKER, succeed(key), &TestJudge::default(), BEGIN)?;
            Ok(key)
        };
        let key = store.queue.ask(Of::Claim, Cost::default(), both).await.unwrap();
        let again = store.settle(WORKER, succeed(key), Arc::new(TestJudge::default()), BEGIN).await.unwrap();
        assert!(matches!(&again[0], SettleAnswer::Known { result: SettleResult::Repeated, .. }), "{again:?}");
    }

    #[tokio::test]
    async fn after_an_io_error_everything_is_broken() {
        let (_folder, store) = store();
        store.enqueue(vec![job(1, 10)], BEGIN).await.unwrap();
        let held = hold(&store).await;
        let small = store.enqueue(vec![job(2, 10)], BEGIN);
        let failed = store.queue.ask(Of::Settle, Cost::default(), failing(ffi::SQLITE_IOERR_FSYNC));
        let (small, failed, ()) = tokio::join!(biased; small, failed, async { drop(held) });
        for answer in [small.map(drop), failed, store.stats().await.map(drop), store.close().await] {
            assert!(matches!(answer, Err(StoreError::Broken(_))), "{answer:?}");
        }
        let reason = tokio::time::timeout(Duration::from_secs(10), store.broken()).await.unwrap();
        assert!(reason.contains("I/O"), "{reason}");
    }

    #[tokio::test]
    async fn a_commit_that_fails_breaks_the_store_and_acknowledges_nothing() {
        let (folder, store) = store();
        store.enqueue(vec![job(1, 10)], BEGIN).await.unwrap();
        let held = hold(&store).await;
        let small = store.enqueue(vec![job(2, 10)], BEGIN);
        // Deferred, so that every statement succeeds and only the commit cannot.
        let dangling = |batch: &mut Batch<'_>| {
            let sql = "PRAGMA defer_foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);
                CREATE TABLE child (id INTEGER REFERENCES parent (id)); INSERT INTO child VALUES (1)";
            Ok(batch.conn.execute_batch(sql)?)
        };
        let failed = store.queue.ask(Of::Settle, Cost::default(), dangling);
        let (small, failed, ()) = tokio::join!(biased; small, failed, async { drop(held) });
        for answer in [small.map(drop), failed, store.stats().await.map(drop)] {
            assert!(matches!(&answer, Err(StoreError::Broken(reason)) if reason.contains("FOREIGN KEY")), "{answer:?}");
        }
        tokio::time::timeout(Duration::from_secs(10), store.broken()).await.unwrap();
        let again = SqliteStore::open(&folder.path().join("jobs.db"), BEGIN).unwrap();
        assert_eq!(again.stats().await.unwrap().accepted, 1, "what was acknowledged, and no more");
    }

    #[tokio::test]
    async fn while_another_program_writes_to_the_file_everything_is_refused_and_then_goes_on() {
        let (folder, store) = store();
        let be_quick = |batch: &mut Batch<'_>| Ok(batch.conn.busy_timeout(Duration::ZERO)?);
        store.queue.ask(Of::Settle, Cost::default(), be_quick).await.unwrap();
        let shell = Connection::open(folder.path().join("jobs.db")).unwrap();
        shell.execute_batch("BEGIN IMMEDIATE").unwrap();
        for _ in 0..2 {
            let refused = store.enqueue(vec![job(1, 10)], BEGIN).await;
            assert!(
                matches!(&refused, Err(StoreError::Busy(reason)) if reason.contains("another program")),
                "{refused:?}"
            );
        }
        shell.execute_batch("ROLLBACK").unwrap();
        let accepted = store.enqueue(vec![job(1, 10)], BEGIN).await.unwrap();
        assert!(
            matches!(&accepted[0], Enqueued::Accepted(Job { seq: 1, .. })),
            "nothing is remembered of the refusals"
        );
    }

    #[tokio::test]
    async fn a_panic_of_the_writer_hangs_nobody() {
        struct Panics;
        impl Judge for Panics {
            fn weigh(
                &self,
                _: &Job,
                _: jobs_core::job::Epoch,
                _: &Outcome,
                _: jobs_core::job::WorkerId,
                _: jobs_core::time::Now,
            ) -> (Arc<jobs_core::destination::Policy>, jobs_core::charging::Evidence) {
                panic!("poisoned")
            }

            fn policy(&self, destination: &jobs_core::job::DestinationName) -> Arc<jobs_core::destination::Policy> {
                TestJudge::default().policy(destination)
            }
        }
        let (_folder, store) = store();
        store.enqueue(vec![job(1, 10)], BEGIN).await.unwrap();
        let lease = store.claim(WORKER, vec![Rig::grant(1, 0)], BEGIN).await.unwrap().leases.remove(0);
        let key = LeaseKey { job_id: lease.job.id, epoch: lease.epoch };
        let settlement = Settlement { key, report: Report::Attempted(Outcome::of(Class::Ok)) };
        let settled = store.settle(WORKER, vec![settlement], Arc::new(Panics), BEGIN).await;
        assert!(matches!(&settled, Err(StoreError::Broken(reason)) if reason.contains("poisoned")), "{settled:?}");
        let later = store.enqueue(vec![job(2, 10)], BEGIN).await;
        assert_eq!(later.map(drop), settled.map(drop));
        tokio::time::timeout(Duration::from_secs(10), store.broken()).await.unwrap();
    }

    #[tokio::test]
    async fn what_gathers_while_the_writer_is_busy_is_one_commit() {
        let (_folder, store) = store();
        let before = store.commits();
        let held = hold(&store).await;
        let first = store.enqueue(vec![job(1, 10)], BEGIN);
        let second = store.enqueue(vec![job(2, 10)], BEGIN);
        let claim = store.claim(WORKER, vec![Rig::grant(9, 0)], BEGIN);
        let (first, second, claim, ()) = tokio::join!(biased; first, second, claim, async { drop(held) });
        assert_eq!(first.unwrap().len() + second.unwrap().len(), 2);
        assert_eq!(claim.unwrap().leases.len(), 2, "a job is claimed in the commit that stores it");
        assert_eq!(store.commits(), before + 1);
    }

    #[tokio::test]
    async fn only_commits_of_claims_alone_are_not_synced() {
        const FULL: i64 = 2;
        const NORMAL: i64 = 1;
        let (_folder, store) = store();
        for (class, expected) in [(Of::Settle, FULL), (Of::Claim, NORMAL), (Of::Claim, NORMAL), (Of::Enqueue, FULL)] {
            assert_eq!(query(&store, class, "PRAGMA synchronous").await, expected, "{class:?}");
        }
    }
}
