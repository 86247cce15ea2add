//! Cancel, redrive, pause, resume.

use serde_json::{Value, json};

use crate::payloads::headers;
use crate::support::{Gateway, Worker, answer, id, problem};

fn cancel(id: &str) -> String {
    format!("/api1/jobs/{id}/cancel")
}

fn redrive(id: &str) -> String {
    format!("/api1/jobs/{id}/redrive")
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_and_cancelling_again_changes_nothing() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    for _ in 0..2 {
        assert_eq!(answer(gateway.post(&cancel(&id)), 200).await["state"], "cancelled");
    }
    assert!(Worker::new(&gateway).claim(1, 0).await.is_empty());
}

#[tokio::test]
async fn a_leased_job_is_cancelled_once_its_worker_gives_it_back() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let lease = worker.claim_one().await;
    let requested = answer(gateway.post(&cancel(&id)), 202).await;
    assert_eq!((&requested["state"], &requested["cancel_requested"]), (&json!("leased"), &json!(true)));
    let heartbeat = worker.extend(json!([{"job_id": id, "epoch": lease["epoch"]}])).await;
    assert_eq!(heartbeat["cancel"], json!([{"job_id": id, "epoch": lease["epoch"]}]));
    assert_eq!(worker.report(&lease, "release").await["state"], "cancelled");
    problem(gateway.post(&redrive(&id)).body("{\"new_keys\":true}"), 400, "bad_message").await;
    assert_eq!(gateway.job(&id).await["state"], "cancelled");
}

#[tokio::test]
async fn what_has_succeeded_can_be_neither_cancelled_nor_redriven() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let lease = worker.claim_one().await;
    problem(gateway.post(&redrive(&id)), 409, "wrong_state").await;
    worker.report(&lease, "ok").await;
    problem(gateway.post(&cancel(&id)), 409, "wrong_state").await;
    problem(gateway.post(&redrive(&id)), 409, "wrong_state").await;
}

#[tokio::test]
async fn a_dead_job_is_redriven_with_its_key_or_a_new_one() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let first = worker.claim_one().await;
    worker.report(&first, "job_fail").await;
    let redriven = answer(gateway.post(&redrive(&id)), 200).await;
    assert_eq!(
        (&redriven["state"], &redriven["attempts"], &redriven["dead_reason"]),
        (&json!("pending"), &json!(0), &Value::Null)
    );
    assert_eq!(redriven["attempt_log"].as_array().unwrap().len(), 1, "what happened stays on record");
    let second = worker.claim_one().await;
    assert_eq!(headers(&second, "idempotency-key"), [id.as_str()]);
    worker.report(&second, "job_fail").await;
    answer(gateway.post(&redrive(&id)).json(&json!({"new_key": true})), 200).await;
    let third = worker.claim_one().await;
    assert_ne!(headers(&third, "idempotency-key"), [id.as_str()]);
    assert_eq!(headers(&third, "job-id"), [id.as_str()]);
}

#[tokio::test]
async fn a_waiting_job_runs_at_once_when_redriven() {
    let gateway = Gateway::start().await;
    let id = id(&answer(gateway.process("{}").header("job-delay", "1h"), 202).await);
    let worker = Worker::new(&gateway);
    assert!(worker.claim(1, 0).await.is_empty());
    answer(gateway.post(&redrive(&id)), 200).await;
    assert_eq!(worker.claim_one().await["job_id"], id.as_str());
}

#[tokio::test]
async fn destinations_are_shown_with_their_jobs() {
    let gateway = Gateway::start().await;
    gateway.accepted("{}").await;
    let list = answer(gateway.get("/api1/destinations"), 200).await;
    let names: Vec<&Value> = list["destinations"].as_array().unwrap().iter().map(|shown| &shown["name"]).collect();
    assert_eq!(names, ["api2", "other"]);
    let shown = answer(gateway.get("/api1/destinations/api2"), 200).await;
    assert_eq!(
        (&shown["title"], &shown["state"], &shown["removed"]),
        (&json!("API 2"), &json!("closed"), &json!(false))
    );
    assert_eq!(shown["states"], json!({"pending": 1, "leased": 0, "succeeded": 0, "dead": 0, "cancelled": 0}));
    assert!(shown["oldest_due_age_ms"].is_u64() && shown["estimated_drain_ms"].is_null());
    let worker = Worker::new(&gateway);
    worker.report(&worker.claim_one().await, "down").await;
    let shown = answer(gateway.get("/api1/destinations/api2"), 200).await;
    assert_eq!((&shown["in_flight"], &shown["states"]["pending"]), (&json!(0), &json!(1)));
    problem(gateway.get("/api1/destinations/nowhere"), 404, "unknown_destination").await;
}

#[tokio::test]
async fn held_jobs_keep_their_place() {
    let gateway = Gateway::start().await;
    let post = async |priority: &str| id(&answer(gateway.process("{}").header("job-priority", priority), 202).await);
    let mut wanted = vec![post("5").await];
    answer(gateway.post("/api1/destinations/api2/pause"), 200).await;
    for _ in 0..3 {
        wanted.push(post("5").await);
    }
    wanted.insert(0, post("9").await);
    let worker = Worker::new(&gateway);
    assert!(worker.claim(10, 0).await.is_empty());
    answer(gateway.post("/api1/destinations/api2/resume"), 200).await;
    wanted.push(post("5").await);
    // One at a time, since a claim says nothing of an order within its answer.
    for id in wanted {
        let lease = worker.claim(1, 10_000).await.remove(0);
        assert_eq!(lease["job_id"], id.as_str());
        worker.report(&lease, "ok").await;
    }
}

#[tokio::test]
async fn a_paused_destination_holds_its_jobs_and_nobody_elses() {
    let gateway = Gateway::start().await;
    let paused = answer(gateway.post("/api1/destinations/api2/pause"), 200).await;
    assert_eq!(paused["state"], "paused");
    let held = gateway.accepted("{}").await;
    let other = id(&answer(gateway.post("/api1/process/other").body("x"), 202).await);
    let worker = Worker::new(&gateway);
    let leases = worker.claim(10, 0).await;
    assert_eq!(leases.iter().map(|lease| &lease["job_id"]).collect::<Vec<_>>(), [other.as_str()]);
    // A claim parked meanwhile is woken by the resume.
    let (lease, resumed) = tokio::join!(worker.claim_one(), async {
        gateway.metric_becomes("holdfast_parked_claims", 1).await;
        answer(gateway.post("/api1/destinations/api2/resume"), 200).await
    });
    assert_eq!((&lease["job_id"], &resumed["state"]), (&json!(held), &json!("ramp")));
    for verb in ["pause", "resume"] {
        problem(gateway.post(&format!("/api1/destinations/nowhere/{verb}")), 404, "unknown_destination").await;
        problem(gateway.post(&format!("/api1/destinations/a%20b/{verb}")), 404, "unknown_destination").await;
    }
}
