//! The metrics: which there are, with which labels; and that what watches them asks for what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api1_gateway::store::sqlite::SqliteStore;
use jobs_core::process::clock::Clock;
use serde_json::{Value, json};

use crate::support::{Gateway, Worker, answer, eventually, setup};

/// Every metric, its type, and its labels in order.
const METRICS: [(&str, &str, &str); 25] = [
    ("holdfast_attempt_duration_seconds", "histogram", "destination"),
    ("holdfast_attempts", "counter", ""),
    ("holdfast_attempts_settled", "counter", "class destination"),
    ("holdfast_commit_duration_seconds", "histogram", ""),
    ("holdfast_commit_operations", "histogram", ""),
    ("holdfast_gate_limit", "gauge", "destination"),
    ("holdfast_gate_rate_per_second", "gauge", "destination"),
    ("holdfast_gate_recoveries", "counter", "destination"),
    ("holdfast_gate_state", "gauge", "destination state"),
    ("holdfast_http_request_duration_seconds", "histogram", "method route status"),
    ("holdfast_in_flight", "gauge", "destination"),
    ("holdfast_jobs", "gauge", "destination state"),
    ("holdfast_jobs_accepted", "counter", ""),
    ("holdfast_jobs_ended", "counter", "destination state"),
    ("holdfast_jobs_purged", "counter", ""),
    ("holdfast_jobs_unresolved", "gauge", "destination"),
    ("holdfast_leases_granted", "counter", "destination"),
    ("holdfast_low_disk_space", "gauge", ""),
    ("holdfast_oldest_due_age_seconds", "gauge", "destination"),
    ("holdfast_parked_claims", "gauge", ""),
    ("holdfast_possible_duplicates", "counter", "cause"),
    ("holdfast_retries", "counter", "destination"),
    ("holdfast_settling_outcomes", "gauge", ""),
    ("holdfast_stalled_seconds", "gauge", "destination"),
    ("holdfast_store_log_bytes", "gauge", ""),
];
/// Shown beside those.
const WAITING: (&str, &str, &str) = ("holdfast_waiting_requests", "gauge", "");

async fn text(gateway: &Gateway) -> String {
    gateway.get("/metrics").send().await.unwrap().text().await.unwrap()
}

/// The value of a sample by its name and labels, as they are written.
async fn sample(gateway: &Gateway, name: &str) -> f64 {
    let text = text(gateway).await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

/// The label names of all samples of a family, without `le`.
fn labels(text: &str, family: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let suffixes = ["", "_total", "_bucket", "_sum", "_count"];
        if suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(family)) && rest.starts_with('{') {
            let inside = rest[1..].split('}').next().unwrap();
            names.extend(inside.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0.to_owned())));
        }
    }
    names.remove("le");
    names
}

