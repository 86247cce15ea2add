//! `/destinations/{name}`.

use serde_json::json;

use super::{leads_to, page, refusal, submit};
use crate::support::{Gateway, Worker, adjust, answer, setup};

#[tokio::test]
async fn a_destination_is_paused_and_resumed_by_a_form() {
    let gateway = Gateway::start().await;
    let html = page(gateway.get("/destinations/api2")).await;
    assert!(html.contains("method=\"post\" action=\"/destinations/api2/pause\""), "{html}");
    let after = leads_to(submit(&gateway, "/destinations/api2/pause", &[])).await;
    let html = page(gateway.get(&after)).await;
    assert!(
        html.contains("API 2 is paused by hand") && html.contains("action=\"/destinations/api2/resume\""),
        "{html}"
    );
    assert_eq!(answer(gateway.get("/api1/destinations/api2"), 200).await["state"], "paused");
    leads_to(submit(&gateway, "/destinations/api2/resume", &[])).await;
    assert_ne!(answer(gateway.get("/api1/destinations/api2"), 200).await["state"], "paused");
    refusal(gateway.get("/destinations/unknown"), 404).await;
    refusal(submit(&gateway, "/destinations/unknown/pause", &[]), 404).await;
}

#[tokio::test]
async fn failures_of_a_kind_stand_together_and_an_outage_is_in_the_gates_history() {
    let gateway = Gateway::start().await;
    let worker = Worker::new(&gateway);
    for _ in 0..5 {
        gateway.accepted("{}").await;
    }
    let leases = worker.claim(10, 10_000).await;
    let outcomes: Vec<_> = leases
        .iter()
        .map(|lease| json!({"job_id": lease["job_id"], "epoch": lease["epoch"], "class": "down", "latency_ms": 1.0, "error": "cannot connect: connection refused"}))
        .collect();
    worker.settle(json!(outcomes)).await;
    let html = page(gateway.get("/destinations/api2")).await;
    assert!(html.contains("API 2 is down since") && html.contains("5 jobs held"), "{html}");
    assert_eq!(html.matches("class=\"wide plain\">cannot connect: connection refused").count(), 1, "{html}");
    assert!(html.contains("down: cannot connect"), "{html}");
    assert!(page(gateway.get("/")).await.contains("One destination is not getting its jobs."));
}

#[tokio::test]
async fn settings_are_shown_without_secrets() {
    let mut setup = setup();
    adjust(&mut setup, "api2", |api2| {
        api2.url = "http://127.0.0.1:1/x?token=of-a-secret".to_owned();
        api2.headers.push(("Authorization".to_owned(), "Bearer of-a-secret".to_owned()));
    });
    let gateway = Gateway::with(setup).await;
    let html = page(gateway.get("/destinations/api2")).await;
    assert!(html.contains("Authorization (values not shown)") && !html.contains("of-a-secret"), "{html}");
}
