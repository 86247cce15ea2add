//! `ANY /forward/…`: what a client sends to the gateway instead of its API is replayed as it came.

use reqwest::Method;
use serde_json::Value;

use crate::errors::raw;
use crate::payloads::headers;
use crate::support::{Gateway, Worker, adjust, answer, header, id, json_of, problem, setup};

/// What a worker is told to send for the one job there is.
async fn leased(gateway: &Gateway) -> Value {
    Worker::new(gateway).claim_one().await
}

#[tokio::test]
async fn method_path_query_headers_and_body_are_kept() {
    let gateway = Gateway::start().await;
    for method in [
        Method::POST,
        Method::GET,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::from_bytes(b"REPORT").unwrap(),
    ] {
        let request = gateway.request(method.clone(), "/forward/other/v1/a%20b//c/?x=%2F&x&y=1").header("x-own", "1");
        let accepted = answer(request.header("content-type", "a/b").body("payload \u{1}"), 202).await;
        assert_eq!(accepted["destination"], "other");
        let lease = leased(&gateway).await;
        assert_eq!(lease["request"]["method"], method.as_str());
        assert_eq!(lease["request"]["url"], "http://127.0.0.1:1/base/v1/a%20b//c/?x=%2F&x&y=1");
        assert_eq!(lease["payload"], "payload \u{1}");
        assert_eq!((headers(&lease, "x-own"), headers(&lease, "content-type")), (vec!["1"], vec!["a/b"]));
        assert_eq!(headers(&lease, "idempotency-key"), [accepted["id"].as_str().unwrap()]);
    }
}

#[tokio::test]
async fn the_base_alone_and_its_slash_are_kept_apart() {
    let gateway = Gateway::start().await;
    for (path, url) in [
        ("/forward/other", "http://127.0.0.1:1/base"),
        ("/forward/other/", "http://127.0.0.1:1/base/"),
        ("/forward/other?q=1", "http://127.0.0.1:1/base?q=1"),
        ("/forward/other/q?", "http://127.0.0.1:1/base/q?"),
    ] {
        answer(gateway.get(path), 202).await;
        assert_eq!(leased(&gateway).await["request"]["url"], url);
    }
}

#[tokio::test]
async fn headers_of_the_connection_stay_here() {
    let gateway = Gateway::start().await;
    let request = gateway.post("/forward/other").header("connection", "keep-alive, x-hop").header("x-hop", "1");
    let request =
        request.header("te", "trailers").header("proxy-authorization", "Basic eA==").header("keep-alive", "timeout=5");
    answer(request.header("accept", "a/b").body("x"), 202).await;
    let lease = leased(&gateway).await;
    for name in ["connection", "x-hop", "te", "proxy-authorization", "keep-alive", "host", "content-length"] {
        assert!(headers(&lease, name).is_empty(), "{name}: {lease}");
    }
    assert_eq!(headers(&lease, "accept"), ["a/b"]);
}

#[tokio::test]
async fn credentials_travel_only_where_the_destination_says_so() {
    let mut setup = setup();
    adjust(&mut setup, "api2", |destination| destination.forward_credentials = true);
    let gateway = Gateway::with(setup).await;
    for (path, travel) in [("/forward/api2/x", true), ("/forward/other/x", false)] {
        let request = gateway.post(path).header("authorization", "Bearer theirs").header("cookie", "a=b");
        answer(request.header("job-client-key", "ours").body("x"), 202).await;
        let lease = leased(&gateway).await;
        assert_eq!(headers(&lease, "authorization"), if travel { vec!["Bearer theirs"] } else { vec![] });
        assert_eq!(headers(&lease, "cookie").is_empty(), !travel);
        assert!(headers(&lease, "job-client-key").is_empty());
    }
}

#[tokio::test]
async fn the_clients_idempotency_key_travels_unchanged_and_makes_one_job() {
    let gateway = Gateway::start().await;
    let send = || gateway.post("/forward/other/pay").header("idempotency-key", "theirs-1").body("x");
    let first = id(&answer(send(), 202).await);
    let again = send().send().await.unwrap();
    assert_eq!(header(&again, "idempotency-replayed"), "true");
    assert_eq!(id(&json_of(again, 202).await), first);
    assert_eq!(headers(&leased(&gateway).await, "idempotency-key"), ["theirs-1"]);
    let other_path = gateway.post("/forward/other/refund").header("idempotency-key", "theirs-1").body("x");
    problem(other_path, 422, "key_reused").await;
    let elsewhere = gateway.post("/forward/api2/pay").header("idempotency-key", "theirs-1").body("x");
    assert_ne!(id(&answer(elsewhere, 202).await), first, "another destination has keys of its own");
}

#[tokio::test]
async fn options_are_ours_and_do_not_travel() {
    let gateway = Gateway::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = gateway.post("/forward/other").header("job-priority", "9").header("traceparent", trace);
    let id = id(&answer(request.body("x"), 202).await);
    let lease = leased(&gateway).await;
    assert!(headers(&lease, "job-priority").is_empty());
    let sent = lease["traceparent"].as_str().unwrap();
    assert_eq!((&sent[..36], &sent[52..], headers(&lease, "traceparent").len()), (&trace[..36], "-01", 0));
    assert_eq!(lease["parent_span"], trace[36..52]);
    assert_eq!(gateway.job(&id).await["priority"], 9);
    problem(gateway.post("/forward/other").header("job-wrong", "1"), 400, "bad_option").await;
}

#[tokio::test]
async fn what_would_leave_the_base_or_cannot_be_sent_is_refused() {
    let gateway = Gateway::start().await;
    problem(gateway.get("/forward/nowhere/x"), 404, "unknown_destination").await;
    for path in [
        "/forward/other/../x",
        "/forward/other/%2e%2e/x",
        "/forward/other/a%2f..%2fb",
        "/forward/other/a/%2E",
        "/forward/other/..%5cx",
        "/forward/other/a\\b",
    ] {
        // By hand: every client library mends such a path before it sends it.
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let (status, kind, body) = raw(&gateway, request.as_bytes()).await;
        assert_eq!((status, kind.as_str()), (400, "application/problem+json"), "{path}: {body}");
        assert!(body.contains("\"bad_path\""), "{path}: {body}");
    }
    let mut many = gateway.get("/forward/other");
    for n in 0..80 {
        many = many.header(format!("x-{n}"), "1");
    }
    problem(many, 431, "headers_too_large").await;
    let bytes = reqwest::header::HeaderValue::from_bytes(b"gr\xfc\xdfe").unwrap();
    assert_eq!(
        problem(gateway.get("/forward/other").header("x-bytes", bytes), 400, "bad_header").await["parameter"],
        "x-bytes"
    );
}

#[tokio::test]
async fn a_forwarded_body_is_not_judged_by_its_type() {
    let gateway = Gateway::start().await;
    answer(gateway.get("/forward/other").header("content-type", "application/json"), 202).await;
    answer(
        gateway
            .post("/forward/other")
            .header("content-type", "application/json")
            .header("content-encoding", "gzip")
            .body("\u{1f}"),
        202,
    )
    .await;
    let leases = Worker::new(&gateway).claim(10, 0).await;
    assert_eq!(leases.len(), 2);
    assert_eq!(headers(&leases[1], "content-encoding"), ["gzip"]);
}
