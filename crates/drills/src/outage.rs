//! The outage drill: API 2 is down, jobs are posted, it comes back, everything drains, and the observers are compared.
//!
//! Jobs are posted all through the outage, as callers would, by a client that keeps a ledger. What the drill reports as lost,
//! delivered or duplicated comes from [`crate::invariants`]; times come from api2-flaky's ledger, not from polling.

mod model;
pub mod observe;
mod picture;
mod report;
mod rows;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jobs_core::process::clock;
use jobs_core::process::secret::Secret;
use tokio::task::JoinSet;

use self::model::Outage;
use self::report::Measured;
use self::rows::{Rows, Written};
use self::watch::Watch;
use crate::client::{Api2, CallError, Gateway, Http};
use crate::error::DrillError;
use crate::invariants;
use crate::ledger::{self, ClientLedger, Intent};
use crate::report::Progress;
use crate::steady::Steady;
use crate::trio::build::Programs;
use crate::trio::{API2, Plan, Trio, TrioError};
use crate::wait;

pub use self::report::OutageReport;

/// How many requests the client has under way at a time: enough to post thousands a second, few beside the workers.
const POSTERS: usize = 16;

/// Jobs are posted over this share of the outage, so that the last of them fail before it ends, too.
const POSTING_SHARE: f64 = 0.8;

/// Far beyond what noticing a recovery takes, and within any outage's drain.
const FIRST_OK_LIMIT: Duration = Duration::from_secs(30);

/// How long the client repeats one request: a gateway that was killed is back within it.
const POST_LIMIT: Duration = Duration::from_secs(60);

/// A 2xx is reported and stored within this.
const REPORTED_LIMIT: Duration = Duration::from_secs(5);

/// How long the drain may take beside what the outage's length and the capacity explain.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// What to play.
#[derive(Debug, Clone)]
pub struct Settings {
    pub jobs: u64,
    /// How long API 2 is down; longer if the jobs take longer to post.
    pub down: Duration,
    /// What API 2 can do per second when it is back; `None`: anything.
    pub capacity: Option<u32>,
    /// Posted while the backlog drains, as a share of that capacity; `None`: nothing is.
    pub fresh: Option<f64>,
    /// Workers to start.
    pub workers: usize,
    /// Chooses the payloads, and is API 2's own seed.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Played {
    pub report: OutageReport,
    /// The same as a picture, beside what would have come of it without a gate: SVG.
    pub picture: String,
}

/// Where the drill is played.
#[derive(Debug)]
pub struct Stage {
    gateway: Gateway,
    api2: Api2,
    /// Our own programs; `None` where they are somebody else's.
    trio: Option<Trio>,
}

impl Stage {
    /// On three programs of its own.
    ///
    /// # Errors
    /// [`TrioError`] when they do not get ready.
    pub async fn own(programs: &Programs, workers: usize) -> Result<Self, TrioError> {
        let trio = Trio::start(programs, Plan { workers, ..Plan::default() }).await?;
        Ok(Stage { gateway: trio.gateway().clone(), api2: trio.api2().clone(), trio: Some(trio) })
    }

    /// On programs that already run; `key`: a client's, where that gateway has keys. The drill sets that API 2's weather and
    /// clears its ledger.
    pub fn given(gateway: &str, api2: &str, key: Option<Secret>) -> Self {
        let http = Http::new();
        let gateway = Gateway::new(gateway, &http).with_key(key);
        Stage { gateway, api2: Api2::new(api2, api2, &http), trio: None }
    }

    /// The rows of the store, where it is ours.
    async fn rows(&self) -> Option<Rows> {
        let folder = self.trio.as_ref()?.folder().to_path_buf();
        tokio::task::spawn_blocking(move || Rows::read(&folder)).await.expect("reading does not panic")
    }

    /// What was written since `before` when the first 2xx of the present weather is known, and its gate's change written: a
    /// moment later, when the worker has reported that 2xx.
    async fn rows_written_since(&self, before: Option<Rows>) -> Option<Written> {
        let before = before?;
        let first = wait::until(FIRST_OK_LIMIT, async || self.api2.ledger().await.ok()?.since_weather.first_ok_at);
        first.await?;
        let written = wait::until(REPORTED_LIMIT, async || {
            Some(before.written_until(&self.rows().await?)).filter(|written| written.gates > 0)
        });
        match written.await {
            Some(written) => Some(written),
            None => Some(before.written_until(&self.rows().await?)),
        }
    }

    /// Keeps the store and the logs of our own programs, and says where.
    pub fn keep(&mut self) -> Option<std::path::PathBuf> {
        self.trio.as_mut().map(Trio::keep_folder)
    }
}

