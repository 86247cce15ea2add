//! The reference model against a scan of all its jobs: its indexes may only make it faster.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jobs_core::conformance::rig::{BEGIN, Rig, WORKER, destination, key, seconds};
use jobs_core::conformance::script::{Script, ScriptJudge, Step, plan_for_all_dead};
use jobs_core::destination::OrderingOnDead;
use jobs_core::gate::Kind;
use jobs_core::job::{Cause, DestinationName, Job, JobId, NewJob, Priority, Request, State as JobState, StateName};
use jobs_core::lifecycle;
use jobs_core::memory::State;
use jobs_core::redrive::Change;
use jobs_core::steering::Resolution;
use jobs_core::store::{Enqueued, Filter, Grant, Judge, SettleAnswer};
use jobs_core::time::{Now, Timestamp};
use uuid::Uuid;

/// A model with what an observer knows of it besides.
struct Watched {
    state: State,
    /// Dead jobs of which it was said, when they died, that the dead block.
    blocking: BTreeSet<JobId>,
}

impl Watched {
    fn jobs(&self) -> Vec<Job> {
        let (mut jobs, mut below) = (Vec::new(), None);
        loop {
            let page = self.state.list(&Filter::default(), below, 1_000);
            jobs.extend(page.jobs);
            below = page.next;
            if below.is_none() {
                jobs.reverse();
                return jobs;
            }
        }
    }

    /// By looking at every job: whether `job` is the one of its ordering key that may be claimed.
    fn is_head(&self, job: &Job, jobs: &[Job]) -> bool {
        let Some(key) = &job.ordering_key else { return true };
        let of_key = |other: &&Job| other.ordering_key.as_ref() == Some(key) && other.destination == job.destination;
        jobs.iter().filter(of_key).all(|other| match other.state.name() {
            StateName::Leased => false,
            StateName::Pending => other.seq >= job.seq,
            StateName::Dead => other.seq > job.seq || !self.blocking.contains(&other.id),
            StateName::Succeeded | StateName::Cancelled => true,
        })
    }

    /// By looking at every job: what a claim for `grant` must lease, in order, and when the next falls due.
    fn claimable(&self, grant: &Grant, now: Timestamp) -> (Vec<JobId>, Option<Timestamp>) {
        let jobs = self.jobs();
        let mut due = Vec::new();
        let mut next: Option<Timestamp> = None;
        for job in jobs.iter().filter(|job| job.destination == grant.destination) {
            let JobState::Pending(pending) = &job.state else { continue };
            if !self.is_head(job, &jobs) {
                continue;
            }
            let released = pending.cause == Cause::Destination && pending.fail_epoch < grant.released_below;
            let in_time = lifecycle::deadline(job).is_none_or(|deadline| deadline > now);
            if (released || pending.run_at <= now) && in_time {
                let (priority, none) = (Reverse(job.priority), Reverse(Priority::MAX));
                let fresh = pending.run_at.min(job.accepted_at) > grant.fresh_after;
                let place = match grant.kind {
                    Kind::Regular if released => (priority, Timestamp::default(), none),
                    Kind::Regular => (priority, pending.run_at, none),
                    Kind::Probe { .. } if pending.run_at <= now => (none, pending.run_at, priority),
                    Kind::Probe { .. } => (none, Timestamp::MAX, priority),
                };
                let fresh = (fresh && pending.run_at <= now).then_some((priority, pending.run_at, job.seq));
                due.push((place, job.seq, job.id, fresh));
            } else if pending.run_at > now {
                next = Some(next.map_or(pending.run_at, |next| next.min(pending.run_at)));
            }
        }
        due.sort();
        let is_exhausted = due.len() < grant.max as usize;
        if grant.kind == Kind::Regular {
            let mut first: Vec<_> = due.iter().filter(|(.., fresh)| fresh.is_some()).copied().collect();
            first.sort_by_key(|(.., fresh)| *fresh);
            first.truncate(grant.fresh as usize);
            due.retain(|job| !first.contains(job));
            due.splice(..0, first);
        }
        due.truncate(grant.max as usize);
        (due.into_iter().map(|(_, _, id, _)| id).collect(), next.filter(|_| is_exhausted))
    }

