//! Reading and binding the columns of a row one after the other, in the order in which its SQL names them.
//!
//! Text is read leniently: a byte that rotted on the disk must end at the job's checksum, not at a failure to read the row.

use std::time::Duration;

use bytes::Bytes;
use jobs_core::job::{DestinationName, Epoch, Tick};
use jobs_core::time::Timestamp;
use rusqlite::types::{FromSql, ToSql, ValueRef};
use rusqlite::{Error, Result, Row, Statement};
use uuid::Uuid;

use super::codes;

/// Reads a row from left to right.
pub(super) struct Reader<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl<'r, 's> Reader<'r, 's> {
    pub(super) fn new(row: &'r Row<'s>) -> Self {
        Reader { row, next: 0 }
    }

    pub(super) fn get<T: FromSql>(&mut self) -> Result<T> {
        let column = self.advance();
        self.row.get(column)
    }

    /// A number that this program writes from a `u32` or less.
    pub(super) fn small<T: TryFrom<i64>>(&mut self) -> Result<T> {
        let column = self.advance();
        let number: i64 = self.row.get(column)?;
        T::try_from(number).map_err(|_| Error::IntegralValueOutOfRange(column, number))
    }

    pub(super) fn small_or_null<T: TryFrom<i64>>(&mut self) -> Result<Option<T>> {
        self.unless_null(Self::small)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.get::<i64>().map(i64::cast_unsigned)
    }

    pub(super) fn flag(&mut self) -> Result<bool> {
        self.get::<i64>().map(|number| number != 0)
    }

    pub(super) fn word<T: Copy>(&mut self, table: &[T]) -> Result<T> {
        let column = self.advance();
        let number = self.row.get(column)?;
        codes::word(table, number).ok_or(Error::IntegralValueOutOfRange(column, number))
    }

    pub(super) fn word_or_null<T: Copy>(&mut self, table: &[T]) -> Result<Option<T>> {
        self.unless_null(|columns| columns.word(table))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        self.get().map(Timestamp::from_millis)
    }

    pub(super) fn time_or_null(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp::from_millis))
    }

    pub(super) fn duration(&mut self) -> Result<Duration> {
        self.get().map(duration)
    }

    pub(super) fn duration_or_null(&mut self) -> Result<Option<Duration>> {
        Ok(self.get::<Option<i64>>()?.map(duration))
    }

    pub(super) fn epoch(&mut self) -> Result<Epoch> {
        self.u64().map(Epoch::from_u64)
    }

    pub(super) fn tick(&mut self) -> Result<Tick> {
        self.u64().map(Tick)
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid> {
        self.get().map(Uuid::from_bytes)
    }

    pub(super) fn uuid_or_null(&mut self) -> Result<Option<Uuid>> {
        self.unless_null(Self::uuid)
    }

    /// A destination's number, as the name that `lookup` has for it.
    pub(super) fn name(&mut self, lookup: impl FnOnce(i64) -> Option<DestinationName>) -> Result<DestinationName> {
        let number = self.get()?;
        lookup(number).ok_or(Error::IntegralValueOutOfRange(self.next - 1, number))
    }

    pub(super) fn text(&mut self) -> Result<String> {
        Ok(self.text_or_null()?.unwrap_or_default())
    }

    pub(super) fn text_or_null(&mut self) -> Result<Option<String>> {
        let column = self.advance();
        Ok(match self.row.get_ref(column)? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => None,
        })
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes> {
        let column = self.advance();
        Ok(self.row.get_ref(column)?.as_blob_or_null()?.map(Bytes::copy_from_slice).unwrap_or_default())
    }

    /// Passes over the next `count` columns.
    pub(super) fn skip(&mut self, count: usize) -> &mut Self {
        self.next += count;
        self
    }

    fn unless_null<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.row.get_ref(self.next)? == ValueRef::Null {
            self.skip(1);
            return Ok(None);
        }
        read(self).map(Some)
    }

    fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}

/// Binds a statement's parameters from the first to the last.
pub(super) struct Binder<'a, 'conn> {
    statement: &'a mut Statement<'conn>,
    next: usize,
}

impl<'a, 'conn> Binder<'a, 'conn> {
    /// What the statement was bound to before is forgotten.
    pub(super) fn new(statement: &'a mut Statement<'conn>) -> Self {
        statement.clear_bindings();
        Binder { statement, next: 1 }
    }

    pub(super) fn put(&mut self, value: impl ToSql) -> Result<&mut Self> {
        self.statement.raw_bind_parameter(self.next, value)?;
        self.next += 1;
        Ok(self)
    }

    pub(super) fn u64(&mut self, value: u64) -> Result<&mut Self> {
        self.put(value.cast_signed())
    }

    pub(super) fn time(&mut self, value: Timestamp) -> Result<&mut Self> {
        self.put(value.as_millis())
    }

    pub(super) fn time_or_null(&mut self, value: Option<Timestamp>) -> Result<&mut Self> {
        self.put(value.map(Timestamp::as_millis))
    }

    pub(super) fn uuid(&mut self, value: Uuid) -> Result<&mut Self> {
        self.put(value.as_bytes().as_slice())
    }

    /// The columns named by `count` parameters are null, as long as nothing is bound to them.
    pub(super) fn nulls(&mut self, count: usize) -> &mut Self {
        self.next += count;
        self
    }

    pub(super) fn execute(&mut self) -> Result<usize> {
        self.statement.raw_execute()
    }
}

/// Nanoseconds; beyond 292 years "for ever", which is read back as [`Duration::MAX`].
pub(super) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn duration(nanos: i64) -> Duration {
    if nanos == i64::MAX { Duration::MAX } else { Duration::from_nanos(nanos.max(0).cast_unsigned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_back_as_it_was_written() {
        for written in
            [Duration::ZERO, Duration::from_nanos(1_234_567_891), Duration::from_secs(9_000_000_000), Duration::MAX]
        {
            assert_eq!(duration(nanos(written)), written);
        }
    }
}
