//! Plays one partition: well, in trouble, healed, and to the end of all jobs.

use std::time::{Duration, Instant};

use jobs_core::process::clock;
use reqwest::Method;
use serde::Serialize;

use super::Size;
use super::catalogue::{End, Partition, Trouble};
use super::stage::Stage;
use crate::client::StatsView;
use crate::error::DrillError;
use crate::invariants;
use crate::ledger::ClientLedger;
use crate::outage::observe::{self, Testimony};
use crate::report::millis;
use crate::steady::Steady;
use crate::trio::API2;
use crate::trio::build::Programs;
use crate::wait;

/// Short, so that calls that hang are answers soon.
const SETTINGS: &str = r#"attempt_timeout = "2s""#;

/// Jobs a second, all the time.
const PER_SECOND: f64 = 20.0;

/// Calls take so long that some are on their way at any moment.
const WEATHER: &str = r#"{"mode":"latency","ms":500,"jitter_ms":100}"#;

/// Delivered before anything goes wrong.
const WARM: u64 = 20;

/// Posting goes on for so long after it is healed.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Something is stuck that takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// Leases lapse within this; a session that is silent is dead after 5 s.
const LAPSED: Duration = Duration::from_secs(20);

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionReport {
    pub name: &'static str,
    pub passed: bool,
    pub accepted: u64,
    pub delivered: u64,
    /// Deliveries beyond the first of each job; each must be explained by what was recorded.
    pub duplicates: u64,
    /// Leases that lapsed.
    pub lapsed: u64,
    /// Attempts that were counted against jobs.
    pub charged: u64,
    /// Jobs whose lease had lapsed, and which succeeded by the report of the call that had been made under it.
    pub late_successes: u64,
    /// From the moment it was healed to the next job that was settled as succeeded, and to the last of the backlog.
    pub noticed_ms: Option<u64>,
    pub drained_ms: Option<u64>,
    pub misses: Vec<String>,
}

/// # Errors
/// [`DrillError`] when the programs cannot be run or steered.
pub(super) async fn play(
    programs: &Programs,
    partition: &Partition,
    number: u8,
    size: Size,
    seed: u64,
) -> Result<PartitionReport, DrillError> {
    let mut stage = Stage::set(programs, number, SETTINGS).await?;
    let weather = serde_json::from_str(WEATHER).expect("the weather is JSON");
    stage.api2.set_weather(&weather).await?;
    let steady = Steady::start(&stage.client, API2, PER_SECOND, seed + u64::from(number));
    let warm = async || stage.client.stats().await.ok().filter(|stats| stats.of("succeeded") >= WARM);
    wait::until(LIMIT, warm).await.ok_or_else(|| DrillError::never("the delivery of the first jobs", LIMIT))?;

    match partition.trouble {
        Trouble::Cut(ways) => {
            stage.cut(ways, true)?;
            tokio::time::sleep(size.lasts).await;
            stage.cut(ways, false)?;
        }
        Trouble::CutThenPaused(ways) => {
            stage.cut(ways, true)?;
            lapse_and_pause(&stage).await?;
            stage.cut(ways, false)?;
        }
        Trouble::Stopped(end) => {
            stage.program(end).pause();
            tokio::time::sleep(size.lasts).await;
            stage.program(end).resume();
        }
    }
    let healed = clock::instant();
    let before = stage.client.stats().await?;
    let noticed = next_success(&stage, healed, &before).await;
    let mut late = 0;
    if let Trouble::CutThenPaused(_) = partition.trouble {
        tokio::time::sleep(AFTERWARDS).await;
        late = stage.client.stats().await?.of("succeeded") - before.of("succeeded");
        stage.client.call(Method::POST, &format!("/api1/destinations/{API2}/resume")).await?;
    }
    tokio::time::sleep(AFTERWARDS).await;
    let client = steady.stop().await;
    let ended = wait::until(LIMIT, async || stage.client.stats().await.ok().filter(|stats| stats.waiting() == 0)).await;
    let drained = ended.map(|_| millis(healed.elapsed()));
    let mut report = compare(&stage, partition, &client, late).await?;
    report.noticed_ms = noticed.map(millis);
    report.drained_ms = drained;
    report.judge(partition, size);
    if !report.passed {
        let folder = stage.keep();
        report.misses.push(format!("store and logs stay in {folder}"));
    }
    Ok(report)
}

/// Waits until every lease has lapsed, and lets no more be granted.
async fn lapse_and_pause(stage: &Stage) -> Result<(), DrillError> {
    stage.client.call(Method::POST, &format!("/api1/destinations/{API2}/pause")).await?.json::<serde_json::Value>()?;
    let lapsed = async || stage.client.stats().await.ok().filter(|stats| stats.of("leased") == 0);
    wait::until(LAPSED, lapsed).await.map(drop).ok_or_else(|| DrillError::never("the lapse of all leases", LAPSED))
}

/// How long after `healed` more is settled as succeeded than `before`; `None`: never.
async fn next_success(stage: &Stage, healed: Instant, before: &StatsView) -> Option<Duration> {
    let more = |stats: &StatsView| stats.of("succeeded") > before.of("succeeded");
    wait::until(LIMIT, async || stage.client.stats().await.ok().filter(more).map(|_| healed.elapsed())).await
}

async fn compare(
    stage: &Stage,
    partition: &Partition,
    client: &ClientLedger,
    late_successes: u64,
) -> Result<PartitionReport, DrillError> {
    let testimony: Testimony = observe::ask(&stage.client, &stage.api2, client).await?;
    let counted = observe::counted(&stage.client).await?;
    let findings = invariants::compare(&observe::compile(&testimony, client, Some(counted)));
    let attempts = || testimony.values().filter_map(|(job, _)| job.as_ref()).flat_map(|job| &job.attempt_log);
    let mut misses: Vec<String> = findings.violations.iter().map(ToString::to_string).collect();
    if findings.delivered != findings.accepted {
        misses.push(format!("{} of {} jobs were delivered", findings.delivered, findings.accepted));
    }
    Ok(PartitionReport {
        name: partition.name,
        passed: false,
        accepted: findings.accepted,
        delivered: findings.delivered,
        duplicates: findings.duplicates,
        lapsed: attempts().filter(|attempt| attempt.outcome == "lost").count() as u64,
        charged: attempts().filter(|attempt| attempt.charged).count() as u64,
        late_successes,
        noticed_ms: None,
        drained_ms: None,
        misses,
    })
}

impl PartitionReport {
    fn judge(&mut self, partition: &Partition, size: Size) {
        let most = [("noticed", self.noticed_ms, size.noticed), ("drained", self.drained_ms, size.drained)];
        for (what, found, most) in most {
            match found {
                Some(ms) if ms <= millis(most) => {}
                Some(ms) => self.misses.push(format!("{what} after {ms} ms; {most:?} is allowed")),
                None => self.misses.push(format!("{what}: never")),
            }
        }
        match partition.trouble {
            // A gateway that stood still cannot know who was silent meanwhile: every lease gets a full term.
            Trouble::Stopped(End::Gateway) if self.lapsed > 0 => {
                self.misses.push(format!("{} leases lapsed because the gateway stood still", self.lapsed));
            }
            Trouble::CutThenPaused(_) if self.late_successes == 0 || self.duplicates > 0 => {
                let (late, twice) = (self.late_successes, self.duplicates);
                self.misses.push(format!("{late} late successes were taken, and {twice} jobs delivered once more"));
            }
            Trouble::Cut(_) | Trouble::CutThenPaused(_) | Trouble::Stopped(_) => {}
        }
        self.passed = self.misses.is_empty();
    }
}
