//! Ordering keys: one at a time, in the order of acceptance, through every way a job can end and come back.

use super::StoreUnderTest;
use super::claim::under_test_is_closed_for_rot;
use super::rig::{Rig, WORKER, api2, dead, destination, ids, keys, seconds};
use crate::destination::OrderingOnDead;
use crate::job::{DeadReason, JobId, NewJob, Priority, StateName};
use crate::lifecycle::{Cancel, Redrive};
use crate::outcome::Class;
use crate::store::{Grant, Retention};

/// Three jobs of one key.
async fn three(rig: &mut Rig) -> [JobId; 3] {
    [rig.accept_keyed("k").await, rig.accept_keyed("k").await, rig.accept_keyed("k").await]
}

fn block(rig: &mut Rig) {
    rig.policy(|policy| policy.ordering_on_dead = OrderingOnDead::Block);
}

pub async fn jobs_of_a_key_go_one_at_a_time_in_the_order_of_acceptance(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let batch = vec![rig.job_of("k"), rig.job_of("k"), rig.job_of("k")];
    let ids: Vec<JobId> = batch.iter().map(|job| job.id).collect();
    rig.enqueue(batch).await;
    for id in ids {
        let lease = rig.claim_one().await;
        assert_eq!(lease.job_id, id);
        assert_eq!(rig.claim(9).await, [], "the rest waits while it is leased");
        rig.settle(lease, Class::Ok).await;
    }
}

pub async fn keys_do_not_hinder_one_another(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let elsewhere = NewJob { destination: destination("elsewhere"), ..rig.job_of("k") };
    rig.accept(elsewhere).await;
    let mut heads = Vec::new();
    for name in ["k", "K", "", "k "] {
        heads.push(rig.accept_keyed(name).await);
    }
    heads.extend([rig.accept_one().await, rig.accept_one().await]);
    rig.accept_keyed("k").await;
    assert_eq!(rig.claimable().await, heads);
}

pub async fn a_job_accepted_behind_an_unfinished_one_waits_for_it(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let first = rig.accept_keyed("k").await;
    let lease = rig.claim_one().await;
    let second = rig.accept_keyed("k").await;
    assert_eq!(rig.claim(9).await, []);
    rig.settle(lease, Class::Ok).await;
    let third = rig.accept_keyed("k").await;
    assert_eq!(rig.claimable().await, [second]);
    rig.end(second, StateName::Dead).await;
    assert_eq!(rig.claimable().await, [third]);
    assert_eq!(rig.stored(first).await.state.name(), StateName::Succeeded);
}

pub async fn a_job_that_waits_to_be_retried_blocks_its_key(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let [first, second, _] = three(&mut rig).await;
    rig.settle(rig.claim_one().await, Class::Down).await;
    assert_eq!(rig.claimable().await, []);
    rig.pass(seconds(2));
    assert_eq!(rig.claimable().await, [first]);
    rig.end(first, StateName::Succeeded).await;
    assert_eq!(rig.claimable().await, [second]);
}

pub async fn neither_time_nor_priority_overtakes_within_a_key(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let late = NewJob { run_at: rig.now.wall.plus(seconds(10)), ..rig.job_of("k") };
    let late = rig.accept(late).await.id;
    let urgent = NewJob { priority: Priority::MAX, ..rig.job_of("k") };
    rig.accept(urgent).await;
    assert_eq!(rig.claimable().await, []);
    rig.pass(seconds(10));
    assert_eq!(rig.claimable().await, [late]);
}

pub async fn every_end_frees_the_next(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for end in [StateName::Succeeded, StateName::Dead, StateName::Cancelled] {
        let [first, second, third] = three(&mut rig).await;
        rig.end(first, end).await;
        assert_eq!(rig.claimable().await, [second], "{end:?}");
        rig.end(second, end).await;
        rig.end(third, end).await;
    }
}

