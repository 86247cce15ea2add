//! Invariants of the life cycle, over random lives of one job: workers that come back late or invent epochs, operators that
//! change their minds, a gateway that restarts.

mod verbs;

use std::collections::BTreeMap;
use std::time::Duration;

use jobs_core::charging::Evidence;
use jobs_core::destination::{OrderingOnDead, Policy};
use jobs_core::job::{
    AttemptOutcome, Cause, DeadReason, Epoch, Job, JobId, NewJob, Pending, Priority, Progress, Request, State,
    StateName, Tick, WorkerId,
};
use jobs_core::lifecycle::{self, Cancel, Claiming, Redrive, SettleContext, SettleResult, Settled, Unclaimable};
use jobs_core::outcome::{Class, Outcome};
use jobs_core::time::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use self::verbs::{Under, Verb, policy, verb};

const WORKER: WorkerId = WorkerId(Uuid::from_u128(1));
const BEGIN: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A job with what an observer knows of it.
struct Life {
    job: Job,
    policy: Policy,
    now: Timestamp,
    start: u32,
    counter: u32,
    /// Every epoch issued, with its generation.
    issued: BTreeMap<Epoch, u32>,
    /// The last epoch issued to any job before the present generation.
    floor: Epoch,
    /// Of the present generation.
    sends: u32,
    lapses: u32,
}

impl Life {
    fn new(policy: Policy, max_attempts: Option<u32>, expires_after: Option<Duration>, ordered: bool) -> Life {
        let new = NewJob {
            id: JobId(Uuid::from_u128(7)),
            id_is_new: false,
            destination: "api2".parse().unwrap(),
            request: Request::default(),
            idempotency: None,
            run_at: BEGIN,
            expires_after,
            priority: Priority::default(),
            ordering_key: ordered.then(|| "k".to_owned()),
            max_attempts,
            traceparent: None,
            redriven_from: None,
            callback: None,
        };
        let (start, floor) = (2, Epoch::new(2, 1));
        let (job, _) = lifecycle::enqueue(new, 1, floor, BEGIN);
        Life { job, policy, now: BEGIN, start, counter: 1, issued: BTreeMap::new(), floor, sends: 0, lapses: 0 }
    }

    /// The last epoch issued to any job.
    fn last_issued(&self) -> Epoch {
        Epoch::new(self.start, self.counter)
    }

    fn epoch(&self, under: &Under) -> Epoch {
        match under {
            Under::Newest => self.job.progress.last_epoch,
            Under::Issued(_) if self.issued.is_empty() => Epoch::NONE,
            Under::Issued(index) => *index.get(&self.issued.keys().copied().collect::<Vec<_>>()),
            Under::Invented(start, counter) => Epoch::new(*start, *counter),
        }
    }

    fn step(&mut self, verb: &Verb) -> Result<(), TestCaseError> {
        let before = self.job.clone();
        match verb {
            Verb::Pass(millis) => self.now = self.now.plus(Duration::from_millis(*millis)),
            Verb::Restart => (self.start, self.counter) = (self.start + 1, 0),
            Verb::Claim { destination_epoch } => self.claim(*destination_epoch, &before)?,
            Verb::Settle { under, class, unknown, evidence } => {
                let outcome = Outcome { unknown: *unknown, ..Outcome::of(*class) };
                self.settle(self.epoch(under), &outcome, evidence, &before)?;
            }
            Verb::Release(under) => self.release(self.epoch(under), &before)?,
            Verb::Lapse(under) => self.lapse(self.epoch(under), &before)?,
            Verb::Cancel(on_dead) => self.cancel(*on_dead, &before)?,
            Verb::Redrive(new_key) => self.redrive(*new_key, &before)?,
            Verb::Expire => self.expire(&before)?,
        }
        self.check(&before)
    }

