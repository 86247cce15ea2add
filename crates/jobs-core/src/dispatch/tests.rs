mod gate;

use super::*;
use crate::destination::RateLimit;
use crate::job::{Cause, JobId, Leased, NewJob, Pending, Priority, Request};
use crate::lifecycle::{self, SettleResult};
use crate::outcome::Class;
use crate::store::Lease;
use uuid::Uuid;

const NOW: Now = Now { wall: Timestamp::from_millis(1_000_000), mono: Mono::from_millis(1_000) };

fn worker(n: u128) -> WorkerId {
    WorkerId(Uuid::from_u128(n))
}

fn name(text: &str) -> DestinationName {
    text.parse().unwrap()
}

/// A dispatcher of the named destinations, each with work.
fn dispatcher(names: &[&str], adjust: impl Fn(&mut Destination)) -> Dispatcher {
    let mut dispatcher = Dispatcher::new(1);
    let settings = names.iter().map(|text| {
        let mut settings = Destination::new(name(text), "http://127.0.0.1/".to_owned());
        adjust(&mut settings);
        (name(text), Arc::new(settings))
    });
    dispatcher.configure(settings.collect(), NOW);
    dispatcher
}

fn new_job(n: u128, destination: &str) -> NewJob {
    NewJob {
        id: JobId(Uuid::from_u128(n)),
        id_is_new: false,
        destination: name(destination),
        request: Request::default(),
        idempotency: None,
        run_at: NOW.wall,
        expires_after: None,
        priority: Priority::default(),
        ordering_key: None,
        max_attempts: None,
        traceparent: None,
        redriven_from: None,
        callback: None,
    }
}

/// Job `n` of `destination`, leased under `grant`.
fn lease(n: u128, destination: &str, grant: Option<&Grant>) -> Lease {
    let (mut job, request) = lifecycle::enqueue(new_job(n, destination), 1, Epoch::NONE, NOW.wall);
    let epoch = Epoch::new(1, n as u32);
    job.state = State::Leased(Leased {
        epoch,
        worker: worker(1),
        claimed_at: NOW.wall,
        destination_epoch: 0,
        begun: grant.map_or(Tick(1), |grant| grant.begun),
        ok_begun: grant.map_or(Tick::NEVER, |grant| grant.ok_begun),
        from: Pending { run_at: NOW.wall, cause: Cause::New, fail_epoch: 0 },
        cancel_requested: false,
    });
    Lease { job, epoch, request }
}

/// As if the store had had plenty: all that was granted is leased.
fn all_leased(grants: &[Grant]) -> Claimed {
    let leases = grants
        .iter()
        .flat_map(|grant| (0..grant.max).map(|n| lease(u128::from(n), grant.destination.as_str(), Some(grant))));
    Claimed { leases: leases.collect(), ..Claimed::default() }
}

fn settled(lease: &Lease) -> SettleAnswer {
    let key = LeaseKey { job_id: lease.job.id, epoch: lease.epoch };
    let mut job = lease.job.clone();
    job.state = State::Succeeded { at: NOW.wall };
    SettleAnswer::Known { result: SettleResult::Applied, job, attempt: None, ended: Some((key, worker(1))) }
}

/// As if what is to be persisted had been.
fn persist(dispatcher: &mut Dispatcher) {
    for change in dispatcher.changes() {
        dispatcher.persisted(&change);
    }
}

fn granted(grants: &[Grant], destination: &str) -> u32 {
    grants.iter().filter(|grant| grant.destination == name(destination)).map(|grant| grant.max).sum()
}

#[test]
fn no_more_than_the_limit_is_in_flight_over_all_workers() {
    let mut dispatcher = dispatcher(&["a"], |settings| settings.max_in_flight = Some(10));
    let first = dispatcher.plan(worker(1), 100, 7, NOW);
    let second = dispatcher.plan(worker(2), 100, 7, NOW);
    assert_eq!((granted(&first, "a"), granted(&second, "a")), (7, 3));
    assert!(dispatcher.plan(worker(3), 100, 7, NOW).is_empty());
    let leased = all_leased(&first);
    dispatcher.claimed(&first, &leased, NOW);
    dispatcher.claimed(&second, &Claimed::default(), NOW);
    assert_eq!(granted(&dispatcher.plan(worker(3), 100, 7, NOW), "a"), 3);
    dispatcher.settled(&[settled(&leased.leases[0])], NOW);
    assert_eq!(granted(&dispatcher.plan(worker(3), 100, 7, NOW), "a"), 1);
}

