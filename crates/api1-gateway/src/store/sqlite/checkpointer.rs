//! Copying the log back beside the writer, on a thread and a connection of its own.
//!
//! A checkpoint syncs the log and writes a thousand pages. SQLite lets commits go on meanwhile: what is copied is what had been committed
//! when it began. So the writer stands still only where the log is to begin anew. SQLite syncs the database then, and else only if nothing
//! was committed while it was copied to, as good as never under load. So the thread syncs it after each copy, and leaves little of that
//! to the writer either.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, Error, Result};

use super::checkpoint;
use super::queue::Queue;

/// The thread, as the writer sees it. Dropping it ends it, a little later.
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// The database's file, to be synced. Closed when the writer lets go of the thread, since a process that closes any handle of a file
    /// loses the locks that SQLite has on it.
    database: File,
    wish: Mutex<Wish>,
    wished: Condvar,
    /// Held by whoever copies: SQLite would refuse a second one.
    turn: Mutex<()>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Wish {
    #[default]
    Nothing,
    Copy,
    End,
}

impl Checkpointer {
    /// Starts the thread, with a connection of [`super::open::connect_beside`] to `database`. If it fails, so does the writer that takes
    /// from `queue`.
    pub(super) fn spawn(conn: Connection, database: File, queue: Arc<Queue>) -> std::io::Result<Checkpointer> {
        let (wish, wished, turn) = (Mutex::default(), Condvar::new(), Mutex::default());
        let shared = Arc::new(Shared { database, wish, wished, turn });
        let (shared_, queue_) = (Arc::clone(&shared), Arc::clone(&queue));
        let run = move || shared_.serve(&conn, &queue_);
        let thread = std::thread::Builder::new().name("sqlite-copier".to_owned()).spawn(run)?;
        Ok(Checkpointer { shared, queue, thread: Some(thread) })
    }

    /// Has the log copied back soon, as far as that can be done without waiting for anybody.
    pub(super) fn wish(&self) {
        self.shared.wish(Wish::Copy);
    }

    /// The turn to copy, as long as the answer lives. `None`: the thread has it. An error: the thread has failed.
    pub(super) fn try_turn(&self) -> Result<Option<MutexGuard<'_, ()>>> {
        let turn = match self.shared.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        self.queue.check_writer()?;
        Ok(Some(turn))
    }

    /// As [`Checkpointer::try_turn`], waiting for the thread.
    pub(super) fn turn(&self) -> Result<MutexGuard<'_, ()>> {
        let turn = lock(&self.shared.turn);
        self.queue.check_writer()?;
        Ok(turn)
    }

    /// Ends the thread, and waits until its connection is closed. An error: it has failed.
    pub(super) fn close(&mut self) -> Result<()> {
        self.shared.wish(Wish::End);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that copies the log back has panicked");
        }
        self.queue.check_writer()
    }
}

impl Drop for Checkpointer {
    /// Without waiting: where the writer has failed, the thread may hang in the same disk.
    fn drop(&mut self) {
        self.shared.wish(Wish::End);
    }
}

impl Shared {
    fn wish(&self, wish: Wish) {
        let mut last = lock(&self.wish);
        if *last != Wish::End {
            *last = wish;
            self.wished.notify_one();
        }
    }

    /// Copies whenever it is wished, until the end is.
    fn serve(&self, conn: &Connection, queue: &Queue) {
        while self.is_wanted() {
            // Kept until the writer is told: whoever has the next turn knows.
            let _turn = lock(&self.turn);
            if let Err(error) = self.copy(conn) {
                return queue.fail(error);
            }
        }
    }

    fn copy(&self, conn: &Connection) -> Result<()> {
        checkpoint::run(conn, CheckpointMode::PASSIVE)?;
        self.database.sync_data().map_err(|error| {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
            Error::SqliteFailure(code, Some(format!("the database cannot be synced: {error}")))
        })
    }

    /// Waits for a wish. False: it is the end.
    fn is_wanted(&self) -> bool {
        let waited = self.wished.wait_while(lock(&self.wish), |wish| *wish == Wish::Nothing);
        let mut wish = waited.unwrap_or_else(PoisonError::into_inner);
        if *wish == Wish::Copy {
            *wish = Wish::Nothing;
        }
        *wish != Wish::End
    }
}

/// Nothing in here can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jobs_core::conformance::rig::BEGIN;
    use jobs_core::store::JobStore;
    use rusqlite::OpenFlags;

    use super::super::{SqliteStore, open};
    use super::*;

    #[tokio::test]
    async fn a_copy_that_fails_breaks_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("jobs.db"), BEGIN).unwrap();
        let other = folder.path().join("other.db");
        let writer = open::connect(&other).unwrap();
        writer.execute_batch("CREATE TABLE one (n INTEGER)").unwrap();
        let conn = Connection::open_with_flags(&other, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        conn.execute_batch("SELECT * FROM one").unwrap();
        let checkpointer = Checkpointer::spawn(conn, File::open(&other).unwrap(), Arc::clone(&store.queue)).unwrap();
        checkpointer.wish();
        let reason = tokio::time::timeout(Duration::from_secs(10), store.broken()).await.unwrap();
        assert!(reason.contains("I/O"), "{reason}");
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_synced_breaks_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let store = SqliteStore::open(&path, BEGIN).unwrap();
        let cannot_be_synced = File::open("/dev/null").unwrap();
        let conn = open::connect_beside(&path).unwrap();
        let checkpointer = Checkpointer::spawn(conn, cannot_be_synced, Arc::clone(&store.queue)).unwrap();
        checkpointer.wish();
        let reason = tokio::time::timeout(Duration::from_secs(10), store.broken()).await.unwrap();
        assert!(reason.contains("cannot be synced"), "{reason}");
    }

    #[test]
    fn whoever_has_the_next_turn_learns_of_a_copy_that_failed() {
        let queue = Arc::new(Queue::new());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let _database = open::connect(&path).unwrap();
        let conn = open::connect_beside(&path).unwrap();
        let mut checkpointer = Checkpointer::spawn(conn, File::open(&path).unwrap(), Arc::clone(&queue)).unwrap();
        let failure = || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR), None);
        queue.fail(failure());
        assert!(checkpointer.turn().is_err());
        queue.fail(failure());
        assert!(checkpointer.try_turn().is_err());
        queue.fail(failure());
        assert!(checkpointer.close().is_err());
    }

    #[test]
    fn once_it_is_closed_the_thread_has_ended_and_no_wish_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let _database = open::connect(&path).unwrap();
        let conn = open::connect_beside(&path).unwrap();
        let mut checkpointer = Checkpointer::spawn(conn, File::open(&path).unwrap(), Arc::new(Queue::new())).unwrap();
        checkpointer.close().unwrap();
        assert_eq!(Arc::strong_count(&checkpointer.shared), 1, "the thread has let go of it");
        checkpointer.wish();
        assert!(!checkpointer.shared.is_wanted());
    }
}
