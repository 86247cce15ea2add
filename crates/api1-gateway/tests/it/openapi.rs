//! The API's description: complete, true, and as it was last looked at.

mod schema;

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::{Gateway, Worker, answer, header, id};
use schema::misfit;

/// Between gateway and worker, or whatever a destination's own API is, or this description itself.
const UNDESCRIBED: [&str; 7] = [
    "/jobstore/v1/claim",
    "/jobstore/v1/settle",
    "/jobstore/v1/extend",
    "/openapi.json",
    "/docs",
    "/docs/style.css",
    "/forward",
];

async fn document(gateway: &Gateway) -> Value {
    answer(gateway.get("/openapi.json"), 200).await
}

#[tokio::test]
async fn the_description_is_as_it_was_last_looked_at() {
    let gateway = Gateway::start().await;
    let text = gateway.get("/openapi.json").send().await.unwrap().text().await.unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&kept, &text).unwrap();
    }
    let last = std::fs::read_to_string(&kept).unwrap_or_default();
    assert!(text == last, "the API's description has changed: write it anew with UPDATE=1, and read the difference");
}

#[tokio::test]
async fn every_route_is_described_and_no_other() {
    let document = document(&Gateway::start().await).await;
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert(format!("{method} {path}"));
        }
    }
    let mut routes = BTreeSet::new();
    let services = include_str!("../../src/server.rs").lines().filter_map(|line| line.trim().strip_prefix(".service("));
    for service in services {
        let (verb, rest) = service.split_once('(').unwrap();
        let path = rest.split('"').nth(1).unwrap();
        let methods: &[&str] = match verb {
            "get" => &["get"],
            "post" => &["post"],
            "get_and_post" => &["get", "post"],
            _ => &["any"],
        };
        if !UNDESCRIBED.iter().any(|left_out| path == *left_out || path.starts_with("/forward")) {
            routes.extend(methods.iter().map(|method| format!("{method} {path}")));
        }
    }
    assert!(routes.len() > 20, "{routes:?}");
    assert_eq!(described, routes);
}

#[tokio::test]
async fn each_example_fits_its_schema() {
    let document = document(&Gateway::start().await).await;
    let mut examples = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let own = std::iter::once((name, schema));
        for (name, schema) in own.chain(properties).filter(|(_, schema)| !schema["example"].is_null()) {
            assert_eq!(misfit(&document, schema, &schema["example"]), None, "the example of {name}");
            examples += 1;
        }
    }
    assert!(examples > 8, "{examples}");
}

/// Sends a request; its answer must be one that is described for `operation`, such as `get /api1/jobs`.
async fn described(document: &Value, operation: &str, request: RequestBuilder) -> Value {
    let (method, path) = operation.split_once(' ').unwrap();
    let response = request.send().await.unwrap();
    let (status, kind) = (response.status().as_u16(), header(&response, "content-type"));
    let text = response.text().await.unwrap();
    let shown = &document["paths"][path][method]["responses"][status.to_string()];
    let content = &shown["content"][&kind]["schema"];
    assert!(content.is_object(), "{operation} answered {status} with {kind}, which is not described: {text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(misfit(document, content, &body), None, "{operation} answered {status} with {body:#}");
    body
}

#[tokio::test]
async fn what_is_answered_is_what_is_described() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let ask = async |operation: &str, request: RequestBuilder| described(&document, operation, request).await;
    let example = |name: &str| document["components"]["schemas"][name]["example"].clone();
    let job = id(&ask("post /api1/process", gateway.process("{}").header("job-ordering-key", "k")).await);
    let named = gateway.post("/api1/process/other").header("idempotency-key", "k").body("x");
    ask("post /api1/process/{destination}", named).await;
    ask("post /api1/process/{destination}", gateway.post("/api1/process/nowhere").body("x")).await;
    let worker = Worker::new(&gateway);
    let lease = worker.claim(10, 10_000).await.into_iter().find(|lease| lease["job_id"] == *job).unwrap();
    worker.report(&lease, "job_fail").await;
    ask("post /api1/jobs", gateway.post("/api1/jobs").json(&example("Envelope"))).await;
    ask("post /api1/jobs", gateway.post("/api1/jobs").json(&json!([example("Envelope"), {"destination": "nowhere"}])))
        .await;
    ask("post /api1/jobs", gateway.post("/api1/jobs").json(&json!([{}]))).await;
    ask("get /api1/jobs", gateway.get("/api1/jobs?limit=1")).await;
    ask("get /api1/jobs", gateway.get("/api1/jobs?limit=0")).await;
    ask("get /api1/jobs/{id}", gateway.get(&format!("/api1/jobs/{job}"))).await;
    ask("get /api1/jobs/{id}", gateway.get("/api1/jobs/nonsense")).await;
    for verb in ["resolve", "redrive", "cancel"] {
        let mut request = gateway.post(&format!("/api1/jobs/{job}/{verb}"));
        if verb != "cancel" {
            request = request.json(&example(if verb == "resolve" { "Resolve" } else { "Redrive" }));
        }
        ask(&format!("post /api1/jobs/{{id}}/{verb}"), request).await;
    }
    let redrive = ask("post /api1/redrives", gateway.post("/api1/redrives").json(&example("MassRedriveRequest"))).await;
    ask("get /api1/redrives", gateway.get("/api1/redrives")).await;
    for verb in ["", "/stop", "/resume"] {
        let path = format!("/api1/redrives/{}{verb}", redrive["id"]);
        let request = if verb.is_empty() { gateway.get(&path) } else { gateway.post(&path) };
        let method = if verb.is_empty() { "get" } else { "post" };
        ask(&format!("{method} /api1/redrives/{{id}}{verb}"), request).await;
    }
    for path in ["/api1/audit", "/api1/stats", "/api1/destinations", "/livez", "/readyz", "/problems"] {
        ask(&format!("get {path}"), gateway.get(path)).await;
    }
    ask("get /api1/destinations/{name}", gateway.get("/api1/destinations/api2")).await;
    ask("post /api1/destinations/{name}/pause", gateway.post("/api1/destinations/api2/pause")).await;
    ask("post /api1/backup", gateway.post("/api1/backup")).await;
    ask("get /problems/{code}", gateway.get("/problems/bad_json")).await;
}

#[tokio::test]
async fn the_reference_is_one_page_without_scripts_or_outside_requests() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let response = gateway.get("/docs").send().await.unwrap();
    assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
    assert!(header(&response, "content-security-policy").starts_with("default-src 'none'; style-src 'self'"));
    let page = response.text().await.unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("<code>{path}</code>")), "{path} is missing");
    }
    let anchors: Vec<&str> = page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(anchors.len() > 50);
    for anchor in anchors {
        assert!(page.contains(&format!("id=\"{anchor}\"")), "a link leads nowhere: {anchor}");
    }
    for foreign in ["<script", "http://", "https://", "style=\""] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_eq!(gateway.get("/docs/style.css").send().await.unwrap().status(), 200);
}
