//! SIGTERM: what was begun is finished, what was not sent is given back, nothing lapses and nothing is sent twice.

use drills::trio::{API2, Plan};
use drills::wait;

use crate::support::{PATIENCE, all_ended, post, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_finishes_what_it_sent_and_gives_back_what_it_did_not() {
    const JOBS: u64 = 12;
    let plan = Plan { up: true, worker_flags: vec!["--concurrency".to_owned(), "4".to_owned()], ..Plan::default() };
    let mut trio = start(plan).await;
    let (gateway, api2) = (trio.gateway().clone(), trio.api2().clone());
    api2.set_weather(&serde_json::json!({"mode": "latency", "ms": 1_500})).await.unwrap();
    for _ in 0..JOBS {
        post(&gateway, API2, "{}").await;
    }
    let begun = wait::until(PATIENCE, async || api2.ledger().await.ok().filter(|ledger| ledger.requests >= 4));
    let begun = begun.await.expect("four calls begin").requests;
    trio.workers()[0].terminate();
    let status = trio.workers()[0].exited(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}: {}", trio.workers()[0].log());

    let stats = gateway.stats().await.unwrap();
    assert_eq!((stats.of("succeeded"), stats.of("leased")), (begun, 0), "{stats:?}");
    assert_eq!(stats.of("pending"), JOBS - begun, "{stats:?}");
    assert_eq!(api2.ledger().await.unwrap().requests, begun);

    api2.set_weather(&serde_json::json!({"mode": "up"})).await.unwrap();
    trio.add_worker().await.unwrap();
    all_ended(&gateway).await;
    let (stats, ledger) = (gateway.stats().await.unwrap(), api2.ledger().await.unwrap());
    assert_eq!((stats.of("succeeded"), stats.attempts), (JOBS, JOBS), "something was lost or tried twice: {stats:?}");
    assert_eq!((ledger.requests, ledger.accepted, ledger.duplicates), (JOBS, JOBS, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_drains_and_its_jobs_are_there_when_it_is_back() {
    let mut trio = start(Plan::default()).await;
    let gateway = trio.gateway().clone();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(post(&gateway, API2, "{}").await);
    }
    trio.gateway_process().terminate();
    let status = trio.gateway_process().exited(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}: {}", trio.gateway_process().log());
    // Its worker lives on, and finds it again.
    trio.restart_gateway().await.unwrap();
    for id in ids {
        assert!(gateway.job(id).await.unwrap().is_some(), "{id} is gone");
    }
    trio.api2().toggle().await.unwrap();
    all_ended(&gateway).await;
    assert_eq!(gateway.stats().await.unwrap().of("succeeded"), 20);
}
