//! A destination that swallows calls, among very many that do not: what the others still get.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::drain::Counter;
use super::load::Connection;
use super::{Bench, BenchError, load, median, say};
use crate::figure::{Figure, Goal};
use crate::trio::ports::ANY_PORT;

/// How much of their throughput the others keep.
const GOAL: f64 = 0.95;

const ROUNDS: usize = 5;

/// The one that may swallow calls.
const HOLE: &str = "hole";

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let (others, jobs_each) = if bench.quick { (100, 20) } else { (999, 60) };
    say(&format!("{} destinations, one of them a black hole", others + 1));
    let (_sink, sink) = bench.reference("sink").await?;
    let (mut ratios, mut withs, mut withouts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let without = drain_others(bench, sink, others, jobs_each, false).await?;
        let with = drain_others(bench, sink, others, jobs_each, true).await?;
        ratios.push(with / without);
        withs.push(with);
        withouts.push(without);
    }
    let name = format!("{others} destinations beside a black hole, of without");
    let figure = Figure::new(&name, median(&mut ratios), "", Goal::AtLeast(GOAL))
        .beside("drained /s", median(&mut withs))
        .beside("without it /s", median(&mut withouts));
    Ok(vec![figure])
}

/// Stores `jobs_each` jobs for each of `others` destinations, and drains them. With `hole`, its jobs come before all others.
/// Answers with the others' deliveries per second.
async fn drain_others(
    bench: &Bench,
    sink: SocketAddr,
    others: usize,
    jobs_each: usize,
    hole: bool,
) -> Result<f64, BenchError> {
    let (swallows, _swallowing) = black_hole().await.map_err(BenchError::io("make a black hole"))?;
    let mut settings = format!("[destinations.{HOLE}]\nurl = \"http://{swallows}/\"\n");
    for n in 0..others {
        writeln!(settings, "[destinations.d{n}]\nurl = \"http://{sink}/{n}\"")
            .expect("a string takes whatever is written");
    }
    let mut trio = bench.start_with_file(&settings).await?;
    let gateway: SocketAddr = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let mut connection = Connection::open(gateway).await.map_err(BenchError::io("connect to the gateway"))?;
    let first = if hole { vec![HOLE.to_owned(); jobs_each] } else { Vec::new() };
    // In turns, so that none is done before the others.
    let rest = (0..jobs_each * others).map(|n| format!("d{}", n % others));
    let all: Vec<String> = first.into_iter().chain(rest).collect();
    for batch in all.chunks(1_000) {
        let items = batch.iter().map(|name| format!(r#"{{"destination":"{name}","payload":{}}}"#, load::payload()));
        let body = format!("[{}]", items.collect::<Vec<_>>().join(","));
        let request = load::request("POST", gateway, "/api1/jobs", &body);
        connection.exchange(&request).await.map_err(BenchError::io("fill the store"))?;
    }
    let mut counter = Counter::open(sink).await?;
    counter.clear().await?;
    trio.add_worker().await?;
    counter.all(jobs_each * others, &trio).await
}

/// Takes connections and requests, and never answers. It ends with the task in the answer.
async fn black_hole() -> io::Result<(SocketAddr, AbortOnDrop)> {
    let listener = TcpListener::bind(ANY_PORT).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        let mut swallowed = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            swallowed.push(stream);
        }
    });
    Ok((address, AbortOnDrop(task)))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
