//! Mass redrives: preview, canary, rate, stop rule, and going on after a restart.

use std::sync::Arc;

use api1_gateway::store::sqlite::SqliteStore;
use jobs_core::process::clock::Clock;
use serde_json::{Value, json};

use crate::support::{Gateway, Worker, answer, eventually, problem, setup};

/// So many dead jobs, earliest first.
async fn dead_jobs(gateway: &Gateway, count: usize) -> Vec<String> {
    let worker = Worker::new(gateway);
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(gateway.accepted("{}").await);
        worker.report(&worker.claim_one().await, "job_fail").await;
    }
    ids
}

async fn start(gateway: &Gateway, asked: Value) -> u64 {
    let started = answer(gateway.post("/api1/redrives").json(&asked), 202).await;
    assert_eq!(started["state"], "counting");
    started["id"].as_u64().unwrap()
}

async fn redrive(gateway: &Gateway, id: u64) -> Value {
    answer(gateway.get(&format!("/api1/redrives/{id}")), 200).await
}

/// Asks until the mass redrive is as `wanted` says.
async fn becomes(gateway: &Gateway, id: u64, wanted: Value) -> Value {
    eventually(&format!("mass redrive {id} becomes {wanted}"), async || {
        let shown = redrive(gateway, id).await;
        let is_so = wanted.as_object().unwrap().iter().all(|(name, value)| shown[name] == *value);
        is_so.then_some(shown)
    })
    .await
}

/// Claims what there is, `count` jobs, and reports `class` for each; their ids.
async fn work(worker: &Worker<'_>, count: usize, class: &str) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        for lease in worker.claim(1, 10_000).await {
            worker.report(&lease, class).await;
            ids.push(lease["job_id"].as_str().unwrap().to_owned());
        }
    }
    ids
}

#[tokio::test]
async fn a_preview_counts_what_matches_and_changes_nothing() {
    let gateway = Gateway::start().await;
    let ids = dead_jobs(&gateway, 3).await;
    let filter = json!({"state": "dead", "destination": "api2", "dead_reason": "permanent"});
    let id = start(&gateway, json!({"mode": "preview", "filter": filter})).await;
    let shown = becomes(&gateway, id, json!({"state": "previewed"})).await;
    assert_eq!((&shown["matched"], &shown["redriven"]), (&json!(3), &json!(0)));
    let of_one = json!({"mode": "preview", "filter": {"ids": [ids[1]]}});
    let id = start(&gateway, of_one).await;
    assert_eq!(becomes(&gateway, id, json!({"state": "previewed"})).await["matched"], 1);
    let none = start(&gateway, json!({"mode": "preview", "filter": {"error": "nothing of the kind"}})).await;
    assert_eq!(becomes(&gateway, none, json!({"state": "previewed"})).await["matched"], 0);
    assert!(Worker::new(&gateway).claim(10, 0).await.is_empty());
    let all = answer(gateway.get("/api1/redrives"), 200).await;
    assert_eq!(all["redrives"].as_array().unwrap().iter().map(|one| &one["id"]).collect::<Vec<_>>(), [3, 2, 1]);
}

#[tokio::test]
async fn the_canary_goes_first_and_the_others_follow_once_it_has_ended_well() {
    let gateway = Gateway::start().await;
    let ids = dead_jobs(&gateway, 5).await;
    let id = start(&gateway, json!({"mode": "run", "canary": 2})).await;
    becomes(&gateway, id, json!({"state": "canary", "matched": 5, "redriven": 2})).await;
    let worker = Worker::new(&gateway);
    let canary = worker.claim(10, 10_000).await;
    assert_eq!(canary.iter().map(|lease| &lease["job_id"]).collect::<Vec<_>>(), [&ids[0], &ids[1]]);
    worker.report(&canary[0], "ok").await;
    assert_eq!(becomes(&gateway, id, json!({"succeeded": 1})).await["state"], "canary", "one is still out");
    worker.report(&canary[1], "ok").await;
    becomes(&gateway, id, json!({"state": "done", "redriven": 5, "skipped": 0})).await;
    assert_eq!(work(&worker, 3, "ok").await, ids[2..]);
    becomes(&gateway, id, json!({"succeeded": 5, "failed": 0})).await;
}

#[tokio::test]
async fn a_canary_that_fails_again_stops_it_until_somebody_resumes_it() {
    let gateway = Gateway::start().await;
    let ids = dead_jobs(&gateway, 4).await;
    let id = start(&gateway, json!({"mode": "run", "canary": 2, "stop_on_failure_ratio": 0.5})).await;
    let worker = Worker::new(&gateway);
    assert_eq!(work(&worker, 2, "job_fail").await, ids[..2]);
    let stopped = becomes(&gateway, id, json!({"state": "stopped", "redriven": 2, "failed": 2})).await;
    assert_eq!(stopped["reason"], "2 of 2 outcomes were failures");
    assert!(worker.claim(10, 0).await.is_empty(), "the others are as they were");
    let resumed = answer(gateway.post(&format!("/api1/redrives/{id}/resume")), 200).await;
    assert_eq!((&resumed["state"], &resumed["reason"]), (&json!("running"), &Value::Null));
    assert_eq!(work(&worker, 2, "ok").await, ids[2..], "and what failed again is not tried a third time");
    becomes(&gateway, id, json!({"state": "done", "succeeded": 2, "failed": 2})).await;
    let audit = answer(gateway.get("/api1/audit"), 200).await;
    let acts: Vec<_> = audit["audit"].as_array().unwrap().iter().map(|act| (&act["action"], &act["by"])).collect();
    assert_eq!(
        acts,
        [
            (&json!("resume_mass_redrive"), &json!("anonymous")),
            (&json!("stop_mass_redrive"), &json!("rule")),
            (&json!("start_mass_redrive"), &json!("anonymous")),
        ]
    );
}

