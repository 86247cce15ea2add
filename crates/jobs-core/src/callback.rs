//! What a job's caller is told: that it has ended, with its outcome and the destination's answer; and, if it was wanted, that it is
//! still being tried. Each is a job of its own, made in the step that ends or accepts the other, and so no less certain.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::job::{DestinationName, Job, JobId, NewJob, Priority, Request, State};
use crate::outcome::Response;
use crate::time::Timestamp;
use crate::trace;

/// Whom to tell, as it is asked for with a new job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    pub destination: DestinationName,
    /// Told once that the job is still being tried, if it is after so long; `None`: not told.
    pub still_trying_after: Option<Duration>,
}

/// Bits of a UUID of version 7 that are free to choose and come last.
const FREE_BITS: u32 = 62;
const NOTICE: u64 = 1;
/// Each end of a job, which a redrive may follow, is told under an id of its own.
const END: u64 = 2;

/// The job that tells of the end of `job`. `None` while it has not ended, or where nobody wants to know. `answer`: the
/// destination's last, with its status.
pub fn of_end(job: &Job, answer: Option<&(Option<u16>, Response)>) -> Option<NewJob> {
    let (ended_at, dead_reason) = match &job.state {
        State::Pending(_) | State::Leased(_) => return None,
        State::Succeeded { at } | State::Cancelled { at } => (*at, None),
        State::Dead { at, reason } => (*at, Some(*reason)),
    };
    let response = answer.map(|(status, response)| {
        json!({
            "status": status,
            "content_type": response.content_type,
            // Other bytes than text are at the job's own address.
            "body": std::str::from_utf8(&response.body).ok(),
            "truncated": response.truncated,
        })
    });
    let body = json!({
        "event": "job.ended",
        "job": {
            "id": job.id,
            "destination": job.destination,
            "state": job.state.name(),
            "dead_reason": dead_reason,
            "attempts": job.progress.attempts,
            "last_error": job.progress.last_error,
            "created_at": job.accepted_at,
            "ended_at": ended_at,
            "trace_id": trace::trace_id(job.traceparent.as_deref(), job.id),
        },
        "response": response,
    });
    let kind = END + 8 * u64::from(job.progress.generation) + job.state.name() as u64;
    Some(told(job, job.callback.clone()?, kind, ended_at, &body))
}

/// The job that tells, `after` so long, that `job`, which was just accepted, is still being tried. It is cancelled when `job`
/// ends.
pub fn still_trying(job: &Job, after: Duration) -> Option<NewJob> {
    let body = json!({
        "event": "job.still_trying",
        "job": {
            "id": job.id,
            "destination": job.destination,
            "created_at": job.accepted_at,
            "trace_id": trace::trace_id(job.traceparent.as_deref(), job.id),
        },
    });
    Some(told(job, job.callback.clone()?, NOTICE, job.accepted_at.plus(after), &body))
}

/// The id of the job that [`still_trying`] makes.
pub fn notice_id(job: &Job) -> JobId {
    id_of(job.id, NOTICE)
}

fn told(job: &Job, destination: DestinationName, kind: u64, run_at: Timestamp, body: &Value) -> NewJob {
    NewJob {
        id: id_of(job.id, kind),
        id_is_new: false,
        destination,
        request: Request {
            content_type: Some("application/json".to_owned()),
            body: Bytes::from(body.to_string()),
            ..Request::default()
        },
        idempotency: None,
        run_at,
        expires_after: None,
        priority: Priority::default(),
        ordering_key: None,
        max_attempts: None,
        traceparent: job.traceparent.clone(),
        redriven_from: None,
        callback: None,
    }
}

/// As old as `job`'s own id, and always the same for the same `kind`.
fn id_of(job: JobId, kind: u64) -> JobId {
    let own = job.0.as_u128();
    let mut mixed = (own as u64) ^ kind.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let free = u128::from(mixed ^ (mixed >> 31)) & ((1 << FREE_BITS) - 1);
    JobId(Uuid::from_u128((own >> FREE_BITS) << FREE_BITS | free))
}
