//! Hold, probe, release with real processes: what a recovery costs the destination, by its own ledger.

use drills::trio::{API2, Plan};
use drills::wait;
use jobs_core::process::clock;
use reqwest::Method;

use crate::support::{PATIENCE, all_ended, all_posted, job_becomes, post, post_many, start};

/// Most calls in a second to a destination that is held, by the gate's clock.
const MOST_PROBES: f64 = 4.0;

#[tokio::test(flavor = "multi_thread")]
async fn with_a_health_check_a_lone_job_is_delivered_by_the_first_call_after_the_recovery_not_by_its_timer() {
    let trio = start(Plan { health_checks: true, ..Plan::default() }).await;
    let (gateway, api2) = (trio.gateway(), trio.api2());
    let id = post(gateway, API2, r#"{ "name": "hello" }"#).await;
    // Two failures open the gate; the third attempt comes 4 s after the second, the fourth 8 s after that.
    let waiting = job_becomes(gateway, id, |job| job.attempt_log.len() == 3).await;
    let delays: Vec<Option<u64>> = waiting.attempt_log.iter().map(|attempt| attempt.retry_delay_ms).collect();
    assert_eq!(delays, [Some(2_000), Some(4_000), Some(8_000)], "an outage does not change a lone job's own schedule");
    let own_time = waiting.attempt_log[2].next_run_at.expect("it waits");

    api2.toggle().await.unwrap();
    let job = job_becomes(gateway, id, |job| job.state == "succeeded").await;
    let received = api2.received(id).await.unwrap().unwrap();
    assert_eq!((job.attempts, received.requests.len(), received.ok), (4, 4, 1));
    assert!(received.requests[3].time < own_time, "{:?} is not before {own_time}", received.requests[3]);
    assert!(job.attempt_log.iter().all(|attempt| !attempt.charged), "{job:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_costs_a_destination_that_is_down_a_few_calls_and_drains_when_it_is_back() {
    const JOBS: u64 = 400;
    let trio = start(Plan { workers: 3, ..Plan::default() }).await;
    let (gateway, api2) = (trio.gateway(), trio.api2());
    let client = all_posted(post_many(gateway, JOBS)).await;
    // All that was under way when the gate opened has been answered; what comes now are probes.
    let held = wait::until(PATIENCE, async || {
        let shown = gateway.call(Method::GET, "/api1/destinations/api2").await.ok()?.body;
        let stats = gateway.stats().await.ok()?;
        (shown.contains(r#""state":"open""#) && stats.of("leased") == 0).then_some(stats)
    });
    let before = held.await.expect("the jobs are held").attempts;
    let held = clock::wall();
    let probed =
        wait::until(PATIENCE, async || gateway.stats().await.ok().filter(|stats| stats.attempts >= before + 10));
    probed.await.expect("probes go out");

    let ledger = api2.ledger().await.unwrap();
    let since: u64 = ledger.per_second.iter().filter(|second| second.at > held).map(|second| second.requests).sum();
    let most = MOST_PROBES * (1.0 + clock::wall().since(held).as_secs_f64());
    assert!((1.0..=most).contains(&(since as f64)), "{since} calls, and {most} is allowed: {:?}", ledger.per_second);
    assert!(ledger.distinct < JOBS / 4, "{} of the jobs were spent on the outage", ledger.distinct);

    api2.toggle().await.unwrap();
    all_ended(gateway).await;
    let ledger = api2.ledger().await.unwrap();
    assert_eq!((ledger.accepted, ledger.duplicates), (JOBS, 0));
    assert_eq!(client.acknowledged().len() as u64, JOBS);
}
