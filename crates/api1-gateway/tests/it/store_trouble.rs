//! What clients are told when the store cannot do what they ask, and how a gateway ends.

use std::time::Duration;

use jobs_core::job::JobId;
use jobs_core::store::{JobStore, StoreError};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::errors::read_answer;
use crate::fake_store::FakeStore;
use crate::support::{Gateway, PATIENCE, Worker, answer, client, eventually, problem, setup};

#[tokio::test]
async fn a_store_that_cannot_store_is_a_503_that_says_when_to_ask_again() {
    let store = FakeStore::new();
    let gateway = Gateway::on(store.clone(), setup()).await;
    for (refusal, status, code) in [
        (StoreError::Full("x".to_owned()), 503, "store_full"),
        (StoreError::Broken("x".to_owned()), 503, "store_down"),
        (StoreError::Closed, 503, "draining"),
        (StoreError::Unusable("x".to_owned()), 500, "internal"),
    ] {
        *store.refusal.lock().unwrap() = Some(refusal);
        problem(gateway.process("{}"), status, code).await;
        problem(gateway.post("/api1/jobs").json(&json!({"payload": 1})), status, code).await;
        problem(gateway.post("/forward/other").body("x"), status, code).await;
    }
    *store.refusal.lock().unwrap() = None;
    gateway.accepted("{}").await;
}

#[tokio::test]
async fn a_busy_store_is_a_503_for_who_reads_and_nothing_to_who_has_stored_or_steered() {
    let store = FakeStore::new();
    let gateway = Gateway::on(store.clone(), setup()).await;
    let id = gateway.accepted("{}").await;
    answer(gateway.post(&format!("/api1/jobs/{id}/cancel")), 200).await;
    *store.read_refusal.lock().unwrap() = Some(StoreError::Busy("interrupted".to_owned()));
    problem(gateway.get(&format!("/api1/jobs/{id}")), 503, "store_busy").await;
    problem(gateway.get(&format!("/api1/jobs/{id}?wait=1s")), 503, "store_busy").await;

    let stored = answer(gateway.process("{}").header("prefer", "wait=10"), 202).await;
    assert_eq!(stored["state"], "pending");
    let redriven = answer(gateway.post(&format!("/api1/jobs/{id}/redrive")), 200).await;
    assert_eq!((&redriven["id"], &redriven["state"]), (&json!(id), &json!("pending")));
    assert!(redriven.get("attempt_log").is_none(), "{redriven}");
    *store.read_refusal.lock().unwrap() = None;
    assert_eq!(gateway.job(&id).await["state"], "pending");
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 2);
}

#[tokio::test]
async fn with_little_space_left_nothing_is_accepted_and_what_is_stored_is_settled() {
    let store = FakeStore::new();
    let mut setup = setup();
    setup.limits.min_free = 1_000;
    let gateway = Gateway::on(store.clone(), setup).await;
    gateway.accepted("{}").await;
    *store.free.lock().unwrap() = Some(999);
    gateway.metric_becomes("holdfast_low_disk_space", 1).await;
    problem(gateway.process("{}"), 503, "no_space").await;
    problem(gateway.post("/api1/jobs").json(&json!({"payload": 1})), 503, "no_space").await;
    problem(gateway.post("/forward/other").body("x"), 503, "no_space").await;
    let worker = Worker::new(&gateway);
    assert_eq!(worker.report(&worker.claim_one().await, "ok").await["state"], "succeeded");
    *store.free.lock().unwrap() = Some(1_000);
    gateway.metric_becomes("holdfast_low_disk_space", 0).await;
    gateway.accepted("{}").await;
}

#[tokio::test]
async fn a_store_that_breaks_ends_the_gateway_with_a_failure() {
    let store = FakeStore::new();
    let gateway = Gateway::on(store.clone(), setup()).await;
    gateway.accepted("{}").await;
    store.broken.send_replace(Some("I/O error".to_owned()));
    tokio::time::timeout(PATIENCE, gateway.serving).await.expect("it ends").unwrap().unwrap();
    assert!(gateway.shutdown.has_failed());
}

#[tokio::test]
async fn a_drain_finishes_what_was_begun_and_closes_the_store() {
    let store = FakeStore::new();
    let gateway = Gateway::on(store.clone(), setup()).await;
    let worker = Worker::new(&gateway);
    let parked = worker.claim(1, 20_000);
    let begun = async {
        gateway.metric_becomes("holdfast_parked_claims", 1).await;
        store.holds.send_replace(true);
        gateway.process("{}").header("prefer", "wait=20").send().await.unwrap()
    };
    let drain = async {
        store.next_held(0).await;
        gateway.shutdown.trigger();
        // Its answer is still held back while the drain has begun, and must not be lost.
        let refused = async || TcpStream::connect(gateway.address).await.is_err().then_some(());
        eventually("nobody listens any more", refused).await;
        store.holds.send_replace(false);
    };
    let (leases, response, ()) = tokio::join!(parked, begun, drain);
    assert!(leases.is_empty(), "a parked claim is answered at once");
    assert_eq!(response.status(), 202, "stored, and not waited for");
    let address = gateway.address;
    tokio::time::timeout(PATIENCE, gateway.serving).await.expect("it ends").unwrap().unwrap();
    assert!(!gateway.shutdown.has_failed());
    assert_eq!(store.job(JobId(Uuid::nil())).await.unwrap_err(), StoreError::Closed);
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_draining_gateway_grants_nothing_more() {
    let gateway = Gateway::start().await;
    gateway.accepted("{}").await;
    let body = json!({"worker": Uuid::nil(), "concurrency": 10, "max": 10}).to_string();
    let (first, rest) = body.split_at(10);
    let head = format!("POST /jobstore/v1/claim HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    // Begun before the drain, so it is answered; what it asks for comes too late.
    socket.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    // Accepted in order: once this is answered by every thread of the server, so is that connection.
    for _ in 0..10 {
        answer(client().get(format!("http://{}/readyz", gateway.address)), 200).await;
    }
    gateway.shutdown.trigger();
    socket.write_all(rest.as_bytes()).await.unwrap();
    let (status, kind, body) = read_answer(&mut socket).await;
    assert_eq!((status, kind.as_str()), (503, "application/problem+json"), "{body}");
    assert!(body.contains("\"draining\""), "{body}");
    tokio::time::timeout(PATIENCE, gateway.serving).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_job_that_ended_while_nobody_looked_is_purged_after_its_retention() {
    let mut setup = setup();
    setup.limits.retention.succeeded = Duration::ZERO;
    let gateway = Gateway::with(setup).await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    worker.report(&worker.claim_one().await, "ok").await;
    eventually("it is purged", async || (answer(gateway.get("/api1/stats"), 200).await["purged"] == 1).then_some(()))
        .await;
    problem(gateway.get(&format!("/api1/jobs/{id}")), 404, "unknown_job").await;
}
