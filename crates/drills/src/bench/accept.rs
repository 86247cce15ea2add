//! Durable accept: how many requests per second are on disk and answered, beside a server that only answers.
//!
//! The same gateway with the store in memory is measured with them: what is missing there is the cost of its HTTP side, and
//! only the rest that of the disk.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Bench, BenchError, NOWHERE, load, median, say};
use crate::figure::{Figure, Goal};

/// How much of noop's rate a durable accept must reach.
const GOAL: f64 = 0.8;

const ROUNDS: usize = 5;

/// The rounds with the store in memory, of the others: a store that forgets nothing grows by a gigabyte in some tens of seconds.
const SHORTER: u32 = 4;

/// Connections, caches and the allocator have settled after this.
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    say("durable accept, beside noop");
    let span = Duration::from_millis(if bench.quick { 1_000 } else { 4_000 });
    let (_noop, noop) = bench.reference("noop").await?;
    let trio = bench.start(0, NOWHERE, &[]).await?;
    let gateway = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let body = load::payload();
    let (to_noop, to_gateway) =
        (load::request("POST", noop, "/api1/process", &body), load::request("POST", gateway, "/api1/process", &body));
    let failed = || BenchError::io("put load on a server");
    for (address, request) in [(noop, &to_noop), (gateway, &to_gateway)] {
        load::for_a_while(address, request, WARM_UP).await.map_err(failed())?;
    }
    let (mut ratios, mut gateways, mut noops) = (Vec::new(), Vec::new(), Vec::new());
    let (mut shares, mut noop_shares) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let reference = load::for_a_while(noop, &to_noop, span).await.map_err(failed())?;
        let durable = load::for_a_while(gateway, &to_gateway, span).await.map_err(failed())?;
        ratios.push(durable.per_second() / reference.per_second());
        gateways.push(durable.per_second());
        noops.push(reference.per_second());
        shares.push(durable.client_share());
        noop_shares.push(reference.client_share());
    }
    drop(trio);
    let unstored = in_memory(bench, noop, span / SHORTER).await?;
    let figure = Figure::new("durable accept, 64 connections, of noop", median(&mut ratios), "", Goal::AtLeast(GOAL))
        .beside("stored in memory only, of noop", unstored)
        .beside("accepted /s", median(&mut gateways))
        .beside("noop /s", median(&mut noops))
        .beside("client's share of the processors", median(&mut shares))
        .beside("client's share of the processors, noop", median(&mut noop_shares));
    Ok(vec![figure])
}

/// The same with the store in memory, of noop: begun when nothing else is measured, because it takes memory for every job.
async fn in_memory(bench: &Bench, noop: SocketAddr, span: Duration) -> Result<f64, BenchError> {
    let trio = bench.start_in_memory().await?;
    let gateway = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let body = load::payload();
    let request = |address| load::request("POST", address, "/api1/process", &body);
    let failed = || BenchError::io("put load on a server");
    load::for_a_while(gateway, &request(gateway), WARM_UP).await.map_err(failed())?;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let reference = load::for_a_while(noop, &request(noop), span).await.map_err(failed())?;
        let unstored = load::for_a_while(gateway, &request(gateway), span).await.map_err(failed())?;
        ratios.push(unstored.per_second() / reference.per_second());
    }
    Ok(median(&mut ratios))
}
