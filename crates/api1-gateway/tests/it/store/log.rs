//! The log stays small, whoever reads.

use bytes::Bytes;
use jobs_core::conformance::rig::BEGIN;
use jobs_core::destination::OrderingOnDead;
use jobs_core::job::{NewJob, Request};
use jobs_core::store::{JobStore, Retention, StoreError};

use super::{Sqlite, job, with_suffix};
use crate::support::eventually;

const MIB: u64 = 1024 * 1024;
/// See stores.md: no log is ever larger.
const MAX_LOG: u64 = 64 * MIB;
/// Where nobody stays in it, it is begun anew from 33 MiB on, at the first moment between two batches at which it is not being copied.
const USUAL_LOG: u64 = 48 * MIB;

fn large(n: u128) -> NewJob {
    NewJob { request: Request { body: Bytes::from(vec![b'x'; MIB as usize]), ..Request::default() }, ..job(n) }
}

/// The size of the log's file, which never shrinks while the store is open.
fn log_file(database: &Sqlite) -> u64 {
    std::fs::metadata(with_suffix(&database.path(), "-wal")).expect("the log is there").len()
}

#[tokio::test]
async fn the_log_is_begun_anew_before_it_grows_large() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    for n in 1..=120 {
        store.enqueue(vec![large(n)], BEGIN).await.expect("the job is accepted");
    }
    assert!(log_file(&database) < USUAL_LOG, "{} bytes", log_file(&database));
    store.close().await.expect("the store closes");
    assert_eq!(log_file(&database), 0, "a clean close leaves nothing in it");
}

#[tokio::test]
async fn the_log_is_copied_back_while_the_writer_rests() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    store.enqueue((1..=6).map(large).collect(), BEGIN).await.expect("the jobs are accepted");
    let copied = async || std::fs::metadata(database.path()).is_ok_and(|file| file.len() > 4 * MIB).then_some(());
    eventually("4 MiB of the log in the database", copied).await;
    assert!(store.log_bytes() > 6 * MIB, "it is not begun anew for that: {} bytes", store.log_bytes());
}

#[tokio::test]
async fn a_foreign_reader_that_stays_makes_the_store_refuse_work_rather_than_fill_the_disk() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    store.enqueue(vec![job(1)], BEGIN).await.expect("the job is accepted");
    let foreign = rusqlite::Connection::open(database.path()).expect("the file opens");
    foreign.execute_batch("BEGIN; SELECT count(*) FROM job;").expect("it reads, and stays");
    let mut accepted = 0;
    let refused = loop {
        match store.enqueue(vec![large(100 + accepted)], BEGIN).await {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
        assert!(accepted < 100, "the log is {} bytes", log_file(&database));
    };
    assert!(matches!(&refused, StoreError::Full(reason) if reason.contains("another program")), "{refused}");
    assert!(accepted > 40, "only {accepted} jobs of 1 MiB fitted");
    assert!(log_file(&database) <= MAX_LOG, "{} bytes", log_file(&database));
    assert_eq!(store.stats().await.expect("stats are read").accepted, accepted as u64 + 1);

    foreign.execute_batch("COMMIT").expect("it leaves");
    store.enqueue(vec![large(9_999)], BEGIN).await.expect("there is room again");
    assert!(store.log_bytes() < 8 * MIB, "{} bytes", store.log_bytes());
}

#[tokio::test]
async fn a_purge_of_jobs_with_long_attempt_logs_leaves_the_log_small() {
    const JOBS: u64 = 300;
    let database = Sqlite::new();
    let store = database.open_sqlite();
    store.enqueue((1..=u128::from(JOBS)).map(job).collect(), BEGIN).await.expect("the jobs are accepted");
    for n in 1..=u128::from(JOBS) {
        store.cancel(job(n).id, OrderingOnDead::Free, BEGIN).await.expect("the job is cancelled");
    }
    store.close().await.expect("the store closes");
    // As they grow in a long outage: hundreds of attempts, each with the beginning of an answer.
    let conn = rusqlite::Connection::open(database.path()).expect("the file opens");
    let lines = "INSERT INTO attempt
        WITH RECURSIVE line (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM line WHERE number < 300)
        SELECT seq, 0, number, number, zeroblob(16), 0, 0, 3, 0, 503, 'answered 503', printf('%.512c', 'x'), 0, 0, NULL
            FROM line, job";
    conn.execute_batch(lines).expect("the SQL is fine");
    conn.close().expect("the file closes");

    let store = database.open_sqlite();
    let later = BEGIN.plus(Retention::default().succeeded);
    let mut purged = 0;
    loop {
        let step = store.purge(Retention::default(), later).await.expect("a purge is answered");
        purged += step.jobs;
        if !step.more {
            break;
        }
        assert!(step.jobs > 0, "{purged} of {JOBS}");
    }
    assert_eq!(purged, JOBS, "what is left when it stops at a limit is told");
    assert!(log_file(&database) < USUAL_LOG, "{} bytes", log_file(&database));
}