#[test]
fn a_failed_claim_gives_its_reservations_back() {
    let mut dispatcher = dispatcher(&["a"], |settings| settings.max_in_flight = Some(4));
    let grants = dispatcher.plan(worker(1), 100, 10, NOW);
    dispatcher.claim_failed(&grants, NOW);
    assert_eq!(granted(&dispatcher.plan(worker(1), 100, 10, NOW), "a"), 4);
}

#[test]
fn a_rate_limit_is_exact_over_all_workers_and_tells_when_to_look_again() {
    let limit = RateLimit { per_second: 10.0, burst: 5 };
    let mut dispatcher = dispatcher(&["a"], |settings| settings.rate_limit = Some(limit));
    assert_eq!(granted(&dispatcher.plan(worker(1), 100, 4, NOW), "a"), 4);
    assert_eq!(granted(&dispatcher.plan(worker(2), 100, 4, NOW), "a"), 1);
    assert!(dispatcher.plan(worker(1), 100, 4, NOW).is_empty());
    let wait = dispatcher.wake_in(NOW).unwrap();
    assert!((100..=101).contains(&wait.as_millis()), "{wait:?}");
    assert_eq!(granted(&dispatcher.plan(worker(1), 100, 4, NOW.plus(wait)), "a"), 1);
}

#[test]
fn destinations_with_work_are_served_in_turn() {
    let mut dispatcher = dispatcher(&["a", "b", "c"], |_| {});
    let mut served: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..30 {
        for grant in dispatcher.plan(worker(1), 1_000, 1, NOW) {
            *served.entry(grant.destination.to_string()).or_default() += grant.max;
        }
    }
    assert_eq!(served.into_values().collect::<Vec<_>>(), [10, 10, 10]);
}

