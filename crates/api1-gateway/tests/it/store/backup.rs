//! A copy made while the store is in use.

use std::sync::Arc;

use jobs_core::conformance::rig::BEGIN;
use jobs_core::store::{JobStore, StoreError};

use super::{Sqlite, job};

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