    fn claim(&mut self, destination_epoch: u64, before: &Job) -> Result<(), TestCaseError> {
        let epoch = Epoch::new(self.start, self.counter + 1);
        let claiming = Claiming {
            epoch,
            worker: WORKER,
            destination_epoch,
            released_below: destination_epoch,
            begun: Tick(1),
            ok_begun: Tick(u64::from(self.counter)),
        };
        let answer = lifecycle::claim(&mut self.job, &claiming, self.now);
        let State::Pending(Pending { run_at, cause, fail_epoch }) = before.state else {
            prop_assert_eq!(answer, Err(Unclaimable::NotPending));
            return unchanged(&self.job, before);
        };
        let late = lifecycle::deadline(before).is_some_and(|deadline| deadline <= self.now);
        let released = cause == Cause::Destination && fail_epoch < destination_epoch;
        match answer {
            Ok(()) => {
                prop_assert!(!late && (run_at <= self.now || released), "nothing is sent before its time");
                prop_assert!(epoch > before.progress.last_epoch, "epochs rise");
                self.counter += 1;
                self.issued.insert(epoch, self.job.progress.generation);
                prop_assert_eq!(&self.job.progress, &Progress { last_epoch: epoch, ..before.progress.clone() });
            }
            Err(refusal) => {
                let expected = if late { Unclaimable::Expired } else { Unclaimable::NotDue };
                prop_assert_eq!(refusal, expected);
                prop_assert!(late || (run_at > self.now && !released));
                unchanged(&self.job, before)?;
            }
        }
        Ok(())
    }

    fn settle(
        &mut self,
        epoch: Epoch,
        outcome: &Outcome,
        evidence: &Evidence,
        before: &Job,
    ) -> Result<(), TestCaseError> {
        let settle = |job: &mut Job, policy: &Policy, start, now| {
            let context = SettleContext { worker: WORKER, start, policy, evidence };
            lifecycle::settle(job, epoch, outcome, &context, now)
        };
        let settled = settle(&mut self.job, &self.policy, self.start, self.now);
        let held = holder(before) == Some(epoch);
        if settled.result != SettleResult::Applied {
            prop_assert!(!held, "the holder's outcome is taken");
            let nothing = Settled { result: settled.result, attempt: None, ended: None, duplicate: None };
            prop_assert_eq!(settled, nothing);
            return unchanged(&self.job, before);
        }
        let is_earlier = epoch.start() < u64::from(self.start);
        let is_forgotten = is_earlier && epoch > self.floor && !self.issued.contains_key(&epoch);
        let generation = self.issued.get(&epoch).copied();
        prop_assert!(held || outcome.class == Class::Ok, "from a former holder only an ok counts");
        prop_assert!(generation == Some(before.progress.generation) || is_forgotten, "an earlier generation is over");
        prop_assert_eq!(settled.ended.as_ref().map(|lease| lease.epoch), holder(before));
        self.sends += 1;
        let attempt = settled.attempt.clone().unwrap();
        prop_assert_eq!((attempt.epoch, attempt.outcome), (epoch, AttemptOutcome::Settled(outcome.class)));
        prop_assert_eq!(attempt.number, self.sends + self.lapses);
        prop_assert_eq!(u32::from(attempt.charged), self.job.progress.charged - before.progress.charged);
        prop_assert!(attempt.next_run_at.is_none_or(|run_at| run_at >= self.now));
        prop_assert_eq!(attempt.next_run_at.is_some(), self.job.state.name() == StateName::Pending);
        if outcome.class == Class::Ok {
            prop_assert_eq!(self.job.state.name(), StateName::Succeeded, "a success is a fact");
        }
        let outage = evidence.other_ok == Tick::NEVER && evidence.others_fail && !evidence.misconfigured;
        if outage && matches!(outcome.class, Class::Overload | Class::Down | Class::Error) {
            prop_assert!(!attempt.charged, "an outage spends nothing");
        }
        let after = self.job.clone();
        let again = settle(&mut self.job, &self.policy, self.start, self.now.plus(Duration::from_secs(1)));
        prop_assert_eq!(again.result, SettleResult::Repeated);
        unchanged(&self.job, &after)
    }

