//! A worker says what became of a lease: the verb with the most cases, so it has a file of its own.

use std::time::Duration;

use super::{may_have_arrived, out_of_time, run_at};
use crate::charging::{Evidence, is_charged, suspect_is_condemned};
use crate::destination::{OnUnknown, Policy};
use crate::job::{
    Attempt, AttemptOutcome, Cause, DeadReason, Epoch, Job, Leased, Pending, Progress, State, Tick, WorkerId,
};
use crate::outcome::{Class, Outcome, Response};
use crate::retry::RetryPolicy;
use crate::time::Timestamp;

/// The first wait of a job that its destination refused while it took others, doubled each time in a row...
const SOON: Duration = Duration::from_millis(100);
/// ...for so many times: then it waits as after any failure.
const SOON_REPEATED: u32 = 5;

/// What the gateway knows besides the job when an outcome comes in.
#[derive(Debug, Clone, Copy)]
pub struct SettleContext<'a> {
    /// The worker that reports, which need not be the holder.
    pub worker: WorkerId,
    /// The number of the present gateway start: an older start may have issued epochs that a crash made it forget.
    pub start: u32,
    pub policy: &'a Policy,
    pub evidence: &'a Evidence,
}

/// What a settle did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub result: SettleResult,
    /// The line for the attempt log, if the outcome was taken.
    pub attempt: Option<Attempt>,
    /// The live lease that this ended: the reporter's own, or after a late ok that of a newer holder.
    pub ended: Option<Leased>,
    pub duplicate: Option<DuplicateCause>,
}

/// The answer to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleResult {
    /// Taken.
    Applied,
    /// It had been taken before.
    Repeated,
    /// The lease is another's by now, or never was: the outcome changes nothing.
    LeaseLost,
    /// The job has ended: the outcome changes nothing.
    AlreadyFinished,
}

/// Why the destination may come to see a job twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DuplicateCause {
    /// A worker went silent with the job in hand.
    LeaseLapsed,
    /// The request was written and no answer came.
    UnknownOutcome,
}

impl DuplicateCause {
    pub const ALL: [DuplicateCause; 2] = [DuplicateCause::LeaseLapsed, DuplicateCause::UnknownOutcome];

    pub const fn as_str(self) -> &'static str {
        match self {
            DuplicateCause::LeaseLapsed => "lease_lapsed",
            DuplicateCause::UnknownOutcome => "unknown_outcome",
        }
    }
}

/// The outcome of the attempt made under lease `epoch`.
///
/// From the holder it decides the job. From a former holder only an ok counts: a success is a fact, whoever holds the job by now.
pub fn settle(job: &mut Job, epoch: Epoch, outcome: &Outcome, context: &SettleContext<'_>, now: Timestamp) -> Settled {
    let unchanged = |result| Settled { result, attempt: None, ended: None, duplicate: None };
    match &job.state {
        State::Leased(lease) if lease.epoch == epoch => {
            let lease = lease.clone();
            settle_held(job, lease, outcome, context, now)
        }
        _ if !is_of_this_generation(job, epoch, context.start) => unchanged(SettleResult::LeaseLost),
        State::Succeeded { .. } if job.progress.settled_epoch == epoch => unchanged(SettleResult::Repeated),
        State::Succeeded { .. } => unchanged(SettleResult::AlreadyFinished),
        State::Pending(_) | State::Leased(_) | State::Dead { .. } | State::Cancelled { .. }
            if outcome.class == Class::Ok =>
        {
            settle_late_ok(job, epoch, outcome, context, now)
        }
        _ if job.progress.settled_epoch == epoch => unchanged(SettleResult::Repeated),
        State::Dead { .. } | State::Cancelled { .. } => unchanged(SettleResult::AlreadyFinished),
        State::Pending(_) | State::Leased(_) => unchanged(SettleResult::LeaseLost),
    }
}

