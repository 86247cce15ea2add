//! The audit: what must hold of a store's file, as far as the file alone can tell. It only reads.
//!
//! It is meant for a backup, or for the file of a gateway that does not run, a killed one included. What it finds is told in
//! sentences, each naming the job or the count; it mends nothing. That every acknowledged job is there, or arrived, no file can
//! say of itself.

mod counts;
mod file;
mod job;
mod keys;
mod order;

use std::path::Path;

use jobs_core::store::StoreError;
use rusqlite::{Connection, Result};

/// Findings that are written out; of a file that is all wrong, the first ones say enough.
const MAX_SHOWN: usize = 100;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    pub jobs: u64,
    /// Lines of attempt logs.
    pub attempts: u64,
    /// What must not be, the first ones in words.
    pub found: Vec<String>,
    /// How many there are beyond those.
    pub more: u64,
}

impl Audit {
    /// Whether everything is as it must be.
    pub fn holds(&self) -> bool {
        self.found.is_empty()
    }

    fn note(&mut self, finding: String) {
        if self.found.len() < MAX_SHOWN {
            self.found.push(finding);
        } else {
            self.more += 1;
        }
    }
}

/// Audits the file at `path`.
///
/// # Errors
/// [`StoreError::Unusable`] where it cannot be judged: there is no such file, it is not a store of this version, or a gateway
/// has it open. A file that is damaged is no error: that is what the audit finds.
pub fn audit(path: &Path) -> Result<Audit, StoreError> {
    // Held to the end: no gateway may start meanwhile.
    let file =
        file::open(path).map_err(|error| StoreError::Unusable(format!("cannot audit {}: {error}", path.display())))?;
    let mut audit = Audit::default();
    if let Some(conn) = &file.conn
        && let Err(error) = examine(conn, &mut audit)
    {
        audit.note(format!("the file cannot be read to its end: {error}"));
    }
    Ok(audit)
}

fn examine(conn: &Connection, audit: &mut Audit) -> Result<()> {
    file::pages(conn, audit)?;
    let start = file::start(conn)?;
    counts::names(conn, audit)?;
    job::all(conn, start, audit)?;
    keys::all(conn, audit)?;
    order::all(conn, audit)?;
    counts::all(conn, audit)
}

/// A note for each row of `sql`, made of its first column.
fn note_rows(conn: &Connection, audit: &mut Audit, sql: &str, say: impl Fn(i64) -> String) -> Result<()> {
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        audit.note(say(row.get(0)?));
    }
    Ok(())
}
