//! The start drill: the gateway is killed with a great many jobs waiting, and started again: how soon does it serve?
//!
//! Serving means that it says so on `/readyz`, and that a worker's claim gets jobs. The jobs are posted in batches beforehand; no
//! worker runs, so all of them wait. The file's pages are then in the system's memory, as after any crash of the process alone;
//! a machine that has just been switched on has to read them first.

use std::fmt;
use std::time::Duration;

use jobs_core::process::clock;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::{Answer, Gateway, Http};
use crate::error::DrillError;
use crate::figure::{Figure, Goal, Table, all_met};
use crate::report::Progress;
use crate::trio::build::Programs;
use crate::trio::{API2, Plan, Trio};
use crate::wait;

/// Jobs in one request.
const BATCH: u64 = 1_000;
/// Requests under way at a time: the next one is read while one is stored.
const POSTERS: u64 = 2;

/// Serving again within this: the goal for a million jobs and a release build.
const WITHIN: Duration = Duration::from_secs(2);
/// So many starts, each after a kill; the slowest one counts.
const STARTS: u32 = 3;
const LIMIT: Duration = Duration::from_secs(60);

/// Jobs that a claim asks for.
const CLAIM: u64 = 64;

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub jobs: u64,
    pub seed: u64,
}

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct StartReport {
    pub passed: bool,
    pub jobs: u64,
    pub figures: Vec<Figure>,
    pub violations: Vec<String>,
}

/// Plays it.
///
/// # Errors
/// [`DrillError`] when the programs cannot be run, or a batch is refused.
pub async fn run(programs: &Programs, settings: Settings, progress: &mut Progress) -> Result<StartReport, DrillError> {
    let plan = Plan { workers: 0, ..Plan::default() };
    let mut trio = Trio::start(programs, plan).await?;
    let began = clock::instant();
    progress.say(&format!("posting {} jobs", settings.jobs));
    let accepted = fill(trio.gateway(), settings).await?;
    let per_second = accepted as f64 / began.elapsed().as_secs_f64();

    let (mut slowest_ready, mut slowest_claim) = (Duration::ZERO, Duration::ZERO);
    let mut violations = Vec::new();
    for _ in 0..STARTS {
        trio.gateway_process().kill();
        let began = clock::instant();
        trio.begin_gateway(false)?;
        let http = Http::new();
        let url = trio.gateway().url().to_owned();
        let ready = wait::until(LIMIT, async || http.is_ready(&url).await.then_some(())).await;
        ready.ok_or_else(|| DrillError::never("the gateway's being ready", LIMIT))?;
        slowest_ready = slowest_ready.max(began.elapsed());
        let leases = claim(&http, &url).await?;
        slowest_claim = slowest_claim.max(began.elapsed());
        if leases == 0 {
            violations.push("a claim got nothing".to_owned());
        }
    }
    let waiting = trio.gateway().stats().await?.waiting();
    if waiting != settings.jobs || accepted != settings.jobs {
        violations.push(format!("{} jobs were posted, {accepted} acknowledged, and {waiting} wait", settings.jobs));
    }
    progress.say("auditing the file");
    trio.gateway_process().kill();
    violations.extend(trio.audit()?.findings());
    let file = std::fs::metadata(trio.store()).map_or(0, |file| file.len());
    let figures = vec![
        Figure::new(
            "from its start to /readyz, slowest",
            slowest_ready.as_secs_f64(),
            "s",
            Goal::AtMost(WITHIN.as_secs_f64()),
        ),
        Figure::new(
            "from its start to a claim's jobs, slowest",
            slowest_claim.as_secs_f64(),
            "s",
            Goal::AtMost(WITHIN.as_secs_f64()),
        )
        .beside("starts", f64::from(STARTS))
        .beside("jobs waiting", waiting as f64)
        .beside("the file, MiB", file as f64 / 1024.0 / 1024.0),
        Figure::new("accepted in batches of a thousand", per_second, "/s", Goal::None),
    ];
    Ok(StartReport { passed: all_met(&figures) && violations.is_empty(), jobs: settings.jobs, figures, violations })
}

/// Posts all jobs; answers how many were acknowledged.
async fn fill(gateway: &Gateway, settings: Settings) -> Result<u64, DrillError> {
    let mut posters = tokio::task::JoinSet::new();
    for poster in 0..POSTERS {
        let gateway = gateway.clone();
        posters.spawn(async move {
            let mut accepted = 0;
            for from in (poster * BATCH..settings.jobs).step_by((POSTERS * BATCH) as usize) {
                let jobs = from..settings.jobs.min(from + BATCH);
                let envelopes: Vec<Value> = jobs
                    .map(|number| json!({"destination": API2, "payload": {"number": number, "seed": settings.seed}}))
                    .collect();
                accepted += gateway.post_batch(&envelopes).await?;
            }
            Ok::<u64, DrillError>(accepted)
        });
    }
    posters.join_all().await.into_iter().sum()
}

/// Claims as a worker would; answers how many jobs it got.
async fn claim(http: &Http, url: &str) -> Result<usize, DrillError> {
    let body = json!({"worker": clock::new_uuid(), "concurrency": CLAIM, "max": CLAIM, "wait_ms": 10_000});
    let request = http.request(reqwest::Method::POST, format!("{url}/jobstore/v1/claim")).json(&body);
    let answer: Value = Answer::to(request).await?.json()?;
    Ok(answer["leases"].as_array().map_or(0, Vec::len))
}

impl fmt::Display for StartReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} jobs waiting\n\n{}", self.jobs, Table(&self.figures))?;
        for violation in &self.violations {
            writeln!(f, "  ! {violation}")?;
        }
        write!(f, "{}", if self.passed { "All goals were met." } else { "Not all goals were met." })
    }
}
