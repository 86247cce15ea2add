//! The power-cut drill: the disk under the store loses its power while jobs come in, and what was acknowledged must be there.
//!
//! The store is on a disk of its own ([`crate::image`]), whose power is cut at random moments under load; the gateway is killed
//! with it, the disk mounted again, the gateway started again. Only what had been synced is left. That the cut really takes what was
//! not synced is shown by the control: the same with a gateway that does not sync its commits must lose, or the drill shows
//! nothing and fails.
//!
//! The gateway is stopped in the moment before, because it would outlive the power: a sync that is under way while ext4 shuts down
//! may report success (its transaction is dropped, and one that is gone counts as committed), and the acknowledgement that followed
//! would be one that no machine without power can give.
//!
//! Claims are not synced, and a cut may forget one: its job is then claimed and sent again. That is allowed, and counted; lost
//! jobs, keys with two jobs, and counts that disagree are not.

use std::fmt;
use std::time::Duration;

use jobs_core::process::clock;
use serde::Serialize;
use serde_json::json;

use crate::crash::{Draws, rule_of_three};
use crate::error::DrillError;
use crate::figure::{Figure, Goal, Table, all_met};
use crate::image::Image;
use crate::mixed::Mixed;
use crate::report::{MAX_SHOWN, Progress};
use crate::trio::build::Programs;
use crate::trio::{Plan, Trio};
use crate::verdict::{Claims, Tally};
use crate::wait;

/// Room for everything a long run stores.
const DISK_MIB: u64 = 1_024;

/// Cuts between two comparisons.
const CUTS_A_ROUND: u64 = 5;

/// Cuts of the control: each loses whatever was acknowledged in the moment before.
const CONTROL_CUTS: u64 = 2;

/// Between a start and the next cut.
const POWERED: (u64, u64) = (100, 700);

const DRAIN_LIMIT: Duration = Duration::from_secs(90);

const SETTINGS: &str = "retry = { base = \"50ms\", max_delay = \"500ms\" }\nattempt_timeout = \"2s\"";

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub cuts: u64,
    pub seed: u64,
}

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct PowerCutReport {
    /// Whether nothing was lost, and the control lost something.
    pub passed: bool,
    pub cuts: u64,
    pub tally: Tally,
    /// Jobs that the gateway without syncs had acknowledged and lost, of how many.
    pub control_lost: u64,
    pub control_accepted: u64,
    pub seconds: f64,
    pub figures: Vec<Figure>,
}

/// Plays it.
///
/// # Errors
/// [`DrillError`] when the programs or the disk cannot be run; what is lost is in the report instead.
pub async fn run(
    programs: &Programs,
    settings: Settings,
    progress: &mut Progress,
) -> Result<PowerCutReport, DrillError> {
    let began = clock::instant();
    progress.say("the control: a gateway that does not sync must lose");
    let control = Settings { cuts: CONTROL_CUTS, ..settings };
    let lost = play(programs, control, &["--unsynced".to_owned()], progress).await?;
    progress.say("the gateway as it is");
    let tally = play(programs, settings, &[], progress).await?;
    Ok(PowerCutReport::new(settings.cuts, tally, &lost, began.elapsed()))
}

async fn play(
    programs: &Programs,
    settings: Settings,
    gateway_flags: &[String],
    progress: &mut Progress,
) -> Result<Tally, DrillError> {
    let mut image = Image::make(DISK_MIB)?;
    let plan = Plan {
        up: true,
        health_checks: true,
        destination_settings: SETTINGS.to_owned(),
        gateway_flags: gateway_flags.to_vec(),
        store_in: Some(image.path()),
        ..Plan::default()
    };
    let mut trio = Trio::start(programs, plan).await?;
    let mut draws = Draws::new(settings.seed);
    let mut tally = Tally::default();
    let mut cuts = 0;
    while cuts < settings.cuts {
        trio.api2().clear_ledger().await?;
        trio.api2().set_weather(&json!({"mode": "latency", "ms": 5, "jitter_ms": 20})).await?;
        let client = Mixed::start(trio.gateway(), settings.seed.wrapping_add(cuts));
        for _ in 0..CUTS_A_ROUND.min(settings.cuts - cuts) {
            draws.pause(POWERED).await;
            // A machine without power acknowledges nothing: see the module.
            trio.gateway_process().stand_still().await?;
            image.cut_power()?;
            trio.gateway_process().kill();
            image.unmount()?;
            image.mount()?;
            trio.restart_gateway().await?;
            cuts += 1;
        }
        let ledger = client.stop().await;
        let gateway = trio.gateway();
        let drained =
            wait::until(DRAIN_LIMIT, async || gateway.stats().await.ok().filter(|stats| stats.waiting() == 0));
        // What still waits is told by the comparison.
        drop(drained.await);
        tally.judge(&trio, &ledger, Claims::MayBeForgotten).await?;
        progress.say(&format!(
            "{cuts} cuts  {} accepted  {} delivered  {} lost",
            tally.accepted, tally.delivered, tally.lost
        ));
    }
    trio.gateway_process().kill();
    tally.violations.extend(trio.audit()?.findings());
    Ok(tally)
}

impl PowerCutReport {
    fn new(cuts: u64, tally: Tally, control: &Tally, took: Duration) -> Self {
        let bound = if tally.lost == 0 { rule_of_three(cuts) * 100.0 } else { f64::NAN };
        let figures = vec![
            Figure::new("acknowledged jobs lost", tally.lost as f64, "", Goal::AtMost(0.0)),
            Figure::new("requests never acknowledged", tally.given_up as f64, "", Goal::AtMost(0.0)),
            Figure::new("anything else wrong", tally.violations.len() as f64, "", Goal::AtMost(0.0)),
            Figure::new("loss per cut at most, with 95 % confidence", bound, "%", Goal::None),
            Figure::new("delivered again", tally.duplicates.total() as f64, "", Goal::None),
            Figure::new("the control without syncs: jobs lost", control.lost as f64, "", Goal::AtLeast(1.0))
                .beside("of accepted", control.accepted as f64),
        ];
        PowerCutReport {
            passed: all_met(&figures) && tally.accepted > 0,
            cuts,
            tally,
            control_lost: control.lost,
            control_accepted: control.accepted,
            seconds: took.as_secs_f64(),
            figures,
        }
    }
}

impl fmt::Display for PowerCutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PowerCutReport { tally, .. } = self;
        writeln!(
            f,
            "{} cuts in {:.0} s: {} jobs accepted, {} delivered, {} dead\n\n{}",
            self.cuts,
            self.seconds,
            tally.accepted,
            tally.delivered,
            tally.dead,
            Table(&self.figures)
        )?;
        for violation in tally.violations.iter().take(MAX_SHOWN) {
            writeln!(f, "  ! {violation}")?;
        }
        let end = match (self.passed, self.control_lost) {
            (true, _) => "Nothing was lost.",
            (false, 0) => {
                "The control lost nothing: this machine's disk cannot show what a power cut does, and the run is void."
            }
            (false, _) => "It does not hold.",
        };
        write!(f, "{end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_that_loses_nothing_makes_the_run_void() {
        let well = Tally { accepted: 9, delivered: 9, ..Tally::default() };
        let lost = Tally { accepted: 9, lost: 4, ..Tally::default() };
        let report = |tally: &Tally, control: &Tally| PowerCutReport::new(5, tally.clone(), control, Duration::ZERO);
        assert!(report(&well, &lost).passed);
        let void = report(&well, &well);
        assert!(!void.passed && void.to_string().contains("void"), "{void}");
        assert!(!report(&lost, &lost).passed);
    }
}
