//! How soon a recovery is noticed: API 2 goes down and comes back many times, at a random moment each time.
//!
//! Two destinations: a *busy* one, which fresh jobs find out about, and one that nobody calls but whose *health check* the gateway
//! knows; there the jobs that failed would wait an hour by their own timers. The time is from the toggle to the first 2xx of a
//! request that arrived after it, by API 2's own clock.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::client::{Api2, DestinationView, Gateway};
use crate::error::DrillError;
use crate::figure::{Figure, Goal, Table, all_met};
use crate::ledger::{self, Intent, mixed};
use crate::percentile::percentile;
use crate::report::Progress;
use crate::steady::Steady;
use crate::trio::build::Programs;
use crate::trio::{API2, Plan, Trio};
use crate::wait;

/// Jobs a second for the busy destination.
const BUSY: f64 = 50.0;

/// Jobs that meet each outage of the other: enough that the gate opens at their first failures.
const MEET_OUTAGE: u64 = 5;

/// So that nothing but the health check finds the end of an outage.
const NEVER_BY_TIMER: &str = r#"retry = { schedule = ["1h"] }"#;

/// The moment of the toggle is spread over this: longer than any interval between probes.
const PHASES: Duration = Duration::from_secs(1);

/// How long a busy destination is held before: by then its probes are as far apart as they get.
const FIRST_PROBES: Duration = Duration::from_secs(2);

/// Something is stuck that takes longer.
const LIMIT: Duration = Duration::from_secs(60);

const P50_MS: f64 = 400.0;
const P99_MS: f64 = 1_000.0;

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Recoveries of each kind.
    pub times: u64,
    /// Chooses the moments.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Busy,
    HealthChecked,
}

/// How soon they were noticed.
#[derive(Debug, Clone, Serialize)]
pub struct RecoverReport {
    /// Whether all goals were met.
    pub passed: bool,
    pub times: u64,
    pub figures: Vec<Figure>,
}

/// Plays it.
///
/// # Errors
/// [`DrillError`] when the programs cannot be run or steered, or a recovery is never noticed.
pub async fn run(
    programs: &Programs,
    settings: Settings,
    progress: &mut Progress,
) -> Result<RecoverReport, DrillError> {
    let mut figures = Vec::new();
    for (kind, name) in [(Kind::Busy, "busy"), (Kind::HealthChecked, "health-checked")] {
        progress.say(&format!("{} recoveries of a {name} destination", settings.times));
        let mut times = recoveries(programs, kind, settings).await?;
        let (p50, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
        let worst = percentile(&mut times, 1.0);
        figures.push(Figure::new(&format!("{name}: back to first 2xx, p50"), p50, "ms", Goal::AtMost(P50_MS)));
        let figure = Figure::new(&format!("{name}: back to first 2xx, p99"), p99, "ms", Goal::AtMost(P99_MS));
        figures.push(figure.beside("worst", worst));
    }
    Ok(RecoverReport { passed: all_met(&figures), times: settings.times, figures })
}

/// Milliseconds from each toggle to the first 2xx.
async fn recoveries(programs: &Programs, kind: Kind, settings: Settings) -> Result<Vec<f64>, DrillError> {
    let plan = match kind {
        Kind::Busy => Plan { up: true, ..Plan::default() },
        Kind::HealthChecked => {
            Plan { up: true, health_checks: true, destination_settings: NEVER_BY_TIMER.to_owned(), ..Plan::default() }
        }
    };
    let trio = Trio::start(programs, plan).await?;
    let (gateway, api2) = (trio.gateway(), trio.api2());
    let busy = (kind == Kind::Busy).then(|| Steady::start(gateway, API2, BUSY, settings.seed));
    let mut times = Vec::new();
    for number in 0..settings.times {
        api2.toggle().await?;
        if kind == Kind::HealthChecked {
            let run = format!("recover-{number}");
            let intents = (0..MEET_OUTAGE).map(|job| Intent::numbered(&run, job, settings.seed)).collect();
            ledger::post_all(gateway, API2, intents, LIMIT).await;
        }
        becomes(gateway, "hold", |view| view.state == "open").await?;
        if kind == Kind::Busy {
            tokio::time::sleep(FIRST_PROBES).await;
        }
        tokio::time::sleep(PHASES.mul_f64(mixed(settings.seed, number) as f64 / u64::MAX as f64)).await;
        api2.toggle().await?;
        times.push(noticed(api2).await?.as_secs_f64() * 1_000.0);
        match kind {
            Kind::Busy => becomes(gateway, "end of the ramp", |view| view.state == "closed").await?,
            // Nobody calls it then, so that its ramp does not end.
            Kind::HealthChecked => becomes(gateway, "end of all jobs", |view| view.waiting() == 0).await?,
        }
    }
    if let Some(busy) = busy {
        busy.stop().await;
    }
    Ok(times)
}

async fn becomes(gateway: &Gateway, what: &str, wanted: impl Fn(&DestinationView) -> bool) -> Result<(), DrillError> {
    let seen = wait::until(LIMIT, async || gateway.destination(API2).await.ok().filter(|view| wanted(view)));
    seen.await.map(drop).ok_or_else(|| DrillError::never(format!("the {what}"), LIMIT))
}

async fn noticed(api2: &Api2) -> Result<Duration, DrillError> {
    let seen = wait::until(LIMIT, async || api2.ledger().await.ok()?.since_weather.first_ok_after());
    seen.await.ok_or_else(|| DrillError::never("a 2xx after the recovery", LIMIT))
}

impl fmt::Display for RecoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} recoveries of each kind, each at a random moment\n\n{}", self.times, Table(&self.figures))?;
        write!(f, "{}", if self.passed { "All goals were met." } else { "Not all goals were met." })
    }
}
