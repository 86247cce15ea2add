//! When a destination counts as down: the rules that open its gate.
//!
//! Every rule asks for failures of several jobs, or of one job twice, with no ok between, because one failure says nothing.
//! "Between" is meant causally: an attempt that had begun when the last ok arrived says nothing about the time after it,
//! so the tail of a burst that a busy destination refused does not look like an outage.
//!
//! Sources: Linkerd's failure accrual (consecutive failures) and success-rate breakers, with distinct jobs added.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::job::{JobId, Tick, WorkerId};
use crate::outcome::Class;
use crate::time::Mono;

/// Failures in a row that open the gate...
const IN_A_ROW: usize = 5;
/// ...if they are of so many jobs at least: one poison job never does.
const DISTINCT_JOBS: usize = 3;
/// Answers within [`RATE_SPAN`] from which on their share of failures counts...
const RATE_ANSWERS: usize = 20;
const RATE_SPAN: Duration = Duration::from_secs(2);
/// ...and the share that opens the gate.
const RATE_SHARE: f64 = 0.9;
/// Jobs with the same suspect answer that make a configuration fault.
const SUSPECT_JOBS: usize = 3;
/// Jobs refused for good in a row that make one: a broken deploy must not dead-letter a hundred thousand jobs.
const REFUSED_JOBS: usize = 20;
/// Refusals in a row count only after so long without an ok: a busy destination refuses many at a time between its oks.
const QUIET: Duration = Duration::from_millis(50);
/// Most answers kept for the share.
const MOST: usize = 4_096;

/// An answer as the breaker sees it: of a lease of the present epoch, and not charged to its job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) job: JobId,
    pub(super) worker: WorkerId,
    pub(super) class: Class,
    pub(super) status: Option<u16>,
    pub(super) begun: Tick,
    pub(super) at: Tick,
}

/// Why a gate opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be reached, or fails at everything.
    Down,
    /// It answers, but everything it says points to wrong settings: the status it answers with.
    Misconfigured(Option<u16>),
}

/// What has been answered since the last ok, and of late.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    last_ok: Tick,
    last_ok_at: Option<Mono>,
    /// Failures since the last ok, oldest first.
    run: VecDeque<(JobId, Class)>,
    /// The workers that reported them; a second one says that there are several.
    failing: BTreeSet<WorkerId>,
    /// The latest failure: a report that could not be stored comes again, and is one failure still.
    latest: Option<(JobId, Tick)>,
    suspects: BTreeSet<(Option<u16>, JobId)>,
    refused: BTreeSet<JobId>,
    recent: VecDeque<(Mono, JobId, WorkerId, bool, bool)>,
}

impl Breaker {
    /// Takes note of an answer; the fault, if it gives the gate reason to open. `at_floors`: a ramp has just begun.
    pub(super) fn note(&mut self, seen: Seen, at_floors: bool, now: Mono) -> Option<Fault> {
        let failed = seen.class.is_retryable();
        if failed && self.latest.replace((seen.job, seen.begun)) == Some((seen.job, seen.begun)) {
            return None;
        }
        let hard = matches!(seen.class, Class::Down | Class::Error);
        self.recent.push_back((now, seen.job, seen.worker, hard, seen.class == Class::Ok));
        while self.recent.len() > MOST || self.recent.front().is_some_and(|old| now.since(old.0) > RATE_SPAN) {
            self.recent.pop_front();
        }
        if seen.class == Class::Ok {
            self.last_ok = seen.at;
            self.last_ok_at = Some(now);
            self.run.clear();
            self.failing.clear();
            self.suspects.clear();
            self.refused.clear();
            return None;
        }
        if !failed {
            self.run.clear();
            self.failing.clear();
            return self.misconfigured(seen);
        }
        if seen.begun > self.last_ok {
            self.run.push_back((seen.job, seen.class));
            if self.run.len() > IN_A_ROW {
                self.run.pop_front();
            }
            if self.failing.len() < 2 {
                self.failing.insert(seen.worker);
            }
        }
        if self.may_be_one_workers(now) {
            return None;
        }
        (self.in_a_row(now) || self.twice() || self.down_at_floors(at_floors) || self.mostly_failing())
            .then_some(Fault::Down)
    }

    fn misconfigured(&mut self, seen: Seen) -> Option<Fault> {
        if seen.class == Class::Suspect {
            self.suspects.insert((seen.status, seen.job));
            let same = self.suspects.iter().filter(|(status, _)| *status == seen.status).count();
            if self.suspects.len() > 4 * SUSPECT_JOBS {
                self.suspects.pop_first();
            }
            return (same >= SUSPECT_JOBS).then_some(Fault::Misconfigured(seen.status));
        }
        self.refused.insert(seen.job);
        (self.refused.len() >= REFUSED_JOBS).then_some(Fault::Misconfigured(seen.status))
    }

    /// Several failures in a row, of several jobs.
    fn in_a_row(&self, now: Mono) -> bool {
        let jobs: BTreeSet<JobId> = self.run.iter().map(|(job, _)| *job).collect();
        let refused = self.run.iter().any(|(_, class)| *class == Class::Overload);
        let quiet = self.last_ok_at.is_none_or(|at| now.since(at) >= QUIET);
        self.run.len() >= IN_A_ROW && jobs.len() >= DISTINCT_JOBS && (quiet || !refused)
    }

    /// Only one worker has failed since the last ok, by not getting through, while another got through of late: its network may
    /// have broken just now. A cut-off worker fails fast, so many of its failures fit between two oks of the others. Another's
    /// failure shows that it is the destination.
    fn may_be_one_workers(&self, now: Mono) -> bool {
        self.failing.len() == 1
            && self.run.iter().all(|(_, class)| *class == Class::Down)
            && self.oks(now).any(|worker| !self.failing.contains(&worker))
    }

    /// The workers of the oks of late.
    fn oks(&self, now: Mono) -> impl Iterator<Item = WorkerId> {
        self.recent.iter().filter(move |answer| now.since(answer.0) <= RATE_SPAN && answer.4).map(|answer| answer.2)
    }

    /// Low volume: the same job twice, neither time for a reason of its own.
    fn twice(&self) -> bool {
        let Some((job, class)) = self.run.back() else { return false };
        let outage = |class: &Class| matches!(class, Class::Down | Class::Overload);
        outage(class) && self.run.iter().filter(|(other, class)| other == job && outage(class)).count() >= 2
    }

    fn down_at_floors(&self, at_floors: bool) -> bool {
        let mut last = self.run.iter().rev().take(2);
        match (last.next(), last.next()) {
            (Some((one, Class::Down)), Some((other, Class::Down))) => at_floors && one != other,
            _ => false,
        }
    }

    /// Nearly all answers of late were failures.
    fn mostly_failing(&self) -> bool {
        let jobs: BTreeSet<JobId> = self.recent.iter().map(|answer| answer.1).collect();
        let failures = self.recent.iter().filter(|answer| answer.3).count();
        jobs.len() >= RATE_ANSWERS && failures as f64 >= RATE_SHARE * self.recent.len() as f64
    }

    /// Whether `worker` has of late reached the destination never, and another has: then it is that worker's network.
    pub(super) fn is_cut_off(&self, worker: WorkerId, now: Mono) -> bool {
        self.oks(now).any(|other| other != worker) && !self.oks(now).any(|other| other == worker)
    }
}
