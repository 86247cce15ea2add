//! A scenario's result beside its bounds.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Size;
use super::catalogue::{Bounds, Scenario};
use super::measure::Measured;

/// Calls in flight that a gate which knows nothing of its destination lets through: as many may be under way when it goes wrong.
const IN_FLIGHT_AT_ONSET: u64 = 16;

/// How a scenario went.
#[derive(Debug, Clone, Serialize)]
pub struct ScenarioReport {
    pub name: &'static str,
    pub passed: bool,
    pub api2: Measured,
    pub neighbour: Measured,
    /// Bounds that were not kept.
    pub misses: Vec<String>,
}

/// How all of them went.
#[derive(Debug, Clone, Serialize)]
pub struct ScenariosReport {
    pub passed: bool,
    pub scenarios: Vec<ScenarioReport>,
}

impl ScenarioReport {
    pub(super) fn new(scenario: &Scenario, size: Size, api2: Measured, neighbour: Measured) -> Self {
        let mut misses = Vec::new();
        hold_against(&scenario.bounds, size, &api2, &mut misses);
        let wrong = [
            ("jobs undelivered", neighbour.accepted - neighbour.delivered),
            ("jobs that had to wait for the end of the trouble", neighbour.held_up),
            ("trips", neighbour.trips),
            ("attempts charged", neighbour.charged),
        ];
        let wrong = wrong.iter().filter(|(_, count)| *count > 0);
        misses.extend(wrong.map(|(what, count)| format!("the neighbour has {what}: {count}")));
        let most = size.neighbour_p99.map_or(f64::INFINITY, |most| most.as_secs_f64() * 1_000.0);
        if neighbour.p99_ms.is_nan() || neighbour.p99_ms > most {
            misses.push(format!("the neighbour's p99 is {:.0} ms, and {most:.0} ms is allowed", neighbour.p99_ms));
        }
        misses.extend(neighbour.violations.iter().cloned());
        ScenarioReport { name: scenario.name, passed: misses.is_empty(), api2, neighbour, misses }
    }
}

fn hold_against(bounds: &Bounds, size: Size, api2: &Measured, misses: &mut Vec<String>) {
    misses.extend(api2.violations.iter().cloned());
    for (what, found, allowed) in [("trips", api2.trips, &bounds.trips), ("dead jobs", api2.dead, &bounds.dead)] {
        if !allowed.contains(&found) {
            misses.push(format!("{what}: {found}, and {} to {} is allowed", allowed.start(), allowed.end()));
        }
    }
    if api2.delivered + api2.dead != api2.accepted {
        misses.push(format!(
            "{} of {} were neither delivered nor dead",
            api2.accepted - api2.delivered - api2.dead,
            api2.accepted
        ));
    }
    let ms = |bound: Duration| u64::try_from(bound.mul_f64(size.slack).as_millis()).unwrap_or(u64::MAX);
    let most = [
        ("calls in the worst second while held", api2.calls_while_held, bounds.calls_while_held),
        ("attempts charged", Some(api2.charged), bounds.charged),
        ("attempts charged at its onset", Some(api2.charged_at_onset), bounds.charged.map(|_| IN_FLIGHT_AT_ONSET)),
        ("milliseconds until it was noticed", api2.noticed_ms, bounds.noticed.map(ms)),
        ("milliseconds until the backlog was gone", api2.drained_ms, Some(ms(bounds.drained))),
    ];
    for (what, found, bound) in most {
        match (found, bound) {
            (Some(found), Some(bound)) if found > bound => {
                misses.push(format!("{what}: {found}, and at most {bound} is allowed"));
            }
            (None, Some(_)) => misses.push(format!("{what}: never")),
            (_, _) => {}
        }
    }
    let reason = api2.reason.as_deref().unwrap_or_default();
    if let Some(wanted) = bounds.reason.filter(|wanted| !reason.contains(wanted)) {
        misses.push(format!("the reason was to say {wanted:?} and says {reason:?}"));
    }
}

impl ScenariosReport {
    pub(super) fn new(scenarios: Vec<ScenarioReport>) -> Self {
        ScenariosReport { passed: scenarios.iter().all(|report| report.passed), scenarios }
    }
}

impl fmt::Display for ScenariosReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<19} {:>5} {:>6} {:>9} {:>9} {:>5} {:>8} {:>8} {:>10}  reason",
            "scenario", "trips", "calls", "noticed", "drained", "dead", "charged", "refused", "neighbour"
        )?;
        for report in &self.scenarios {
            writeln!(f, "{report}")?;
        }
        writeln!(
            f,
            "\ncalls: in the worst second while held. noticed, drained: after the trouble. refused: of the calls after it. neighbour:\n\
             p99 from accepted to delivered.\n"
        )?;
        write!(f, "{}", if self.passed { "All bounds were kept." } else { "NOT ALL BOUNDS WERE KEPT." })
    }
}

impl fmt::Display for ScenarioReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { trips, calls_while_held, noticed_ms, drained_ms, dead, charged, refused_share, reason, .. } =
            &self.api2;
        let calls = calls_while_held.map_or_else(|| "-".to_owned(), |calls| calls.to_string());
        let ms = |time: &Option<u64>| time.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
        write!(f, "{:<19} {trips:>5} {calls:>6} {:>9} {:>9}", self.name, ms(noticed_ms), ms(drained_ms))?;
        write!(f, " {dead:>5} {charged:>8} {:>6.1} % {:>7.0} ms", refused_share * 100.0, self.neighbour.p99_ms)?;
        write!(f, "  {}", reason.as_deref().unwrap_or(""))?;
        for miss in &self.misses {
            write!(f, "\n  ! {miss}")?;
        }
        Ok(())
    }
}
