//! A job as callers see it. Times are RFC 3339 in UTC with milliseconds, durations whole milliseconds.

use std::time::Duration;

use jobs_core::job::{Attempt, DeadReason, DestinationName, Epoch, Job, JobId, Priority, State, StateName, WorkerId};
use jobs_core::steering::Resolution;
use jobs_core::time::Timestamp;
use jobs_core::trace;
use serde::Serialize;
use utoipa::ToSchema;

/// A job's JSON. Members without a value are `null`, so that a reader need not ask whether they are there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView<'a> {
    id: JobId,
    destination: &'a DestinationName,
    state: StateName,
    attempts: u32,
    /// When it may be tried next, by its own schedule; `null` once it has ended.
    run_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    expires_at: Option<Timestamp>,
    priority: Priority,
    ordering_key: Option<&'a str>,
    last_error: Option<&'a str>,
    dead_reason: Option<DeadReason>,
    redriven_from: Option<JobId>,
    /// The destination that is told of its end.
    callback: Option<&'a DestinationName>,
    /// Of W3C Trace Context: the caller's, or the job's own.
    trace_id: String,
    /// A worker has it in hand, but nobody wants it any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancel_requested: bool,
    /// Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_log: Option<Vec<AttemptView<'a>>>,
    /// How an operator has settled it otherwise. Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved: Option<Option<&'a Resolution>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
struct AttemptView<'a> {
    number: u32,
    epoch: Epoch,
    started_at: Timestamp,
    duration_ms: u64,
    outcome: &'static str,
    charged: bool,
    status: Option<u16>,
    error: Option<&'a str>,
    response_excerpt: Option<&'a str>,
    next_run_at: Option<Timestamp>,
    retry_delay_ms: Option<u64>,
    worker: WorkerId,
    /// Its span in the job's trace.
    span_id: String,
}

impl<'a> JobView<'a> {
    /// Without its attempts, as lists show it.
    pub(crate) fn summary(job: &'a Job) -> Self {
        let (run_at, cancel_requested) = match &job.state {
            State::Pending(pending) => (Some(pending.run_at), false),
            State::Leased(leased) => (Some(leased.from.run_at), leased.cancel_requested),
            State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => (None, false),
        };
        let dead_reason = match &job.state {
            State::Dead { reason, .. } => Some(*reason),
            State::Pending(_) | State::Leased(_) | State::Succeeded { .. } | State::Cancelled { .. } => None,
        };
        JobView {
            id: job.id,
            destination: &job.destination,
            state: job.state.name(),
            attempts: job.progress.attempts,
            run_at,
            created_at: job.accepted_at,
            updated_at: job.updated_at,
            expires_at: job.expires_at,
            priority: job.priority,
            ordering_key: job.ordering_key.as_deref(),
            last_error: job.progress.last_error.as_deref(),
            dead_reason,
            redriven_from: job.redriven_from,
            callback: job.callback.as_ref(),
            trace_id: trace::trace_id(job.traceparent.as_deref(), job.id),
            cancel_requested,
            attempt_log: None,
            resolved: None,
        }
    }

    /// With its attempts, oldest first.
    pub(crate) fn whole(job: &'a Job, attempts: &'a [Attempt], resolution: Option<&'a Resolution>) -> Self {
        let attempt_log = Some(attempts.iter().map(|attempt| AttemptView::of(attempt, job.id)).collect());
        JobView { attempt_log, resolved: Some(resolution), ..JobView::summary(job) }
    }
}

impl<'a> AttemptView<'a> {
    fn of(attempt: &'a Attempt, job: JobId) -> Self {
        AttemptView {
            number: attempt.number,
            epoch: attempt.epoch,
            started_at: attempt.started_at,
            duration_ms: millis(attempt.duration),
            outcome: attempt.outcome.as_str(),
            charged: attempt.charged,
            status: attempt.status,
            error: attempt.error.as_deref(),
            response_excerpt: attempt.response_excerpt.as_deref(),
            next_run_at: attempt.next_run_at,
            retry_delay_ms: attempt.retry_delay.map(millis),
            worker: attempt.worker,
            span_id: trace::span_id(job, attempt.epoch),
        }
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
