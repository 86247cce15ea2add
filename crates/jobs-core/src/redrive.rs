//! Redriving many jobs at once: what a mass redrive is, and what it does next.
//!
//! It counts what its filter finds; that is all a preview does. Then it redrives a few jobs, the canary, waits for their
//! outcome, and goes on with the others, earliest accepted first, so that jobs of one ordering key come back in their order.
//! It stops by itself where too many fail again. Everything it knows is in [`MassRedrive`], which a store keeps: a restart goes on
//! where the one before ended. What it redrives had ended before it was asked for, so no job is redriven by it a second time.
//!
//! A job that fails again and will be tried once more has failed, for this purpose, as soon as a failure is charged to it: one
//! that its destination is to blame for says nothing about the redrive.

use serde::{Deserialize, Serialize};

use crate::job::{Job, State, StateName};
use crate::store::Filter;
use crate::time::{Mono, Timestamp};

/// Outcomes that are needed before the share of failures means something; the canary's are taken as they are.
pub const ENOUGH: u64 = 10;

/// Most jobs that one step counts or redrives: a commit stays short.
pub const STEP: u32 = 500;

/// What an operator asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its state is dead or cancelled.
    pub filter: Filter,
    pub mode: Mode,
    /// So many jobs go first, and the others once these have ended well; 0: none.
    pub canary: u32,
    /// Jobs a second; `None`: as fast as the store takes them. Calls are limited by the gate all the same.
    pub per_second: Option<f64>,
    /// 0 to 1: it stops where a larger share of the outcomes is failures. 1 never stops it.
    pub stop_on_failure_ratio: f64,
    /// See [`crate::lifecycle::redrive`].
    pub new_key: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Mode {
    /// Only counts.
    Preview,
    Run,
}

/// How far a mass redrive has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Counting,
    /// A preview has counted all.
    Previewed,
    /// The first few are tried.
    Canary,
    Running,
    /// All that were to be redriven are.
    Done,
}

/// Why one rests in its phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub reason: String,
    /// Not by hand.
    pub by_rule: bool,
}

/// How the redriven jobs have fared so far. Each counts one time, when it is first known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    pub succeeded: u64,
    /// A failure was charged to them, or they are dead again.
    pub failed: u64,
    pub cancelled: u64,
}

/// How one redriven job has fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Succeeded,
    Failed,
    Cancelled,
}

/// A mass redrive, as a store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct MassRedrive {
    /// 1 at first, rising.
    pub number: u32,
    pub plan: Plan,
    /// The principal who asked for it.
    pub by: String,
    pub asked_at: Timestamp,
    pub updated_at: Timestamp,
    pub phase: Phase,
    pub stop: Option<Stop>,
    /// All jobs up to this `seq` have been counted.
    pub counted_to: u64,
    /// Jobs the filter has found so far.
    pub matched: u64,
    /// All jobs up to this `seq` have been redriven, if they were to be.
    pub redriven_to: u64,
    pub redriven: u64,
    /// Found, but no longer as the filter wants them when their turn came.
    pub skipped: u64,
    pub tally: Tally,
    /// Outcomes before it was resumed: whoever resumed it knew them.
    pub forgiven: Tally,
}

/// What is to be done about a mass redrive now.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Look for the next jobs above `counted_to`, and count them.
    Count,
    /// Redrive at most so many of the jobs above `redriven_to`.
    Redrive(u64),
    /// Nothing until outcomes come in.
    Wait,
    Change(Change),
    /// It rests, or has ended.
    Nothing,
}

/// A change beside the redriving itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// `found` more match up to `seq` `to`; `end`: there are no others.
    Counted {
        to: u64,
        found: u64,
        end: bool,
    },
    /// The canary has ended well.
    CanaryPassed,
    Stop(Stop),
    Resume,
}

/// Its phase does not allow the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit;

