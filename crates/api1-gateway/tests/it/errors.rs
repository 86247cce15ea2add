//! Every error is a problem: wrong addresses and methods, slow and malformed requests.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Gateway, answer, header, problem, problem_of, setup};

#[tokio::test]
async fn a_wrong_address_or_method_is_a_problem() {
    let gateway = Gateway::start().await;
    for path in [
        "/api1",
        "/api1/process/",
        "/api1/jobs/",
        "/jobstore/v2/claim",
        "/forward",
        "/forward/",
        "/%",
        "/api1/jobs/a/b/c",
    ] {
        problem(gateway.get(path), 404, "no_such_route").await;
    }
    for (method, path, allow) in [
        (Method::GET, "/api1/process", "POST"),
        (Method::PUT, "/api1/process/api2", "POST"),
        (Method::DELETE, "/api1/jobs", "GET, HEAD, POST"),
        (Method::POST, "/api1/stats", "GET, HEAD"),
        (Method::PATCH, "/jobstore/v1/claim", "POST"),
        (Method::DELETE, "/api1/jobs/01890a5d-ac96-774b-bcce-b302099a8057", "GET, HEAD"),
        (Method::POST, "/livez", "GET, HEAD"),
    ] {
        let response = gateway.request(method.clone(), path).send().await.unwrap();
        assert_eq!(header(&response, "allow"), allow, "{method} {path}");
        problem_of(response, 405, "method_not_allowed").await;
    }
}

/// The answer to raw bytes, as status, content type and body.
pub(crate) async fn raw(gateway: &Gateway, bytes: &[u8]) -> (u16, String, String) {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    read_answer(&mut socket).await
}

pub(crate) async fn read_answer(socket: &mut TcpStream) -> (u16, String, String) {
    let mut bytes = Vec::new();
    let read = async {
        // Until the end of the answer: what is after its head, as long as it says.
        loop {
            let mut chunk = [0; 4096];
            let count = socket.read(&mut chunk).await.unwrap_or(0);
            bytes.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let complete = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
                length.is_some_and(|length: usize| body.len() >= length)
            });
            if count == 0 || complete {
                return String::from_utf8_lossy(&bytes).into_owned();
            }
        }
    };
    let text = tokio::time::timeout(crate::support::PATIENCE, read).await.expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let kind =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-type: ").map(str::to_owned));
    (status, kind.unwrap_or_default(), body.to_owned())
}

#[tokio::test]
async fn a_slow_body_is_given_up_after_its_deadline() {
    let mut setup = setup();
    setup.limits.payload.deadline = Duration::from_millis(200);
    let gateway = Gateway::with(setup).await;
    for path in ["/api1/process", "/api1/jobs", "/forward/other"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{");
        let (status, kind, body) = raw(&gateway, head.as_bytes()).await;
        assert_eq!((status, kind.as_str()), (408, "application/problem+json"), "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["code"], "body_timeout");
    }
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 0);
}

#[tokio::test]
async fn a_body_that_is_not_whole_is_refused_in_our_own_words() {
    let gateway = Gateway::start().await;
    let head = "POST /api1/process HTTP/1.1\r\nHost: x\r\n";
    for (rest, ends) in [
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", true),
        ("Content-Length: 5\r\n\r\nab", true),
    ] {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        if ends {
            socket.shutdown().await.unwrap();
        }
        let (status, _, body) = read_answer(&mut socket).await;
        let problem: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body:?} to {rest:?}"));
        assert_eq!((status, problem["code"].as_str()), (400, Some("incomplete_body")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().starts_with("send as much as"), "{problem}");
    }
}

#[tokio::test]
async fn malformed_requests_are_refused_and_the_gateway_goes_on() {
    let gateway = Gateway::start().await;
    for bytes in [
        &b"nonsense\r\n\r\n"[..],
        b"POST /api1/process HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api1/process HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /api1/process HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /api1/process HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api1/process HTTP/1.1\r\nHost: x\r\nX\x00Y: 1\r\n\r\n",
    ] {
        let (status, _, body) = raw(&gateway, bytes).await;
        assert!((400..500).contains(&status), "{status} {body} to {}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 0);
}

#[tokio::test]
async fn a_hundred_headers_are_too_many() {
    let gateway = Gateway::start().await;
    let headers: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    for path in ["/api1/process", "/forward/other"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 2\r\n\r\n{{}}");
        let (status, ..) = raw(&gateway, request.as_bytes()).await;
        assert_eq!(status, 431);
    }
    // What the parser lets through is counted by the gateway, and refused as everything else is.
    let headers: String = (0..80).map(|n| format!("X-{n}: 1\r\n")).collect();
    let request = format!("POST /forward/other HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 2\r\n\r\n{{}}");
    let (status, kind, body) = raw(&gateway, request.as_bytes()).await;
    assert_eq!((status, kind.as_str()), (431, "application/problem+json"), "{body}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["code"], "headers_too_large");
    let (status, ..) = raw(&gateway, format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(200_000)).as_bytes()).await;
    assert_eq!(status, 431);
}

#[tokio::test]
async fn a_chunked_body_is_put_together() {
    let gateway = Gateway::start().await;
    let request = b"POST /api1/process HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
    let (status, _, body) = raw(&gateway, request).await;
    assert_eq!(status, 202);
    let id = serde_json::from_str::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned();
    let payload = gateway.get(&format!("/api1/jobs/{id}/payload")).send().await.unwrap();
    assert_eq!(payload.text().await.unwrap(), "{\"a\":1}");
}
