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

/// Failures in a row that open the gate at a destination that failed at nothing else of late...
const IN_A_ROW: usize = 5;
/// ...and the most it ever takes: where some calls fail by chance, so many more that a row of them is no chance.
const MOST_IN_A_ROW: usize = 40;
/// How unlikely a row must be to be no chance.
const CHANCE: f64 = 1e-4;
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
/// Refusals in a row count only once they have gone on for so long without an ok: a busy destination refuses many of a burst at
/// once, before it has answered those it took. And longer where its answers usually take their time.
const QUIET: Duration = Duration::from_millis(300);
const ANSWER_TIMES: u32 = 8;
const LONGEST_QUIET: Duration = Duration::from_secs(3);
/// Most answers kept for the share.
const MOST: usize = 4_096;

/// An answer as the breaker sees it: of a lease of the present epoch, and not charged to its job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) job: JobId,
    pub(super) worker: WorkerId,
    pub(super) class: Class,
    pub(super) status: Option<u16>,
    pub(super) latency: Duration,
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
    /// Its usual answer time: an average of its oks.
    usual: Duration,
    /// Failures since the last ok, oldest first, and when the first of them was told.
    run: VecDeque<(JobId, Class)>,
    run_since: Option<Mono>,
    /// The workers that reported them; a second one says that there are several.
    failing: BTreeSet<WorkerId>,
    /// The latest failure: a report that could not be stored comes again, and is one failure still.
    latest: Option<(JobId, Tick)>,
    suspects: BTreeSet<(Option<u16>, JobId)>,
    refused: BTreeSet<JobId>,
    recent: VecDeque<Recent>,
}

/// An answer of the last [`RATE_SPAN`].
#[derive(Debug, Clone, Copy)]
struct Recent {
    at: Mono,
    job: JobId,
    worker: WorkerId,
    is: Sort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Ok,
    /// It could not be reached, or failed.
    Hard,
    Other,
    /// A failure of the job itself.
    Charged,
}

impl Breaker {
    /// Takes note of an answer; the fault, if it gives the gate reason to open. `at_floors`: a ramp has just begun.
    pub(super) fn note(&mut self, seen: Seen, at_floors: bool, now: Mono) -> Option<Fault> {
        let failed = seen.class.is_retryable();
        if failed && self.latest.replace((seen.job, seen.begun)) == Some((seen.job, seen.begun)) {
            return None;
        }
        let is = match seen.class {
            Class::Ok => Sort::Ok,
            Class::Down | Class::Error => Sort::Hard,
            Class::JobFail | Class::Suspect | Class::Overload => Sort::Other,
        };
        self.remember(Recent { at: now, job: seen.job, worker: seen.worker, is });
        if seen.class == Class::Ok {
            self.last_ok = seen.at;
            self.usual = if self.usual.is_zero() { seen.latency } else { (self.usual * 7 + seen.latency) / 8 };
            self.run.clear();
            self.run_since = None;
            self.failing.clear();
            self.suspects.clear();
            self.refused.clear();
            return None;
        }
        if !failed {
            self.run.clear();
            self.run_since = None;
            self.failing.clear();
            return self.misconfigured(seen);
        }
        if seen.begun > self.last_ok {
            self.run.push_back((seen.job, seen.class));
            self.run_since.get_or_insert(now);
            if self.run.len() > MOST_IN_A_ROW {
                self.run.pop_front();
            }
            if self.failing.len() < 2 {
                self.failing.insert(seen.worker);
            }
        }
        if self.may_be_one_workers(now) {
            return None;
        }
        (self.in_a_row(now) || self.twice(now) || self.down_at_floors(at_floors) || self.mostly_failing())
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
        self.run.len() >= self.row() && jobs.len() >= DISTINCT_JOBS && (!refused || self.is_quiet(now))
    }

    /// How many failures in a row are no chance, by the share of those before them that were none.
    fn row(&self) -> usize {
        let before = self.recent.len().saturating_sub(self.run.len());
        let oks = self.recent.iter().filter(|answer| answer.is == Sort::Ok).count();
        let failing = 1.0 - oks as f64 / before.max(1) as f64;
        if oks == 0 || failing <= 0.0 {
            return IN_A_ROW;
        }
        // A cast of a float saturates.
        ((CHANCE.ln() / failing.ln()).ceil() as usize).clamp(IN_A_ROW, MOST_IN_A_ROW)
    }

    /// Whether its failures have gone on for longer than it would take to answer.
    fn is_quiet(&self, now: Mono) -> bool {
        let quiet = (self.usual * ANSWER_TIMES).clamp(QUIET, LONGEST_QUIET);
        self.run_since.is_some_and(|since| now.since(since) >= quiet)
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
        let lately = self.recent.iter().filter(move |answer| now.since(answer.at) <= RATE_SPAN);
        lately.filter(|answer| answer.is == Sort::Ok).map(|answer| answer.worker)
    }

    /// Low volume: the same job twice, neither time for a reason of its own.
    fn twice(&self, now: Mono) -> bool {
        let Some((job, class)) = self.run.back() else { return false };
        let outage = |class: &Class| matches!(class, Class::Down | Class::Overload);
        let quiet = *class != Class::Overload || self.is_quiet(now);
        quiet && outage(class) && self.run.iter().filter(|(other, class)| other == job && outage(class)).count() >= 2
    }

    fn down_at_floors(&self, at_floors: bool) -> bool {
        let mut last = self.run.iter().rev().take(2);
        match (last.next(), last.next()) {
            (Some((one, Class::Down)), Some((other, Class::Down))) => at_floors && one != other,
            _ => false,
        }
    }

    /// A failure that counts against its job: of an outage it says nothing, of how much fails by chance it does.
    pub(super) fn note_charged(&mut self, job: JobId, worker: WorkerId, now: Mono) {
        self.remember(Recent { at: now, job, worker, is: Sort::Charged });
    }

    fn remember(&mut self, answer: Recent) {
        self.recent.push_back(answer);
        while self.recent.len() > MOST || self.recent.front().is_some_and(|old| answer.at.since(old.at) > RATE_SPAN) {
            self.recent.pop_front();
        }
    }

    /// Whether it got through to anybody of late.
    pub(super) fn is_alive(&self, now: Mono) -> bool {
        self.oks(now).next().is_some()
    }

    /// Nearly all answers of late were failures.
    fn mostly_failing(&self) -> bool {
        let judged = || self.recent.iter().filter(|answer| answer.is != Sort::Charged);
        let jobs: BTreeSet<JobId> = judged().map(|answer| answer.job).collect();
        let failures = judged().filter(|answer| answer.is == Sort::Hard).count();
        jobs.len() >= RATE_ANSWERS && failures as f64 >= RATE_SHARE * judged().count() as f64
    }

    /// Whether `worker` has of late reached the destination never, and another has: then it is that worker's network.
    pub(super) fn is_cut_off(&self, worker: WorkerId, now: Mono) -> bool {
        self.oks(now).any(|other| other != worker) && !self.oks(now).any(|other| other == worker)
    }
}
