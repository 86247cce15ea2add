//! How a worker gets its work, and that no call holds up another.

use std::time::Duration;

use jobs_core::outcome::Class;
use jobs_core::process::files;
use jobs_core::protocol::{WireClass, WireProbe};

use crate::support::destination::{Destination, Reaction};
use crate::support::gateway::{Failure, Gateway};
use crate::support::http::answer;
use crate::support::lease::{lease, within_ms};
use crate::support::{Worker, until};

fn fine() -> Reaction {
    Reaction::Answer(answer(200, ""))
}

#[tokio::test]
async fn an_idle_worker_parks_one_claim_for_all_its_slots() {
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let claim = until("a claim", || gateway.heard().claims.first().cloned()).await;
    assert_eq!((claim.concurrency, claim.max, claim.wait_ms), (16, 16, 20_000));
    until("two heartbeats", || (gateway.heard().heartbeats.len() >= 2).then_some(())).await;
    assert_eq!(gateway.heard().claims.len(), 1);
}

#[tokio::test]
async fn a_quarter_of_all_slots_is_asked_for_though_another_claim_waits() {
    let destination = Destination::always(fine()).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::with(&gateway, |config| config.concurrency = 8);
    until("a claim", || gateway.heard().claims.first().cloned()).await;
    gateway.grant((1..=4).map(|job| lease(job, &destination.url("/"))));
    until("a third claim", || (gateway.heard().claims.len() == 3).then_some(())).await;
    let asked: Vec<u32> = gateway.heard().claims.iter().map(|claim| claim.max).collect();
    assert!(asked[0] == 8 && asked[1] >= 4 && asked[2] >= 2 && asked[1] + asked[2] <= 8, "{asked:?}");
    gateway.settled(4).await;
}

#[tokio::test]
async fn a_lease_is_begun_when_it_has_arrived_though_the_answer_goes_on() {
    let destination = Destination::always(fine()).await;
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("claim", Failure::NeverEnd);
    let _worker = Worker::start(&gateway);
    gateway.grant([lease(1, &destination.url("/")), lease(2, &destination.url("/"))]);
    // Begun any later their leases would have ended, and they would be released.
    let outcomes = gateway.settled(2).await;
    assert!(outcomes.iter().all(|outcome| outcome.class == WireClass::Attempted(Class::Ok)), "{outcomes:?}");
}

#[tokio::test]
async fn what_came_of_an_answer_that_breaks_off_is_done_and_another_gateway_is_asked() {
    let destination = Destination::always(fine()).await;
    let (first, second) = (Gateway::start().await, Gateway::start().await);
    first.heard().failures.insert("claim", Failure::BreakOff);
    let _worker = Worker::with(&first, |config| config.gateways.push(second.url().parse().unwrap()));
    first.grant([lease(1, &destination.url("/")), lease(2, &destination.url("/"))]);
    second.grant([lease(3, &destination.url("/"))]);
    let reported = || [first.outcomes(), second.outcomes()].concat();
    until("three outcomes", || (reported().len() == 3).then_some(())).await;
    assert!(reported().iter().all(|outcome| outcome.class == WireClass::Attempted(Class::Ok)), "{:?}", reported());
    assert_eq!(first.heard().claims.len(), 1, "it is not asked again while the second answers");
}

#[tokio::test]
async fn calls_without_an_answer_keep_none_from_beginning() {
    // On a machine of many cores it takes more than the usual limit, both ends of each connection being ours.
    files::allow_many_connections();
    let destination = Destination::always(Reaction::Stall(Vec::new())).await;
    let gateway = Gateway::start().await;
    // More than begin at a time on this machine.
    let calls = 40 * std::thread::available_parallelism().map_or(1, usize::from);
    let _worker = Worker::with(&gateway, |config| config.concurrency = calls as u32);
    gateway.grant((1..=calls as u32).map(|job| within_ms(60_000, lease(job, &destination.url("/")))));
    until("all are in flight", || (destination.most_in_flight() == calls).then_some(())).await;
}

