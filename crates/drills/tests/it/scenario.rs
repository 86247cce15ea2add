//! What can go wrong with a destination, with real processes: every scenario keeps its bounds.

use serde_json::Value;

use crate::support::output_of;

#[test]
fn every_scenario_keeps_its_bounds() {
    let output = output_of("drill", &["scenario", "--quick", "--json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let scenarios = report["scenarios"].as_array().unwrap();
    let misses: Vec<String> = scenarios
        .iter()
        .map(|it| format!("{}: {}", it["name"], it["misses"]))
        .filter(|it| !it.ends_with("[]"))
        .collect();
    assert!(misses.is_empty(), "{misses:#?}");
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(scenarios.len(), drills::scenario::catalogue::ALL.len());
}

#[test]
fn an_unknown_scenario_is_refused_with_the_names_there_are() {
    let output = output_of("drill", &["scenario", "earthquake"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("black-hole") && stderr.contains("flapping"), "{stderr}");
}
