//! What a store keeps for operators: mass redrives, resolved jobs, the audit log.

use super::StoreUnderTest;
use super::reading::without_zeros;
use super::rig::{Rig, api2, destination, seconds};
use crate::destination::OrderingOnDead;
use crate::job::{DeadReason, Job, JobId, NewJob, StateName};
use crate::outcome::{Class, Outcome};
use crate::redrive::{Change, MassRedrive, Mode, Phase, Plan, Stop, Tally, Unfit};
use crate::steering::{Act, Action, Redriven, Resolution, Resolve};
use crate::store::{Filter, Page};

fn dead_jobs() -> Filter {
    Filter { state: Some(StateName::Dead), ..Filter::default() }
}

fn plan(filter: Filter) -> Plan {
    Plan { filter, mode: Mode::Run, canary: 2, per_second: Some(12.5), stop_on_failure_ratio: 0.25, new_key: false }
}

fn resolution(rig: &Rig, reason: &str) -> Resolution {
    Resolution { by: "key-1".to_owned(), reason: reason.to_owned(), at: rig.now.wall }
}

/// Verbs as a gateway calls them; each panics where the store fails.
impl Rig {
    async fn found(&self, filter: Filter) -> Vec<JobId> {
        let (mut all, mut above) = (Vec::new(), 0);
        loop {
            let Page { jobs, next } = self.store.find(filter.clone(), above, 2).await.expect("jobs are found");
            assert!(jobs.len() <= 2, "a page holds no more than was asked for");
            all.extend(jobs.iter().map(|job| job.id));
            match next {
                Some(next) => assert!(std::mem::replace(&mut above, next) < next, "each page leads further"),
                None => return all,
            }
        }
    }

    async fn resolve(&self, id: JobId, reason: &str) -> (Resolve, Job) {
        let answer = self.store.resolve(id, resolution(self, reason)).await.expect("a resolve is answered");
        answer.expect("the job is known")
    }

    async fn start_redrive(&self, plan: Plan) -> MassRedrive {
        self.store.start_redrive(plan, "key-1".to_owned(), self.now).await.expect("a mass redrive is kept")
    }

    async fn change(&self, number: u32, change: Change) -> Result<MassRedrive, Unfit> {
        let answer = self.store.change_redrive(number, change, self.now).await.expect("a change is answered");
        let (answer, redrive) = answer.expect("the mass redrive is known");
        answer.map(|()| redrive)
    }

    async fn step(&self, number: u32, jobs: &[JobId], to: u64, end: bool) -> Redriven {
        let answer = self.store.redrive_step(number, jobs.to_vec(), to, end, self.now).await;
        answer.expect("a step is answered").expect("the mass redrive is known")
    }

    /// A mass redrive of all dead jobs, counted.
    async fn counted(&self, plan: Plan) -> u32 {
        let number = self.start_redrive(plan).await.number;
        self.change(number, Change::Counted { to: 9, found: 3, end: true }).await.expect("it counts");
        number
    }

    async fn tally(&self, number: u32) -> Tally {
        self.store.mass_redrive(number).await.expect("it is read").expect("it is known").tally
    }
}

pub async fn jobs_are_found_earliest_accepted_first(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let mut ids = Vec::new();
    for state in [StateName::Dead, StateName::Cancelled, StateName::Dead, StateName::Succeeded, StateName::Dead] {
        ids.push(rig.ended(state).await);
    }
    assert_eq!(rig.found(Filter::default()).await, ids);
    assert_eq!(rig.found(dead_jobs()).await, [ids[0], ids[2], ids[4]]);
    let first = rig.store.find(dead_jobs(), 0, 1).await.expect("jobs are found");
    let rest = rig.store.find(dead_jobs(), first.next.expect("there are more"), 10).await.expect("jobs are found");
    assert_eq!(
        rest.jobs.iter().map(|job| job.id).collect::<Vec<_>>(),
        ids[2..].iter().copied().step_by(2).collect::<Vec<_>>()
    );
    assert_eq!(rig.store.find(dead_jobs(), rest.jobs[1].seq, 10).await, Ok(Page::default()));
}

