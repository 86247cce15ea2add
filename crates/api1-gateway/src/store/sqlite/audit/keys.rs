//! Idempotency keys: each names one job, and lives alone only after that job was purged.

use rusqlite::{Connection, Result};

use super::{Audit, note_rows};

const TWICE: &str = "SELECT min(seq) FROM idempotency_key NOT INDEXED GROUP BY scope, key HAVING count(*) > 1";
const OF_ANOTHER: &str = "SELECT key.seq FROM idempotency_key AS key JOIN job ON job.seq = key.seq
    WHERE job.id <> key.job_id OR key.purged_at IS NOT NULL";
const OF_NOBODY: &str = "SELECT seq FROM idempotency_key WHERE (purged_at IS NULL OR ended IS NULL)
    AND seq NOT IN (SELECT seq FROM job)";

pub(super) fn all(conn: &Connection, audit: &mut Audit) -> Result<()> {
    note_rows(conn, audit, TWICE, |seq| format!("idempotency key {seq} is there a second time, for another job"))?;
    note_rows(conn, audit, OF_ANOTHER, |seq| format!("idempotency key {seq} names another job than its own"))?;
    note_rows(conn, audit, OF_NOBODY, |seq| {
        format!("idempotency key {seq} is of a job that is gone and was never purged")
    })
}
