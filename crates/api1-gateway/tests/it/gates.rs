//! Hold, probe, release, as workers and people see it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api1_gateway::store::sqlite::SqliteStore;
use jobs_core::destination::HealthCheck;
use jobs_core::process::clock::{self, Clock};
use jobs_core::store::StoreError;
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fake_store::FakeStore;
use crate::support::{Gateway, Worker, adjust, answer, eventually, setup};

/// Most probes in any second, and jobs that five failures are enough of.
const MOST_PROBES: usize = 4;
const TRIP: usize = 5;

async fn accept(gateway: &Gateway, count: usize) {
    let items: Vec<Value> = (0..count).map(|n| json!({"payload": n})).collect();
    answer(gateway.post("/api1/jobs").json(&items), 202).await;
}

async fn shown(gateway: &Gateway) -> Value {
    answer(gateway.get("/api1/destinations/api2"), 200).await
}

/// Reports one lease after the other, each on its own.
async fn report_all(worker: &Worker<'_>, leases: &[Value], class: &str) {
    for lease in leases {
        worker.report(lease, class).await;
    }
}

/// Claims so many jobs, that are due.
async fn take(worker: &Worker<'_>, count: usize) -> Vec<Value> {
    let mut leases = Vec::new();
    while leases.len() < count {
        let more = worker.claim((count - leases.len()) as u64, 5_000).await;
        assert!(!more.is_empty(), "{} of {count}", leases.len());
        leases.extend(more);
    }
    leases
}

/// Has the destination fail for so many jobs that its gate opens.
async fn open(gateway: &Gateway, worker: &Worker<'_>) {
    accept(gateway, TRIP).await;
    let leases = take(worker, TRIP).await;
    report_all(worker, &leases, "down").await;
    assert_eq!(shown(gateway).await["state"], "open");
}

/// The next lease, in some seconds at most.
async fn next(worker: &Worker<'_>) -> Value {
    eventually("something is granted", async || worker.claim(1, 5_000).await.pop()).await
}

async fn on_sqlite(path: &Path) -> Gateway {
    let store = SqliteStore::open(path, Clock::new().now()).unwrap();
    Gateway::on(Arc::new(store), setup()).await
}

/// All rows of a table, as another reader of the file sees them.
fn rows(path: &Path, sql: &str) -> Vec<Vec<Cell>> {
    let conn = Connection::open(path).unwrap();
    let mut statement = conn.prepare(sql).unwrap();
    let width = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..width).map(|column| row.get(column)).collect();
    statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_worker_that_cannot_reach_what_another_can_is_shown_until_it_does() {
    let gateway = Gateway::start().await;
    let (well, cut_off) = (Worker::new(&gateway), Worker::new(&gateway));
    accept(&gateway, 3).await;
    let leases = [take(&well, 1).await, take(&cut_off, 2).await].concat();
    well.report(&leases[0], "ok").await;
    assert_eq!(shown(&gateway).await["cut_off"], json!([]));
    cut_off.report(&leases[1], "down").await;
    assert_eq!(shown(&gateway).await["cut_off"], json!([cut_off.id]));
    cut_off.report(&leases[2], "ok").await;
    assert_eq!(shown(&gateway).await["cut_off"], json!([]));
}

