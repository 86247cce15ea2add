//! Hostile input: what clients can do to the gateway with bare sockets, and destinations to the worker.
//!
//! The gateway is attacked ([`gateway`]) with requests that are malformed or smuggle a second one ([`forms`]), good ones with a little
//! wrong in them ([`fuzz`]), clients that take their time ([`slow`]) or hang up ([`hang_ups`]), while good clients go on posting
//! ([`good`]). The worker calls destinations that answer as no server should ([`worker`], [`destinations`]). Neither may panic, answer
//! 5xx but for the honest 503, lose a job or let good ones wait; memory stays within bounds and nothing is left open ([`vitals`]).

mod destinations;
mod forms;
mod fuzz;
mod gateway;
mod good;
mod hang_ups;
mod slow;
mod vitals;
mod wire;
mod worker;

use std::fmt;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use self::wire::Answer;
use crate::error::DrillError;
use crate::figure::{Figure, Table, all_met};
use crate::ledger::ClientLedger;
use crate::report::{MAX_SHOWN, Progress};
use crate::trio::build::Programs;

/// Files of the drill beside the idle connections.
const OTHER_FILES: u64 = 1_000;

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How long good clients are alone, for comparison.
    alone: Duration,
    /// How often each form of a request is sent.
    rounds: u64,
    fuzz: u64,
    hang_ups: u64,
    idle: usize,
    /// Slow clients of each kind.
    slow: usize,
    /// Calls to each hostile destination.
    calls: u64,
    /// Whether what good ones wait is judged.
    timed: bool,
}

impl Size {
    /// For tests: nothing that takes half a minute.
    pub const TINY: Size = Size {
        alone: Duration::from_secs(1),
        rounds: 1,
        fuzz: 300,
        hang_ups: 40,
        idle: 0,
        slow: 0,
        calls: 1,
        timed: false,
    };
    /// For every commit, on a machine that does other things.
    pub const QUICK: Size = Size {
        alone: Duration::from_secs(3),
        rounds: 1,
        fuzz: 2_000,
        hang_ups: 200,
        idle: 5_000,
        slow: 20,
        calls: 2,
        timed: false,
    };
    /// For figures.
    pub const LONG: Size = Size {
        alone: Duration::from_secs(20),
        rounds: 20,
        fuzz: 100_000,
        hang_ups: 5_000,
        idle: 5_000,
        slow: 200,
        calls: 20,
        timed: true,
    };
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    requests: u64,
    /// Jobs that were acknowledged.
    jobs: u64,
    /// What the clients know that hung up.
    hung_up: ClientLedger,
    figures: Vec<Figure>,
    violations: Vec<String>,
}

impl Found {
    /// An answer to whatever it was must not be a failure of ours.
    fn judge(&mut self, what: &str, answer: &Answer) {
        if answer.is_failure() {
            self.violations.push(format!("{what} was answered with {}", answer.status));
        }
    }

    fn add(&mut self, other: Found) {
        self.requests += other.requests;
        self.jobs += other.jobs;
        self.figures.extend(other.figures);
        self.violations.extend(other.violations);
    }
}

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct HostileReport {
    /// Nothing was violated, and all goals were met.
    pub passed: bool,
    /// Hostile requests to the gateway, and calls to hostile destinations.
    pub requests: u64,
    /// Jobs acknowledged meanwhile; none may be lost.
    pub jobs: u64,
    pub figures: Vec<Figure>,
    pub violations: Vec<String>,
}

/// Plays all of it.
///
/// # Errors
/// [`DrillError`] when the programs cannot be run or steered.
pub async fn run(
    programs: &Programs,
    size: Size,
    seed: u64,
    progress: &mut Progress,
) -> Result<HostileReport, DrillError> {
    let mut found = Found::default();
    allow_files(size.idle as u64 + OTHER_FILES)?;
    found.add(gateway::play(programs, size, seed, progress).await?);
    found.add(worker::play(programs, size, seed, progress).await?);
    let Found { requests, jobs, figures, violations, .. } = found;
    Ok(HostileReport { passed: violations.is_empty() && all_met(&figures), requests, jobs, figures, violations })
}

/// Lets this process have so many files open, as far as the system allows it to raise its own limit.
fn allow_files(wanted: u64) -> Result<(), DrillError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(maximum.map_or(wanted, |maximum| maximum.min(wanted))), maximum };
    setrlimit(Resource::Nofile, raised).map_err(|error| DrillError::io("raise the limit of open files")(error.into()))
}

impl fmt::Display for HostileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} hostile requests and calls, {} jobs acknowledged meanwhile\n", self.requests, self.jobs)?;
        write!(f, "{}", Table(&self.figures))?;
        for violation in self.violations.iter().take(MAX_SHOWN) {
            writeln!(f, "  ! {violation}")?;
        }
        if self.violations.len() > MAX_SHOWN {
            writeln!(f, "  ! and {} more", self.violations.len() - MAX_SHOWN)?;
        }
        write!(f, "\n{}", if self.passed { "All of it was withstood." } else { "NOT ALL OF IT WAS WITHSTOOD." })
    }
}
