//! Queries: a few connections that only read, on threads that may block.
//!
//! Each query sees what was committed when it began, and is short: a query is a reader in the log, and a reader in the log keeps
//! the writer from beginning it anew. So it is stopped when its time is over, or when the writer needs the log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jobs_core::process::clock;
use jobs_core::store::StoreError;
use rusqlite::{Connection, InterruptHandle, OpenFlags};
use tokio::sync::Semaphore;

use super::error::{is_busy, is_interrupted};
use super::open::configure;
use super::queue::Queue;

/// Queries at a time. They share two cores with everything else.
const CONNECTIONS: usize = 4;
/// More statements than there are queries.
const STATEMENTS: usize = 32;
/// No query is in the log for longer.
const MAX_QUERY: Duration = Duration::from_millis(50);
/// SQLite's own steps between two looks at the time: some tens of microseconds.
const STEPS_PER_LOOK: i32 = 1_000;
/// Held up by the writer's last checkpoint, or by recovery: both are short.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// The connections that only read.
pub(super) struct Readers {
    queue: Arc<Queue>,
    idle: Mutex<Vec<Connection>>,
    /// One for each connection. A query holds its own until its connection is back, whether or not its caller still waits.
    permits: Arc<Semaphore>,
    interrupts: Vec<InterruptHandle>,
}

impl Readers {
    /// Opens them on a database that exists.
    pub(super) fn open(path: &PathBuf, queue: Arc<Queue>) -> rusqlite::Result<Readers> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            let conn = Connection::open_with_flags(path, flags)?;
            conn.busy_timeout(BUSY_TIMEOUT)?;
            configure(&conn, STATEMENTS)?;
            conn.pragma_update(None, "mmap_size", 0)?;
            conn.pragma_update(None, "query_only", true)?;
            idle.push(conn);
        }
        let interrupts = idle.iter().map(Connection::get_interrupt_handle).collect();
        Ok(Readers { queue, idle: Mutex::new(idle), permits: Arc::new(Semaphore::new(CONNECTIONS)), interrupts })
    }

    /// Runs `query`, more than one time if the writer interrupts it. Its answer is what was committed when it began.
    pub(super) async fn read<T, Q>(self: &Arc<Self>, query: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.queue.check()?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let readers = Arc::clone(self);
        let run = move || {
            let _until_the_end = permit;
            readers.run(query)
        };
        let answer = tokio::task::spawn_blocking(run).await;
        self.queue.check()?;
        answer.map_err(|error| StoreError::Unusable(format!("a query failed: {error}")))?
    }

    /// Makes all queries under way leave the log.
    pub(super) fn interrupt(&self) {
        self.interrupts.iter().for_each(InterruptHandle::interrupt);
    }

    /// Lets no more queries in, and closes the connections that are idle; the others close when they come back.
    pub(super) fn close(&self) {
        self.permits.close();
        self.interrupt();
        self.lock().clear();
    }

    fn run<T>(&self, query: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut lent = Lent { readers: self, conn: self.lock().pop() };
        let Some(conn) = lent.conn.as_mut() else { return Err(StoreError::Closed) };
        let until = clock::instant() + MAX_QUERY;
        loop {
            match limited(conn, until, &query) {
                Err(error) if is_interrupted(&error) && clock::instant() < until => {}
                answer => return answer.map_err(failure),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Nothing in here can be left half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure(error: rusqlite::Error) -> StoreError {
    if is_interrupted(&error) || is_busy(&error) {
        return StoreError::Busy(format!("a query was stopped: {error}"));
    }
    StoreError::Unusable(format!("a query failed: {error}"))
}

fn limited<T>(
    conn: &mut Connection,
    until: Instant,
    query: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    conn.progress_handler(STEPS_PER_LOOK, Some(move || clock::instant() >= until))?;
    let snapshot = conn.unchecked_transaction()?;
    let answer = query(&snapshot)?;
    snapshot.finish()?;
    Ok(answer)
}

/// A connection that goes back also after a panic.
struct Lent<'a> {
    readers: &'a Readers,
    conn: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if !self.readers.permits.is_closed() {
            self.readers.lock().extend(self.conn.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use jobs_core::conformance::rig::BEGIN;
    use jobs_core::store::JobStore;

    use super::super::SqliteStore;
    use super::*;

    #[tokio::test]
    async fn a_query_that_takes_too_long_is_stopped_and_the_next_one_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("jobs.db"), BEGIN).unwrap();
        let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        for _ in 0..=CONNECTIONS {
            let begun = clock::instant();
            let stopped = store.readers.read(|conn| conn.query_row(endless, [], |row| row.get::<_, i64>(0))).await;
            assert!(matches!(&stopped, Err(StoreError::Busy(reason)) if reason.contains("interrupted")), "{stopped:?}");
            assert!(begun.elapsed() < 40 * MAX_QUERY);
        }
        assert_eq!(store.stats().await.unwrap().accepted, 0);
    }

    #[tokio::test]
    async fn queries_whose_callers_went_away_keep_others_waiting_and_fail_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&folder.path().join("jobs.db"), BEGIN).unwrap());
        let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
        let goes_on = Arc::new(Mutex::new(goes_on));
        let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..CONNECTIONS {
            let (store, goes_on, begun) = (Arc::clone(&store), Arc::clone(&goes_on), begun.clone());
            let slow = move |_: &Connection| {
                begun.send(()).expect("the test listens");
                assert!(goes_on.lock().unwrap_or_else(PoisonError::into_inner).recv().is_err(), "nothing is sent");
                Ok(())
            };
            let caller = tokio::spawn(async move { store.readers.read(slow).await });
            has_begun.recv().await.expect("the query begins");
            caller.abort();
            assert!(caller.await.is_err_and(|error| error.is_cancelled()));
        }
        assert_eq!(store.readers.permits.available_permits(), 0, "every connection is still in use");
        let (stats, ()) = tokio::join!(biased; store.stats(), async { drop(go_on) });
        assert_eq!(stats.map(|stats| stats.accepted), Ok(0));
    }
}
