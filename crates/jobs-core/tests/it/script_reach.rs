//! How far the random scripts of the differential test reach: a store may only be trusted for what they ask of it.

use std::collections::BTreeMap;

use jobs_core::conformance::differential::STEPS;
use jobs_core::conformance::rig::BEGIN;
use jobs_core::conformance::script::{Script, ScriptJudge, Step, plan_for_all_dead};
use jobs_core::gate::Kind;
use jobs_core::job::{Job, State as JobState, StateName};
use jobs_core::memory::State;
use jobs_core::redrive::Change;
use jobs_core::steering::Resolution;
use jobs_core::store::{Enqueued, Lease, SettleAnswer};
use jobs_core::time::Now;

/// The kinds of answer that random scripts must provoke, or comparing stores by them would say little.
const KINDS: [&str; 51] = [
    "accepted",
    "replayed",
    "replayed, purged",
    "key reused",
    "released by a recovery",
    "probed",
    "fresh before its turn",
    "exhausted until",
    "told to cancel",
    "unknown job",
    "newer lease ended",
    "Applied sent succeeded",
    "Applied sent pending",
    "Applied sent cancelled",
    "Applied sent dead Permanent",
    "Applied sent dead Exhausted",
    "Applied sent dead Expired",
    "Applied sent dead Unknown",
    "Applied unsent pending",
    "Applied unsent cancelled",
    "Repeated unsent pending",
    "Repeated unsent leased",
    "Repeated unsent succeeded",
    "Repeated unsent dead Permanent",
    "LeaseLost unsent pending",
    "LeaseLost unsent leased",
    "LeaseLost unsent succeeded",
    "AlreadyFinished unsent succeeded",
    "AlreadyFinished unsent dead Unknown",
    "AlreadyFinished unsent cancelled",
    "Cancelled, was dead: false",
    "Cancelled, was dead: true",
    "Requested, was dead: false",
    "AlreadyCancelled, was dead: false",
    "Finished, was dead: false",
    "Finished, was dead: true",
    "Redriven",
    "RunNow",
    "Leased",
    "Succeeded",
    "redriven together",
    "skipped",
    "Resolved",
    "NotDead",
    "lapsed pending",
    "lapsed cancelled",
    "lapsed dead Lost",
    "lapsed dead Unknown",
    "expired dead Expired",
    "expired dead Unknown",
    "purged some: true",
];

/// A job's state, with the reason where it is dead.
fn ended(job: &Job) -> String {
    match &job.state {
        JobState::Dead { reason, .. } => format!("dead {reason:?}"),
        JobState::Pending(_) | JobState::Leased(_) | JobState::Succeeded { .. } | JobState::Cancelled { .. } => {
            job.state.name().as_str().to_owned()
        }
    }
}

