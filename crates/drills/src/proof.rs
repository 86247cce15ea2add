//! The drills of no loss, as subcommands: their flags, and what their exit codes mean.
//!
//! 0: it holds. 1: it does not. 2: this machine cannot show it, which is a failure too where it must (`CI=true`).

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use jobs_core::process::duration;
use serde::Serialize;

use crate::report::Progress;
use crate::trio::build::{Output, Programs};
use crate::{clockjump, crash, diskfull, hostile, image, iofault, partition, powercut, start};

/// The exit code of a drill that this machine cannot play.
const NOT_SHOWN: u8 = 2;

#[derive(Debug, Subcommand)]
pub enum Proof {
    /// Kill gateway and workers at random moments under load, and compare what every side saw
    Crash {
        /// Processes to kill
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        kills: u64,
        #[command(flatten)]
        usual: Usual,
    },
    /// Cut the power of the disk under the store while jobs come in: is what was acknowledged there? (Root on Linux)
    Powercut {
        /// Power cuts
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        cuts: u64,
        #[command(flatten)]
        usual: Usual,
    },
    /// Let each write and each sync of the gateway fail, one after the other, in every way: strace makes them
    Iofault {
        /// Of each kind of call at most so many are made to fail: the first ones, then others spread over all
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        most: u64,
        #[command(flatten)]
        usual: Usual,
    },
    /// Fill the disk under the store, and make room again (root on Linux)
    Diskfull {
        #[command(flatten)]
        usual: Usual,
    },
    /// Start the gateway after a kill with many jobs waiting: how soon does it serve?
    Start {
        /// Jobs that wait
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        jobs: u64,
        #[command(flatten)]
        usual: Usual,
    },
    /// Let the gateway's wall clock jump forth and back while API 2 is down and while it is up (needs a C compiler)
    Clockjump {
        /// How far
        #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration::parse)]
        by: Duration,
        #[command(flatten)]
        usual: Usual,
    },
    /// Attack the gateway with bare sockets, and let the worker call destinations that answer as no server should
    Hostile {
        /// Far more of everything, and what good clients wait is judged: for a release build on a machine that does nothing else
        #[arg(long)]
        long: bool,
        #[command(flatten)]
        usual: Usual,
    },
    /// Cut worker, gateway and destination from each other, or let them stand still, in networks of its own (root on Linux)
    Partition {
        /// Longer, more often, and with less patience
        #[arg(long)]
        long: bool,
        #[command(flatten)]
        usual: Usual,
    },
}

#[derive(Debug, Clone, Copy, Args)]
pub struct Usual {
    /// Chooses moments and payloads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Proof {
    /// Plays it and prints its report.
    ///
    /// # Errors
    /// When it cannot be played to its end.
    pub fn play(self) -> anyhow::Result<ExitCode> {
        if let Err(reason) = self.possible() {
            eprintln!("nothing was shown: {reason}");
            let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
            return Ok(if must { ExitCode::FAILURE } else { ExitCode::from(NOT_SHOWN) });
        }
        self.play_here()
    }

    /// Whether this machine has what it needs. Those with a disk of their own go on in a namespace of their own.
    fn possible(&self) -> Result<(), String> {
        match self {
            Proof::Powercut { .. } | Proof::Diskfull { .. } => {
                image::enter_namespace().map_err(|error| error.to_string())
            }
            Proof::Iofault { .. } => iofault::check(),
            Proof::Clockjump { .. } => clockjump::check(),
            Proof::Partition { .. } => partition::enter_network().map_err(|error| error.to_string()),
            Proof::Crash { .. } | Proof::Start { .. } | Proof::Hostile { .. } => Ok(()),
        }
    }

    #[tokio::main]
    async fn play_here(self) -> anyhow::Result<ExitCode> {
        let programs = Programs::build(Output::Shown)?;
        let progress = &mut Progress::new();
        match self {
            Proof::Crash { kills, usual: Usual { seed, json } } => {
                let report = crash::run(&programs, crash::Settings { kills, seed }, progress).await?;
                tell(&report, report.passed, json)
            }
            Proof::Powercut { cuts, usual: Usual { seed, json } } => {
                let report = powercut::run(&programs, powercut::Settings { cuts, seed }, progress).await?;
                tell(&report, report.passed, json)
            }
            Proof::Iofault { most, usual: Usual { seed, json } } => {
                let report = iofault::run(&programs, iofault::Settings { most, seed }, progress).await?;
                tell(&report, report.passed, json)
            }
            Proof::Diskfull { usual: Usual { seed, json } } => {
                let report = diskfull::run(&programs, seed, progress).await?;
                tell(&report, report.passed, json)
            }
            Proof::Start { jobs, usual: Usual { seed, json } } => {
                let report = start::run(&programs, start::Settings { jobs, seed }, progress).await?;
                tell(&report, report.passed, json)
            }
            Proof::Clockjump { by, usual: Usual { seed, json } } => {
                let report = clockjump::run(&programs, clockjump::Settings { by, seed }, progress).await?;
                tell(&report, report.passed, json)
            }
            Proof::Hostile { long, usual: Usual { seed, json } } => {
                let size = if long { hostile::Size::LONG } else { hostile::Size::QUICK };
                let report = hostile::run(&programs, size, seed, progress).await?;
                tell(&report, report.passed, json)
            }
            Proof::Partition { long, usual: Usual { seed, json } } => {
                let size = if long { partition::Size::LONG } else { partition::Size::QUICK };
                let report = partition::run(&programs, size, seed, progress).await?;
                tell(&report, report.passed, json)
            }
        }
    }
}

/// Prints a report; the exit code says whether what the drill shows holds.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn tell(report: &(impl Serialize + Display), passed: bool, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("\n{report}");
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
