//! Leases between claim and settle: renewed, lapsed, listed.

use std::collections::BTreeSet;

use super::StoreUnderTest;
use super::rig::{OTHER_WORKER, Rig, WORKER, api2, dead, keys, pending, seconds};
use crate::destination::OnUnknown;
use crate::job::{AttemptOutcome, Cause, DeadReason, Epoch, JobId, NewJob, StateName};
use crate::lease::{Extended, HEARTBEAT, LEASE_TERM, LeaseKey, STALL};
use crate::lifecycle::DuplicateCause;
use crate::outcome::Class;
use crate::store::Report;

/// Lets `beats` seconds pass, in each of which `worker` lists `holding` and the gateway sweeps.
async fn beat(rig: &mut Rig, beats: u64, holding: &[LeaseKey]) -> crate::store::Swept {
    let mut all = crate::store::Swept::default();
    for _ in 0..beats {
        let swept = rig.sweep_for(HEARTBEAT).await;
        all.lapsed.extend(swept.lapsed);
        rig.extend(WORKER, holding).await;
    }
    all
}

pub async fn a_lapsed_lease_can_be_claimed_again(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let lease = rig.claim_one().await;
    let started_at = rig.now.wall;
    assert_eq!(rig.sweep_for(LEASE_TERM - seconds(1)).await.lapsed, []);
    assert_eq!(rig.claim(9).await, [], "it is still held");
    let swept = rig.sweep_for(seconds(1)).await;
    let job = rig.stored(id).await;
    assert_eq!(swept.lapsed, [(lease, WORKER, job.clone())]);
    assert_eq!((pending(&job).cause, pending(&job).run_at), (Cause::Job, rig.now.wall), "the first time at once");
    assert_eq!((job.progress.lost, job.progress.attempts), (1, 0));
    let log = rig.attempts(id).await;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].outcome, log[0].number, log[0].epoch), (AttemptOutcome::Lost, 1, lease.epoch));
    assert_eq!((log[0].worker, log[0].started_at, log[0].duration), (WORKER, started_at, LEASE_TERM));
    let stats = rig.store.stats().await.expect("stats are read");
    assert_eq!(stats.duplicates.get(&DuplicateCause::LeaseLapsed), Some(&1));
    assert_eq!(stats.attempts, 0, "what was lost was not settled");
    assert!(rig.claim_one().await.epoch > lease.epoch);
}

pub async fn extending_renews_for_a_full_term(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    let lease = rig.claim_one().await;
    assert_eq!(beat(&mut rig, 20, &[lease]).await.lapsed, []);
    assert_eq!(rig.sweep_for(LEASE_TERM - seconds(1)).await.lapsed, []);
    assert_eq!(rig.sweep_for(seconds(1)).await.lapsed.len(), 1);
}

pub async fn a_lease_that_its_worker_does_not_list_lapses(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    rig.accept_one().await;
    let leases = rig.claim(2).await;
    let swept = beat(&mut rig, 6, &leases[..1]).await;
    assert_eq!(swept.lapsed.iter().map(|(key, ..)| *key).collect::<Vec<_>>(), leases[1..]);
}

pub async fn a_stale_epoch_or_another_worker_renews_nothing(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    rig.release(rig.claim_one().await).await;
    let lease = rig.claim_one().await;
    let stale = LeaseKey { job_id: id, epoch: Epoch::from_u64(lease.epoch.as_u64() - 1) };
    let invented = LeaseKey { job_id: id, epoch: Epoch::from_u64(lease.epoch.as_u64() + 1) };
    let unknown = LeaseKey { job_id: JobId(uuid::Uuid::from_u128(9)), epoch: lease.epoch };
    rig.pass(seconds(4));
    let lost = |lost: &[LeaseKey]| Extended { lost: lost.to_vec(), cancel: Vec::new() };
    assert_eq!(rig.extend(WORKER, &[stale, invented, unknown]).await, lost(&[stale, invented, unknown]));
    assert_eq!(rig.extend(OTHER_WORKER, &[lease]).await, lost(&[lease]));
    assert_eq!(rig.sweep().await.lapsed, []);
    assert_eq!(rig.sweep_for(seconds(1)).await.lapsed.len(), 1, "nobody renewed it");
}

pub async fn a_lease_that_has_ended_is_named_lost(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for _ in 0..4 {
        rig.accept_one().await;
    }
    let leases = rig.claim(3).await;
    rig.settle(leases[0], Class::Ok).await;
    rig.release(leases[1]).await;
    rig.lapse().await;
    let held = rig.claim(9).await;
    assert_eq!(rig.extend(WORKER, &[leases.clone(), held].concat()).await.lost, leases);
}

