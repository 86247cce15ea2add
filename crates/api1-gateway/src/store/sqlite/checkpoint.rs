//! Keeping the log (SQLite's WAL) small: copying it back into the database, and beginning it anew.
//!
//! A commit is one sync of the log; the database itself is written many commits at a time, most of it by the [`Checkpointer`] while the
//! writer goes on. What it has left is copied between two batches, where the log is to begin anew: that can be done once everything is
//! copied and synced and no reader is left in it. A reader that stays in it makes it grow, so from some size on our own
//! readers are interrupted, and where a foreign one (a shell left open) keeps it beyond all measure, work is refused instead:
//! the log never exceeds [`MAX_LOG`], except by a single operation that is larger than all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jobs_core::meters::{Meters, Recorder};
use jobs_core::store::StoreError;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB, Result};

use super::checkpointer::Checkpointer;
use super::error::{Fate, is_busy};
use super::operation::Cost;
use super::readers::Readers;
use super::space::Disk;

/// No log is ever larger: with `--min-free` it bounds what the store takes of the disk beside the database.
pub(super) const MAX_LOG: u64 = 64 * 1024 * 1024;
/// Copied back each time that it has grown by this: some milliseconds of work. With 16 MiB 2 % less is written for each job, since more
/// writes to a page are copied back together; but the disk is then busy with it for longer, and p99.9 of those who post suffers.
const COPY_STEP: u64 = 4 * 1024 * 1024;
/// Begun anew as soon as no reader is in it: where batches are small [`RESTART_STEP`] after it was last copied back, so that little is
/// left to be copied while the writer stands still.
const RESTART_FROM: u64 = 33 * 1024 * 1024;
/// Readers are made to leave.
const INTERRUPT_FROM: u64 = 48 * 1024 * 1024;
/// A log of more than one part in so many of the disk's free space is begun anew, however small it is: copying it back may make the
/// database larger by as much, and a log that is begun anew is written over what it has and takes no more of the disk.
const FREE_PER_LOG: u64 = 4;
/// Between two attempts the log grows by this, so that a reader that stays costs no sync per commit.
const RESTART_STEP: u64 = 1024 * 1024;
/// How long readers that were interrupted are waited for when there is no room left. Their step is far shorter.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long a transaction waits for a foreign program that writes to the file, which none should.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The page size of SQLite's own choice, and what the log adds to each page.
const FRAME: u64 = 4096 + 24;
/// Pages that one job's change touches at worst, each alone: its row, the two jobs whose head it may move, its attempt, its
/// answer, and their entries in the indexes.
const PAGES_PER_JOB: u64 = 10;

/// The most that an operation of `cost` adds to the log. In practice jobs share their pages, and it is a tenth of it.
pub(super) fn log_bytes(cost: Cost) -> u64 {
    let payload = cost.bytes as u64;
    cost.jobs as u64 * PAGES_PER_JOB * FRAME + payload + payload / 64
}

/// How many more jobs a batch of `cost` may write when the log may grow by `room`.
pub(super) fn spare_jobs(room: u64, cost: Cost) -> usize {
    in_jobs(room.saturating_sub(log_bytes(cost)))
}

/// As how many jobs `bytes` of the log count.
pub(super) fn in_jobs(bytes: u64) -> usize {
    usize::try_from(bytes / (PAGES_PER_JOB * FRAME)).unwrap_or(usize::MAX)
}

/// What can be read of the writer from outside.
#[derive(Debug)]
pub(super) struct Meter {
    log_frames: AtomicU64,
    commits: AtomicU64,
    commit_seconds: Recorder,
    commit_operations: Recorder,
}

/// Seconds of a commit, most of it the sync: from a disk with a cache of its own to one in trouble.
const COMMIT_SECONDS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];
const COMMIT_OPERATIONS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0];

impl Default for Meter {
    fn default() -> Self {
        Meter {
            log_frames: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            commit_seconds: Recorder::new(&COMMIT_SECONDS),
            commit_operations: Recorder::new(&COMMIT_OPERATIONS),
        }
    }
}

impl Meter {
    /// Bytes in use of the log.
    pub(super) fn log_bytes(&self) -> u64 {
        self.log_frames.load(Ordering::Relaxed) * FRAME
    }

