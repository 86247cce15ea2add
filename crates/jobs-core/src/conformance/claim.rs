//! Claiming: which jobs, in which order, how many, and under which epochs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::StoreUnderTest;
use super::rig::{OTHER_WORKER, Rig, WORKER, api2, dead, destination, ids, pending, seconds};
use crate::charging::Evidence;
use crate::gate::Kind;
use crate::job::{Cause, DeadReason, Epoch, JobId, NewJob, Priority, Request, State, StateName, Tick, WorkerId};
use crate::outcome::Class;
use crate::store::{Grant, MAX_CLAIM_BYTES};
use crate::time::Timestamp;

pub async fn priority_goes_first_then_the_earlier_time_then_the_earlier_acceptance(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    // (priority, due after, where it comes in the end)
    let table = [(0, 5, 6), (0, 3, 3), (9, 5, 1), (0, 3, 4), (9, 4, 0), (5, 5, 2), (0, 4, 5)];
    let mut expected = vec![None; table.len()];
    for (level, after, place) in table {
        let run_at = rig.now.wall.plus(seconds(after));
        let job = NewJob { priority: Priority::new(level).expect("0 to 9"), run_at, ..rig.job() };
        expected[place] = Some(rig.accept(job).await.id);
    }
    rig.pass(seconds(5));
    let claimed: Vec<Option<JobId>> = rig.claim(9).await.iter().map(|key| Some(key.job_id)).collect();
    assert_eq!(claimed, expected);
}

pub async fn a_job_is_not_claimed_before_its_time(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = NewJob { run_at: rig.now.wall.plus(seconds(2)), ..rig.job() };
    let id = rig.accept(job).await.id;
    rig.pass(seconds(1));
    assert_eq!(rig.claim(9).await, []);
    rig.pass(seconds(1));
    assert_eq!(rig.claim_one().await.job_id, id);
}

/// Fails a claimable job by its destination, in `epoch` of the destination.
async fn fail_by_destination(rig: &Rig, id: JobId, epoch: u64) {
    let leases = rig.claim_granted(WORKER, vec![Rig::grant(1, epoch)]).await.leases;
    assert_eq!(ids(&leases), [id]);
    let job = rig.settle(super::rig::keys(&leases)[0], Class::Down).await.job;
    assert_eq!((pending(&job).cause, pending(&job).fail_epoch), (Cause::Destination, epoch));
}

pub async fn a_recovery_releases_what_its_outage_made_wait(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let held = rig.accept_one().await;
    fail_by_destination(&rig, held, 3).await;
    let nothing = rig.claim_granted(WORKER, vec![Rig::grant(9, 3)]).await;
    assert_eq!(ids(&nothing.leases), [], "the outage goes on");
    let released = rig.claim_granted(WORKER, vec![Rig::grant(9, 4)]).await;
    assert_eq!(ids(&released.leases), [held]);
}

pub async fn a_recovery_does_not_release_what_waits_on_its_own_account(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.judge.evidence.insert(api2(), Evidence { others_fail: false, ..Evidence::default() });
    let id = rig.accept_one().await;
    let job = rig.settle(rig.claim_one().await, Class::Error).await.job;
    assert_eq!(pending(&job).cause, Cause::Job);
    assert_eq!(rig.claim_granted(WORKER, vec![Rig::grant(9, 7)]).await.leases, []);
    rig.pass(seconds(2));
    assert_eq!(rig.claim_one().await.job_id, id);
}

pub async fn released_jobs_go_before_others_of_their_priority(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let one = rig.accept_one().await;
    let of_one = rig.claim_one().await;
    let two = rig.accept_one().await;
    let of_two = rig.claim_granted(WORKER, vec![Rig::grant(1, 1)]).await.leases;
    // Of two outages, and due in the other order by their own time.
    rig.settle(super::rig::keys(&of_two)[0], Class::Down).await;
    rig.pass(seconds(1));
    rig.settle(of_one, Class::Down).await;
    let urgent = NewJob { priority: Priority::new(1).expect("0 to 9"), ..rig.job() };
    let (fresh, urgent) = (rig.accept_one().await, rig.accept(urgent).await.id);
    let leases = rig.claim_granted(WORKER, vec![Rig::grant(9, 2)]).await.leases;
    assert_eq!(ids(&leases), [urgent, one, two, fresh], "in the order of acceptance, whichever outage it was");
}

