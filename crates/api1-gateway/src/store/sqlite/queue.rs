//! What waits for the writer, and who goes first.
//!
//! There is no timer: while the writer commits one batch the next one gathers here, so that batches grow with the load and a
//! lone operation waits for nobody. Within a batch settles run first, then enqueues, then claims: a job that has just come in
//! can be claimed in the commit that stores it. When more waits than one batch holds, settles are admitted before claims
//! before enqueues (finish work before taking on more), but one of each class always, so that none starves.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use jobs_core::lease::LeaseTable;
use jobs_core::store::StoreError;
use tokio::sync::{oneshot, watch};

use super::batch::Batch;
use super::checkpoint;
use super::error::Failed;
use super::operation::{Asked, Class, Cost, Operation};

/// Jobs written by one batch: some tens of milliseconds of work, and the bound on how long an answer waits for others.
const MAX_JOBS: usize = 1_000;
/// Payload of one batch: a tenth of a second of writing on a slow disk.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Payload of new jobs that may wait for the writer: some seconds of writing on a slow disk. While a sync hangs, what comes in is
/// refused from there on, since it would only wait longer in more and more memory. Whatever frees memory is always let in.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// Something that needs only the leases: it is answered at once, and does not fail with a batch.
type Glance = Box<dyn FnOnce(&mut LeaseTable) + Send>;

/// A copy of the database is wanted at `to`.
pub(super) struct BackupWanted {
    pub(super) to: PathBuf,
    pub(super) waiter: oneshot::Sender<Result<(), StoreError>>,
}

/// The writer's inbox.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// Why nothing is taken any more, once the writer has ended.
    end: watch::Sender<Option<StoreError>>,
}

#[derive(Default)]
struct Waiting {
    glances: Vec<Glance>,
    settles: VecDeque<Entry>,
    claims: VecDeque<Entry>,
    enqueues: VecDeque<Entry>,
    /// Payload in `enqueues`.
    enqueue_bytes: usize,
    backups: VecDeque<BackupWanted>,
    closers: Vec<oneshot::Sender<Result<(), StoreError>>>,
    /// Nothing new is let in.
    closing: bool,
    /// Why the writer is to fail.
    failed: Option<rusqlite::Error>,
    /// The writer waits to be woken. While it works nobody spends a system call on it.
    writer_sleeps: bool,
}

struct Entry {
    cost: Cost,
    operation: Box<dyn Operation>,
}

