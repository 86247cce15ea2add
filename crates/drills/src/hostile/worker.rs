//! The worker among hostile destinations: it calls all of them at once, and a good one beside.

use std::time::{Duration, Instant};

use jobs_core::job::JobId;
use jobs_core::process::clock;
use reqwest::Method;
use tokio::task::JoinSet;

use super::destinations::{self, Listening};
use super::good::{Good, Served};
use super::vitals::{self, Watch};
use super::{Found, Size};
use crate::client::{Accepted, Gateway};
use crate::error::DrillError;
use crate::figure::{Figure, Goal};
use crate::invariants;
use crate::outage::observe;
use crate::report::Progress;
use crate::trio::build::Programs;
use crate::trio::{API2, Plan, Trio};
use crate::wait;

/// What each is called with: short, so that calls that hang are answers soon.
const SETTINGS: &str = r#"attempt_timeout = "2s""#;

/// Every job has been tried, and every call has ended, within this.
const TRIED: Duration = Duration::from_secs(60);

/// Memory a worker may take among them, beyond what it had before.
const MORE_MEMORY_MB: f64 = 100.0;

/// A worker that was told to stop is gone within this: its calls in flight have 2 s at most.
const STOPPED: Duration = Duration::from_secs(20);

/// The outcome of an attempt whose lease lapsed.
const LOST: &str = "lost";

/// # Errors
/// [`DrillError`] when the programs cannot be run or steered.
pub(super) async fn play(
    programs: &Programs,
    size: Size,
    seed: u64,
    progress: &mut Progress,
) -> Result<Found, DrillError> {
    let mut found = Found::default();
    let mut serving = JoinSet::new();
    let all = destinations::listen(&mut serving).await.map_err(DrillError::io("listen as a destination"))?;
    let settings = tempfile::NamedTempFile::new().map_err(DrillError::io("write the settings"))?;
    std::fs::write(settings.path(), table(&all)).map_err(DrillError::io("write the settings"))?;
    let flags = vec!["--config".to_owned(), settings.path().display().to_string()];
    let mut trio = Trio::start(programs, Plan { up: true, gateway_flags: flags, ..Plan::default() }).await?;
    let gateway = trio.gateway().clone();

    progress.say(&format!("a good destination alone, then {} hostile ones beside it", all.len()));
    let good = Good::start(gateway.url(), trio.folder(), seed);
    let good = good.map_err(DrillError::io("write beside the store"))?;
    let began = clock::instant();
    tokio::time::sleep(size.alone).await;
    let (memory, attacked) = (Watch::start(trio.workers()[0].id()), clock::instant());
    let mut posted = Vec::new();
    for hostile in &all {
        posted.push(post(&gateway, hostile.hostile.name, size.calls).await?);
    }
    // They are probed meanwhile.
    tokio::time::sleep(size.alone).await;
    let mut lost = 0;
    for (hostile, jobs) in all.iter().zip(&posted) {
        let called = judge(&gateway, hostile, jobs, &mut found.violations).await?;
        found.requests += called.recorded;
        found.jobs += size.calls;
        lost += called.lost;
    }
    // A machine that is too busy lets leases lapse, too, and each is on record.
    let goal = if size.timed { Goal::AtMost(0.0) } else { Goal::None };
    found.figures.push(Figure::new("leases that lapsed among hostile destinations", lost as f64, "", goal));
    let over = clock::instant();
    let served = good.stop().await;
    found.jobs += served.client.acknowledged().len() as u64;
    found.figures.push(delivered(&trio, &served, (began, attacked, over), size, &mut found.violations).await?);
    let memory = memory.stop().await;
    let more = memory.most - memory.before;
    found.figures.push(
        Figure::new("worker memory, most above before", more, "MB", Goal::AtMost(MORE_MEMORY_MB))
            .beside("before MB", memory.before)
            .beside("after MB", memory.after),
    );
    found.violations.extend(vitals::complaints(trio.gateway_process()));
    let worker = &mut trio.workers()[0];
    found.violations.extend(vitals::complaints(worker));
    worker.terminate();
    match worker.exited(STOPPED).await {
        Ok(status) if status.success() => {}
        Ok(status) => found.violations.push(format!("the worker ended with {status}")),
        Err(error) => found.violations.push(error.to_string()),
    }
    Ok(found)
}

