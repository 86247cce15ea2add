//! What a collector is told of attempts, and that attempts do not depend on it.

use std::collections::BTreeMap;
use std::time::Duration;

use jobs_core::outcome::Class;
use jobs_core::process::clock;
use jobs_core::protocol::{WireClass, WireLease};
use jobs_core::trace;
use serde_json::{Value, json};

use crate::process::Running;
use crate::support::destination::{Destination, Reaction};
use crate::support::gateway::Gateway;
use crate::support::http::{answer, answer_with};
use crate::support::lease::lease;
use crate::support::{Worker, until};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNRECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// `lease` as a gateway grants it of a job that came with `traceparent`.
fn traced(traceparent: Option<&str>, lease: WireLease) -> WireLease {
    WireLease {
        traceparent: Some(trace::of_attempt(traceparent, lease.job_id, lease.epoch)),
        parent_span: trace::parent_id(traceparent).map(ToOwned::to_owned),
        ..lease
    }
}

/// A collector: what it answers is all that is special about it.
async fn collector() -> Destination {
    Destination::always(Reaction::Answer(answer_with(200, &[("Content-Type", "application/json")], "{}"))).await
}

/// All spans that `collector` has, each with its attributes as one object under `attributes`, by the job's id.
fn spans(collector: &Destination) -> BTreeMap<String, Value> {
    let mut spans = BTreeMap::new();
    for request in collector.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        for group in body["resourceSpans"].as_array().unwrap() {
            assert_eq!(attributes(&group["resource"])["service.name"], "retry-worker");
            let scopes = group["scopeSpans"].as_array().unwrap();
            for mut span in scopes.iter().flat_map(|scope| scope["spans"].as_array().unwrap()).cloned() {
                span["attributes"] = attributes(&span);
                let job = span["attributes"]["holdfast.job.id"].as_str().unwrap().to_owned();
                assert_eq!(spans.insert(job, span), None, "one span for an attempt");
            }
        }
    }
    spans
}

/// `[{"key":"a","value":{"stringValue":"b"}}]` as `{"a":"b"}`; numbers, which travel as texts, as numbers.
fn attributes(of: &Value) -> Value {
    let pairs = of["attributes"].as_array().unwrap().iter().map(|attribute| {
        let (kind, value) = attribute["value"].as_object().unwrap().iter().next().unwrap();
        let value = if kind == "intValue" { json!(number(value)) } else { value.clone() };
        (attribute["key"].as_str().unwrap().to_owned(), value)
    });
    Value::Object(pairs.collect())
}

fn number(text: &Value) -> u64 {
    text.as_str().map_or_else(|| text.as_u64().unwrap(), |text| text.parse().unwrap())
}

#[tokio::test]
async fn each_attempt_is_a_span_of_its_callers_trace() {
    let collector = collector().await;
    let destination = Destination::start(|request, _| match request.path.as_str() {
        "/good?key=hush" => Reaction::Answer(answer(200, "")),
        "/bad" => Reaction::Answer(answer(503, "busy")),
        _ => Reaction::Close,
    })
    .await;
    let gateway = Gateway::start().await;
    let endpoint = collector.url("");
    let settings = [("WORKER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=ours")];
    let mut running = Running::start(&gateway, &settings);
    let good = destination.url("/good?key=hush").replace("http://", "http://user:secret@");
    let urls = [good, destination.url("/bad"), destination.url("/none"), "nowhere".to_owned()];
    let leases: Vec<WireLease> = (1..).zip(urls).map(|(job, url)| traced(Some(CALLER), lease(job, &url))).collect();
    gateway.grant(leases.clone());
    gateway.settled(4).await;
    running.signal("TERM");
    assert_eq!(running.exit().await.code(), Some(0));

    let (spans, seen) = (spans(&collector), destination.requests());
    assert_eq!((spans.len(), seen.len()), (4, 3));
    let sent = |job: &str| {
        let request = seen.iter().find(|request| request.header("idempotency-key") == Some(job))?;
        request.header("traceparent")
    };
    for lease in &leases {
        let (job, traceparent) = (lease.job_id.to_string(), lease.traceparent.as_deref().unwrap());
        let span = &spans[&job];
        let traceparent = if *lease == leases[3] { traceparent } else { sent(&job).unwrap() };
        assert_eq!((&span["traceId"], &span["spanId"]), (&json!(CALLER[3..35]), &json!(traceparent[36..52])), "{span}");
        assert_eq!((&span["parentSpanId"], &span["name"]), (&json!(CALLER[36..52]), &json!("POST")), "{span}");
        assert_eq!(span["kind"], 3, "a client's: {span}");
        let (begun, ended) = (number(&span["startTimeUnixNano"]), number(&span["endTimeUnixNano"]));
        assert!(begun > 1_700_000_000_000_000_000 && (begun..begun + 10_000_000_000).contains(&ended), "{span}");
    }

    let of = |job: usize| &spans[&leases[job - 1].job_id.to_string()];
    let port = destination.url("").rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let expected = json!({
        "http.request.method": "POST", "http.response.status_code": 200,
        "server.address": "127.0.0.1", "server.port": port,
        "holdfast.job.id": leases[0].job_id.to_string(), "holdfast.destination": "api2",
        "holdfast.attempt": 1, "holdfast.outcome": "ok",
    });
    assert_eq!(of(1)["attributes"], expected);
    assert_eq!(of(1)["status"]["code"].as_u64().unwrap_or_default(), 0, "{}", of(1));
    for (job, outcome, kind) in [(2, "overload", "503"), (3, "down", "down"), (4, "suspect", "suspect")] {
        let span = of(job);
        assert_eq!(span["status"]["code"], 2, "an error: {span}");
        assert_eq!(span["attributes"]["holdfast.outcome"], outcome, "{span}");
        assert_eq!(span["attributes"]["error.type"], kind, "{span}");
    }
    assert_eq!(of(2)["attributes"]["http.response.status_code"], 503);
    assert_eq!(of(3)["attributes"].get("http.response.status_code"), None);
    for request in collector.requests() {
        assert_eq!(request.header("x-key"), Some("ours"));
        let body = String::from_utf8(request.body).unwrap();
        assert!(!body.contains("hush") && !body.contains("secret"), "{body}");
    }
}

