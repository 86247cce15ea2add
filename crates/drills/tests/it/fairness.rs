//! One destination's trouble is not another's.

use std::time::Duration;

use drills::trio::{API2, Plan};
use drills::wait;
use jobs_core::process::clock;

use crate::support::{PATIENCE, post, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_hangs_does_not_hold_back_another() {
    let plan = Plan {
        up: true,
        destinations: vec![API2.to_owned(), "slow".to_owned()],
        worker_flags: vec!["--concurrency".to_owned(), "16".to_owned()],
        ..Plan::default()
    };
    let trio = start(plan).await;
    let gateway = trio.gateway();
    trio.api("slow").set_weather(&serde_json::json!({"mode": "hang"})).await.unwrap();
    for _ in 0..100 {
        post(gateway, "slow", "{}").await;
    }
    let hangs = wait::until(PATIENCE, async || trio.api("slow").ledger().await.ok().filter(|seen| seen.requests > 4));
    assert!(hangs.await.is_some(), "the slow destination is never called");

    let began = clock::instant();
    for _ in 0..50 {
        post(gateway, API2, "{}").await;
    }
    let all = wait::until(PATIENCE, async || trio.api2().ledger().await.ok().filter(|seen| seen.accepted == 50));
    assert!(all.await.is_some(), "the quick destination's jobs are held back");
    // The first timeout of the slow one's calls is half a minute away.
    assert!(began.elapsed() < Duration::from_secs(20), "held back for {:?}", began.elapsed());
}
