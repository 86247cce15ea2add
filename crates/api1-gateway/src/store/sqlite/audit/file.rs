//! The file as such: opened without changing a byte of it, its pages, and how often it was started on.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Result};

use super::super::open::{self, APPLICATION_ID, OpenError};
use super::super::schema;
use super::Audit;

/// The file, open.
pub(super) struct Opened {
    /// `None`: a start was cut short before there was anything in it.
    pub(super) conn: Option<Connection>,
    _lock: Option<File>,
}

pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let path = std::fs::canonicalize(path)?;
    let lock = keep_gateways_out(&open::beside(&path, ".lock"))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(uri(&path), flags)?;
    let application: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 && (application == 0 || application == APPLICATION_ID) {
        return Ok(Opened { conn: None, _lock: lock });
    }
    if application != APPLICATION_ID {
        return Err(OpenError::Foreign);
    }
    schema::check(&conn)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(Opened { conn: Some(conn), _lock: lock })
}

/// Takes the lock that a gateway would. Where none was ever taken, as beside a backup, none is left behind.
fn keep_gateways_out(path: &Path) -> Result<Option<File>, OpenError> {
    let unusable = |source| OpenError::LockFile { file: path.to_owned(), source };
    let lock = match File::open(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Running(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// A backup has no log, and to be read needs none: SQLite then makes no file beside it.
fn uri(path: &Path) -> PathBuf {
    let has_log = std::fs::metadata(open::beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str(if has_log { "?mode=ro" } else { "?mode=ro&immutable=1" });
    uri.into()
}

/// SQLite's own look at every page, and at every index beside its table.
pub(super) fn pages(conn: &Connection, audit: &mut Audit) -> Result<()> {
    let mut statement = conn.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            audit.note(format!("damaged: {line}"));
        }
    }
    Ok(())
}

/// The number of the latest start that was made durable.
pub(super) fn start(conn: &Connection) -> Result<i64> {
    let start = conn.query_row("SELECT value FROM meta WHERE name = 'start'", [], |row| row.get(0)).optional()?;
    Ok(start.unwrap_or_default())
}
