//! Batches: what one importing program gains by handing in a thousand jobs with one call instead of a thousand calls.
//!
//! One connection on both sides, because that is what such a program has: a call, its answer, the next call.

use std::net::SocketAddr;
use std::time::Duration;

use jobs_core::process::clock;

use super::load::Connection;
use super::{Bench, BenchError, NOWHERE, load, median, say};
use crate::figure::{Figure, Goal};

/// Jobs per second by batches, of those by single posts.
const GOAL: f64 = 5.0;

const ROUNDS: usize = 5;

const BATCH: usize = 1_000;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    say("a batch of 1,000, beside single posts");
    let span = Duration::from_millis(if bench.quick { 500 } else { 2_000 });
    let trio = bench.start(0, NOWHERE, &[]).await?;
    let gateway: SocketAddr = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let payload = load::payload();
    let single = load::request("POST", gateway, "/api1/process", &payload);
    let batch = load::request("POST", gateway, "/api1/jobs", &load::batch(&payload, "", BATCH));
    let mut connection = Connection::open(gateway).await.map_err(BenchError::io("connect to the gateway"))?;
    let (mut ratios, mut singles, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let one = repeat(&mut connection, &single, span).await?;
        let many = repeat(&mut connection, &batch, span).await? * BATCH as f64;
        ratios.push(many / one);
        singles.push(one);
        batches.push(many);
    }
    let figure = Figure::new("jobs in batches of 1,000, of single posts", median(&mut ratios), "", Goal::AtLeast(GOAL))
        .beside("in batches /s", median(&mut batches))
        .beside("by single posts /s", median(&mut singles));
    Ok(vec![figure])
}

/// Calls per second, one after the other.
async fn repeat(connection: &mut Connection, request: &[u8], span: Duration) -> Result<f64, BenchError> {
    let (began, mut calls) = (clock::instant(), 0_u32);
    while began.elapsed() < span {
        connection.exchange(request).await.map_err(BenchError::io("hand in jobs"))?;
        calls += 1;
    }
    Ok(f64::from(calls) / began.elapsed().as_secs_f64())
}