pub async fn each_condition_of_a_filter_holds(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let began = rig.now.wall;
    let refused = rig.accept_one().await;
    let outcome = Outcome { error: Some("card is blocked".to_owned()), ..Outcome::of(Class::JobFail) };
    rig.settle_outcome(rig.claim_this(refused).await, outcome).await;
    rig.pass(seconds(10));
    let short = NewJob { expires_after: Some(seconds(1)), ..rig.job() };
    let expired = rig.accept(short).await.id;
    rig.pass(seconds(10));
    rig.sweep().await;
    let cancelled = rig.ended(StateName::Cancelled).await;
    let waiting = rig.accept_one().await;
    let at = |after| Some(began.plus(seconds(after)));
    let any = Filter::default;
    for (filter, wanted) in [
        (Filter { dead_reason: Some(DeadReason::Expired), ..any() }, vec![expired]),
        (Filter { dead_reason: Some(DeadReason::Lost), ..any() }, vec![]),
        (Filter { error: Some("is blocked".to_owned()), ..any() }, vec![refused]),
        (Filter { error: Some("body".to_owned()), ..any() }, vec![]),
        (Filter { created_from: at(10), ..any() }, vec![expired, cancelled, waiting]),
        (Filter { created_until: at(10), ..any() }, vec![refused, expired]),
        (Filter { finished_from: at(1), ..any() }, vec![expired, cancelled]),
        (Filter { finished_until: at(19), ..any() }, vec![refused]),
        (Filter { finished_until: at(20), ..dead_jobs() }, vec![refused, expired]),
        (Filter { ids: vec![waiting, refused, JobId(uuid::Uuid::nil())], ..any() }, vec![refused, waiting]),
        (Filter { ids: vec![waiting, expired], ..dead_jobs() }, vec![expired]),
        (Filter { destination: Some(destination("elsewhere")), ..dead_jobs() }, vec![]),
    ] {
        assert_eq!(rig.found(filter.clone()).await, wanted, "{filter:?}");
        let mut listed: Vec<JobId> =
            super::reading::list_all(rig.store.as_ref(), &filter, 2).await.iter().map(|job| job.id).collect();
        listed.reverse();
        assert_eq!(listed, wanted, "listed from the other end: {filter:?}");
    }
}

pub async fn a_resolved_job_stays_dead_and_counts_as_unresolved_no_more(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let (first, second) = (rig.ended(StateName::Dead).await, rig.ended(StateName::Dead).await);
    let waiting = rig.accept_one().await;
    assert_eq!(rig.resolve(waiting, "no").await.0, Resolve::NotDead);
    assert_eq!(rig.store.resolve(JobId(uuid::Uuid::nil()), resolution(&rig, "no")).await, Ok(None));
    for reason in ["paid by hand", "paid by hand, twice"] {
        let (answer, job) = rig.resolve(first, reason).await;
        assert_eq!((answer, job.state.name()), (Resolve::Resolved, StateName::Dead));
        let detail = rig.store.job(first).await.expect("a job is read").expect("the job is known");
        assert_eq!(detail.resolution, Some(resolution(&rig, reason)), "the last word counts");
    }
    rig.reopen_if_durable(under_test).await;
    let resolved = async |rig: &Rig| without_zeros(rig.store.stats().await.expect("stats are read")).resolved;
    assert_eq!(resolved(&rig).await, [(api2(), 1)].into());
    let only = |resolved| Filter { resolved: Some(resolved), ..dead_jobs() };
    assert_eq!((rig.found(only(true)).await, rig.found(only(false)).await), (vec![first], vec![second]));
    rig.redrive(first).await;
    assert_eq!(resolved(&rig).await, [].into(), "dead no more");
    rig.end(first, StateName::Dead).await;
    assert_eq!(rig.found(only(true)).await, [], "and dead again is another matter");
}

