//! What a job may become: one function per verb, each with every state written out.
//!
//! No other file changes a job's state. A store selects a row, calls the function here, and writes what it left behind;
//! it never decides. The table this follows is in the README, under "A job's life".

mod settle;

use std::time::Duration;

use crate::destination::{OnUnknown, OrderingOnDead, Policy};
use crate::job::{
    Attempt, AttemptOutcome, Cause, DeadReason, Epoch, Job, Leased, NewJob, Pending, Progress, Request, State, Tick,
    WorkerId,
};
use crate::time::Timestamp;

pub use settle::{DuplicateCause, SettleContext, SettleResult, Settled, release, settle};

/// A job is accepted: pending, due at its `run_at`. The caller stores both parts in one durable commit before it answers.
///
/// `last_issued`: the last epoch issued to any job so far. No lease of this one is under it or below.
pub fn enqueue(new: NewJob, seq: u64, last_issued: Epoch, now: Timestamp) -> (Job, Request) {
    let id = if new.id_is_new { new.id.ending_in(seq) } else { new.id };
    let checksum = Job::checksum_of(id, &new.destination, now, new.ordering_key.as_deref(), &new.request);
    let job = Job {
        id,
        seq,
        destination: new.destination,
        accepted_at: now,
        priority: new.priority,
        ordering_key: new.ordering_key,
        max_attempts: new.max_attempts,
        expires_after: new.expires_after,
        traceparent: new.traceparent,
        redriven_from: new.redriven_from,
        callback: new.callback.map(|callback| callback.destination),
        checksum,
        state: State::Pending(Pending { run_at: new.run_at.max(now), cause: Cause::New, fail_epoch: 0 }),
        updated_at: now,
        expires_at: new.expires_after.map(|after| now.plus(after)),
        progress: Progress { generation_floor: last_issued, ..Progress::default() },
    };
    (job, new.request)
}

/// What a claim gives a job besides its holder; the gateway's side of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claiming {
    pub epoch: Epoch,
    pub worker: WorkerId,
    /// The destination's present epoch.
    pub destination_epoch: u64,
    /// Failures in an epoch of the destination below this no longer delay the job.
    pub released_below: u64,
    pub begun: Tick,
    /// See [`Leased::ok_begun`].
    pub ok_begun: Tick,
}

/// Why a job cannot be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclaimable {
    NotPending,
    NotDue,
    /// Its time has run out: [`expire`] it instead.
    Expired,
}

/// A due job gets a holder. That it is the head of its ordering key is the store's to see to.
pub fn claim(job: &mut Job, claiming: &Claiming, now: Timestamp) -> Result<(), Unclaimable> {
    let from = match &job.state {
        State::Pending(pending) => *pending,
        State::Leased(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => {
            return Err(Unclaimable::NotPending);
        }
    };
    if out_of_time(job, now).is_some() {
        return Err(Unclaimable::Expired);
    }
    if !is_due(&from, claiming.released_below, now) {
        return Err(Unclaimable::NotDue);
    }
    job.progress.last_epoch = claiming.epoch;
    job.updated_at = now;
    job.state = State::Leased(Leased {
        epoch: claiming.epoch,
        worker: claiming.worker,
        claimed_at: now,
        destination_epoch: claiming.destination_epoch,
        begun: claiming.begun,
        ok_begun: claiming.ok_begun,
        from,
        cancel_requested: false,
    });
    Ok(())
}

/// Whether a waiting job may be tried: its time has come, or its destination failed it in an epoch below `released_below`.
pub fn is_due(pending: &Pending, released_below: u64, now: Timestamp) -> bool {
    pending.run_at <= now || (pending.cause == Cause::Destination && pending.fail_epoch < released_below)
}

/// What became of a lease whose holder went silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapsed {
    /// The line for the attempt log.
    pub attempt: Attempt,
    /// The lease that ended.
    pub ended: Leased,
}

/// The deadline of lease `epoch` has passed: the job waits again, at once the first time, with backoff from then on
/// (a job that kills its workers must not kill a fleet). `None` if that lease is no longer live.
pub fn lapse(job: &mut Job, epoch: Epoch, policy: &Policy, now: Timestamp) -> Option<Lapsed> {
    let lease = match &job.state {
        State::Leased(lease) if lease.epoch == epoch => lease.clone(),
        State::Leased(_)
        | State::Pending(_)
        | State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. } => return None,
    };
    let number = job.next_attempt_number();
    job.progress.lost += 1;
    may_have_arrived(job, policy, lease.claimed_at);
    let lost = job.progress.lost;
    let delay = if lost < 2 { Duration::ZERO } else { policy.retry.delay(lost - 1, job.id, number, None) };
    let error = "lease lapsed: the worker went silent, and what became of the call is not known";
    job.progress.last_error = Some(error.to_owned());
    job.updated_at = now;
    let dead = |reason| State::Dead { at: now, reason };
    job.state = if lease.cancel_requested {
        State::Cancelled { at: now }
    } else if policy.on_unknown == OnUnknown::DeadLetter {
        dead(DeadReason::Unknown)
    } else if policy.max_lost.is_some_and(|most| lost >= most) {
        dead(DeadReason::Lost)
    } else {
        State::Pending(Pending { run_at: now.plus(delay), cause: Cause::Job, fail_epoch: lease.destination_epoch })
    };
    let next_run_at = run_at(job);
    let attempt = Attempt {
        number,
        epoch,
        worker: lease.worker,
        started_at: lease.claimed_at,
        duration: now.since(lease.claimed_at),
        outcome: AttemptOutcome::Lost,
        charged: false,
        status: None,
        error: Some(error.to_owned()),
        response_excerpt: None,
        next_run_at,
        retry_delay: next_run_at.map(|_| delay),
    };
    Some(Lapsed { attempt, ended: lease })
}

