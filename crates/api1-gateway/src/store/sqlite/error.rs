//! What a failure of SQLite means: for the one who asked, for the batch, and for the store.
//!
//! A full disk is a refusal: everything is rolled back and the store goes on. So is a transaction that could not begin because
//! another program holds the file (see [`super::writer`]). Anything else that goes wrong while writing leaves it unknown what
//! reached the disk, and the only honest thing to do is to stop.

use jobs_core::store::StoreError;
use rusqlite::{Error, ErrorCode, ffi};

/// Why an operation did not come about.
#[derive(Debug)]
pub(super) enum Failed {
    /// It asked for what cannot be, and has written nothing: the rest of its batch goes on.
    Refused(StoreError),
    /// Its whole batch fails with it.
    Sqlite(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Sqlite(error)
    }
}

/// What is known of a batch that failed.
#[derive(Debug)]
pub(super) enum Fate {
    /// It did not happen, for want of space.
    Full(String),
    /// It may have happened.
    Unknown,
}

impl Fate {
    pub(super) fn of(error: &Error) -> Fate {
        if error.sqlite_error().is_some_and(is_out_of_space) { Fate::Full(error.to_string()) } else { Fate::Unknown }
    }
}

/// `SQLITE_IOERR_SHMSIZE` is among them: SQLite allocates the log's index ahead, and reports a full disk there so. What the
/// failed commit has left in the log is overwritten by the next one; only a crash before that one would bring it back.
fn is_out_of_space(failure: &ffi::Error) -> bool {
    failure.code == ErrorCode::DiskFull || failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE
}

/// Somebody else holds a lock, so that nothing was done.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// A query was stopped from outside, or by its own time limit.
pub(super) fn is_interrupted(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn only_a_full_disk_is_a_known_fate() {
        for full in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            assert!(matches!(Fate::of(&failure(full)), Fate::Full(_)), "{full}");
        }
        for unknown in [
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CONSTRAINT,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_NOMEM,
        ] {
            assert!(matches!(Fate::of(&failure(unknown)), Fate::Unknown), "{unknown}");
        }
        assert!(matches!(Fate::of(&Error::QueryReturnedNoRows), Fate::Unknown));
    }
}
