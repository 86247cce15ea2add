//! Overload and its end: more is asked than API 2 can do, then as little as before, and all is as it was before.
//!
//! A system is metastable when it stays slow after what overloaded it has gone, because its own retries keep it there. So the
//! goodput, 2xx a second by API 2's ledger, is taken before, while twice its capacity is posted, and after: it must neither fall
//! while there is too much to do nor stay low afterwards. At the end the backlog drains, and nothing is lost.

use std::fmt;
use std::time::Duration;

use jobs_core::process::clock;
use jobs_core::time::Timestamp;
use serde::Serialize;

use crate::client::LedgerView;
use crate::error::DrillError;
use crate::figure::{Figure, Goal, Table, all_met};
use crate::invariants;
use crate::outage::observe;
use crate::report::{MAX_SHOWN, Progress};
use crate::steady::Steady;
use crate::trio::build::Programs;
use crate::trio::{API2, Plan, Trio};
use crate::wait;

/// Posted in usual times and in the overload, as shares of the capacity.
const USUAL: f64 = 0.8;
const OVERLOAD: f64 = 2.0;

/// How long it is as usual before, once API 2 is warm.
const BEFORE: Duration = Duration::from_secs(6);

/// Goodput is back within this after the overload has gone...
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// ...and stays for so long.
const AFTER: Duration = Duration::from_secs(8);

/// How much of what it was goodput has to be again.
const SHARE: f64 = 0.95;

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What API 2 can do per second.
    pub capacity: u32,
    pub lasts: Duration,
    pub seed: u64,
}

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct OverloadReport {
    /// Whether all goals were met, and nothing was lost.
    pub passed: bool,
    pub accepted: u64,
    pub delivered: u64,
    pub figures: Vec<Figure>,
    pub violations: Vec<String>,
}

/// Plays it.
///
/// # Errors
/// [`DrillError`] when the programs cannot be run or steered.
pub async fn run(
    programs: &Programs,
    settings: Settings,
    progress: &mut Progress,
) -> Result<OverloadReport, DrillError> {
    let trio = Trio::start(programs, Plan { up: true, ..Plan::default() }).await?;
    let (gateway, api2) = (trio.gateway(), trio.api2());
    let capacity = f64::from(settings.capacity);
    let weather = serde_json::json!({"mode": "capacity", "per_second": settings.capacity, "seed": settings.seed});
    api2.set_weather(&weather).await?;

    let began = clock::wall();
    progress.say(&format!("posting {:.0} a second, and API 2 can do {capacity}", USUAL * capacity));
    let steady = Steady::start(gateway, API2, USUAL * capacity, settings.seed);
    tokio::time::sleep(BEFORE).await;
    let loaded = clock::wall();
    progress.say(&format!("posting {:.0} a second for {:?}", OVERLOAD * capacity, settings.lasts));
    steady.change(OVERLOAD * capacity);
    tokio::time::sleep(settings.lasts).await;
    let unloaded = clock::wall();
    progress.say("posting as before");
    steady.change(USUAL * capacity);
    tokio::time::sleep(BACK_WITHIN + AFTER).await;
    let ended = clock::wall();
    progress.say("draining");
    let client = steady.stop().await;
    let limit = BACK_WITHIN + 4 * settings.lasts + AFTER;
    // What has not ended by then is told by the comparison.
    drop(wait::until(limit, async || gateway.stats().await.ok().filter(|stats| stats.waiting() == 0)).await);

    let ledger = api2.ledger().await?;
    let before = goodput(&ledger, began, loaded);
    let meanwhile = mean(&goodput(&ledger, loaded, unloaded)) / mean(&before);
    let after = goodput(&ledger, unloaded, ended);
    let back = back_after(&after, SHARE * mean(&before)).map_or(f64::NAN, |seconds| seconds as f64);
    let share_refused = ledger.with_status(503) as f64 / ledger.requests.max(1) as f64;
    let trips = gateway.destination(API2).await?.epoch;
    let figures = vec![
        Figure::new("goodput in the overload, of before", meanwhile, "", Goal::AtLeast(SHARE)),
        Figure::new("goodput back to 95 % of before, and staying", back, "s", Goal::AtMost(BACK_WITHIN.as_secs_f64()))
            .beside("before /s", mean(&before))
            .beside("after /s", mean(&after)),
        Figure::new("503 answers, of all calls", share_refused, "", Goal::None),
        Figure::new("gate opened", trips as f64, "", Goal::AtMost(0.0)),
    ];
    let findings = invariants::compare(&observe::all(gateway, api2, &client, true).await?);
    Ok(OverloadReport {
        passed: all_met(&figures) && findings.violations.is_empty(),
        accepted: findings.accepted,
        delivered: findings.delivered,
        figures,
        violations: findings.violations.iter().map(ToString::to_string).collect(),
    })
}

/// 2xx in each whole second between the two moments, the first one left out.
fn goodput(ledger: &LedgerView, from: Timestamp, until: Timestamp) -> Vec<u64> {
    let second = |at: Timestamp| at.as_millis() / 1_000;
    let whole = second(from) + 2..second(until);
    let ok = |wanted: i64| ledger.per_second.iter().find(|of| second(of.at) == wanted).map_or(0, |of| of.ok);
    whole.map(ok).collect()
}

fn mean(values: &[u64]) -> f64 {
    values.iter().sum::<u64>() as f64 / values.len() as f64
}

/// After how many seconds all that follow are at least `least`; `None` if the last one is not.
fn back_after(seconds: &[u64], least: f64) -> Option<usize> {
    let low = seconds.iter().rposition(|ok| (*ok as f64) < least).map_or(0, |low| low + 1);
    (low < seconds.len()).then_some(low)
}

impl fmt::Display for OverloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} accepted, {} delivered\n\n{}", self.accepted, self.delivered, Table(&self.figures))?;
        for violation in self.violations.iter().take(MAX_SHOWN) {
            writeln!(f, "  ! {violation}")?;
        }
        write!(f, "{}", if self.passed { "All goals were met." } else { "Not all goals were met." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SecondView;

    #[test]
    fn goodput_is_back_when_no_later_second_is_low() {
        assert_eq!(back_after(&[10, 95, 100], 95.0), Some(1));
        assert_eq!(back_after(&[100, 100], 95.0), Some(0));
        assert_eq!(back_after(&[100, 10, 100], 95.0), Some(2));
        assert_eq!(back_after(&[100, 10], 95.0), None);
        assert_eq!(back_after(&[], 95.0), None);
    }

    #[test]
    fn only_whole_seconds_count_and_a_silent_one_is_nothing() {
        let at = Timestamp::from_millis;
        let second = |at, ok| SecondView { at, requests: ok, ok };
        let per_second = vec![second(at(12_000), 7), second(at(14_000), 9), second(at(15_000), 1)];
        let ledger = LedgerView { per_second, ..LedgerView::default() };
        assert_eq!(goodput(&ledger, at(10_500), at(15_200)), [7, 0, 9]);
    }
}
