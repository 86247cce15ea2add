//! Why a job's next attempt is when it is, for somebody who asks "why does it not go out?".

use jobs_core::destination::Policy;
use jobs_core::dispatch::{DestinationView, GateStateName};
use jobs_core::job::{Attempt, Cause, Job, Pending, State};
use jobs_core::process::duration::show;
use jobs_core::retry::Backoff;
use jobs_core::time::Timestamp;

use super::outcome_words;
use super::words::{Moment, span};

/// What is known beside the job itself.
pub(super) struct Around<'a> {
    pub(super) last: Option<&'a Attempt>,
    /// `None`: the destination is not known any more.
    pub(super) gate: Option<&'a DestinationView>,
    pub(super) policy: &'a Policy,
    pub(super) now: Timestamp,
}

/// In a sentence or three.
pub(super) fn why(job: &Job, around: &Around<'_>) -> String {
    let now = around.now;
    match &job.state {
        State::Pending(pending) => waiting(job, pending, around),
        State::Leased(leased) => {
            let since = Moment::new(leased.claimed_at, now).text;
            let wanted = if leased.cancel_requested {
                " Nobody wants it any more: it ends as cancelled unless this attempt succeeds."
            } else {
                ""
            };
            format!("Attempt {} began at {since} and has not come back yet.{wanted}", job.next_attempt_number())
        }
        State::Succeeded { at } => format!("Delivered at {}.", Moment::new(*at, now).text),
        State::Dead { at, reason } => {
            let (at, reason) = (Moment::new(*at, now).text, outcome_words::dead(*reason));
            format!("Given up at {at}: {reason}. It is kept until somebody redrives it or its retention ends.")
        }
        State::Cancelled { at } => format!("Cancelled at {}.", Moment::new(*at, now).text),
    }
}

fn waiting(job: &Job, pending: &Pending, around: &Around<'_>) -> String {
    let now = around.now;
    let title = around.gate.map_or(job.destination.as_str(), |gate| gate.title.as_str());
    let at = Moment::new(pending.run_at, now).text;
    let is_due = pending.run_at <= now;
    let own = match pending.cause {
        Cause::New if is_due => "It has not been tried yet and is due.".to_owned(),
        Cause::New => format!("Its caller asked for it not to be sent before {at}."),
        Cause::Manual => "An operator asked for it to be tried now.".to_owned(),
        Cause::Job | Cause::Destination => format!("{} {}", failed(around), delay(around, &at, is_due)),
    };
    let released =
        pending.cause == Cause::Destination && around.gate.is_some_and(|gate| pending.fail_epoch < gate.epoch);
    let gate = match around.gate.map(|gate| gate.state) {
        None => format!(" But {title} is not configured here: it waits until it is."),
        Some(GateStateName::Paused) => format!(" But {title} is paused: it waits until somebody resumes it."),
        Some(GateStateName::Open) if is_due => {
            format!(
                " But {title} is down: it goes out as a probe when its turn comes, or as soon as {title} has recovered."
            )
        }
        Some(GateStateName::Open) if pending.cause == Cause::Destination => {
            format!(" The failure was the outage's, so it goes out earlier if {title} recovers earlier.")
        }
        Some(GateStateName::Open) => {
            format!(" {title} is down at present: if it still is then, this job waits for its turn as a probe.")
        }
        Some(GateStateName::Ramp | GateStateName::Closed) if released => {
            format!(" {title} has recovered since, so it is due at once and waits for its turn.")
        }
        Some(GateStateName::Ramp) if is_due => {
            format!(" {title} is opening up after an outage: it waits for its turn.")
        }
        Some(GateStateName::Ramp | GateStateName::Closed) => String::new(),
    };
    let expiry =
        job.expires_at.map(|at| format!(" If it still waits at {}, it is given up.", Moment::new(at, now).text));
    let order =
        job.ordering_key.as_ref().map(|key| format!(" Jobs of its ordering key {key:?} that came before it go first."));
    format!("{own}{gate}{}{}", order.unwrap_or_default(), expiry.unwrap_or_default())
}

