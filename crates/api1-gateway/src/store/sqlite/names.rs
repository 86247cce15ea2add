//! Destinations by number, because a number is what rows and index entries hold.

use std::collections::BTreeMap;

use jobs_core::job::DestinationName;
use rusqlite::{Connection, Result};

/// All destinations that have ever had a job or a gate, numbered from 1 without gaps.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: BTreeMap<DestinationName, i64>,
    names: Vec<DestinationName>,
}

impl Names {
    pub(super) fn load(conn: &Connection) -> Result<Names> {
        let mut names = Names::default();
        let mut statement = conn.prepare("SELECT name FROM destination ORDER BY id")?;
        for name in statement.query_map([], read_name)? {
            names.push(name?);
        }
        Ok(names)
    }

    pub(super) fn number(&self, name: &DestinationName) -> Option<i64> {
        self.numbers.get(name).copied()
    }

    pub(super) fn name(&self, number: i64) -> Option<DestinationName> {
        self.names.get(usize::try_from(number).ok()?.checked_sub(1)?).cloned()
    }

    /// The number of `name`, which it is given now if it has none.
    pub(super) fn intern(&mut self, conn: &Connection, name: &DestinationName) -> Result<i64> {
        if let Some(number) = self.number(name) {
            return Ok(number);
        }
        let number = self.count() as i64 + 1;
        conn.prepare_cached("INSERT INTO destination (id, name) VALUES (?, ?)")?.execute((number, name.as_str()))?;
        self.push(name.clone());
        Ok(number)
    }

    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// Forgets all but the first `count`: the transaction that numbered the others was rolled back.
    pub(super) fn truncate(&mut self, count: usize) {
        for name in self.names.drain(count..) {
            self.numbers.remove(&name);
        }
    }

    fn push(&mut self, name: DestinationName) {
        self.names.push(name.clone());
        self.numbers.insert(name, self.names.len() as i64);
    }
}

/// Reads the first column as the name of a destination.
pub(super) fn read_name(row: &rusqlite::Row<'_>) -> Result<DestinationName> {
    parse_name(row.get_ref(0)?.as_str()?)
}

/// A name as it was stored.
pub(super) fn parse_name(text: &str) -> Result<DestinationName> {
    text.parse()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}
