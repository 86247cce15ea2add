//! The job store as a worker uses it: claims that wait, settles that repeat, epochs that are stale or invented.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::payloads::headers;
use crate::support::{Gateway, Worker, adjust, answer, eventually, id, on_sqlite, problem, setup};

#[tokio::test]
async fn a_lease_has_all_that_is_needed_for_the_call() {
    let mut setup = setup();
    adjust(&mut setup, "api2", |destination| {
        destination.headers = vec![("Authorization".to_owned(), "Bearer secret".to_owned())];
        destination.rules = serde_json::from_value(json!([{"status": "404", "class": "ok"}])).unwrap();
    });
    let gateway = Gateway::with(setup).await;
    let id = gateway.accepted(r#"{ "name": "hello" }"#).await;
    let lease = Worker::new(&gateway).claim_one().await;
    assert_eq!((&lease["job_id"], &lease["destination"], &lease["attempt"]), (&json!(id), &json!("api2"), &json!(1)));
    assert!(lease["epoch"].as_u64().unwrap() < 1 << 53);
    assert!((1_000..=5_000).contains(&lease["lease_ms"].as_u64().unwrap()));
    let request = &lease["request"];
    assert_eq!((&request["method"], &request["url"]), (&json!("POST"), &json!("http://127.0.0.1:1/api2/simulate")));
    assert_eq!(
        (&request["timeout_ms"], &request["rules"]),
        (&json!(30_000), &json!([{"status": "404", "class": "ok"}]))
    );
    assert_eq!(headers(&lease, "authorization"), ["Bearer secret"]);
    assert_eq!((headers(&lease, "idempotency-key"), headers(&lease, "job-id")), (vec![id.as_str()], vec![id.as_str()]));
    assert_eq!((&lease["payload"], &lease["payload_base64"]), (&json!(r#"{ "name": "hello" }"#), &Value::Null));
}

#[tokio::test]
async fn each_lease_of_an_answer_is_a_line_of_its_own() {
    let short = "{ \"name\":\n\t\"he\\\\llo \u{e4}\" }\n";
    // Of which two are more than the server sends at a time.
    let long = format!("[\n{}1]", "\"\u{e4}\\n\",\r\n".repeat(4_000));
    for payload in [short, &long] {
        let gateway = Gateway::start().await;
        let worker = Worker::new(&gateway);
        for _ in 0..3 {
            gateway.accepted(payload.to_owned()).await;
        }
        for leases in [3, 0] {
            let text = worker.claim_request(10, 0).send().await.unwrap().text().await.unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), leases + 2, "{text}");
            assert!(lines[0].ends_with(r#""leases":["#) && lines[leases + 1] == "]}", "{text}");
            for line in &lines[1..=leases] {
                let lease: Value = serde_json::from_str(line.trim_start_matches(',')).expect(line);
                assert_eq!(lease["payload"], payload);
            }
        }
    }
}

#[tokio::test]
async fn a_parked_claim_gets_the_job_the_moment_it_is_stored() {
    let gateway = Gateway::start().await;
    let worker = Worker::new(&gateway);
    let (lease, id) = tokio::join!(worker.claim_one(), async {
        gateway.metric_becomes("holdfast_parked_claims", 1).await;
        gateway.accepted("{}").await
    });
    assert_eq!(lease["job_id"], id.as_str());
    assert!(worker.claim(1, 0).await.is_empty());
    assert!(worker.claim(1, 30).await.is_empty(), "none after its patience");
}

#[tokio::test]
async fn a_parked_claim_wakes_when_a_delayed_job_falls_due() {
    let gateway = Gateway::start().await;
    let id = id(&answer(gateway.process("{}").header("job-delay", "300ms"), 202).await);
    assert_eq!(Worker::new(&gateway).claim_one().await["job_id"], id.as_str());
}

#[tokio::test]
async fn a_failed_job_comes_back_after_its_delay() {
    let mut setup = setup();
    adjust(&mut setup, "api2", |destination| {
        let delays = vec![std::time::Duration::from_millis(50)];
        destination.policy.retry.backoff = jobs_core::retry::Backoff::Schedule(delays);
    });
    let gateway = Gateway::with(setup).await;
    gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    for attempt in 1..=3 {
        let lease = worker.claim_one().await;
        assert_eq!(lease["attempt"], attempt);
        assert_eq!(worker.report(&lease, "down").await["retry_delay_ms"], 50);
    }
}

#[tokio::test]
async fn no_two_workers_hold_one_job() {
    let mut setup = setup();
    adjust(&mut setup, "api2", |destination| destination.gate.start_limit = 200);
    let gateway = Gateway::with(setup).await;
    let items: Vec<Value> = (0..200).map(|n| json!({"payload": n})).collect();
    answer(gateway.post("/api1/jobs").json(&items), 202).await;
    let workers: Vec<Worker<'_>> = (0..4).map(|_| Worker::new(&gateway)).collect();
    let claims = workers.iter().map(async |worker| {
        let mut ids = Vec::new();
        loop {
            let leases = worker.claim(7, 0).await;
            if leases.is_empty() {
                return ids;
            }
            ids.extend(leases.iter().map(|lease| lease["job_id"].as_str().unwrap().to_owned()));
        }
    });
    let mut ids: Vec<String> = futures_util::future::join_all(claims).await.concat();
    // Some claims may have met places reserved by another: what is left is claimed now.
    ids.extend(workers[0].claim(200, 0).await.iter().map(|lease| lease["job_id"].as_str().unwrap().to_owned()));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((count, ids.len()), (200, 200));
}

#[tokio::test]
async fn settling_twice_is_harmless_and_a_stale_or_invented_epoch_changes_nothing() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let first = worker.claim_one().await;
    assert_eq!(worker.report(&first, "release").await["result"], "ok");
    assert_eq!(worker.report(&first, "release").await["result"], "ok", "a repetition");
    worker.report(&worker.claim_one().await, "release").await;
    let second = worker.claim_one().await;
    assert!(second["epoch"].as_u64() > first["epoch"].as_u64());
    assert_eq!(worker.report(&first, "down").await["result"], "lease_lost", "a stale epoch");
    let outcome = |epoch: u64, class: &str| json!({"job_id": id, "epoch": epoch, "class": class});
    let invented = [0, second["epoch"].as_u64().unwrap() + 1, 9_007_199_254_740_991, u64::MAX];
    for result in worker.settle(json!(invented.map(|epoch| outcome(epoch, "ok")))).await {
        assert_eq!((&result["result"], &result["state"]), (&json!("lease_lost"), &json!("leased")), "{result}");
    }
    let unknown = json!({"job_id": Uuid::nil(), "epoch": 1, "class": "ok"});
    let epoch = second["epoch"].as_u64().unwrap();
    let results =
        worker.settle(json!([unknown, outcome(epoch, "ok"), outcome(epoch, "ok"), outcome(epoch, "error")])).await;
    let results: Vec<&Value> = results.iter().map(|result| &result["result"]).collect();
    assert_eq!(results[..2], ["unknown_job", "ok"], "one bad lease does not spoil the batch");
    assert!(results[2] == "ok" || results[2] == "already_finished");
    let job = gateway.job(&id).await;
    assert_eq!((&job["state"], &job["attempts"]), (&json!("succeeded"), &json!(1)));
}

#[tokio::test]
async fn an_epoch_invented_for_an_earlier_start_of_the_gateway_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let first = on_sqlite(&path).await;
    first.shutdown.trigger();
    first.serving.await.unwrap().unwrap();

    let gateway = on_sqlite(&path).await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let outcome = |epoch: u64| json!({"job_id": id, "epoch": epoch, "class": "ok"});
    for result in worker.settle(json!([outcome((1 << 32) + 5), outcome((2 << 32) - 1), outcome(2 << 32)])).await {
        assert_eq!((&result["result"], &result["state"]), (&json!("lease_lost"), &json!("pending")), "{result}");
    }
    assert_eq!(worker.report(&worker.claim_one().await, "ok").await["state"], "succeeded");
}

#[tokio::test]
async fn a_late_success_is_a_fact() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let (one, other) = (Worker::new(&gateway), Worker::new(&gateway));
    let first = one.claim_one().await;
    one.report(&first, "release").await;
    let second = other.claim_one().await;
    assert_eq!(one.report(&first, "ok").await["state"], "succeeded");
    let heartbeat = other.extend(json!([{"job_id": id, "epoch": second["epoch"]}])).await;
    assert_eq!(heartbeat["lost"], json!([{"job_id": id, "epoch": second["epoch"]}]));
}

#[tokio::test]
async fn a_heartbeat_renews_what_is_held_and_names_what_is_not() {
    let gateway = Gateway::start().await;
    gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let lease = worker.claim_one().await;
    let held = json!({"job_id": lease["job_id"], "epoch": lease["epoch"]});
    let invented = json!({"job_id": Uuid::nil(), "epoch": 7});
    let heartbeat = worker.extend(json!([held, invented])).await;
    assert!((4_000..=5_000).contains(&heartbeat["lease_ms"].as_u64().unwrap()));
    assert_eq!((&heartbeat["lost"], &heartbeat["cancel"]), (&json!([invented]), &json!([])));
    let stranger = Worker::new(&gateway);
    assert_eq!(stranger.extend(json!([held])).await["lost"], json!([held]));
}

#[tokio::test]
async fn a_silent_workers_job_is_claimed_again_within_six_seconds() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let silent = Worker::new(&gateway);
    let lease = silent.claim_one().await;
    let begun = jobs_core::process::clock::instant();
    let again = eventually("the job is leased anew", async || Worker::new(&gateway).claim(1, 6_000).await.pop()).await;
    assert!(begun.elapsed() <= std::time::Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!((&again["job_id"], &again["attempt"]), (&json!(id), &json!(2)));
    assert!(again["epoch"].as_u64() > lease["epoch"].as_u64());
    assert_eq!(gateway.job(&id).await["attempt_log"][0]["outcome"], "lost");
}

#[tokio::test]
async fn a_claim_out_of_bounds_is_refused() {
    let gateway = Gateway::start().await;
    let worker = Worker::new(&gateway);
    for max in [0, 1_001, 1_000_000] {
        assert_eq!(problem(worker.claim_request(max, 0), 400, "bad_message").await["parameter"], "max");
    }
    assert!(worker.claim(1_000, 0).await.is_empty());
    for (body, code) in [
        ("", "empty_body"),
        ("{", "bad_json"),
        ("[]", "bad_message"),
        (r#"{"worker":"x","concurrency":1,"max":1}"#, "bad_message"),
        (r#"{"worker":"00000000-0000-0000-0000-000000000001","concurrency":0,"max":1}"#, "bad_message"),
        (r#"{"worker":"00000000-0000-0000-0000-000000000001","concurrency":1,"max":-1}"#, "bad_message"),
    ] {
        problem(gateway.post("/jobstore/v1/claim").body(body), 400, code).await;
    }
}

#[tokio::test]
async fn a_settle_or_heartbeat_out_of_bounds_is_refused() {
    let gateway = Gateway::start().await;
    let lease = json!({"job_id": Uuid::nil(), "epoch": 1, "class": "ok"});
    for (path, member) in [("settle", "outcomes"), ("extend", "holding")] {
        let many = json!({"worker": Uuid::nil(), member: vec![lease.clone(); 10_001]});
        let path = format!("/jobstore/v1/{path}");
        problem(gateway.post(&path).json(&many), 413, "too_many_items").await;
        problem(gateway.post(&path).body(r#"{"worker":5}"#), 400, "bad_message").await;
        let wrong = json!({"worker": Uuid::nil(), member: [{"job_id": "x", "epoch": 1, "class": "ok"}]});
        problem(gateway.post(&path).json(&wrong), 400, "bad_message").await;
        let none = answer(gateway.post(&path).json(&json!({"worker": Uuid::nil(), "later_version": 1})), 200).await;
        assert!(none.is_object());
    }
}

#[tokio::test]
async fn one_answer_does_not_carry_more_payload_than_it_should() {
    let gateway = Gateway::start().await;
    let body = "x".repeat(1_000_000);
    for _ in 0..12 {
        answer(gateway.post("/api1/process").body(body.clone()), 202).await;
    }
    let worker = Worker::new(&gateway);
    let first = worker.claim(100, 0).await.len();
    assert_eq!(first, 8);
    let mut count = first;
    while count < 12 {
        // What did not fit was not leased, and is claimable at once.
        let more = worker.claim(100, 2_000).await.len();
        assert!(more > 0, "{count} of 12");
        count += more;
    }
    assert_eq!(count, 12);
}

#[tokio::test]
async fn only_one_job_of_an_ordering_key_is_out_at_a_time() {
    let gateway = Gateway::start().await;
    let items: Vec<Value> = (0..3).map(|n| json!({"payload": n, "ordering_key": "customer 1"})).collect();
    answer(gateway.post("/api1/jobs").json(&items), 202).await;
    let worker = Worker::new(&gateway);
    for expected in ["0", "1", "2"] {
        let lease = worker.claim_one().await;
        assert_eq!(lease["payload"], expected, "in the order of acceptance");
        assert!(worker.claim(10, 0).await.is_empty());
        worker.report(&lease, "ok").await;
    }
}

#[tokio::test]
async fn a_limit_in_flight_holds_across_workers() {
    let mut setup = setup();
    adjust(&mut setup, "api2", |destination| destination.max_in_flight = Some(3));
    let gateway = Gateway::with(setup).await;
    let items: Vec<Value> = (0..30).map(|n| json!({"payload": n})).collect();
    answer(gateway.post("/api1/jobs").json(&items), 202).await;
    let workers = [Worker::new(&gateway), Worker::new(&gateway)];
    let mut done = 0;
    while done < 30 {
        let (one, other) = tokio::join!(workers[0].claim(10, 2_000), workers[1].claim(10, 0));
        let held = one.len() + other.len();
        assert!((1..=3).contains(&held), "{held} in flight after {done}");
        // A parked claim is woken by the places that settles free.
        for (worker, leases) in workers.iter().zip([one, other]) {
            for lease in leases {
                assert_eq!(worker.report(&lease, "ok").await["state"], "succeeded");
                done += 1;
            }
        }
    }
    assert_eq!(answer(gateway.get("/api1/destinations/api2"), 200).await["in_flight"], 0);
}