fn failed(around: &Around<'_>) -> String {
    let Some(last) = around.last else { return "Its last attempt failed.".to_owned() };
    let what = outcome_words::short(last.outcome).to_lowercase();
    let status = last.status.map_or_else(String::new, |status| format!(", status {status}"));
    let charge = if last.charged { "" } else { ", not counted against it" };
    format!("Attempt {} failed ({what}{status}{charge}).", last.number)
}

fn delay(around: &Around<'_>, at: &str, is_due: bool) -> String {
    let waited = around.last.and_then(|last| last.retry_delay);
    let rule = match &around.policy.retry.backoff {
        Backoff::Exponential { base, factor, max_delay } => {
            format!(
                "waits are {}, {factor} times as long after each failure, at most {}",
                show(*base),
                show(*max_delay)
            )
        }
        Backoff::Schedule(_) => "by its destination's schedule".to_owned(),
    };
    match (waited, is_due) {
        (Some(waited), false) => format!("It waits {} until {at}: {rule}.", span(waited)),
        (Some(waited), true) => format!("It waited {} until {at} ({rule}) and is due.", span(waited)),
        (None, false) => format!("It is tried again at {at}."),
        (None, true) => format!("It is due since {at}."),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jobs_core::job::{AttemptOutcome, Epoch, JobId, NewJob, Priority, Request, WorkerId};
    use jobs_core::lifecycle;
    use jobs_core::outcome::Class;
    use uuid::Uuid;

    use super::*;
    use crate::history::track::tests::view;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn job(run_at: &str, cause: Cause) -> Job {
        let new = NewJob {
            id: JobId(Uuid::nil()),
            id_is_new: false,
            destination: "api2".parse().unwrap(),
            request: Request::default(),
            idempotency: None,
            run_at: at(run_at),
            expires_after: None,
            priority: Priority::default(),
            ordering_key: None,
            max_attempts: None,
            traceparent: None,
            redriven_from: None,
            callback: None,
        };
        let (mut job, _) = lifecycle::enqueue(new, 1, Epoch::NONE, at("2026-11-26T12:00:00Z"));
        job.state = State::Pending(Pending { run_at: at(run_at), cause, fail_epoch: 0 });
        job
    }

    fn attempt() -> Attempt {
        Attempt {
            number: 3,
            epoch: Epoch::NONE,
            worker: WorkerId(Uuid::nil()),
            started_at: at("2026-11-26T12:04:08Z"),
            duration: Duration::from_millis(3),
            outcome: AttemptOutcome::Settled(Class::Overload),
            charged: false,
            status: Some(503),
            error: None,
            response_excerpt: None,
            next_run_at: Some(at("2026-11-26T12:04:16Z")),
            retry_delay: Some(Duration::from_secs(8)),
        }
    }

    fn told(job: &Job, last: Option<&Attempt>, gate: GateStateName) -> String {
        let (view, policy) = (view(gate, None), Policy::default());
        why(job, &Around { last, gate: Some(&view), policy: &policy, now: at("2026-11-26T12:04:10Z") })
    }

    #[test]
    fn it_says_why_the_next_attempt_is_then() {
        let attempt = attempt();
        let job = job("2026-11-26T12:04:16Z", Cause::Destination);
        assert_eq!(
            told(&job, Some(&attempt), GateStateName::Open),
            "Attempt 3 failed (too busy, status 503, not counted against it). It waits 8 s until 12:04:16: waits are 2s, 2 \
             times as long after each failure, at most 5m. The failure was the outage's, so it goes out earlier if API 2 \
             recovers earlier."
        );
    }

    #[test]
    fn it_says_what_holds_a_job_that_is_due() {
        let job = job("2026-11-26T12:04:00Z", Cause::New);
        assert!(told(&job, None, GateStateName::Paused).contains("until somebody resumes it"));
        assert!(told(&job, None, GateStateName::Open).contains("goes out as a probe"));
        assert_eq!(told(&job, None, GateStateName::Closed), "It has not been tried yet and is due.");
        let later = self::job("2026-11-26T18:00:00Z", Cause::New);
        assert_eq!(
            told(&later, None, GateStateName::Closed),
            "Its caller asked for it not to be sent before 18:00:00."
        );
    }
}
