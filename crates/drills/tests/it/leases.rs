//! Leases: a job has one holder at a time, and a dead holder's jobs come back soon.

use std::collections::BTreeSet;
use std::time::Duration;

use drills::invariants::compare;
use drills::outage::observe;
use drills::trio::{API2, Plan};
use drills::wait;
use jobs_core::process::clock;

use crate::support::{PATIENCE, all_ended, all_posted, job_becomes, post, post_many, start};

/// A dead worker's jobs are claimed again within this: its session ends after 5 s, and the rest is patience with a machine that
/// does other things.
const CLAIMED_AGAIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_a_worker_killed_in_mid_attempt_is_claimed_again_when_its_session_has_ended() {
    let mut trio = start(Plan { up: true, ..Plan::default() }).await;
    let (gateway, api2) = (trio.gateway().clone(), trio.api2().clone());
    api2.set_weather(&serde_json::json!({"mode": "latency", "ms": 60_000})).await.unwrap();
    let id = post(&gateway, API2, "{}").await;
    let in_flight = wait::until(PATIENCE, async || api2.received(id).await.ok().flatten()).await;
    assert!(in_flight.is_some(), "the attempt never began");
    trio.add_worker().await.unwrap();
    api2.set_weather(&serde_json::json!({"mode": "up"})).await.unwrap();

    trio.workers()[0].kill();
    let killed = clock::instant();
    let again = wait::until(PATIENCE, async || {
        api2.received(id).await.ok().flatten().filter(|received| received.requests.len() == 2)
    });
    let requests = again.await.expect("the job is attempted again").requests;
    assert!(killed.elapsed() <= CLAIMED_AGAIN, "only after {:?}", killed.elapsed());
    assert!(requests[0].epoch < requests[1].epoch, "the epoch did not rise: {requests:?}");

    let job = job_becomes(&gateway, id, |job| job.state == "succeeded").await;
    let outcomes: Vec<&str> = job.attempt_log.iter().map(|attempt| attempt.outcome.as_str()).collect();
    assert_eq!(outcomes, ["lost", "ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_never_hold_one_job_at_once() {
    const JOBS: u64 = 2_000;
    let plan = Plan {
        workers: 3,
        up: true,
        worker_flags: vec!["--concurrency".to_owned(), "16".to_owned()],
        ..Plan::default()
    };
    let trio = start(plan).await;
    let gateway = trio.gateway();
    // Slow enough that all three are needed, and that a second holder would be seen beside the first.
    trio.api2().set_weather(&serde_json::json!({"mode": "latency", "ms": 20})).await.unwrap();
    let client = all_posted(post_many(gateway, JOBS)).await;
    all_ended(gateway).await;

    let findings = compare(&observe::all(gateway, trio.api2(), &client, true).await.unwrap());
    assert_eq!(findings.violations, []);
    assert_eq!((findings.accepted, findings.delivered, findings.duplicates), (JOBS, JOBS, 0));
    let ledger = trio.api2().ledger().await.unwrap();
    assert_eq!((ledger.requests, ledger.distinct), (JOBS, JOBS));

    let mut workers = BTreeSet::new();
    for id in client.acknowledged().values().take(200) {
        let job = gateway.job(*id).await.unwrap().unwrap();
        workers.extend(job.attempt_log.into_iter().filter_map(|attempt| attempt.worker));
    }
    assert_eq!(workers.len(), 3, "not every worker had its share");
}