    /// Transactions that have changed something since the store was opened.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// A durable commit of so many operations took so long.
    pub(super) fn committed(&self, operations: usize, took: Duration) {
        self.commit_seconds.add(took.as_secs_f64());
        self.commit_operations.add(operations as f64);
    }

    pub(super) fn meters(&self) -> Meters {
        Meters {
            log_bytes: Some(self.log_bytes()),
            commit_seconds: Some(self.commit_seconds.spread()),
            commit_operations: Some(self.commit_operations.spread()),
        }
    }

    /// Has SQLite tell the size of the log at each commit.
    pub(super) fn watch(self: &Arc<Self>, conn: &mut Connection) -> Result<()> {
        let meter = Arc::clone(self);
        conn.wal_hook(Some(move |_: &mut Wal, frames: i32| {
            meter.log_frames.store(u64::try_from(frames).unwrap_or_default(), Ordering::Relaxed);
            meter.commits.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }))
    }

    fn log_restarts(&self) {
        self.log_frames.store(0, Ordering::Relaxed);
    }
}

/// Begins the log anew, and cuts its file: at start and at a clean close. A reader in it is no reason to fail.
pub(super) fn truncate(conn: &Connection, meter: &Meter) -> Result<()> {
    begin_anew(conn, meter, CheckpointMode::TRUNCATE).map(drop)
}

fn begin_anew(conn: &Connection, meter: &Meter, mode: CheckpointMode) -> Result<Ran> {
    let ran = run(conn, mode)?;
    if let Ran::Whole = ran {
        meter.log_restarts();
    }
    Ok(ran)
}

/// When which checkpoint is due.
pub(super) struct Checkpoints {
    meter: Arc<Meter>,
    readers: Arc<Readers>,
    checkpointer: Checkpointer,
    disk: Disk,
    /// The size of the log at the last attempt since it began.
    attempted_at: u64,
}

impl Checkpoints {
    pub(super) fn new(meter: Arc<Meter>, readers: Arc<Readers>, checkpointer: Checkpointer, disk: Disk) -> Self {
        Checkpoints { meter, readers, checkpointer, disk, attempted_at: 0 }
    }

    /// A durable commit of so many operations took so long.
    pub(super) fn committed(&self, operations: usize, took: Duration) {
        self.meter.committed(operations, took);
    }

    /// Bytes that the log may still grow by.
    pub(super) fn room(&self) -> u64 {
        MAX_LOG.saturating_sub(self.meter.log_bytes())
    }

    /// Whether a batch of `cost` may take more of the disk than new jobs are to.
    pub(super) fn is_disk_too_full_for(&self, cost: Cost) -> bool {
        self.disk.is_too_full_for(log_bytes(cost))
    }

    /// To be called after each batch.
    pub(super) fn tend(&mut self, conn: &Connection) -> Result<()> {
        let size = self.meter.log_bytes();
        if size < self.attempted_at {
            self.attempted_at = 0;
        }
        // Where the disk does not tell, it is taken to have enough.
        let free = || self.disk.free_bytes().unwrap_or(u64::MAX);
        let Some(due) = due(size, self.attempted_at, free) else { return Ok(()) };
        self.attempted_at = size;
        if size >= INTERRUPT_FROM {
            self.readers.interrupt();
        }
        match due {
            Due::Copy => self.checkpointer.wish(),
            Due::NewLog => {
                // If the thread is at it, there is less left to copy the next time.
                if let Some(_turn) = self.checkpointer.try_turn()? {
                    begin_anew(conn, &self.meter, CheckpointMode::RESTART)?;
                }
            }
        }
        Ok(())
    }

    /// The disk is full: begins the log anew if that can be done, so that what has room in it can still be written.
    pub(super) fn relieve(&self, conn: &Connection) -> Result<()> {
        if self.meter.log_bytes() == 0 {
            return Ok(());
        }
        let _turn = self.checkpointer.turn()?;
        begin_anew(conn, &self.meter, CheckpointMode::RESTART).map(drop)
    }

    /// At a clean close.
    pub(super) fn close(&mut self, conn: &Connection) -> Result<()> {
        self.checkpointer.close()?;
        truncate(conn, &self.meter)
    }

