//! Which files are opened, and what is said of those that are not.

use std::path::Path;
use std::sync::Arc;

use api1_gateway::config::store_url::StoreUrl;
use api1_gateway::store::sqlite::SqliteStore;
use api1_gateway::store::{self, Terms};
use jobs_core::conformance::rig::{BEGIN, Rig, TestJudge, WORKER};
use jobs_core::job::StateName;
use jobs_core::lease::LeaseKey;
use jobs_core::outcome::{Class, Outcome};
use jobs_core::store::{JobStore, Report, Settlement, StoreError};

use super::{Sqlite, job};

/// Why the file is not opened.
fn refusal(path: &Path) -> String {
    match SqliteStore::open(path, BEGIN) {
        Err(StoreError::Unusable(reason)) => {
            assert!(reason.contains(&path.display().to_string()), "the file is named: {reason}");
            reason
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

/// Changes the closed file by hand.
fn by_hand(database: &Sqlite, sql: &str) {
    rusqlite::Connection::open(database.path()).expect("the file opens").execute_batch(sql).expect("the SQL is fine");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_file_is_refused() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    let reason = refusal(&database.path());
    assert!(reason.contains("another gateway has it open"), "{reason}");
    let link = database.folder.path().join("other-name.db");
    std::os::unix::fs::symlink(database.path(), &link).expect("a link is made");
    let reason = refusal(&link);
    assert!(reason.contains("another gateway has it open"), "{reason}");
    store.close().await.expect("the store closes");
    database.open_sqlite();
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let database = Sqlite::new();
    database.open_sqlite().close().await.expect("the store closes");
    by_hand(&database, "INSERT INTO schema_step SELECT max(number) + 1, 'whatever', 0 FROM schema_step");
    let reason = refusal(&database.path());
    assert!(reason.contains("newer version (schema 6, this version knows 5)"), "{reason}");
}

#[tokio::test]
async fn a_schema_step_with_another_checksum_is_refused() {
    let database = Sqlite::new();
    database.open_sqlite().close().await.expect("the store closes");
    by_hand(&database, "UPDATE schema_step SET checksum = 'edited'");
    let reason = refusal(&database.path());
    assert!(reason.contains("schema step 1 is not the one this version knows"), "{reason}");
}

#[tokio::test]
async fn a_file_of_another_program_is_refused_and_left_alone() {
    let database = Sqlite::new();
    by_hand(&database, "CREATE TABLE theirs (n INTEGER)");
    let before = std::fs::read(database.path()).expect("the file is read");
    let reason = refusal(&database.path());
    assert!(reason.contains("not a database of this program"), "{reason}");
    assert_eq!(std::fs::read(database.path()).expect("the file is read"), before);

    let text = Sqlite::new();
    std::fs::write(text.path(), "a letter to a friend, rather longer than the header of a database file would be")
        .expect("written");
    let reason = refusal(&text.path());
    assert!(reason.contains("not a database"), "{reason}");
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_leaves_a_file_that_later_starts_know_for_their_own() {
    let database = Sqlite::new();
    std::fs::write(database.path(), "").expect("the file is made, and no more");
    for n in 1..=2 {
        let store = database.open_sqlite();
        store.enqueue(vec![job(n)], BEGIN).await.expect("the job is accepted");
        store.close().await.expect("the store closes");
    }
    assert_eq!(database.open_sqlite().stats().await.expect("stats are read").accepted, 2);
}

#[tokio::test]
async fn a_path_that_cannot_be_used_is_named_with_the_reason() {
    let database = Sqlite::new();
    let file = database.folder.path().join("file");
    std::fs::write(&file, "").expect("the file is written");
    let reason = refusal(&file.join("jobs.db"));
    assert!(reason.contains("the folder") && reason.contains("cannot be used"), "{reason}");
    let reason = refusal(database.folder.path());
    assert!(reason.starts_with("cannot open the store"), "{reason}");
}

#[tokio::test]
async fn missing_folders_are_made() {
    let database = Sqlite::new();
    let path = database.folder.path().join("a/b/jobs.db");
    let store = SqliteStore::open(&path, BEGIN).expect("the store opens");
    store.enqueue(vec![job(1)], BEGIN).await.expect("the job is accepted");
    assert!(path.exists());
}

#[tokio::test]
async fn a_disk_with_too_little_left_takes_no_new_job_and_what_is_stored_is_settled() {
    let database = Sqlite::new();
    let store = SqliteStore::open(&database.path(), BEGIN).expect("the store opens");
    store.enqueue(vec![job(1)], BEGIN).await.expect("the job is accepted");
    store.close().await.expect("it closes");
    let terms = Terms { min_free: u64::MAX, ..Terms::default() };
    let store = SqliteStore::open_on(&database.path(), terms, BEGIN).expect("the store opens");
    let refused = store.enqueue(vec![job(2)], BEGIN).await;
    assert!(matches!(&refused, Err(StoreError::Full(reason)) if reason.contains("disk")), "{refused:?}");
    let claimed = store.claim(WORKER, vec![Rig::grant(9, 0)], BEGIN).await.expect("it is claimed");
    let [lease] = claimed.leases.as_slice() else { panic!("one job is stored: {claimed:?}") };
    let key = LeaseKey { job_id: lease.job.id, epoch: lease.epoch };
    let settlement = Settlement { key, report: Report::Attempted(Outcome::of(Class::Ok)) };
    let settled = store.settle(WORKER, vec![settlement], Arc::new(TestJudge::default()), BEGIN).await;
    assert!(settled.is_ok(), "{settled:?}");
    assert_eq!(store.stats().await.expect("it tells").in_state(StateName::Succeeded), 1);
}

#[tokio::test]
async fn a_store_is_opened_by_its_url() {
    let database = Sqlite::new();
    let terms = Terms::default();
    let memory = store::open(&StoreUrl::Memory, terms, BEGIN).expect("a store in memory opens");
    let sqlite = store::open(&StoreUrl::Sqlite(database.path()), terms, BEGIN).expect("the file opens");
    for store in [&memory, &sqlite] {
        assert_eq!(store.enqueue(vec![job(1)], BEGIN).await.expect("the job is accepted").len(), 1);
    }
    assert_eq!(memory.free_bytes().await, Ok(None));
    assert!(sqlite.free_bytes().await.expect("the disk is asked").is_some_and(|free| free > 0));
    assert!(database.path().exists());
}

#[tokio::test]
async fn every_start_has_a_number_of_its_own_also_without_a_clean_close() {
    let database = Sqlite::new();
    let first = database.open_sqlite();
    let crashed = database.crashed();
    assert_eq!(first.start(), 1);
    assert_eq!(crashed.open_sqlite().start(), 2);
}
