//! Callers are told of the end of their jobs, in the step that ends them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::StoreUnderTest;
use super::rig::{Rig, WORKER, destination, seconds};
use crate::callback::{self, Callback};
use crate::job::{Job, JobId, NewJob, StateName};
use crate::outcome::{Class, Outcome, Response};
use crate::store::{Filter, Grant};

impl Rig {
    /// A job whose end is told to `listener`.
    async fn accept_with_callback(&mut self, still_trying_after: Option<u64>) -> Job {
        let callback = Callback { destination: listener(), still_trying_after: still_trying_after.map(seconds) };
        let job = NewJob { callback: Some(callback), ..self.job() };
        self.accept(job).await
    }

    /// All jobs for `listener`, earliest accepted first, with what they tell.
    async fn told(&self) -> Vec<(Job, Value)> {
        let filter = Filter { destination: Some(listener()), ..Filter::default() };
        let mut told = Vec::new();
        for job in self.store.find(filter, 0, 100).await.expect("jobs are found").jobs {
            let request = self.store.request(job.id).await.expect("a request is read").expect("the job is known");
            assert_eq!(request.content_type.as_deref(), Some("application/json"));
            told.push((job, serde_json::from_slice(&request.body).expect("it is JSON")));
        }
        told
    }
}

fn listener() -> crate::job::DestinationName {
    destination("listener")
}

pub async fn the_end_of_a_job_makes_a_job_that_tells_of_it(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = rig.accept_with_callback(None).await;
    assert_eq!(rig.stored(job.id).await.callback, Some(listener()));
    let response =
        Response { content_type: Some("text/plain".to_owned()), body: Bytes::from_static(b"done"), truncated: false };
    let outcome = Outcome { status: Some(201), response: Some(response), ..Outcome::of(Class::Ok) };
    assert_eq!(rig.told().await, []);
    rig.settle_outcome(rig.claim_this(job.id).await, outcome).await;
    rig.reopen_if_durable(under_test).await;
    let told = rig.told().await;
    let (call, body) = &told[0];
    assert_eq!((told.len(), call.state.name(), &call.callback), (1, StateName::Pending, &None));
    assert_eq!(body["event"], "job.ended");
    assert_eq!((&body["job"]["id"], &body["job"]["state"]), (&json!(job.id), &json!("succeeded")));
    assert_eq!((&body["job"]["attempts"], &body["job"]["dead_reason"]), (&json!(1), &Value::Null));
    let response = json!({"status": 201, "content_type": "text/plain", "body": "done", "truncated": false});
    assert_eq!(body["response"], response);
    assert_eq!(rig.store.stats().await.expect("stats are read").accepted, 2, "it is a job like any other");
    let grant = Grant { destination: listener(), ..Rig::grant(5, 0) };
    assert_eq!(rig.claim_granted(WORKER, vec![grant]).await.leases[0].job.id, call.id);
}

pub async fn every_end_is_told_each_one_time(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let ends = async |rig: &Rig| -> Vec<(JobId, String)> {
        let told = rig.told().await;
        let end = |(_, body): &(Job, Value)| {
            let id = serde_json::from_value(body["job"]["id"].clone()).expect("an id");
            (id, body["job"]["state"].as_str().expect("a state").to_owned())
        };
        told.iter().map(end).collect()
    };
    let dead = rig.accept_with_callback(None).await.id;
    rig.end(dead, StateName::Dead).await;
    let cancelled = rig.accept_with_callback(None).await.id;
    rig.end(cancelled, StateName::Cancelled).await;
    let callback = Some(Callback { destination: listener(), still_trying_after: None });
    let short = NewJob { expires_after: Some(seconds(1)), callback, ..rig.job() };
    let expired = rig.accept(short).await.id;
    rig.pass(seconds(2));
    rig.sweep().await;
    let own = |id, state: &str| (id, state.to_owned());
    let so_far = [own(dead, "dead"), own(cancelled, "cancelled"), own(expired, "dead")];
    assert_eq!(ends(&rig).await, so_far);
    rig.cancel(cancelled).await;
    rig.settle(rig.claim_this_again(dead).await, Class::Ok).await;
    assert_eq!(ends(&rig).await, [&so_far[..], &[own(dead, "succeeded")]].concat(), "a redriven job ends again");
}

pub async fn a_notice_tells_once_that_a_job_is_still_being_tried(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let slow = rig.accept_with_callback(Some(60)).await;
    let quick = rig.accept_with_callback(Some(60)).await;
    let told = rig.told().await;
    assert_eq!(
        told.iter().map(|(job, _)| job.id).collect::<Vec<_>>(),
        [callback::notice_id(&slow), callback::notice_id(&quick)]
    );
    assert_eq!((&told[0].1["event"], &told[0].1["job"]["id"]), (&json!("job.still_trying"), &json!(slow.id)));
    rig.end(quick.id, StateName::Succeeded).await;
    let state = async |rig: &Rig, job: &Job| rig.stored(callback::notice_id(job)).await.state.name();
    assert_eq!(state(&rig, &quick).await, StateName::Cancelled, "there is nothing more to try");
    let due = async |rig: &Rig| {
        let grant = Grant { destination: listener(), ..Rig::grant(5, 0) };
        rig.claim_granted(WORKER, vec![grant]).await.leases.into_iter().map(|lease| lease.job.id).collect::<Vec<_>>()
    };
    assert!(!due(&rig).await.contains(&callback::notice_id(&slow)));
    rig.pass(seconds(60));
    assert_eq!(due(&rig).await, [callback::notice_id(&slow)]);
    rig.end(slow.id, StateName::Succeeded).await;
    assert_eq!(state(&rig, &slow).await, StateName::Leased, "what is being told is told");
}

pub async fn a_replayed_request_makes_no_second_notice(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for _ in 0..2 {
        let callback = Some(Callback { destination: listener(), still_trying_after: Some(seconds(60)) });
        let job = NewJob { idempotency: Some(super::rig::key("client", "k", 1)), callback, ..rig.job() };
        rig.enqueue(vec![job]).await;
    }
    assert_eq!(rig.told().await.len(), 1);
}

impl Rig {
    /// Redrives a dead job and claims it.
    async fn claim_this_again(&self, id: JobId) -> crate::lease::LeaseKey {
        self.redrive(id).await;
        self.claim_this(id).await
    }
}