pub async fn fresh_jobs_go_before_a_backlog_as_many_as_their_share(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let urgent = NewJob { priority: Priority::new(9).expect("0 to 9"), ..rig.job() };
    let old = [rig.accept(urgent).await.id, rig.accept_one().await, rig.accept_one().await];
    let fresh_after = rig.now.wall;
    rig.pass(seconds(5));
    let first = rig.accept_one().await;
    rig.pass(seconds(1));
    let urgent = NewJob { priority: Priority::new(1).expect("0 to 9"), ..rig.job() };
    let fresh = [rig.accept(urgent).await.id, first, rig.accept_one().await];
    let claimed = rig.claim_granted(WORKER, vec![Grant { fresh: 2, fresh_after, ..Rig::grant(4, 0) }]).await;
    assert_eq!(ids(&claimed.leases), [fresh[0], fresh[1], old[0], old[1]], "in the order of a claim, both");
    assert_eq!(claimed.exhausted, []);
    let claimed = rig.claim_granted(WORKER, vec![Grant { fresh: 9, fresh_after, ..Rig::grant(4, 0) }]).await;
    assert_eq!(ids(&claimed.leases), [fresh[2], old[2]], "what the fresh do not need is the others'");
}

pub async fn a_share_for_the_fresh_is_no_more_than_the_grant(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let jobs = [rig.accept_one().await, rig.accept_one().await];
    let claimed = rig.claim_granted(WORKER, vec![Grant { fresh: 5, ..Rig::grant(1, 0) }]).await;
    assert_eq!(ids(&claimed.leases), jobs[..1]);
}

pub async fn fresh_is_what_was_accepted_and_due_of_late_tried_or_not(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let ended = rig.ended(StateName::Cancelled).await;
    let old = rig.accept_one().await;
    let delayed = NewJob { run_at: rig.now.wall.plus(seconds(4)), ..rig.job() };
    let delayed = rig.accept(delayed).await.id;
    let fresh_after = rig.now.wall;
    rig.pass(seconds(2));
    let refused = rig.accept_one().await;
    let grant = |max| Grant { fresh: 9, fresh_after, ..Rig::grant(max, 0) };
    let leases = rig.claim_granted(WORKER, vec![grant(1)]).await.leases;
    assert_eq!(ids(&leases), [refused]);
    rig.settle(super::rig::keys(&leases)[0], Class::Overload).await;
    rig.pass(seconds(3));
    let later = NewJob { run_at: rig.now.wall.plus(seconds(1)), ..rig.job() };
    rig.accept(later).await;
    rig.redrive(ended).await;
    let behind = [rig.accept_keyed("k").await, rig.accept_keyed("k").await];
    let claimed = rig.claim_granted(WORKER, vec![grant(9)]).await;
    assert_eq!(ids(&claimed.leases), [refused, behind[0], old, delayed, ended]);
}

pub async fn a_probe_goes_to_what_has_waited_longest_for_one(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let urgent = Priority::new(9).expect("0 to 9");
    let probe = || Grant { kind: Kind::Probe { on_health: false }, fresh: 1, ..Rig::grant(1, 0) };
    let first = rig.accept_one().await;
    rig.pass(seconds(1));
    let (second, third) = (rig.accept_one().await, NewJob { priority: urgent, ..rig.job() });
    let third = rig.accept(third).await.id;
    let mut probed = Vec::new();
    for _ in 0..4 {
        let lease = rig.claim_granted(WORKER, vec![probe()]).await.leases.remove(0);
        probed.push(lease.job.id);
        rig.settle(super::rig::keys(&[lease])[0], Class::Down).await;
        rig.pass(seconds(2));
    }
    assert_eq!(probed, [first, third, second, first], "whatever their priority, which decides between equals");
}