/// The answer to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    Cancelled,
    /// A worker holds it: it ends cancelled unless it turns out done, or refused for good.
    Requested,
    AlreadyCancelled,
    /// It has ended otherwise.
    Finished,
}

/// The caller no longer wants the job. A dead job is cancelled only where, as head of its ordering key, it blocks others.
pub fn cancel(job: &mut Job, ordering_on_dead: OrderingOnDead, now: Timestamp) -> Cancel {
    let blocks = job.ordering_key.is_some() && ordering_on_dead == OrderingOnDead::Block;
    match &mut job.state {
        State::Pending(_) => {}
        State::Dead { .. } if blocks => {}
        State::Leased(lease) => {
            lease.cancel_requested = true;
            job.updated_at = now;
            return Cancel::Requested;
        }
        State::Cancelled { .. } => return Cancel::AlreadyCancelled,
        State::Succeeded { .. } | State::Dead { .. } => return Cancel::Finished,
    }
    job.state = State::Cancelled { at: now };
    job.updated_at = now;
    Cancel::Cancelled
}

/// The answer to a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redrive {
    /// A new generation waits.
    Redriven,
    /// It was waiting anyway, and is due now.
    RunNow,
    Leased,
    Succeeded,
}

/// An operator wants the job tried again: from its end with everything counted anew, or, still waiting, now.
///
/// `new_key`: the destination is to receive another `Idempotency-Key`, because it answers the old one from memory.
/// `last_issued`: as in [`enqueue`], for the new generation.
pub fn redrive(job: &mut Job, new_key: bool, last_issued: Epoch, now: Timestamp) -> Redrive {
    let answer = match &mut job.state {
        State::Leased(_) => return Redrive::Leased,
        State::Succeeded { .. } => return Redrive::Succeeded,
        State::Pending(pending) => {
            pending.run_at = pending.run_at.min(now);
            Redrive::RunNow
        }
        State::Dead { .. } | State::Cancelled { .. } => {
            let old = std::mem::take(&mut job.progress);
            job.progress = Progress {
                generation: old.generation + 1,
                generation_floor: old.last_epoch.max(last_issued),
                last_epoch: old.last_epoch,
                key_generation: old.key_generation,
                ..Progress::default()
            };
            job.expires_at = job.expires_after.map(|after| now.plus(after));
            job.state = State::Pending(Pending { run_at: now, cause: Cause::Manual, fail_epoch: 0 });
            Redrive::Redriven
        }
    };
    if new_key {
        job.progress.key_generation = job.progress.generation.max(job.progress.key_generation + 1);
        job.progress.resend_until = None;
    }
    job.updated_at = now;
    answer
}

/// [`redrive`], for mass redrive `number`. Only of a job that has ended and can be redriven; answers whether it was.
pub fn redrive_with_others(job: &mut Job, number: u32, new_key: bool, last_issued: Epoch, now: Timestamp) -> bool {
    match &job.state {
        State::Dead { .. } | State::Cancelled { .. } => {}
        State::Pending(_) | State::Leased(_) | State::Succeeded { .. } => return false,
    }
    redrive(job, new_key, last_issued, now);
    job.progress.redrive = Some(number);
    true
}

/// A waiting job whose time has run out is dead, whatever gate or pause say. Answers whether it was.
pub fn expire(job: &mut Job, now: Timestamp) -> Option<DeadReason> {
    let reason = match &job.state {
        State::Pending(_) => out_of_time(job, now)?,
        State::Leased(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => return None,
    };
    job.state = State::Dead { at: now, reason };
    job.updated_at = now;
    Some(reason)
}

/// What the disk gave back is not what was accepted: never delivered.
pub fn corrupt(job: &mut Job, now: Timestamp) {
    match &job.state {
        State::Pending(_) => {
            job.state = State::Dead { at: now, reason: DeadReason::Corrupt };
            job.updated_at = now;
            job.progress.last_error = Some("checksum mismatch: what was read back is not what was accepted".to_owned());
        }
        State::Leased(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => {}
    }
}

/// When a waiting job is to be ended by [`expire`]: the earlier of its expiry and the end of its idempotency window.
pub fn deadline(job: &Job) -> Option<Timestamp> {
    match (job.expires_at, job.progress.resend_until) {
        (Some(expires_at), Some(resend_until)) => Some(expires_at.min(resend_until)),
        (one, other) => one.or(other),
    }
}

/// Why a job waiting at `now` must no longer be sent, if it must not.
pub(crate) fn out_of_time(job: &Job, now: Timestamp) -> Option<DeadReason> {
    if job.expires_at.is_some_and(|at| at <= now) {
        Some(DeadReason::Expired)
    } else if job.progress.resend_until.is_some_and(|until| until <= now) {
        Some(DeadReason::Unknown)
    } else {
        None
    }
}

/// The destination may have seen the job's key at `started_at`: its idempotency window, where it has one, is running.
fn may_have_arrived(job: &mut Job, policy: &Policy, started_at: Timestamp) {
    let until = policy.idempotency_window.map(|window| started_at.plus(window));
    job.progress.resend_until = job.progress.resend_until.or(until);
}

/// When a waiting job is to be tried.
fn run_at(job: &Job) -> Option<Timestamp> {
    match &job.state {
        State::Pending(pending) => Some(pending.run_at),
        State::Leased(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => None,
    }
}
