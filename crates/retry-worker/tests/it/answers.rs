//! What is read and kept of a destination's answer.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jobs_core::outcome::{Class, Response};
use jobs_core::protocol::WireClass;

use crate::support::Worker;
use crate::support::destination::{Destination, Reaction};
use crate::support::gateway::Gateway;
use crate::support::http::{Server, answer, answer_with, read_request, write};
use crate::support::lease::{lease, ruled, within_ms};

const OK: WireClass = WireClass::Attempted(Class::Ok);

#[tokio::test]
async fn an_answer_is_kept_with_its_content_type_as_text_or_base64() {
    let destination = Destination::start(|request, _| match request.path.as_str() {
        "/text" => Reaction::Answer(answer_with(503, &[("Content-Type", "text/plain")], "API 2 is \"down\" – sorry")),
        "/bytes" => Reaction::Answer(answer(200, [0, 159, 146, 150])),
        _ => Reaction::Answer(answer_with(200, &[("Content-Type", "text/plain")], "")),
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    gateway.grant((1..).zip(["/text", "/bytes", "/empty"]).map(|(job, path)| lease(job, &destination.url(path))));
    let outcomes = gateway.settled(3).await;
    let text = outcomes[0].response.clone().unwrap();
    assert_eq!(text.content_type.as_deref(), Some("text/plain"));
    assert_eq!(text.body.as_deref(), Some("API 2 is \"down\" – sorry"));
    assert!(!text.truncated);
    let bytes = outcomes[1].response.clone().unwrap();
    assert_eq!((bytes.content_type, bytes.body), (None, None));
    assert_eq!(BASE64_STANDARD.decode(bytes.body_base64.unwrap()).unwrap(), [0, 159, 146, 150]);
    assert_eq!(outcomes[2].response, None);
}

#[tokio::test]
async fn a_long_answer_is_cut_and_its_connection_used_again() {
    let destination = Destination::always(Reaction::Answer(answer(200, "é".repeat(150_000)))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    for job in 1..=20 {
        let outcome = gateway.attempt(lease(job, &destination.url("/"))).await;
        let response = outcome.response.unwrap();
        assert_eq!((outcome.class, response.truncated), (OK, true));
        assert_eq!(response.body.unwrap(), "é".repeat(Response::MAX_BODY / 2));
    }
    // A connection is free a moment after the outcome, when the rest of the answer has come.
    assert!(destination.connections() <= 10, "{} connections for 20 calls", destination.connections());
}

#[tokio::test]
async fn an_endless_answer_ends_where_enough_has_been_kept() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
    let destination = Destination::always(Reaction::Endless(head, chunk)).await;
    let gateway = Gateway::start().await;
    let worker = Worker::start(&gateway);
    let outcome = gateway.attempt(lease(1, &destination.url("/"))).await;
    let response = outcome.response.unwrap();
    assert_eq!((outcome.class, response.truncated), (OK, true));
    assert_eq!(response.body.unwrap().len(), Response::MAX_BODY);
    worker.stop().await;
}

#[tokio::test]
async fn a_trickling_answer_ends_with_the_attempts_time() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await.unwrap();
        let mut result = write(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
        while result.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            result = write(&mut stream, b"x").await;
        }
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let outcome = gateway.attempt(within_ms(200, lease(1, &format!("http://{}/", server.address)))).await;
    assert_eq!((outcome.class, outcome.unknown), (WireClass::Attempted(Class::Down), true));
    assert!(outcome.error.unwrap().ends_with("the attempt's time is over"));
    assert!((190.0..5_000.0).contains(&outcome.latency_ms));
}

#[tokio::test]
async fn a_giant_head_is_no_answer() {
    let header = format!("X: {}\r\n", "y".repeat(10_000));
    let destination =
        Destination::always(Reaction::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), header.into_bytes())).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let outcome = gateway.attempt(lease(1, &destination.url("/"))).await;
    assert_eq!((outcome.class, outcome.unknown), (WireClass::Attempted(Class::Down), true));
}

#[tokio::test]
async fn a_rule_sees_more_of_an_answer_than_is_kept() {
    let body = format!(r#"{{"padding":"{}","error":"busy"}}"#, "x".repeat(2 * Response::MAX_BODY));
    let destination = Destination::always(Reaction::Answer(answer(200, body))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let rules = r#"[{"pointer":"/error","class":"overload"}]"#;
    let outcome = gateway.attempt(ruled(rules, lease(1, &destination.url("/")))).await;
    assert_eq!(outcome.class, WireClass::Attempted(Class::Overload));
    let response = outcome.response.unwrap();
    assert_eq!((response.body.unwrap().len(), response.truncated), (Response::MAX_BODY, true));
}
