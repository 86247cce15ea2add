//! The scenarios: what a destination can do to its callers, each played against the real programs with bounds on what may come of it.
//!
//! In each, two destinations are called all the time at a gentle pace. Then something is wrong with `api2`, a backlog is posted,
//! and after a while all is well again. The bounds are about what the outage cost: calls while it lasted, attempts charged, jobs
//! that died, how soon its end was noticed and the backlog gone, and whether the *neighbour*, which was well all along, felt it.
//!
//! [`catalogue`] lists them, [`play`] plays one, [`measure`] reads the observers, and [`report`] holds the result against its bounds.

pub mod catalogue;
mod measure;
mod play;
mod relay;
mod report;

use std::time::Duration;

use tokio::task::{JoinSet, LocalSet};

use crate::error::DrillError;
use crate::report::Progress;
use crate::trio::build::Programs;
pub use catalogue::Scenario;
pub use report::{ScenarioReport, ScenariosReport};

/// How large a scenario is played.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Posted at once when the trouble has begun.
    jobs: u64,
    /// How long the trouble lasts.
    lasts: Duration,
    /// How long a flapping destination is up, and down.
    flap: Duration,
    /// The bounds on times are multiplied by this.
    slack: f64,
    /// What the neighbour's jobs take at most; `None` where other work on the machine may take longer.
    neighbour_p99: Option<Duration>,
    /// Scenarios at a time.
    at_once: usize,
}

impl Size {
    /// For figures: one at a time, and strict.
    pub const FULL: Size = Size {
        jobs: 300,
        lasts: Duration::from_secs(10),
        flap: Duration::from_secs(5),
        slack: 1.0,
        neighbour_p99: Some(Duration::from_millis(250)),
        at_once: 1,
    };
    /// For every commit, on a machine that does other things: times are judged with patience, counts as ever.
    pub const QUICK: Size = Size {
        jobs: 60,
        lasts: Duration::from_secs(4),
        flap: Duration::from_secs(1),
        slack: 5.0,
        neighbour_p99: None,
        at_once: 4,
    };
}

/// Plays `scenarios`.
///
/// # Errors
/// [`DrillError`] when the programs cannot be run or steered.
pub async fn run(
    programs: &Programs,
    scenarios: &[&'static Scenario],
    size: Size,
    progress: &mut Progress,
) -> Result<ScenariosReport, DrillError> {
    let mut reports = Vec::new();
    let mut left = scenarios.iter();
    // All on the calling thread, which holds the leash of the programs.
    let local = LocalSet::new();
    let all = local.run_until(async {
        let mut playing = JoinSet::new();
        loop {
            while playing.len() < size.at_once
                && let Some(scenario) = left.next()
            {
                let (programs, scenario) = (programs.clone(), *scenario);
                progress.say(&format!("{}: {}", scenario.name, scenario.what));
                playing.spawn_local(async move { play::play(&programs, scenario, size).await });
            }
            match playing.join_next().await {
                Some(played) => reports.push(played.expect("playing does not panic")?),
                None => return Ok::<_, DrillError>(()),
            }
        }
    });
    all.await?;
    let place = |report: &ScenarioReport| scenarios.iter().position(|scenario| scenario.name == report.name);
    reports.sort_by_key(place);
    Ok(ScenariosReport::new(reports))
}
