//! Cancel, redrive, and expiry.

use super::StoreUnderTest;
use super::rig::{Rig, WORKER, api2, dead, pending, seconds};
use crate::charging::Evidence;
use crate::destination::OrderingOnDead;
use crate::job::{Cause, DeadReason, JobId, NewJob, Progress, State, StateName};
use crate::lifecycle::{Cancel, Redrive};
use crate::outcome::Class;

pub async fn a_waiting_job_can_be_cancelled(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    rig.pass(seconds(1));
    let (answer, job) = rig.cancel(id).await;
    assert_eq!((answer, &job.state), (Cancel::Cancelled, &State::Cancelled { at: rig.now.wall }));
    assert_eq!(rig.stored(id).await, job);
    assert_eq!(rig.claim(9).await, []);
    assert_eq!(rig.cancel(id).await, (Cancel::AlreadyCancelled, job));
}

pub async fn a_holder_learns_of_a_cancel_at_its_next_heartbeat(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    rig.accept_one().await;
    let leases = rig.claim(2).await;
    for _ in 0..2 {
        let (answer, job) = rig.cancel(id).await;
        assert_eq!((answer, job.state.name()), (Cancel::Requested, StateName::Leased));
        assert_eq!(rig.stored(id).await, job);
        let told = rig.extend(WORKER, &leases).await;
        assert_eq!((told.cancel, told.lost), (vec![leases[0]], vec![]), "it still holds the lease");
    }
}

pub async fn a_lapsed_lease_of_a_job_nobody_wants_ends_it(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    rig.claim_one().await;
    rig.cancel(id).await;
    rig.lapse().await;
    assert_eq!(rig.stored(id).await.state.name(), StateName::Cancelled);
}

pub async fn what_has_ended_cannot_be_cancelled(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for end in [StateName::Succeeded, StateName::Dead] {
        let id = rig.ended(end).await;
        let before = rig.stored(id).await;
        rig.pass(seconds(1));
        for on_dead in [OrderingOnDead::Free, OrderingOnDead::Block] {
            assert_eq!(
                rig.cancel_where(id, on_dead).await,
                (Cancel::Finished, before.clone()),
                "it has no key to block"
            );
        }
        assert_eq!(rig.stored(id).await, before);
    }
}

pub async fn an_unknown_job_cannot_be_steered(under_test: &impl StoreUnderTest) {
    let rig = Rig::open(under_test).await;
    let id = JobId(uuid::Uuid::from_u128(1));
    assert_eq!(rig.store.cancel(id, OrderingOnDead::Free, rig.now).await, Ok(None));
    assert_eq!(rig.store.redrive(id, true, rig.now).await, Ok(None));
}

pub async fn a_redrive_begins_a_new_generation(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for end in [StateName::Dead, StateName::Cancelled] {
        let job = NewJob { expires_after: Some(seconds(100)), ..rig.job() };
        let id = rig.accept(job).await.id;
        let lease = rig.claim_one().await;
        rig.settle(lease, Class::Down).await;
        rig.pass(seconds(2));
        rig.end(id, end).await;
        let old = rig.stored(id).await;
        let log = rig.attempts(id).await;
        rig.pass(seconds(10));
        let (answer, job) = rig.redrive(id).await;
        assert_eq!(
            (answer, pending(&job).cause, pending(&job).run_at),
            (Redrive::Redriven, Cause::Manual, rig.now.wall)
        );
        let progress = Progress {
            generation: 1,
            generation_floor: old.progress.last_epoch,
            last_epoch: old.progress.last_epoch,
            ..Progress::default()
        };
        assert_eq!(job.progress, progress, "everything is counted anew");
        assert_eq!((job.seq, job.expires_at), (old.seq, Some(rig.now.wall.plus(seconds(100)))));
        assert_eq!(rig.stored(id).await, job);
        assert_eq!(rig.attempts(id).await, log, "the log goes on");
        let again = rig.settle(rig.claim_one().await, Class::Ok).await;
        assert_eq!(again.attempt.expect("it was an attempt").number, 1);
        assert_eq!(rig.attempts(id).await.len(), log.len() + 1);
    }
}

pub async fn a_redrive_may_ask_for_a_new_key(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.ended(StateName::Dead).await;
    assert_eq!(rig.redrive_with(id, true).await.1.progress.key_generation, 1);
    assert_eq!(rig.redrive_with(id, true).await.1.progress.key_generation, 2, "also of a job that waits");
    rig.end(id, StateName::Dead).await;
    assert_eq!(rig.redrive(id).await.1.progress.key_generation, 2, "and keeps it");
    assert_eq!(rig.stored(id).await.delivery_key(), format!("{id}-2"));
}