pub async fn an_expired_head_frees_the_next(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let short = NewJob { expires_after: Some(seconds(1)), ..rig.job_of("k") };
    rig.accept(short).await;
    let second = rig.accept_keyed("k").await;
    rig.pass(seconds(1));
    assert_eq!(rig.claimable().await, [], "until the sweep it is the head");
    rig.sweep().await;
    assert_eq!(rig.claimable().await, [second]);
}

pub async fn a_lapsed_or_released_head_stays_the_head(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let [first, ..] = three(&mut rig).await;
    rig.claim_one().await;
    rig.lapse().await;
    assert_eq!(rig.claimable().await, [first]);
    assert_eq!(rig.claimable().await, [first], "released");
}

pub async fn the_end_of_a_job_behind_the_head_frees_nobody(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let [first, second, third] = three(&mut rig).await;
    rig.cancel(second).await;
    assert_eq!(rig.claimable().await, [first]);
    rig.end(first, StateName::Succeeded).await;
    assert_eq!(rig.claimable().await, [third]);
}

pub async fn a_dead_head_blocks_where_its_destination_says_so(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    block(&mut rig);
    let [first, second, _] = three(&mut rig).await;
    let unordered = rig.accept_one().await;
    rig.end(first, StateName::Dead).await;
    assert_eq!(rig.claimable().await, [unordered], "a job without a key blocks nobody");
    rig.end(unordered, StateName::Dead).await;
    assert_eq!(rig.cancel_where(first, OrderingOnDead::Block).await.0, Cancel::Cancelled);
    assert_eq!(rig.claimable().await, [second]);
    rig.end(second, StateName::Succeeded).await;
    assert_eq!(rig.claimable().await.len(), 1, "only the dead block");
}

pub async fn every_way_to_die_blocks(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    block(&mut rig);
    rig.policy(|policy| policy.max_lost = Some(1));
    let refused = rig.accept_keyed("refused").await;
    let lost = rig.accept_keyed("lost").await;
    rig.settle(rig.claim_this(refused).await, Class::JobFail).await;
    rig.claim_this(lost).await;
    rig.lapse().await;
    let expires = NewJob { expires_after: Some(seconds(1)), ..rig.job_of("expired") };
    let expired = rig.accept(expires).await.id;
    rig.pass(seconds(1));
    rig.sweep().await;
    let ends = [(refused, DeadReason::Permanent), (lost, DeadReason::Lost), (expired, DeadReason::Expired)];
    for (id, reason) in ends {
        let job = rig.stored(id).await;
        assert_eq!(dead(&job), reason);
        let next = rig.accept_keyed(job.ordering_key.as_deref().expect("it has a key")).await;
        assert_eq!(rig.claimable().await, [], "{reason:?}");
        rig.cancel_where(id, OrderingOnDead::Block).await;
        assert_eq!(rig.claimable().await, [next], "{reason:?}");
        rig.end(next, StateName::Succeeded).await;
    }
}

pub async fn a_corrupt_head_blocks_where_its_destination_says_so(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for on_dead in [OrderingOnDead::Free, OrderingOnDead::Block] {
        let [first, second, _] = three(&mut rig).await;
        if !under_test_is_closed_for_rot(under_test, &mut rig, first).await {
            return;
        }
        let grant = || Grant { ordering_on_dead: on_dead, ..Rig::grant(2, 0) };
        let claimed = rig.claim_granted(WORKER, vec![grant()]).await;
        assert_eq!(
            (claimed.died, dead(&rig.stored(first).await)),
            (vec![rig.stored(first).await], DeadReason::Corrupt)
        );
        if on_dead == OrderingOnDead::Block {
            assert_eq!(claimed.leases, []);
            assert_eq!(rig.claimable().await, [], "also later");
            rig.cancel_where(first, OrderingOnDead::Block).await;
            assert_eq!(rig.claimable().await, [second]);
        } else {
            assert_eq!(ids(&claimed.leases), [second]);
            rig.settle(keys(&claimed.leases)[0], Class::Ok).await;
            rig.settle(rig.claim_one().await, Class::Ok).await;
        }
    }
}

