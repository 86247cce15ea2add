//! Settling what has been settled, or lost, or never was: repetition is harmless, only a success comes never too late.

use super::StoreUnderTest;
use super::rig::{OTHER_WORKER, Rig, WORKER, keys, seconds};
use crate::job::{AttemptOutcome, Epoch, JobId, StateName};
use crate::lease::LeaseKey;
use crate::lifecycle::SettleResult;
use crate::outcome::{Class, Outcome};
use crate::store::{JobDetail, Report, SettleAnswer, Settlement, Stats};

async fn everything(rig: &Rig, ids: &[JobId]) -> (Vec<JobDetail>, Stats) {
    let mut jobs = Vec::new();
    for id in ids {
        jobs.extend(rig.store.job(*id).await.expect("a job is read"));
    }
    (jobs, rig.store.stats().await.expect("stats are read"))
}

pub async fn repeating_a_whole_batch_changes_nothing(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let of = |class| Report::Attempted(Outcome::of(class));
    let reports = [
        of(Class::Ok),
        of(Class::JobFail),
        of(Class::Suspect),
        of(Class::Overload),
        of(Class::Down),
        of(Class::Error),
        Report::Released,
    ];
    for _ in &reports {
        rig.accept_one().await;
    }
    let leases = rig.claim(9).await;
    let ids: Vec<JobId> = leases.iter().map(|key| key.job_id).collect();
    let batch: Vec<Settlement> =
        leases.into_iter().zip(reports).map(|(key, report)| Settlement { key, report }).collect();
    rig.settle_all(WORKER, batch.clone()).await;
    let before = everything(&rig, &ids).await;
    rig.pass(seconds(1));
    for worker in [WORKER, OTHER_WORKER] {
        for answer in rig.settle_all(worker, batch.clone()).await {
            let SettleAnswer::Known { result, attempt, ended, .. } = answer else { panic!("{answer:?}") };
            assert_eq!((result, attempt, ended), (SettleResult::Repeated, None, None));
        }
        assert!(everything(&rig, &ids).await == before, "nothing changed");
    }
}

pub async fn repeating_an_old_batch_leaves_a_new_lease_alone(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let old = rig.claim_one().await;
    rig.settle(old, Class::Down).await;
    rig.pass(seconds(2));
    let new = rig.claim_one().await;
    let before = everything(&rig, &[id]).await;
    assert_eq!(rig.settle(old, Class::Down).await.result, SettleResult::Repeated);
    assert_eq!(rig.release(old).await.result, SettleResult::Repeated);
    assert!(everything(&rig, &[id]).await == before);
    assert_eq!(rig.settle(new, Class::Ok).await.result, SettleResult::Applied);
}

pub async fn a_failure_reported_after_the_lease_was_lost_changes_nothing(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let lost = rig.claim_one().await;
    rig.lapse().await;
    for next in ["pending", "leased"] {
        let before = everything(&rig, &[id]).await;
        for class in [Class::JobFail, Class::Suspect, Class::Overload, Class::Down, Class::Error] {
            assert_eq!(rig.settle(lost, class).await.result, SettleResult::LeaseLost, "{next} {class:?}");
        }
        assert_eq!(rig.release(lost).await.result, SettleResult::LeaseLost, "{next}");
        assert!(everything(&rig, &[id]).await == before);
        rig.claim(1).await;
    }
}

pub async fn a_failure_reported_after_the_end_changes_nothing(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for end in [StateName::Succeeded, StateName::Dead, StateName::Cancelled] {
        let id = rig.accept_one().await;
        let lost = rig.claim_one().await;
        rig.lapse().await;
        rig.end(id, end).await;
        let before = everything(&rig, &[id]).await;
        assert_eq!(rig.settle(lost, Class::Down).await.result, SettleResult::AlreadyFinished, "{end:?}");
        assert_eq!(rig.release(lost).await.result, SettleResult::AlreadyFinished, "{end:?}");
        assert!(everything(&rig, &[id]).await == before);
    }
}