pub async fn a_redrive_of_a_waiting_job_makes_it_due(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let later = NewJob { run_at: rig.now.wall.plus(seconds(60)), ..rig.job() };
    let later = rig.accept(later).await.id;
    rig.pass(seconds(1));
    let (answer, job) = rig.redrive(later).await;
    assert_eq!((answer, pending(&job).run_at, job.progress.generation), (Redrive::RunNow, rig.now.wall, 0));
    assert_eq!(rig.stored(later).await, job);
    assert_eq!(rig.store.oldest_due(&api2()).await, Ok(Some(rig.now.wall)));
    assert_eq!(rig.claim_one().await.job_id, later);
}

pub async fn a_leased_or_succeeded_job_is_not_redriven(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let lease = rig.claim_one().await;
    rig.pass(seconds(1));
    for (answer, done) in [(Redrive::Leased, false), (Redrive::Succeeded, true)] {
        if done {
            rig.settle(lease, Class::Ok).await;
            rig.pass(seconds(1));
        }
        let before = rig.stored(id).await;
        assert_eq!(rig.redrive_with(id, true).await, (answer, before.clone()));
        assert_eq!(rig.stored(id).await, before);
    }
}

pub async fn a_waiting_job_past_its_expiry_is_dead_whatever_it_waits_for(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let never_due = NewJob { run_at: rig.now.wall.plus(seconds(900)), expires_after: Some(seconds(4)), ..rig.job() };
    let behind = NewJob { expires_after: Some(seconds(4)), ..rig.job_of("k") };
    let head = rig.accept_keyed("k").await;
    let ids = [rig.accept(never_due).await.id, rig.accept(behind).await.id];
    let stays = rig.accept_one().await;
    rig.pass(seconds(3));
    assert_eq!(rig.sweep().await.expired, []);
    rig.pass(seconds(1));
    let mut expired = rig.sweep().await.expired;
    expired.sort_by_key(|job| job.seq);
    assert_eq!(expired, [rig.stored(ids[0]).await, rig.stored(ids[1]).await]);
    for id in ids {
        assert_eq!(rig.stored(id).await.state, State::Dead { at: rig.now.wall, reason: DeadReason::Expired });
        assert_eq!(rig.attempts(id).await, []);
    }
    assert_eq!(rig.sweep().await.expired, [], "one time");
    assert_eq!(rig.claimable().await, [head, stays]);
}

pub async fn a_leased_job_does_not_expire(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = NewJob { expires_after: Some(seconds(2)), ..rig.job() };
    let id = rig.accept(job).await.id;
    let lease = rig.claim_one().await;
    rig.pass(seconds(3));
    assert_eq!(rig.sweep().await.expired, []);
    rig.settle(lease, Class::Ok).await;
    rig.pass(seconds(3));
    assert_eq!(rig.sweep().await.expired, [], "nor one that has ended");
    assert_eq!(rig.stored(id).await.state.name(), StateName::Succeeded);
}

pub async fn a_great_many_jobs_expire_over_a_few_sweeps(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let jobs: Vec<NewJob> = (0..1_200).map(|_| NewJob { expires_after: Some(seconds(1)), ..rig.job() }).collect();
    rig.enqueue(jobs).await;
    rig.pass(seconds(1));
    let mut expired = 0;
    for _ in 0..12 {
        expired += rig.sweep().await.expired.len();
    }
    assert_eq!(expired, 1_200);
}

pub async fn a_policy_that_is_spent_while_nobody_looks_is_noticed_at_the_next_failure(
    under_test: &impl StoreUnderTest,
) {
    let mut rig = Rig::open(under_test).await;
    rig.judge.evidence.insert(api2(), Evidence { others_fail: false, ..Evidence::default() });
    let id = rig.accept_one().await;
    for _ in 0..3 {
        rig.settle(rig.claim_one().await, Class::Error).await;
        rig.pass(seconds(300));
    }
    rig.policy(|policy| policy.max_attempts = 2);
    assert_eq!(rig.claimable().await, [id], "a lower bound takes effect when the next attempt fails");
    rig.settle(rig.claim_one().await, Class::Error).await;
    assert_eq!(dead(&rig.stored(id).await), DeadReason::Exhausted);
}