pub async fn a_late_ok_for_a_blocking_dead_head_frees_its_key(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    block(&mut rig);
    let [first, second, _] = three(&mut rig).await;
    let lost = rig.claim_one().await;
    rig.lapse().await;
    rig.end(first, StateName::Dead).await;
    assert_eq!(rig.claimable().await, []);
    rig.settle(lost, Class::Ok).await;
    assert_eq!(rig.claimable().await, [second]);
}

pub async fn what_a_dead_head_does_is_decided_when_it_dies(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let [first, second, third] = three(&mut rig).await;
    rig.end(first, StateName::Dead).await;
    block(&mut rig);
    assert_eq!(rig.claimable().await, [second], "it died when the dead freed their key");
    rig.end(second, StateName::Dead).await;
    rig.policy(|policy| policy.ordering_on_dead = OrderingOnDead::Free);
    assert_eq!(rig.claimable().await, [], "it died when the dead blocked their key");
    let repeated = rig.stored(second).await.progress.settled_epoch;
    rig.settle(crate::lease::LeaseKey { job_id: second, epoch: repeated }, Class::JobFail).await;
    assert_eq!(rig.claimable().await, [], "a repeated report decides nothing anew");
    assert_eq!(rig.cancel(second).await.0, Cancel::Cancelled, "and can be cancelled, or the key would be stuck");
    assert_eq!(rig.claimable().await, [third]);
}

pub async fn a_redriven_job_comes_back_to_its_old_place(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for end in [StateName::Dead, StateName::Cancelled] {
        let [first, second, third] = three(&mut rig).await;
        rig.end(first, end).await;
        assert_eq!(rig.claimable().await, [second]);
        assert_eq!(rig.redrive(first).await.0, Redrive::Redriven);
        assert_eq!(rig.claimable().await, [first], "before those accepted after it");
        for id in [first, second, third] {
            rig.end(id, StateName::Succeeded).await;
        }
    }
}

pub async fn a_redriven_head_that_blocked_is_tried_again(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    block(&mut rig);
    let [first, second, _] = three(&mut rig).await;
    rig.end(first, StateName::Dead).await;
    rig.redrive(first).await;
    assert_eq!(rig.claimable().await, [first]);
    rig.end(first, StateName::Succeeded).await;
    assert_eq!(rig.claimable().await, [second]);
}

pub async fn a_lease_behind_a_redriven_head_is_left_to_finish(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let [first, second, third] = three(&mut rig).await;
    rig.end(first, StateName::Dead).await;
    let lease = rig.claim_one().await;
    assert_eq!(lease.job_id, second);
    rig.redrive(first).await;
    assert_eq!(rig.claim(9).await, [], "never two of a key at a time");
    rig.settle(lease, Class::Down).await;
    assert_eq!(rig.claimable().await, [first], "and then it waits behind");
    rig.pass(seconds(2));
    for id in [first, second, third] {
        assert_eq!(rig.claimable().await, [id]);
        rig.end(id, StateName::Succeeded).await;
    }
}

pub async fn a_purge_keeps_a_dead_head_that_blocks(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    block(&mut rig);
    let [first, second, _] = three(&mut rig).await;
    rig.end(first, StateName::Dead).await;
    rig.pass(seconds(10_000));
    let all = Retention { succeeded: seconds(1), dead: seconds(1), keys: seconds(1) };
    assert_eq!(rig.purge(all).await, 0);
    assert_eq!(rig.claimable().await, []);
    rig.cancel_where(first, OrderingOnDead::Block).await;
    rig.pass(seconds(1));
    assert_eq!(rig.purge(all).await, 1);
    assert_eq!(rig.claimable().await, [second]);
    assert_eq!(rig.store.oldest_due(&api2()).await.map(|at| at.is_some()), Ok(true));
}
