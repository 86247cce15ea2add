//! What an attempt found, and what a job is, in words.

use jobs_core::job::{AttemptOutcome, DeadReason, State, StateName};
use jobs_core::outcome::Class;

use super::gate_words::Tone;

/// In a word or two.
pub(super) const fn short(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Settled(Class::Ok) => "Done",
        AttemptOutcome::Settled(Class::JobFail) => "Refused",
        AttemptOutcome::Settled(Class::Suspect) => "Refused, perhaps all are",
        AttemptOutcome::Settled(Class::Overload) => "Too busy",
        AttemptOutcome::Settled(Class::Down) => "Unreachable",
        AttemptOutcome::Settled(Class::Error) => "Failed",
        AttemptOutcome::Lost => "Worker lost",
    }
}

pub(super) const fn tone(outcome: AttemptOutcome) -> Tone {
    match outcome {
        AttemptOutcome::Settled(Class::Ok) => Tone::Good,
        AttemptOutcome::Settled(Class::JobFail | Class::Suspect) => Tone::Bad,
        AttemptOutcome::Settled(Class::Overload | Class::Down | Class::Error) | AttemptOutcome::Lost => Tone::Warn,
    }
}

pub(super) const fn state(state: StateName) -> (&'static str, Tone) {
    match state {
        StateName::Pending => ("Waiting", Tone::Quiet),
        StateName::Leased => ("In flight", Tone::Busy),
        StateName::Succeeded => ("Delivered", Tone::Good),
        StateName::Dead => ("Dead", Tone::Bad),
        StateName::Cancelled => ("Cancelled", Tone::Warn),
    }
}

pub(super) const fn dead(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::Permanent => "the destination refused it for good",
        DeadReason::Exhausted => "its attempts are spent",
        DeadReason::Expired => "its time ran out while it waited",
        DeadReason::Unknown => "the destination may have done it, and sending it again would not be safe",
        DeadReason::Lost => "too many workers were lost with it",
        DeadReason::Corrupt => "what the disk gave back is not what was accepted",
    }
}

/// Why it ended as it did; `None` while it has not, or where there is nothing to explain.
pub(super) const fn end(state: &State) -> Option<&'static str> {
    match state {
        State::Dead { reason, .. } => Some(dead(*reason)),
        State::Pending(_) | State::Leased(_) | State::Succeeded { .. } | State::Cancelled { .. } => None,
    }
}
