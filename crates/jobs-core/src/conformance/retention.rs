//! Purge: what is deleted, when, and what stays.

use super::StoreUnderTest;
use super::rig::{Rig, WORKER, api2, seconds};
use crate::job::{JobId, NewJob, StateName};
use crate::outcome::{Class, Outcome, Response};
use crate::store::{Filter, Report, Retention, SettleAnswer, Settlement};

const RETENTION: Retention = Retention { succeeded: seconds(100), dead: seconds(300), keys: seconds(1_000) };

async fn is_known(rig: &Rig, id: JobId) -> bool {
    rig.store.job(id).await.expect("a job is read").is_some()
}

pub async fn finished_jobs_are_kept_as_long_as_their_state_says(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let ends = [StateName::Succeeded, StateName::Cancelled, StateName::Dead];
    let mut ids = Vec::new();
    for end in ends {
        ids.push(rig.ended(end).await);
    }
    let pass_to = async |rig: &mut Rig, after, purged, known: [bool; 3]| {
        rig.pass(seconds(after));
        assert_eq!(rig.purge(RETENTION).await, purged);
        for (id, known) in ids.iter().zip(known) {
            assert_eq!(is_known(rig, *id).await, known);
        }
    };
    pass_to(&mut rig, 99, 0, [true, true, true]).await;
    pass_to(&mut rig, 1, 2, [false, false, true]).await;
    pass_to(&mut rig, 199, 0, [false, false, true]).await;
    pass_to(&mut rig, 1, 1, [false, false, false]).await;
    let stats = rig.store.stats().await.expect("stats are read");
    assert_eq!((stats.accepted, stats.purged), (3, 3));
    assert!(StateName::ALL.iter().all(|state| stats.in_state(*state) == 0), "{stats:?}");
}

pub async fn the_time_is_counted_from_the_end(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    rig.pass(seconds(500));
    rig.end(id, StateName::Succeeded).await;
    rig.pass(seconds(99));
    assert_eq!(rig.purge(RETENTION).await, 0);
    rig.pass(seconds(1));
    assert_eq!(rig.purge(RETENTION).await, 1);
}

pub async fn an_unfinished_job_is_never_purged(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let ids = [rig.accept_one().await, rig.accept_one().await, rig.accept_one().await];
    rig.settle(rig.claim(1).await[0], Class::Down).await;
    rig.claim(1).await;
    rig.pass(seconds(1_000_000));
    assert_eq!(rig.purge(RETENTION).await, 0);
    for id in ids {
        assert!(is_known(&rig, id).await);
    }
}

pub async fn a_redriven_job_is_kept(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.ended(StateName::Dead).await;
    rig.redrive(id).await;
    rig.pass(seconds(1_000_000));
    assert_eq!(rig.purge(RETENTION).await, 0);
    assert_eq!(rig.claimable().await, [id]);
}

pub async fn with_a_job_goes_all_that_belongs_to_it(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let stays = rig.accept_keyed("k").await;
    let lease = rig.claim_this(id).await;
    let outcome = Outcome { response: Some(Response::default()), ..Outcome::of(Class::Ok) };
    rig.settle_outcome(lease, outcome.clone()).await;
    rig.pass(seconds(100));
    assert_eq!(rig.purge(RETENTION).await, 1);
    assert_eq!(rig.store.job(id).await, Ok(None));
    assert_eq!(rig.store.request(id).await, Ok(None));
    assert_eq!(rig.store.response(id).await, Ok(None));
    let listed = rig.store.list(Filter::default(), None, 10).await.expect("jobs are listed").jobs;
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), [stays]);
    let late = Settlement { key: lease, report: Report::Attempted(outcome) };
    assert_eq!(rig.settle_all(WORKER, vec![late]).await, [SettleAnswer::UnknownJob]);
    assert_eq!(rig.store.stats().await.expect("stats are read").attempts, 1, "what was counted stays counted");
}

pub async fn a_great_many_jobs_are_purged_some_hundreds_at_a_time(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let jobs: Vec<NewJob> = (0..1_500).map(|_| rig.job()).collect();
    for batch in jobs.chunks(500) {
        rig.enqueue(batch.to_vec()).await;
        let ok = |key| Settlement { key, report: Report::Attempted(Outcome::of(Class::Ok)) };
        let settlements = rig.claim(500).await.into_iter().map(ok).collect();
        rig.settle_all(WORKER, settlements).await;
    }
    rig.pass(seconds(100));
    let (mut purged, mut more) = (Vec::new(), true);
    while more && purged.len() < 100 {
        let step = rig.store.purge(RETENTION, rig.now).await.expect("a purge is answered");
        purged.push(step.jobs);
        more = step.more;
    }
    assert!(!more && purged.len() > 1, "it says whether there is more: {purged:?}");
    assert!(purged.iter().all(|count| *count < 1_000), "{purged:?}");
    assert_eq!(purged.iter().sum::<u64>(), 1_500);
    let stats = rig.store.stats().await.expect("stats are read");
    assert_eq!((stats.purged, stats.in_state(StateName::Succeeded)), (1_500, 0));
    assert_eq!(rig.store.oldest_due(&api2()).await, Ok(None));
}
