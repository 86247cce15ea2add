//! The gateway: what it has acknowledged survives it, and no second one touches its store.

use drills::invariants::compare;
use drills::outage::observe;
use drills::trio::{API2, Plan};
use drills::wait;

use crate::support::{PATIENCE, all_ended, all_posted, post, post_many, start};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_acknowledged_before_it_was_killed_is_delivered() {
    const JOBS: u64 = 600;
    let mut trio = start(Plan { workers: 2, up: true, ..Plan::default() }).await;
    let (gateway, api2) = (trio.gateway().clone(), trio.api2().clone());
    let posters = post_many(&gateway, JOBS);
    for kill in 1..=2 {
        let some = wait::until(PATIENCE, async || {
            gateway.stats().await.ok().filter(|stats| stats.accepted >= kill * JOBS / 4)
        });
        assert!(some.await.is_some(), "posting does not go on");
        trio.gateway_process().kill();
        trio.restart_gateway().await.unwrap();
    }
    let client = all_posted(posters).await;
    assert!(client.repeats() > 0, "nobody was posting while the gateway was dead");
    all_ended(&gateway).await;

    let findings = compare(&observe::all(&gateway, &api2, &client, true).await.unwrap());
    assert_eq!(findings.violations, []);
    assert_eq!((findings.accepted, findings.delivered), (JOBS, JOBS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_on_the_same_store_is_refused() {
    let trio = start(Plan { workers: 0, ..Plan::default() }).await;
    let mut rival = trio.start_rival_gateway().unwrap();
    let status = rival.exited(PATIENCE).await.unwrap();
    assert!(!status.success(), "{status}");
    let log = rival.log();
    assert!(log.contains("another gateway") && log.contains("jobs.db"), "{log}");
    post(trio.gateway(), API2, "{}").await;
}
