//! What callers and operators are told: the end of a job, that it is still being tried, and trouble.

use std::sync::Arc;
use std::time::Duration;

use api1_gateway::app::Setup;
use jobs_core::destination::Destination;
use serde_json::{Value, json};

use crate::support::{Gateway, Worker, answer, eventually, id, problem, setup};

/// With a destination that is told.
fn with(name: &str) -> Setup {
    let mut setup = setup();
    let listener = Destination::new(name.parse().unwrap(), "http://127.0.0.1:1/told".to_owned());
    setup.destinations.insert(listener.name.clone(), Arc::new(listener));
    setup
}

fn told(lease: &Value) -> Value {
    serde_json::from_str(lease["payload"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_worker_that_waits_is_given_the_callback_the_moment_its_job_ends() {
    let gateway = Gateway::with(with("listener")).await;
    let job = id(&answer(gateway.process("{}").header("job-callback", "listener"), 202).await);
    assert_eq!(gateway.job(&job).await["callback"], "listener");
    let (worker, other) = (Worker::new(&gateway), Worker::new(&gateway));
    let lease = worker.claim_one().await;
    let (call, _) = tokio::join!(other.claim_one(), worker.report(&lease, "ok"));
    assert_eq!(call["destination"], "listener");
    let body = told(&call);
    assert_eq!((&body["event"], &body["job"]["id"]), (&json!("job.ended"), &json!(job)));
    assert_eq!(
        (&body["job"]["state"], &body["job"]["trace_id"]),
        (&json!("succeeded"), &gateway.job(&job).await["trace_id"])
    );
}

#[tokio::test]
async fn each_item_of_a_batch_may_have_a_callback_and_nobody_unknown_is_called() {
    let gateway = Gateway::with(with("listener")).await;
    let batch = json!([{"payload": 1, "callback": "listener"}, {"payload": 2, "callback": "nobody"}]);
    let results = answer(gateway.post("/api1/jobs").json(&batch), 207).await["results"].clone();
    assert_eq!(results[1]["error"]["code"], "bad_option");
    let job = results[0]["id"].as_str().unwrap();
    answer(gateway.post(&format!("/api1/jobs/{job}/cancel")), 200).await;
    let call = Worker::new(&gateway).claim_one().await;
    assert_eq!((&told(&call)["job"]["state"], &call["destination"]), (&json!("cancelled"), &json!("listener")));
    for wrong in ["nobody", "not a name"] {
        problem(gateway.process("{}").header("job-callback", wrong), 400, "bad_option").await;
    }
}

#[tokio::test]
async fn a_caller_is_told_that_a_job_is_still_being_tried() {
    let mut setup = with("listener");
    setup.limits.still_trying_after = Some(Duration::from_millis(100));
    let gateway = Gateway::with(setup).await;
    let asked = gateway.process("{}").header("job-callback", "listener").header("job-delay", "1h");
    let job = id(&answer(asked, 202).await);
    let notice = Worker::new(&gateway).claim_one().await;
    assert_eq!((&told(&notice)["event"], &told(&notice)["job"]["id"]), (&json!("job.still_trying"), &json!(job)));
}

#[tokio::test]
async fn the_alert_webhook_is_told_of_gates_and_dead_jobs_and_jobs_long_due() {
    let mut setup = with("alerts");
    setup.limits.alerts = Some("alerts".parse().unwrap());
    setup.limits.alert_oldest_due = Duration::from_millis(1);
    let gateway = Gateway::with(setup).await;
    let worker = Worker::new(&gateway);
    gateway.accepted("{}").await;
    worker.report(&worker.claim_one().await, "job_fail").await;
    // Nobody takes this one.
    answer(gateway.post("/api1/destinations/api2/pause"), 200).await;
    gateway.accepted("{}").await;
    let mut heard = Vec::new();
    let mut wanted = vec!["jobs_dead", "oldest_due"];
    while !wanted.is_empty() {
        for lease in worker.claim(5, 10_000).await {
            let alert = told(&lease);
            assert_eq!((&lease["destination"], &alert["destination"]), (&json!("alerts"), &json!("api2")));
            assert!(alert["text"].is_string() && alert["at"].is_string(), "{alert}");
            wanted.retain(|name| alert["alert"] != *name);
            heard.push(alert);
            worker.report(&lease, "job_fail").await;
        }
    }
    assert!(heard.iter().any(|alert| alert["alert"] == "jobs_dead" && alert["count"] == 1), "{heard:?}");
    answer(gateway.post("/api1/destinations/api2/resume"), 200).await;
    let alert_of = async |wanted: &str, outcome: &str| {
        for lease in worker.claim(5, 0).await {
            if lease["destination"] == "alerts" {
                let alert = told(&lease);
                worker.report(&lease, "ok").await;
                if alert["alert"] == wanted {
                    return Some(alert);
                }
            } else {
                worker.report(&lease, outcome).await;
            }
        }
        answer(gateway.process("{}"), 202).await;
        None
    };
    let opened = eventually("the gate opens and that is told", async || alert_of("gate_opened", "down").await).await;
    assert!(opened["reason"].is_string(), "{opened}");
    let closed = eventually("it closes and that is told", async || alert_of("gate_closed", "ok").await).await;
    assert_eq!(closed["destination"], "api2", "{closed}");
    let jobs = answer(gateway.get("/api1/jobs?destination=alerts&state=dead"), 200).await["jobs"].clone();
    assert!(!jobs.as_array().unwrap().is_empty(), "and its own dead jobs are told to nobody");
}