/// A gateway on a disk after one job of each fate.
async fn busy(folder: &tempfile::TempDir) -> Gateway {
    let store = SqliteStore::open(&folder.path().join("jobs.db"), Clock::new().now()).unwrap();
    let gateway = Gateway::on(Arc::new(store), setup()).await;
    let worker = Worker::new(&gateway);
    for class in ["ok", "job_fail", "down"] {
        gateway.accepted("{}").await;
        worker.report(&worker.claim_one().await, class).await;
    }
    gateway.get("/nowhere/at/all").send().await.unwrap();
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn these_are_the_metrics_with_their_labels() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = busy(&folder).await;
    let text = text(&gateway).await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let found: BTreeMap<&str, &str> = types.collect();
    let all = METRICS.iter().chain([&WAITING]);
    // Absent while as many calls a second are let through as the limit lets.
    let always = all.clone().filter(|(name, ..)| *name != "holdfast_gate_rate_per_second");
    assert_eq!(found, always.map(|(name, kind, _)| (*name, *kind)).collect());
    for (name, _, wanted) in all {
        let wanted: BTreeSet<String> = wanted.split_whitespace().map(str::to_owned).collect();
        let found = labels(&text, name);
        assert!(found == wanted || *name == "holdfast_gate_rate_per_second", "{name} has {found:?}");
    }
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = busy(&folder).await;
    let of = |name: &str, rest: &str| format!("holdfast_{name}{{destination=\"api2\"{rest}}}");
    for (name, wanted) in [
        (of("attempts_settled_total", ",class=\"ok\""), 1.0),
        (of("attempts_settled_total", ",class=\"job_fail\""), 1.0),
        (of("attempts_settled_total", ",class=\"down\""), 1.0),
        (of("retries_total", ""), 1.0),
        (of("jobs_ended_total", ",state=\"succeeded\""), 1.0),
        (of("jobs_ended_total", ",state=\"dead\""), 1.0),
        (of("jobs", ",state=\"pending\""), 1.0),
        (of("jobs_unresolved", ""), 1.0),
        (of("leases_granted_total", ""), 3.0),
        (of("attempt_duration_seconds_count", ""), 3.0),
        (of("gate_state", ",state=\"closed\""), 1.0),
        (of("stalled_seconds", ""), 0.0),
        ("holdfast_jobs_accepted_total".to_owned(), 3.0),
    ] {
        assert_eq!(sample(&gateway, &name).await, wanted, "{name}");
    }
    let process =
        "holdfast_http_request_duration_seconds_count{method=\"POST\",route=\"/api1/process\",status=\"2xx\"}";
    assert_eq!(sample(&gateway, process).await, 3.0);
    let other = "holdfast_http_request_duration_seconds_count{method=\"\",route=\"other\",status=\"4xx\"}";
    assert_eq!(sample(&gateway, other).await, 1.0, "an address that callers make up is no label");
    assert!(sample(&gateway, "holdfast_commit_duration_seconds_count").await >= 6.0);
    assert!(sample(&gateway, "holdfast_commit_operations_sum").await >= 6.0);
    assert!(sample(&gateway, "holdfast_store_log_bytes").await > 0.0);
}

/// The names of ours in a text, without what a counter or histogram adds to them.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("holdfast_"));
    let bare = ["_total", "_bucket", "_sum", "_count"];
    ours.map(|word| bare.iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word)).collect()
}

#[test]
fn dashboard_and_alerts_ask_only_for_metrics_that_exist_and_the_dashboard_shows_all() {
    let exist: BTreeSet<&str> = METRICS.iter().chain([&WAITING]).map(|(name, ..)| *name).collect();
    let (board, alerts) =
        (include_str!("../../observe/grafana-dashboard.json"), include_str!("../../observe/alerts.yaml"));
    let parsed: Value = serde_json::from_str(board).unwrap();
    let panels = parsed["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["title"].is_string() && !panel["targets"].as_array().unwrap().is_empty()));
    let shown = named(board);
    // One is the sum of another, one is counted for the watchdog.
    let missing: Vec<_> = exist.difference(&shown).collect();
    assert_eq!(missing, [&"holdfast_attempts", &"holdfast_jobs_purged", &"holdfast_leases_granted"]);
    assert!(shown.is_subset(&exist), "{:?}", shown.difference(&exist));
    let asked = named(alerts);
    assert!(asked.len() >= 8 && asked.is_subset(&exist), "{:?}", asked.difference(&exist));
    assert_eq!(alerts.matches("- alert:").count(), alerts.matches("expr:").count());
}

#[tokio::test]
async fn due_work_that_nobody_gets_raises_an_alarm_until_it_is_handed_out() {
    let mut setup = setup();
    setup.limits.stalled_after = Duration::from_millis(50);
    let gateway = Gateway::with(setup).await;
    gateway.accepted("{}").await;
    let stalled = async || {
        let shown = answer(gateway.get("/api1/destinations/api2"), 200).await;
        shown["stalled_ms"].as_u64()
    };
    assert_eq!(stalled().await, None, "without workers it is no wonder");
    let worker = Worker::new(&gateway);
    // A worker that lives, and does not claim.
    let no_room = json!({"worker": worker.id, "concurrency": 1, "max": 1, "wait_ms": 0});
    let lease = answer(gateway.post("/jobstore/v1/claim").json(&no_room), 200).await["leases"][0].clone();
    gateway.accepted("{}").await;
    eventually("the alarm is raised", async || {
        worker.extend(json!([{"job_id": lease["job_id"], "epoch": lease["epoch"]}])).await;
        stalled().await
    })
    .await;
    assert!(sample(&gateway, "holdfast_stalled_seconds{destination=\"api2\"}").await > 0.0);
    worker.claim_one().await;
    eventually("the alarm is over", async || stalled().await.is_none().then_some(())).await;
}