#[tokio::test]
async fn an_outage_holds_its_jobs_and_the_recovery_releases_all_of_them_by_writing_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let gateway = on_sqlite(&path).await;
    let worker = Worker::new(&gateway);
    open(&gateway, &worker).await;
    accept(&gateway, 45).await;

    let mut probes = Vec::new();
    while probes.len() < 8 {
        let leases = worker.claim(100, 5_000).await;
        assert!(leases.len() <= 1, "{leases:?}");
        probes.extend(leases.iter().map(|_| clock::instant()));
        report_all(&worker, &leases, "down").await;
    }
    let crowded =
        probes.windows(MOST_PROBES + 1).filter(|window| window[MOST_PROBES] - window[0] < Duration::from_secs(1));
    assert_eq!(crowded.count(), 0, "{probes:?}");

    let probe = next(&worker).await;
    let others =
        format!("SELECT * FROM job WHERE id <> x'{}' ORDER BY seq", probe["job_id"].as_str().unwrap().replace('-', ""));
    let (jobs, gates) = (rows(&path, &others), rows(&path, "SELECT epoch, open_since FROM destination_gate"));
    assert_eq!(jobs.len(), 49);
    assert!(matches!(gates[..], [ref gate] if matches!(gate[..], [Cell::Integer(0), Cell::Integer(_)])), "{gates:?}");
    worker.report(&probe, "ok").await;
    assert!(rows(&path, &others) == jobs, "no job that waits was written");
    assert_eq!(
        rows(&path, "SELECT epoch, open_since FROM destination_gate"),
        [[Cell::Integer(1), Cell::Null]],
        "the one row that was is durable when the probe's report is answered"
    );

    let mut done = 0;
    while done < 49 {
        let leases = worker.claim(100, 5_000).await;
        done += leases.len();
        report_all(&worker, &leases, "ok").await;
    }
    let shown = shown(&gateway).await;
    assert_eq!((&shown["states"]["succeeded"], &shown["epoch"]), (&json!(50), &json!(1)));
    let job = gateway.job(probe["job_id"].as_str().unwrap()).await;
    assert_eq!(job["attempt_log"].as_array().unwrap().iter().filter(|line| line["charged"] == true).count(), 0);
}

#[tokio::test]
async fn an_open_gate_is_open_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let gateway = on_sqlite(&path).await;
    open(&gateway, &Worker::new(&gateway)).await;
    accept(&gateway, 1).await;
    let before = shown(&gateway).await;
    gateway.shutdown.trigger();
    gateway.serving.await.unwrap().unwrap();

    let gateway = on_sqlite(&path).await;
    let after = shown(&gateway).await;
    for member in ["state", "reason", "since", "epoch"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    let worker = Worker::new(&gateway);
    assert_eq!(worker.claim(100, 0).await.len(), 0);
    worker.report(&next(&worker).await, "ok").await;
    assert_eq!(shown(&gateway).await["state"], "ramp");
}

#[tokio::test]
async fn a_destination_that_refuses_everybody_is_held_with_what_it_said_and_nothing_dies() {
    let gateway = Gateway::start().await;
    let worker = Worker::new(&gateway);
    accept(&gateway, 10).await;
    let refused = |lease: &Value| {
        json!([{"job_id": lease["job_id"], "epoch": lease["epoch"], "class": "suspect", "status": 401,
            "error": "the token has expired"}])
    };
    for lease in take(&worker, 3).await {
        worker.settle(refused(&lease)).await;
    }
    let held = shown(&gateway).await;
    let reason = held["reason"].as_str().unwrap();
    assert_eq!(held["state"], "open");
    assert!(reason.starts_with("misconfigured") && reason.contains("the token has expired"), "{reason}");
    for _ in 0..3 {
        let probe = next(&worker).await;
        assert_eq!(worker.settle(refused(&probe)).await[0]["state"], "pending");
    }
    assert_eq!(shown(&gateway).await["states"]["dead"], 0);
    worker.report(&next(&worker).await, "ok").await;
    assert_eq!(shown(&gateway).await["state"], "ramp");
}

#[tokio::test]
async fn a_poison_job_among_good_ones_holds_nobody() {
    let mut setup = setup();
    adjust(&mut setup, "api2", |destination| {
        let delays = vec![Duration::from_millis(1)];
        destination.policy.retry.backoff = jobs_core::retry::Backoff::Schedule(delays);
        destination.policy.max_attempts = 6;
    });
    let gateway = Gateway::with(setup).await;
    let poison = gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    while gateway.job(&poison).await["state"] != "dead" {
        accept(&gateway, 3).await;
        for lease in worker.claim(10, 5_000).await {
            worker.report(&lease, if lease["job_id"] == poison.as_str() { "error" } else { "ok" }).await;
        }
        assert_eq!(shown(&gateway).await["state"], "closed");
    }
    assert_eq!(gateway.job(&poison).await["dead_reason"], "exhausted");
}

