//! Draining: stored jobs delivered to a fast destination, beside the same client calling the same destination with nothing stored.

use std::net::SocketAddr;
use std::time::Duration;

use super::load::Connection;
use super::sink::Seen;
use super::usage::{self, Cpu};
use super::{Bench, BenchError, load, median, say};
use crate::figure::{Figure, Goal};
use crate::trio::{Trio, leash};
use crate::wait;
use jobs_core::process::clock;

/// How much of `direct`'s rate draining must reach.
const GOAL: f64 = 0.6;

const ROUNDS: usize = 5;

/// Far above what draining takes, so that whoever waits for it is not left waiting.
const DRAIN_LIMIT: Duration = Duration::from_secs(300);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let jobs = if bench.quick { 4_000 } else { 100_000 };
    say(&format!("draining {jobs} stored jobs, beside direct calls"));
    let (_sink, sink) = bench.reference("sink").await?;
    let url = format!("http://{sink}/");
    let mut trio = bench.start(0, &url, &[]).await?;
    let gateway: SocketAddr = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let post = load::request("POST", gateway, "/api1/process", &load::payload());
    let mut counter = Counter::open(sink).await?;
    let (mut ratios, mut drains, mut directs, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let direct = direct(bench, &url, sink, jobs).await?;
        load::times(gateway, &post, jobs).await.map_err(BenchError::io("store jobs"))?;
        counter.clear().await?;
        let (began, cpu) = (clock::instant(), Cpu::of_this_process());
        trio.add_worker().await?;
        let drained = counter.all(jobs, &trio).await?;
        let ours = Cpu::of_this_process().since(cpu).as_secs_f64();
        shares.push(ours / (began.elapsed().as_secs_f64() * usage::cores() as f64));
        stop_worker(&mut trio).await?;
        ratios.push(drained / direct);
        drains.push(drained);
        directs.push(direct);
    }
    let figure =
        Figure::new(&format!("draining {jobs} stored jobs, of direct"), median(&mut ratios), "", Goal::AtLeast(GOAL))
            .beside("drained /s", median(&mut drains))
            .beside("direct /s", median(&mut directs))
            .beside("client's share of the processors", median(&mut shares));
    Ok(vec![figure])
}

/// Direct calls per second of the usual payload: see [`direct_with`].
pub(super) async fn direct(bench: &Bench, url: &str, sink: SocketAddr, calls: usize) -> Result<f64, BenchError> {
    direct_with(bench, url, sink, calls, load::USUAL_PAYLOAD).await
}

/// Calls the destination as the worker would, with nothing stored: `drill direct`. Answers with the calls per second.
pub(super) async fn direct_with(
    bench: &Bench,
    url: &str,
    sink: SocketAddr,
    calls: usize,
    payload: usize,
) -> Result<f64, BenchError> {
    let mut counter = Counter::open(sink).await?;
    counter.clear().await?;
    let drill = bench.programs.drill();
    let numbers = [calls, load::CONNECTIONS, payload].map(|number| number.to_string());
    let status = leash::command(&drill, &drill).args(["direct", url]).args(numbers).status();
    let status = status.map_err(BenchError::io("start direct calls"))?;
    if !status.success() {
        let failed = std::io::Error::other(format!("it ended ({status})"));
        return Err(BenchError::io("call directly")(failed));
    }
    Ok(counter.seen().await?.per_second())
}

/// Waits until all outcomes are stored, and ends the worker, so that the next round begins with none.
pub(super) async fn stop_worker(trio: &mut Trio) -> Result<(), BenchError> {
    let idle =
        wait::until(DRAIN_LIMIT, async || trio.gateway().stats().await.ok().filter(|stats| stats.waiting() == 0));
    if idle.await.is_none() {
        return Err(stuck("settling", trio));
    }
    let worker = trio.workers().last_mut().expect("a worker was added before");
    worker.terminate();
    worker.exited(DRAIN_LIMIT).await?;
    Ok(())
}

/// Reads what the sink has seen.
pub(super) struct Counter {
    connection: Connection,
    read: std::sync::Arc<[u8]>,
    clear: std::sync::Arc<[u8]>,
}

impl Counter {
    pub(super) async fn open(sink: SocketAddr) -> Result<Self, BenchError> {
        let connection = Connection::open(sink).await.map_err(BenchError::io("connect to the sink"))?;
        let request = |method| load::request(method, sink, "/seen", "");
        Ok(Counter { connection, read: request("GET"), clear: request("DELETE") })
    }

    pub(super) async fn seen(&mut self) -> Result<Seen, BenchError> {
        let answer = self.connection.exchange(&self.read).await.map_err(BenchError::io("ask the sink"))?;
        serde_json::from_slice(answer).map_err(|error| BenchError::io("read the sink's answer")(error.into()))
    }

    pub(super) async fn clear(&mut self) -> Result<(), BenchError> {
        self.connection.exchange(&self.clear).await.map(drop).map_err(BenchError::io("clear the sink"))
    }

    /// Waits until `jobs` have arrived; answers with their rate per second, from the first to the last.
    pub(super) async fn all(&mut self, jobs: usize, trio: &Trio) -> Result<f64, BenchError> {
        let mut failed = None;
        let seen = wait::until(DRAIN_LIMIT, async || match self.seen().await {
            Ok(seen) => (seen.requests >= jobs as u64).then_some(seen),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        match (seen.await, failed) {
            (Some(seen), _) => Ok(seen.per_second()),
            (None, Some(error)) => Err(error),
            (None, None) => Err(stuck("draining", trio)),
        }
    }
}

fn stuck(what: &'static str, trio: &Trio) -> BenchError {
    BenchError::Stuck { what, limit: DRAIN_LIMIT, folder: trio.folder().display().to_string() }
}