    fn release(&mut self, epoch: Epoch, before: &Job) -> Result<(), TestCaseError> {
        let settled = lifecycle::release(&mut self.job, epoch, self.now);
        prop_assert_eq!(settled.attempt, None);
        if settled.result != SettleResult::Applied {
            prop_assert!(holder(before) != Some(epoch) && settled.ended.is_none());
            return unchanged(&self.job, before);
        }
        let State::Leased(lease) = &before.state else { panic!("only a lease can be released") };
        prop_assert_eq!(lease.epoch, epoch);
        let from = State::Pending(lease.from);
        let expected = if lease.cancel_requested { State::Cancelled { at: self.now } } else { from };
        prop_assert_eq!(&self.job.state, &expected);
        let counted = Progress { settled_epoch: epoch, ..before.progress.clone() };
        prop_assert_eq!(&self.job.progress, &counted, "nothing is counted");
        Ok(())
    }

    fn lapse(&mut self, epoch: Epoch, before: &Job) -> Result<(), TestCaseError> {
        match lifecycle::lapse(&mut self.job, epoch, &self.policy, self.now) {
            Some(lapsed) => {
                self.lapses += 1;
                prop_assert_eq!(holder(before), Some(epoch));
                prop_assert_eq!((lapsed.attempt.number, lapsed.attempt.charged), (self.sends + self.lapses, false));
                prop_assert!(holder(&self.job).is_none());
                Ok(())
            }
            None => {
                prop_assert!(holder(before) != Some(epoch));
                unchanged(&self.job, before)
            }
        }
    }

    fn cancel(&mut self, on_dead: OrderingOnDead, before: &Job) -> Result<(), TestCaseError> {
        let answer = lifecycle::cancel(&mut self.job, on_dead, self.now);
        let blocks = before.ordering_key.is_some() && on_dead == OrderingOnDead::Block;
        let expected = match before.state.name() {
            StateName::Pending => Cancel::Cancelled,
            StateName::Dead if blocks => Cancel::Cancelled,
            StateName::Leased => Cancel::Requested,
            StateName::Cancelled => Cancel::AlreadyCancelled,
            StateName::Succeeded | StateName::Dead => Cancel::Finished,
        };
        prop_assert_eq!(answer, expected);
        prop_assert_eq!(&self.job.progress, &before.progress);
        Ok(())
    }

    fn redrive(&mut self, new_key: bool, before: &Job) -> Result<(), TestCaseError> {
        let last_issued = self.last_issued();
        match lifecycle::redrive(&mut self.job, new_key, last_issued, self.now) {
            Redrive::Redriven => {
                self.floor = last_issued;
                prop_assert!(matches!(before.state.name(), StateName::Dead | StateName::Cancelled));
                prop_assert_eq!(self.job.progress.generation, before.progress.generation + 1);
                prop_assert_eq!(self.job.expires_at, before.expires_after.map(|after| self.now.plus(after)));
                (self.sends, self.lapses) = (0, 0);
            }
            Redrive::RunNow => {
                prop_assert_eq!(before.state.name(), StateName::Pending);
                prop_assert_eq!(self.job.progress.attempts, before.progress.attempts);
            }
            Redrive::Leased | Redrive::Succeeded => return unchanged(&self.job, before),
        }
        prop_assert_eq!(self.job.delivery_key() != before.delivery_key(), new_key);
        prop_assert!(matches!(&self.job.state, State::Pending(pending) if pending.run_at <= self.now));
        Ok(())
    }

    fn expire(&mut self, before: &Job) -> Result<(), TestCaseError> {
        let late = lifecycle::deadline(before).is_some_and(|deadline| deadline <= self.now);
        let expired = lifecycle::expire(&mut self.job, self.now);
        prop_assert_eq!(expired.is_some(), late && before.state.name() == StateName::Pending);
        if expired.is_some() { Ok(()) } else { unchanged(&self.job, before) }
    }

