//! `/jobs/{id}`.

use serde_json::json;

use super::{leads_to, page, refusal, submit};
use crate::support::{Gateway, Worker};

#[tokio::test]
async fn a_payload_full_of_html_is_shown_as_text() {
    let gateway = Gateway::start().await;
    let id =
        gateway.accepted(r#"{"name":"<script>alert(1)</script><img src=x onerror=\"alert(2)\">' & </pre>"}"#).await;
    let html = page(gateway.get(&format!("/jobs/{id}"))).await;
    assert!(!html.contains("<script>alert") && !html.contains("<img"), "{html}");
    assert!(html.contains("&#60;script&#62;alert(1)") && html.contains("&#60;/pre&#62;"), "{html}");
}

#[tokio::test]
async fn an_answer_full_of_html_is_shown_as_text_and_the_attempt_says_when_the_next_is() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let lease = worker.claim_one().await;
    let response = json!({"content_type": "text/html", "body": "<h1>Bad gateway</h1><script>x()</script>"});
    let outcome = json!({"job_id": id, "epoch": lease["epoch"], "class": "error", "status": 500, "latency_ms": 12.0, "error": "<b>broken</b>", "response": response});
    worker.settle(json!([outcome])).await;
    let html = page(gateway.get(&format!("/jobs/{id}"))).await;
    assert!(!html.contains("<script>x") && !html.contains("<b>broken"), "{html}");
    assert!(
        html.contains("&#60;h1&#62;Bad gateway") && html.contains("Failed 500") && html.contains("after 12 ms"),
        "{html}"
    );
    assert!(html.contains("It waits 2 s until"), "{html}");
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_and_redriven_by_forms() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let path = format!("/jobs/{id}");
    let html = page(gateway.get(&path)).await;
    for action in ["cancel", "redrive"] {
        assert!(html.contains(&format!("method=\"post\" action=\"{path}/{action}\"")), "{html}");
    }
    let after = leads_to(submit(&gateway, &format!("{path}/cancel"), &[])).await;
    assert!(page(gateway.get(&after)).await.contains("Cancelled. It can be redriven"));
    assert_eq!(gateway.job(&id).await["state"], "cancelled");
    let after = leads_to(submit(&gateway, &format!("{path}/redrive"), &[])).await;
    assert!(page(gateway.get(&after)).await.contains("An operator asked for it to be tried now."));
    assert_eq!(gateway.job(&id).await["state"], "pending");
}

#[tokio::test]
async fn what_a_jobs_state_forbids_is_refused_in_words() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    worker.report(&worker.claim_one().await, "ok").await;
    let html = page(gateway.get(&format!("/jobs/{id}"))).await;
    assert!(html.contains("Delivered at") && !html.contains("<button"), "{html}");
    let html = refusal(submit(&gateway, &format!("/jobs/{id}/cancel"), &[]), 409).await;
    assert!(html.contains("is delivered by now"), "{html}");
    refusal(gateway.get("/jobs/01890a5d-ac96-774b-bcce-b302099a8057"), 404).await;
    refusal(gateway.get("/jobs/42"), 400).await;
}

#[tokio::test]
async fn the_payload_can_be_had_as_it_is_and_runs_nowhere() {
    let gateway = Gateway::start().await;
    let request = gateway.post("/api1/process").header("content-type", "text/html").body("<script>alert(1)</script>");
    let id = crate::support::id(&crate::support::answer(request, 202).await);
    let response = gateway.get(&format!("/jobs/{id}/payload")).send().await.unwrap();
    assert_eq!(crate::support::header(&response, "content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(response.text().await.unwrap(), "<script>alert(1)</script>");
}