#[test]
fn a_claim_that_ended_early_is_followed_by_one_that_begins_with_those_it_did_not_come_to() {
    let mut dispatcher = dispatcher(&["a", "b", "c"], |_| {});
    let grants = dispatcher.plan(worker(1), 30, 30, NOW);
    assert_eq!(grants.iter().map(|grant| grant.destination.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let first = lease(1, "a", Some(&grants[0]));
    dispatcher.claimed(&grants, &Claimed { leases: vec![first], ..Claimed::default() }, NOW);
    let grants = dispatcher.plan(worker(1), 30, 29, NOW);
    assert_eq!(grants.iter().map(|grant| grant.destination.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
}

#[test]
fn a_destination_that_hangs_leaves_slots_for_the_others() {
    let mut dispatcher = dispatcher(&["hangs", "well"], |_| {});
    let mut hanging = 0;
    for _ in 0..100 {
        let grants = dispatcher.plan(worker(1), 16, 16 - hanging, NOW);
        hanging += granted(&grants, "hangs");
        let (hung, well): (Vec<Grant>, Vec<Grant>) =
            grants.into_iter().partition(|grant| grant.destination == name("hangs"));
        dispatcher.claimed(&hung, &all_leased(&hung), NOW);
        let done = all_leased(&well);
        dispatcher.claimed(&well, &done, NOW);
        dispatcher.settled(&done.leases.iter().map(settled).collect::<Vec<_>>(), NOW);
    }
    assert_eq!(hanging, 8);
}

#[test]
fn a_destination_alone_with_its_work_still_leaves_room_for_another_to_start() {
    let mut dispatcher = dispatcher(&["busy", "idle"], |_| {});
    let nothing =
        |grants: &[Grant]| Claimed { exhausted: vec![(grants[0].destination.clone(), None)], ..Claimed::default() };
    let first = dispatcher.plan(worker(1), 16, 1, NOW);
    dispatcher.claimed(&first, &nothing(&first), NOW);
    let second = dispatcher.plan(worker(1), 16, 16, NOW);
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].max, 14);
}

#[test]
fn an_exhausted_destination_is_asked_again_when_its_next_job_is_due_or_new_work_arrives() {
    let mut dispatcher = dispatcher(&["a"], |_| {});
    let grants = dispatcher.plan(worker(1), 10, 10, NOW);
    let due = NOW.wall.plus(Duration::from_secs(4));
    dispatcher.claimed(&grants, &Claimed { exhausted: vec![(name("a"), Some(due))], ..Claimed::default() }, NOW);
    assert!(dispatcher.plan(worker(1), 10, 10, NOW).is_empty());
    assert_eq!(dispatcher.wake_in(NOW), Some(Duration::from_secs(4)));
    dispatcher.work_arrived(&name("a"), NOW.wall);
    assert_eq!(dispatcher.wake_in(NOW), None);
    assert_eq!(granted(&dispatcher.plan(worker(1), 10, 10, NOW), "a"), 10);
}

#[test]
fn a_claim_that_found_nothing_does_not_hide_work_that_arrived_meanwhile() {
    let mut dispatcher = dispatcher(&["a"], |_| {});
    let grants = dispatcher.plan(worker(1), 10, 10, NOW);
    dispatcher.work_arrived(&name("a"), NOW.wall);
    dispatcher.claimed(&grants, &Claimed { exhausted: vec![(name("a"), None)], ..Claimed::default() }, NOW);
    assert_eq!(granted(&dispatcher.plan(worker(1), 10, 10, NOW), "a"), 10);
}

#[test]
fn a_paused_or_removed_destination_is_granted_nothing_until_it_is_back() {
    let mut dispatcher = dispatcher(&["a"], |_| {});
    assert!(dispatcher.pause(&name("a"), NOW));
    persist(&mut dispatcher);
    assert!(dispatcher.plan(worker(1), 10, 10, NOW).is_empty());
    assert_eq!(dispatcher.views()[0].state, GateStateName::Paused);
    assert!(dispatcher.resume(&name("a"), NOW));
    persist(&mut dispatcher);
    assert_eq!(granted(&dispatcher.plan(worker(1), 10, 10, NOW), "a"), 1, "it ramps");
    let settings = dispatcher.destination("a").unwrap();
    dispatcher.configure(BTreeMap::new(), NOW);
    assert!(dispatcher.plan(worker(1), 10, 10, NOW).is_empty());
    assert!(dispatcher.views()[0].removed && dispatcher.destination("a").is_none());
    dispatcher.configure(BTreeMap::from([(name("a"), settings)]), NOW);
    assert_eq!(granted(&dispatcher.plan(worker(1), 10, 10, NOW), "a"), 1, "it ramps");
    assert!(!dispatcher.pause(&name("nobody"), NOW) && !dispatcher.resume(&name("nobody"), NOW));
}

#[test]
fn what_was_in_flight_before_a_restart_counts_after_it() {
    let mut dispatcher = dispatcher(&["a"], |settings| settings.max_in_flight = Some(3));
    let key = LeaseKey { job_id: JobId(Uuid::from_u128(1)), epoch: Epoch::new(1, 1) };
    let paused = GateRecord { paused: true, ..GateRecord::default() };
    dispatcher.restore(
        &[(key, worker(9), name("a"))],
        BTreeMap::from([(name("b"), paused)]),
        [name("a"), name("b")],
        NOW,
    );
    let later = |seconds| NOW.plus(Duration::from_secs(seconds));
    let granted = [0, 1, 2].map(|seconds| granted(&dispatcher.plan(worker(1), 10, 10, later(seconds)), "a"));
    assert_eq!(granted, [1, 1, 0], "carefully, up to the limit");
    let views = dispatcher.views();
    assert_eq!((views[1].name.as_str(), views[1].removed), ("b", true));
}

#[test]
fn an_ok_is_evidence_against_a_job_that_began_before_it() {
    let mut dispatcher = dispatcher(&["a"], |_| {});
    let grants = dispatcher.plan(worker(1), 10, 2, NOW);
    let (good, bad) = (lease(1, "a", Some(&grants[0])), lease(2, "a", Some(&grants[0])));
    let judge = Mutex::new(dispatcher);
    let weigh = |lease: &Lease, class| judge.weigh(&lease.job, lease.epoch, &Outcome::of(class), worker(1), NOW).1;
    assert_eq!(weigh(&bad, Class::Error).other_ok, Tick::NEVER);
    assert_eq!(weigh(&good, Class::Ok).other_ok, Tick::NEVER);
    assert!(weigh(&bad, Class::Error).other_ok > grants[0].begun);
}

#[test]
fn a_stale_failure_is_no_evidence() {
    let judge = Mutex::new(dispatcher(&["a"], |_| {}));
    let (one, other) = (lease(1, "a", None), lease(2, "a", None));
    judge.weigh(&one.job, Epoch::new(1, 99), &Outcome::of(Class::Error), worker(1), NOW);
    assert!(!judge.weigh(&other.job, other.epoch, &Outcome::of(Class::Error), worker(1), NOW).1.others_fail);
    judge.weigh(&one.job, one.epoch, &Outcome::of(Class::Error), worker(1), NOW);
    assert!(judge.weigh(&other.job, other.epoch, &Outcome::of(Class::Error), worker(1), NOW).1.others_fail);
}
