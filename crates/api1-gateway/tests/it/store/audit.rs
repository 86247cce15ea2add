//! The audit of a file: silent where all is well, also after a crash, and with a word for whatever is not.

use std::process::{Command, Output};
use std::sync::Arc;

use api1_gateway::config::store_url::StoreUrl;
use api1_gateway::store::{self, Audit};
use jobs_core::conformance::rig::{BEGIN, Rig, TestJudge, WORKER, key, keys};
use jobs_core::job::NewJob;
use jobs_core::outcome::{Class, Outcome};
use jobs_core::store::{JobStore, Purged, Report, Retention, Settlement, StoreError};
use jobs_core::time::Now;
use rusqlite::Connection;

use super::{Sqlite, job};

fn audit(database: &Sqlite) -> Result<Audit, StoreError> {
    store::audit(&StoreUrl::Sqlite(database.path()))
}

/// Panics with what the audit finds.
pub(super) async fn finds_nothing(database: &Sqlite) {
    let audit = audit(database).expect("the file can be judged");
    assert_eq!(audit.found, Vec::<String>::new());
}

fn keyed(n: u128, ordering_key: &str) -> NewJob {
    NewJob { ordering_key: Some(ordering_key.to_owned()), ..job(n) }
}

/// Of each state one job at least: 1 succeeded, 2 dead, 3 tried and waiting, 4 leased before 5 of the same ordering key, 6 waiting
/// before 7 of the same ordering key, 8 new, with an idempotency key. Job 9 is purged.
async fn a_store_with_something_of_everything() -> Sqlite {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    store
        .enqueue(vec![NewJob { idempotency: Some(key("client", "nine", 9)), ..job(9) }], BEGIN)
        .await
        .expect("accepted");
    settle(&store, &[Class::Ok], BEGIN).await;
    let later = BEGIN.plus(Retention::default().succeeded);
    assert_eq!(store.purge(Retention::default(), later).await, Ok(Purged { jobs: 1, more: false }));

    for n in 1..=3 {
        store.enqueue(vec![job(n)], later).await.expect("accepted");
    }
    settle(&store, &[Class::Ok, Class::JobFail, Class::Error], later).await;
    store.enqueue(vec![keyed(4, "a"), keyed(5, "a")], later).await.expect("accepted");
    assert_eq!(store.claim(WORKER, vec![Rig::grant(1, 0)], later).await.expect("answered").leases.len(), 1);
    store.enqueue(vec![keyed(6, "b"), keyed(7, "b")], later).await.expect("accepted");
    store
        .enqueue(vec![NewJob { idempotency: Some(key("client", "eight", 8)), ..job(8) }], later)
        .await
        .expect("accepted");
    store.close().await.expect("the store closes");
    database
}

/// Claims as many jobs as there are classes, and settles each as its class.
async fn settle(store: &impl JobStore, classes: &[Class], now: Now) {
    let grant = Rig::grant(u32::try_from(classes.len()).expect("few"), 0);
    let leases = store.claim(WORKER, vec![grant], now).await.expect("a claim is answered").leases;
    assert_eq!(leases.len(), classes.len());
    let outcomes = keys(&leases).into_iter().zip(classes);
    let settlements =
        outcomes.map(|(key, class)| Settlement { key, report: Report::Attempted(Outcome::of(*class)) }).collect();
    store.settle(WORKER, settlements, Arc::new(TestJudge::default()), now).await.expect("a settle is answered");
}

#[tokio::test]
async fn nothing_is_found_where_all_is_well_closed_crashed_or_copied() {
    let database = a_store_with_something_of_everything().await;
    let found = audit(&database).expect("the file can be judged");
    assert_eq!((found.jobs, found.attempts, found.found.as_slice()), (8, 3, [].as_slice()));

    let store = database.open_sqlite();
    store.enqueue(vec![job(10)], BEGIN).await.expect("accepted");
    let crashed = database.crashed();
    let copy = Sqlite::new();
    store.backup(copy.path()).await.expect("a copy is made");
    for one in [&crashed, &copy] {
        assert_eq!(audit(one).expect("the file can be judged"), Audit { jobs: 9, attempts: 3, ..Audit::default() });
    }
}

