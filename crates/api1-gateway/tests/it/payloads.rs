//! Payloads are kept byte for byte: what is read back, and what a worker is given to send.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::{Gateway, Worker, answer, header, id};

/// Content type and body of requests that a careless store would change.
fn matrix() -> Vec<(Option<&'static str>, Vec<u8>)> {
    let json = |text: &str| (Some("application/json"), text.as_bytes().to_vec());
    vec![
        json(r#"{"n":9007199254740993,"big":123456789012345678901234567890,"small":1e-999}"#),
        json(r#"{"a":1,"a":2,"A":3}"#),
        json("1.0"),
        json(r#"[1.10, -0, 1E5]"#),
        json(r#""\u00e4\ud83d\ude00\/\u0000""#),
        json("\"ä😀/\u{2028}\""),
        json(" \n{ \"a\" :\t1 }\r\n "),
        json("null"),
        (Some("application/json; charset=utf-8"), b"{}".to_vec()),
        (Some("text/plain; charset=iso-8859-1"), b"gr\xfc\xdfe".to_vec()),
        (Some("application/octet-stream"), (0..=255).collect()),
        (Some("text/xml"), b"<a/>\r\n".to_vec()),
        (None, b"{\"not\": checked".to_vec()),
        (Some("application/x-big"), (0..1_000_000_u32).map(|n| (n % 251) as u8).collect()),
    ]
}

#[tokio::test]
async fn every_payload_is_read_back_and_leased_as_it_came() {
    let gateway = Gateway::start().await;
    for (kind, body) in matrix() {
        assert_kept(&gateway, "/api1/process", kind, body).await;
    }
}

#[tokio::test]
async fn a_forwarded_payload_is_kept_too_also_an_empty_one() {
    let gateway = Gateway::start().await;
    let empty = [(Some("text/plain"), Vec::new()), (None, Vec::new())];
    for (kind, body) in matrix().into_iter().chain(empty) {
        assert_kept(&gateway, "/forward/other", kind, body).await;
    }
}

/// Posts a payload, reads it back and takes it as a worker would.
async fn assert_kept(gateway: &Gateway, path: &str, kind: Option<&str>, body: Vec<u8>) {
    let mut request = gateway.post(path).body(body.clone());
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    let id = id(&answer(request, 202).await);
    let response = gateway.get(&format!("/api1/jobs/{id}/payload")).send().await.unwrap();
    assert_eq!(header(&response, "content-type"), kind.unwrap_or("application/octet-stream"));
    assert_eq!(header(&response, "x-content-type-options"), "nosniff");
    assert!(response.bytes().await.unwrap() == body, "{path}, {kind:?}: read back");

    let worker = Worker::new(gateway);
    let lease = worker.claim_one().await;
    let sent = match (lease["payload"].as_str(), lease["payload_base64"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(encoded)) => STANDARD.decode(encoded).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(sent == body, "{path}, {kind:?}: leased");
    let kinds: Vec<&str> = headers(&lease, "content-type");
    assert_eq!(kinds, Vec::from_iter(kind));
    worker.report(&lease, "ok").await;
}

/// The values of a header in a lease.
pub(crate) fn headers<'a>(lease: &'a serde_json::Value, name: &str) -> Vec<&'a str> {
    let pairs = lease["request"]["headers"].as_array().unwrap().iter();
    let named = pairs.filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name));
    named.map(|pair| pair[1].as_str().unwrap()).collect()
}
