use crate::client::{call, send};
use crate::harness::Api2;

#[test]
fn the_ledger_tells_what_arrived_and_which_2xx_were_duplicates() {
    let api2 = Api2::up();
    for (key, weather) in [("a", "down"), ("a", "up"), ("a", "up"), ("b", "up")] {
        api2.set(&format!(r#"{{"mode":"{weather}"}}"#));
        api2.simulate(key).unwrap();
    }
    call(api2.service, "POST", "/api2/simulate", &[], b"no key").unwrap();
    let ledger = api2.ledger();
    assert_eq!((&ledger["requests"], &ledger["distinct"]), (&5.into(), &2.into()), "{ledger}");
    assert_eq!((&ledger["accepted"], &ledger["duplicates"]), (&2.into(), &1.into()), "{ledger}");
    assert_eq!(ledger["by_status"], serde_json::json!({"200": 4, "503": 1}));
    let per_second = ledger["per_second"].as_array().unwrap();
    assert_eq!(per_second.iter().map(|second| second["requests"].as_u64().unwrap()).sum::<u64>(), 5);
    assert_eq!(ledger["since_weather"]["requests"], 2, "the last weather was set before b");

    assert_eq!(call(api2.control, "DELETE", "/api2/ledger", &[], b"").unwrap().status, 204);
    assert_eq!((&api2.ledger()["requests"], api2.get("/api2/ledger/a").status), (&0.into(), 404));
}

#[test]
fn a_key_tells_time_attempt_epoch_status_and_its_body_byte_for_byte() {
    let api2 = Api2::up();
    let body = b"{\"n\": 9007199254740993, \"n\": 1.0}\r\n\xff";
    let headers =
        ["Idempotency-Key: k-1", "Job-Attempt: 3", "Job-Epoch: 4503599627370497", "Content-Type: application/x-odd"];
    call(api2.service, "PUT", "/api2/simulate/orders/7?x=%20y", &headers, body).unwrap();
    let report = api2.get("/api2/ledger/k-1").json();
    let request = &report["requests"][0];
    assert_eq!((&request["attempt"], &request["epoch"]), (&3.into(), &4_503_599_627_370_497_u64.into()));
    assert_eq!((&request["status"], &request["bytes"]), (&200.into(), &body.len().into()));
    assert_eq!((&request["method"], &request["target"]), (&"PUT".into(), &"/api2/simulate/orders/7?x=%20y".into()));
    assert_eq!(request["body_crc32"], format!("{:08x}", crc32fast::hash(body)));
    assert!(request["time"].as_str().unwrap().ends_with('Z'), "{request}");

    let payload = api2.get("/api2/ledger/k-1/payload");
    assert_eq!(payload.body, body);
    assert_eq!(payload.header("Content-Type"), Some("application/x-odd"));
    let missing = api2.get("/api2/ledger/k-2/payload");
    assert_eq!((missing.status, &missing.json()["code"]), (404, &"payload_not_kept".into()));
}

#[test]
fn a_body_of_megabytes_is_taken_and_one_over_the_limit_is_refused() {
    let api2 = Api2::up();
    let limit = 16 * 1024 * 1024;
    let answer = call(api2.service, "POST", "/api2/simulate", &["Idempotency-Key: big"], &vec![b'x'; limit]).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(api2.get("/api2/ledger/big").json()["requests"][0]["bytes"], limit);
    assert_eq!(api2.get("/api2/ledger/big/payload").status, 404, "too long to be kept");

    let headers = ["Transfer-Encoding: chunked", "Connection: close"];
    let chunked = [format!("{:x}\r\n", limit + 1).as_bytes(), &vec![b'x'; limit + 1], b"\r\n0\r\n\r\n"].concat();
    let answer = send_chunked(&api2, &headers, &chunked);
    assert!(answer.is_none_or(|status| status == 413), "{answer:?}");
    assert_eq!(api2.ledger()["requests"], 1, "what was refused is not counted");
}

/// The status, or nothing if the connection was closed while the body was still being sent.
fn send_chunked(api2: &Api2, headers: &[&str], chunks: &[u8]) -> Option<u16> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(api2.service).unwrap();
    let head = format!("POST /api2/simulate HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", headers.join("\r\n"));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(chunks).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn a_client_that_hangs_up_first_has_abandoned_its_request() {
    let api2 = Api2::up();
    api2.set(r#"{"mode":"hang"}"#);
    drop(send(api2.service, "POST", "/api2/simulate", &["Idempotency-Key: a"], b"").unwrap());
    crate::harness::eventually("abandoned", || (api2.ledger()["by_status"]["abandoned"] == 1).then_some(()));
    assert_eq!(api2.get("/api2/ledger/a").json()["requests"][0]["end"], "abandoned");
}