pub async fn a_probe_on_a_healthy_check_may_take_what_the_present_outage_made_wait(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let probe = |released_below| Grant { kind: Kind::Probe { on_health: true }, released_below, ..Rig::grant(2, 3) };
    let held = rig.accept_one().await;
    fail_by_destination(&rig, held, 3).await;
    let urgent = NewJob { priority: Priority::new(1).expect("0 to 9"), ..rig.job() };
    let urgent = rig.accept(urgent).await.id;
    fail_by_destination(&rig, urgent, 3).await;
    assert_eq!(ids(&rig.claim_granted(WORKER, vec![probe(3)]).await.leases), [], "neither is due");
    let due = rig.accept_one().await;
    let claimed = rig.claim_granted(WORKER, vec![probe(4)]).await.leases;
    assert_eq!(ids(&claimed), [due, urgent], "what is due goes first, then the higher priority");
    let State::Leased(leased) = &claimed[1].job.state else { panic!("{:?}", claimed[1].job.state) };
    assert_eq!(leased.destination_epoch, 3, "a failure is of the present outage still");
    assert_eq!(ids(&rig.claim_granted(WORKER, vec![probe(4)]).await.leases), [held]);
}

pub async fn no_more_is_claimed_than_granted(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for _ in 0..5 {
        rig.accept_one().await;
    }
    assert_eq!(rig.claim(0).await, []);
    assert_eq!(rig.claim(3).await.len(), 3);
    assert_eq!(rig.claim(3).await.len(), 2);
    assert_eq!(rig.claim(3).await, []);
    assert_eq!(rig.claim_granted(WORKER, Vec::new()).await, crate::store::Claimed::default());
}

pub async fn a_claim_ends_where_its_payloads_are_too_many(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let mut sized = |name: &str, bytes: usize| {
        let request = Request { body: Bytes::from(vec![b'x'; bytes]), ..Request::default() };
        NewJob { destination: destination(name), request, ..rig.job() }
    };
    let (half, whole) = (MAX_CLAIM_BYTES / 2, MAX_CLAIM_BYTES);
    let jobs = [sized("a", half), sized("a", half), sized("a", 1), sized("b", 1), sized("b", whole + 1)];
    let [first, second, third, fourth, fifth] = jobs.each_ref().map(|job| job.id);
    rig.enqueue(jobs.into()).await;
    let grant = |name, max| Grant { destination: destination(name), ..Rig::grant(max, 0) };
    let grants = || vec![grant("a", 9), grant("nobody", 9), grant("b", 9)];
    let claimed = rig.claim_granted(WORKER, grants()).await;
    assert_eq!((ids(&claimed.leases), claimed.exhausted), (vec![first, second], vec![]), "there may be more");
    assert_eq!(rig.stored(third).await.state.name(), StateName::Pending);
    let claimed = rig.claim_granted(WORKER, grants()).await;
    let looked_through = [(destination("a"), None), (destination("nobody"), None)];
    assert_eq!((ids(&claimed.leases), claimed.exhausted), (vec![third, fourth], looked_through.into()));
    let claimed = rig.claim_granted(WORKER, grants()).await;
    assert_eq!(ids(&claimed.leases), [fifth], "one alone always fits");
}

pub async fn what_is_out_of_time_takes_no_room_in_a_claim(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let mut sized = |bytes: usize, expires_after: Option<Duration>| {
        let request = Request { body: Bytes::from(vec![b'x'; bytes]), ..Request::default() };
        NewJob { request, expires_after, ..rig.job() }
    };
    let short = Some(seconds(1));
    let jobs = [sized(MAX_CLAIM_BYTES, short), sized(MAX_CLAIM_BYTES, short), sized(MAX_CLAIM_BYTES, None)];
    let live = jobs[2].id;
    rig.enqueue(jobs.into()).await;
    rig.pass(seconds(2));
    assert_eq!(ids(&rig.claim_by(WORKER, 5).await), [live]);
}