    fn note_end(&mut self, job: &Job, judge: &ScriptJudge) {
        let blocks = judge.policy(&job.destination).ordering_on_dead == OrderingOnDead::Block;
        if job.state.name() == StateName::Dead && job.ordering_key.is_some() && blocks {
            self.blocking.insert(job.id);
        } else {
            self.blocking.remove(&job.id);
        }
    }

    fn step(&mut self, step: Step, judge: &ScriptJudge, now: Now, script: &mut Script) {
        match step {
            Step::Enqueue(jobs) => script.note_accepted(&self.state.enqueue(jobs, now).unwrap()),
            Step::Claim(worker, grants) => {
                for grant in grants {
                    let (expected, next) = self.claimable(&grant, now.wall);
                    let claimed = self.state.claim(worker, std::slice::from_ref(&grant), now);
                    let leased: Vec<JobId> = claimed.leases.iter().map(|lease| lease.job.id).collect();
                    assert_eq!(leased, expected, "{grant:?}");
                    let exhausted = (expected.len() < grant.max as usize).then_some((grant.destination, next));
                    assert_eq!(claimed.exhausted, Vec::from_iter(exhausted));
                    script.note_claimed(worker, &claimed);
                }
            }
            Step::Extend(worker, holding) => drop(self.state.extend(worker, &holding, now)),
            Step::Settle(worker, settlements) => {
                for answer in self.state.settle(worker, settlements, judge, now) {
                    if let SettleAnswer::Known { result: lifecycle::SettleResult::Applied, job, .. } = answer {
                        self.note_end(&job, judge);
                    }
                }
            }
            Step::Cancel(id, on_dead) => {
                if let Some((_, job)) = self.state.cancel(id, on_dead, now)
                    && job.state.name() != StateName::Dead
                {
                    self.blocking.remove(&id);
                }
            }
            Step::Redrive(id, new_key) => {
                if let Some((lifecycle::Redrive::Redriven, _)) = self.state.redrive(id, new_key, now) {
                    self.blocking.remove(&id);
                }
            }
            Step::RedriveTogether(ids) => {
                let number = self.state.start_redrive(plan_for_all_dead(), String::new(), now).number;
                let counted = Change::Counted { to: 0, found: 0, end: true };
                self.state.change_redrive(number, counted, now).unwrap().0.unwrap();
                for job in self.state.redrive_step(number, &ids, 0, true, now).unwrap().jobs {
                    self.blocking.remove(&job.id);
                }
            }
            Step::Resolve(id) => {
                let resolution = Resolution { by: String::new(), reason: String::new(), at: now.wall };
                drop(self.state.resolve(id, resolution));
            }
            Step::Sweep => {
                let swept = self.state.sweep(judge, now);
                let lapsed = swept.lapsed.iter().map(|(.., job)| job);
                for job in lapsed.chain(&swept.expired) {
                    self.note_end(job, judge);
                }
            }
            Step::Purge(retention) => _ = self.state.purge(retention, now),
            Step::PutGate(destination, gate) => self.state.put_gate(destination, gate),
            Step::Reopen => self.state.restart(self.state.start() + 1, now.mono),
            Step::Look => {}
        }
    }

    /// What holds after every step.
    fn check(&self) {
        let jobs = self.jobs();
        let stats = self.state.stats();
        assert_eq!(stats.accepted, jobs.len() as u64 + stats.purged, "no job is lost");
        let mut counts: BTreeMap<(&DestinationName, StateName), u64> = BTreeMap::new();
        for job in &jobs {
            *counts.entry((&job.destination, job.state.name())).or_default() += 1;
        }
        let kept = stats
            .destinations
            .iter()
            .flat_map(|(name, states)| states.iter().map(move |(state, n)| ((name, *state), *n)));
        assert_eq!(kept.filter(|(_, count)| *count > 0).collect::<BTreeMap<_, _>>(), counts);
        let leased: BTreeSet<(JobId, _)> = jobs
            .iter()
            .filter(|job| job.state.name() == StateName::Leased)
            .map(|job| (job.id, job.progress.last_epoch))
            .collect();
        let live: BTreeSet<_> = self.state.leases().iter().map(|(key, ..)| (key.job_id, key.epoch)).collect();
        assert_eq!(live, leased, "a leased job has one live lease, and no other job has one");
        let ordered = jobs.iter().filter(|job| job.state.name() == StateName::Leased);
        let mut held = BTreeSet::new();
        for job in ordered {
            if let Some(key) = &job.ordering_key {
                assert!(held.insert((&job.destination, key)), "two of one ordering key are leased");
            }
        }
        for id in &self.blocking {
            assert!(jobs.iter().any(|job| job.id == *id), "a blocking job was purged");
        }
        for destination in stats.destinations.keys() {
            let waiting =
                jobs.iter().filter(|job| job.destination == *destination).filter_map(|job| match &job.state {
                    JobState::Pending(pending) => Some(pending.run_at),
                    JobState::Leased(_)
                    | JobState::Succeeded { .. }
                    | JobState::Dead { .. }
                    | JobState::Cancelled { .. } => None,
                });
            assert_eq!(self.state.oldest_due(destination), waiting.min());
        }
    }
}

