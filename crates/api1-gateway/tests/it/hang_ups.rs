//! Clients that go away in the middle: nothing they began is lost, and no job is given to them.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::fake_store::FakeStore;
use crate::support::{Gateway, PATIENCE, Worker, answer, eventually, setup};

/// Sends a whole request and reads nothing.
async fn send(address: SocketAddr, path: &str, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    write_request(&mut socket, path, body).await;
    socket
}

async fn write_request(socket: &mut TcpStream, path: &str, body: &str) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

/// Hangs up, and waits until the gateway has noticed: it closes its side, and drops what it was doing for this client.
async fn hang_up(mut socket: TcpStream) {
    socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("it hangs up, too");
    assert!(rest.is_empty(), "{closed:?}: {}", String::from_utf8_lossy(&rest));
}

/// Waits longer than any test does.
fn claim_body() -> String {
    json!({"worker": uuid::Uuid::nil(), "concurrency": 10, "max": 10, "wait_ms": 30_000}).to_string()
}

#[tokio::test]
async fn a_parked_claim_whose_worker_was_killed_wins_no_jobs() {
    let gateway = Gateway::start().await;
    for how in ["closed", "half closed", "reset"] {
        let mut socket = send(gateway.address, "/jobstore/v1/claim", &claim_body()).await;
        gateway.metric_becomes("holdfast_parked_claims", 1).await;
        match how {
            "half closed" => socket.shutdown().await.unwrap(),
            "reset" => socket.set_zero_linger().unwrap(),
            _ => {}
        }
        let kept = (how == "half closed").then_some(socket);
        gateway.metric_becomes("holdfast_parked_claims", 0).await;
        let id = gateway.accepted("{}").await;
        let worker = Worker::new(&gateway);
        let lease = worker.claim(1, 0).await.pop().unwrap_or_else(|| panic!("{how}: the job went to the dead worker"));
        assert_eq!((&lease["job_id"], &lease["attempt"]), (&json!(id), &json!(1)), "{how}");
        worker.report(&lease, "ok").await;
        drop(kept);
    }
}

#[tokio::test]
async fn leases_granted_while_the_worker_hung_up_are_released_at_once() {
    let store = FakeStore::new();
    let gateway = Gateway::on(store.clone(), setup()).await;
    let id = gateway.accepted("{}").await;
    store.holds.send_replace(true);
    let socket = send(gateway.address, "/jobstore/v1/claim", &claim_body()).await;
    store.next_held(0).await;
    assert_eq!(gateway.job(&id).await["state"], "leased");
    hang_up(socket).await;
    store.holds.send_replace(false);
    let released = jobs_core::process::clock::instant();
    let job = gateway.job_becomes(&id, "pending").await;
    assert!(released.elapsed() < Duration::from_secs(3), "released, not lapsed");
    assert_eq!(job["attempt_log"], json!([]));
    let lease = Worker::new(&gateway).claim(1, 0).await.pop().expect("claimable at once");
    assert_eq!(lease["attempt"], 1);
}

#[tokio::test]
async fn leases_that_a_worker_hung_up_on_before_they_were_written_are_released_at_once() {
    let gateway = Gateway::start().await;
    // From now on the dispatcher knows that only one destination has work.
    assert!(Worker::new(&gateway).claim(2, 0).await.is_empty());
    let payload = "x".repeat(500_000);
    for _ in 0..16 {
        answer(gateway.post("/api1/process").body(payload.clone()), 202).await;
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(65_536).unwrap();
    let mut socket = socket.connect(gateway.address).await.unwrap();
    write_request(
        &mut socket,
        "/jobstore/v1/claim",
        &json!({"worker": uuid::Uuid::nil(), "concurrency": 16, "max": 16}).to_string(),
    )
    .await;
    socket.readable().await.unwrap();
    let leased = answer(gateway.get("/api1/stats"), 200).await["states"]["leased"].clone();
    assert_eq!(leased, 16);
    drop(socket);
    let hung_up = jobs_core::process::clock::instant();
    let released = async || {
        let waiting = answer(gateway.get("/api1/stats"), 200).await["states"]["pending"].as_u64()?;
        (waiting >= 8).then_some(())
    };
    eventually("most are released", released).await;
    assert!(hung_up.elapsed() < Duration::from_secs(3), "released, not lapsed");
}

#[tokio::test]
async fn a_job_whose_client_hung_up_before_the_answer_is_still_delivered() {
    let store = FakeStore::new();
    let gateway = Gateway::on(store.clone(), setup()).await;
    // From now on the dispatcher knows that there is nothing.
    assert!(Worker::new(&gateway).claim(1, 0).await.is_empty());
    store.holds.send_replace(true);
    // Not a single post: that is stored on behalf of several clients, in a task that no handler owns.
    let socket = send(gateway.address, "/api1/jobs", r#"{"payload": {}}"#).await;
    store.next_held(0).await;
    hang_up(socket).await;
    store.holds.send_replace(false);
    // Without a word from the handler the dispatcher would not know that there is work.
    assert_eq!(Worker::new(&gateway).claim_one().await["payload"], "{}");
}

#[tokio::test]
async fn a_body_that_ends_too_early_stores_nothing() {
    let gateway = Gateway::start().await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"POST /api1/process HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    // Whatever the answer, if any: the point is what is stored.
    socket.read_to_end(&mut rest).await.ok();
    assert!(!rest.starts_with(b"HTTP/1.1 202"));
    assert_eq!(answer(gateway.get("/api1/stats"), 200).await["accepted"], 0);
}

#[tokio::test]
async fn a_waiting_reader_that_hangs_up_leaves_nothing_behind() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!("GET /api1/jobs/{id}?wait=20s HTTP/1.1\r\nHost: x\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    gateway.metric_becomes("holdfast_waiting_requests", 1).await;
    drop(socket);
    gateway.metric_becomes("holdfast_waiting_requests", 0).await;
    let worker = Worker::new(&gateway);
    worker.report(&worker.claim_one().await, "ok").await;
    eventually("the job has ended", async || (gateway.job(&id).await["state"] == "succeeded").then_some(())).await;
}