pub async fn destinations_are_served_as_they_are_granted(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let mut accept = async |name: &str| {
        let job = NewJob { destination: destination(name), ..rig.job() };
        rig.accept(job).await.id
    };
    let (a, b, c, second_a) = (accept("a").await, accept("b").await, accept("c").await, accept("a").await);
    let grant = |name, max| Grant { destination: destination(name), ..Rig::grant(max, 0) };
    let claimed = rig.claim_granted(WORKER, vec![grant("b", 9), grant("a", 1), grant("nobody", 1)]).await;
    assert_eq!(ids(&claimed.leases), [b, a]);
    assert_eq!(claimed.exhausted, [(destination("b"), None), (destination("nobody"), None)]);
    let rest = rig.claim_granted(WORKER, vec![grant("a", 1), grant("c", 1)]).await;
    assert_eq!((ids(&rest.leases), rest.exhausted), (vec![second_a, c], vec![]));
}

pub async fn an_exhausted_destination_tells_when_its_next_job_falls_due(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let exhausted = async |rig: &Rig, max| rig.claim_granted(WORKER, vec![Rig::grant(max, 0)]).await.exhausted;
    assert_eq!(exhausted(&rig, 1).await, [(api2(), None)], "nothing waits");
    let mut later = Vec::new();
    for after in [30, 20, 40] {
        let run_at = rig.now.wall.plus(seconds(after));
        let priority = Priority::new(if after == 20 { 0 } else { 9 }).expect("0 to 9");
        let job = NewJob { run_at, priority, ordering_key: Some("k".to_owned()), ..rig.job() };
        // One key: only the first of the three is a head.
        later.push(rig.accept(job).await.id);
    }
    let at = |after| Some(rig.now.wall.plus(seconds(after)));
    assert_eq!(exhausted(&rig, 1).await, [(api2(), at(30))], "what waits behind a head does not count");
    let unordered = NewJob { run_at: rig.now.wall.plus(seconds(25)), ..rig.job() };
    rig.accept(unordered).await;
    rig.accept_one().await;
    let at_25 = Some(rig.now.wall.plus(seconds(25)));
    assert_eq!(exhausted(&rig, 1).await, [], "it got what it was granted");
    assert_eq!(exhausted(&rig, 1).await, [(api2(), at_25)]);
    assert_eq!(exhausted(&rig, 0).await, [], "granted nothing, it lacks nothing");
}

pub async fn what_has_run_out_of_time_is_no_next_job(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = NewJob { expires_after: Some(seconds(1)), ..rig.job() };
    rig.accept(job).await;
    rig.pass(seconds(1));
    let claimed = rig.claim_granted(WORKER, vec![Rig::grant(1, 0)]).await;
    assert_eq!(claimed.exhausted, [(api2(), None)], "a moment in the past would have the gateway ask again and again");
}

pub async fn every_lease_has_an_epoch_above_all_before_it(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let mut last = Epoch::new(rig.store.start(), 0);
    for _ in 0..3 {
        rig.accept_one().await;
    }
    for round in 0..4u64 {
        for lease in rig.claim_by(if round % 2 == 0 { WORKER } else { OTHER_WORKER }, 2).await {
            assert!(lease.epoch > last, "{:?} after {last:?}", lease.epoch);
            last = lease.epoch;
            assert_eq!(rig.stored(lease.job.id).await.progress.last_epoch, last);
            let key = super::rig::keys(&[lease])[0];
            rig.release(key).await;
        }
    }
}

pub async fn a_lease_says_whose_it_is_and_what_was_granted(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let accepted = rig.job();
    let accepted = rig.accept(accepted).await;
    rig.pass(seconds(3));
    let grant = Grant { begun: Tick(1 << 50), ok_begun: Tick(77), ..Rig::grant(1, 6) };
    let lease = rig.claim_granted(OTHER_WORKER, vec![grant]).await.leases.remove(0);
    let State::Leased(leased) = &lease.job.state else { panic!("{:?}", lease.job.state) };
    assert_eq!((leased.epoch, leased.worker), (lease.epoch, OTHER_WORKER));
    assert_eq!((leased.destination_epoch, leased.begun, leased.ok_begun), (6, Tick(1 << 50), Tick(77)));
    assert_eq!((leased.claimed_at, leased.cancel_requested), (rig.now.wall, false));
    assert_eq!(leased.from, pending(&accepted));
    assert_eq!(lease.epoch.start(), u64::from(rig.store.start()));
    assert_eq!(rig.stored(accepted.id).await, lease.job, "what is stored is what was handed out");
}