#[tokio::test]
async fn an_audit_changes_nothing_and_leaves_nothing_behind() {
    let database = a_store_with_something_of_everything().await;
    let copy = Sqlite::new();
    let store = database.open_sqlite();
    store.backup(copy.path()).await.expect("a copy is made");
    let before = std::fs::read(copy.path()).expect("the file is read");
    finds_nothing(&copy).await;
    assert_eq!(std::fs::read(copy.path()).expect("the file is read"), before);
    assert_eq!(std::fs::read_dir(copy.folder.path()).expect("the folder is read").count(), 1);
}

/// What is done to the file by hand, and what the audit must say of it.
const DAMAGES: [(&str, &str); 27] = [
    ("UPDATE request SET body = x'00' WHERE seq = 9", "its checksum does not match"),
    ("DELETE FROM request WHERE seq = 9", "what is to be sent is missing"),
    ("UPDATE job SET checksum = checksum + 1 WHERE seq = 4", "its checksum does not match"),
    ("UPDATE job SET id = zeroblob(16), id_ends_in_seq = 1 WHERE seq = 9", "it is not found by its id"),
    ("UPDATE counter SET value = value + 1 WHERE kind = 0", "are counted as accepted"),
    ("UPDATE counter SET value = value - 1 WHERE kind = 1", "are counted as accepted"),
    ("UPDATE counter SET value = 1 WHERE kind = 2", "1 attempts are counted and 3 are logged"),
    ("UPDATE counter SET value = value + 1 WHERE kind = 7", "are counted as succeeded"),
    ("DELETE FROM job WHERE seq = 9", "jobs of destination 1 are counted as pending"),
    ("UPDATE job SET state = 9 WHERE seq = 9", "is not a job"),
    ("UPDATE job SET attempts = 5 WHERE seq = 4", "5 attempts are counted and 1 are in its log"),
    ("UPDATE job SET charged = 3 WHERE seq = 4", "3 charged attempts are counted"),
    ("UPDATE job SET lost = 1 WHERE seq = 4", "1 lost leases are counted"),
    ("UPDATE attempt SET outcome = 5 WHERE seq = 2", "succeeded without an ok in its log"),
    ("UPDATE attempt SET outcome = 1 WHERE seq = 4", "ends with an ok and it has not succeeded"),
    ("UPDATE attempt SET epoch = 9 << 32 WHERE seq = 4", "a gateway start that never was"),
    ("INSERT INTO attempt SELECT seq, generation, 2, epoch, worker, started_at, duration, outcome, charged, status, error, excerpt,
        next_run_at, retry_delay, whole_of FROM attempt WHERE seq = 4", "do not rise"),
    ("UPDATE job SET epoch = epoch - 1 WHERE seq = 5", "an epoch that is not its last"),
    ("UPDATE job SET head = 1 WHERE seq = 8", "can be claimed before its turn"),
    ("UPDATE job SET head = 0 WHERE seq = 7", "cannot be claimed although it is its turn"),
    ("UPDATE job SET head = 0 WHERE seq = 9", "waits without an ordering key and cannot be claimed"),
    ("UPDATE job SET place = NULL WHERE seq = 8", "its place in its ordering key is not that of its state"),
    ("INSERT INTO resolution VALUES (3, 'me', 'paid by hand', 0)", "0 dead jobs are counted as settled otherwise and 1 are"),
    ("INSERT INTO resolution VALUES (9, 'me', 'paid by hand', 0)", "is of no dead job"),
    ("UPDATE job SET deadline = 1 WHERE seq = 9", "its deadline"),
    ("UPDATE idempotency_key SET job_id = zeroblob(16) WHERE seq = 9", "names another job than its own"),
    ("UPDATE idempotency_key SET purged_at = NULL WHERE seq = 1", "is gone and was never purged"),
];

#[tokio::test]
async fn whatever_is_done_to_a_file_by_hand_is_found_and_named() {
    for (sql, expected) in DAMAGES {
        let database = a_store_with_something_of_everything().await;
        let conn = Connection::open(database.path()).expect("the file opens");
        conn.execute_batch("PRAGMA ignore_check_constraints = ON").expect("a pragma is set");
        assert_eq!(conn.execute(sql, []).expect("the SQL is fine"), 1, "{sql}");
        conn.close().expect("the file closes");
        let found = audit(&database).expect("the file can be judged").found;
        assert!(found.iter().any(|finding| finding.contains(expected)), "{sql}: {found:#?}");
    }
}

#[tokio::test]
async fn a_second_key_a_second_lease_and_a_spoilt_page_are_found() {
    let database = a_store_with_something_of_everything().await;
    let conn = Connection::open(database.path()).expect("the file opens");
    let twice = "DROP INDEX idempotency_key_name;
        INSERT INTO idempotency_key SELECT 8, scope, key, fingerprint, (SELECT id FROM job WHERE seq = 8), 0, NULL, NULL
            FROM idempotency_key WHERE seq = 9;
        UPDATE job SET state = 1, place = 1, epoch = 1 << 32, last_epoch = 1 << 32, worker = zeroblob(16), claimed_at = 0,
            destination_epoch = 0, begun = 0, ok_begun = 0, cancel_requested = 0 WHERE seq = 6";
    conn.execute_batch(twice).expect("the SQL is fine");
    conn.close().expect("the file closes");
    let found = audit(&database).expect("the file can be judged").found;
    for expected in ["is there a second time", "leased beside another of its ordering key"] {
        assert!(found.iter().any(|finding| finding.contains(expected)), "{expected}: {found:#?}");
    }

    let mut bytes = std::fs::read(database.path()).expect("the file is read");
    bytes[2 * 4096..3 * 4096].fill(0xff);
    std::fs::write(database.path(), bytes).expect("the file is written");
    let found = audit(&database).expect("the file can be judged").found;
    assert!(found.iter().any(|finding| finding.starts_with("damaged: ")), "{found:#?}");
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_api1-gateway")).env_clear().args(arguments).output().expect("it runs");
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[tokio::test]
async fn the_command_says_by_its_exit_code_whether_all_is_well_not_well_or_cannot_be_judged() {
    let database = a_store_with_something_of_everything().await;
    let store = format!("sqlite:{}", database.path().display());
    let (code, text) = run(&["audit", "--store", &store]);
    assert_eq!((code, text.as_str()), (Some(0), "8 jobs, 3 attempts: all is as it must be\n"));

    let open = database.open_sqlite();
    let (code, text) = run(&["audit", "--store", &store]);
    assert!(code == Some(2) && text.contains("a gateway has it open"), "{code:?} {text}");
    open.close().await.expect("the store closes");

    let conn = Connection::open(database.path()).expect("the file opens");
    conn.execute("UPDATE counter SET value = 0 WHERE kind = 0", []).expect("the SQL is fine");
    let (code, text) = run(&["audit", "--store", &store]);
    assert!(code == Some(1) && text.contains("NOT as it must be"), "{code:?} {text}");

    let missing = format!("sqlite:{}", database.folder.path().join("other.db").display());
    for store in [missing.as_str(), "memory:"] {
        assert_eq!(run(&["audit", "--store", store]).0, Some(2), "{store}");
    }
    assert_eq!(
        std::fs::read_dir(database.folder.path())
            .expect("the folder is read")
            .filter(|entry| {
                entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("other"))
            })
            .count(),
        0,
        "nothing is made where there was nothing"
    );
}