/// The job was not sent: it waits as it did before the claim, and nothing is counted.
pub fn release(job: &mut Job, epoch: Epoch, now: Timestamp) -> Settled {
    let (result, ended) = match &job.state {
        State::Leased(lease) if lease.epoch == epoch => {
            let lease = lease.clone();
            job.state = if lease.cancel_requested { State::Cancelled { at: now } } else { State::Pending(lease.from) };
            job.progress.settled_epoch = epoch;
            job.updated_at = now;
            (SettleResult::Applied, Some(lease))
        }
        _ if epoch != Epoch::NONE && job.progress.settled_epoch == epoch => (SettleResult::Repeated, None),
        State::Pending(_) | State::Leased(_) => (SettleResult::LeaseLost, None),
        State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => (SettleResult::AlreadyFinished, None),
    };
    Settled { result, attempt: None, ended, duplicate: None }
}

/// Whether `epoch` can have been issued to the present generation of the job. One of an earlier gateway start may be
/// above the job's last known one, because the claim that issued it need not have survived a crash.
fn is_of_this_generation(job: &Job, epoch: Epoch, start: u32) -> bool {
    // Starts are numbered from 1: nobody was ever issued an epoch of start 0.
    let forgotten = epoch.start() < u64::from(start);
    epoch.start() > 0 && epoch > job.progress.generation_floor && (epoch <= job.progress.last_epoch || forgotten)
}

fn settle_held(
    job: &mut Job,
    lease: Leased,
    outcome: &Outcome,
    context: &SettleContext<'_>,
    now: Timestamp,
) -> Settled {
    let number = job.next_attempt_number();
    let started_at = lease.claimed_at;
    let before = (job.progress.attempts, job.progress.charged);
    take_note(job, outcome);
    let decision = match outcome.class {
        Class::Ok => Decision::end(State::Succeeded { at: now }),
        Class::JobFail if context.evidence.misconfigured => wait(job, &lease, outcome, context, number, now, false),
        Class::JobFail => Decision::end(State::Dead { at: now, reason: DeadReason::Permanent }),
        Class::Suspect if !context.evidence.misconfigured && suspect_is_condemned(lease.ok_begun, &job.progress) => {
            Decision::end(State::Dead { at: now, reason: DeadReason::Permanent })
        }
        Class::Suspect | Class::Overload | Class::Down | Class::Error => {
            let charged = is_charged(outcome.class, lease.begun, &job.progress, context.evidence);
            wait(job, &lease, outcome, context, number, now, charged)
        }
    };
    remember(job, outcome, context.evidence.now);
    debug_assert!(job.progress.attempts == before.0 + 1 && job.progress.charged <= before.1 + 1);
    job.progress.settled_epoch = lease.epoch;
    job.state = decision.state;
    job.updated_at = now;
    let next_run_at = run_at(job);
    let attempt = Attempt {
        number,
        epoch: lease.epoch,
        worker: context.worker,
        started_at,
        duration: outcome.latency,
        outcome: AttemptOutcome::Settled(outcome.class),
        charged: decision.charged,
        status: outcome.status,
        error: outcome.error.clone(),
        response_excerpt: outcome.response.as_ref().and_then(Response::excerpt),
        next_run_at,
        retry_delay: next_run_at.map(|_| decision.delay),
    };
    let duplicate = (outcome.unknown && next_run_at.is_some()).then_some(DuplicateCause::UnknownOutcome);
    Settled { result: SettleResult::Applied, attempt: Some(attempt), ended: Some(lease), duplicate }
}

/// What becomes of the job, and at whose expense.
struct Decision {
    state: State,
    charged: bool,
    delay: Duration,
}

impl Decision {
    fn end(state: State) -> Self {
        Decision { state, charged: false, delay: Duration::ZERO }
    }
}

