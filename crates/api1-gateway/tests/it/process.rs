//! `POST /api1/process`: what is accepted, what is answered, and every option.

use std::time::Duration;

use jobs_core::process::clock;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Gateway, Worker, adjust, answer, header, id, json_of, problem, problem_of};

#[tokio::test]
async fn a_request_is_accepted_with_the_words_of_the_original_design() {
    let gateway = Gateway::start().await;
    let response = gateway.process(r#"{ "name": "hello" }"#).send().await.unwrap();
    let location = header(&response, "location");
    let text = response.text().await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = id(&answer);
    assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    assert_eq!(location, format!("/api1/jobs/{id}"));
    let expected = format!(
        r#"{{"id":"{id}","state":"pending","destination":"api2","message":"Request received. Will process when API 2 recovers."}}"#
    );
    assert_eq!(text, expected);
    assert_eq!(gateway.job(&id).await["state"], "pending");
}

#[tokio::test]
async fn of_many_requests_at_the_same_moment_each_gets_the_answer_to_its_own() {
    let gateway = Gateway::start().await;
    let post = async |n: u32| {
        let request = gateway.post("/api1/process").header("content-type", "application/json");
        let request = request.header("idempotency-key", format!("key-{}", n % 50)).body(format!(r#"{{"n":{n}}}"#));
        (n, request.send().await.unwrap())
    };
    let answers = futures_util::future::join_all((0..100).map(post)).await;
    let mut accepted = 0;
    for (n, response) in answers {
        if response.status() == 422 {
            continue;
        }
        assert_eq!(response.status(), 202);
        accepted += 1;
        let id = id(&response.json::<serde_json::Value>().await.unwrap());
        let payload = gateway.get(&format!("/api1/jobs/{id}/payload")).send().await.unwrap();
        assert_eq!(payload.text().await.unwrap(), format!(r#"{{"n":{n}}}"#));
    }
    assert_eq!(
        accepted, 50,
        "of two with the same key one is accepted, and the other told that it says something else"
    );
}

#[tokio::test]
async fn a_named_destination_gets_the_job_and_an_unknown_one_is_a_problem() {
    let gateway = Gateway::start().await;
    let accepted = answer(gateway.post("/api1/process/other").body("x"), 202).await;
    assert_eq!(
        (&accepted["destination"], &accepted["message"]),
        (&json!("other"), &json!("Request received. Will process when other recovers."))
    );
    problem(gateway.post("/api1/process/nowhere").body("x"), 404, "unknown_destination").await;
    problem(gateway.post("/api1/process/%00").body("x"), 404, "unknown_destination").await;
}

#[tokio::test]
async fn without_a_default_destination_one_must_be_named() {
    let mut setup = crate::support::setup();
    setup.default_destination = None;
    let gateway = Gateway::with(setup).await;
    problem(gateway.process("{}"), 404, "unknown_destination").await;
    answer(gateway.post("/api1/process/api2").body("x"), 202).await;
}

#[tokio::test]
async fn what_is_not_json_is_refused_where_it_says_it_is() {
    let gateway = Gateway::start().await;
    for (body, code) in [
        (&b"{"[..], "bad_json"),
        (b"{} x", "bad_json"),
        (b"\"\xff\"", "bad_json"),
        (b"\xef\xbb\xbf{}", "bad_json"),
        (b"", "empty_body"),
        (b" \r\n", "empty_body"),
    ] {
        for kind in ["application/json", "application/vnd.api+json; charset=utf-8"] {
            let request = gateway.post("/api1/process").header("content-type", kind).body(body);
            problem(request, 400, code).await;
        }
    }
    problem(gateway.post("/api1/process"), 400, "empty_body").await;
    problem(gateway.post("/api1/process/other").header("content-type", "text/plain"), 400, "empty_body").await;
    let request = gateway.process("{}").header("content-encoding", "gzip");
    problem(request, 415, "unsupported_media_type").await;
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 0);
}

#[tokio::test]
async fn a_key_that_comes_again_makes_no_second_job() {
    let gateway = Gateway::start().await;
    let first = gateway.process("{}").header("idempotency-key", "order 1").send().await.unwrap();
    assert_eq!(header(&first, "idempotency-replayed"), "");
    let id = id(&json_of(first, 202).await);
    let again = gateway.process("{}").header("idempotency-key", "order 1").send().await.unwrap();
    assert_eq!(header(&again, "idempotency-replayed"), "true");
    assert_eq!(header(&again, "location"), format!("/api1/jobs/{id}"));
    assert_eq!(json_of(again, 202).await["id"], id.as_str());
    let other_body = problem(gateway.process("[]").header("idempotency-key", "order 1"), 422, "key_reused").await;
    assert_eq!(other_body["parameter"], "Idempotency-Key");
    let elsewhere = gateway.post("/api1/process/other").header("content-type", "application/json").body("{}");
    problem(elsewhere.header("idempotency-key", "order 1"), 422, "key_reused").await;
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 1);
}

#[tokio::test]
async fn a_replay_answers_the_jobs_present_state() {
    let gateway = Gateway::start().await;
    let id = id(&answer(gateway.process("{}").header("idempotency-key", "k"), 202).await);
    let worker = Worker::new(&gateway);
    worker.report(&worker.claim_one().await, "ok").await;
    let again = answer(gateway.process("{}").header("idempotency-key", "k"), 202).await;
    assert_eq!((again["id"].as_str(), again["state"].as_str()), (Some(id.as_str()), Some("succeeded")));
}

#[tokio::test]
async fn options_reach_the_job() {
    let gateway = Gateway::start().await;
    let request = gateway.process("{}").header("job-delay", "1h").header("job-priority", "7");
    let request = request.header("job-ordering-key", "customer 1").header("job-expires-after", "2h");
    let job = gateway.job(&id(&answer(request, 202).await)).await;
    assert_eq!((&job["priority"], &job["ordering_key"]), (&json!(7), &json!("customer 1")));
    let time = |member: &str| job[member].as_str().unwrap().parse::<jobs_core::time::Timestamp>().unwrap().as_millis();
    let (created, run, expires) = (time("created_at"), time("run_at"), time("expires_at"));
    assert!((3_599_000..=3_600_000).contains(&(run - created)), "{job}");
    assert_eq!(expires - created, 7_200_000);
    assert!(Worker::new(&gateway).claim(1, 0).await.is_empty(), "not before its time");
}

#[tokio::test]
async fn a_job_that_would_expire_before_it_may_run_is_refused() {
    let mut setup = crate::support::setup();
    adjust(&mut setup, "other", |it| it.policy.expires_after = Some(Duration::from_secs(60)));
    let gateway = Gateway::with(setup).await;
    let delayed = |path: &str, delay: &'static str| gateway.post(path).header("job-delay", delay).body("x");
    for request in [
        delayed("/api1/process", "2s").header("job-expires-after", "1s"),
        delayed("/api1/process", "2s").header("job-expires-after", "2s"),
        delayed("/forward/other", "2m"),
    ] {
        assert_eq!(problem(request, 400, "bad_option").await["parameter"], "Job-Expires-After");
    }
    let item = |run_at: &str| {
        gateway.post("/api1/jobs").json(&json!({"payload": 1, "run_at": run_at, "expires_after_ms": 60_000}))
    };
    let in_an_hour = clock::wall().plus(Duration::from_secs(3_600)).to_string();
    let refused = problem(item(&in_an_hour), 400, "bad_batch").await;
    assert_eq!(refused["results"][0]["error"]["parameter"], "expires_after_ms");
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 0);
    answer(item("2001-01-01T00:00:00Z"), 202).await;
    answer(delayed("/api1/process", "2s").header("job-expires-after", "3s"), 202).await;
    answer(delayed("/forward/other", "2m").header("job-expires-after", "1h"), 202).await;
}

#[tokio::test]
async fn a_run_at_in_the_past_means_now() {
    let gateway = Gateway::start().await;
    answer(gateway.process("{}").header("job-run-at", "2001-01-01T00:00:00Z"), 202).await;
    Worker::new(&gateway).claim_one().await;
}

#[tokio::test]
async fn max_attempts_bounds_the_attempts() {
    let gateway = Gateway::start().await;
    let id = id(&answer(gateway.process("{}").header("job-max-attempts", "1"), 202).await);
    let worker = Worker::new(&gateway);
    // A lone job's error is charged to it.
    let settled = worker.report(&worker.claim_one().await, "error").await;
    assert_eq!(settled["state"], "dead", "{settled}");
    assert_eq!(gateway.job(&id).await["dead_reason"], "exhausted");
}

#[tokio::test]
async fn a_wrong_option_is_refused_by_name() {
    let gateway = Gateway::start().await;
    for (name, value) in [
        ("Job-Delay", "-1s"),
        ("Job-Delay", "1000000h"),
        ("Job-Run-At", "someday"),
        ("Job-Priority", "11"),
        ("Job-Max-Attempts", "0"),
        ("Job-Expires-After", "0s"),
        ("Job-Callback", "nowhere"),
        ("Job-Prority", "1"),
        ("Idempotency-Key", ""),
    ] {
        let refused = problem(gateway.process("{}").header(name, value), 400, "bad_option").await;
        assert_eq!(refused["parameter"], name, "{value}");
    }
    let long = "k".repeat(300);
    let refused = problem(gateway.process("{}").header("Idempotency-Key", long), 400, "bad_option").await;
    assert_eq!(refused["parameter"], "Idempotency-Key");
    let both = gateway.process("{}").header("job-delay", "1s").header("job-run-at", "2030-01-01T00:00:00Z");
    problem(both, 400, "bad_option").await;
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 0);
}

#[tokio::test]
async fn what_another_gateways_worker_sends_is_ignored() {
    let gateway = Gateway::start().await;
    let request = gateway.process("{}").header("job-attempt", "2").header("job-epoch", "4294967299");
    answer(request.header("job-id", Uuid::nil().to_string()), 202).await;
}

#[tokio::test]
async fn prefer_wait_answers_with_the_job_as_soon_as_it_has_ended() {
    let gateway = Gateway::start().await;
    let worker = Worker::new(&gateway);
    let (response, ()) =
        tokio::join!(async { gateway.process("{}").header("prefer", "wait=20").send().await.unwrap() }, async {
            drop(worker.report(&worker.claim_one().await, "ok").await)
        },);
    assert!(header(&response, "location").starts_with("/api1/jobs/"));
    assert_eq!(header(&response, "preference-applied"), "wait=20");
    let job = json_of(response, 200).await;
    assert_eq!((&job["state"], &job["attempt_log"][0]["outcome"]), (&json!("succeeded"), &json!("ok")));
}

#[tokio::test]
async fn prefer_wait_answers_as_usual_when_the_job_takes_longer() {
    let gateway = Gateway::start().await;
    let accepted = answer(gateway.process("{}").header("prefer", "wait=0"), 202).await;
    assert_eq!(accepted["state"], "pending");
    let accepted = answer(gateway.process("{}").header("prefer", "wait=1"), 202).await;
    assert_eq!(accepted["message"], "Request received. Will process when API 2 recovers.");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_a_length_and_without() {
    let mut setup = crate::support::setup();
    setup.limits.payload.max_bytes = 1_000;
    let gateway = Gateway::with(setup).await;
    answer(gateway.post("/api1/process").body("x".repeat(1_000)), 202).await;
    problem(gateway.post("/api1/process").body("x".repeat(1_001)), 413, "body_too_large").await;
    problem(gateway.post("/api1/process").body("x".repeat(3_000_000)), 413, "body_too_large").await;
    let chunks = (0..11).map(|_| Ok::<_, std::io::Error>("y".repeat(100)));
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let response = gateway.post("/api1/process").body(chunked).send().await.unwrap();
    problem_of(response, 413, "body_too_large").await;
}