impl MassRedrive {
    /// Only what has ended by `now` is redriven.
    pub fn new(number: u32, mut plan: Plan, by: String, now: Timestamp) -> Self {
        plan.filter.finished_until = Some(plan.filter.finished_until.map_or(now, |until| until.min(now)));
        MassRedrive {
            number,
            plan,
            by,
            asked_at: now,
            updated_at: now,
            phase: Phase::Counting,
            stop: None,
            counted_to: 0,
            matched: 0,
            redriven_to: 0,
            redriven: 0,
            skipped: 0,
            tally: Tally::default(),
            forgiven: Tally::default(),
        }
    }

    /// Whether there is, or will be, something to do about it.
    pub fn is_active(&self) -> bool {
        self.stop.is_none() && matches!(self.phase, Phase::Counting | Phase::Canary | Phase::Running)
    }

    /// What is to be done next.
    pub fn next(&self) -> Step {
        if self.stop.is_some() {
            return Step::Nothing;
        }
        let left = u64::from(self.plan.canary).saturating_sub(self.redriven);
        match self.phase {
            Phase::Counting => Step::Count,
            Phase::Canary => match self.too_many_failed() {
                Some(stop) => Step::Change(Change::Stop(stop)),
                None if left > 0 => Step::Redrive(left),
                None if self.tally.told() < self.redriven => Step::Wait,
                None => Step::Change(Change::CanaryPassed),
            },
            Phase::Running => match self.too_many_failed() {
                Some(stop) => Step::Change(Change::Stop(stop)),
                None => Step::Redrive(u64::MAX),
            },
            Phase::Previewed | Phase::Done => Step::Nothing,
        }
    }

    /// Takes note of a change.
    pub fn apply(&mut self, change: Change, now: Timestamp) -> Result<(), Unfit> {
        let may_stop = matches!(self.phase, Phase::Counting | Phase::Canary | Phase::Running);
        match change {
            Change::Counted { .. } | Change::CanaryPassed if self.stop.is_some() => return Err(Unfit),
            Change::Counted { to, found, end } if self.phase == Phase::Counting => {
                self.counted_to = to;
                self.matched += found;
                self.phase = if end { self.after_counting() } else { Phase::Counting };
            }
            Change::CanaryPassed if self.phase == Phase::Canary => self.phase = Phase::Running,
            Change::Stop(stop) if may_stop && self.stop.is_none() => self.stop = Some(stop),
            Change::Resume if self.stop.is_some() => {
                let was_by_rule = self.stop.take().is_some_and(|stop| stop.by_rule);
                if was_by_rule && self.phase == Phase::Canary {
                    self.phase = Phase::Running;
                }
                self.forgiven = self.tally;
            }
            Change::Counted { .. } | Change::CanaryPassed | Change::Stop(_) | Change::Resume => return Err(Unfit),
        }
        self.updated_at = now;
        Ok(())
    }

    /// Whether jobs may be redriven for it now.
    pub fn may_redrive(&self) -> bool {
        self.stop.is_none() && matches!(self.phase, Phase::Canary | Phase::Running)
    }

    /// Whether `job`, which the filter found a moment ago, is still to be redriven.
    pub fn still_wants(&self, job: &Job) -> bool {
        job.state.name().is_terminal() && self.plan.filter.fits(job)
    }

    /// All up to `seq` `to` have had their turn; `end`: there are no others.
    pub fn advance(&mut self, to: u64, redriven: u64, skipped: u64, end: bool, now: Timestamp) {
        self.redriven_to = to;
        self.redriven += redriven;
        self.skipped += skipped;
        if end {
            self.phase = Phase::Done;
        }
        self.updated_at = now;
    }

    fn after_counting(&self) -> Phase {
        match (self.plan.mode, self.plan.canary) {
            (Mode::Preview, _) => Phase::Previewed,
            (Mode::Run, 0) => Phase::Running,
            (Mode::Run, _) => Phase::Canary,
        }
    }