pub async fn a_purge_forgets_what_was_resolved(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.ended(StateName::Dead).await;
    rig.resolve(id, "done").await;
    rig.pass(seconds(100_000_000));
    assert_eq!(rig.purge(crate::store::Retention::default()).await, 1);
    assert_eq!(without_zeros(rig.store.stats().await.expect("stats are read")).resolved, [].into());
}

pub async fn a_mass_redrive_is_kept_as_it_was_asked_for(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let filter = Filter {
        destination: Some(api2()),
        text: Some("a".to_owned()),
        error: Some("b".to_owned()),
        dead_reason: Some(DeadReason::Exhausted),
        resolved: Some(false),
        created_from: Some(rig.now.wall),
        ids: vec![JobId(uuid::Uuid::from_u128(7))],
        ..dead_jobs()
    };
    let first = rig.start_redrive(plan(filter)).await;
    let second = rig.start_redrive(Plan { mode: Mode::Preview, ..plan(dead_jobs()) }).await;
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!((first.phase, first.by.as_str(), first.asked_at), (Phase::Counting, "key-1", rig.now.wall));
    rig.reopen_if_durable(under_test).await;
    assert_eq!(rig.store.mass_redrive(1).await, Ok(Some(first.clone())));
    assert_eq!(rig.store.mass_redrive(3).await, Ok(None));
    assert_eq!(rig.store.mass_redrives(10).await, Ok(vec![second.clone(), first]));
    assert_eq!(rig.store.mass_redrives(1).await, Ok(vec![second]));
}

pub async fn a_mass_redrive_changes_as_its_rules_say_and_keeps_that(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let number = rig.start_redrive(plan(dead_jobs())).await.number;
    assert_eq!(rig.change(number, Change::CanaryPassed).await, Err(Unfit));
    let counted = rig.change(number, Change::Counted { to: 5, found: 4, end: true }).await.expect("it counts");
    assert_eq!((counted.phase, counted.matched, counted.counted_to), (Phase::Canary, 4, 5));
    let stop = Stop { reason: "lunch".to_owned(), by_rule: false };
    rig.pass(seconds(3));
    let stopped = rig.change(number, Change::Stop(stop.clone())).await.expect("it stops");
    assert_eq!((stopped.stop.as_ref(), stopped.updated_at), (Some(&stop), rig.now.wall));
    rig.reopen_if_durable(under_test).await;
    assert_eq!(rig.store.mass_redrive(number).await, Ok(Some(stopped)));
    assert_eq!(rig.change(number, Change::Resume).await.expect("it goes on").phase, Phase::Canary);
    assert_eq!(rig.store.change_redrive(9, Change::Resume, rig.now).await, Ok(None));
}

pub async fn a_step_redrives_what_is_still_wanted_and_moves_on(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let (first, second) = (rig.ended(StateName::Dead).await, rig.ended(StateName::Dead).await);
    let cancelled = rig.ended(StateName::Cancelled).await;
    let number = rig.counted(plan(dead_jobs())).await;
    rig.redrive(second).await;
    let step = rig.step(number, &[first, second, cancelled, JobId(uuid::Uuid::nil())], 7, false).await;
    assert_eq!(step.jobs, [rig.stored(first).await], "one of them waits already, and one is not dead");
    assert_eq!(step.jobs[0].progress.redrive, Some(number));
    assert_eq!((step.redrive.redriven, step.redrive.skipped, step.redrive.redriven_to), (1, 3, 7));
    rig.reopen_if_durable(under_test).await;
    assert_eq!(rig.store.mass_redrive(number).await, Ok(Some(step.redrive)));
    assert_eq!(rig.step(number, &[], 8, true).await.redrive.phase, Phase::Done);
    let late = rig.step(number, &[cancelled], 9, true).await;
    assert_eq!((late.jobs.len(), late.redrive.redriven_to), (0, 8), "it has ended");
    assert_eq!(rig.store.redrive_step(9, vec![], 1, true, rig.now).await, Ok(None));
}