#[tokio::test]
async fn only_traces_that_are_recorded_are_exported_and_a_drain_sends_the_last() {
    let (collector, gateway) = (collector().await, Gateway::start().await);
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let endpoint = collector.url("").parse().unwrap();
    let worker = Worker::with(&gateway, |config| config.otlp_endpoint = Some(endpoint));
    let recorded = traced(Some(CALLER), lease(4, &destination.url("/")));
    let expected = recorded.job_id.to_string();
    gateway.grant([
        lease(1, &destination.url("/")),
        traced(None, lease(2, &destination.url("/"))),
        traced(Some(UNRECORDED), lease(3, &destination.url("/"))),
        recorded,
    ]);
    gateway.settled(4).await;
    worker.stop().await;
    assert_eq!(spans(&collector).into_keys().collect::<Vec<_>>(), [expected]);
}

#[tokio::test]
async fn jobs_are_delivered_without_a_collector() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    let gone = collector().await.url("");
    let mut running = Running::start(&gateway, &[("WORKER_OTLP_ENDPOINT", &gone)]);
    gateway.grant((1..=50).map(|job| traced(Some(CALLER), lease(job, &destination.url("/")))));
    let outcomes = gateway.settled(50).await;
    assert!(outcomes.iter().all(|outcome| outcome.class == WireClass::Attempted(Class::Ok)), "{outcomes:#?}");
    running.line(&["WARN", "spans are not exported: cannot connect"]).await;
    gateway.grant([traced(Some(CALLER), lease(51, &destination.url("/")))]);
    gateway.settled(51).await;
    running.signal("TERM");
    assert_eq!(running.exit().await.code(), Some(0), "{}", running.log());
}

/// More spans than the queue holds, and a collector that takes the first batch and never answers.
#[tokio::test]
async fn a_collector_that_hangs_delays_neither_attempts_nor_the_end() {
    let collector = Destination::always(Reaction::Stall(Vec::new())).await;
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    let endpoint = collector.url("").parse().unwrap();
    let worker = Worker::with(&gateway, |config| {
        config.otlp_endpoint = Some(endpoint);
        (config.concurrency, config.grace) = (64, Duration::from_secs(2));
    });
    gateway.grant((1..=5_000).map(|job| traced(Some(CALLER), lease(job, &destination.url("/")))));
    let outcomes = gateway.settled(5_000).await;
    assert!(outcomes.iter().all(|outcome| outcome.class == WireClass::Attempted(Class::Ok)));
    until("a batch is under way", || (!collector.requests().is_empty()).then_some(())).await;
    let (shutdown, asked) = (worker.shutdown.clone(), clock::instant());
    worker.stop().await;
    assert!(!shutdown.has_failed(), "spans are worth no failure");
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}