#[tokio::test]
async fn one_is_stopped_and_resumed_by_hand() {
    let gateway = Gateway::start().await;
    dead_jobs(&gateway, 3).await;
    // At this rate the first job takes minutes to come due.
    let id = start(&gateway, json!({"mode": "run", "per_second": 0.005})).await;
    becomes(&gateway, id, json!({"state": "running"})).await;
    let (stop, resume) = (format!("/api1/redrives/{id}/stop"), format!("/api1/redrives/{id}/resume"));
    let stopped = answer(gateway.post(&stop), 200).await;
    assert_eq!((&stopped["state"], &stopped["reason"]), (&json!("stopped"), &json!("by hand")));
    problem(gateway.post(&stop), 409, "wrong_redrive_state").await;
    assert_eq!(answer(gateway.post(&resume), 200).await["state"], "running");
    problem(gateway.post(&resume), 409, "wrong_redrive_state").await;
    for path in ["/api1/redrives/99/stop", "/api1/redrives/none/resume"] {
        problem(gateway.post(path), 404, "unknown_redrive").await;
    }
    problem(gateway.get("/api1/redrives/99"), 404, "unknown_redrive").await;
    assert_eq!(redrive(&gateway, id).await["redriven"], 0);
}

#[tokio::test]
async fn what_cannot_be_redriven_is_refused_by_the_name_of_its_field() {
    let gateway = Gateway::start().await;
    for (asked, parameter) in [
        (json!({"mode": "run", "filter": {"state": "pending"}}), "filter.state"),
        (json!({"mode": "run", "filter": {"resolved": true}}), "filter.resolved"),
        (json!({"mode": "run", "filter": {"q": "x".repeat(256)}}), "filter.q"),
        (json!({"mode": "run", "canary": 10_001}), "canary"),
        (json!({"mode": "run", "per_second": 0}), "per_second"),
        (json!({"mode": "run", "stop_on_failure_ratio": 1.5}), "stop_on_failure_ratio"),
    ] {
        let refused = problem(gateway.post("/api1/redrives").json(&asked), 400, "bad_message").await;
        assert_eq!(refused["parameter"], parameter);
    }
    for asked in [json!({}), json!({"mode": "fast"}), json!({"mode": "run", "filter": {"stat": "dead"}})] {
        problem(gateway.post("/api1/redrives").json(&asked), 400, "bad_message").await;
    }
    problem(gateway.get("/api1/redrives?limit=0"), 400, "bad_query").await;
    assert_eq!(answer(gateway.get("/api1/redrives"), 200).await["redrives"], json!([]));
}

#[tokio::test]
async fn resolved_jobs_are_left_out() {
    let gateway = Gateway::start().await;
    let ids = dead_jobs(&gateway, 2).await;
    let resolve = gateway.post(&format!("/api1/jobs/{}/resolve", ids[0])).json(&json!({"reason": "paid by hand"}));
    answer(resolve, 200).await;
    let id = start(&gateway, json!({"mode": "run"})).await;
    becomes(&gateway, id, json!({"state": "done", "matched": 1, "redriven": 1})).await;
    assert_eq!(gateway.job(&ids[0]).await["state"], "dead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_where_the_one_before_ended_and_redrives_each_job_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(SqliteStore::open(&folder.path().join("jobs.db"), Clock::new().now()).unwrap());
    let gateway = Gateway::on(open(), setup()).await;
    let ids = dead_jobs(&gateway, 12).await;
    let id = start(&gateway, json!({"mode": "run", "canary": 2, "per_second": 10})).await;
    let worker = Worker::new(&gateway);
    assert_eq!(work(&worker, 2, "ok").await, ids[..2]);
    eventually("some of the others are redriven", async || {
        (redrive(&gateway, id).await["redriven"].as_u64().unwrap() > 3).then_some(())
    })
    .await;
    gateway.shutdown.trigger();
    gateway.serving.await.unwrap().unwrap();

    let gateway = Gateway::on(open(), setup()).await;
    let done = becomes(&gateway, id, json!({"state": "done"})).await;
    assert_eq!((&done["redriven"], &done["skipped"], &done["matched"]), (&json!(12), &json!(0), &json!(12)));
    let worker = Worker::new(&gateway);
    let mut redriven = work(&worker, 10, "ok").await;
    redriven.sort();
    let mut wanted = ids[2..].to_vec();
    wanted.sort();
    assert_eq!(redriven, wanted);
    becomes(&gateway, id, json!({"succeeded": 12})).await;
    assert!(worker.claim(1, 0).await.is_empty());
}
