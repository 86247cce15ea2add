//! What each end of a call is reported as.

use std::net::SocketAddr;
use std::time::Duration;

use jobs_core::outcome::Class;
use jobs_core::protocol::{WireClass, WireOutcome};

use crate::support::Worker;
use crate::support::destination::{Destination, Full, Reaction};
use crate::support::gateway::Gateway;
use crate::support::http::{Server, answer, answer_with, read_request, write};
use crate::support::lease::{lease, ruled, within_ms};

#[track_caller]
fn assert_class(outcome: &WireOutcome, class: Class, unknown: bool) {
    assert_eq!((outcome.class, outcome.unknown), (WireClass::Attempted(class), unknown), "{outcome:#?}");
}

#[tokio::test]
async fn every_status_is_reported_with_its_class() {
    let destination = Destination::start(|request, _| {
        let status: u16 = request.path[1..].parse().unwrap();
        Reaction::Answer(answer_with(status, &[("Location", "/200")], ""))
    })
    .await;
    let gateway = Gateway::start().await;
    let worker = Worker::start(&gateway);
    let cases = [
        (200, Class::Ok),
        (204, Class::Ok),
        (301, Class::Error),
        (307, Class::Error),
        (400, Class::JobFail),
        (401, Class::Suspect),
        (404, Class::Suspect),
        (408, Class::Overload),
        (409, Class::Error),
        (422, Class::JobFail),
        (429, Class::Overload),
        (500, Class::Error),
        (502, Class::Down),
        (503, Class::Overload),
        (504, Class::Down),
    ];
    gateway.grant((1..).zip(cases).map(|(job, (status, _))| lease(job, &destination.url(&format!("/{status}")))));
    for (outcome, (status, class)) in gateway.settled(cases.len()).await.iter().zip(cases) {
        assert_class(outcome, class, false);
        assert_eq!((outcome.status, &outcome.error), (Some(status), &None));
    }
    assert_eq!(destination.requests().len(), cases.len(), "redirects are not followed, and nothing is sent twice");
    worker.stop().await;
}

