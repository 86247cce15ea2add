//! The numbers that stand for words in the database. They are what is on disk: never change one, only add.

use jobs_core::job::{AttemptOutcome, Cause, DeadReason, StateName};
use jobs_core::lifecycle::DuplicateCause;
use jobs_core::outcome::Class;
use jobs_core::redrive::Phase;

/// `job.state`, and `idempotency_key.ended`. The SQL of claims, sweeps and purges knows them too.
pub(super) const STATES: [StateName; 5] =
    [StateName::Pending, StateName::Leased, StateName::Succeeded, StateName::Dead, StateName::Cancelled];

/// `job.cause`. The index `job_outage` knows that `Destination` is 2.
pub(super) const CAUSES: [Cause; 4] = [Cause::New, Cause::Job, Cause::Destination, Cause::Manual];

/// `job.dead_reason`.
pub(super) const DEAD_REASONS: [DeadReason; 6] = [
    DeadReason::Permanent,
    DeadReason::Exhausted,
    DeadReason::Expired,
    DeadReason::Unknown,
    DeadReason::Lost,
    DeadReason::Corrupt,
];

/// `attempt.outcome`.
pub(super) const OUTCOMES: [AttemptOutcome; 7] = [
    AttemptOutcome::Lost,
    AttemptOutcome::Settled(Class::Ok),
    AttemptOutcome::Settled(Class::JobFail),
    AttemptOutcome::Settled(Class::Suspect),
    AttemptOutcome::Settled(Class::Overload),
    AttemptOutcome::Settled(Class::Down),
    AttemptOutcome::Settled(Class::Error),
];

/// What is counted: `counter.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counter {
    /// Also the last `seq` given.
    Accepted,
    Purged,
    Attempts,
    Duplicates(DuplicateCause),
    /// Jobs of one destination.
    Jobs(StateName),
    /// Dead jobs of one destination that an operator has settled otherwise.
    Resolved,
}

pub(super) const COUNTERS: [Counter; 11] = [
    Counter::Accepted,
    Counter::Purged,
    Counter::Attempts,
    Counter::Duplicates(DuplicateCause::LeaseLapsed),
    Counter::Duplicates(DuplicateCause::UnknownOutcome),
    Counter::Jobs(StateName::Pending),
    Counter::Jobs(StateName::Leased),
    Counter::Jobs(StateName::Succeeded),
    Counter::Jobs(StateName::Dead),
    Counter::Jobs(StateName::Cancelled),
    Counter::Resolved,
];

/// `mass_redrive.phase`.
pub(super) const PHASES: [Phase; 5] = [Phase::Counting, Phase::Previewed, Phase::Canary, Phase::Running, Phase::Done];

/// The number of `word` in its table above.
pub(super) fn number<T: PartialEq>(table: &[T], word: T) -> i64 {
    let at = table.iter().position(|known| *known == word);
    i64::try_from(at.expect("every word has its number")).expect("tables are short")
}

/// The word with a number that was read; `None` if there is none.
pub(super) fn word<T: Copy>(table: &[T], number: i64) -> Option<T> {
    table.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_its_number() {
        for state in StateName::ALL {
            assert_eq!(word(&STATES, number(&STATES, state)), Some(state));
            number(&COUNTERS, Counter::Jobs(state));
        }
        for class in Class::ALL {
            number(&OUTCOMES, AttemptOutcome::Settled(class));
        }
        for cause in DuplicateCause::ALL {
            number(&COUNTERS, Counter::Duplicates(cause));
        }
        assert_eq!(word(&STATES, 5), None);
        assert_eq!(word(&STATES, -1), None);
    }

    #[test]
    fn the_numbers_that_the_sql_spells_out_are_these() {
        use StateName::{Cancelled, Dead, Leased, Pending, Succeeded};
        assert_eq!([Pending, Leased, Succeeded, Dead, Cancelled].map(|state| number(&STATES, state)), [0, 1, 2, 3, 4]);
        assert_eq!(number(&CAUSES, Cause::Destination), 2);
    }
}
