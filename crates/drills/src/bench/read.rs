//! Reading: lists and statistics of a store that holds very many jobs, while others come and are delivered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::process::clock;
use tokio::sync::Semaphore;

use super::load::Connection;
use super::{Bench, BenchError, load, percentile, say};
use crate::figure::{Figure, Goal};

/// Most milliseconds for a list or the statistics, 99 of 100 times.
const GOAL_MS: f64 = 20.0;

/// Jobs per second that come and are delivered meanwhile: a good part of what two cores do, and room to read.
pub(super) const LOAD: usize = 2_000;

/// How often some of them are let go: small enough that they do not arrive in bursts.
pub(super) const STEP: Duration = Duration::from_millis(5);

/// Jobs of one call while the store is filled.
const BATCH: usize = 1_000;

/// They stay for the whole run.
const LATER: &str = r#","delay_ms":86400000"#;

/// What people and dashboards ask: a page of everything, of what waits, of what ended, of what is there not at all, of what
/// waits for one destination, and the counts.
const QUESTIONS: [&str; 6] = [
    "/api1/jobs?limit=50",
    "/api1/jobs?state=pending&limit=50",
    "/api1/jobs?state=succeeded&destination=api2&limit=50",
    "/api1/jobs?state=dead&limit=50",
    "/api1/jobs?state=pending&destination=api2&limit=50",
    "/api1/stats",
];

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let (jobs, rounds) = if bench.quick { (50_000, 50) } else { (1_000_000, 500) };
    say(&format!("lists and statistics with {jobs} jobs stored"));
    let (_sink, sink) = bench.reference("sink").await?;
    let trio = bench.start(1, &format!("http://{sink}/"), &[]).await?;
    let gateway: SocketAddr = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let failed = || BenchError::io("ask the gateway");
    let mut connection = Connection::open(gateway).await.map_err(failed())?;
    fill(&mut connection, gateway, jobs).await?;
    let post = load::request("POST", gateway, "/api1/process", &load::payload());
    let permits = Arc::new(Semaphore::new(0));
    let loading = load::as_permitted(gateway, &post, &permits);
    let asking = async {
        let took = tokio::select! {
            took = ask_all(&mut connection, gateway, rounds) => took,
            never = let_go(&permits) => match never {},
        };
        permits.close();
        took
    };
    let (done, took) = tokio::join!(loading, asking);
    let done = done.map_err(BenchError::io("put load on the gateway"))?;
    let per_second = done.per_second();
    let figures = took?.into_iter().map(|(name, mut millis)| {
        Figure::new(
            &format!("{name} with {jobs} jobs, p99"),
            percentile(&mut millis, 0.99),
            "ms",
            Goal::AtMost(GOAL_MS),
        )
        .beside("p50, ms", percentile(&mut millis, 0.5))
        .beside("accepted and delivered beside /s", per_second)
    });
    Ok(figures.collect())
}

/// Stores `jobs` that are for later.
pub(super) async fn fill(connection: &mut Connection, gateway: SocketAddr, jobs: usize) -> Result<(), BenchError> {
    let stored = load::request("POST", gateway, "/api1/jobs", &load::batch(&load::payload(), LATER, BATCH));
    for _ in 0..jobs / BATCH {
        connection.exchange(&stored).await.map_err(BenchError::io("fill the store"))?;
    }
    Ok(())
}

/// Lets the load go on at its rate, for as long as it is polled.
pub(super) async fn let_go(permits: &Semaphore) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(STEP);
    loop {
        ticks.tick().await;
        permits.add_permits(LOAD * STEP.as_millis() as usize / 1_000);
    }
}

/// Asks every question `rounds` times; answers with the milliseconds each took, lists and statistics apart.
async fn ask_all(
    connection: &mut Connection,
    gateway: SocketAddr,
    rounds: usize,
) -> Result<[(&'static str, Vec<f64>); 2], BenchError> {
    let questions = QUESTIONS.map(|path| (path.contains("jobs"), load::request("GET", gateway, path, "")));
    let (mut lists, mut stats) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (is_list, question) in &questions {
            // Evenly over time, so that what happens now and then beside is met as often as people meet it.
            tokio::time::sleep(STEP).await;
            let began = clock::instant();
            connection.exchange(question).await.map_err(BenchError::io("ask the gateway"))?;
            let millis = began.elapsed().as_secs_f64() * 1_000.0;
            if *is_list { lists.push(millis) } else { stats.push(millis) }
        }
    }
    Ok([("a list", lists), ("statistics", stats)])
}
