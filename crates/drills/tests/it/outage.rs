//! The drills themselves, as a person runs them.

use drills::client::{Answer, Api2, Http};
use reqwest::Method;
use serde_json::Value;

use crate::support::{command, output_of};
use crate::up::Up;

#[test]
fn the_outage_drill_loses_nothing_and_says_so_in_json() {
    let output = output_of("drill", &["outage", "--jobs", "60", "--down", "1s", "--workers", "2", "--json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).expect("stdout has the report and nothing else");
    assert_eq!((&report["passed"], &report["accepted"], &report["delivered"]), (&true.into(), &60.into(), &60.into()));
    assert_eq!((&report["lost"], &report["duplicates"], &report["pending"]), (&0.into(), &0.into(), &0.into()));
    let calls = report["calls_during_outage"].as_u64().unwrap();
    assert!(calls > 0, "nothing was tried while API 2 was down: {report}");
    assert!(report["time_to_first_success_ms"].as_u64() <= report["time_to_drain_ms"].as_u64(), "{report}");
}

#[test]
fn a_drill_that_cannot_reach_what_it_is_given_fails_and_says_so() {
    let nobody = "http://127.0.0.1:9";
    let output = output_of("drill", &["outage", "--gateway", nobody, "--api2", nobody]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot call http://127.0.0.1:9/"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_keys_is_played_with_one_and_without_it_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[("API1_CLIENT_KEYS", "secret-1"), ("API2_START", "up")]);
    let (gateway, _, url) = (up.url_of("gateway"), up.url_of("worker"), up.url_of("API 2"));
    let http = Http::new();
    let api2 = Api2::new(&url, &url, &http);
    let call = http.request(Method::POST, format!("{url}/api2/simulate")).body("of somebody else");
    assert_eq!(Answer::to(call).await.unwrap().status, 200);
    let play = |key: Option<&str>| {
        let mut drill = command("drill");
        drill.env_remove("DRILL_CLIENT_KEY").envs(key.map(|key| ("DRILL_CLIENT_KEY", key)));
        drill.args(["outage", "--jobs", "20", "--down", "1s", "--json", "--gateway", &gateway, "--api2", &url]);
        drill.output().unwrap()
    };

    let refused = play(None);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("answered 401"), "{stderr}");
    assert_eq!(api2.ledger().await.unwrap().requests, 1, "its ledger is as it was");
    let health = http.request(Method::GET, format!("{url}/api2/health"));
    assert_eq!(Answer::to(health).await.unwrap().status, 200, "it is as up as it was");

    let played = play(Some("secret-1"));
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    let report: Value = serde_json::from_slice(&played.stdout).unwrap();
    assert_eq!((&report["passed"], &report["delivered"]), (&true.into(), &20.into()), "{report}");
}