#[test]
fn over_random_scripts_a_claim_finds_what_a_scan_of_all_jobs_finds() {
    for seed in 1..=20 {
        println!("seed {seed}");
        let mut script = Script::new(seed, BEGIN);
        let mut watched = Watched { state: State::new(1), blocking: BTreeSet::new() };
        for _ in 0..400 {
            let step = script.next(true);
            let (now, judge) = (script.now, script.judge());
            watched.step(step, &judge, now, &mut script);
            watched.check();
        }
    }
}

fn job(id: u128) -> NewJob {
    NewJob {
        id: JobId(Uuid::from_u128(id)),
        id_is_new: false,
        destination: destination("api2"),
        request: Request::default(),
        idempotency: Some(key("client", "k", 1)),
        run_at: BEGIN.wall,
        expires_after: None,
        priority: Priority::default(),
        ordering_key: None,
        max_attempts: None,
        traceparent: None,
        redriven_from: None,
        callback: None,
    }
}

#[test]
fn replays_of_a_key_are_counted_and_refusals_are_not() {
    let mut state = State::new(1);
    assert_eq!(state.replays("client", "k"), None);
    for n in 1..=3 {
        let answers = state.enqueue(vec![job(n)], BEGIN).unwrap();
        assert_eq!(matches!(answers[0], Enqueued::Accepted(_)), n == 1);
        assert_eq!(state.replays("client", "k"), Some(n as u64 - 1));
    }
    let other = NewJob { idempotency: Some(key("client", "k", 2)), ..job(4) };
    state.enqueue(vec![other], BEGIN).unwrap();
    assert_eq!(state.replays("client", "k"), Some(2));
}

#[test]
fn a_restart_forgets_nothing_and_numbers_its_epochs_above_all_before() {
    let mut state = State::new(3);
    state.enqueue(vec![job(1)], BEGIN).unwrap();
    let grant = Rig::grant(1, 0);
    let first = state.claim(WORKER, std::slice::from_ref(&grant), BEGIN).leases.remove(0);
    let held = state.leases();
    state.restart(4, BEGIN.plus(seconds(100)).mono);
    assert_eq!((state.start(), state.leases()), (4, held));
    let none_lapsed = state.sweep(&jobs_core::conformance::TestJudge::default(), BEGIN.plus(seconds(101)));
    assert_eq!(none_lapsed.lapsed, []);
    assert_eq!(state.job(first.job.id).unwrap().job, first.job);
    state.sweep(&jobs_core::conformance::TestJudge::default(), BEGIN.plus(seconds(102)));
    let lapsed = state.sweep(&jobs_core::conformance::TestJudge::default(), BEGIN.plus(seconds(105)));
    // The sweeper itself was late, so the lease got another term; one that is not, ends it.
    assert_eq!(lapsed.lapsed, []);
    for second in 106..110 {
        state.sweep(&jobs_core::conformance::TestJudge::default(), BEGIN.plus(seconds(second)));
    }
    let lapsed = state.sweep(&jobs_core::conformance::TestJudge::default(), BEGIN.plus(seconds(110)));
    assert_eq!(lapsed.lapsed.len(), 1);
    let second = state.claim(WORKER, &[grant], BEGIN.plus(seconds(110))).leases.remove(0);
    assert!(second.epoch > first.epoch && second.epoch.start() == 4);
}
