//! Failures of a destination, those of a kind together: what an operator reads before anything else.

use jobs_core::job::{Attempt, AttemptOutcome, JobId};
use jobs_core::outcome::Class;
use jobs_core::time::Timestamp;

/// Kinds that are kept; the one not seen for longest makes way.
const MAX_KINDS: usize = 32;
/// Kept of a text.
const MAX_TEXT: usize = 160;

/// One kind of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) outcome: AttemptOutcome,
    pub(crate) status: Option<u16>,
    /// With long numbers as `#`, so that ports and ids do not make kinds of their own.
    pub(crate) text: String,
    pub(crate) count: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// The latest job it happened to.
    pub(crate) job: JobId,
}

/// The kinds of failures seen since the process began.
#[derive(Debug, Default)]
pub(crate) struct Kinds(Vec<Kind>);

impl Kinds {
    pub(crate) fn note(&mut self, job: JobId, attempt: &Attempt, at: Timestamp) {
        if attempt.outcome == AttemptOutcome::Settled(Class::Ok) {
            return;
        }
        let text = text_of(attempt);
        let same =
            |kind: &&mut Kind| kind.outcome == attempt.outcome && kind.status == attempt.status && kind.text == text;
        if let Some(kind) = self.0.iter_mut().find(same) {
            kind.count += 1;
            kind.last = at;
            kind.job = job;
            return;
        }
        if self.0.len() == MAX_KINDS {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, kind)| kind.last).map(|(place, _)| place);
            oldest.map(|place| self.0.swap_remove(place));
        }
        let (outcome, status) = (attempt.outcome, attempt.status);
        self.0.push(Kind { outcome, status, text, count: 1, first: at, last: at, job });
    }

    /// The latest first.
    pub(crate) fn latest(&self) -> Vec<Kind> {
        let mut kinds = self.0.clone();
        kinds.sort_by(|one, other| other.last.cmp(&one.last).then(other.count.cmp(&one.count)));
        kinds
    }
}

fn text_of(attempt: &Attempt) -> String {
    let status = || attempt.status.map(|status| format!("answered {status}"));
    let text = attempt.error.clone().or_else(status).unwrap_or_else(|| attempt.outcome.as_str().to_owned());
    let mut plain = String::new();
    let mut digits = String::new();
    for c in text.chars().take(MAX_TEXT).chain(std::iter::once('\0')) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        plain.push_str(if digits.len() > 3 { "#" } else { &digits });
        digits.clear();
        plain.extend(Some(c).filter(|c| *c != '\0'));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs_core::job::{Epoch, WorkerId};
    use std::time::Duration;
    use uuid::Uuid;

    fn attempt(class: Class, error: &str) -> Attempt {
        Attempt {
            number: 1,
            epoch: Epoch::NONE,
            worker: WorkerId(Uuid::nil()),
            started_at: Timestamp::default(),
            duration: Duration::ZERO,
            outcome: AttemptOutcome::Settled(class),
            charged: false,
            status: None,
            error: Some(error.to_owned()),
            response_excerpt: None,
            next_run_at: None,
            retry_delay: None,
        }
    }

    #[test]
    fn failures_that_differ_in_a_port_are_of_one_kind_and_oks_are_none() {
        let mut kinds = Kinds::default();
        for (n, text) in ["refused by 127.0.0.1:40001", "refused by 127.0.0.1:40002"].iter().enumerate() {
            kinds.note(
                JobId(Uuid::from_u128(n as u128)),
                &attempt(Class::Down, text),
                Timestamp::from_millis(n as i64),
            );
        }
        kinds.note(JobId(Uuid::nil()), &attempt(Class::Ok, "none"), Timestamp::default());
        let found = kinds.latest();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].text.as_str(), found[0].count), ("refused by 127.0.0.1:#", 2));
        assert_eq!(found[0].job, JobId(Uuid::from_u128(1)));
    }

    #[test]
    fn the_kind_not_seen_for_longest_makes_way() {
        let mut kinds = Kinds::default();
        for n in 0..=MAX_KINDS {
            let letters = "x".repeat(n + 1);
            kinds.note(JobId(Uuid::nil()), &attempt(Class::Error, &letters), Timestamp::from_millis(n as i64));
        }
        let found = kinds.latest();
        assert_eq!(found.len(), MAX_KINDS);
        assert!(found.iter().all(|kind| kind.text != "x"), "{found:?}");
        assert_eq!(found[0].text.len(), MAX_KINDS + 1);
    }
}
