//! Large payloads: megabytes per second accepted and drained, beside the references with the same payloads.

use std::time::Duration;

use super::drain::{self, Counter};
use super::{Bench, BenchError, NOWHERE, load, median, say};
use crate::figure::{Figure, Goal};

/// How much of the references' bytes must go in and out.
const GOAL: f64 = 0.5;

const ROUNDS: usize = 5;

const PAYLOAD: usize = 100 * 1024;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    say("payloads of 100 KiB, accepted and drained");
    Ok(vec![accept(bench).await?, drain(bench).await?])
}

async fn accept(bench: &Bench) -> Result<Figure, BenchError> {
    let span = Duration::from_millis(if bench.quick { 500 } else { 2_000 });
    let (_noop, noop) = bench.reference("noop").await?;
    let trio = bench.start(0, NOWHERE, &[]).await?;
    let gateway = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let body = load::payload_of(PAYLOAD);
    let request = |address| load::request("POST", address, "/api1/process", &body);
    let mut compared = Compared::default();
    for _ in 0..ROUNDS {
        let failed = || BenchError::io("put load on a server");
        let reference = load::for_a_while(noop, &request(noop), span).await.map_err(failed())?;
        let durable = load::for_a_while(gateway, &request(gateway), span).await.map_err(failed())?;
        compared.add(durable.per_second(), reference.per_second());
    }
    Ok(compared.figure("100 KiB payloads accepted, of noop", "noop MB/s"))
}

async fn drain(bench: &Bench) -> Result<Figure, BenchError> {
    let jobs = if bench.quick { 200 } else { 2_000 };
    let (_sink, sink) = bench.reference("sink").await?;
    let url = format!("http://{sink}/");
    let mut trio = bench.start(0, &url, &[]).await?;
    let gateway = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let post = load::request("POST", gateway, "/api1/process", &load::payload_of(PAYLOAD));
    let mut counter = Counter::open(sink).await?;
    let mut compared = Compared::default();
    for _ in 0..ROUNDS {
        let direct = drain::direct_with(bench, &url, sink, jobs, PAYLOAD).await?;
        load::times(gateway, &post, jobs).await.map_err(BenchError::io("store jobs"))?;
        counter.clear().await?;
        trio.add_worker().await?;
        let drained = counter.all(jobs, &trio).await?;
        drain::stop_worker(&mut trio).await?;
        compared.add(drained, direct);
    }
    Ok(compared.figure("100 KiB payloads drained, of direct", "direct MB/s"))
}

/// Rates of both sides, round by round.
#[derive(Default)]
struct Compared {
    ours: Vec<f64>,
    references: Vec<f64>,
    ratios: Vec<f64>,
}

impl Compared {
    /// Payloads per second.
    fn add(&mut self, ours: f64, reference: f64) {
        self.ours.push(ours);
        self.references.push(reference);
        self.ratios.push(ours / reference);
    }

    fn figure(mut self, name: &str, reference: &str) -> Figure {
        let megabytes = |rates: &mut [f64]| median(rates) * PAYLOAD as f64 / 1e6;
        Figure::new(name, median(&mut self.ratios), "", Goal::AtLeast(GOAL))
            .beside("MB/s", megabytes(&mut self.ours))
            .beside(reference, megabytes(&mut self.references))
    }
}
