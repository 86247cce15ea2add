//! What becomes of everything when a worker is asked to stop.

use std::time::Duration;

use jobs_core::outcome::Class;
use jobs_core::protocol::WireClass;
use tokio::sync::watch;

use crate::support::destination::{Destination, Full, Reaction};
use crate::support::gateway::{Failure, Gateway};
use crate::support::http::answer;
use crate::support::lease::lease;
use crate::support::{Worker, until};

#[tokio::test]
async fn an_idle_worker_drops_its_claim_and_ends() {
    let gateway = Gateway::start().await;
    let worker = Worker::start(&gateway);
    until("a claim", || (!gateway.heard().claims.is_empty()).then_some(())).await;
    let shutdown = worker.shutdown.clone();
    worker.stop().await;
    assert!(!shutdown.has_failed());
    until("the claim's connection is closed", || (gateway.heard().claims_dropped == 1).then_some(())).await;
}

#[tokio::test]
async fn calls_in_flight_end_and_are_reported_and_what_is_unsent_is_released() {
    let full = Full::start().await;
    let (open, gate) = watch::channel(false);
    let destination = Destination::gated(gate, Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    let worker = Worker::start(&gateway);
    // The second is still connecting, and its connection will not come about.
    let mut connecting = lease(2, &format!("http://{}/", full.address));
    connecting.request.timeout_ms = 1_500;
    gateway.grant([lease(1, &destination.url("/")), connecting]);
    until("the request", || (destination.requests().len() == 1).then_some(())).await;
    worker.shutdown.trigger();
    let unready = async {
        while reqwest::get(format!("http://{}/readyz", worker.address)).await.unwrap().status().as_u16() != 503 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), unready).await.expect("a draining worker is not ready");
    until("heartbeats go on", || (gateway.heard().heartbeats.len() >= 2).then_some(())).await;
    gateway.grant([lease(3, &destination.url("/"))]);
    open.send_replace(true);
    let shutdown = worker.shutdown.clone();
    worker.stop().await;
    assert!(!shutdown.has_failed());
    let outcomes = gateway.settled(2).await;
    assert_eq!(outcomes[0].class, WireClass::Attempted(Class::Ok));
    assert_eq!(outcomes[1].class, WireClass::Release);
    assert_eq!(gateway.heard().granted, 2, "nothing is claimed in a drain");
}

#[tokio::test]
async fn a_claims_answer_that_never_ends_does_not_hold_it_up() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("claim", Failure::NeverEnd);
    // Twice as long as any lease lasts, and less than a claim may wait.
    let worker = Worker::with(&gateway, |config| config.grace = Duration::from_secs(10));
    gateway.grant([lease(1, &destination.url("/"))]);
    gateway.settled(1).await;
    let shutdown = worker.shutdown.clone();
    worker.stop().await;
    assert!(!shutdown.has_failed());
}

#[tokio::test]
async fn outcomes_are_offered_until_the_grace_period_is_over() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("settle", Failure::Status(503));
    let worker = Worker::start(&gateway);
    gateway.grant([lease(1, &destination.url("/"))]);
    until("an offer", || (!gateway.heard().offered.is_empty()).then_some(())).await;
    let (shutdown, offers) = (worker.shutdown.clone(), gateway.heard().offered.len());
    worker.shutdown.trigger();
    until("another offer", || (gateway.heard().offered.len() > offers).then_some(())).await;
    gateway.heard().failures.clear();
    worker.stop().await;
    assert!(!shutdown.has_failed());
    gateway.settled(1).await;
}

#[tokio::test]
async fn what_has_not_ended_within_the_grace_period_is_left_to_lapse_and_that_is_a_failure() {
    let destination = Destination::always(Reaction::Stall(Vec::new())).await;
    let gateway = Gateway::start().await;
    let worker = Worker::with(&gateway, |config| config.grace = Duration::from_millis(300));
    gateway.grant([lease(1, &destination.url("/"))]);
    until("the request", || (destination.requests().len() == 1).then_some(())).await;
    let shutdown = worker.shutdown.clone();
    worker.stop().await;
    assert!(shutdown.has_failed());
    assert!(gateway.outcomes().is_empty(), "nobody knows its outcome");
}