/// Their part of the gateway's settings.
fn table(all: &[Listening]) -> String {
    let mut text = String::new();
    for Listening { hostile, address, .. } in all {
        let table = format!("[destinations.{}]\nurl = \"http://{address}/\"\n{SETTINGS}\n\n", hostile.name);
        text.push_str(&table);
    }
    text
}

async fn post(gateway: &Gateway, name: &str, count: u64) -> Result<Vec<JobId>, DrillError> {
    let mut jobs = Vec::new();
    for number in 0..count {
        let answer = gateway.process(name, &[], &format!(r#"{{"number":{number}}}"#)).await?;
        jobs.push(answer.json::<Accepted>()?.id);
    }
    Ok(jobs)
}

/// The attempts at a hostile destination.
struct Called {
    recorded: u64,
    /// Of them, those whose lease lapsed.
    lost: u64,
}

/// Waits until each job was tried or is held, stops the calls, and compares what was recorded with what is allowed and what arrived.
async fn judge(
    gateway: &Gateway,
    hostile: &Listening,
    jobs: &[JobId],
    violations: &mut Vec<String>,
) -> Result<Called, DrillError> {
    let name = hostile.hostile.name;
    for id in jobs {
        let is_tried =
            async || gateway.job(*id).await.is_ok_and(|job| job.is_some_and(|job| !job.attempt_log.is_empty()));
        let is_held = async || gateway.destination(name).await.is_ok_and(|view| view.state == "open");
        let is_due = async || (is_tried().await || is_held().await).then_some(());
        if wait::until(TRIED, is_due).await.is_none() {
            violations.push(format!("{name}: job {id} was neither tried nor held within {TRIED:?}"));
        }
    }
    gateway.call(Method::POST, &format!("/api1/destinations/{name}/pause")).await?;
    let idle = async || gateway.destination(name).await.ok().filter(|view| view.in_flight == 0);
    if wait::until(TRIED, idle).await.is_none() {
        violations.push(format!("{name}: a call has not ended within {TRIED:?}"));
    }
    let (mut recorded, mut lost) = (0, 0);
    for id in jobs {
        let Some(job) = gateway.job(*id).await? else {
            violations.push(invariants::Violation::Lost(*id).to_string());
            continue;
        };
        recorded += job.attempt_log.len() as u64;
        let outcomes = || job.attempt_log.iter().map(|attempt| attempt.outcome.as_str());
        lost += outcomes().filter(|outcome| *outcome == LOST).count() as u64;
        let allowed = |outcome: &&str| *outcome == LOST || hostile.hostile.outcomes.contains(outcome);
        for outcome in outcomes().filter(|outcome| !allowed(outcome)) {
            violations.push(format!("{name}: an attempt was recorded as {outcome}: {:?}", job.last_error));
        }
    }
    if recorded == 0 {
        violations.push(format!("{name}: no attempt was recorded"));
    }
    // What was lost may have been sent, or not.
    if let Some(read) = hostile.requests().filter(|read| !(recorded - lost..=recorded).contains(read)) {
        violations.push(format!("{name}: {read} requests arrived and {recorded} attempts were recorded"));
    }
    Ok(Called { recorded, lost })
}

/// The good destination's jobs: all delivered, and as soon as before.
async fn delivered(
    trio: &Trio,
    served: &Served,
    (began, attacked, over): (Instant, Instant, Instant),
    size: Size,
    violations: &mut Vec<String>,
) -> Result<Figure, DrillError> {
    let drained = async || trio.gateway().destination(API2).await.ok().filter(|view| view.waiting() == 0);
    // What has not ended by then is told by the comparison.
    drop(wait::until(TRIED, drained).await);
    let observed = observe::all(trio.gateway(), trio.api2(), &served.client, false).await?;
    let findings = invariants::compare(&observed);
    violations.extend(findings.violations.iter().map(ToString::to_string));
    if findings.delivered != findings.accepted {
        violations.push(format!("{} of {} good jobs were delivered", findings.delivered, findings.accepted));
    }
    let times = (began + size.alone / 4, attacked, over);
    Ok(served.figure("beside them, good clients' p99 to the 202, of before", times, size))
}
