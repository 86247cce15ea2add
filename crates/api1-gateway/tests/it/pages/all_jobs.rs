//! One verb for all jobs that fit.

use super::{leads_to, page, refusal, submit};
use crate::support::{Gateway, eventually};

#[tokio::test]
async fn all_waiting_jobs_are_cancelled_after_a_question() {
    let gateway = Gateway::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(gateway.accepted("{}").await);
    }
    let html = page(gateway.get("/jobs?destination=api2&state=pending")).await;
    assert!(html.contains("href=\"/jobs/all?state=pending&#38;destination=api2&#38;verb=cancel\""), "{html}");
    let html = page(gateway.get("/jobs/all?state=pending&destination=api2&verb=cancel")).await;
    assert!(html.contains("Cancel 3 jobs that are waiting, for api2?"), "{html}");
    assert_eq!(gateway.job(&ids[0]).await["state"], "pending", "a question changes nothing");
    let fields = [("verb", "cancel"), ("state", "pending"), ("destination", "api2"), ("q", "")];
    let run = leads_to(submit(&gateway, "/jobs/all", &fields)).await;
    let html = eventually("the run ends", async || {
        let html = page(gateway.get(&run)).await;
        html.contains(">Done</span>").then_some(html)
    })
    .await;
    assert!(html.contains("<dd class=\"value\">3</dd>"), "{html}");
    for id in ids {
        assert_eq!(gateway.job(&id).await["state"], "cancelled");
    }
}

#[tokio::test]
async fn what_is_no_verb_and_no_run_is_refused() {
    let gateway = Gateway::start().await;
    refusal(gateway.get("/jobs/all?verb=purge"), 400).await;
    refusal(submit(&gateway, "/jobs/all", &[("verb", "")]), 400).await;
    refusal(gateway.get("/jobs/all/7"), 404).await;
    refusal(submit(&gateway, "/jobs/all/7/stop", &[]), 404).await;
}
