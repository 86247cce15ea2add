//! Accepting jobs.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::StoreUnderTest;
use super::rig::{Rig, pending, seconds};
use crate::job::{Cause, JobId, NewJob, Pending, Priority, Progress, Request, State};
use crate::outcome::Class;
use crate::store::{Enqueued, StoreError};
use crate::time::Timestamp;

pub async fn jobs_are_numbered_in_the_order_of_their_acceptance(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let (first, second, third) = (rig.job(), rig.job(), rig.job());
    let given = [first.id, third.id, second.id];
    let answers = rig.enqueue(vec![first, third]).await;
    let answers = answers.into_iter().chain(rig.enqueue(vec![second]).await);
    let accepted: Vec<(JobId, u64)> = answers
        .map(|answer| {
            let Enqueued::Accepted(job) = answer else { panic!("{answer:?}") };
            (job.id, job.seq)
        })
        .collect();
    assert_eq!(accepted.iter().map(|(id, _)| *id).collect::<Vec<_>>(), given, "answers come in the order given");
    assert!(accepted.windows(2).all(|pair| pair[0].1 < pair[1].1), "seq rises: {accepted:?}");
}

pub async fn an_accepted_job_waits_untried_for_its_time(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let run_at = rig.now.wall.plus(seconds(9));
    let job = NewJob { run_at, ..rig.job() };
    let accepted = rig.accept(job.clone()).await;
    assert_eq!(accepted.state, State::Pending(Pending { run_at, cause: Cause::New, fail_epoch: 0 }));
    assert_eq!((accepted.id, &accepted.destination), (job.id, &job.destination));
    assert_eq!((accepted.accepted_at, accepted.updated_at), (rig.now.wall, rig.now.wall));
    let generation_floor = accepted.progress.generation_floor;
    assert_eq!(accepted.progress, Progress { generation_floor, ..Progress::default() });
    assert_eq!(rig.stored(job.id).await, accepted, "what is stored is what was answered");
    assert_eq!(rig.attempts(job.id).await, []);
}

pub async fn a_run_at_in_the_past_means_now(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = NewJob { run_at: Timestamp::from_millis(1), ..rig.job() };
    assert_eq!(pending(&rig.accept(job).await).run_at, rig.now.wall);
}

pub async fn an_empty_batch_is_accepted(under_test: &impl StoreUnderTest) {
    let rig = Rig::open(under_test).await;
    assert_eq!(rig.enqueue(Vec::new()).await, []);
    assert_eq!(rig.store.stats().await.expect("stats are read").accepted, 0);
}

pub async fn every_option_of_a_job_is_kept(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let full = NewJob {
        expires_after: Some(Duration::from_millis(86_400_001)),
        priority: Priority::MAX,
        ordering_key: Some("Kunde 'ä'; \u{1F980}\"".to_owned()),
        max_attempts: Some(u32::MAX),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        redriven_from: Some(JobId(Uuid::from_u128(u128::MAX))),
        ..rig.job()
    };
    let empty = NewJob { ordering_key: Some(String::new()), traceparent: Some(String::new()), ..rig.job() };
    let bare = rig.job();
    for given in [full, empty, bare] {
        rig.accept(given.clone()).await;
        let kept = rig.stored(given.id).await;
        assert_eq!(kept.expires_after, given.expires_after);
        assert_eq!(kept.expires_at, given.expires_after.map(|after| rig.now.wall.plus(after)));
        assert_eq!(kept.priority, given.priority);
        assert_eq!(kept.ordering_key, given.ordering_key);
        assert_eq!(kept.max_attempts, given.max_attempts);
        assert_eq!(kept.traceparent, given.traceparent);
        assert_eq!(kept.redriven_from, given.redriven_from);
    }
}

pub async fn a_request_is_kept_byte_for_byte(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let every_byte: Vec<u8> = (0..=255).rev().cycle().take(70_000).collect();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let requests = [
        Request::default(),
        Request { body: Bytes::from(every_byte), ..Request::default() },
        Request {
            method: Some("PATCH".to_owned()),
            path: Some("/a%2Fb/?q=1&q=%ff#".to_owned()),
            content_type: Some("application/json; charset=utf-8".to_owned()),
            headers: vec![header("X-B", "2"), header("x-a", ""), header("X-B", "1 \u{e9}\t\"',;=")],
            body: Bytes::from_static(b" {\"n\": 12345678901234567890.10, \"n\": 1.0e+2, \"s\": \"\\u00e9\\/\"}\r\n\0"),
        },
        Request {
            method: Some(String::new()),
            path: Some(String::new()),
            content_type: Some(String::new()),
            ..Request::default()
        },
    ];
    for request in requests {
        let job = NewJob { request: request.clone(), ..rig.job() };
        let id = rig.accept(job).await.id;
        assert_eq!(rig.store.request(id).await, Ok(Some(request.clone())));
        let leases = rig.claim_by(super::rig::WORKER, 1).await;
        assert_eq!(leases[0].request, request, "a lease carries the same");
        assert!(leases[0].job.is_intact(&request));
    }
}

/// An id that says nothing of a number, as far as its last 40 bits.
const UNNUMBERED: u128 = 0x0199_d1b2_7c3e_7a10_8f00_4fff_ffff_ffff;

pub async fn a_new_id_ends_in_its_jobs_number_and_a_given_one_stays(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = JobId(Uuid::from_u128(UNNUMBERED));
    let (given, new) = (NewJob { id, ..rig.job() }, NewJob { id, id_is_new: true, ..rig.job() });
    let (given, new) = (rig.accept(given).await, rig.accept(new).await);
    assert_eq!(given.id, id);
    assert_eq!((new.id, new.id.number()), (id.ending_in(new.seq), new.seq));
    // Given, it points at a job that has another id, and then at one that there is not.
    let (to_another, to_none) = (JobId(Uuid::from_u128(u128::from(new.seq))), JobId(Uuid::from_u128(1_000)));
    for id in [to_another, to_none] {
        let job = NewJob { id, ..rig.job() };
        rig.accept(job).await;
    }
    rig.reopen_if_durable(under_test).await;
    let ids = [given.id, new.id, to_another, to_none];
    for id in ids {
        assert_eq!(rig.stored(id).await.id, id);
        assert_eq!(rig.store.request(id).await.map(|found| found.is_some()), Ok(true), "{id}");
    }
    for id in [JobId(Uuid::from_u128(2_000)), id.ending_in(given.seq), to_another.ending_in(given.seq)] {
        assert_eq!(rig.store.job(id).await, Ok(None), "{id} never was");
    }
    let leases = rig.claim(10).await;
    assert_eq!(leases.iter().map(|key| key.job_id).collect::<Vec<_>>(), ids);
    for key in leases {
        rig.settle(key, Class::JobFail).await;
    }
    for id in ids {
        assert_eq!(rig.redrive(id).await.1.id, id);
        assert_eq!(rig.cancel(id).await.1.id, id);
    }
}

pub async fn a_known_job_id_is_refused_with_its_whole_batch(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let (known, fresh) = (rig.job(), rig.job());
    rig.accept(known.clone()).await;
    for batch in [vec![fresh.clone(), known], vec![fresh.clone(), fresh.clone()]] {
        let answer = rig.store.enqueue(batch, rig.now).await;
        assert!(matches!(answer, Err(StoreError::Unusable(_))), "{answer:?}");
        assert_eq!(rig.store.job(fresh.id).await, Ok(None), "nothing of the batch was stored");
    }
    rig.accept(fresh).await;
    assert_eq!(rig.store.stats().await.expect("stats are read").accepted, 2, "the store goes on serving");
}
