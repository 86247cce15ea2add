//! That no outcome is lost on its way to the gateway.

use jobs_core::outcome::Class;
use jobs_core::protocol::WireClass;
use tokio::sync::watch;

use crate::support::destination::{Destination, Reaction};
use crate::support::gateway::{Failure, Gateway};
use crate::support::http::answer;
use crate::support::lease::lease;
use crate::support::{Worker, until};

#[tokio::test]
async fn outcomes_a_gateway_fails_to_take_are_offered_again_unchanged() {
    let destination = Destination::always(Reaction::Answer(answer(200, "receipt"))).await;
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("settle", Failure::Status(500));
    let _worker = Worker::start(&gateway);
    gateway.grant((1..=5).map(|job| lease(job, &destination.url("/"))));
    until("three offers", || (gateway.heard().offered.len() >= 3).then_some(())).await;
    gateway.heard().failures.clear();
    let outcomes = gateway.settled(5).await;
    for outcome in &outcomes {
        let offered = gateway.heard().offered.clone();
        let again = offered.iter().flat_map(|request| &request.outcomes).filter(|other| other.job_id == outcome.job_id);
        assert!(again.clone().count() >= 2 && again.clone().all(|other| other == outcome));
    }
    assert_eq!(destination.requests().len(), 5, "offered again, not attempted again");
}

#[tokio::test]
async fn an_outcome_whose_taking_went_unheard_is_offered_again() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("settle", Failure::LoseAnswer);
    let worker = Worker::start(&gateway);
    gateway.grant([lease(1, &destination.url("/"))]);
    until("taken twice", || (gateway.outcomes().len() >= 2).then_some(())).await;
    gateway.heard().failures.clear();
    worker.stop().await;
    let outcomes = gateway.outcomes();
    assert!(outcomes.iter().all(|outcome| outcome == &outcomes[0]));
    assert_eq!(destination.requests().len(), 1);
}

#[tokio::test]
async fn where_an_answer_breaks_off_the_next_gateway_is_asked_at_once() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    for verb in ["settle", "extend"] {
        let (first, second) = (Gateway::start().await, Gateway::start().await);
        first.heard().failures.insert(verb, Failure::BreakOff);
        let _worker = Worker::with(&first, |config| config.gateways.push(second.url().parse().unwrap()));
        match verb {
            "settle" => {
                first.grant([lease(1, &destination.url("/"))]);
                second.settled(1).await;
                assert_eq!(first.heard().offered.len(), 1);
            }
            _ => {
                until("a heartbeat at the second", || second.heard().heartbeats.first().cloned()).await;
                assert_eq!(first.heard().heartbeats.len(), 1);
            }
        }
    }
}

#[tokio::test]
async fn one_outcome_that_is_refused_does_not_keep_the_others_from_being_taken() {
    let destination = Destination::always(Reaction::Answer(answer(200, "receipt"))).await;
    let gateway = Gateway::start().await;
    // All are offered together, and the one among them makes the gateway refuse.
    gateway.heard().failures.insert("settle", Failure::Status(503));
    let worker = Worker::start(&gateway);
    gateway.grant((1..=9).map(|job| lease(job, &destination.url("/"))));
    let all = || gateway.heard().offered.iter().any(|request| request.outcomes.len() == 9);
    until("an offer of all nine", || all().then_some(())).await;
    gateway.heard().failures.insert("settle", Failure::RefuseJob(4));
    let outcomes = gateway.settled(8).await;
    assert!(outcomes.iter().all(|outcome| outcome.job_id.0.as_u128() != 4));
    let of_the_culprit: Vec<_> = gateway
        .heard()
        .offered
        .iter()
        .filter(|request| request.outcomes.len() == 1 && request.outcomes[0].job_id.0.as_u128() == 4)
        .map(|request| request.outcomes[0].response.is_some())
        .collect();
    assert_eq!(of_the_culprit, [true, false], "alone, then without its answer, then it is given up");
    let last = || gateway.heard().heartbeats.last().is_some_and(|beat| beat.holding.is_empty());
    until("its lease is no longer renewed", || last().then_some(())).await;
    worker.stop().await;
}

#[tokio::test]
async fn long_answers_are_reported_in_batches_of_bounded_size() {
    let destination = Destination::always(Reaction::Answer(answer(200, "\"".repeat(64 * 1024)))).await;
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("settle", Failure::Status(503));
    let _worker = Worker::with(&gateway, |config| config.concurrency = 64);
    gateway.grant((1..=64).map(|job| lease(job, &destination.url("/"))));
    until("all have been answered", || (destination.requests().len() == 64).then_some(())).await;
    gateway.heard().failures.clear();
    gateway.settled(64).await;
    for request in &gateway.heard().taken {
        assert!(serde_json::to_vec(request).unwrap().len() <= 2 * 1024 * 1024);
    }
}

#[tokio::test]
async fn what_ended_while_no_gateway_was_there_is_reported_to_the_next() {
    let (open, closed) = watch::channel(false);
    let destination = Destination::gated(closed, Reaction::Answer(answer(503, "API 2 is down"))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    gateway.grant((1..=3).map(|job| lease(job, &destination.url("/"))));
    until("the requests", || (destination.requests().len() == 3).then_some(())).await;
    let address = gateway.kill();
    open.send_replace(true);
    let gateway = Gateway::start_at(address).await;
    for outcome in gateway.settled(3).await {
        assert_eq!(outcome.class, WireClass::Attempted(Class::Overload));
        assert_eq!(outcome.response.unwrap().body.as_deref(), Some("API 2 is down"));
    }
    until("it claims again", || (!gateway.heard().claims.is_empty()).then_some(())).await;
    assert_eq!(destination.requests().len(), 3);
}
