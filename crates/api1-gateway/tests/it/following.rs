//! Following one job by server-sent events.

use serde_json::Value;

use crate::support::{Gateway, PATIENCE, Worker, answer, header, problem};

/// A stream of events about jobs.
struct Told {
    response: reqwest::Response,
    text: String,
}

impl Told {
    fn new(response: reqwest::Response) -> Self {
        Told { response, text: String::new() }
    }

    /// The next job told of; `None` at the stream's end.
    async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event comes, or the stream ends")
    }

    async fn read(&mut self) -> Option<Value> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let job = event.strip_prefix("event: job\ndata: ").map(|json| serde_json::from_str(json).unwrap());
                self.text = rest.to_owned();
                if job.is_some() {
                    return job;
                }
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// All that are told of, to the stream's end.
    async fn all(mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(job) = self.next().await {
            all.push(job);
        }
        all
    }
}

#[tokio::test]
async fn a_job_is_followed_from_change_to_change_until_it_has_ended() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let stream = gateway.get(&format!("/api1/jobs/{id}/events")).send().await.unwrap();
    assert_eq!(header(&stream, "content-type"), "text/event-stream");
    let mut told = Told::new(stream);
    assert_eq!(told.next().await.unwrap()["state"], "pending");
    answer(gateway.post("/api1/process/other").body("somebody else's"), 202).await;
    let worker = Worker::new(&gateway);
    let mut held = worker.claim(5, 10_000).await;
    while held.len() < 2 {
        held.extend(worker.claim(5, 10_000).await);
    }
    for lease in &held {
        worker.report(lease, if lease["job_id"] == *id { "down" } else { "ok" }).await;
    }
    // What changes twice before it is looked at is told once; each of these is waited for.
    let mut job = told.next().await.unwrap();
    while job["attempts"] != 1 {
        job = told.next().await.unwrap();
    }
    assert_eq!((&job["id"], &job["state"]), (&id.as_str().into(), &"pending".into()));
    gateway.post(&format!("/api1/jobs/{id}/redrive")).send().await.unwrap();
    let again = worker.claim_one().await;
    worker.report(&again, "ok").await;
    let rest = told.all().await;
    assert!(rest.iter().all(|job| job["id"] == *id), "{rest:?}");
    let last = rest.last().unwrap();
    assert_eq!((&last["state"], &last["attempts"]), (&"succeeded".into(), &2.into()), "and then the stream ends");
}

#[tokio::test]
async fn a_job_that_has_ended_is_told_once_and_a_drain_ends_every_stream() {
    let gateway = Gateway::start().await;
    let (ended, waiting) = (gateway.accepted("{}").await, gateway.accepted("{}").await);
    gateway.post(&format!("/api1/jobs/{ended}/cancel")).send().await.unwrap();
    let stream = gateway.get(&format!("/api1/jobs/{ended}/events")).send().await.unwrap();
    assert_eq!(Told::new(stream).all().await.len(), 1);
    let stream = gateway.get(&format!("/api1/jobs/{waiting}/events")).send().await.unwrap();
    gateway.shutdown.trigger();
    assert_eq!(Told::new(stream).all().await.len(), 1);
    gateway.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn there_is_nothing_to_follow_of_a_job_that_is_not_there() {
    let gateway = Gateway::start().await;
    problem(gateway.get("/api1/jobs/018f0000-0000-7000-8000-000000000000/events"), 404, "unknown_job").await;
    problem(gateway.get("/api1/jobs/x/events"), 400, "bad_job_id").await;
}
