//! Durable accept: how many requests per second are on disk and answered, beside a server that only answers.
//!
//! The same gateway with the store in memory is measured with them: what is missing there is the cost of its HTTP side, and
//! only the rest that of the disk.

use std::time::Duration;

use super::{Bench, BenchError, NOWHERE, load, median, say};
use crate::figure::{Figure, Goal};

/// How much of noop's rate a durable accept must reach.
const GOAL: f64 = 0.6;

const ROUNDS: usize = 5;

/// Connections, caches and the allocator have settled after this.
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    say("durable accept, beside noop");
    let span = Duration::from_millis(if bench.quick { 1_000 } else { 4_000 });
    let (_noop, noop) = bench.reference("noop").await?;
    let trio = bench.start(0, NOWHERE, &[]).await?;
    let gateway = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let in_memory = bench.start(0, NOWHERE, &["--store", "memory:"]).await?;
    let in_memory = in_memory.gateway().address().parse().expect("the gateway's address was read as one");
    let body = load::payload();
    let [to_noop, to_gateway, to_memory] =
        [noop, gateway, in_memory].map(|address| load::request("POST", address, "/api1/process", &body));
    let failed = || BenchError::io("put load on a server");
    for (address, request) in [(noop, &to_noop), (gateway, &to_gateway), (in_memory, &to_memory)] {
        load::for_a_while(address, request, WARM_UP).await.map_err(failed())?;
    }
    let (mut ratios, mut unstored, mut gateways, mut noops) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut shares, mut noop_shares) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let reference = load::for_a_while(noop, &to_noop, span).await.map_err(failed())?;
        let durable = load::for_a_while(gateway, &to_gateway, span).await.map_err(failed())?;
        let forgetful = load::for_a_while(in_memory, &to_memory, span).await.map_err(failed())?;
        ratios.push(durable.per_second() / reference.per_second());
        unstored.push(forgetful.per_second() / reference.per_second());
        gateways.push(durable.per_second());
        noops.push(reference.per_second());
        shares.push(durable.client_share());
        noop_shares.push(reference.client_share());
    }
    let figure = Figure::new("durable accept, 64 connections, of noop", median(&mut ratios), "", Goal::AtLeast(GOAL))
        .beside("stored in memory only, of noop", median(&mut unstored))
        .beside("accepted /s", median(&mut gateways))
        .beside("noop /s", median(&mut noops))
        .beside("client's share of the processors", median(&mut shares))
        .beside("client's share of the processors, noop", median(&mut noop_shares));
    Ok(vec![figure])
}
