//! Editing a job, resolving one by hand, and the audit log.

use api1_gateway::auth::Keys;
use jobs_core::process::secret::Secret;
use serde_json::{Value, json};

use crate::payloads::headers;
use crate::support::{Gateway, Worker, answer, id, problem, setup};

/// A job that is dead.
async fn dead(gateway: &Gateway) -> String {
    let id = gateway.accepted(r#"{"amount": "12,50"}"#).await;
    let worker = Worker::new(gateway);
    worker.report(&worker.claim_one().await, "job_fail").await;
    id
}

async fn unresolved(gateway: &Gateway) -> (u64, u64) {
    let stats = answer(gateway.get("/api1/stats"), 200).await;
    assert_eq!(stats["unresolved"], stats["destinations"]["api2"]["unresolved"]);
    (stats["states"]["dead"].as_u64().unwrap(), stats["unresolved"].as_u64().unwrap())
}

#[tokio::test]
async fn an_edited_job_is_a_new_one_and_resolves_the_old() {
    let gateway = Gateway::start().await;
    let asked = gateway.process(r#"{"amount": "12,50"}"#).header("job-priority", "7").header("job-ordering-key", "k");
    let old = id(&answer(asked, 202).await);
    let worker = Worker::new(&gateway);
    worker.report(&worker.claim_one().await, "job_fail").await;
    let path = format!("/api1/jobs/{old}/redrive");
    let edit =
        || gateway.post(&path).header("content-type", "application/json").body(r#"{"payload": {"amount":12.50}}"#);
    let new = answer(edit(), 202).await;
    assert_eq!((&new["redriven_from"], &new["state"]), (&json!(old), &json!("pending")));
    assert_eq!((&new["priority"], &new["ordering_key"]), (&json!(7), &json!("k")));
    let again = answer(edit(), 202).await;
    assert_eq!(again["id"], new["id"], "asking again makes no second job");
    let lease = worker.claim_one().await;
    assert_eq!((&lease["job_id"], lease["payload"].as_str().unwrap()), (&new["id"], r#"{"amount":12.50}"#));
    assert_eq!(headers(&lease, "content-type"), ["application/json"]);
    assert_eq!(headers(&lease, "idempotency-key"), [new["id"].as_str().unwrap()]);
    let shown = gateway.job(&old).await;
    assert_eq!((&shown["state"], &shown["resolved"]["by"]), (&json!("dead"), &json!("anonymous")));
    assert!(shown["resolved"]["reason"].as_str().unwrap().contains(new["id"].as_str().unwrap()));
    assert_eq!(unresolved(&gateway).await, (1, 0));
}

#[tokio::test]
async fn bytes_take_the_place_of_a_payload_too() {
    let gateway = Gateway::start().await;
    let old = id(&answer(gateway.post("/api1/process").header("content-type", "text/plain").body("x"), 202).await);
    answer(gateway.post(&format!("/api1/jobs/{old}/cancel")), 200).await;
    let path = format!("/api1/jobs/{old}/redrive");
    let new = answer(gateway.post(&path).json(&json!({"payload_base64": "/w=="})), 202).await;
    let lease = Worker::new(&gateway).claim_one().await;
    assert_eq!((&lease["job_id"], &lease["payload_base64"]), (&new["id"], &json!("/w==")));
    assert_eq!(headers(&lease, "content-type"), ["text/plain"], "of the old one");
}

#[tokio::test]
async fn an_edit_that_makes_no_sense_is_refused() {
    let gateway = Gateway::start().await;
    let waiting = gateway.accepted("{}").await;
    let path = format!("/api1/jobs/{waiting}/redrive");
    problem(gateway.post(&path).json(&json!({"payload": 1})), 409, "wrong_state").await;
    for (edit, parameter) in [
        (json!({"payload": 1, "payload_base64": "AA=="}), "payload_base64"),
        (json!({"payload_base64": "?"}), "payload_base64"),
        (json!({"content_type": "text/plain"}), "payload"),
        (json!({"payload": 1, "new_key": true}), "new_key"),
    ] {
        let refused = problem(gateway.post(&path).json(&edit), 400, "bad_message").await;
        assert_eq!(refused["parameter"], parameter);
    }
    let not_json = json!({"payload_base64": "/w==", "content_type": "application/json"});
    problem(gateway.post(&path).json(&not_json), 400, "bad_json").await;
    let nowhere = "/api1/jobs/018f0000-0000-7000-8000-000000000000/redrive";
    problem(gateway.post(nowhere).json(&json!({"payload": 1})), 404, "unknown_job").await;
}

#[tokio::test]
async fn a_resolved_job_stays_dead_and_counts_as_unresolved_no_more() {
    let gateway = Gateway::start().await;
    let (first, second) = (dead(&gateway).await, dead(&gateway).await);
    assert_eq!(unresolved(&gateway).await, (2, 2));
    let path = format!("/api1/jobs/{first}/resolve");
    let resolved = answer(gateway.post(&path).json(&json!({"reason": " refunded by phone "})), 200).await;
    assert_eq!((&resolved["state"], &resolved["resolved"]["reason"]), (&json!("dead"), &json!("refunded by phone")));
    assert_eq!(unresolved(&gateway).await, (2, 1));
    let list = answer(gateway.get("/api1/jobs?state=dead&resolved=false"), 200).await;
    assert_eq!(list["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect::<Vec<_>>(), [&second]);
    assert_eq!(answer(gateway.get("/api1/jobs?dead_reason=expired"), 200).await["jobs"], json!([]));
    for bad in ["resolved=perhaps", "dead_reason=boredom", "created_from=yesterday"] {
        problem(gateway.get(&format!("/api1/jobs?{bad}")), 400, "bad_query").await;
    }
    for bad in [json!({"reason": " "}), json!({"reason": "x".repeat(1_001)}), json!({})] {
        problem(gateway.post(&path).json(&bad), 400, "bad_message").await;
    }
    answer(gateway.post(&format!("/api1/jobs/{first}/redrive")), 200).await;
    assert_eq!(unresolved(&gateway).await, (1, 1));
    assert_eq!(gateway.job(&first).await["resolved"], Value::Null);
    problem(gateway.post(&path).json(&json!({"reason": "late"})), 409, "wrong_state").await;
}

#[tokio::test]
async fn each_act_of_an_operator_is_noted_with_its_principal() {
    let secret = |key: &str| vec![Secret::new(key.to_owned())];
    let mut guarded = setup();
    guarded.keys = Keys::new(&secret("client"), &[], &secret("operator"));
    let gateway = Gateway::with(guarded).await;
    let post = |path: String| gateway.post(&path).bearer_auth("operator");
    let accept = async || id(&answer(gateway.process("{}").bearer_auth("client"), 202).await);
    let (job, by_client) = (accept().await, accept().await);
    answer(gateway.post(&format!("/api1/jobs/{by_client}/cancel")).bearer_auth("client"), 200).await;
    answer(post(format!("/api1/jobs/{job}/cancel")), 200).await;
    answer(post(format!("/api1/jobs/{job}/cancel")), 200).await;
    answer(post(format!("/api1/jobs/{job}/redrive")).json(&json!({"new_key": true})), 200).await;
    problem(post(format!("/api1/jobs/{job}/resolve")).json(&json!({"reason": "x"})), 409, "wrong_state").await;
    answer(post("/api1/destinations/api2/pause".to_owned()), 200).await;
    answer(post("/api1/destinations/api2/resume".to_owned()), 200).await;
    let read = |query: &str| gateway.get(&format!("/api1/audit{query}")).bearer_auth("operator");
    let audit = answer(read(""), 200).await;
    let lines = audit["audit"].as_array().unwrap();
    let acts: Vec<_> =
        lines.iter().map(|act| (act["action"].as_str().unwrap(), act["target"].as_str().unwrap())).collect();
    let (job, api2) = (job.as_str(), "api2");
    assert_eq!(
        acts,
        [("resume", api2), ("pause", api2), ("redrive", job), ("cancel", job)],
        "what changed nothing is no act"
    );
    assert!(lines.iter().all(|act| act["by"].as_str().unwrap().starts_with("key-") && act["at"].is_string()));
    assert_eq!(lines[2]["detail"], "with a new key");
    let page = answer(read("?limit=3"), 200).await;
    let rest = answer(read(&format!("?limit=3&cursor={}", page["next_cursor"].as_str().unwrap())), 200).await;
    assert_eq!((&rest["audit"][0], &rest["next_cursor"]), (&lines[3], &Value::Null));
    problem(read("?cursor=x"), 400, "bad_cursor").await;
    problem(gateway.get("/api1/audit").bearer_auth("client"), 403, "forbidden").await;
    for path in ["/api1/redrives", "/api1/redrives/1"] {
        problem(gateway.get(path).bearer_auth("client"), 403, "forbidden").await;
    }
}
