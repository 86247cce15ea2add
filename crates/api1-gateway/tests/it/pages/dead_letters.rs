//! `/dead-letters`, mass redrive, and what is done about a single dead job.

use serde_json::json;

use super::{leads_to, page, refusal, submit};
use crate::support::{Gateway, Worker, answer, eventually};

/// Jobs that the destination has refused for good.
async fn dead(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(gateway.accepted("{\"n\":1}").await);
    }
    let worker = Worker::new(gateway);
    for lease in worker.claim(100, 10_000).await {
        worker.report(&lease, "job_fail").await;
    }
    ids
}

#[tokio::test]
async fn dead_letters_are_counted_first_and_then_redriven() {
    let gateway = Gateway::start().await;
    let ids = dead(&gateway, 3).await;
    let html = page(gateway.get("/dead-letters")).await;
    assert!(
        html.contains("action=\"/dead-letters/redrive\"") && html.contains("<span class=\"badge\">3</span>"),
        "{html}"
    );
    let fields = [
        ("state", "dead"),
        ("resolved", "false"),
        ("destination", ""),
        ("canary", "1"),
        ("stop_percent", "50"),
        ("mode", "preview"),
    ];
    let preview = leads_to(submit(&gateway, "/dead-letters/redrive", &fields)).await;
    let counted = eventually("it has counted", async || {
        let html = page(gateway.get(&preview)).await;
        html.contains(">Counted</span>").then_some(html)
    })
    .await;
    assert!(counted.contains("<dt>Fit</dt><dd class=\"value\">3</dd>"), "{counted}");
    assert_eq!(gateway.job(&ids[0]).await["state"], "dead", "counting changes nothing");
    let run = leads_to(submit(&gateway, &format!("{preview}/run"), &[])).await;
    gateway.job_becomes(&ids[0], "pending").await;
    let html = page(gateway.get(&run)).await;
    assert!(html.contains("Trying the first few") && html.contains("1 job, and wait for their outcome"), "{html}");
    leads_to(submit(&gateway, &format!("{run}/stop"), &[])).await;
    assert!(page(gateway.get(&run)).await.contains(&format!("action=\"{run}/resume\"")));
    refusal(submit(&gateway, &format!("{preview}/stop"), &[]), 409).await;
    let html = page(gateway.get("/dead-letters")).await;
    assert!(html.contains("start mass redrive") && html.contains("stop mass redrive"), "{html}");
}

#[tokio::test]
async fn nonsense_in_the_form_is_refused_and_nothing_is_redriven() {
    let gateway = Gateway::start().await;
    dead(&gateway, 1).await;
    for (name, value) in [
        ("canary", "many"),
        ("per_second", "-1"),
        ("stop_percent", "101"),
        ("state", "pending"),
        ("dead_reason", "bored"),
    ] {
        refusal(submit(&gateway, "/dead-letters/redrive", &[("mode", "run"), (name, value)]), 400).await;
    }
    assert_eq!(answer(gateway.get("/api1/redrives"), 200).await["redrives"], json!([]));
    refusal(gateway.get("/redrives/7"), 404).await;
}

#[tokio::test]
async fn a_dead_job_is_resolved_with_a_reason_or_mended_as_a_new_one() {
    let gateway = Gateway::start().await;
    let ids = dead(&gateway, 2).await;
    let path = format!("/jobs/{}", ids[0]);
    refusal(submit(&gateway, &format!("{path}/resolve"), &[("reason", " ")]), 400).await;
    let after = leads_to(submit(&gateway, &format!("{path}/resolve"), &[("reason", "paid <by> hand")])).await;
    assert!(page(gateway.get(&after)).await.contains("paid &#60;by&#62; hand"));
    let path = format!("/jobs/{}/edit", ids[1]);
    assert!(page(gateway.get(&path)).await.contains("&#34;n&#34;: 1"));
    refusal(submit(&gateway, &path, &[("payload", "{")]), 400).await;
    let after = leads_to(submit(&gateway, &path, &[("payload", "{\r\n\"n\": 2}")])).await;
    assert!(page(gateway.get(&after)).await.contains(&format!("href=\"/jobs/{}\"", ids[1])));
    let new = after.trim_start_matches("/jobs/").split('?').next().unwrap();
    let payload = gateway.get(&format!("/api1/jobs/{new}/payload")).send().await.unwrap();
    assert_eq!(payload.text().await.unwrap(), "{\n\"n\": 2}");
    assert!(page(gateway.get("/dead-letters")).await.contains("None: nothing to look after here."));
}

#[tokio::test]
async fn the_drill_page_is_there_only_for_what_looks_like_an_api2_flaky() {
    let gateway = Gateway::start().await;
    refusal(gateway.get("/drill/other"), 404).await;
    let html = page(gateway.get("/drill/api2")).await;
    assert!(html.contains("API 2 does not answer"), "nobody listens there: {html}");
    refusal(submit(&gateway, "/drill/api2/toggle", &[]), 400).await;
}
