//! Idempotency keys: the same request again makes no second job.

use super::StoreUnderTest;
use super::rig::{Rig, key, seconds};
use crate::job::{JobId, NewJob, StateName};
use crate::store::{Enqueued, Retention};

/// A job under a key of one client.
fn keyed(rig: &mut Rig, name: &str, fingerprint: u8) -> NewJob {
    NewJob { idempotency: Some(key("client", name, fingerprint)), ..rig.job() }
}

async fn repeat(rig: &mut Rig, name: &str) -> Enqueued {
    let again = keyed(rig, name, 1);
    rig.enqueue(vec![again]).await.remove(0)
}

async fn assert_unknown(rig: &Rig, id: JobId) {
    assert_eq!(rig.store.job(id).await, Ok(None));
    assert_eq!(rig.store.request(id).await, Ok(None));
}

pub async fn a_repeated_request_answers_with_the_first_job(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let (first, again) = (keyed(&mut rig, "k", 1), keyed(&mut rig, "k", 1));
    rig.accept(first.clone()).await;
    for _ in 0..2 {
        let answer = rig.enqueue(vec![again.clone()]).await;
        assert_eq!(answer, [Enqueued::Replayed { id: first.id, state: StateName::Pending }]);
    }
    assert_unknown(&rig, again.id).await;
    assert_eq!(rig.store.stats().await.expect("stats are read").accepted, 1);
    assert_eq!(rig.claim(9).await.len(), 1);
}

pub async fn a_replay_tells_the_present_state(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = keyed(&mut rig, "k", 1);
    let id = rig.accept(job).await.id;
    let lease = rig.claim_one().await;
    assert_eq!(repeat(&mut rig, "k").await, Enqueued::Replayed { id, state: StateName::Leased });
    rig.settle(lease, crate::outcome::Class::Ok).await;
    assert_eq!(repeat(&mut rig, "k").await, Enqueued::Replayed { id, state: StateName::Succeeded });
}

pub async fn a_key_with_another_request_is_refused(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let (first, other) = (keyed(&mut rig, "k", 1), keyed(&mut rig, "k", 2));
    rig.accept(first.clone()).await;
    assert_eq!(rig.enqueue(vec![other.clone()]).await, [Enqueued::KeyReused { id: first.id }]);
    assert_unknown(&rig, other.id).await;
    let again = repeat(&mut rig, "k").await;
    assert_eq!(
        again,
        Enqueued::Replayed { id: first.id, state: StateName::Pending },
        "the key keeps its first request"
    );
}

pub async fn a_key_may_come_again_within_one_batch(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let batch = vec![keyed(&mut rig, "k", 1), keyed(&mut rig, "k", 1), keyed(&mut rig, "k", 2), rig.job()];
    let first = batch[0].id;
    let last = batch[3].id;
    let answers = rig.enqueue(batch).await;
    assert!(matches!(&answers[0], Enqueued::Accepted(job) if job.id == first), "{answers:?}");
    assert_eq!(answers[1], Enqueued::Replayed { id: first, state: StateName::Pending });
    assert_eq!(answers[2], Enqueued::KeyReused { id: first });
    assert!(matches!(&answers[3], Enqueued::Accepted(job) if job.id == last), "{answers:?}");
    assert_eq!(rig.claim(9).await.len(), 2);
}

pub async fn two_clients_may_use_the_same_key(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for (scope, name) in [("a", "k"), ("b", "k"), ("", "ak"), ("a", ""), ("A", "k"), ("a", "K")] {
        let job = NewJob { idempotency: Some(key(scope, name, 1)), ..rig.job() };
        rig.accept(job).await;
    }
    assert_eq!(rig.store.stats().await.expect("stats are read").accepted, 6);
}

pub async fn a_key_stays_bound_over_a_redrive(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = keyed(&mut rig, "k", 1);
    let id = rig.accept(job).await.id;
    rig.end(id, StateName::Dead).await;
    rig.redrive_with(id, true).await;
    assert_eq!(repeat(&mut rig, "k").await, Enqueued::Replayed { id, state: StateName::Pending });
}

pub async fn a_key_outlives_its_job_and_tells_how_that_ended(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let retention = Retention { succeeded: seconds(10), dead: seconds(10), keys: seconds(60) };
    for state in [StateName::Succeeded, StateName::Dead, StateName::Cancelled] {
        let job = keyed(&mut rig, state.as_str(), 1);
        let id = rig.accept(job).await.id;
        rig.end(id, state).await;
        rig.pass(seconds(10));
        assert_eq!(rig.purge(retention).await, 1);
        assert_unknown(&rig, id).await;
        assert_eq!(repeat(&mut rig, state.as_str()).await, Enqueued::Replayed { id, state });
        let other = keyed(&mut rig, state.as_str(), 2);
        assert_eq!(rig.enqueue(vec![other]).await, [Enqueued::KeyReused { id }]);
    }
}

pub async fn a_key_that_has_outlived_its_time_is_free_again(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let retention = Retention { succeeded: seconds(10), dead: seconds(10), keys: seconds(60) };
    let job = keyed(&mut rig, "k", 1);
    let id = rig.accept(job).await.id;
    rig.end(id, StateName::Succeeded).await;
    rig.pass(seconds(3_600));
    assert_eq!(rig.purge(retention).await, 1);
    rig.pass(seconds(59));
    assert_eq!(rig.purge(retention).await, 0);
    let kept = repeat(&mut rig, "k").await;
    assert_eq!(kept, Enqueued::Replayed { id, state: StateName::Succeeded }, "a key's time begins when its job goes");
    rig.pass(seconds(1));
    rig.purge(retention).await;
    assert!(matches!(repeat(&mut rig, "k").await, Enqueued::Accepted(job) if job.id != id));
}

pub async fn a_key_lives_as_long_as_its_job_whatever_the_retention(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = keyed(&mut rig, "k", 1);
    let id = rig.accept(job).await.id;
    rig.pass(seconds(3_600));
    rig.purge(Retention { succeeded: seconds(1), dead: seconds(1), keys: seconds(1) }).await;
    assert_eq!(repeat(&mut rig, "k").await, Enqueued::Replayed { id, state: StateName::Pending });
}
