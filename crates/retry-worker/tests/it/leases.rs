//! When a lease may be sent, and what is told of it.

use jobs_core::lease::LeaseKey;
use jobs_core::outcome::Class;
use jobs_core::protocol::{WireClass, WireLease};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use crate::support::destination::{Destination, Full, Reaction};
use crate::support::gateway::{Failure, Gateway};
use crate::support::http::answer;
use crate::support::lease::lease;
use crate::support::{Worker, until};

fn key(lease: &WireLease) -> LeaseKey {
    LeaseKey { job_id: lease.job_id, epoch: lease.epoch }
}

fn fine() -> Reaction {
    Reaction::Answer(answer(200, ""))
}

/// The whole of what a connection brings until it is closed.
async fn everything(full: &mut Full) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut stream = full.accept_next().await;
    stream.read_to_end(&mut bytes).await.ok();
    bytes
}

#[tokio::test]
async fn a_lease_that_is_about_to_end_is_released_and_not_sent() {
    let destination = Destination::always(fine()).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let mut short = lease(1, &destination.url("/"));
    short.lease_ms = 400;
    let mut empty = lease(2, &destination.url("/"));
    (empty.lease_ms, empty.payload) = (400, None);
    gateway.grant([short, empty]);
    for outcome in gateway.settled(2).await {
        assert_eq!((outcome.class, outcome.unknown), (WireClass::Release, false));
    }
    assert!(destination.requests().is_empty());
}

#[tokio::test]
async fn a_lease_lost_while_connecting_is_neither_sent_nor_reported() {
    let mut full = Full::start().await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let lost = lease(1, &format!("http://{}/", full.address));
    let mut empty = lease(2, &format!("http://{}/", full.address));
    (empty.request.method, empty.payload) = ("GET".to_owned(), None);
    gateway.heard().extended.lost = vec![key(&lost), key(&empty)];
    gateway.grant([lost.clone(), empty]);
    let told = || gateway.heard().heartbeats.iter().position(|beat| beat.holding.contains(&key(&lost)));
    let told = until("a heartbeat that lists it", told).await;
    until("another heartbeat", || (gateway.heard().heartbeats.len() > told + 1).then_some(())).await;
    assert!(everything(&mut full).await.is_empty());
    assert!(everything(&mut full).await.is_empty());
    let last = || gateway.heard().heartbeats.last().unwrap().holding.is_empty();
    until("nothing is held", || last().then_some(())).await;
    assert!(gateway.outcomes().is_empty());
}

#[tokio::test]
async fn what_has_not_been_sent_to_a_held_destination_is_released() {
    let mut full = Full::start().await;
    let other = Destination::always(fine()).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let mut held = lease(1, &format!("http://{}/", full.address));
    held.destination = "held".parse().unwrap();
    gateway.grant([held.clone()]);
    let listed = || gateway.heard().heartbeats.last().is_some_and(|beat| beat.holding.contains(&key(&held)));
    until("a heartbeat that lists it", || listed().then_some(())).await;
    gateway.heard().extra.release = vec!["held".parse().unwrap()];
    gateway.grant([lease(2, &other.url("/"))]);
    assert!(everything(&mut full).await.is_empty());
    let outcomes = gateway.settled(2).await;
    assert_eq!(outcomes[0].class, WireClass::Release);
    assert_eq!(outcomes[1].class, WireClass::Attempted(Class::Ok));
}

#[tokio::test]
async fn a_cancelled_lease_is_released_unless_it_was_sent() {
    let mut full = Full::start().await;
    let (open, closed) = watch::channel(false);
    let destination = Destination::gated(closed, fine()).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let unsent = lease(1, &format!("http://{}/", full.address));
    let sent = lease(2, &destination.url("/"));
    gateway.heard().extended.cancel = vec![key(&unsent), key(&sent)];
    gateway.grant([unsent.clone(), sent]);
    let told = || gateway.heard().heartbeats.iter().position(|beat| beat.holding.contains(&key(&unsent)));
    let told = until("a heartbeat that lists it", told).await;
    until("another heartbeat", || (gateway.heard().heartbeats.len() > told + 1).then_some(())).await;
    assert!(everything(&mut full).await.is_empty());
    open.send_replace(true);
    let outcomes = gateway.settled(2).await;
    assert_eq!(outcomes[0].class, WireClass::Release);
    assert_eq!(outcomes[1].class, WireClass::Attempted(Class::Ok));
}

#[tokio::test]
async fn a_success_is_reported_though_its_lease_was_lost_meanwhile() {
    let (open, closed) = watch::channel(false);
    let destination = Destination::gated(closed, fine()).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let late = lease(1, &destination.url("/"));
    gateway.heard().extended.lost = vec![key(&late)];
    gateway.grant([late.clone()]);
    let listed = || gateway.heard().heartbeats.iter().any(|beat| beat.holding.contains(&key(&late)));
    until("a heartbeat that lists it", || listed().then_some(())).await;
    let gone = || gateway.heard().heartbeats.last().is_some_and(|beat| beat.holding.is_empty());
    until("one that does not", || gone().then_some(())).await;
    open.send_replace(true);
    let outcomes = gateway.settled(1).await;
    assert_eq!((outcomes[0].class, outcomes[0].status), (WireClass::Attempted(Class::Ok), Some(200)));
}

#[tokio::test]
async fn every_heartbeat_lists_all_that_is_held() {
    let (open, closed) = watch::channel(false);
    let (slow, fast) = (Destination::gated(closed, fine()).await, Destination::always(fine()).await);
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("settle", Failure::Status(503));
    let worker = Worker::start(&gateway);
    let in_flight = lease(1, &slow.url("/"));
    let unreported = lease(2, &fast.url("/"));
    gateway.grant([in_flight.clone(), unreported.clone()]);
    until("the report is offered", || (!gateway.heard().offered.is_empty()).then_some(())).await;
    let beats = gateway.heard().heartbeats.len();
    let last = until("two more heartbeats", || {
        let heard = gateway.heard();
        (heard.heartbeats.len() >= beats + 2).then(|| heard.heartbeats.last().cloned().unwrap())
    })
    .await;
    let mut holding = last.holding.clone();
    holding.sort();
    assert_eq!(holding, [key(&in_flight), key(&unreported)]);
    let workers = |heard: &crate::support::gateway::Heard| heard.claims[0].worker;
    assert_eq!(last.worker, workers(&gateway.heard()));
    open.send_replace(true);
    gateway.heard().failures.clear();
    gateway.settled(2).await;
    worker.stop().await;
}

#[tokio::test]
async fn without_heartbeats_a_lease_ends_unsent_and_calls_under_way_go_on() {
    let mut full = Full::start().await;
    let (open, closed) = watch::channel(false);
    let slow = Destination::gated(closed, fine()).await;
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("extend", Failure::LoseAnswer);
    let _worker = Worker::start(&gateway);
    // Connecting takes longer than what is left of the lease.
    let mut connecting = lease(1, &format!("http://{}/", full.address));
    connecting.lease_ms = 1_000;
    gateway.grant([connecting, lease(2, &slow.url("/"))]);
    until("two heartbeats", || (gateway.heard().heartbeats.len() >= 2).then_some(())).await;
    assert!(everything(&mut full).await.is_empty());
    open.send_replace(true);
    let outcomes = gateway.settled(2).await;
    assert_eq!(outcomes[0].class, WireClass::Release);
    assert_eq!(outcomes[1].class, WireClass::Attempted(Class::Ok));
}