    /// The rule that stops it, if it applies. A canary whose outcomes are all known is judged however few they are.
    fn too_many_failed(&self) -> Option<Stop> {
        let failed = self.tally.failed - self.forgiven.failed;
        let told = failed + self.tally.succeeded - self.forgiven.succeeded;
        let all_told = self.phase == Phase::Canary
            && self.redriven >= u64::from(self.plan.canary)
            && self.tally.told() >= self.redriven;
        let share = failed as f64 / told.max(1) as f64;
        ((told >= ENOUGH || all_told) && share > self.plan.stop_on_failure_ratio)
            .then(|| Stop { reason: format!("{failed} of {told} outcomes were failures"), by_rule: true })
    }
}

impl Tally {
    /// Jobs whose outcome is known.
    pub fn told(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    pub fn count(&mut self, verdict: Verdict, jobs: u64) {
        match verdict {
            Verdict::Succeeded => self.succeeded += jobs,
            Verdict::Failed => self.failed += jobs,
            Verdict::Cancelled => self.cancelled += jobs,
        }
    }
}

/// Which mass redrive a job has to tell how it fares, and what. A store counts it when a change of the job makes this
/// something that was `None` before.
pub fn verdict(job: &Job) -> Option<(u32, Verdict)> {
    let number = job.progress.redrive?;
    let verdict = match &job.state {
        State::Succeeded { .. } => Verdict::Succeeded,
        State::Dead { .. } => Verdict::Failed,
        State::Cancelled { .. } => Verdict::Cancelled,
        State::Pending(_) | State::Leased(_) if job.progress.charged > 0 => Verdict::Failed,
        State::Pending(_) | State::Leased(_) => return None,
    };
    Some((number, verdict))
}

impl Filter {
    /// Whether a job fits, as far as the job alone says: not its request's text, nor whether it is resolved.
    pub fn fits(&self, job: &Job) -> bool {
        let (ended, reason) = match &job.state {
            State::Pending(_) | State::Leased(_) => (None, None),
            State::Succeeded { at } | State::Cancelled { at } => (Some(*at), None),
            State::Dead { at, reason } => (Some(*at), Some(*reason)),
        };
        let error = || job.progress.last_error.as_deref().unwrap_or_default();
        self.state.is_none_or(|state| state == job.state.name())
            && self.destination.as_ref().is_none_or(|destination| *destination == job.destination)
            && self.dead_reason.is_none_or(|wanted| reason == Some(wanted))
            && self.error.as_deref().is_none_or(|text| error().contains(text))
            && self.created_from.is_none_or(|from| job.accepted_at >= from)
            && self.created_until.is_none_or(|until| job.accepted_at <= until)
            && self.finished_from.is_none_or(|from| ended.is_some_and(|at| at >= from))
            && self.finished_until.is_none_or(|until| ended.is_some_and(|at| at <= until))
            && (self.ids.is_empty() || self.ids.contains(&job.id))
    }

    /// Whether it names a state that can be redriven.
    pub fn is_redrivable(&self) -> bool {
        matches!(self.state, Some(StateName::Dead | StateName::Cancelled))
    }
}

/// How many jobs a rate allows: what has come due since the last look, a second's worth at most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    due: f64,
    at: Option<Mono>,
}

impl Pace {
    /// How many of `wanted` may go at `now`; `per_second` `None`: all.
    pub fn allow(&mut self, per_second: Option<f64>, wanted: u64, now: Mono) -> u64 {
        let Some(per_second) = per_second else { return wanted };
        let elapsed = self.at.map_or(0.0, |at| now.since(at).as_secs_f64());
        self.at = Some(now);
        self.due = (self.due + elapsed * per_second).min(per_second.max(1.0));
        // A cast of a float saturates and cuts off the fraction.
        (self.due as u64).min(wanted)
    }

    /// So many went.
    pub fn spend(&mut self, jobs: u64) {
        self.due -= jobs as f64;
    }
}

#[cfg(test)]
mod tests;