/// Plays the outage.
///
/// # Errors
/// [`DrillError`] when a program cannot be steered; what goes wrong with the jobs is in the report instead.
pub async fn run(stage: &Stage, settings: &Settings, progress: &mut Progress) -> Result<Played, DrillError> {
    let Stage { gateway, api2, .. } = stage;
    // First of all what may fail: a gateway that cannot be asked must not leave somebody's API 2 down and its ledger empty.
    let waiting_before = gateway.stats().await?.waiting();
    gateway.destination(API2).await?;
    let down = serde_json::json!({"mode": "down", "status": 503, "seed": settings.seed});
    api2.set_weather(&down).await?;
    api2.clear_ledger().await?;

    let (mut watch, start, began) = (Watch::new(stage, progress), clock::wall(), clock::instant());
    let (mut client, failures) = watch.during("API 2 is down", post_all(stage, settings)).await;
    let posting = began.elapsed();
    let rest = tokio::time::sleep(settings.down.saturating_sub(began.elapsed()));
    watch.during("API 2 is down", rest).await;
    let down_for = began.elapsed();
    let held_since = watch.samples.iter().rev().find_map(|sample| sample.held_since);
    let held = gateway.destination(API2).await?;
    let rows = stage.rows().await;

    let before = api2.ledger().await?;
    bring_back(api2, settings).await?;
    let (fresh, written) = watch
        .during("API 2 is back", async { tokio::join!(post_fresh(stage, settings), stage.rows_written_since(rows)) })
        .await;
    let limit = drain_limit(settings);
    let drain =
        wait::until(limit, async || gateway.stats().await.ok().filter(|stats| stats.waiting() <= waiting_before));
    watch.during("API 2 is back", drain).await;
    let after = api2.ledger().await?;
    let recovered = gateway.destination(API2).await?;

    client.merge(fresh.clone());
    let testimony = watch.during("comparing", observe::ask(gateway, api2, &client)).await?;
    let counted = if stage.trio.is_some() { Some(observe::counted(gateway).await?) } else { None };
    let findings = invariants::compare(&observe::compile(&testimony, &client, counted));
    let mut report = OutageReport::new(&client, findings, failures);
    // Of the recoveries one ended this outage; what is open still, or again, has not recovered yet.
    let trips = recovered.epoch.saturating_sub(held.epoch) + u64::from(recovered.state == "open");
    report.measured(
        settings,
        &Measured {
            down: down_for,
            before: &before,
            after: &after,
            held_since,
            retrips: trips.saturating_sub(u64::from(held.state == "open")),
            testimony: &testimony,
            fresh: &fresh,
            written,
        },
    );
    let model = Outage {
        jobs: settings.jobs,
        posting,
        fresh: fresh.acknowledged().len() as u64,
        freshly: fresh_for(settings),
        down: down_for,
        per_second: settings.capacity,
    };
    let picture = picture::draw(model, start, &watch.samples, &after, &report);
    Ok(Played { report, picture })
}

/// Posts a share of the capacity on top of the backlog, for as long as the backlog takes by itself.
async fn post_fresh(stage: &Stage, settings: &Settings) -> ClientLedger {
    let (Some(share), Some(capacity)) = (settings.fresh, settings.capacity) else { return ClientLedger::default() };
    let capacity = f64::from(capacity);
    let fresh = Steady::start(&stage.gateway, API2, share * capacity, settings.seed);
    tokio::time::sleep(fresh_for(settings)).await;
    fresh.stop().await
}

/// What the backlog takes by itself.
fn fresh_for(settings: &Settings) -> Duration {
    settings
        .capacity
        .map_or(Duration::ZERO, |capacity| Duration::from_secs_f64(settings.jobs as f64 / f64::from(capacity)))
}

/// Posts all jobs, spread over the outage; answers with the client's ledger and why the others were not acknowledged.
async fn post_all(stage: &Stage, settings: &Settings) -> (ClientLedger, Vec<String>) {
    let run = clock::new_uuid().simple().to_string();
    let pace = settings.down.mul_f64(POSTING_SHARE).div_f64(settings.jobs.max(1) as f64);
    let next = Arc::new(AtomicU64::new(0));
    let began = clock::instant();
    let mut posters = JoinSet::new();
    for _ in 0..POSTERS {
        let (gateway, next, run) = (stage.gateway.clone(), Arc::clone(&next), run.clone());
        let (jobs, seed) = (settings.jobs, settings.seed);
        posters.spawn(async move {
            let mut all = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= jobs {
                    return all;
                }
                tokio::time::sleep(pace.mul_f64(number as f64).saturating_sub(began.elapsed())).await;
                all.push(ledger::post(&gateway, API2, &Intent::numbered(&run, number, seed), POST_LIMIT).await);
            }
        });
    }
    let mut client = ClientLedger::default();
    let mut failures = Vec::new();
    for posted in posters.join_all().await.into_iter().flatten() {
        if posted.id.is_none() {
            failures.push(posted.last_failure.clone().unwrap_or_default());
        }
        client.note(posted);
    }
    (client, failures)
}

async fn bring_back(api2: &Api2, settings: &Settings) -> Result<(), CallError> {
    match settings.capacity {
        None => api2.toggle().await.map(drop),
        Some(per_second) => {
            let weather = serde_json::json!({"mode": "capacity", "per_second": per_second, "seed": settings.seed});
            api2.set_weather(&weather).await
        }
    }
}

/// A job that sleeps on its own timer has slept at most as long as the outage; then the capacity bounds the drain.
fn drain_limit(settings: &Settings) -> Duration {
    let jobs = settings.jobs as f64 * (1.0 + settings.fresh.unwrap_or_default());
    let at_capacity = settings.capacity.map_or(0.0, |per_second| jobs / f64::from(per_second.max(1)));
    DRAIN_LIMIT + 2 * settings.down + Duration::from_secs_f64(2.0 * at_capacity)
}
