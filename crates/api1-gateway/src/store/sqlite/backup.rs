//! A copy of the database while it is in use: in small steps on the writer's own connection, with batches in between.
//!
//! What batches change meanwhile goes into the copy too, because they use the same connection; and between two steps no reader
//! is left in the log. The copy appears under its name only when it is whole and on the disk. It differs in one number: its
//! epochs are above all that the store may still issue.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use jobs_core::job::Epoch;
use jobs_core::store::StoreError;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::open::parent;
use super::queue::BackupWanted;

/// Pages a step: 1 MiB, about a millisecond.
const STEP_PAGES: i32 = 256;
/// Start numbers that a copy leaves to the store it was made of: more starts than that will see between the copy and the day
/// when the copy takes its place. There are two million, enough for two hundred copies of copies.
const STARTS_SKIPPED: u32 = 10_000;

/// Why a backup ended early.
enum Stopped {
    /// The store itself has failed in between.
    Store(rusqlite::Error),
    /// The store is closing.
    Closing,
    /// The copy could not be made.
    Copy(String),
}

impl From<rusqlite::Error> for Stopped {
    fn from(error: rusqlite::Error) -> Self {
        Stopped::Copy(error.to_string())
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Stopped::Copy(error.to_string())
    }
}

/// Makes the copy and answers. `serve` is called between two steps; it says whether to go on. An error is the store's own.
pub(super) fn run(
    conn: &Connection,
    wanted: BackupWanted,
    mut serve: impl FnMut() -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let BackupWanted { to, waiter } = wanted;
    let answer = match copy(conn, &to, &mut serve) {
        Ok(()) => Ok(()),
        Err(Stopped::Closing) => Err(StoreError::Closed),
        Err(Stopped::Copy(reason)) => Err(StoreError::Unusable(format!("no backup to {}: {reason}", to.display()))),
        Err(Stopped::Store(error)) => return Err(error),
    };
    // Whoever asked may have gone away; the copy is there all the same.
    let _ = waiter.send(answer);
    Ok(())
}

fn copy(conn: &Connection, to: &Path, serve: &mut impl FnMut() -> rusqlite::Result<bool>) -> Result<(), Stopped> {
    if to.exists() {
        return Err(Stopped::Copy("it exists already: choose another name".to_owned()));
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    remove_leftover(&partial)?;
    let copied = copy_pages(conn, &partial, serve);
    if copied.is_err() {
        remove_leftover(&partial)?;
        return copied;
    }
    File::open(&partial)?.sync_all()?;
    fs::rename(&partial, to)?;
    File::open(parent(to))?.sync_all()?;
    Ok(())
}

fn copy_pages(conn: &Connection, to: &Path, serve: &mut impl FnMut() -> rusqlite::Result<bool>) -> Result<(), Stopped> {
    let mut target = Connection::open(to)?;
    let backup = Backup::new(conn, &mut target)?;
    while backup.step(STEP_PAGES)? != StepResult::Done {
        if !serve().map_err(Stopped::Store)? {
            return Err(Stopped::Closing);
        }
    }
    drop(backup);
    begin_anew(&target)?;
    target.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// A gateway started on the copy must not issue epochs that the store issues after it, or a worker with a lease of the one could
/// settle a job of the other.
fn begin_anew(copy: &Connection) -> rusqlite::Result<()> {
    // So that nothing is left beside the file, however this ends.
    copy.pragma_update(None, "journal_mode", "MEMORY")?;
    let skip = "UPDATE meta SET value = max(value, min(value + ?, ?)) WHERE name = 'start'";
    copy.execute(skip, (STARTS_SKIPPED, Epoch::MAX_START - 1)).map(drop)
}

fn remove_leftover(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
