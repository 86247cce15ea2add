//! The original design, as its author would try it.

use drills::trio::{API2, Plan};
use drills::wait;

use crate::support::{PATIENCE, job_becomes, post, start};

#[tokio::test(flavor = "multi_thread")]
async fn the_three_steps_of_the_original_design_work() {
    let mut trio = start(Plan::default()).await;
    let (gateway, api2) = (trio.gateway().clone(), trio.api2().clone());

    let answer = gateway.process(API2, &[], r#"{ "name": "hello" }"#).await.unwrap();
    assert_eq!(answer.status, 202);
    assert!(answer.body.contains("Request received. Will process when API 2 recovers."), "{}", answer.body);
    let id = answer.json::<drills::client::Accepted>().unwrap().id;

    let job = job_becomes(&gateway, id, |job| job.attempt_log.len() == 2).await;
    let delays: Vec<Option<u64>> = job.attempt_log.iter().map(|attempt| attempt.retry_delay_ms).collect();
    assert_eq!(delays, [Some(2_000), Some(4_000)]);
    assert!(job.attempt_log.iter().all(|attempt| attempt.status == Some(503)), "{job:?}");
    for delay in ["delay_ms=2000", "delay_ms=4000"] {
        // The worker writes its line when its report is answered, which may be after the job is seen to have changed.
        let logged = wait::until(PATIENCE, async || {
            let log = trio.workers()[0].log();
            log.lines().any(|line| line.contains(&id.to_string()) && line.contains(delay)).then_some(())
        });
        assert!(logged.await.is_some(), "no line with {id} and {delay} in\n{}", trio.workers()[0].log());
    }

    assert_eq!(api2.toggle().await.unwrap(), "API 2 failure mode = false");
    let job = job_becomes(&gateway, id, |job| job.state == "succeeded").await;
    assert_eq!(job.attempts, 3);
    let ledger = api2.ledger().await.unwrap();
    assert_eq!((ledger.requests, ledger.accepted, ledger.duplicates), (3, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_attempted_as_soon_as_it_is_posted() {
    let trio = start(Plan { up: true, ..Plan::default() }).await;
    let id = post(trio.gateway(), API2, "{}").await;
    let job = job_becomes(trio.gateway(), id, |job| job.state == "succeeded").await;
    let received = trio.api2().received(id).await.unwrap().unwrap();
    assert_eq!((job.attempts, received.requests.len()), (1, 1));
    // The original looked for work every 5 seconds.
    let waited = received.requests[0].time.since(job.created_at);
    assert!(waited.as_millis() < 5_000, "{waited:?}");
}
