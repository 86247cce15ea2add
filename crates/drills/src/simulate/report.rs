//! Many seeds, and what they came to, for people or as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::{Bug, Outcome, TRANSITIONS, draw, run};

/// Failures that are told of; one is enough to fail.
const SHOWN: usize = 20;
/// After so many failures no more are looked for.
const ENOUGH: usize = 100;

/// What many seeds came to.
#[derive(Debug, Serialize)]
pub struct SimulationReport {
    /// No rule was broken.
    pub passed: bool,
    pub seeds: u64,
    pub from: u64,
    pub events: u64,
    pub fewest_events: u64,
    /// How often each transition was seen.
    pub transitions: BTreeMap<&'static str, u64>,
    pub failures: Vec<Failure>,
}

/// A seed that breaks a rule.
#[derive(Debug, Serialize)]
pub struct Failure {
    pub seed: u64,
    pub rule: &'static str,
    pub what: String,
}

impl SimulationReport {
    fn empty(from: u64) -> Self {
        SimulationReport {
            passed: true,
            seeds: 0,
            from,
            events: 0,
            fewest_events: u64::MAX,
            transitions: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Legal transitions that no seed saw.
    pub fn unseen(&self) -> Vec<&'static str> {
        TRANSITIONS.iter().copied().filter(|name| !self.transitions.contains_key(name)).collect()
    }

    fn add(&mut self, outcome: Outcome) {
        self.events += outcome.events;
        self.fewest_events = self.fewest_events.min(outcome.events);
        for (name, count) in outcome.transitions {
            *self.transitions.entry(name).or_default() += count;
        }
        if let Some(violation) = outcome.violation {
            let rule = violation.rule.as_str();
            self.failures.push(Failure { seed: outcome.seed, rule, what: violation.what });
        }
    }

    fn merge(&mut self, other: SimulationReport) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.fewest_events = self.fewest_events.min(other.fewest_events);
        for (name, count) in other.transitions {
            *self.transitions.entry(name).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

/// Runs one seed and writes every event to stderr.
pub fn trace(seed: u64) -> SimulationReport {
    let mut report = SimulationReport::empty(seed);
    report.seeds = 1;
    report.add(run(draw(seed), true));
    report.passed = report.failures.is_empty();
    report
}

/// Runs the seeds `from` to `from + seeds - 1`, on all processors.
pub fn simulate(from: u64, seeds: u64, bug: Option<Bug>) -> SimulationReport {
    let next = AtomicU64::new(0);
    let part = || {
        let mut report = SimulationReport::empty(from);
        while report.failures.len() < ENOUGH {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= seeds {
                break;
            }
            report.seeds += 1;
            report.add(run(super::Plan { bug, ..draw(from + index) }, false));
        }
        report
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parts: Vec<SimulationReport> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(part)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a seed panicked")).collect()
    });
    let mut report = SimulationReport::empty(from);
    parts.into_iter().for_each(|part| report.merge(part));
    report.failures.sort_by_key(|failure| failure.seed);
    report.passed = report.failures.is_empty();
    report
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SimulationReport { seeds, from, events, fewest_events, .. } = self;
        writeln!(f, "{seeds} seeds from {from}: {events} events, {fewest_events} at least in each.")?;
        for failure in self.failures.iter().take(SHOWN) {
            writeln!(f, "\n  ! {}\n    {}", failure.rule, failure.what)?;
            writeln!(f, "    again, with every event: SEED={} cargo drill simulate", failure.seed)?;
        }
        if self.failures.len() > SHOWN {
            writeln!(f, "\n  ! and {} more", self.failures.len() - SHOWN)?;
        }
        let unseen = self.unseen();
        writeln!(f, "{} of {} transitions seen.", TRANSITIONS.len() - unseen.len(), TRANSITIONS.len())?;
        if !unseen.is_empty() {
            writeln!(f, "  not seen: {}", unseen.join("; "))?;
        }
        if self.passed {
            write!(f, "No invariant was broken.")
        } else {
            write!(f, "INVARIANTS WERE BROKEN by {} seeds.", self.failures.len())
        }
    }
}
