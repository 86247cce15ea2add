//! `POST /api1/jobs`: envelope, array, lines; one bad item among good ones; limits.

use serde_json::{Value, json};

use crate::payloads::headers;
use crate::support::{Gateway, Worker, answer, problem};

async fn post(gateway: &Gateway, kind: &str, body: String, status: u16) -> Vec<Value> {
    let request = gateway.post("/api1/jobs").header("content-type", kind).body(body);
    answer(request, status).await["results"].as_array().unwrap().clone()
}

#[tokio::test]
async fn one_envelope_an_array_and_lines_are_all_taken() {
    let gateway = Gateway::start().await;
    let one = post(&gateway, "application/json", r#" {"payload":{"a":1}} "#.to_owned(), 202).await;
    assert_eq!((one.len(), &one[0]["state"], &one[0]["destination"]), (1, &json!("pending"), &json!("api2")));
    let two = r#"[{"payload":1},{"destination":"other","payload":2}]"#;
    let two = post(&gateway, "application/json", two.to_owned(), 202).await;
    assert_eq!((two.len(), &two[1]["destination"]), (2, &json!("other")));
    let lines = "{\"payload\":1}\n\r\n{\"payload\":2}\r\n{\"payload\":3}";
    let three = post(&gateway, "application/x-ndjson", lines.to_owned(), 202).await;
    assert_eq!(three.len(), 3);
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 6);
}

#[tokio::test]
async fn an_envelope_says_what_headers_say_of_a_single_request() {
    let gateway = Gateway::start().await;
    let payload = r#"{"n": 9007199254740993,  "x":1.0}"#;
    let envelope = format!(
        r#"{{"payload":{payload},"headers":{{"X-Own":"1","Accept":"a/b"}},"priority":5,"ordering_key":"o","expires_after_ms":60000}}"#
    );
    let results = post(&gateway, "application/json", envelope, 202).await;
    let lease = Worker::new(&gateway).claim_one().await;
    assert_eq!(lease["job_id"], results[0]["id"]);
    assert_eq!(lease["payload"], payload);
    assert_eq!((headers(&lease, "x-own"), headers(&lease, "accept")), (vec!["1"], vec!["a/b"]));
    assert_eq!(headers(&lease, "content-type"), ["application/json"]);
    let job = gateway.job(results[0]["id"].as_str().unwrap()).await;
    assert_eq!((&job["priority"], &job["ordering_key"], job["expires_at"].is_string()), (&json!(5), &json!("o"), true));
}

#[tokio::test]
async fn one_bad_line_is_refused_alone() {
    let gateway = Gateway::start().await;
    let lines = "{\"payload\":1}\nnot json\n{\"payload\":2,\"priority\":77}\n{\"destination\":\"nowhere\",\"payload\":3}\n{\"payload\":4}\n";
    let results = post(&gateway, "application/x-ndjson", lines.to_owned(), 207).await;
    let codes: Vec<Option<&str>> = results.iter().map(|item| item["error"]["code"].as_str()).collect();
    assert_eq!(codes, [None, Some("bad_json"), Some("bad_option"), Some("unknown_destination"), None]);
    assert_eq!(results[2]["error"]["parameter"], "priority");
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 2);
}

#[tokio::test]
async fn a_line_that_is_not_utf8_or_too_large_is_refused_alone() {
    let mut setup = crate::support::setup();
    setup.limits.payload.max_bytes = 100;
    let gateway = Gateway::with(setup).await;
    let mut body = b"{\"payload\":\"\xff\"}\n{\"payload\":\"".to_vec();
    body.extend(b"x".repeat(200));
    body.extend(b"\"}\n{\"payload\":1}");
    let request = gateway.post("/api1/jobs").header("content-type", "application/x-ndjson").body(body);
    let answer = answer(request, 207).await;
    let codes: Vec<Option<&str>> =
        answer["results"].as_array().unwrap().iter().map(|item| item["error"]["code"].as_str()).collect();
    assert_eq!(codes, [Some("bad_json"), Some("body_too_large"), None]);
}

