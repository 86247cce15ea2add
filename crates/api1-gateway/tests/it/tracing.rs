//! A caller's trace: kept with the job, echoed, and passed on with a span for each attempt; and what no log line says.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Gateway, Worker, answer, header, id};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn a_trace_goes_through_from_the_caller_to_each_attempt() {
    let gateway = Gateway::start().await;
    let given = format!("00-{TRACE}-b7ad6b7169203331-01");
    let accepted = gateway.process("{}").header("traceparent", &given).send().await.unwrap();
    assert_eq!(header(&accepted, "traceparent"), given, "echoed");
    let job = id(&accepted.json::<Value>().await.unwrap());
    let worker = Worker::new(&gateway);
    let mut spans = Vec::new();
    for class in ["job_fail", "ok"] {
        let lease = worker.claim_one().await;
        let sent: Vec<String> = lease["traceparent"].as_str().unwrap().split('-').map(str::to_owned).collect();
        assert_eq!([&sent[0], &sent[1], &sent[3]], ["00", TRACE, "01"]);
        spans.push(sent[2].clone());
        worker.report(&lease, class).await;
        if class == "job_fail" {
            answer(gateway.post(&format!("/api1/jobs/{job}/redrive")), 200).await;
        }
    }
    assert_ne!(spans[0], spans[1], "each attempt is a span of its own");
    let shown = gateway.job(&job).await;
    assert_eq!(shown["trace_id"], TRACE);
    let log = shown["attempt_log"].as_array().unwrap();
    assert_eq!(log.iter().map(|attempt| attempt["span_id"].as_str().unwrap()).collect::<Vec<_>>(), spans);
}

#[tokio::test]
async fn a_job_without_a_trace_is_one_of_its_own() {
    let gateway = Gateway::start().await;
    let accepted = gateway.process("{}").header("traceparent", "nonsense").send().await.unwrap();
    assert_eq!(header(&accepted, "traceparent"), "");
    let job = id(&accepted.json::<Value>().await.unwrap());
    let lease = Worker::new(&gateway).claim_one().await;
    let trace = job.replace('-', "");
    assert!(lease["traceparent"].as_str().unwrap().starts_with(&format!("00-{trace}-")), "{lease}");
    assert_eq!(gateway.job(&job).await["trace_id"], trace);
}

/// A gateway of the real program, killed when the test is over.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended long ago.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The gateway's part in a job's life, everything logged: each line is JSON, and none gives away what is not for the log.
#[tokio::test]
async fn neither_payloads_nor_secrets_are_ever_logged() {
    const SECRETS: [&str; 5] = ["needle-payload", "needle-answer", "needle-key", "needle-header", "needle-reason"];
    let folder = tempfile::tempdir().unwrap();
    let (config, log) = (folder.path().join("destinations.toml"), folder.path().join("log"));
    let destination =
        "[destinations.api2]\nurl = \"http://127.0.0.1:1/\"\nheaders = { Authorization = \"needle-header\" }\n";
    std::fs::write(&config, destination).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_api1-gateway"))
        .env_clear()
        .envs([("LOG_FORMAT", "json"), ("RUST_LOG", "trace"), ("API1_OPERATOR_KEYS", "needle-key")])
        .args(["--listen", "127.0.0.1:0", "--store", "memory:", "--config", config.to_str().unwrap()])
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let _child = Killed(child);
    let read = || {
        let mut text = String::new();
        std::fs::File::open(&log).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let address = crate::support::eventually("it says where it listens", async || {
        let text = read();
        let (_, rest) = text.split_once("listening on http://")?;
        Some(rest.split('"').next()?.to_owned())
    })
    .await;
    let client = crate::support::client();
    let post = |path: &str| client.post(format!("http://{address}{path}")).bearer_auth("needle-key");
    let sent = post("/api1/process").header("content-type", "application/json").body(r#"{"card":"needle-payload"}"#);
    let job = id(&answer(sent, 202).await);
    let worker = "018f0000-0000-7000-8000-000000000001";
    let claim = json!({"worker": worker, "concurrency": 1, "max": 1, "wait_ms": 1_000});
    let lease = answer(post("/jobstore/v1/claim").json(&claim), 200).await["leases"][0].clone();
    let outcome = json!({"job_id": job, "epoch": lease["epoch"], "class": "job_fail", "status": 422, "latency_ms": 1,
        "error": "422", "response": {"body": "needle-answer"}});
    answer(post("/jobstore/v1/settle").json(&json!({"worker": worker, "outcomes": [outcome]})), 200).await;
    answer(post(&format!("/api1/jobs/{job}/resolve")).json(&json!({"reason": "needle-reason"})), 200).await;
    answer(post(&format!("/api1/jobs/{job}/redrive")).json(&json!({"payload": "needle-payload"})), 202).await;
    let text = read();
    assert!(text.lines().count() > 3, "{text}");
    for line in text.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    for secret in SECRETS {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
