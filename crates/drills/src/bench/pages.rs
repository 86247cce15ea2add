//! The dashboard: how soon a page is there from a store that holds very many jobs, under load, and what a browser that is left
//! open on it costs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::process::clock;
use reqwest::Method;
use tokio::sync::Semaphore;

use super::load::Connection;
use super::read::{LOAD, STEP, fill, let_go};
use super::usage::cpu_of;
use super::{Bench, BenchError, load, median, percentile, say};
use crate::client::Http;
use crate::figure::{Figure, Goal};
use crate::trio::Trio;

/// Most milliseconds for a page, 99 of 100 times.
const GOAL_MS: f64 = 50.0;
/// Most that an open dashboard adds to the gateway's processor time for each job, in percent.
const COST_GOAL_PERCENT: f64 = 3.0;
/// A page's script fetches it anew no more often, see `live.js`.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let (jobs, rounds) = if bench.quick { (50_000, 50) } else { (1_000_000, 300) };
    let (pairs, span) = if bench.quick { (1, Duration::from_secs(3)) } else { (5, Duration::from_secs(6)) };
    say(&format!("pages of the dashboard with {jobs} jobs stored"));
    let (_sink, sink) = bench.reference("sink").await?;
    let mut trio = bench.start(1, &format!("http://{sink}/"), &[]).await?;
    let gateway: SocketAddr = trio.gateway().address().parse().expect("the gateway's address was read as one");
    let mut connection = Connection::open(gateway).await.map_err(BenchError::io("ask the gateway"))?;
    fill(&mut connection, gateway, jobs).await?;
    let mut pages = page_times(&trio, &mut connection, gateway, rounds).await?;
    say(&format!("an open dashboard, {pairs} pairs of {span:?}"));
    let (mut added, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let without = cpu_per_job(&mut trio, gateway, span, false).await?;
        let with = cpu_per_job(&mut trio, gateway, span, true).await?;
        added.push((with / without - 1.0) * 100.0);
        alone.push(without * 1e6);
    }
    Ok(vec![
        Figure::new(
            &format!("a page with {jobs} jobs, p99"),
            percentile(&mut pages, 0.99),
            "ms",
            Goal::AtMost(GOAL_MS),
        )
        .beside("p50, ms", percentile(&mut pages, 0.5)),
        Figure::new("an open dashboard adds to a job's CPU", median(&mut added), "%", Goal::AtMost(COST_GOAL_PERCENT))
            .beside("gateway's CPU for a job without it, us", median(&mut alone)),
    ])
}

/// The milliseconds that each page took, while jobs come and are delivered.
async fn page_times(
    trio: &Trio,
    connection: &mut Connection,
    gateway: SocketAddr,
    rounds: usize,
) -> Result<Vec<f64>, BenchError> {
    let listed = trio.gateway().call(Method::GET, "/api1/jobs?limit=1").await?;
    let listed: serde_json::Value = listed.json()?;
    let job = format!("/jobs/{}", listed["jobs"][0]["id"].as_str().unwrap_or_default());
    let paths = [
        "/",
        "/destinations/api2",
        "/jobs",
        "/jobs?state=pending&destination=api2",
        "/jobs?q=no-such-text",
        "/dead-letters",
        &job,
    ];
    let questions = paths.map(|path| load::request("GET", gateway, path, ""));
    let post = load::request("POST", gateway, "/api1/process", &load::payload());
    let permits = Arc::new(Semaphore::new(0));
    let loading = load::as_permitted(gateway, &post, &permits);
    let asking = async {
        let took = tokio::select! {
            took = ask(connection, &questions, rounds) => took,
            never = let_go(&permits) => match never {},
        };
        permits.close();
        took
    };
    let (done, took) = tokio::join!(loading, asking);
    done.map_err(BenchError::io("put load on the gateway"))?;
    took
}

async fn ask(connection: &mut Connection, questions: &[Arc<[u8]>], rounds: usize) -> Result<Vec<f64>, BenchError> {
    let mut took = Vec::with_capacity(rounds * questions.len());
    for _ in 0..rounds {
        for question in questions {
            tokio::time::sleep(STEP).await;
            let began = clock::instant();
            connection.exchange(question).await.map_err(BenchError::io("ask for a page"))?;
            took.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    Ok(took)
}

/// The gateway's processor time for each job of a steady load, in seconds, with or without a browser open on the overview.
async fn cpu_per_job(trio: &mut Trio, gateway: SocketAddr, span: Duration, open: bool) -> Result<f64, BenchError> {
    let id = trio.gateway_process().id();
    let url = trio.gateway().url().to_owned();
    let post = load::request("POST", gateway, "/api1/process", &load::payload());
    let permits = Arc::new(Semaphore::new(0));
    let loading = load::as_permitted(gateway, &post, &permits);
    let before = cpu_of(id);
    let watching = async {
        let over = tokio::time::sleep(span);
        tokio::select! {
            () = over => {}
            never = let_go(&permits) => match never {},
            watched = watch(&url), if open => watched?,
        }
        permits.close();
        Ok::<(), BenchError>(())
    };
    let (done, watched) = tokio::join!(loading, watching);
    watched?;
    let done = done.map_err(BenchError::io("put load on the gateway"))?;
    debug_assert!(done.per_second() < 2.0 * LOAD as f64);
    Ok((cpu_of(id) - before).as_secs_f64() / done.answers.max(1) as f64)
}

/// What the page's script does: listens, and fetches the page when something is told, once a second at most.
async fn watch(url: &str) -> Result<(), BenchError> {
    let http = Http::new();
    let failed = |error: reqwest::Error| BenchError::io("keep a dashboard open")(std::io::Error::other(error));
    let events = http.request(Method::GET, format!("{url}/api1/events?kinds=gate,counters"));
    let mut events = events.timeout(Duration::from_secs(3_600)).send().await.map_err(failed)?;
    let mut fetched = None;
    while events.chunk().await.map_err(failed)?.is_some() {
        let now = clock::instant();
        if fetched.is_none_or(|at| now.duration_since(at) >= REFRESH) {
            fetched = Some(now);
            let page = http.request(Method::GET, format!("{url}/")).send().await.map_err(failed)?;
            page.bytes().await.map_err(failed)?;
        }
    }
    Ok(())
}
