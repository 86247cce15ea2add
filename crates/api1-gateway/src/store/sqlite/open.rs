//! Opening the file: every check that must hold before a job is entrusted to it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jobs_core::store::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::checkpoint::BUSY_TIMEOUT;

/// Older ones can corrupt a file in WAL mode when a checkpoint and a write meet.
const OLDEST_SQLITE: i32 = 3_051_003;
/// Marks the file as ours: "Hold" in ASCII.
pub(super) const APPLICATION_ID: i32 = 0x486f_6c64;
/// Pages the writer keeps in memory, in KiB: enough for the ends of the tables and indexes, where jobs come in and go. More costs time:
/// in a database below 1 GiB SQLite looks through all of them after each commit that has moved entries between pages of an index.
const CACHE_KIB: i64 = 4 * 1024;
/// Pages that one transaction may change before SQLite writes some of them ahead of its commit: in practice more than the largest batch does.
const DIRTY_KIB: i64 = 32 * 1024;
/// More statements than the writer has.
const STATEMENTS: usize = 128;

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("SQLite {0} is too old: build with 3.51.3 or later")]
    SqliteTooOld(&'static str),
    #[error("the folder {} cannot be used: {source}", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("the lock file {} cannot be used: {source}", file.display())]
    LockFile { file: PathBuf, source: io::Error },
    #[error("another gateway has it open (it holds {}): stop that one, or give this one a file of its own", .0.display())]
    InUse(PathBuf),
    #[error("a gateway has it open (it holds {}): stop it first, or audit a backup", .0.display())]
    Running(PathBuf),
    #[error("it is not a database of this program")]
    Foreign,
    #[error(
        "it was written by a newer version (schema {found}, this version knows {known}): start that version, or restore a backup"
    )]
    Newer { found: u32, known: u32 },
    #[error("schema step {0} is not the one this version knows: start the version that wrote it, or restore a backup")]
    Changed(u32),
    #[error(
        "it was written by an older version (schema {found}, this version knows {known}): start this version on it first"
    )]
    Older { found: u32, known: u32 },
    #[error("SQLite would not keep to {setting} = {wanted}, but said {found}: use a local disk")]
    Setting { setting: &'static str, wanted: &'static str, found: String },
    #[error("all start numbers are used up: move to a new file")]
    NoStartsLeft,
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl OpenError {
    /// As the store's caller sees it.
    pub(super) fn of(self, path: &Path) -> StoreError {
        StoreError::Unusable(format!("cannot open the store {}: {self}", path.display()))
    }
}

/// The folder a file is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// The file's one name, whatever links lead to it, so that its lock has one name too. Makes its folder, durably.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let folder = parent(path);
    let unusable = |source| OpenError::Folder { folder: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(unusable)?;
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or_else(|| unusable(io::ErrorKind::IsADirectory.into()))?;
            let folder = fs::canonicalize(folder).map_err(unusable)?;
            // Before there is a file to lose: which of the folders are new, this start or one that was cut short may have made.
            for one in leading_to(&folder).map_err(unusable)? {
                sync_if_readable(one).map_err(unusable)?;
            }
            Ok(folder.join(name))
        }
        Err(error) => Err(unusable(error)),
    }
}

/// `folder` and those above it, up to the root of its file system: beyond that nothing was made here.
fn leading_to(folder: &Path) -> io::Result<Vec<&Path>> {
    let device = fs::metadata(folder)?.dev();
    let mut leading = Vec::new();
    for one in folder.ancestors() {
        if fs::metadata(one)?.dev() != device {
            break;
        }
        leading.push(one);
    }
    Ok(leading)
}

/// Makes the names in a folder durable. One that may not be read holds no name of ours.
fn sync_if_readable(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(opened) => opened.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// The file next to the database whose name has `suffix` behind it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Keeps other gateways out as long as the answer lives. A crash lets go of it.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let file = beside(path, ".lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&file);
    let lock = opened.map_err(|source| OpenError::LockFile { file: file.clone(), source })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(file)),
        Err(TryLockError::Error(source)) => Err(OpenError::LockFile { file, source }),
    }
}

/// The writer's connection, with everything set that durability rests on.
pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::SqliteTooOld(rusqlite::version()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    let is_marked = check_owner(&conn)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    configure(&conn, STATEMENTS)?;
    if !is_marked {
        // Before anything else is in it: a start that is cut short here leaves a file that the next one takes for new.
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    set(&conn, "journal_mode", "WAL", "wal")?;
    set(&conn, "synchronous", "FULL", "2")?;
    set(&conn, "mmap_size", "0", "0")?;
    set(&conn, "wal_autocheckpoint", "0", "0")?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "cache_spill", -DIRTY_KIB)?;
    Ok(conn)
}

/// A connection that copies the log back beside the writer's, which made the database.
pub(super) fn connect_beside(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    configure(&conn, 0)?;
    // It syncs the log before it copies.
    set(&conn, "synchronous", "FULL", "2")?;
    set(&conn, "mmap_size", "0", "0")?;
    set(&conn, "wal_autocheckpoint", "0", "0")?;
    Ok(conn)
}

/// Makes the names of the database and its log durable, once both are there: SQLite does that too, but makes light of a failure.
/// At every start, since the one that made the files may have been cut short before this.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

/// What all connections have in common.
pub(super) fn configure(conn: &Connection, statements: usize) -> rusqlite::Result<()> {
    conn.set_prepared_statement_cache_capacity(statements);
    // A statement keeps its plan whatever is bound to it. SQLite would else plan many of them anew at each use, since the
    // values might suit another index; ours are written for the one they name.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // After a failed sync nothing must be copied from the log into the database any more, least of all in passing.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "temp_store", "MEMORY")
}

/// Refuses a file of another program before anything is changed in it. Answers whether it is marked as ours.
fn check_owner(conn: &Connection) -> Result<bool, OpenError> {
    let application: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_marked = application == APPLICATION_ID;
    if is_marked || (application == 0 && tables == 0) { Ok(is_marked) } else { Err(OpenError::Foreign) }
}

/// Sets a pragma and reads it back: some file systems cannot do what is asked, and SQLite then does something else.
fn set(conn: &Connection, setting: &'static str, value: &str, wanted: &'static str) -> Result<(), OpenError> {
    conn.pragma_update(None, setting, value)?;
    let found = match conn.pragma_query_value(None, setting, |row| row.get(0))? {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text,
        Value::Null | Value::Real(_) | Value::Blob(_) => String::new(),
    };
    if found == wanted { Ok(()) } else { Err(OpenError::Setting { setting, wanted, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_new_folders_are_made_durable_up_to_the_root_of_their_file_system() {
        let temp = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(temp.path()).unwrap();
        let folder = root.join("a/b");
        fs::create_dir_all(&folder).unwrap();
        let leading = leading_to(&folder).unwrap();
        assert_eq!(leading[..3], [folder.as_path(), root.join("a").as_path(), root.as_path()]);
        let above = leading.last().unwrap().parent();
        let device = |folder: &Path| fs::metadata(folder).unwrap().dev();
        assert!(above.is_none_or(|above| device(above) != device(&folder)), "{leading:?}");
        #[cfg(target_os = "linux")]
        assert_eq!(leading_to(Path::new("/proc/self")).unwrap(), [Path::new("/proc/self"), Path::new("/proc")]);
    }
}
