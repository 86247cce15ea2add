//! Clients that were not made for Holdfast and change nothing but their base address: curl, and a Python program.

use std::path::Path;
use std::process::{Command, Output};

use drills::client::{Answer, Api2, Gateway, Http};
use drills::trio::{Plan, Trio};
use drills::wait;
use jobs_core::job::JobId;
use reqwest::Method;
use serde_json::Value;

use crate::support::{PATIENCE, all_ended, start};

/// A trio whose gateway forwards to the root of an API 2 that is down.
async fn start_forwarding() -> Trio {
    let settings = "attempt_timeout = \"20s\"".to_owned();
    let mut trio = start(Plan { destination_settings: settings, ..Plan::default() }).await;
    let path = trio.folder().join("destinations.toml");
    let simulating = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{simulating}[destinations.orders]\nurl = \"{}\"\n", trio.api2().url())).unwrap();
    trio.gateway_process().hang_up();
    let known = async || trio.gateway().destination("orders").await.ok();
    assert!(wait::until(PATIENCE, known).await.is_some(), "{}", trio.gateway_process().log());
    trio
}

/// Runs a client to its end. One that is not installed is a failure where everything must be, and else no test.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: cannot run {program}: {error}");
            None
        }
        Err(error) => panic!("cannot run {program}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_a_python_program_change_only_their_base_address() {
    let trio = start_forwarding().await;
    let (gateway, api2) = (trio.gateway().clone(), trio.api2().clone());
    let direct = api2.url().to_owned();
    let forwarding = format!("{}/forward/orders", gateway.url());
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/orders.py");
    let program = program.to_str().unwrap();
    // What the clients send, in their order: target and body.
    let mut sent = Vec::new();

    if let Some(alone) = run("python3", &[program, &direct]) {
        assert!(!alone.status.success(), "API 2 is down, and it is told so");
        let helped = run("python3", &[program, &forwarding]).expect("it ran before");
        let text = String::from_utf8_lossy(&helped.stdout).into_owned();
        assert!(helped.status.success(), "{text}{}", String::from_utf8_lossy(&helped.stderr));
        assert_eq!(text, "202\n202\n202\n");
        let order = |n: u32| (format!("/api2/simulate?order={n}"), format!(r#"{{"order": {n}, "amount": "42.00"}}"#));
        sent.extend((0..3).map(order));
    }
    let post = |base: &str| {
        let url = format!("{base}/api2/simulate");
        run("curl", &["-sS", "--fail", "-X", "POST", "--data-binary", "a=1&b=2", "-H", "X-Shop: 7", &url])
    };
    if let Some(alone) = post(&direct) {
        assert!(!alone.status.success(), "API 2 is down, and it is told so");
        let helped = post(&forwarding).expect("it ran before");
        assert!(helped.status.success(), "{}", String::from_utf8_lossy(&helped.stderr));
        sent.push(("/api2/simulate".to_owned(), "a=1&b=2".to_owned()));
    }

    api2.clear_ledger().await.unwrap();
    api2.toggle().await.unwrap();
    all_ended(&gateway).await;
    let count = sent.len() as u64;
    let ledger =
        wait::until(PATIENCE, async || api2.ledger().await.ok().filter(|ledger| ledger.distinct >= count)).await;
    assert_eq!(ledger.map(|ledger| (ledger.distinct, ledger.duplicates)), Some((count, 0)));
    assert_eq!(delivered(&gateway, &api2).await, sent);
}

/// Target and body of all that API 2 has answered with 200, in the order the gateway accepted them.
async fn delivered(gateway: &Gateway, api2: &Api2) -> Vec<(String, String)> {
    let http = Http::new();
    let list: Value = gateway.call(Method::GET, "/api1/jobs?destination=orders").await.unwrap().json().unwrap();
    let mut delivered = Vec::new();
    for job in list["jobs"].as_array().unwrap().iter().rev() {
        let id: JobId = serde_json::from_value(job["id"].clone()).unwrap();
        let received = api2.received(id).await.unwrap().unwrap_or_else(|| panic!("{job} never arrived"));
        let last = received.requests.last().unwrap_or_else(|| panic!("{job} never arrived"));
        assert_eq!((last.method.as_str(), last.status), ("POST", Some(200)), "{job}");
        let payload = http.request(Method::GET, format!("{}/api2/ledger/{id}/payload", api2.url()));
        delivered.push((last.target.clone(), Answer::to(payload).await.unwrap().body));
    }
    delivered
}
