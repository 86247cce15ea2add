//! Bringing the schema up to what this version knows: numbered steps, each with its checksum.
//!
//! A step that was released is never edited, and its checksum proves it. A file with more steps than are known here was
//! written by a newer version and is refused untouched, since what those steps promise is not known.

use jobs_core::time::Timestamp;
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::open::OpenError;

/// All steps, the first is number 1.
const STEPS: [&str; 5] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
];

const STEP_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_step (
    number     INTEGER PRIMARY KEY,
    checksum   TEXT    NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT";

/// Applies the steps that are missing, each in a transaction of its own.
pub(super) fn migrate(conn: &Connection, now: Timestamp) -> Result<(), OpenError> {
    migrate_to(conn, &STEPS, now)
}

fn migrate_to(conn: &Connection, steps: &[&str], now: Timestamp) -> Result<(), OpenError> {
    let applied = known_steps(conn, steps)?;
    for (index, step) in steps.iter().enumerate().skip(applied) {
        let transaction = conn.unchecked_transaction()?;
        transaction.execute_batch(STEP_TABLE)?;
        transaction.execute_batch(step)?;
        let line = (number_of(index + 1), checksum(step), now.as_millis());
        transaction.execute("INSERT INTO schema_step (number, checksum, applied_at) VALUES (?, ?, ?)", line)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Whether the file has exactly the schema that is known here. Only reads.
pub(super) fn check(conn: &Connection) -> Result<(), OpenError> {
    let applied = known_steps(conn, &STEPS)?;
    if applied == STEPS.len() {
        return Ok(());
    }
    Err(OpenError::Older { found: number_of(applied), known: number_of(STEPS.len()) })
}

/// How many steps the file has seen, all of them known here.
fn known_steps(conn: &Connection, steps: &[&str]) -> Result<usize, OpenError> {
    let applied = applied_steps(conn)?;
    if applied.len() > steps.len() {
        return Err(OpenError::Newer { found: number_of(applied.len()), known: number_of(steps.len()) });
    }
    for (index, (found, step)) in applied.iter().zip(steps).enumerate() {
        if *found != checksum(step) {
            return Err(OpenError::Changed(number_of(index + 1)));
        }
    }
    Ok(applied.len())
}

/// The checksums of the steps the file has seen, in order.
fn applied_steps(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    if !conn.table_exists(None, "schema_step")? {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare("SELECT checksum FROM schema_step ORDER BY number")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn checksum(step: &str) -> String {
    Sha256::digest(step).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn number_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE one (n INTEGER)";
    const SECOND: &str = "CREATE TABLE two (n INTEGER)";

    fn migrated(conn: &Connection, steps: &[&str]) -> Result<(), OpenError> {
        migrate_to(conn, steps, Timestamp::from_millis(1))
    }

    #[test]
    fn only_the_missing_steps_are_applied() {
        let conn = Connection::open_in_memory().unwrap();
        migrated(&conn, &[FIRST]).unwrap();
        conn.execute("INSERT INTO one VALUES (7)", []).unwrap();
        migrated(&conn, &[FIRST, SECOND]).unwrap();
        migrated(&conn, &[FIRST, SECOND]).unwrap();
        assert!(conn.table_exists(None, "two").unwrap());
        assert_eq!(conn.query_row("SELECT n FROM one", [], |row| row.get(0)), Ok(7));
    }

    #[test]
    fn an_answer_that_was_kept_before_step_4_is_still_read() {
        let conn = Connection::open_in_memory().unwrap();
        migrated(&conn, &STEPS[..3]).unwrap();
        conn.execute_batch(
            "INSERT INTO attempt VALUES (7, 0, 1, 1, zeroblob(16), 0, 0, 3, 0, 503, NULL, 'later', NULL, NULL);
            INSERT INTO response VALUES (7, 503, 'text/plain', 0, x'6c61746572')",
        )
        .unwrap();
        migrated(&conn, &STEPS).unwrap();
        let (status, answer) = super::super::attempt::read_response(&conn, 7).unwrap().unwrap();
        assert_eq!((status, &answer.body[..], answer.truncated), (Some(503), b"later".as_slice(), false));
        assert_eq!(answer.content_type.as_deref(), Some("text/plain"));
    }

    #[test]
    fn a_job_from_before_step_5_is_still_found_by_its_id() {
        use jobs_core::job::JobId;
        use uuid::Uuid;
        let conn = Connection::open_in_memory().unwrap();
        migrated(&conn, &STEPS[..4]).unwrap();
        let (id, ends_in_its_number) = (JobId(Uuid::from_u128(u128::MAX)), JobId(Uuid::from_u128(8)));
        let insert = "INSERT INTO job (seq, id, destination, priority, accepted_at, checksum, state, head, run_at, updated_at, attempts,
            charged, failures, failures_epoch, lost, overloads, last_settled, last_down, first_suspect, generation,
            generation_floor, last_epoch, settled_epoch, key_generation)
            VALUES (?, ?, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)";
        for (seq, id) in [(7, id), (8, ends_in_its_number)] {
            conn.execute(insert, (seq, id.0.into_bytes())).unwrap();
        }
        migrated(&conn, &STEPS).unwrap();
        for (seq, id) in [(7, id), (8, ends_in_its_number)] {
            assert_eq!(super::super::query::seq_of(&conn, id).unwrap(), Some(seq));
            assert!(conn.execute(insert, (9, id.0.into_bytes())).is_err(), "an id is there one time");
        }
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        let conn = Connection::open_in_memory().unwrap();
        assert!(migrated(&conn, &[FIRST, "CREATE TABLE half (n INTEGER); nonsense"]).is_err());
        assert!(conn.table_exists(None, "one").unwrap());
        assert!(!conn.table_exists(None, "half").unwrap());
        migrated(&conn, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn an_edited_step_and_a_newer_schema_are_refused() {
        let conn = Connection::open_in_memory().unwrap();
        migrated(&conn, &[FIRST, SECOND]).unwrap();
        let edited = migrated(&conn, &[FIRST, "CREATE TABLE two (n TEXT)"]).unwrap_err();
        assert!(matches!(edited, OpenError::Changed(2)), "{edited}");
        let newer = migrated(&conn, &[FIRST]).unwrap_err();
        assert!(matches!(newer, OpenError::Newer { found: 2, known: 1 }), "{newer}");
    }
}
