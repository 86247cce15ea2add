//! The four observers compared after a drill's trouble: the client's ledger, the store, the attempt log, the destination's ledger.
//!
//! A long drill is played in rounds, each with jobs of its own; a verdict is of one round, and [`Tally`] adds them up.

use jobs_core::job::JobId;
use serde::Serialize;

use crate::client::{JobView, ReceivedView};
use crate::error::DrillError;
use crate::invariants::calls::{self, Arrival, Calls, Duplicates, Line};
use crate::invariants::{self, Violation};
use crate::mixed::MixedLedger;
use crate::outage::observe::{self, Testimony};
use crate::trio::Trio;

/// What may have become of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    /// Every claim is known: processes died, the disk did not.
    AreKept,
    /// A power cut may have forgotten the latest ones, because they are not synced: their jobs are sent again, and what was sent
    /// under them has no line in the log.
    MayBeForgotten,
}

/// What was found so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// Acknowledged jobs: delivered + dead + waiting + lost.
    pub accepted: u64,
    pub delivered: u64,
    pub dead: u64,
    pub lost: u64,
    /// Jobs that were sent before the one they had to follow.
    pub out_of_order: u64,
    /// Jobs with an ordering key, jobs that were to wait.
    pub ordered: u64,
    pub delayed: u64,
    /// Requests that had to be repeated, and answers that said that they were repetitions.
    pub repeats: u64,
    pub replays: u64,
    /// Requests that nobody acknowledged in the end.
    pub given_up: u64,
    pub attempts: u64,
    pub duplicates: Duplicates,
    pub violations: Vec<String>,
}

impl Tally {
    /// Compares what the observers say of the jobs in `ledger`, all of which have had the time to end.
    ///
    /// # Errors
    /// [`DrillError`] when one of them cannot be asked.
    pub async fn judge(&mut self, trio: &Trio, ledger: &MixedLedger, claims: Claims) -> Result<(), DrillError> {
        let (gateway, api2) = (trio.gateway(), trio.api2());
        let testimony = observe::ask(gateway, api2, &ledger.client).await?;
        let counted = observe::counted(gateway).await?;
        let findings = invariants::compare(&observe::compile(&testimony, &ledger.client, Some(counted)));
        let (of_calls, duplicates) = calls::examine(&closely(&testimony, ledger));

        self.accepted += findings.accepted;
        self.delivered += findings.delivered;
        self.dead += findings.dead;
        self.lost += findings.lost;
        self.out_of_order += of_calls.iter().filter(|it| matches!(it, Violation::OutOfKeyOrder { .. })).count() as u64;
        self.ordered += ledger.in_order.iter().map(Vec::len).sum::<usize>() as u64;
        self.delayed += ledger.not_before.len() as u64;
        self.repeats += ledger.client.repeats();
        self.replays += ledger.client.replays();
        self.given_up += ledger.given_up.len() as u64;
        self.attempts +=
            testimony.values().filter_map(|(job, _)| Some(job.as_ref()?.attempt_log.len() as u64)).sum::<u64>();
        self.duplicates.add(duplicates);
        let unmarked = ledger.client.unmarked().iter().cloned().map(Violation::RepeatNotMarked);
        let violations = findings.violations.into_iter().chain(of_calls).chain(unmarked);
        let violations = violations.filter(|it| claims == Claims::AreKept || !follows_from_a_forgotten_claim(it));
        self.violations.extend(violations.map(|violation| violation.to_string()));
        if self.given_up == 0 && counted.accepted > self.accepted {
            let nobody_asked = Violation::NobodyAsked { counted: counted.accepted, acknowledged: self.accepted };
            self.violations.push(nobody_asked.to_string());
        }
        Ok(())
    }

    /// Whether nothing is wrong.
    pub fn holds(&self) -> bool {
        self.violations.is_empty() && self.lost == 0 && self.given_up == 0
    }
}

fn follows_from_a_forgotten_claim(violation: &Violation) -> bool {
    matches!(
        violation,
        Violation::UnexplainedDuplicate(_)
            | Violation::UnrecordedAttempt(_)
            | Violation::UnclaimedEpoch(_)
            | Violation::OutOfKeyOrder { .. }
    )
}

fn closely(testimony: &Testimony, ledger: &MixedLedger) -> Calls {
    let log = |job: &JobView| -> Vec<Line> {
        let lines = job.attempt_log.iter();
        lines.map(|line| Line { epoch: line.epoch, outcome: line.outcome.clone() }).collect()
    };
    let arrived = |received: &ReceivedView| -> Vec<Arrival> {
        let requests = received.requests.iter();
        let ok = |status: Option<u16>| status.is_some_and(|status| (200..300).contains(&status));
        requests.map(|request| Arrival { at: request.time, epoch: request.epoch, ok: ok(request.status) }).collect()
    };
    let each = || testimony.iter().map(|(id, (job, received))| (*id, job.as_ref(), received.as_ref()));
    Calls {
        in_order: ledger.in_order.clone(),
        not_before: ledger.not_before.clone(),
        arrivals: each().filter_map(|(id, _, received)| Some((id, arrived(received?)))).collect(),
        log: each().filter_map(|(id, job, _): (JobId, _, _)| Some((id, log(job?)))).collect(),
    }
}