/// The attempt failed and may be repeated: wait, unless something the caller or operator set forbids it.
fn wait(
    job: &mut Job,
    lease: &Leased,
    outcome: &Outcome,
    context: &SettleContext<'_>,
    number: u32,
    now: Timestamp,
    charged: bool,
) -> Decision {
    let (policy, evidence) = (context.policy, context.evidence);
    if job.progress.failures_epoch != evidence.destination_epoch {
        job.progress.failures = 0;
        job.progress.failures_epoch = evidence.destination_epoch;
    }
    let counts = !is_soon_repeated(job, outcome, evidence);
    job.progress.failures = job.progress.failures.saturating_add(u32::from(counts));
    job.progress.charged += u32::from(charged);
    if outcome.unknown {
        may_have_arrived(job, policy, lease.claimed_at);
    }
    let delay = delay(job, policy, outcome, evidence, number);
    let cause = if charged { Cause::Job } else { Cause::Destination };
    let dead = |reason| State::Dead { at: now, reason };
    let state = if lease.cancel_requested {
        State::Cancelled { at: now }
    } else if outcome.unknown && policy.on_unknown == OnUnknown::DeadLetter {
        dead(DeadReason::Unknown)
    } else if charged && job.progress.charged >= job.max_attempts.unwrap_or(policy.max_attempts) {
        dead(DeadReason::Exhausted)
    } else if let Some(reason) = out_of_time(job, now) {
        dead(reason)
    } else {
        State::Pending(Pending { run_at: now.plus(delay), cause, fail_epoch: lease.destination_epoch })
    };
    Decision { state, charged, delay }
}

/// Refused by a destination that takes others, as many as it can: its gate keeps to that, so the job need not wait for long
/// besides. One that is refused again and again has a reason of its own.
fn is_soon_repeated(job: &Job, outcome: &Outcome, evidence: &Evidence) -> bool {
    outcome.class == Class::Overload && evidence.is_paced && job.progress.overloads < SOON_REPEATED
}

/// How long the job waits after a failure that is counted already.
fn delay(job: &Job, policy: &Policy, outcome: &Outcome, evidence: &Evidence, number: u32) -> Duration {
    let Progress { failures, overloads, .. } = job.progress;
    if !is_soon_repeated(job, outcome, evidence) {
        return policy.retry.delay(failures, job.id, number, outcome.retry_after);
    }
    let soon = policy.retry.delay(failures + 1, job.id, number, None).min(SOON * 2u32.pow(overloads));
    soon.max(outcome.retry_after.unwrap_or_default().min(RetryPolicy::MAX_RETRY_AFTER))
}

/// A success reported after the lease was lost.
fn settle_late_ok(
    job: &mut Job,
    epoch: Epoch,
    outcome: &Outcome,
    context: &SettleContext<'_>,
    now: Timestamp,
) -> Settled {
    let ended = match &job.state {
        State::Leased(lease) => Some(lease.clone()),
        State::Pending(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => None,
    };
    let number = job.next_attempt_number();
    take_note(job, outcome);
    job.progress.settled_epoch = epoch;
    job.state = State::Succeeded { at: now };
    job.updated_at = now;
    let started_at = Timestamp::from_millis(
        now.as_millis().saturating_sub(i64::try_from(outcome.latency.as_millis()).unwrap_or(i64::MAX)),
    );
    let attempt = Attempt {
        number,
        epoch,
        worker: context.worker,
        started_at,
        duration: outcome.latency,
        outcome: AttemptOutcome::Settled(Class::Ok),
        charged: false,
        status: outcome.status,
        error: outcome.error.clone(),
        response_excerpt: outcome.response.as_ref().and_then(Response::excerpt),
        next_run_at: None,
        retry_delay: None,
    };
    Settled { result: SettleResult::Applied, attempt: Some(attempt), ended, duplicate: None }
}

/// Counts a settled send.
fn take_note(job: &mut Job, outcome: &Outcome) {
    job.progress.attempts += 1;
    if outcome.class != Class::Ok {
        job.progress.last_error = Some(describe(outcome));
    }
}

/// What the next failure will be judged by.
fn remember(job: &mut Job, outcome: &Outcome, now: Tick) {
    let progress = &mut job.progress;
    progress.last_settled = now;
    progress.overloads = if outcome.class == Class::Overload { progress.overloads.saturating_add(1) } else { 0 };
    match outcome.class {
        Class::Down => progress.last_down = now,
        Class::Suspect if progress.first_suspect == Tick::NEVER => progress.first_suspect = now,
        Class::Suspect | Class::Ok | Class::JobFail | Class::Overload | Class::Error => {}
    }
}

/// A failure in one line, for people.
fn describe(outcome: &Outcome) -> String {
    match (&outcome.error, outcome.status) {
        (Some(error), Some(status)) => format!("{status}: {error}"),
        (Some(error), None) => error.clone(),
        (None, Some(status)) => format!("answered {status}"),
        (None, None) => outcome.class.as_str().to_owned(),
    }
}
