//! The simulation: that nothing breaks the rules, and that it would find out.

use drills::simulate::{
    Bug, Capacity, CapacityReport, Comparison, Overload, OverloadReport, Plan, Scenario, ScenarioReport, capacities,
    compare, draw, overloads, run, scenarios, simulate,
};

/// In every `cargo test`; `cargo drill simulate --seeds 100000` runs more.
const SEEDS: u64 = 1_000;
/// Each seed is a world of its own: with fewer events it would say little.
const FEWEST_EVENTS: u64 = 500;
/// A seeded bug is found within so many seeds.
const SEEDS_FOR_A_BUG: u64 = 3_000;

#[test]
fn over_a_thousand_seeds_no_invariant_is_broken_and_every_transition_is_seen() {
    let report = simulate(1, SEEDS, None);
    assert!(report.passed, "{report}");
    assert_eq!(report.seeds, SEEDS);
    assert!(report.fewest_events >= FEWEST_EVENTS, "a seed had {} events", report.fewest_events);
    assert_eq!(report.unseen(), Vec::<&str>::new());
}

#[test]
fn each_seeded_bug_is_found_by_the_invariant_it_breaks() {
    let mut wrong = Vec::new();
    for bug in Bug::ALL {
        let found = (1..=SEEDS_FOR_A_BUG).find_map(|seed| {
            let violation = run(Plan { bug: Some(bug), ..draw(seed) }, false).violation?;
            Some((seed, violation))
        });
        println!(
            "{bug:?}: {}",
            found.as_ref().map_or_else(|| "not found".to_owned(), |(seed, it)| format!("seed {seed}, {it}"))
        );
        if found.as_ref().map(|(_, violation)| violation.rule) != Some(bug.breaks()) {
            wrong.push(format!("{bug:?} was to break {:?}: {found:?}", bug.breaks()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Each broke an invariant once: a sweep that a heartbeat had overtaken shortened a lease; and the simulation's own account took the
/// ok of a claim that a crash had undone for one of the generation that a redrive had begun since.
#[test]
fn seeds_that_once_found_something_find_nothing_more() {
    for seed in [92_675, 2_936] {
        let violation = run(draw(seed), false).violation;
        assert!(violation.is_none(), "{violation:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (one, other) = (simulate(7, 3, None), simulate(7, 3, None));
    assert_eq!((one.events, one.transitions), (other.events, other.transitions));
}

#[test]
fn each_scenario_keeps_its_bounds() {
    let reports: Vec<ScenarioReport> = scenarios().iter().map(Scenario::play).collect();
    let failed: Vec<String> = reports.iter().filter(|report| !report.passed).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_backlog_is_drained_near_the_capacity_of_each_model_of_a_destination() {
    let reports: Vec<CapacityReport> = capacities().iter().map(Capacity::play).collect();
    let failed: Vec<String> = reports.iter().filter(|report| !report.passed).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn an_overload_takes_nothing_from_goodput_and_opens_no_gate() {
    let reports: Vec<OverloadReport> = overloads().iter().map(Overload::play).collect();
    let failed: Vec<String> = reports.iter().filter(|report| !report.passed).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn by_the_timers_of_the_original_design_the_same_outage_costs_far_more() {
    let Comparison { gate, timers } = compare();
    assert_eq!(gate.delivered, timers.delivered);
    assert!(timers.worst_second_while_down >= 10 * gate.worst_second_while_down, "{timers:?}");
    assert!(timers.drained_ms >= gate.drained_ms.map(|ms| 2 * ms), "{timers:?} {gate:?}");
}