#[tokio::test]
async fn when_every_item_is_refused_the_answer_is_a_problem_with_the_results() {
    let gateway = Gateway::start().await;
    let request = gateway.post("/api1/jobs").json(&json!([{}, {"payload": 1, "priority": -1}]));
    let refused = problem(request, 400, "bad_batch").await;
    let codes: Vec<&str> =
        refused["results"].as_array().unwrap().iter().map(|item| item["error"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["bad_message", "bad_option"]);
}

#[tokio::test]
async fn a_key_works_within_a_batch_and_across_batches() {
    let gateway = Gateway::start().await;
    let item = |payload: u32| json!({"payload": payload, "idempotency_key": "k"});
    let results = answer(gateway.post("/api1/jobs").json(&json!([item(1), item(1), item(2)])), 207).await;
    let results = &results["results"];
    assert_eq!(results[0]["id"], results[1]["id"]);
    assert_eq!((&results[0]["replayed"], &results[1]["replayed"]), (&Value::Null, &json!(true)));
    assert_eq!(
        (&results[2]["error"]["code"], &results[2]["error"]["parameter"]),
        (&json!("key_reused"), &json!("idempotency_key"))
    );
    let again = answer(gateway.post("/api1/jobs").json(&item(1)), 202).await;
    assert_eq!(again["results"][0]["id"], results[0]["id"]);
}

#[tokio::test]
async fn a_batch_over_its_limits_stores_nothing() {
    let gateway = Gateway::start().await;
    let items = |count: usize| json!(vec![json!({"payload": 1}); count]);
    problem(gateway.post("/api1/jobs").json(&items(1_001)), 413, "too_many_items").await;
    let lines = "{\"payload\":1}\n".repeat(1_001);
    let request = gateway.post("/api1/jobs").header("content-type", "application/x-ndjson").body(lines);
    problem(request, 413, "too_many_items").await;
    let large = format!("[{{\"payload\":\"{}\"}}]", "x".repeat(8 * 1024 * 1024));
    let request = gateway.post("/api1/jobs").header("content-type", "application/json").body(large);
    problem(request, 413, "body_too_large").await;
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 0);
    let full = answer(gateway.post("/api1/jobs").json(&items(1_000)), 202).await;
    assert_eq!(full["results"].as_array().unwrap().len(), 1_000);
}

#[tokio::test]
async fn what_is_no_batch_is_a_problem() {
    let gateway = Gateway::start().await;
    for (kind, body, status, code) in [
        ("application/json", "[{]", 400, "bad_json"),
        ("application/json", "", 400, "empty_body"),
        ("application/json", "[]", 400, "empty_body"),
        ("application/x-ndjson", "\n\n", 400, "empty_body"),
        ("text/plain", "{\"payload\":1}", 415, "unsupported_media_type"),
    ] {
        let request = gateway.post("/api1/jobs").header("content-type", kind).body(body);
        problem(request, status, code).await;
    }
    for name in ["Job-Delay", "Idempotency-Key", "Job-Unknown"] {
        let request = gateway.post("/api1/jobs").header(name, "1s").json(&json!({"payload": 1}));
        assert_eq!(problem(request, 400, "bad_option").await["parameter"], name);
    }
}

/// A generator of numbers that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

#[tokio::test]
async fn whatever_the_bytes_of_a_batch_it_is_answered_and_the_count_is_right() {
    let gateway = Gateway::start().await;
    let whole = br#"{"payload":{"a":[1,"\u00e4"]},"delay_ms":5,"headers":{"x":"1"}}
{"payload_base64":"/wA=","content_type":"a/b","priority":3,"ordering_key":"o"}
[{"payload":null},{"destination":"other","payload":-1.5e3,"run_at":"2030-01-01T00:00:00Z"}]"#;
    let (mut noise, mut stored) = (Noise(42), 0);
    for round in 0..300 {
        let mut body = whole.to_vec();
        for _ in 0..noise.below(4) {
            let at = noise.below(body.len());
            match noise.below(3) {
                0 => body[at] = u8::try_from(noise.below(256)).unwrap(),
                1 => drop(body.remove(at)),
                _ => body.truncate(at + 1),
            }
        }
        let kind = if noise.below(2) == 0 { "application/json" } else { "application/x-ndjson" };
        let response = gateway.post("/api1/jobs").header("content-type", kind).body(body.clone()).send().await.unwrap();
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        assert!([202, 207, 400].contains(&status), "round {round}: {status} {answer} to {}", body.escape_ascii());
        let results = answer["results"].as_array().map(Vec::as_slice).unwrap_or_default();
        stored += results.iter().filter(|item| item["id"].is_string()).count();
    }
    assert!(stored > 100, "most of it is well formed: {stored}");
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], stored);
}