    /// What holds after every step.
    fn check(&self, before: &Job) -> Result<(), TestCaseError> {
        let (job, progress) = (&self.job, &self.job.progress);
        prop_assert_eq!((progress.attempts, progress.lost), (self.sends, self.lapses));
        prop_assert!(progress.charged <= progress.attempts);
        prop_assert!(progress.last_epoch >= before.progress.last_epoch, "epochs rise");
        prop_assert_eq!(progress.generation_floor, self.floor);
        if let Some(epoch) = holder(job) {
            prop_assert!(epoch > self.floor);
            prop_assert_eq!(epoch, progress.last_epoch, "the live lease is the last one issued");
            prop_assert_eq!(self.issued.get(&epoch), Some(&progress.generation));
        }
        if let State::Dead { reason: DeadReason::Exhausted, .. } = job.state {
            prop_assert!(progress.charged >= job.max_attempts.unwrap_or(self.policy.max_attempts));
        }
        match (before.state.name(), job.state.name()) {
            (StateName::Succeeded, after) => prop_assert_eq!(after, StateName::Succeeded),
            (StateName::Cancelled, after) => prop_assert_ne!(after, StateName::Dead),
            (StateName::Dead, StateName::Leased) => prop_assert!(false, "the dead are not claimed"),
            (StateName::Dead | StateName::Pending | StateName::Leased, _) => {}
        }
        let kept = Job {
            state: job.state.clone(),
            updated_at: job.updated_at,
            expires_at: job.expires_at,
            progress: progress.clone(),
            ..before.clone()
        };
        prop_assert_eq!(job, &kept, "what was accepted never changes");
        Ok(())
    }
}

fn holder(job: &Job) -> Option<Epoch> {
    match &job.state {
        State::Leased(lease) => Some(lease.epoch),
        State::Pending(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => None,
    }
}

fn unchanged(job: &Job, before: &Job) -> Result<(), TestCaseError> {
    prop_assert_eq!(job, before, "nothing changes");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_over_every_life(
        verbs in prop::collection::vec(verb(), 1..120),
        policy in policy(),
        max_attempts in prop::option::of(1u32..4),
        expires_after in prop::option::of((1u64..3_000).prop_map(Duration::from_secs)),
        ordered: bool,
    ) {
        let mut life = Life::new(policy, max_attempts, expires_after, ordered);
        for verb in &verbs {
            life.step(verb)?;
        }
    }

    #[test]
    fn an_outage_of_any_length_spends_no_attempt(classes in prop::collection::vec(0usize..3, 1..200)) {
        let mut life = Life::new(Policy { max_attempts: 1, ..Policy::default() }, None, None, false);
        let evidence = Evidence { now: Tick(9), others_fail: true, ..Evidence::default() };
        for class in classes {
            let class = [Class::Overload, Class::Down, Class::Error][class];
            life.step(&Verb::Pass(300_000))?;
            life.step(&Verb::Claim { destination_epoch: 0 })?;
            life.step(&Verb::Settle { under: Under::Newest, class, unknown: false, evidence })?;
            prop_assert_eq!(life.job.state.name(), StateName::Pending);
            prop_assert_eq!(life.job.progress.charged, 0);
        }
    }

    #[test]
    fn a_poison_job_does_not_live_for_ever(max_attempts in 1u32..30, classes in prop::collection::vec(0usize..2, 200)) {
        let mut life = Life::new(Policy::default(), Some(max_attempts), None, false);
        let mut tick = 10;
        for class in classes {
            let class = [Class::Down, Class::Error][class];
            let through = Tick(tick + 1);
            let evidence = Evidence { now: Tick(tick), other_ok: through, ok_begun: through, worker_ok: through, others_fail: true, ..Evidence::default() };
            tick += 10;
            life.step(&Verb::Pass(300_000))?;
            life.step(&Verb::Claim { destination_epoch: 0 })?;
            life.step(&Verb::Settle { under: Under::Newest, class, unknown: false, evidence })?;
        }
        let is_exhausted = matches!(life.job.state, State::Dead { reason: DeadReason::Exhausted, .. });
        prop_assert!(is_exhausted, "{:?}", life.job);
        prop_assert_eq!(life.job.progress.charged, max_attempts);
    }
}