/// What the writer is to do next.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) glances: Vec<Glance>,
    /// In the order in which they are to run.
    pub(super) operations: Vec<Box<dyn Operation>>,
    /// Whether the commit must reach the disk before the answers: all but claims.
    pub(super) durable: bool,
    pub(super) cost: Cost,
    pub(super) backup: Option<BackupWanted>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Queue { waiting: Mutex::default(), arrived: Condvar::new(), end: watch::Sender::new(None) }
    }

    /// Has `work` done in some batch, and waits until that is committed. [`StoreError::Busy`]: too much waits already.
    pub(super) async fn ask<T, F>(&self, class: Class, cost: Cost, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Batch<'_>) -> Result<T, Failed> + Send + 'static,
    {
        let (waiter, answer) = oneshot::channel();
        let entry = Entry { cost, operation: Box::new(Asked::new(work, waiter)) };
        self.add(class, entry)?;
        self.answer(answer).await
    }

    fn add(&self, class: Class, entry: Entry) -> Result<(), StoreError> {
        let mut waiting = self.open()?;
        match class {
            Class::Settle => waiting.settles.push_back(entry),
            Class::Claim => waiting.claims.push_back(entry),
            Class::Enqueue => waiting.add_enqueue(entry)?,
        }
        self.wake(waiting);
        Ok(())
    }

    /// Looks at the leases, or extends them.
    pub(super) async fn glance<T, F>(&self, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut LeaseTable) -> T + Send + 'static,
    {
        let (waiter, answer) = oneshot::channel();
        self.push(|waiting| {
            waiting.glances.push(Box::new(move |leases| {
                // Whoever asked may have gone away.
                let _ = waiter.send(Ok(look(leases)));
            }));
        })?;
        self.answer(answer).await
    }

    pub(super) async fn backup(&self, to: PathBuf) -> Result<(), StoreError> {
        let (waiter, answer) = oneshot::channel();
        self.push(|waiting| waiting.backups.push_back(BackupWanted { to, waiter }))?;
        self.answer(answer).await
    }

    /// Lets nothing more in, and waits until the writer has done what is waiting and has ended.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let (waiter, answer) = oneshot::channel();
        self.push(|waiting| {
            waiting.closers.push(waiter);
            waiting.closing = true;
        })?;
        self.answer(answer).await
    }

    /// As [`Queue::close`], with nobody to wait for it.
    pub(super) fn close_unwatched(&self) {
        let mut waiting = self.lock();
        waiting.closing = true;
        self.wake(waiting);
    }

    /// Whether the store can still be asked.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.open().map(drop)
    }

    /// Completes when the writer has broken down.
    pub(super) async fn broken(&self) -> String {
        let mut end = self.end.subscribe();
        loop {
            if let Some(StoreError::Broken(reason)) = &*end.borrow_and_update() {
                return reason.clone();
            }
            if end.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Has the writer fail before it does anything else, also while it closes: what another thread wrote for it came to nobody knows what.
    pub(super) fn fail(&self, error: rusqlite::Error) {
        let mut waiting = self.lock();
        waiting.failed = Some(error);
        self.wake(waiting);
    }

    /// Whether the writer may go on: see [`Queue::fail`].
    pub(super) fn check_writer(&self) -> rusqlite::Result<()> {
        self.lock().check_writer()
    }

    /// Waits for something to do. `room`: bytes that the log may still grow by. `None`: close. An error: the writer is to fail.
    pub(super) fn take(&self, room: u64) -> rusqlite::Result<Option<Taken>> {
        let mut waiting = self.lock();
        loop {
            waiting.check_writer()?;
            if !waiting.is_empty() {
                return Ok(Some(waiting.admit(room)));
            }
            if waiting.closing {
                return Ok(None);
            }
            waiting.writer_sleeps = true;
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.writer_sleeps = false;
        }
    }

    /// What there is to do at this moment, which may be nothing. A further backup waits for its turn. An error: the writer is to fail.
    pub(super) fn take_waiting(&self, room: u64) -> rusqlite::Result<Taken> {
        let mut waiting = self.lock();
        waiting.check_writer()?;
        let backups = std::mem::take(&mut waiting.backups);
        let taken = waiting.admit(room);
        waiting.backups = backups;
        Ok(taken)
    }

    /// The writer has ended with `end`: so does whatever waits.
    pub(super) fn end(&self, end: StoreError) {
        self.end.send_replace(Some(end.clone()));
        let closed = Waiting { closing: true, ..Waiting::default() };
        let Waiting { settles, claims, enqueues, closers, .. } = std::mem::replace(&mut *self.lock(), closed);
        for entry in settles.into_iter().chain(claims).chain(enqueues) {
            entry.operation.answer(Err(end.clone()));
        }
        for closer in closers {
            let clean = end == StoreError::Closed;
            // Whoever closed it may have gone away.
            let _ = closer.send(if clean { Ok(()) } else { Err(end.clone()) });
        }
    }

    fn push(&self, add: impl FnOnce(&mut Waiting)) -> Result<(), StoreError> {
        let mut waiting = self.open()?;
        add(&mut waiting);
        self.wake(waiting);
        Ok(())
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let sleeps = std::mem::take(&mut waiting.writer_sleeps);
        drop(waiting);
        if sleeps {
            self.arrived.notify_one();
        }
    }

    /// What waits, as long as more is let in.
    fn open(&self) -> Result<MutexGuard<'_, Waiting>, StoreError> {
        let waiting = self.lock();
        if waiting.closing { Err(self.end.borrow().clone().unwrap_or(StoreError::Closed)) } else { Ok(waiting) }
    }

    /// What the writer answers. If it goes without an answer, it has broken down, and says why when it has ended.
    async fn answer<T>(&self, answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
        if let Ok(answer) = answer.await {
            return answer;
        }
        let mut end = self.end.subscribe();
        let end = end.wait_for(Option::is_some).await.map(|end| end.clone());
        Err(end.ok().flatten().unwrap_or(StoreError::Closed))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here can be left half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn check_writer(&mut self) -> rusqlite::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn is_empty(&self) -> bool {
        let operations = self.settles.len() + self.claims.len() + self.enqueues.len();
        operations + self.glances.len() + self.backups.len() == 0
    }

    fn add_enqueue(&mut self, entry: Entry) -> Result<(), StoreError> {
        let bytes = self.enqueue_bytes + entry.cost.bytes;
        if bytes > MAX_WAITING_BYTES && !self.enqueues.is_empty() {
            return Err(StoreError::Busy(format!("{} bytes of new jobs wait to be written", self.enqueue_bytes)));
        }
        self.enqueue_bytes = bytes;
        self.enqueues.push_back(entry);
        Ok(())
    }

    fn admit(&mut self, room: u64) -> Taken {
        let mut cost = Cost::default();
        let mut admit = |class: &mut VecDeque<Entry>| {
            let mut admitted = Vec::new();
            while let Some(entry) = class.front() {
                let with = cost.plus(entry.cost);
                let is_first = cost == Cost::default();
                let has_room = checkpoint::log_bytes(with) <= room;
                let has_share = admitted.is_empty() || (with.jobs <= MAX_JOBS && with.bytes <= MAX_BYTES);
                if !(is_first || has_room && has_share) {
                    break;
                }
                cost = with;
                admitted.extend(class.pop_front().map(|entry| entry.operation));
            }
            admitted
        };
        let settles = admit(&mut self.settles);
        let claims = admit(&mut self.claims);
        let enqueues = admit(&mut self.enqueues);
        self.enqueue_bytes = self.enqueues.iter().map(|entry| entry.cost.bytes).sum();
        let durable = !settles.is_empty() || !enqueues.is_empty();
        let operations = settles.into_iter().chain(enqueues).chain(claims).collect();
        let glances = std::mem::take(&mut self.glances);
        Taken { glances, operations, durable, cost, backup: self.backups.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// An operation that notes its name when it is answered.
    struct Named(&'static str, std::sync::Arc<Mutex<Vec<&'static str>>>);

    impl Operation for Named {
        fn run(&mut self, _: &mut Batch<'_>) -> rusqlite::Result<()> {
            Ok(())
        }

        fn answer(self: Box<Self>, _: Result<(), StoreError>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    fn entry(name: &'static str, jobs: usize, noted: &std::sync::Arc<Mutex<Vec<&'static str>>>) -> Entry {
        Entry { cost: Cost { jobs, bytes: 0 }, operation: Box::new(Named(name, std::sync::Arc::clone(noted))) }
    }

    fn batches(mut waiting: Waiting, noted: &Mutex<Vec<&'static str>>, room: u64) -> Vec<(Vec<&'static str>, bool)> {
        let mut batches = Vec::new();
        while !waiting.is_empty() {
            let taken = waiting.admit(room);
            taken.operations.into_iter().for_each(|operation| operation.answer(Ok(())));
            batches.push((std::mem::take(&mut *noted.lock().unwrap()), taken.durable));
        }
        batches
    }

    #[test]
    fn the_writer_fails_before_anything_else_also_while_it_closes() {
        let failure = || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR), None);
        let queue = Queue::new();
        queue.lock().claims.push_back(entry("claim", 1, &std::sync::Arc::default()));
        queue.fail(failure());
        assert!(queue.take(u64::MAX).is_err());
        queue.close_unwatched();
        queue.fail(failure());
        assert!(queue.take_waiting(u64::MAX).is_err());
        assert!(queue.take(u64::MAX).is_ok_and(|taken| taken.is_some()), "what waits is done before the end");
        queue.fail(failure());
        assert!(queue.take(u64::MAX).is_err(), "not a clean end");
        assert!(queue.take(u64::MAX).is_ok_and(|taken| taken.is_none()));
    }

    #[test]
    fn settles_run_before_enqueues_before_claims() {
        let noted = std::sync::Arc::default();
        let mut waiting = Waiting::default();
        waiting.claims.push_back(entry("claim", 1, &noted));
        waiting.enqueues.push_back(entry("enqueue", 1, &noted));
        waiting.settles.push_back(entry("settle", 1, &noted));
        assert_eq!(batches(waiting, &noted, u64::MAX), [(vec!["settle", "enqueue", "claim"], true)]);
    }

    #[test]
    fn when_not_all_can_go_settles_are_admitted_before_claims_before_enqueues_and_each_a_little() {
        let noted = std::sync::Arc::default();
        let mut waiting = Waiting::default();
        for _ in 0..2 {
            waiting.enqueues.push_back(entry("enqueue", 500, &noted));
            waiting.claims.push_back(entry("claim", 500, &noted));
            waiting.settles.push_back(entry("settle", 500, &noted));
        }
        let expected = [(vec!["settle", "settle", "enqueue", "claim"], true), (vec!["enqueue", "claim"], true)];
        assert_eq!(batches(waiting, &noted, u64::MAX), expected);
    }

    #[test]
    fn a_batch_of_claims_alone_need_not_be_durable() {
        let noted = std::sync::Arc::default();
        let mut waiting = Waiting::default();
        waiting.claims.push_back(entry("claim", 1, &noted));
        assert_eq!(batches(waiting, &noted, u64::MAX), [(vec!["claim"], false)]);
    }

    #[test]
    fn a_batch_stays_within_the_room_of_the_log_but_one_operation_always_goes() {
        let noted = std::sync::Arc::default();
        let mut waiting = Waiting::default();
        for _ in 0..3 {
            waiting.settles.push_back(entry("settle", 10, &noted));
        }
        let room = checkpoint::log_bytes(Cost { jobs: 20, bytes: 0 });
        let pairs = [(vec!["settle", "settle"], true), (vec!["settle"], true)];
        assert_eq!(batches(waiting, &noted, room), pairs);
        let mut waiting = Waiting::default();
        waiting.settles.push_back(entry("settle", 10, &noted));
        assert_eq!(batches(waiting, &noted, 0), [(vec!["settle"], true)]);
    }

    /// Asks, and goes away.
    fn ask(queue: &Queue, class: Class, bytes: usize) -> Option<Result<(), StoreError>> {
        queue.ask(class, Cost { jobs: 1, bytes }, |_| Ok(())).now_or_never()
    }

    #[test]
    fn new_jobs_are_refused_while_too_much_of_them_waits_for_the_writer_and_nothing_else_is() {
        const HALF: usize = MAX_WAITING_BYTES / 2;
        let queue = Queue::new();
        assert_eq!(ask(&queue, Class::Enqueue, HALF), None, "it waits");
        assert_eq!(ask(&queue, Class::Enqueue, HALF), None);
        assert!(matches!(ask(&queue, Class::Enqueue, 1), Some(Err(StoreError::Busy(_)))));
        for (class, bytes) in [(Class::Settle, HALF), (Class::Claim, 0), (Class::Enqueue, 0)] {
            assert_eq!(ask(&queue, class, bytes), None, "{class:?}");
        }
        let taken = queue.take(u64::MAX).unwrap();
        assert_eq!(taken.map(|taken| taken.operations.len()), Some(3), "a settle, a claim, an enqueue");
        assert_eq!(ask(&queue, Class::Enqueue, HALF), None, "as much as the writer has taken");
        assert!(matches!(ask(&queue, Class::Enqueue, 1), Some(Err(StoreError::Busy(_)))));
        while queue.take_waiting(u64::MAX).unwrap().durable {}
        assert_eq!(ask(&queue, Class::Enqueue, 2 * MAX_WAITING_BYTES), None, "a single one of any size goes");
    }
}
