//! Steady state: the highest rate at which as much is delivered as is accepted, beside direct calls.
//!
//! More is let in only as far as what came before was delivered, so the rate finds itself: with a bounded backlog, accepting
//! cannot run ahead of delivering, and neither side waits for the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::process::clock;
use tokio::sync::Semaphore;

use super::drain::{self, Counter};
use super::memory::CloseOnDrop;
use super::{Bench, BenchError, load, median, say};
use crate::figure::{Figure, Goal};
use crate::trio::Trio;

/// How much of `direct`'s rate must come in and go out.
const GOAL: f64 = 0.4;

const ROUNDS: usize = 5;

/// Accepted and not yet delivered, at most: a fraction of a second's work.
const BACKLOG: u64 = 4_000;

/// How often more is let in.
const STEP: Duration = Duration::from_millis(10);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let (span, calls) = if bench.quick { (1, 4_000) } else { (12, 100_000) };
    let span = Duration::from_secs(span);
    say(&format!("steady state, {ROUNDS} times {span:?}, beside direct calls"));
    let (_sink, sink) = bench.reference("sink").await?;
    let url = format!("http://{sink}/");
    let trio = bench.start(1, &url, &[]).await?;
    let (mut ratios, mut rates, mut directs) = (Vec::new(), Vec::new(), Vec::new());
    // Connections, caches, the allocator and the gate have settled after this.
    rate(&trio, sink, span / 4).await?;
    for _ in 0..ROUNDS {
        let direct = drain::direct(bench, &url, sink, calls).await?;
        let steady = rate(&trio, sink, span).await?;
        ratios.push(steady / direct);
        rates.push(steady);
        directs.push(direct);
    }
    let figure = Figure::new("accepted = delivered, of direct", median(&mut ratios), "", Goal::AtLeast(GOAL))
        .beside("accepted and delivered /s", median(&mut rates))
        .beside("direct /s", median(&mut directs));
    Ok(vec![figure])
}

/// Jobs per second that came in and were delivered to `sink`, for `span`; all are delivered when it answers.
pub(super) async fn rate(trio: &Trio, sink: SocketAddr, span: Duration) -> Result<f64, BenchError> {
    let gateway = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let post = load::request("POST", gateway, "/api1/process", &load::payload());
    let mut counter = Counter::open(sink).await?;
    counter.clear().await?;
    let permits = Arc::new(Semaphore::new(0));
    let loading = load::as_permitted(gateway, &post, &permits);
    let (done, delivered) = tokio::join!(loading, let_in(&permits, &mut counter, span));
    let accepted = done.map_err(BenchError::io("put load on the gateway"))?.answers;
    let rate = delivered? as f64 / span.as_secs_f64();
    counter.all(usize::try_from(accepted).unwrap_or(usize::MAX), trio).await?;
    Ok(rate)
}

/// Lets requests in as far as the backlog allows, for `span`; answers with how many jobs were delivered by then.
async fn let_in(permits: &Semaphore, counter: &mut Counter, span: Duration) -> Result<u64, BenchError> {
    let _end_of_load = CloseOnDrop(permits);
    let began = clock::instant();
    let (mut permitted, mut delivered) = (0, 0);
    while began.elapsed() < span {
        delivered = counter.seen().await?.requests;
        let allowed = (delivered + BACKLOG).saturating_sub(permitted);
        permits.add_permits(usize::try_from(allowed).unwrap_or(0));
        permitted += allowed;
        tokio::time::sleep(STEP).await;
    }
    Ok(delivered)
}