/// What kind of answer this was, for each kind that matters.
fn kinds(state: &mut State, step: Step, judge: &ScriptJudge, now: Now, script: &mut Script) -> Vec<String> {
    match step {
        Step::Enqueue(jobs) => {
            let answers = state.enqueue(jobs, now).unwrap();
            script.note_accepted(&answers);
            let kind = |answer| match answer {
                Enqueued::Accepted(_) => "accepted".to_owned(),
                Enqueued::Replayed { id, .. } if state.job(id).is_none() => "replayed, purged".to_owned(),
                Enqueued::Replayed { .. } => "replayed".to_owned(),
                Enqueued::KeyReused { .. } => "key reused".to_owned(),
            };
            answers.into_iter().map(kind).collect()
        }
        Step::Claim(worker, grants) => {
            let claimed = state.claim(worker, &grants, now);
            script.note_claimed(worker, &claimed);
            let released = claimed.leases.iter().any(|lease| match &lease.job.state {
                JobState::Leased(lease) => lease.from.run_at > now.wall,
                JobState::Pending(_)
                | JobState::Succeeded { .. }
                | JobState::Dead { .. }
                | JobState::Cancelled { .. } => false,
            });
            let next = claimed.exhausted.iter().any(|(_, next)| next.is_some());
            let probes = grants.iter().any(|grant| grant.kind != Kind::Regular);
            let probed = probes && !claimed.leases.is_empty();
            // Of one grant, so that the order of two leases is the order of the claim.
            let alone = |pair: &[Lease]| grants.len() == 1 && pair[0].job.priority < pair[1].job.priority;
            let fresh = !probes && claimed.leases.windows(2).any(alone);
            let told = [
                ("released by a recovery", released && !probes),
                ("probed", probed),
                ("fresh before its turn", fresh),
                ("exhausted until", next),
            ];
            told.into_iter().filter(|(_, it_is)| *it_is).map(|(kind, _)| kind.to_owned()).collect()
        }
        Step::Settle(worker, settlements) => {
            let about: Vec<_> = settlements.iter().map(|settlement| settlement.key).collect();
            let answers = state.settle(worker, settlements, judge, now).into_iter().zip(about);
            let kind = |(answer, key)| match answer {
                SettleAnswer::UnknownJob => "unknown job".to_owned(),
                SettleAnswer::Known { ended: Some((other, _)), .. } if other != key => "newer lease ended".to_owned(),
                SettleAnswer::Known { result, job, attempt, .. } => {
                    format!("{result:?} {} {}", attempt.map_or("unsent", |_| "sent"), ended(&job))
                }
            };
            answers.map(kind).collect()
        }
        Step::Extend(worker, holding) => {
            let extended = state.extend(worker, &holding, now);
            extended.cancel.iter().map(|_| "told to cancel".to_owned()).collect()
        }
        Step::Cancel(id, on_dead) => {
            let was_dead = state.job(id).is_some_and(|detail| detail.job.state.name() == StateName::Dead);
            state
                .cancel(id, on_dead, now)
                .map(|(answer, _)| format!("{answer:?}, was dead: {was_dead}"))
                .into_iter()
                .collect()
        }
        Step::Redrive(id, new_key) => {
            state.redrive(id, new_key, now).map(|(answer, _)| format!("{answer:?}")).into_iter().collect()
        }
        Step::RedriveTogether(ids) => {
            let number = state.start_redrive(plan_for_all_dead(), String::new(), now).number;
            let counted = Change::Counted { to: 0, found: 0, end: true };
            state.change_redrive(number, counted, now).unwrap().0.unwrap();
            let step = state.redrive_step(number, &ids, 0, true, now).unwrap();
            let told = [("redriven together", step.redrive.redriven > 0), ("skipped", step.redrive.skipped > 0)];
            told.into_iter().filter(|(_, it_is)| *it_is).map(|(kind, _)| kind.to_owned()).collect()
        }
        Step::Resolve(id) => {
            let resolution = Resolution { by: String::new(), reason: String::new(), at: now.wall };
            state.resolve(id, resolution).map(|(answer, _)| format!("{answer:?}")).into_iter().collect()
        }
        Step::Sweep => {
            let swept = state.sweep(judge, now);
            let lapsed = swept.lapsed.iter().map(|(.., job)| format!("lapsed {}", ended(job)));
            lapsed.chain(swept.expired.iter().map(|job| format!("expired {}", ended(job)))).collect()
        }
        Step::Purge(retention) => vec![format!("purged some: {}", state.purge(retention, now).jobs > 0)],
        Step::PutGate(..) | Step::Look => Vec::new(),
        Step::Reopen => {
            state.restart(state.start() + 1, now.mono);
            Vec::new()
        }
    }
}

#[test]
fn random_scripts_reach_every_kind_of_answer() {
    let mut reached: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 1..=6 {
        let mut script = Script::new(seed, BEGIN);
        let mut state = State::new(1);
        for _ in 0..STEPS {
            let step = script.next(true);
            let (now, judge) = (script.now, script.judge());
            for kind in kinds(&mut state, step, &judge, now, &mut script) {
                *reached.entry(kind).or_default() += 1;
            }
        }
    }
    for kind in KINDS {
        assert!(reached.contains_key(kind), "{kind:?} is not among {reached:#?}");
    }
}
