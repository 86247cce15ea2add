//! Accept on one connection: what a lone caller waits for the commit, beside a server that only answers.

use std::net::SocketAddr;
use std::time::Duration;

use jobs_core::process::clock;

use super::load::Connection;
use super::{Bench, BenchError, NOWHERE, load, median, percentile, say};
use crate::figure::{Figure, Goal};

/// Most milliseconds that a durable accept may take longer than noop, in the middle.
const GOAL_MS: f64 = 0.3;

const ROUNDS: usize = 5;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    say("durable accept on one connection, beside noop");
    let span = Duration::from_millis(if bench.quick { 500 } else { 3_000 });
    let (_noop, noop) = bench.reference("noop").await?;
    let trio = bench.start(0, NOWHERE, &[]).await?;
    let gateway: SocketAddr = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let body = load::payload();
    let (mut added, mut noops, mut gateways) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let reference = exchange_p50(noop, &body, span).await?;
        let durable = exchange_p50(gateway, &body, span).await?;
        added.push(durable - reference);
        noops.push(reference);
        gateways.push(durable);
    }
    let figure =
        Figure::new("durable accept, 1 connection, added p50", median(&mut added), "ms", Goal::AtMost(GOAL_MS))
            .beside("posted to accepted, p50, ms", median(&mut gateways))
            .beside("noop, p50, ms", median(&mut noops));
    Ok(vec![figure])
}

/// Milliseconds of a call and its answer in the middle of `span`'s, one after the other.
async fn exchange_p50(address: SocketAddr, body: &str, span: Duration) -> Result<f64, BenchError> {
    let failed = || BenchError::io("post a job");
    let request = load::request("POST", address, "/api1/process", body);
    let mut connection = Connection::open(address).await.map_err(failed())?;
    let began = clock::instant();
    let mut millis = Vec::new();
    while began.elapsed() < span {
        let sent = clock::instant();
        connection.exchange(&request).await.map_err(failed())?;
        millis.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(percentile(&mut millis, 0.5))
}