    /// There is no room left for what is to be written: begins the log anew. A refusal says what is in the way.
    pub(super) fn make_room(&self, conn: &Connection) -> Result<Result<(), StoreError>> {
        const STEP: Duration = Duration::from_millis(5);
        let _turn = self.checkpointer.turn()?;
        for _ in 0..PATIENCE.div_duration_f64(STEP) as u32 {
            self.readers.interrupt();
            match begin_anew(conn, &self.meter, CheckpointMode::RESTART)? {
                Ran::Whole => return Ok(Ok(())),
                full @ Ran::Full(_) => return Ok(full.made_room()),
                Ran::InPart => std::thread::sleep(STEP),
            }
        }
        Ok(Ran::InPart.made_room())
    }
}

/// What is due of a log.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// To be copied back, beside the writer.
    Copy,
    /// To be begun anew.
    NewLog,
}

/// What is due, if anything is, of a log of `size` that was `attempted_at` the last time. `free`: bytes left on the disk.
fn due(size: u64, attempted_at: u64, free: impl FnOnce() -> u64) -> Option<Due> {
    if size < attempted_at + RESTART_STEP {
        return None;
    }
    if size >= RESTART_FROM || free() < FREE_PER_LOG * size {
        return Some(Due::NewLog);
    }
    (size >= attempted_at + COPY_STEP).then_some(Due::Copy)
}

/// What a checkpoint came to.
pub(super) enum Ran {
    Whole,
    /// Somebody reads what is yet to be copied, or would be overwritten.
    InPart,
    /// The disk has no room for it, with SQLite's words.
    Full(String),
}

impl Ran {
    fn made_room(self) -> Result<(), StoreError> {
        match self {
            Ran::Whole => Ok(()),
            Ran::InPart => {
                let reason = "another program reads the database file and does not let go of it: end that program";
                Err(StoreError::Full(reason.to_owned()))
            }
            Ran::Full(reason) => Err(StoreError::Full(format!("no room to copy the log into the database: {reason}"))),
        }
    }
}

/// `PASSIVE` never waits, and the others are told not to: the writer has work.
pub(super) fn run(conn: &Connection, mode: CheckpointMode) -> Result<Ran> {
    let restarts = matches!(mode, CheckpointMode::RESTART | CheckpointMode::TRUNCATE);
    conn.busy_timeout(Duration::ZERO)?;
    let ran = conn.wal_checkpoint_v2(Some(MAIN_DB), mode);
    conn.busy_timeout(BUSY_TIMEOUT)?;
    match ran {
        Ok(_) if restarts => Ok(Ran::Whole),
        Ok((log, copied)) if log == copied => Ok(Ran::Whole),
        Ok(_) => Ok(Ran::InPart),
        Err(error) if is_busy(&error) => Ok(Ran::InPart),
        Err(error) => match Fate::of(&error) {
            Fate::Full(reason) => {
                log::warn!(reason = reason.as_str(); "no room to copy the log into the database: trying again later");
                Ok(Ran::Full(reason))
            }
            Fate::Unknown => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn with_room_on_the_disk_a_log_is_copied_back_now_and_then_and_begun_anew_when_it_is_large() {
        let due = |size, attempted_at| due(size * MIB, attempted_at * MIB, || u64::MAX);
        assert!(due(3, 0).is_none());
        assert_eq!(due(4, 0), Some(Due::Copy));
        assert_eq!([due(7, 4), due(8, 4)], [None, Some(Due::Copy)]);
        assert_eq!([due(32, 28), due(32, 32), due(33, 32)], [Some(Due::Copy), None, Some(Due::NewLog)]);
        assert_eq!([due(33, 33), due(34, 33)], [None, Some(Due::NewLog)]);
    }

    #[test]
    fn on_a_disk_that_fills_a_log_is_begun_anew_before_it_takes_the_room_that_copying_it_back_needs() {
        let due = |size, free| due(size * MIB, 0, || free * MIB);
        assert!(due(2, 8).is_none());
        assert_eq!(due(2, 7), Some(Due::NewLog));
        assert_eq!(due(1, 0), Some(Due::NewLog));
    }

    #[test]
    fn a_full_disk_and_a_reader_that_stays_are_told_apart() {
        assert_eq!(Ran::Whole.made_room(), Ok(()));
        let reason = |ran: Ran| match ran.made_room() {
            Err(StoreError::Full(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason(Ran::InPart).contains("another program"));
        let full = reason(Ran::Full("database or disk is full".to_owned()));
        assert!(full.contains("disk is full") && !full.contains("program"), "{full}");
    }
}
