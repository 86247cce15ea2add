//! The drills of no loss that need neither root nor tools, in a small size.

use serde_json::Value;

use crate::support::{command, output_of};

/// Plays a drill; its report, and whether it held.
fn play(arguments: &[&str]) -> (Value, bool) {
    let output = output_of("drill", &[arguments, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    (report, output.status.success())
}

#[test]
fn nothing_is_lost_when_gateway_and_workers_are_killed() {
    let (report, held) = play(&["crash", "--kills", "8", "--seed", "3"]);
    assert!(held, "{report:#}");
    let kills = &report["kills"];
    assert_eq!(kills["gateways"].as_u64().unwrap() + kills["workers"].as_u64().unwrap(), 8);
    assert!(kills["audits"].as_u64().unwrap() > 0, "{kills}");
    let tally = &report["tally"];
    for wanted in ["accepted", "ordered", "delayed", "replays", "repeats"] {
        assert!(tally[wanted].as_u64().unwrap() > 0, "{wanted}: {tally:#}");
    }
    assert_eq!(tally["accepted"], tally["delivered"]);
}

#[test]
fn a_gateway_serves_after_a_kill_with_jobs_waiting() {
    // How soon is a matter for a machine that does nothing else.
    let (report, _) = play(&["start", "--jobs", "3000"]);
    assert_eq!(report["violations"], Value::Array(Vec::new()), "{report:#}");
    let waiting = &report["figures"][1]["beside"]["jobs waiting"];
    assert_eq!(waiting.as_f64(), Some(3_000.0), "{report:#}");
}

#[test]
fn what_a_machine_cannot_show_is_said_and_is_a_failure_only_where_it_must_be_shown() {
    for (ci, code) in [("", 2), ("true", 1)] {
        // Without a path there is neither strace nor a program that mounts.
        let output = command("drill").args(["iofault"]).env("PATH", "").env("CI", ci).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "CI={ci}: {stderr}");
        assert!(stderr.contains("nothing was shown") && stderr.contains("strace"), "{stderr}");
    }
}
