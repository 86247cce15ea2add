//! Reading jobs: one with its attempts, lists with filters and cursors, waiting, statistics.

use serde_json::{Value, json};

use crate::support::{Gateway, Worker, answer, eventually, header, id, json_of, problem};

#[tokio::test]
async fn a_job_is_shown_with_its_attempts() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let lease = worker.claim_one().await;
    let response = json!({"content_type": "text/plain", "body": "busy"});
    let outcome = json!({"job_id": id, "epoch": lease["epoch"], "class": "overload", "status": 503, "latency_ms": 12.0, "error": "busy", "response": response});
    let settled = worker.settle(json!([outcome])).await.remove(0);
    assert_eq!(
        (&settled["result"], &settled["state"], &settled["retry_delay_ms"]),
        (&json!("ok"), &json!("pending"), &json!(2_000))
    );
    let job = gateway.job(&id).await;
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        members(&job),
        [
            "attempt_log",
            "attempts",
            "callback",
            "created_at",
            "dead_reason",
            "destination",
            "expires_at",
            "id",
            "last_error",
            "ordering_key",
            "priority",
            "redriven_from",
            "resolved",
            "run_at",
            "state",
            "trace_id",
            "updated_at"
        ]
    );
    let attempt = &job["attempt_log"][0];
    assert_eq!(
        members(attempt),
        [
            "charged",
            "duration_ms",
            "epoch",
            "error",
            "next_run_at",
            "number",
            "outcome",
            "response_excerpt",
            "retry_delay_ms",
            "span_id",
            "started_at",
            "status",
            "worker"
        ]
    );
    assert_eq!((&job["attempts"], &job["dead_reason"]), (&json!(1), &Value::Null));
    assert!(job["last_error"].as_str().unwrap().ends_with("busy"), "{job}");
    assert_eq!(
        (&attempt["number"], &attempt["duration_ms"], &attempt["outcome"]),
        (&json!(1), &json!(12), &json!("overload"))
    );
    assert_eq!(
        (&attempt["charged"], &attempt["status"], &attempt["response_excerpt"]),
        (&json!(false), &json!(503), &json!("busy"))
    );
    assert_eq!((&attempt["retry_delay_ms"], &attempt["next_run_at"]), (&json!(2_000), &job["run_at"]));
    assert_eq!(attempt["worker"], worker.id.as_str());
}

#[tokio::test]
async fn the_destinations_last_answer_is_kept_with_its_status() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let path = format!("/api1/jobs/{id}/response");
    problem(gateway.get(&path), 404, "no_response").await;
    let worker = Worker::new(&gateway);
    let lease = worker.claim_one().await;
    let response = json!({"content_type": "text/html", "body_base64": "/wA=", "truncated": true});
    let outcome = json!({"job_id": id, "epoch": lease["epoch"], "class": "job_fail", "status": 422, "latency_ms": 1, "response": response});
    worker.settle(json!([outcome])).await;
    let kept = gateway.get(&path).send().await.unwrap();
    assert_eq!(
        (header(&kept, "content-type"), header(&kept, "job-response-status")),
        ("text/html".to_owned(), "422".to_owned())
    );
    assert_eq!(
        (header(&kept, "truncated"), header(&kept, "content-security-policy")),
        ("true".to_owned(), "default-src 'none'; sandbox".to_owned())
    );
    assert_eq!(&kept.bytes().await.unwrap()[..], b"\xff\x00");
    assert_eq!(gateway.job(&id).await["dead_reason"], "permanent");
}

#[tokio::test]
async fn what_is_not_there_or_no_id_is_a_problem() {
    let gateway = Gateway::start().await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    for end in ["", "/payload", "/response"] {
        problem(gateway.get(&format!("/api1/jobs/{unknown}{end}")), 404, "unknown_job").await;
        problem(gateway.get(&format!("/api1/jobs/42{end}")), 400, "bad_job_id").await;
    }
    for end in ["/cancel", "/redrive"] {
        problem(gateway.post(&format!("/api1/jobs/{unknown}{end}")), 404, "unknown_job").await;
        problem(gateway.post(&format!("/api1/jobs/not-a-uuid{end}")), 400, "bad_job_id").await;
    }
}

#[tokio::test]
async fn a_reader_can_wait_for_the_end() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let path = format!("/api1/jobs/{id}?wait=20s");
    let waiting = async { answer(gateway.get(&path), 200).await };
    let (job, ()) = tokio::join!(waiting, async { drop(worker.report(&worker.claim_one().await, "ok").await) });
    assert_eq!(job["state"], "succeeded");
    let other = gateway.accepted("{}").await;
    let job = answer(gateway.get(&format!("/api1/jobs/{other}?wait=50ms")), 200).await;
    assert_eq!(job["state"], "pending", "as it is when the time is over");
    for wrong in ["wait=30", "wait=-1s", "wait=", "wiat=30s"] {
        problem(gateway.get(&format!("/api1/jobs/{other}?{wrong}")), 400, "bad_query").await;
    }
}