pub async fn an_empty_heartbeat_renews_nothing(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    rig.claim_one().await;
    assert_eq!(rig.extend(WORKER, &[]).await, Extended::default());
    assert_eq!(beat(&mut rig, 5, &[]).await.lapsed.len(), 1);
}

pub async fn from_the_second_lapse_on_a_job_backs_off(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    for delay in [0, 2, 4] {
        rig.claim_one().await;
        rig.lapse().await;
        let job = rig.stored(id).await;
        assert_eq!(pending(&job).run_at.since(rig.now.wall), seconds(delay));
        rig.pass(seconds(delay));
    }
}

pub async fn a_job_that_lost_too_many_workers_is_dead_where_so_set(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.policy(|policy| policy.max_lost = Some(2));
    let id = rig.accept_one().await;
    for _ in 0..2 {
        rig.claim_one().await;
        rig.lapse().await;
    }
    assert_eq!(dead(&rig.stored(id).await), DeadReason::Lost);
    let stats = rig.store.stats().await.expect("stats are read");
    assert_eq!(stats.duplicates.get(&DuplicateCause::LeaseLapsed), Some(&1), "the last one is not sent again");
}

pub async fn a_lapse_is_an_unknown_outcome(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.policy(|policy| policy.on_unknown = OnUnknown::DeadLetter);
    let id = rig.accept_one().await;
    rig.claim_one().await;
    rig.lapse().await;
    assert_eq!(dead(&rig.stored(id).await), DeadReason::Unknown);
}

pub async fn a_lapsed_job_that_is_out_of_time_is_dead_by_the_same_sweep(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = NewJob { expires_after: Some(seconds(1)), ..rig.job() };
    let id = rig.accept(job).await.id;
    rig.claim_one().await;
    let swept = rig.lapse().await;
    assert_eq!(swept.lapsed.len(), 1);
    assert_eq!(pending(&swept.lapsed[0].2).cause, Cause::Job, "as the lapse left it");
    assert_eq!(swept.expired, [rig.stored(id).await]);
    assert_eq!(dead(&swept.expired[0]), DeadReason::Expired);
}

pub async fn after_a_stall_of_the_gateway_every_lease_gets_a_full_term(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    rig.claim_one().await;
    rig.sweep().await;
    rig.pass(LEASE_TERM + STALL);
    assert_eq!(rig.sweep_for(LEASE_TERM - seconds(1)).await.lapsed, []);
    assert_eq!(rig.sweep_for(seconds(1)).await.lapsed.len(), 1);
}

pub async fn live_leases_are_listed_with_their_holders(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for _ in 0..6 {
        rig.accept_one().await;
    }
    let (mine, others) = (rig.claim(4).await, keys(&rig.claim_by(OTHER_WORKER, 2).await));
    rig.settle(mine[0], Class::Ok).await;
    rig.settle(mine[1], Class::Down).await;
    rig.release(mine[2]).await;
    let listed: BTreeSet<_> = rig.store.leases().await.expect("leases are read").into_iter().collect();
    let expected = [(mine[3], WORKER), (others[0], OTHER_WORKER), (others[1], OTHER_WORKER)];
    assert_eq!(listed, expected.map(|(key, worker)| (key, worker, api2())).into());
    rig.lapse().await;
    assert_eq!(rig.store.leases().await, Ok(Vec::new()));
}

pub async fn a_great_many_leases_lapse_over_a_few_sweeps(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let jobs: Vec<NewJob> = (0..1_200).map(|_| rig.job()).collect();
    rig.enqueue(jobs).await;
    for _ in 0..2 {
        rig.claim(1_000).await;
    }
    let swept = rig.sweep_for(LEASE_TERM + seconds(2)).await;
    let distinct: BTreeSet<LeaseKey> = swept.lapsed.iter().map(|(key, ..)| *key).collect();
    assert_eq!((swept.lapsed.len(), distinct.len()), (1_200, 1_200));
}

pub async fn a_lease_in_the_list_of_a_sweep_has_ended(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let lease = rig.claim_one().await;
    assert_eq!(rig.lapse().await.lapsed.len(), 1);
    assert_eq!(rig.sweep_for(LEASE_TERM).await.lapsed, [], "it lapses one time");
    let late = rig.settle_by(WORKER, lease, Report::Released).await;
    assert_eq!((late.result, late.ended), (crate::lifecycle::SettleResult::LeaseLost, None));
    assert_eq!(rig.stored(id).await.state.name(), StateName::Pending);
}