pub async fn an_invented_epoch_is_refused(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let never = LeaseKey { job_id: id, epoch: Epoch::new(rig.store.start(), 77) };
    let before = everything(&rig, &[id]).await;
    assert_eq!(rig.settle(never, Class::Ok).await.result, SettleResult::LeaseLost, "nobody ever claimed it");
    let held = rig.claim_one().await;
    let next_start = Epoch::new(rig.store.start() + 1, 1);
    let (beyond, last) = (Epoch::from_u64(held.epoch.as_u64() + 1), Epoch::from_u64((1 << 53) - 1));
    for epoch in [Epoch::NONE, Epoch::new(0, 5), beyond, next_start, last] {
        let invented = LeaseKey { job_id: id, epoch };
        for class in Class::ALL {
            assert_eq!(rig.settle(invented, class).await.result, SettleResult::LeaseLost, "{epoch:?} {class:?}");
        }
        assert_eq!(rig.release(invented).await.result, SettleResult::LeaseLost);
    }
    rig.release(held).await;
    assert_eq!(rig.stored(id).await.progress.attempts, before.0[0].job.progress.attempts);
    assert_eq!(rig.attempts(id).await, []);
}

pub async fn an_outcome_for_an_unknown_job_is_answered_so(under_test: &impl StoreUnderTest) {
    let rig = Rig::open(under_test).await;
    let key = LeaseKey { job_id: JobId(uuid::Uuid::from_u128(1)), epoch: Epoch::new(1, 1) };
    let reports = [Report::Released, Report::Attempted(Outcome::of(Class::Ok))];
    let batch = reports.map(|report| Settlement { key, report }).to_vec();
    assert_eq!(rig.settle_all(WORKER, batch).await, [SettleAnswer::UnknownJob, SettleAnswer::UnknownJob]);
    assert_eq!(rig.settle_all(WORKER, Vec::new()).await, []);
}

/// A late ok for `lost`, and its effects.
async fn assert_late_ok_counts(rig: &Rig, lost: LeaseKey, ended: Option<LeaseKey>) {
    let lines = rig.attempts(lost.job_id).await.len();
    let late = rig.settle(lost, Class::Ok).await;
    assert_eq!((late.result, late.job.state.name()), (SettleResult::Applied, StateName::Succeeded));
    assert_eq!(late.ended, ended.map(|key| (key, OTHER_WORKER)));
    assert_eq!(rig.stored(lost.job_id).await, late.job);
    let log = rig.attempts(lost.job_id).await;
    assert_eq!(log.len(), lines + 1);
    let last = &log[lines];
    assert_eq!((last.outcome, last.epoch, last.worker), (AttemptOutcome::Settled(Class::Ok), lost.epoch, WORKER));
    assert_eq!(late.attempt.as_ref(), Some(last));
}

pub async fn a_late_ok_counts_while_the_job_waits(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    let lost = rig.claim_one().await;
    rig.lapse().await;
    assert_late_ok_counts(&rig, lost, None).await;
    assert_eq!(rig.claim(9).await, []);
    assert_eq!(rig.settle(lost, Class::Ok).await.result, SettleResult::Repeated);
}

pub async fn a_late_ok_counts_after_its_own_failure_was_settled(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    let lease = rig.claim_one().await;
    rig.settle(lease, Class::Down).await;
    assert_late_ok_counts(&rig, lease, None).await;
}

pub async fn a_late_ok_ends_the_lease_of_a_newer_holder(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    let lost = rig.claim_one().await;
    rig.lapse().await;
    let newer = keys(&rig.claim_by(OTHER_WORKER, 1).await)[0];
    assert_late_ok_counts(&rig, lost, Some(newer)).await;
    assert_eq!(rig.extend(OTHER_WORKER, &[newer]).await.lost, [newer], "who is told to stop");
    assert_eq!(rig.store.leases().await, Ok(Vec::new()));
    let newer = rig.settle_by(OTHER_WORKER, newer, Report::Attempted(Outcome::of(Class::Down))).await;
    assert_eq!(newer.result, SettleResult::AlreadyFinished);
}

pub async fn a_late_ok_counts_after_another_end(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for end in [StateName::Dead, StateName::Cancelled] {
        let id = rig.accept_one().await;
        let lost = rig.claim_one().await;
        rig.lapse().await;
        rig.end(id, end).await;
        assert_late_ok_counts(&rig, lost, None).await;
    }
}

pub async fn a_late_ok_of_an_earlier_generation_is_refused(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let old = rig.claim_one().await;
    rig.settle(old, Class::JobFail).await;
    rig.redrive(id).await;
    for state in ["waiting", "leased"] {
        let before = everything(&rig, &[id]).await;
        for class in Class::ALL {
            assert_eq!(rig.settle(old, class).await.result, SettleResult::LeaseLost, "{state} {class:?}");
        }
        assert!(everything(&rig, &[id]).await == before);
        rig.claim(1).await;
    }
}