#[tokio::test]
async fn a_health_check_travels_with_a_claim_and_a_healthy_answer_has_a_waiting_job_tried_at_once() {
    let mut setup = setup();
    adjust(&mut setup, "api2", |destination| {
        let url = "http://127.0.0.1:1/api2/health".to_owned();
        destination.health_check = Some(HealthCheck { url, method: "HEAD".to_owned(), expect: 204 });
        let delays = vec![Duration::from_secs(3_600)];
        destination.policy.retry.backoff = jobs_core::retry::Backoff::Schedule(delays);
    });
    let gateway = Gateway::with(setup).await;
    let worker = Worker::new(&gateway);
    open(&gateway, &worker).await;
    let check = json!([{"destination": "api2", "method": "HEAD", "url": "http://127.0.0.1:1/api2/health", "expect": 204,
        "timeout_ms": 2_000}]);
    for _ in 0..3 {
        // Parked in between: every half second one is due.
        let claimed = answer(worker.claim_request(10, 10_000), 200).await;
        assert_eq!((&claimed["probes"], &claimed["leases"]), (&check, &json!([])));
    }
    let found = |healthy: bool| json!({"worker": worker.id, "probes": [{"destination": "api2", "healthy": healthy}]});
    let settle = async |healthy| answer(gateway.post("/jobstore/v1/settle").json(&found(healthy)), 200).await;
    settle(false).await;
    assert_eq!(worker.claim(10, 0).await.len(), 0);
    let (probe, _) = tokio::join!(next(&worker), async {
        gateway.metric_becomes("holdfast_parked_claims", 1).await;
        settle(true).await
    });
    worker.report(&probe, "ok").await;
    assert_eq!(next(&worker).await["attempt"], 2, "released, an hour before its own time");
    let claimed = answer(worker.claim_request(10, 0), 200).await;
    assert_eq!(claimed.get("probes"), None, "nobody asks for its health any more");
}

#[tokio::test]
async fn a_worker_learns_from_its_next_claim_or_heartbeat_what_to_release() {
    let gateway = Gateway::start().await;
    let (worker, other) = (Worker::new(&gateway), Worker::new(&gateway));
    accept(&gateway, TRIP + 2).await;
    let leases = take(&worker, TRIP + 2).await;
    assert_eq!(worker.extend(json!([])).await["release"], json!([]));
    report_all(&worker, &leases[..TRIP], "down").await;
    assert_eq!(worker.extend(json!([])).await["release"], json!(["api2"]));
    assert_eq!(answer(worker.claim_request(1, 0), 200).await["release"], json!(["api2"]));
    assert_eq!(other.extend(json!([])).await["release"], json!([]), "it holds nothing");
    report_all(&worker, &leases[TRIP..], "release").await;
    assert_eq!(worker.extend(json!([])).await["release"], json!([]));
}

#[tokio::test]
async fn while_a_gates_change_cannot_be_written_nothing_is_granted_and_it_is_written_later() {
    let store = FakeStore::new();
    let gateway = Gateway::on(store.clone(), setup()).await;
    let worker = Worker::new(&gateway);
    accept(&gateway, TRIP + 5).await;
    *store.gate_refusal.lock().unwrap() = Some(StoreError::Full("x".to_owned()));
    let leases = take(&worker, TRIP).await;
    report_all(&worker, &leases, "down").await;
    assert_eq!(worker.claim(1, 1_000).await.len(), 0, "nor is a probe, which would be due by then");
    *store.gate_refusal.lock().unwrap() = None;
    worker.report(&next(&worker).await, "down").await;
    assert_eq!(shown(&gateway).await["state"], "open");
}

#[tokio::test]
async fn while_the_store_lags_behind_what_was_settled_nothing_is_granted() {
    let store = FakeStore::new();
    let gateway = Gateway::on(store.clone(), setup()).await;
    gateway.accepted("{}").await;
    let worker = Worker::new(&gateway);
    store.holds.send_replace(true);
    let unknown = json!({"job_id": Uuid::nil(), "epoch": 1, "class": "ok"});
    let flood = json!(vec![unknown; 5_001]);
    let ((), settled) = tokio::join!(
        async {
            store.next_held(0).await;
            assert_eq!(worker.claim(1, 0).await.len(), 0);
            let (lease, _) = tokio::join!(worker.claim_one(), async {
                gateway.metric_becomes("holdfast_parked_claims", 1).await;
                store.holds.send_replace(false)
            });
            worker.report(&lease, "ok").await;
        },
        worker.settle(flood)
    );
    assert_eq!(settled.len(), 5_001);
}
