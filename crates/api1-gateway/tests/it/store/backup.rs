//! A copy made while the store is in use.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api1_gateway::auth::Keys;
use api1_gateway::store::sqlite::SqliteStore;
use jobs_core::conformance::rig::{BEGIN, Rig, TestJudge, WORKER, keys};
use jobs_core::job::{Epoch, JobId};
use jobs_core::process::secret::Secret;
use jobs_core::store::{JobStore, Report, Settlement, StoreError};

use super::{Sqlite, job};
use crate::support::{Gateway, answer, problem, setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_under_load_is_whole_and_can_be_opened() {
    let database = Sqlite::new();
    let store = Arc::new(database.open_sqlite());
    for round in 0..20 {
        let jobs = (1..=500).map(|n| job(round * 500 + n)).collect();
        store.enqueue(jobs, BEGIN).await.expect("the jobs are accepted");
    }
    let busy = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut accepted = 10_000;
            while store.enqueue(vec![job(accepted + 1)], BEGIN).await.is_ok() {
                accepted += 1;
            }
            accepted
        })
    };
    let copy = Sqlite::new();
    store.backup(copy.path()).await.expect("the copy is made");
    store.close().await.expect("the store closes");
    let accepted = busy.await.expect("no panic");

    let opened = copy.open_sqlite();
    let copied = u128::from(opened.stats().await.expect("stats are read").accepted);
    assert!((10_000..=accepted).contains(&copied), "{copied} of {accepted}");
    for n in [1, 5_000, 10_000, copied] {
        assert_eq!(opened.request(job(n).id).await, Ok(Some(job(n).request)), "{n}");
    }
    opened.close().await.expect("the copy closes");
    let conn = rusqlite::Connection::open(copy.path()).expect("the file opens");
    let verdict: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is checked");
    assert_eq!(verdict, "ok");
}

#[tokio::test]
async fn a_restored_copy_issues_no_epoch_that_the_store_has_issued_since() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    store.enqueue(vec![job(1)], BEGIN).await.expect("the job is accepted");
    let copy = Sqlite::new();
    store.backup(copy.path()).await.expect("the copy is made");
    store.close().await.expect("the store closes");
    assert_eq!(std::fs::read_dir(copy.folder.path()).expect("the folder is read").count(), 1, "the copy and no more");

    let mut last = Epoch::NONE;
    for _ in 0..20 {
        let store = database.open_sqlite();
        let leases = store.claim(WORKER, vec![Rig::grant(1, 0)], BEGIN).await.expect("a claim is answered").leases;
        last = leases[0].epoch;
        let released = vec![Settlement { key: keys(&leases)[0], report: Report::Released }];
        store.settle(WORKER, released, Arc::new(TestJudge::default()), BEGIN).await.expect("a settle is answered");
        store.close().await.expect("the store closes");
    }
    let restored = copy.open_sqlite();
    let leases = restored.claim(WORKER, vec![Rig::grant(1, 0)], BEGIN).await.expect("a claim is answered").leases;
    assert!(leases[0].epoch > last, "{:?} after {last:?}", leases[0].epoch);
    assert_eq!(leases[0].epoch.start(), u64::from(restored.start()));
    restored.close().await.expect("the copy closes");
    super::audit::finds_nothing(&copy).await;
}

#[tokio::test]
async fn a_copy_never_overwrites_a_file_and_its_failure_leaves_the_store_at_work() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    let taken = database.folder.path().join("taken");
    std::fs::write(&taken, "precious").expect("the file is written");
    for to in [taken.clone(), database.path(), database.folder.path().join("missing/copy.db")] {
        let refused = store.backup(to.clone()).await;
        assert!(
            matches!(&refused, Err(StoreError::Unusable(reason)) if reason.contains("no backup to")),
            "{refused:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(&taken).expect("the file is read"), "precious");
    store.enqueue(vec![job(1)], BEGIN).await.expect("the store goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_backs_up_a_gateway_that_goes_on_accepting() {
    let (database, folder) = (Sqlite::new(), tempfile::tempdir().expect("a folder can be made"));
    let mut setup = setup();
    setup.keys = Keys::new(&[], &[], &[Secret::new("operator".to_owned())]);
    setup.limits.backup_dir = Some(folder.path().to_owned());
    let gateway = Arc::new(Gateway::on(Arc::new(database.open_sqlite()), setup).await);
    let before = gateway.accepted("{}").await;
    problem(gateway.post("/api1/backup"), 401, "unauthenticated").await;

    let over = Arc::new(AtomicBool::new(false));
    let posting = tokio::spawn({
        let (gateway, over) = (Arc::clone(&gateway), Arc::clone(&over));
        async move {
            while !over.load(Ordering::Relaxed) {
                gateway.accepted("{}").await;
            }
        }
    });
    let mut copies = Vec::new();
    for _ in 0..3 {
        let made = answer(gateway.post("/api1/backup").bearer_auth("operator"), 200).await;
        let path = PathBuf::from(made["path"].as_str().expect("a path"));
        assert_eq!(path.parent(), Some(folder.path()), "{made}");
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), made["bytes"]);
        copies.push(path);
    }
    over.store(true, Ordering::Relaxed);
    posting.await.expect("every post was accepted meanwhile");
    copies.dedup();
    assert_eq!(copies.len(), 3, "none was overwritten");
    for path in copies {
        let copy = SqliteStore::open(&path, BEGIN).expect("a copy is a store");
        let id = JobId(before.parse().expect("an id"));
        assert!(copy.job(id).await.expect("the copy is read").is_some(), "{path:?}");
        copy.close().await.expect("the copy closes");
    }
}

#[tokio::test]
async fn without_a_folder_or_a_file_a_backup_is_refused_with_the_reason() {
    let gateway = Gateway::start().await;
    problem(gateway.post("/api1/backup"), 409, "no_backup_folder").await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut setup = setup();
    setup.limits.backup_dir = Some(folder.path().to_owned());
    let in_memory = Gateway::with(setup).await;
    let refused = problem(in_memory.post("/api1/backup"), 500, "backup_failed").await;
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("no file")), "{refused}");
}