#[tokio::test]
async fn a_list_is_walked_page_by_page_latest_first() {
    let gateway = Gateway::start().await;
    let items: Vec<Value> = (0..25).map(|n| json!({"payload": n})).collect();
    let stored = answer(gateway.post("/api1/jobs").json(&items), 202).await;
    let mut ids: Vec<&str> =
        stored["results"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    ids.reverse();
    let mut path = "/api1/jobs?state=pending&limit=10&destination=api2".to_owned();
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let response = gateway.get(&path).send().await.unwrap();
        let link = header(&response, "link");
        let page = json_of(response, 200).await;
        assert!(page["jobs"][0]["attempt_log"].is_null(), "attempts are not listed");
        seen.extend(page["jobs"].as_array().unwrap().iter().map(id));
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else {
            assert_eq!(link, "");
            break;
        };
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        assert!(path.contains(cursor) && path.contains("limit=10"), "{path}");
    }
    assert_eq!((seen.iter().map(String::as_str).collect::<Vec<_>>(), pages), (ids, 3));
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let gateway = Gateway::start().await;
    let items = json!([{"payload": "red"}, {"payload": "green"}, {"payload": "red", "destination": "other"}]);
    answer(gateway.post("/api1/jobs").json(&items), 202).await;
    for (query, count) in [
        ("", 3),
        ("state=pending", 3),
        ("state=dead", 0),
        ("destination=other", 1),
        ("destination=unheard-of", 0),
        ("q=red", 2),
        ("q=red&destination=api2&state=&cursor=", 1),
    ] {
        let page = answer(gateway.get(&format!("/api1/jobs?{query}")), 200).await;
        assert_eq!(page["jobs"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_wrong_filter_or_cursor_is_refused_by_name() {
    let gateway = Gateway::start().await;
    for wrong in [
        "state=done",
        "destination=a%20b",
        "limit=0",
        "limit=1001",
        "limit=x",
        "colour=red",
        "state=dead&limit=5&state=pending",
        "q=&q=red",
        "q=%ff",
    ] {
        let refused = problem(gateway.get(&format!("/api1/jobs?{wrong}")), 400, "bad_query").await;
        assert_eq!(refused["parameter"], wrong.split('=').next().unwrap(), "{wrong}");
    }
    let items: Vec<Value> = (0..3).map(|n| json!({"payload": n})).collect();
    answer(gateway.post("/api1/jobs").json(&items), 202).await;
    let page = answer(gateway.get("/api1/jobs?limit=1"), 200).await;
    let cursor = page["next_cursor"].as_str().unwrap();
    answer(gateway.get(&format!("/api1/jobs?limit=2&cursor={cursor}")), 200).await;
    let mut tampered = cursor.to_owned();
    let letter = if tampered.remove(0) == 'A' { 'B' } else { 'A' };
    tampered.insert(0, letter);
    for query in [format!("cursor={tampered}"), "cursor=x".to_owned(), format!("cursor={cursor}&state=pending")] {
        problem(gateway.get(&format!("/api1/jobs?{query}")), 400, "bad_cursor").await;
    }
}

#[tokio::test]
async fn the_statistics_have_the_shape_of_the_contract() {
    let gateway = Gateway::start().await;
    gateway.accepted("{}").await;
    gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    let leases = worker.claim(1, 0).await;
    worker.report(&leases[0], "ok").await;
    let none = json!({"pending": 0, "leased": 0, "succeeded": 0, "dead": 0, "cancelled": 0});
    let mut states = none.clone();
    states["pending"] = json!(1);
    states["succeeded"] = json!(1);
    let expected = json!({
        "states": states, "accepted": 2, "purged": 0, "attempts": 1, "unresolved": 0,
        "duplicates": {"lease_lapsed": 0, "unknown_outcome": 0},
        "destinations": {"api2": {"states": states, "unresolved": 0}}
    });
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await, expected);
}

#[tokio::test]
async fn the_metrics_are_open_metrics_text() {
    let gateway = Gateway::start().await;
    gateway.accepted("{}").await;
    let response = gateway.get("/metrics").send().await.unwrap();
    assert_eq!(header(&response, "content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.contains("holdfast_jobs{destination=\"api2\",state=\"pending\"} 1\n"), "{text}");
    assert!(
        text.contains("# TYPE holdfast_jobs_accepted counter\n") && text.contains("holdfast_jobs_accepted_total 1\n"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_gateway_that_runs_is_alive_and_ready() {
    let gateway = Gateway::start().await;
    answer(gateway.get("/livez"), 200).await;
    answer(gateway.get("/readyz"), 200).await;
    let head = gateway.request(reqwest::Method::HEAD, "/readyz").send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.bytes().await.unwrap().len()), (200, 0));
}

#[tokio::test]
async fn the_published_problems_are_where_their_types_point() {
    let gateway = Gateway::start().await;
    let table = answer(gateway.get("/problems"), 200).await;
    let rows = table.as_array().unwrap();
    assert!(rows.len() >= 30);
    let refused = problem(gateway.get("/api1/jobs/42"), 400, "bad_job_id").await;
    let row = answer(gateway.get(refused["type"].as_str().unwrap()), 200).await;
    assert!(rows.contains(&row));
    assert_eq!(
        (&row["code"], &row["status"], &row["title"]),
        (&refused["code"], &refused["status"], &refused["title"])
    );
    problem(gateway.get("/problems/unheard_of"), 404, "no_such_route").await;
}

#[tokio::test]
async fn an_expired_job_is_dead_within_a_sweep() {
    let gateway = Gateway::start().await;
    // Held by hand: an expiry is kept whatever holds a job.
    answer(gateway.post("/api1/destinations/api2/pause"), 200).await;
    let request = gateway.process("{}").header("job-expires-after", "1ms");
    let id = id(&answer(request, 202).await);
    let job = answer(gateway.get(&format!("/api1/jobs/{id}?wait=20s")), 200).await;
    assert_eq!((&job["state"], &job["dead_reason"]), (&json!("dead"), &json!("expired")));
    eventually("the list shows it", async || {
        let page = answer(gateway.get("/api1/jobs?state=dead"), 200).await;
        (page["jobs"][0]["id"] == id.as_str()).then_some(())
    })
    .await;
}
