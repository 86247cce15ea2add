//! The drills that give figures, small: the figures themselves are for a release build on a quiet machine.

use std::time::Duration;

use serde_json::Value;

use crate::support::output_of;

/// Calls that may be on their way when API 2 goes down and until its gate opens, and in each second from then on.
const CALLS_UNTIL_HELD: f64 = 50.0;
const CALLS_WHILE_HELD: f64 = 4.0;

/// Runs the drill and reads its report. Its exit code may say that a figure missed its goal.
fn report_of(arguments: &[&str]) -> Value {
    let output = output_of("drill", arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

/// A figure by the beginning of its name.
fn figure(report: &Value, name: &str) -> f64 {
    let mut figures = report["figures"].as_array().unwrap().iter();
    let found = figures.find(|figure| figure["name"].as_str().unwrap().starts_with(name));
    found.unwrap_or_else(|| panic!("no figure {name:?} in {report}"))["measured"].as_f64().unwrap()
}

#[test]
fn an_outage_costs_few_calls_and_its_end_one_row_and_the_picture_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("outage.svg");
    let report = report_of(&[
        "outage",
        "--jobs",
        "400",
        "--down",
        "3s",
        "--capacity",
        "100",
        "--fresh",
        "0.15",
        "--workers",
        "3",
        "--json",
        "--svg",
        svg.to_str().unwrap(),
    ]);
    assert_eq!((&report["passed"], &report["lost"]), (&true.into(), &0.into()), "{report}");
    assert!(report["accepted"].as_u64() > Some(400), "nothing fresh was posted: {report}");
    // By the gate's clock; how many arrive in one second depends on what else the machine does.
    let calls = report["calls_during_outage"].as_f64().unwrap();
    let most = CALLS_UNTIL_HELD + CALLS_WHILE_HELD * report["down_ms"].as_f64().unwrap() / 1_000.0;
    assert!(calls <= most, "{calls} calls while API 2 was down, and {most} is allowed: {report}");
    assert_eq!(figure(&report, "gate opened again"), 0.0, "{report}");
    assert_eq!(figure(&report, "waiting rows the recovery wrote"), 0.0, "{report}");
    assert_eq!(figure(&report, "rows of gates the recovery wrote"), 1.0, "{report}");
    assert!(figure(&report, "of capacity") > 0.0, "{report}");
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("Waiting jobs") && !svg.contains("NaN"), "{svg}");
}

#[test]
fn recoveries_of_both_kinds_are_noticed_long_before_any_timer() {
    let report = report_of(&["recover", "--times", "3", "--json"]);
    for kind in ["busy", "health-checked"] {
        // The health-checked one's jobs would wait an hour.
        let p99 = Duration::from_millis(figure(&report, &format!("{kind}: back to first 2xx, p99")) as u64);
        assert!(p99 < Duration::from_secs(30), "{report}");
    }
}

#[test]
fn an_overload_loses_nothing_and_opens_no_gate() {
    let report = report_of(&["overload", "--for", "4s", "--capacity", "50", "--json"]);
    assert!(report["accepted"].as_u64() > Some(400), "there was no overload: {report}");
    assert_eq!(report["accepted"], report["delivered"], "{report}");
    assert_eq!(report["violations"].as_array().map(Vec::len), Some(0), "{report}");
    assert_eq!(figure(&report, "gate opened"), 0.0, "{report}");
    // Whole seconds of a machine that does other things say nothing about goodput: the simulation does, on virtual time.
    assert!(figure(&report, "503 answers") > 0.0, "API 2 never had too much to do: {report}");
}
