//! `GET /api1/events`.

use futures_util::StreamExt;
use serde_json::Value;

use super::{leads_to, submit};
use crate::support::{Gateway, PATIENCE, Worker, header, problem};

/// An open stream of events.
struct Stream {
    bytes: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>>>>,
    text: String,
}

impl Stream {
    async fn open(gateway: &Gateway, query: &str) -> Self {
        let response = gateway.get(&format!("/api1/events{query}")).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), header(&response, "content-type")),
            (200, "text/event-stream".to_owned())
        );
        Stream { bytes: Box::pin(response.bytes_stream()), text: String::new() }
    }

    /// The data of the next event of that name; `None` when the stream has ended.
    async fn next(&mut self, name: &str) -> Option<Value> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_owned();
                self.text = rest.to_owned();
                if let Some(data) = event.strip_prefix(&format!("event: {name}\ndata: ")) {
                    return Some(serde_json::from_str(data).unwrap());
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.bytes.next()).await.expect("the stream is silent")?;
            self.text.push_str(std::str::from_utf8(&chunk.ok()?).unwrap());
        }
    }
}

#[tokio::test]
async fn a_listener_is_told_of_jobs_gates_and_counters() {
    let gateway = Gateway::start().await;
    let mut all = Stream::open(&gateway, "").await;
    assert_eq!(all.next("counters").await.unwrap()["accepted"], 0);
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    worker.report(&worker.claim_one().await, "ok").await;
    let job = all.next("job").await.unwrap();
    assert_eq!((job["id"].as_str(), job["state"].as_str()), (Some(id.as_str()), Some("succeeded")));
    let counted = all.next("counters").await.unwrap();
    assert_eq!((&counted["accepted"], &counted["succeeded"]), (&1.into(), &1.into()));
    leads_to(submit(&gateway, "/destinations/api2/pause", &[])).await;
    let gate = all.next("gate").await.unwrap();
    assert_eq!((gate["destination"].as_str(), gate["state"].as_str()), (Some("api2"), Some("paused")));
}

#[tokio::test]
async fn only_the_kinds_that_were_asked_for_are_told() {
    let gateway = Gateway::start().await;
    let mut jobs = Stream::open(&gateway, "?kinds=job").await;
    gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    worker.report(&worker.claim_one().await, "ok").await;
    assert_eq!(jobs.next("job").await.unwrap()["state"], "succeeded");
    assert!(!jobs.text.contains("counters"), "{}", jobs.text);
    problem(gateway.get("/api1/events?kinds=jobs"), 400, "bad_query").await;
    problem(gateway.get("/api1/events?kind=job"), 400, "bad_query").await;
}

#[tokio::test]
async fn an_open_stream_ends_when_the_gateway_drains_and_does_not_hold_it_up() {
    let gateway = Gateway::start().await;
    let mut stream = Stream::open(&gateway, "?kinds=gate").await;
    gateway.shutdown.trigger();
    assert_eq!(stream.next("gate").await, None);
    tokio::time::timeout(PATIENCE, gateway.serving).await.expect("it drains").unwrap().unwrap();
}

#[tokio::test]
async fn there_is_a_bound_on_listeners_and_leaving_makes_room() {
    let gateway = Gateway::start().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(Stream::open(&gateway, "").await);
    }
    problem(gateway.get("/api1/events"), 503, "too_many_listeners").await;
    streams.clear();
    crate::support::eventually("there is room again", async || {
        (gateway.get("/api1/events").send().await.unwrap().status() == 200).then_some(())
    })
    .await;
}
