//! Prepared statements, at hand for as long as a batch runs.
//!
//! The connection keeps all statements that were ever prepared, by their text. To look one up, check it and put it back costs
//! about as much as a small statement itself, so a batch does that once for each, not once for each job.

use rusqlite::{CachedStatement, Connection, Result};

/// The statements a batch has used so far. Dropping it gives them back to the connection.
pub(super) struct Statements<'a> {
    conn: &'a Connection,
    /// A dozen at most: looking through them is quicker than any map.
    used: Vec<(&'static str, CachedStatement<'a>)>,
}

impl<'a> Statements<'a> {
    pub(super) fn new(conn: &'a Connection) -> Self {
        Statements { conn, used: Vec::new() }
    }

    /// The statement of `sql`.
    ///
    /// # Errors
    /// When SQLite cannot prepare it.
    pub(super) fn get(&mut self, sql: &'static str) -> Result<&mut CachedStatement<'a>> {
        let at = match self.used.iter().position(|(known, _)| *known == sql) {
            Some(at) => at,
            None => {
                self.used.push((sql, self.conn.prepare_cached(sql)?));
                self.used.len() - 1
            }
        };
        Ok(&mut self.used[at].1)
    }
}
