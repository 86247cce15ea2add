//! Who is to blame for a failure: the job, which pays with one of its attempts, or its destination, which does not.
//!
//! One attempt alone cannot tell a poison job from an outage; the other jobs of the destination can. So a failure is
//! judged by [`Evidence`]: what the destination answered to others, in logical time. An outage must spend nothing, and a
//! poison job must not live for ever; every rule here is one of the two.

use crate::job::{Progress, Tick};
use crate::outcome::Class;

/// What the destination's other answers say, at the moment an attempt is settled. Kept by [`crate::dispatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The present.
    pub now: Tick,
    /// How often the destination has recovered.
    pub destination_epoch: u64,
    /// When another job's latest ok arrived; [`Tick::NEVER`] without one.
    pub other_ok: Tick,
    /// The latest beginning among the oks that have arrived.
    pub ok_begun: Tick,
    /// The latest beginning among the oks through the attempt's worker that had arrived when the attempt was granted: with one
    /// that began after the job's previous failure, the worker was not cut off in between.
    pub worker_ok: Tick,
    /// Another job has failed since the last ok.
    pub others_fail: bool,
    /// The destination is held because of its configuration: no answer says anything about a job.
    pub misconfigured: bool,
    /// The attempt was to find out whether a destination that is held is back: that it is not is nobody's fault.
    pub is_probe: bool,
    /// The destination takes other calls, and how many is known and kept to: what it refuses may come again soon.
    pub is_paced: bool,
}

/// Answers by `overload` in a row from which on a job may be charged for them.
pub const PATIENCE_WITH_OVERLOAD: u32 = 10;

/// Whether a failure by a retryable `class` counts against the job's bound on attempts.
///
/// `begun`: when the attempt was granted. `progress`: the job's, before this failure.
pub fn is_charged(class: Class, begun: Tick, progress: &Progress, evidence: &Evidence) -> bool {
    match class {
        Class::Overload | Class::Down | Class::Error if evidence.is_probe => false,
        Class::Overload => {
            progress.overloads + 1 >= PATIENCE_WITH_OVERLOAD && evidence.other_ok > progress.last_settled
        }
        // The first time it may have been the outage's very beginning, or a worker that was cut off.
        Class::Down => progress.last_down != Tick::NEVER && evidence.worker_ok > progress.last_down,
        // An ok that began later shows that the destination was well still when this one was under way.
        Class::Error => (evidence.ok_begun > begun && evidence.other_ok > begun) || !evidence.others_fail,
        // A suspect answer without a verdict is retried on the job's own account.
        Class::Suspect => !evidence.misconfigured,
        Class::Ok | Class::JobFail => false,
    }
}

/// Whether a `suspect` answer condemns the job: it is the second, and between the two another job's ok began and ended,
/// so that whatever was wrong with the destination was mended while this job was away.
///
/// `ok_begun`: the latest beginning among the oks that had arrived when the present attempt was granted.
pub fn suspect_is_condemned(ok_begun: Tick, progress: &Progress) -> bool {
    progress.first_suspect != Tick::NEVER && ok_begun > progress.first_suspect
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Tick = Tick(100);

    fn evidence() -> Evidence {
        Evidence { now: Tick(200), others_fail: true, ..Evidence::default() }
    }

    #[test]
    fn in_an_outage_nothing_is_charged() {
        let progress = Progress { overloads: 50, last_down: Tick(90), last_settled: Tick(90), ..Progress::default() };
        let stale = Evidence { other_ok: Tick(80), worker_ok: Tick(80), ..evidence() };
        for class in [Class::Overload, Class::Down, Class::Error] {
            assert!(!is_charged(class, BEGUN, &progress, &stale), "{class:?}");
        }
    }

    #[test]
    fn a_probe_that_fails_charges_nobody() {
        let progress = Progress { overloads: 50, last_down: Tick(90), ..Progress::default() };
        let through = Evidence { other_ok: Tick(150), ok_begun: Tick(120), worker_ok: Tick(95), ..evidence() };
        for class in [Class::Overload, Class::Down, Class::Error] {
            assert!(is_charged(class, BEGUN, &progress, &through), "{class:?}");
            assert!(!is_charged(class, BEGUN, &progress, &Evidence { is_probe: true, ..through }), "{class:?}");
        }
    }

    #[test]
    fn an_error_is_charged_when_another_job_got_through_that_began_later_or_when_no_other_fails() {
        let progress = Progress::default();
        let later = Evidence { other_ok: Tick(150), ok_begun: Tick(120), ..evidence() };
        assert!(is_charged(Class::Error, BEGUN, &progress, &later));
        assert!(!is_charged(Class::Error, BEGUN, &progress, &Evidence { ok_begun: Tick(90), ..later }));
        assert!(is_charged(Class::Error, BEGUN, &progress, &Evidence { others_fail: false, ..evidence() }));
        assert!(!is_charged(Class::Error, BEGUN, &progress, &Evidence { other_ok: Tick(50), ..evidence() }));
    }

    #[test]
    fn a_down_is_charged_only_by_an_ok_through_the_same_worker_that_began_after_the_previous_one() {
        let progress = Progress { last_down: Tick(60), ..Progress::default() };
        let elsewhere = Evidence { other_ok: Tick(150), ..evidence() };
        assert!(!is_charged(Class::Down, BEGUN, &progress, &elsewhere));
        assert!(is_charged(Class::Down, BEGUN, &progress, &Evidence { worker_ok: Tick(70), ..evidence() }));
        assert!(!is_charged(Class::Down, BEGUN, &progress, &Evidence { worker_ok: Tick(50), ..evidence() }));
        let first = Progress::default();
        assert!(!is_charged(Class::Down, BEGUN, &first, &Evidence { worker_ok: Tick(70), ..evidence() }));
    }

    #[test]
    fn overload_is_charged_from_the_tenth_in_a_row_if_others_got_through() {
        let through = Evidence { other_ok: Tick(95), ..evidence() };
        let after = |overloads| Progress { overloads, last_settled: Tick(90), ..Progress::default() };
        assert!(!is_charged(Class::Overload, BEGUN, &after(8), &through));
        assert!(is_charged(Class::Overload, BEGUN, &after(9), &through));
        assert!(!is_charged(Class::Overload, BEGUN, &after(9), &Evidence { other_ok: Tick(85), ..evidence() }));
    }

    #[test]
    fn a_suspect_is_condemned_only_by_an_ok_that_began_after_its_first_answer() {
        let suspected = Progress { first_suspect: Tick(50), ..Progress::default() };
        assert!(suspect_is_condemned(Tick(60), &suspected));
        assert!(!suspect_is_condemned(Tick(40), &suspected));
        assert!(!suspect_is_condemned(Tick(60), &Progress::default()));
    }
}
