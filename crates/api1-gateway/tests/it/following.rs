//! Following one job by server-sent events.

use futures_util::StreamExt;
use serde_json::Value;

use crate::support::{Gateway, Worker, answer, header, problem};

/// The jobs that a stream of events has told of, to its end.
async fn told(response: reqwest::Response) -> Vec<Value> {
    let mut text = String::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("event: job\ndata: "));
    events.map(|json| serde_json::from_str(json).unwrap()).collect()
}

#[tokio::test]
async fn a_job_is_followed_from_change_to_change_until_it_has_ended() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let stream = gateway.get(&format!("/api1/jobs/{id}/events")).send().await.unwrap();
    assert_eq!(header(&stream, "content-type"), "text/event-stream");
    let (told, ()) = tokio::join!(told(stream), async {
        let worker = Worker::new(&gateway);
        answer(gateway.post("/api1/process/other").body("somebody else's"), 202).await;
        let mut classes = ["down", "ok"].into_iter();
        while classes.len() > 0 {
            for lease in worker.claim(5, 10_000).await {
                let class = if lease["job_id"] == *id { classes.next().unwrap() } else { "ok" };
                worker.report(&lease, class).await;
            }
            // Not to wait for its delay; once it has succeeded, there is none.
            gateway.post(&format!("/api1/jobs/{id}/redrive")).send().await.unwrap();
        }
    });
    assert!(told.iter().all(|job| job["id"] == *id), "{told:?}");
    let states: Vec<_> = told.iter().map(|job| (job["state"].as_str().unwrap(), &job["attempts"])).collect();
    assert_eq!(states.first().unwrap().0, "pending");
    assert_eq!(*states.last().unwrap(), ("succeeded", &2.into()), "and then the stream ends");
    assert!(states.contains(&("pending", &1.into())), "{states:?}");
}

#[tokio::test]
async fn a_job_that_has_ended_is_told_once_and_a_drain_ends_every_stream() {
    let gateway = Gateway::start().await;
    let (ended, waiting) = (gateway.accepted("{}").await, gateway.accepted("{}").await);
    gateway.post(&format!("/api1/jobs/{ended}/cancel")).send().await.unwrap();
    let stream = gateway.get(&format!("/api1/jobs/{ended}/events")).send().await.unwrap();
    assert_eq!(told(stream).await.len(), 1);
    let stream = gateway.get(&format!("/api1/jobs/{waiting}/events")).send().await.unwrap();
    gateway.shutdown.trigger();
    assert_eq!(told(stream).await.len(), 1);
    gateway.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn there_is_nothing_to_follow_of_a_job_that_is_not_there() {
    let gateway = Gateway::start().await;
    problem(gateway.get("/api1/jobs/018f0000-0000-7000-8000-000000000000/events"), 404, "unknown_job").await;
    problem(gateway.get("/api1/jobs/x/events"), 400, "bad_job_id").await;
}