pub async fn a_job_whose_time_has_run_out_is_not_leased(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let short = NewJob { expires_after: Some(seconds(5)), ..rig.job() };
    let short = rig.accept(short).await.id;
    let others = [rig.accept_one().await, rig.accept_one().await];
    rig.pass(seconds(5));
    let claimed: Vec<JobId> = rig.claim(2).await.iter().map(|key| key.job_id).collect();
    assert_eq!(claimed, others, "it takes nobody's place");
    assert_eq!(rig.stored(short).await.state.name(), StateName::Pending, "to end it is the sweep's");
    assert_eq!(rig.claim(2).await, []);
}

pub async fn a_rotten_request_is_dead_and_never_leased(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let (rotten, sound) = (rig.accept_one().await, rig.accept_one().await);
    if under_test_is_closed_for_rot(under_test, &mut rig, rotten).await {
        let claimed = rig.claim_granted(WORKER, vec![Rig::grant(1, 0)]).await;
        let leased: Vec<JobId> = claimed.leases.iter().map(|lease| lease.job.id).collect();
        assert_eq!(leased, [sound], "it takes nobody's place");
        assert_eq!(claimed.died, [rig.stored(rotten).await], "whoever waits for it must hear of it");
        assert_eq!(dead(&rig.stored(rotten).await), DeadReason::Corrupt);
        assert!(rig.stored(rotten).await.progress.last_error.is_some());
        assert_eq!(rig.attempts(rotten).await, [], "nothing was sent");
    }
}

pub(super) async fn under_test_is_closed_for_rot<S: StoreUnderTest>(under_test: &S, rig: &mut Rig, id: JobId) -> bool {
    if !S::DURABLE {
        return under_test.rot(id).await;
    }
    rig.store.close().await.expect("the store closes");
    let could = under_test.rot(id).await;
    rig.store = under_test.open(rig.now).await;
    could
}

pub async fn a_great_backlog_is_claimed_in_order_and_each_job_by_one_lease(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let jobs: Vec<NewJob> = (0..2_500).map(|_| rig.job()).collect();
    let accepted: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    for batch in jobs.chunks(1_000) {
        rig.enqueue(batch.to_vec()).await;
    }
    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.extend(rig.claim(1_000).await.iter().map(|key| key.job_id));
    }
    assert!(claimed == accepted, "2,500 jobs in the order of acceptance");
}

pub async fn two_workers_at_once_never_hold_one_job(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let jobs: Vec<NewJob> = (0..400).map(|_| rig.job()).collect();
    rig.enqueue(jobs).await;
    let claims: Vec<_> = (0..8u128)
        .map(|worker| {
            let (store, now) = (Arc::clone(&rig.store), rig.now);
            tokio::spawn(async move {
                let mut held = Vec::new();
                for _ in 0..10 {
                    let claimed = store.claim(WorkerId(Uuid::from_u128(worker)), vec![Rig::grant(7, 0)], now).await;
                    held.extend(ids(&claimed.expect("a claim is answered").leases));
                }
                held
            })
        })
        .collect();
    let mut held = Vec::new();
    for claim in claims {
        held.extend(claim.await.expect("no claim panics"));
    }
    let distinct: BTreeSet<&JobId> = held.iter().collect();
    assert_eq!((held.len(), distinct.len()), (400, 400));
}

pub async fn a_claim_at_the_end_of_time_finds_what_is_due_then(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = NewJob { run_at: Timestamp::MAX, ..rig.job() };
    let id = rig.accept(job).await.id;
    assert_eq!(rig.claim_granted(WORKER, vec![Rig::grant(1, 0)]).await.exhausted, [(api2(), Some(Timestamp::MAX))]);
    rig.now.wall = Timestamp::MAX;
    assert_eq!(rig.claim_one().await.job_id, id);
}

pub async fn a_job_passed_over_as_late_is_found_again_when_the_clock_is_set_back(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let short = NewJob { expires_after: Some(seconds(5)), ..rig.job() };
    let id = rig.accept(short).await.id;
    let before = rig.now;
    rig.pass(seconds(5));
    assert_eq!(rig.claim(1).await, []);
    rig.now.wall = before.wall;
    assert_eq!(rig.claim_one().await.job_id, id);
}