#[tokio::test]
async fn a_slow_call_does_not_hold_back_the_others() {
    let destination = Destination::start(|request, _| match request.path.as_str() {
        "/slow" => Reaction::Stall(Vec::new()),
        _ => fine(),
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::with(&gateway, |config| config.concurrency = 4);
    let slow = (1..=3).map(|job| within_ms(60_000, lease(job, &destination.url("/slow"))));
    let fast = (4..=103).map(|job| lease(job, &destination.url("/fast")));
    gateway.grant(slow.chain(fast));
    let outcomes = gateway.settled(100).await;
    assert!(outcomes.iter().all(|outcome| outcome.class == WireClass::Attempted(Class::Ok)));
}

#[tokio::test]
async fn no_more_calls_are_in_flight_than_the_limit() {
    let destination = Destination::always(Reaction::Stall(Vec::new())).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::with(&gateway, |config| config.concurrency = 3);
    gateway.grant((1..=12).map(|job| within_ms(100, lease(job, &destination.url("/")))));
    gateway.settled(12).await;
    assert_eq!(destination.most_in_flight(), 3);
    assert!(gateway.heard().claims.iter().all(|claim| (1..=3).contains(&claim.max)));
}

#[tokio::test]
async fn a_busy_worker_neither_claims_nor_reports_job_by_job() {
    // Calls of different length, so that they end one by one.
    let length = |number: usize| Duration::from_micros(50_000 + 777 * (number % 64) as u64);
    let destination = Destination::start(move |_, number| Reaction::Slow(length(number), answer(200, ""))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::with(&gateway, |config| config.concurrency = 128);
    gateway.grant((1..=2_000).map(|job| lease(job, &destination.url("/"))));
    gateway.settled(2_000).await;
    let heard = gateway.heard();
    assert!(heard.claims.len() <= 500, "{} claims for 2,000 jobs", heard.claims.len());
    assert!(heard.offered.len() <= 500, "{} reports for 2,000 jobs", heard.offered.len());
}

#[tokio::test]
async fn while_outcomes_cannot_be_reported_only_so_much_more_is_claimed() {
    let destination = Destination::always(fine()).await;
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("settle", Failure::Status(503));
    let _worker = Worker::with(&gateway, |config| config.concurrency = 4);
    gateway.grant((1..=20).map(|job| lease(job, &destination.url("/"))));
    until("several offers", || (gateway.heard().offered.len() >= 5).then_some(())).await;
    assert_eq!(gateway.heard().granted, 8, "twice the concurrency");
    gateway.heard().failures.clear();
    gateway.settled(20).await;
}

#[tokio::test]
async fn a_gateway_that_fails_is_asked_again_and_not_in_a_loop() {
    let destination = Destination::always(fine()).await;
    let gateway = Gateway::start().await;
    gateway.heard().failures.insert("claim", Failure::Status(503));
    let _worker = Worker::start(&gateway);
    until("several claims", || (gateway.heard().claims.len() >= 4).then_some(())).await;
    until("two heartbeats", || (gateway.heard().heartbeats.len() >= 2).then_some(())).await;
    assert!(gateway.heard().claims.len() < 50);
    gateway.heard().failures.clear();
    assert_eq!(gateway.attempt(lease(1, &destination.url("/"))).await.class, WireClass::Attempted(Class::Ok));
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_left_for_the_next() {
    let destination = Destination::always(fine()).await;
    let (first, second) = (Gateway::start().await, Gateway::start().await);
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _worker = Worker::with(&first, |config| {
        config.gateways.insert(0, format!("http://{dead}").parse().unwrap());
        config.gateways.push(second.url().parse().unwrap());
    });
    assert_eq!(first.attempt(lease(1, &destination.url("/"))).await.class, WireClass::Attempted(Class::Ok));
    drop(first);
    assert_eq!(second.attempt(lease(2, &destination.url("/"))).await.class, WireClass::Attempted(Class::Ok));
}

#[tokio::test]
async fn every_call_shows_the_token() {
    let destination = Destination::always(fine()).await;
    let gateway = Gateway::start().await;
    let token = jobs_core::process::secret::Secret::new("s3cret".to_owned());
    let _worker = Worker::with(&gateway, |config| config.token = Some(token));
    gateway.attempt(lease(1, &destination.url("/"))).await;
    until("a heartbeat", || (!gateway.heard().heartbeats.is_empty()).then_some(())).await;
    assert!(gateway.heard().tokens.iter().all(|token| token.as_deref() == Some("Bearer s3cret")));
    assert!(destination.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn health_checks_are_made_and_reported() {
    let destination = Destination::start(|request, _| match request.path.as_str() {
        "/well" => Reaction::Answer(answer(204, "")),
        "/ill" => Reaction::Answer(answer(503, "")),
        _ => Reaction::Stall(Vec::new()),
    })
    .await;
    let gateway = Gateway::start().await;
    let check = |name: &str| WireProbe {
        destination: name.parse().unwrap(),
        method: "GET".to_owned(),
        url: destination.url(&format!("/{name}")),
        expect: 204,
        timeout_ms: 200,
    };
    gateway.heard().extra.probes = ["well", "ill", "silent"].map(check).to_vec();
    let _worker = Worker::start(&gateway);
    let mut found = until("three findings", || {
        let found: Vec<_> = gateway.heard().taken.iter().flat_map(|request| request.probes.clone()).collect();
        (found.len() == 3).then_some(found)
    })
    .await;
    found.sort_by_key(|health| health.destination.clone());
    let found: Vec<_> = found.iter().map(|health| (health.destination.as_str(), health.healthy)).collect();
    assert_eq!(found, [("ill", false), ("silent", false), ("well", true)]);
    assert!(destination.requests().iter().all(|request| request.method == "GET"));
    assert!(gateway.outcomes().is_empty());
}

#[tokio::test]
async fn readiness_follows_the_gateway() {
    let gateway = Gateway::start().await;
    let worker = Worker::start(&gateway);
    let get = |path: &'static str| {
        let url = format!("http://{}{path}", worker.address);
        async move {
            let response = reqwest::get(url).await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        }
    };
    until("a heartbeat", || (!gateway.heard().heartbeats.is_empty()).then_some(())).await;
    let ready = async {
        while get("/readyz").await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ready).await.expect("ready after a heartbeat");
    assert_eq!(get("/livez").await.0, 200);
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("worker_in_flight 0\n") && metrics.ends_with("# EOF\n"), "{metrics}");
    let (status, problem) = get("/").await;
    assert_eq!(status, 404);
    assert!(problem.contains("\"code\":\"not_found\""));
    drop(gateway);
    let unready = async {
        loop {
            let (status, body) = get("/readyz").await;
            if status == 503 {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let body = tokio::time::timeout(Duration::from_secs(20), unready).await.expect("unready without a gateway");
    assert!(body.contains("\"code\":\"not_ready\""), "{body}");
    assert_eq!(get("/livez").await.0, 200);
}
