//! Idle latency: one job at a time through a system that does nothing else, from its 202 to its arrival at the destination.
//!
//! The destination is a bare socket inside this process, so both moments are read from the same clock by the same thread.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jobs_core::process::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::load::Connection;
use super::{Bench, BenchError, load, percentile, say};
use crate::figure::{Figure, Goal};
use crate::trio::ports::ANY_PORT;

/// Most milliseconds from accepted to delivered, in the middle.
const GOAL_MS: f64 = 1.0;
/// Most milliseconds for 99 of 100.
const GOAL_P99_MS: f64 = 10.0;

/// Between two jobs, so that the first is settled and the system idle again. Odd, not to fall in step with anybody's timer.
const PAUSE: Duration = Duration::from_millis(7);

/// An idle system that takes longer has stopped.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    say("idle latency, accepted to delivered");
    let samples = if bench.quick { 200 } else { 2_000 };
    let (destination, mut arrivals) = listen().await.map_err(BenchError::io("listen for deliveries"))?;
    let (_noop, noop) = bench.reference("noop").await?;
    let trio = bench.start(1, &format!("http://{destination}/"), &[]).await?;
    let gateway: SocketAddr = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let body = load::payload();
    let (to_noop, to_gateway) =
        (load::request("POST", noop, "/api1/process", &body), load::request("POST", gateway, "/api1/process", &body));
    let failed = || BenchError::io("post a job");
    let mut noop = Connection::open(noop).await.map_err(failed())?;
    let mut gateway = Connection::open(gateway).await.map_err(failed())?;
    let (mut accepts, mut noops, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..samples {
        tokio::time::sleep(PAUSE).await;
        let began = clock::instant();
        noop.exchange(&to_noop).await.map_err(failed())?;
        noops.push(millis(began.elapsed()));
        let began = clock::instant();
        gateway.exchange(&to_gateway).await.map_err(failed())?;
        let accepted = clock::instant();
        accepts.push(millis(accepted - began));
        let arrived = tokio::time::timeout(ARRIVAL_LIMIT, arrivals.recv()).await.ok().flatten();
        let folder = || trio.folder().display().to_string();
        let stuck = || BenchError::Stuck { what: "a delivery", limit: ARRIVAL_LIMIT, folder: folder() };
        // It may arrive before the 202 has been read.
        deliveries.push(millis(arrived.ok_or_else(stuck)?.saturating_duration_since(accepted)));
    }
    let noop_p50 = percentile(&mut noops, 0.5);
    let figures =
        [("p50", 0.5, Goal::AtMost(GOAL_MS)), ("p99", 0.99, Goal::AtMost(GOAL_P99_MS))].map(|(name, share, goal)| {
            Figure::new(&format!("idle, accepted to delivered, {name}"), percentile(&mut deliveries, share), "ms", goal)
                .beside(&format!("posted to accepted, {name}, ms"), percentile(&mut accepts, share))
                .beside("noop, p50, ms", noop_p50)
        });
    Ok(figures.into())
}

/// A destination that answers 200 and says when each request had arrived.
async fn listen() -> io::Result<(SocketAddr, mpsc::UnboundedReceiver<Instant>)> {
    let listener = TcpListener::bind(ANY_PORT).await?;
    let address = listener.local_addr()?;
    let (arrived, arrivals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, arrived.clone()));
        }
    });
    Ok((address, arrivals))
}

/// Serves one connection. The payloads are so small that a request without its end of body does not occur between reads of
/// the head and of the body: each ends with the bytes of [`load::payload`].
async fn serve(mut stream: TcpStream, arrived: mpsc::UnboundedSender<Instant>) {
    let body = load::payload();
    let mut buffer = Vec::with_capacity(4096);
    // The worker hanging up ends it.
    while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        if !buffer.ends_with(body.as_bytes()) {
            continue;
        }
        let at = clock::instant();
        buffer.clear();
        let answered = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        if answered.is_err() || arrived.send(at).is_err() {
            return;
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