pub async fn a_mass_redrive_counts_what_becomes_of_its_jobs_each_one_time(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(rig.ended(StateName::Dead).await);
    }
    let number = rig.counted(plan(dead_jobs())).await;
    assert_eq!(rig.step(number, &ids, 9, true).await.redrive.redriven, 5);
    rig.reopen_if_durable(under_test).await;
    rig.end(ids[0], StateName::Succeeded).await;
    rig.end(ids[1], StateName::Dead).await;
    rig.end(ids[2], StateName::Cancelled).await;
    assert_eq!(rig.tally(number).await, Tally { succeeded: 1, failed: 1, cancelled: 1 });
    // The destination is to blame for this one, and for the next the job itself.
    rig.settle(rig.claim_this(ids[3]).await, Class::Down).await;
    assert_eq!(rig.tally(number).await.told(), 3, "that says nothing about the job");
    rig.judge.evidence.remove(&api2());
    rig.settle(rig.claim_this(ids[4]).await, Class::Error).await;
    assert_eq!(rig.stored(ids[4]).await.progress.charged, 1);
    assert_eq!(rig.tally(number).await, Tally { succeeded: 1, failed: 2, cancelled: 1 });
    rig.pass(seconds(300));
    rig.settle(rig.claim_this(ids[4]).await, Class::Ok).await;
    rig.redrive(ids[1]).await;
    rig.end(ids[1], StateName::Succeeded).await;
    assert_eq!(rig.tally(number).await, Tally { succeeded: 1, failed: 2, cancelled: 1 }, "told before");
}

pub async fn the_audit_log_keeps_who_did_what(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let act = |rig: &Rig, action, target: &str| Act {
        at: rig.now.wall,
        by: "key-1".to_owned(),
        action,
        target: target.to_owned(),
        detail: String::new(),
    };
    for action in Action::ALL {
        rig.store.note(act(&rig, action, "it")).await.expect("an act is noted");
        rig.pass(seconds(1));
    }
    rig.reopen_if_durable(under_test).await;
    let lines = rig.store.audit(None, 100).await.expect("the log is read");
    let latest_first: Vec<Action> = Action::ALL.into_iter().rev().collect();
    assert_eq!(lines.iter().map(|line| line.act.action).collect::<Vec<_>>(), latest_first);
    assert!(lines.is_sorted_by(|one, other| one.number > other.number && one.act.at > other.act.at));
    let page = rig.store.audit(Some(lines[2].number), 2).await.expect("the log is read");
    assert_eq!(page, lines[3..5]);
}

pub async fn a_closed_store_answers_so_to_operators(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.ended(StateName::Dead).await;
    rig.cancel_where(id, OrderingOnDead::Free).await;
    assert_eq!(rig.store.close().await, Ok(()));
    let closed = Some(crate::store::StoreError::Closed);
    let (store, now) = (&rig.store, rig.now);
    let act =
        Act { at: now.wall, by: String::new(), action: Action::Pause, target: String::new(), detail: String::new() };
    assert_eq!(store.find(dead_jobs(), 0, 1).await.err(), closed);
    assert_eq!(store.resolve(id, resolution(&rig, "")).await.err(), closed);
    assert_eq!(store.start_redrive(plan(dead_jobs()), String::new(), now).await.err(), closed);
    assert_eq!(store.mass_redrive(1).await.err(), closed);
    assert_eq!(store.mass_redrives(1).await.err(), closed);
    assert_eq!(store.change_redrive(1, Change::Resume, now).await.err(), closed);
    assert_eq!(store.redrive_step(1, vec![id], 1, true, now).await.err(), closed);
    assert_eq!(store.note(act).await.err(), closed);
    assert_eq!(store.audit(None, 1).await.err(), closed);
}
