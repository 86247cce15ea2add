//! What a destination receives, and how often.

use jobs_core::outcome::Class;
use jobs_core::protocol::WireClass;

use crate::support::Worker;
use crate::support::destination::{Destination, Reaction};
use crate::support::gateway::Gateway;
use crate::support::http::{answer, answer_with};
use crate::support::lease::lease;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

#[tokio::test]
async fn the_destination_receives_the_headers_it_was_promised_and_no_others() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let mut lease = lease(7, &destination.url("/path?query=1"));
    lease.attempt = 4;
    lease.request.headers.push(("X-Twice".to_owned(), "1".to_owned()));
    lease.request.headers.push(("X-Twice".to_owned(), "grüß".to_owned()));
    lease.request.headers.push(("Job-Epoch".to_owned(), "forged".to_owned()));
    lease.request.headers.push(("Content-Length".to_owned(), "3".to_owned()));
    lease.request.headers.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
    lease.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let epoch = lease.epoch.as_u64().to_string();
    gateway.attempt(lease).await;

    let requests = destination.requests();
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/path?query=1"));
    let mut headers = request.headers.clone();
    headers.sort();
    let host = destination.url("").replace("http://", "");
    let expected = [
        ("accept", "*/*"),
        ("content-length", "7"),
        ("content-type", "application/json"),
        ("host", host.as_str()),
        ("idempotency-key", "00000000-0000-0000-0000-000000000007"),
        ("job-attempt", "4"),
        ("job-epoch", epoch.as_str()),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-twice", "1"),
        ("x-twice", "grüß"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(request.body, br#"{"n":7}"#);
}

#[tokio::test]
async fn a_payload_arrives_byte_for_byte() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let text = " {\"n\": 9007199254740993, \"n\":1.0,\r\n\t\"s\":\"\\u00e9\u{e9}\u{1f600}\u{0}\"} \n";
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut exact = lease(1, &destination.url("/text"));
    exact.payload = Some(text.to_owned());
    let mut binary = lease(2, &destination.url("/bytes"));
    (binary.payload, binary.payload_base64) = (None, Some(BASE64_STANDARD.encode(&bytes)));
    gateway.attempt(exact).await;
    gateway.attempt(binary).await;
    let requests = destination.requests();
    assert_eq!(requests[0].body, text.as_bytes());
    assert!(requests[1].body == bytes);
}

#[tokio::test]
async fn path_and_query_are_sent_as_they_are_leased_but_for_four_characters() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let as_it_is =
        ["/a%2Fb//c/;d=(1)'!*,$&+:@^|[]%zz%5C", "/q?", "/?", "/?a=%20&a&&b=/?:@!$()*,;[]{}|\\^`%", "/.a/b../"];
    let encoded = [(r#"/{"a"}"#, "/%7B%22a%22%7D"), ("/a?b='c'", "/a?b=%27c%27")];
    let wanted = as_it_is.iter().map(|target| (*target, *target)).chain(encoded);
    for (job, (leased, sent)) in (1..).zip(wanted) {
        gateway.attempt(lease(job, &destination.url(leased))).await;
        assert_eq!(destination.requests().last().map(|request| request.path.clone()).as_deref(), Some(sent));
    }
}

#[tokio::test]
async fn an_empty_payload_has_a_length_only_where_the_method_wants_one() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    for (job, method) in (1..).zip(["POST", "GET", "DELETE", "PURGE"]) {
        let mut lease = lease(job, &destination.url("/"));
        lease.request.method = method.to_owned();
        lease.payload = None;
        assert_eq!(gateway.attempt(lease).await.class, WireClass::Attempted(Class::Ok));
    }
    let requests = destination.requests();
    let seen: Vec<_> = requests.iter().map(|r| (r.method.as_str(), r.header("content-length"))).collect();
    assert_eq!(seen, [("POST", Some("0")), ("GET", None), ("DELETE", None), ("PURGE", None)]);
    assert!(requests.iter().all(|request| request.header("transfer-encoding").is_none()));
}

#[tokio::test]
async fn a_pooled_connection_that_dies_under_a_request_is_not_tried_again() {
    // Every second request is read and answered with a closed or reset connection.
    let destination = Destination::start(|_, number| match number % 4 {
        1 => Reaction::Close,
        3 => Reaction::Reset,
        _ => Reaction::Answer(answer(200, "fine")),
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    for job in 1..=12 {
        let outcome = gateway.attempt(lease(job, &destination.url("/"))).await;
        let expected = if job % 2 == 1 { (Class::Ok, false) } else { (Class::Down, true) };
        assert_eq!((outcome.class, outcome.unknown), (WireClass::Attempted(expected.0), expected.1), "{outcome:?}");
        assert_eq!(destination.requests().len(), job as usize, "attempts reported are requests seen");
    }
    assert_eq!(destination.connections(), 6, "each dead connection had been used before");
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_sees_every_job_once() {
    // It promises to keep the connection and closes it: the client finds out only when it is used again.
    let destination = Destination::always(Reaction::AnswerAndClose(answer(200, "fine"))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    gateway.grant((1..=200).map(|job| lease(job, &destination.url("/"))));
    let outcomes = gateway.settled(200).await;
    let mut seen: Vec<String> =
        destination.requests().iter().map(|request| request.header("idempotency-key").unwrap().to_owned()).collect();
    seen.sort();
    let written = |outcome: &&jobs_core::protocol::WireOutcome| outcome.unknown || outcome.status.is_some();
    let reported: Vec<String> = outcomes.iter().filter(written).map(|outcome| outcome.job_id.to_string()).collect();
    seen.iter().for_each(|key| assert!(reported.contains(key), "{key} was seen and is not reported as sent"));
    let before = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), before, "no job was sent twice");
    let answered = outcomes.iter().filter(|outcome| outcome.status == Some(200)).count();
    assert!(answered > 150, "{answered} of 200 were answered");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let destination = Destination::start(|request, _| {
        assert_eq!(request.path, "/");
        Reaction::Answer(answer_with(302, &[("Location", "/elsewhere")], ""))
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let outcome = gateway.attempt(lease(1, &destination.url("/"))).await;
    assert_eq!((outcome.class, outcome.status), (WireClass::Attempted(Class::Error), Some(302)));
    assert_eq!(destination.requests().len(), 1);
}
