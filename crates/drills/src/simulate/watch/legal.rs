//! The transitions there are. A test demands that a thousand seeds see each of them.

use jobs_core::dispatch::GateStateName;
use jobs_core::job::{Cause, DeadReason, State, StateName};

/// Every legal transition of a job and of a gate, by name.
pub const TRANSITIONS: &[&str] = &[
    "enqueue: accepted",
    "enqueue: replayed",
    "enqueue: key reused",
    "claim: new",
    "claim: after its own failure",
    "claim: after its destination's failure",
    "claim: redriven",
    "claim: released by a recovery",
    "extend: renewed",
    "extend: lost",
    "extend: told to cancel",
    "settle: succeeded",
    "settle: late ok, pending",
    "settle: late ok, a newer lease",
    "settle: late ok, dead",
    "settle: late ok, cancelled",
    "settle: retried, charged",
    "settle: retried, uncharged",
    "settle: dead, refused",
    "settle: dead, exhausted",
    "settle: dead, expired",
    "settle: dead, unknown",
    "settle: cancelled",
    "settle: repeated",
    "settle: lease lost",
    "settle: already finished",
    "release: waits again",
    "release: cancelled",
    "lapse: waits again",
    "lapse: cancelled",
    "lapse: dead, lost",
    "lapse: dead, unknown",
    "cancel: pending",
    "cancel: leased",
    "cancel: blocking head",
    "cancel: already cancelled",
    "cancel: finished",
    "redrive: dead",
    "redrive: cancelled",
    "redrive: run now",
    "redrive: leased",
    "redrive: succeeded",
    "expire: expired",
    "expire: unknown",
    "corrupt: dead",
    "purge",
    "claim: forgotten by a crash",
    "gate: closed to open",
    "gate: ramp to open",
    "gate: open to ramp",
    "gate: ramp to closed",
    "gate: paused",
    "gate: resumed",
];

pub(super) fn of_gate(before: Option<GateStateName>, after: GateStateName) -> Option<&'static str> {
    use GateStateName::{Closed, Open, Paused, Ramp};
    match (before?, after) {
        (Closed, Open) => Some("gate: closed to open"),
        (Ramp, Open) => Some("gate: ramp to open"),
        (Open, Ramp) => Some("gate: open to ramp"),
        (Ramp, Closed) => Some("gate: ramp to closed"),
        (_, Paused) => Some("gate: paused"),
        (Paused, _) => Some("gate: resumed"),
        // Between two looks a gate may pass through a state unseen.
        (Closed | Ramp | Open, Closed | Ramp) | (Open, Open) => None,
    }
}

pub(super) fn of_claim(cause: Cause, released: bool) -> &'static str {
    match cause {
        _ if released => "claim: released by a recovery",
        Cause::New => "claim: new",
        Cause::Job => "claim: after its own failure",
        Cause::Destination => "claim: after its destination's failure",
        Cause::Manual => "claim: redriven",
    }
}

/// What the holder's settle made of a job.
pub(super) fn of_settle(after: &State, charged: bool) -> Option<&'static str> {
    match after {
        State::Succeeded { .. } => Some("settle: succeeded"),
        State::Pending(_) if charged => Some("settle: retried, charged"),
        State::Pending(_) => Some("settle: retried, uncharged"),
        State::Cancelled { .. } => Some("settle: cancelled"),
        State::Dead { reason, .. } => match reason {
            DeadReason::Permanent => Some("settle: dead, refused"),
            DeadReason::Exhausted => Some("settle: dead, exhausted"),
            DeadReason::Expired => Some("settle: dead, expired"),
            DeadReason::Unknown => Some("settle: dead, unknown"),
            DeadReason::Lost | DeadReason::Corrupt => None,
        },
        State::Leased(_) => None,
    }
}

/// What a late ok found.
pub(super) fn of_late_ok(before: StateName) -> Option<&'static str> {
    match before {
        StateName::Pending => Some("settle: late ok, pending"),
        StateName::Leased => Some("settle: late ok, a newer lease"),
        StateName::Dead => Some("settle: late ok, dead"),
        StateName::Cancelled => Some("settle: late ok, cancelled"),
        StateName::Succeeded => None,
    }
}

pub(super) fn of_lapse(after: &State) -> Option<&'static str> {
    match after {
        State::Pending(_) => Some("lapse: waits again"),
        State::Cancelled { .. } => Some("lapse: cancelled"),
        State::Dead { reason: DeadReason::Lost, .. } => Some("lapse: dead, lost"),
        State::Dead { reason: DeadReason::Unknown, .. } => Some("lapse: dead, unknown"),
        State::Dead { .. } | State::Leased(_) | State::Succeeded { .. } => None,
    }
}

pub(super) fn of_expiry(after: &State) -> Option<&'static str> {
    match after {
        State::Dead { reason: DeadReason::Expired, .. } => Some("expire: expired"),
        State::Dead { reason: DeadReason::Unknown, .. } => Some("expire: unknown"),
        State::Dead { .. }
        | State::Pending(_)
        | State::Leased(_)
        | State::Succeeded { .. }
        | State::Cancelled { .. } => None,
    }
}
