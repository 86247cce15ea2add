//! What is left after a crash, and what the disk has spoilt. A crash is a copy of the files, taken while the store is open.

use std::sync::Arc;

use jobs_core::conformance::rig::{BEGIN, Rig, TestJudge, WORKER, keys};
use jobs_core::job::{DeadReason, State, StateName};
use jobs_core::lifecycle::SettleResult;
use jobs_core::outcome::{Class, Outcome};
use jobs_core::store::{JobStore, Report, SettleAnswer, Settlement};

use super::{Sqlite, job};

fn ok(key: jobs_core::lease::LeaseKey) -> Settlement {
    Settlement { key, report: Report::Attempted(Outcome::of(Class::Ok)) }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    for n in 1..=50 {
        store.enqueue(vec![job(n)], BEGIN).await.expect("the job is accepted");
    }
    let claimed = store.claim(WORKER, vec![Rig::grant(10, 0)], BEGIN).await.expect("a claim is answered");
    let settlements = keys(&claimed.leases).into_iter().take(5).map(ok).collect();
    store.settle(WORKER, settlements, Arc::new(TestJudge::default()), BEGIN).await.expect("a settle is answered");
    let stats = store.stats().await;

    let crashed = database.crashed();
    let after = crashed.open_sqlite();
    assert_eq!(after.stats().await, stats);
    for n in 1..=50 {
        let id = job(n).id;
        assert_eq!(after.job(id).await, store.job(id).await);
        assert_eq!(after.request(id).await, Ok(Some(job(n).request)));
    }
    assert_eq!(after.leases().await.expect("leases are known").len(), 5);
    assert!(after.start() > store.start());
}

#[tokio::test]
async fn a_claim_that_a_crash_forgot_is_harmless() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    store.enqueue(vec![job(1)], BEGIN).await.expect("the job is accepted");
    let crashed = database.crashed();
    let forgotten =
        keys(&store.claim(WORKER, vec![Rig::grant(1, 0)], BEGIN).await.expect("a claim is answered").leases)[0];

    let after = crashed.open_sqlite();
    let again = after.claim(WORKER, vec![Rig::grant(1, 0)], BEGIN).await.expect("a claim is answered");
    let again = keys(&again.leases)[0];
    assert_eq!(again.job_id, forgotten.job_id, "the job is claimed again");
    assert!(again.epoch > forgotten.epoch, "and the new lease fences the forgotten one");
    let judge = Arc::new(TestJudge::default());
    let answers = after.settle(WORKER, vec![ok(forgotten)], judge, BEGIN).await.expect("a settle is answered");
    let SettleAnswer::Known { result, job, ended, .. } = &answers[0] else { panic!("{answers:?}") };
    assert_eq!(
        (*result, job.state.name()),
        (SettleResult::Applied, StateName::Succeeded),
        "its ok is a fact all the same"
    );
    assert_eq!(*ended, Some((again, WORKER)));
}

#[tokio::test]
async fn one_flipped_bit_of_a_request_is_never_delivered() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    store.enqueue(vec![job(1), job(2)], BEGIN).await.expect("the jobs are accepted");
    store.close().await.expect("the store closes");
    let mut bytes = std::fs::read(database.path()).expect("the file is read");
    let body = job(1).request.body;
    let at = bytes.windows(body.len()).position(|window| window == body).expect("the body is in the file");
    bytes[at + 3] ^= 1;
    std::fs::write(database.path(), bytes).expect("the file is written");

    let store = database.open_sqlite();
    let claimed = store.claim(WORKER, vec![Rig::grant(9, 0)], BEGIN).await.expect("a claim is answered");
    assert_eq!(claimed.leases.iter().map(|lease| lease.job.id).collect::<Vec<_>>(), [job(2).id]);
    let found = store.job(job(1).id).await.expect("the store is read").expect("the job is known");
    assert_eq!(found.job.state, State::Dead { at: BEGIN.wall, reason: DeadReason::Corrupt });
}
