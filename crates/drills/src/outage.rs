//! The outage drill: API 2 is down, jobs are posted, it comes back, everything drains, and the observers are compared.
//!
//! Jobs are posted all through the outage, as callers would, by a client that keeps a ledger. What the drill reports as lost,
//! delivered or duplicated comes from [`crate::invariants`]; times come from api2-flaky's ledger, not from polling.

pub mod observe;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jobs_core::process::clock;
use jobs_core::time::Timestamp;
use tokio::task::JoinSet;

use crate::client::{Api2, CallError, Gateway, Http, LedgerView};
use crate::invariants;
use crate::ledger::{self, ClientLedger, Intent};
use crate::report::{OutageReport, Progress, Watched};
use crate::trio::build::Programs;
use crate::trio::{API2, Plan, Trio, TrioError};
use crate::wait;

/// How many requests the client has under way at a time: enough to post thousands a second, few beside the workers.
const POSTERS: usize = 16;

/// Jobs are posted over this share of the outage, so that the last of them fail before it ends, too.
const POSTING_SHARE: f64 = 0.8;

/// How long the client repeats one request: a gateway that was killed is back within it.
const POST_LIMIT: Duration = Duration::from_secs(60);

/// How long the drain may take beside what the outage's length and the capacity explain.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How often the person who waits is shown something new.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// What to play.
#[derive(Debug, Clone)]
pub struct Settings {
    pub jobs: u64,
    /// How long API 2 is down; longer if the jobs take longer to post.
    pub down: Duration,
    /// What API 2 can do per second when it is back; `None`: anything.
    pub capacity: Option<u32>,
    /// Workers to start.
    pub workers: usize,
    /// Chooses the payloads, and is API 2's own seed.
    pub seed: u64,
}

/// Why a drill could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum OutageError {
    #[error(transparent)]
    Trio(#[from] TrioError),
    #[error(transparent)]
    Call(#[from] CallError),
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

    /// On programs that already run. The drill sets that API 2's weather and clears its ledger.
    pub fn given(gateway: &str, api2: &str) -> Self {
        let http = Http::new();
        Stage { gateway: Gateway::new(gateway, &http), api2: Api2::new(api2, api2, &http), trio: None }
    }

    /// Keeps the store and the logs of our own programs, and says where.
    pub fn keep(&mut self) -> Option<std::path::PathBuf> {
        self.trio.as_mut().map(Trio::keep_folder)
    }
}

/// What the drill saw when API 2 came back.
struct Recovery {
    at: Timestamp,
    before: LedgerView,
}

/// Plays the outage.
///
/// # Errors
/// [`OutageError`] when a program cannot be steered; what goes wrong with the jobs is in the report instead.
pub async fn run(stage: &Stage, settings: &Settings, progress: &mut Progress) -> Result<OutageReport, OutageError> {
    let down = serde_json::json!({"mode": "down", "status": 503, "seed": settings.seed});
    stage.api2.set_weather(&down).await?;
    stage.api2.clear_ledger().await?;
    let waiting_before = stage.gateway.stats().await?.waiting();

    progress.restart();
    let began = clock::instant();
    let work = post_all(stage, settings);
    let (client, failures) = watching(stage, progress, "API 2 is down", work).await;
    let rest = tokio::time::sleep(settings.down.saturating_sub(began.elapsed()));
    watching(stage, progress, "API 2 is down", rest).await;
    let down_for = began.elapsed();

    let recovery = Recovery { before: stage.api2.ledger().await?, at: clock::wall() };
    bring_back(&stage.api2, settings).await?;
    let limit = drain_limit(settings);
    let drain =
        wait::until(limit, async || stage.gateway.stats().await.ok().filter(|stats| stats.waiting() <= waiting_before));
    watching(stage, progress, "API 2 is back", drain).await;
    let comparing = observe::all(&stage.gateway, &stage.api2, &client, stage.trio.is_some());
    let observed = watching(stage, progress, "comparing", comparing).await?;
    progress.end();

    let after = stage.api2.ledger().await?;
    let mut report = OutageReport::new(&client, invariants::compare(&observed), failures);
    report.time(settings, down_for, &recovery.before, &after, recovery.at);
    Ok(report)
}

/// Runs `work` and shows how the drill goes meanwhile.
async fn watching<T>(stage: &Stage, progress: &mut Progress, phase: &'static str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        // A program that a person has just killed answers nothing; there is simply nothing new to show.
        if let (Ok(stats), Ok(ledger)) = (stage.gateway.stats().await, stage.api2.ledger().await) {
            progress.show(&Watched { phase, stats, ledger });
        }
    }
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
    let at_capacity = settings.capacity.map_or(0.0, |per_second| settings.jobs as f64 / f64::from(per_second.max(1)));
    DRAIN_LIMIT + 2 * settings.down + Duration::from_secs_f64(2.0 * at_capacity)
}
