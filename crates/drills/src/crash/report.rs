//! What a crash drill comes to.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Victim;
use crate::figure::{Figure, Goal, Table, all_met};
use crate::percentile::percentile;
use crate::report::MAX_SHOWN;
use crate::verdict::Tally;

/// Who was killed, how often.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Struck {
    pub gateways: u64,
    pub workers: u64,
    /// Of the gateways, those that were starting.
    pub starting: u64,
    /// Times that the gateway and a worker were killed in the same moment.
    pub together: u64,
    /// Audits of the file as a kill had left it.
    pub audits: u64,
    /// From each start of a gateway to its first sign of being ready.
    #[serde(skip)]
    pub(super) back_ms: Vec<f64>,
}

impl Struck {
    /// Processes killed.
    pub fn kills(&self) -> u64 {
        self.gateways + self.workers
    }

    pub(super) fn note(&mut self, victim: Victim) {
        match victim {
            Victim::Gateway => self.gateways += 1,
            Victim::Worker(_) => self.workers += 1,
            Victim::Both(_) => {
                self.gateways += 1;
                self.workers += 1;
                self.together += 1;
            }
            Victim::StartingGateway => {
                self.gateways += 2;
                self.starting += 1;
            }
        }
    }
}

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct CrashReport {
    /// Whether nothing was lost and nothing else is wrong.
    pub passed: bool,
    pub kills: Struck,
    pub tally: Tally,
    pub seconds: f64,
    /// Percent: with this confidence of 95 % a kill loses an acknowledged job no more often. Only where none was lost.
    pub loss_per_kill_at_most_percent: Option<f64>,
    pub figures: Vec<Figure>,
}

impl CrashReport {
    pub(super) fn new(mut kills: Struck, tally: Tally, took: Duration) -> Self {
        let bound = (tally.lost == 0).then(|| rule_of_three(kills.kills()) * 100.0);
        let count = |name: &str, value: u64| Figure::new(name, value as f64, "", Goal::AtMost(0.0));
        let told = |name: &str, value: u64| Figure::new(name, value as f64, "", Goal::None);
        let p99 = percentile(&mut kills.back_ms, 0.99);
        let figures = vec![
            count("acknowledged jobs lost", tally.lost),
            count("jobs run out of the order of their key", tally.out_of_order),
            count("requests never acknowledged, however often repeated", tally.given_up),
            count("anything else wrong", tally.violations.len() as u64),
            Figure::new("loss per kill at most, with 95 % confidence", bound.unwrap_or(f64::NAN), "%", Goal::None),
            told("delivered again: worker killed after it had sent", tally.duplicates.lost_workers),
            told("delivered again: API 2's answer was lost", tally.duplicates.lost_answers),
            count("delivered again: unexplained", tally.duplicates.unexplained),
            Figure::new("a killed gateway ready again, p99", p99, "ms", Goal::None),
        ];
        CrashReport {
            passed: all_met(&figures) && tally.holds() && tally.accepted > 0,
            kills,
            tally,
            seconds: took.as_secs_f64(),
            loss_per_kill_at_most_percent: bound,
            figures,
        }
    }
}

/// The upper end of the 95 % confidence interval for how often something happens that did not in `trials` trials.
pub(crate) fn rule_of_three(trials: u64) -> f64 {
    (3.0 / trials.max(1) as f64).min(1.0)
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CrashReport { kills, tally, .. } = self;
        writeln!(
            f,
            "{} kills in {:.0} s: {} of a gateway ({} while it started), {} of a worker, {} of both at once; {} audits of the file",
            kills.kills(),
            self.seconds,
            kills.gateways,
            kills.starting,
            kills.workers,
            kills.together,
            kills.audits
        )?;
        writeln!(
            f,
            "{} jobs accepted ({} with an ordering key, {} delayed), {} delivered, {} dead, in {} attempts; {} requests repeated, {} answered as repetitions\n",
            tally.accepted,
            tally.ordered,
            tally.delayed,
            tally.delivered,
            tally.dead,
            tally.attempts,
            tally.repeats,
            tally.replays
        )?;
        writeln!(f, "{}", Table(&self.figures))?;
        for violation in tally.violations.iter().take(MAX_SHOWN) {
            writeln!(f, "  ! {violation}")?;
        }
        write!(f, "{}", if self.passed { "Nothing was lost." } else { "It does not hold." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tally: Tally) -> CrashReport {
        let kills = Struck { gateways: 600, workers: 400, back_ms: vec![100.0], ..Struck::default() };
        CrashReport::new(kills, tally, Duration::from_secs(1))
    }

    #[test]
    fn a_thousand_kills_without_a_loss_bound_it_at_three_in_a_thousand() {
        let report = report(Tally { accepted: 9, delivered: 9, ..Tally::default() });
        assert!(report.passed);
        assert!((report.loss_per_kill_at_most_percent.unwrap() - 0.3).abs() < 1e-9);
    }

    #[test]
    fn one_loss_one_disorder_or_one_violation_fails_it_and_so_does_nothing_at_all() {
        let well = Tally { accepted: 9, delivered: 9, ..Tally::default() };
        for wrong in [
            Tally { lost: 1, ..well.clone() },
            Tally { out_of_order: 1, ..well.clone() },
            Tally { violations: vec!["x".to_owned()], ..well.clone() },
            Tally { given_up: 1, ..well.clone() },
            Tally::default(),
        ] {
            assert!(!report(wrong.clone()).passed, "{wrong:?}");
        }
        assert_eq!(report(Tally { lost: 1, ..well }).loss_per_kill_at_most_percent, None);
    }
}
