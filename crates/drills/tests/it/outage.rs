//! The drills themselves, as a person runs them.

use serde_json::Value;

use crate::support::output_of;

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