#[tokio::test]
async fn retry_after_travels_in_milliseconds_and_makes_any_refusal_an_overload() {
    let answers = [("/seconds", "7"), ("/past", "Sun, 06 Nov 1994 08:49:37 GMT"), ("/nonsense", "soon")];
    let destination = Destination::start(move |request, _| {
        let value = answers.iter().find(|(path, _)| *path == request.path).unwrap().1;
        Reaction::Answer(answer_with(500, &[("Retry-After", value)], ""))
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    gateway.grant((1..).zip(answers).map(|(job, (path, _))| lease(job, &destination.url(path))));
    let outcomes = gateway.settled(3).await;
    outcomes.iter().for_each(|outcome| assert_class(outcome, Class::Overload, false));
    let waits: Vec<Option<u64>> = outcomes.iter().map(|outcome| outcome.retry_after_ms).collect();
    assert_eq!(waits, [Some(7_000), Some(0), None]);
}

#[tokio::test]
async fn the_rules_in_the_lease_come_before_the_status() {
    let destination = Destination::start(|request, _| {
        let body = if request.path == "/failed" { r#"{"result":{"error":"E7"}}"# } else { "{}" };
        Reaction::Answer(answer_with(200, &[("X-Quota", "spent")], body))
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let pointer = r#"[{"status":"2xx","pointer":"/result/error","equals":"E7","class":"job_fail"}]"#;
    let header = r#"[{"header":"x-quota","class":"overload"}]"#;
    gateway.grant([
        ruled(pointer, lease(1, &destination.url("/failed"))),
        ruled(pointer, lease(2, &destination.url("/fine"))),
        ruled(header, lease(3, &destination.url("/fine"))),
    ]);
    let outcomes = gateway.settled(3).await;
    assert_class(&outcomes[0], Class::JobFail, false);
    assert_class(&outcomes[1], Class::Ok, false);
    assert_class(&outcomes[2], Class::Overload, false);
}

#[tokio::test]
async fn a_refused_connection_is_down_and_known() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let outcome = gateway.attempt(lease(1, &format!("http://{free}/secret-path"))).await;
    assert_class(&outcome, Class::Down, false);
    assert_eq!((outcome.status, outcome.error.as_deref()), (None, Some("cannot connect: connection refused")));
}

#[tokio::test]
async fn a_name_without_an_address_is_down_and_known() {
    // Too long for the name system, so no server is asked.
    let name = "a".repeat(64);
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let outcome = gateway.attempt(lease(1, &format!("http://{name}/"))).await;
    assert_class(&outcome, Class::Down, false);
    assert!(outcome.error.as_ref().unwrap().starts_with("cannot resolve the name: "), "{outcome:?}");
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_down_and_unknown() {
    let destination = Destination::start(|request, _| match request.path.as_str() {
        "/reset" => Reaction::Reset,
        "/close" => Reaction::Close,
        "/half" => Reaction::AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-".to_vec()),
        _ => Reaction::AnswerAndClose(b"I am no HTTP server\r\n\r\n".to_vec()),
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let paths = ["/reset", "/close", "/half", "/other"];
    gateway.grant((1..).zip(paths).map(|(job, path)| lease(job, &destination.url(path))));
    for outcome in gateway.settled(4).await {
        assert_class(&outcome, Class::Down, true);
        assert!(outcome.error.as_ref().unwrap().starts_with("no answer: "), "{outcome:?}");
    }
    assert_eq!(destination.requests().len(), 4);
}

#[tokio::test]
async fn a_destination_that_hangs_is_down_and_unknown_when_its_time_is_over() {
    let destination = Destination::always(Reaction::Stall(Vec::new())).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let outcome = gateway.attempt(within_ms(150, lease(1, &destination.url("/")))).await;
    assert_class(&outcome, Class::Down, true);
    assert_eq!(outcome.error.as_deref(), Some("no answer within 150ms"));
    assert!((140.0..5_000.0).contains(&outcome.latency_ms), "{outcome:?}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_is_down_and_known() {
    let full = Full::start().await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let url = format!("http://{}/", full.address);
    let empty = |job| {
        let mut lease = lease(job, &url);
        lease.payload = None;
        lease
    };
    gateway.grant([within_ms(150, lease(1, &url)), within_ms(150, empty(2))]);
    for outcome in gateway.settled(2).await {
        assert_class(&outcome, Class::Down, false);
        assert_eq!(outcome.error.as_deref(), Some("cannot connect within 150ms"));
    }
}

#[tokio::test]
async fn a_success_that_breaks_off_is_down_and_unknown() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
    let with = move |rest: &[u8]| [head.as_slice(), rest].concat();
    let destination = Destination::start(move |request, _| match request.path.as_str() {
        "/stall" => Reaction::Stall(with(b"Content-Length: 10\r\n\r\nabc")),
        "/close" => Reaction::AnswerAndClose(with(b"Content-Length: 10\r\n\r\nabc")),
        _ => Reaction::AnswerAndClose(with(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n")),
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let paths = ["/stall", "/close", "/bad-chunk"];
    gateway.grant((1..).zip(paths).map(|(job, path)| within_ms(300, lease(job, &destination.url(path)))));
    for outcome in gateway.settled(3).await {
        assert_class(&outcome, Class::Down, true);
        assert_eq!(outcome.status, Some(200));
        assert!(outcome.error.as_ref().unwrap().starts_with("the answer broke off after 3 bytes: "), "{outcome:?}");
        let response = outcome.response.unwrap();
        assert_eq!((response.body.as_deref(), response.truncated), (Some("abc"), true));
    }
}

#[tokio::test]
async fn a_refusal_stands_though_its_body_breaks_off_unless_a_rule_looks_into_it() {
    let destination = Destination::always(Reaction::AnswerAndClose(
        b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\n{\"err".to_vec(),
    ))
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let rules = r#"[{"pointer":"/error","equals":"busy","class":"overload"}]"#;
    gateway.grant([lease(1, &destination.url("/")), ruled(rules, lease(2, &destination.url("/")))]);
    let outcomes = gateway.settled(2).await;
    assert_class(&outcomes[0], Class::JobFail, false);
    assert_class(&outcomes[1], Class::Down, true);
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_payload_was_read_counts() {
    let server = Server::start(|mut stream| async move {
        stream.readable().await.unwrap();
        write(&mut stream, &answer(413, "too large")).await.unwrap();
        // It goes on existing, and never reads.
        std::future::pending().await
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let mut big = lease(1, &format!("http://{}/", server.address));
    big.payload = Some("x".repeat(16 * 1024 * 1024));
    let outcome = gateway.attempt(big).await;
    assert_class(&outcome, Class::JobFail, false);
    assert_eq!((outcome.status, outcome.response.unwrap().body.as_deref()), (Some(413), Some("too large")));
}

#[tokio::test]
async fn a_tls_refusal_is_suspect_and_known() {
    // A fatal alert, "handshake failure"; and a server that knows no TLS at all.
    let alert = Server::start(|mut stream| async move {
        stream.readable().await.unwrap();
        write(&mut stream, &[21, 3, 3, 0, 2, 2, 40]).await.unwrap();
        stream.readable().await.unwrap();
    })
    .await;
    let plain = Server::start(|mut stream| async move {
        stream.readable().await.unwrap();
        write(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let url = |address: SocketAddr| format!("https://{address}/");
    gateway.grant([lease(1, &url(alert.address)), lease(2, &url(plain.address))]);
    for outcome in gateway.settled(2).await {
        assert_class(&outcome, Class::Suspect, false);
        assert!(outcome.error.as_ref().unwrap().starts_with("TLS refused: "), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_tls_handshake_that_is_cut_off_is_down() {
    let server = Server::start(|stream| async move { stream.readable().await.unwrap() }).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let outcome = gateway.attempt(lease(1, &format!("https://{}/", server.address))).await;
    assert_class(&outcome, Class::Down, false);
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_suspect_and_nobody_hears_of_it() {
    let destination = Destination::always(Reaction::Answer(answer(200, ""))).await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let spoiled = [(1, "header"), (2, "method"), (3, "url"), (4, "base64"), (5, "traceparent")];
    gateway.grant(spoiled.map(|(job, what)| {
        let mut lease = lease(job, &destination.url("/"));
        match what {
            "header" => lease.request.headers.push(("X-Secret".to_owned(), "hush\r\nX: y".to_owned())),
            "method" => lease.request.method = "GE T".to_owned(),
            "url" => lease.request.url = "no url".to_owned(),
            "base64" => (lease.payload, lease.payload_base64) = (None, Some("***".to_owned())),
            _ => lease.traceparent = Some("\n".to_owned()),
        }
        lease
    }));
    let outcomes = gateway.settled(5).await;
    outcomes.iter().for_each(|outcome| assert_class(outcome, Class::Suspect, false));
    assert_eq!(outcomes[0].error.as_deref(), Some("the header \"X-Secret\" cannot be sent"));
    assert!(destination.requests().is_empty());
}

#[tokio::test]
async fn a_slow_call_has_its_latency_measured_from_the_send_to_the_last_byte() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await.unwrap();
        write(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").await.unwrap();
        tokio::time::sleep(Duration::from_millis(120)).await;
        write(&mut stream, b"b").await.unwrap();
        stream.readable().await.unwrap();
    })
    .await;
    let gateway = Gateway::start().await;
    let _worker = Worker::start(&gateway);
    let outcome = gateway.attempt(lease(1, &format!("http://{}/", server.address))).await;
    assert_class(&outcome, Class::Ok, false);
    assert!((115.0..5_000.0).contains(&outcome.latency_ms), "{outcome:?}");
}
