//! The hands of Holdfast: claims jobs from a gateway, calls their destinations, reports what happened.
//!
//! A job's trip, in reading order: [`config`] says for whom and how much, [`gateway`] talks to the job store, [`claim`] asks it
//! for work, [`held`] keeps the leases, [`young`] lets a call begin, [`attempt`] makes it, [`answer`] reads what came back,
//! [`report`] hands the outcomes to the gateway. [`heartbeat`] renews the leases meanwhile, [`probe`] calls health checks,
//! [`health`] says whether all is well; with the feature `otlp`, the module of that name tells a collector of each attempt.
//!
//! It decides nothing about jobs: it reports facts, and the gateway applies the rules. It holds no state that matters, and no
//! database: kill it at any time, and its jobs are granted again within seconds.

mod answer;
mod attempt;
mod cause;
mod claim;
pub mod config;
mod gateway;
mod health;
mod heartbeat;
pub mod held;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod probe;
pub mod report;
mod urls;
mod young;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::job::WorkerId;
use jobs_core::process::clock::{self, Clock};
use jobs_core::process::shutdown::Shutdown;
use jobs_core::process::tasks;
use reqwest::Client;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::gateway::Gateway;
use crate::held::Held;
use crate::metrics::Metrics;
use crate::report::Report;
use crate::urls::Urls;
use crate::young::Young;

/// How long a connection may take to come about, whatever the attempt's own timeout: longer than any that still works.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept: below the 5 s after which many servers close theirs, because a request that meets
/// the closing connection is lost without anybody knowing whether it was heard.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// Why the worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot set up the HTTP client (a system without CA certificates needs the package ca-certificates): {0}")]
    Client(reqwest::Error),
    #[error("cannot serve health and metrics: {0}")]
    Listen(io::Error),
    #[cfg(feature = "otlp")]
    #[error("cannot set up the export of spans: {0}")]
    Spans(opentelemetry_otlp::ExporterBuildError),
}

/// What all parts of a worker share.
struct Worker {
    id: WorkerId,
    concurrency: u32,
    clock: Clock,
    /// The one HTTP client, for destinations and gateways alike.
    client: Client,
    gateway: Gateway,
    held: Held,
    young: Young,
    reports: mpsc::UnboundedSender<Report>,
    health_checks: Arc<Semaphore>,
    metrics: Metrics,
    urls: Urls,
    #[cfg(feature = "otlp")]
    spans: Option<otlp::Spans>,
    shutdown: Shutdown,
}

/// Works until the shutdown is triggered and the drain is over. `listener` serves `/livez`, `/readyz` and `/metrics`.
///
/// The drain: nothing more is claimed, leases not yet sent are released, calls in flight end, all outcomes are reported. What
/// has not ended when `config.grace` is over is left to lapse, which the gateway notices within seconds, and the exit code is then a
/// failure. Call it inside a tokio runtime.
///
/// # Errors
/// [`RunError`] when it cannot start.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), RunError> {
    let client = client(config.concurrency).map_err(RunError::Client)?;
    let clock = Clock::new();
    let id = WorkerId(clock::new_uuid());
    #[cfg(feature = "otlp")]
    let spans = match &config.otlp_endpoint {
        Some(collector) => Some(otlp::Spans::to(collector, id, client.clone()).map_err(RunError::Spans)?),
        None => None,
    };
    let (reports, inbox) = mpsc::unbounded_channel();
    let worker = Arc::new(Worker {
        id,
        concurrency: config.concurrency,
        clock,
        gateway: Gateway::new(client.clone(), clock, &config),
        client,
        held: Held::new(config.concurrency),
        young: Young::new(),
        reports,
        health_checks: Arc::new(Semaphore::new(probe::MAX_UNDER_WAY)),
        metrics: Metrics::default(),
        urls: Urls::default(),
        #[cfg(feature = "otlp")]
        spans,
        shutdown: shutdown.clone(),
    });
    let address = listener.local_addr().map_err(RunError::Listen)?;
    let server = health::serve(listener, worker.clone()).map_err(RunError::Listen)?;
    let stop_serving = server.handle();
    let gateways: Vec<String> = config.gateways.iter().map(ToString::to_string).collect();
    log::info!(worker:% = worker.id, listen:% = address, concurrency = config.concurrency, gateway = gateways.join(","); "working");

    let served = tasks::supervise("health", &shutdown, async move {
        if let Err(error) = server.await {
            log::error!("cannot serve health and metrics: {error}");
        }
    });
    let heartbeat = tasks::supervise("heartbeat", &shutdown, heartbeat::run(worker.clone()));
    let reporter = tasks::supervise("report", &shutdown, report::run(worker.clone(), inbox));
    let claims = [(); claim::CLAIMS].map(|()| tasks::supervise("claim", &shutdown, claim::run(worker.clone())));

    shutdown.wait().await;
    #[cfg(feature = "otlp")]
    let asked = clock.now().mono;
    drain(&worker, claims, config.grace).await;
    #[cfg(feature = "otlp")]
    if let Some(spans) = &worker.spans {
        spans.flush(config.grace.saturating_sub(clock.now().mono.since(asked))).await;
    }
    reporter.abort();
    heartbeat.abort();
    stop_serving.stop(false).await;
    served.abort();
    Ok(())
}

/// Waits until nothing is held any more, at most for `grace`.
async fn drain(worker: &Worker, claims: impl IntoIterator<Item = JoinHandle<()>>, grace: Duration) {
    worker.held.drain();
    log::info!(in_flight = worker.held.in_flight(), held = worker.held.len(); "no more is claimed; waiting for what is held");
    let drained = async {
        for claims in claims {
            if claims.await.is_err() {
                log::error!("a claim loop panicked");
            }
        }
        worker.held.drained().await;
    };
    if tokio::time::timeout(grace, drained).await.is_err() {
        let (in_flight, held) = (worker.held.in_flight(), worker.held.len());
        log::error!(in_flight, held; "the grace period is over: what is still held will lapse and be granted again");
        worker.shutdown.fail();
    }
}

/// An HTTP client that sends what it is told, once, and to nobody else: no retries, redirects or proxies, and no header of its own
/// but `Accept: */*`. Timeouts of whole calls are the callers'.
fn client(concurrency: u32) -> Result<Client, reqwest::Error> {
    Client::builder()
        .http1_only()
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(concurrency as usize)
        .build()
}
