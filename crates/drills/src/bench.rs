//! The benchmark: speed as ratios against references of the same run, memory as it is, every figure beside its goal.
//!
//! Absolute rates say little about a machine whose speed drifts, so each is divided by what the same machine does at the same
//! time without us: `noop`, the gateway's HTTP server with nothing behind it, and `direct`, the worker's HTTP client with nothing
//! before it. The sides alternate and the median of their ratios counts. The client's share of the processor is shown, because
//! on a small machine it competes with what it measures. Loopback only, bounded in count and time.

mod accept;
mod batch;
mod black_hole;
mod claim;
pub mod direct;
mod disk;
mod drain;
mod idle;
mod large;
mod load;
mod memory;
pub mod noop;
mod one;
mod paced;
mod pages;
mod picture;
mod read;
mod report;
pub mod sink;
mod steady;
mod tail;
mod usage;
mod waiting;

use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::ValueEnum;
use jobs_core::store::StoreError;

use crate::chart::Chart;
use crate::client::{CallError, Http};
use crate::figure::Figure;
use crate::percentile::{median, percentile};
use crate::trio::build::{Output, Programs};
use crate::trio::process::Process;
use crate::trio::{Plan, Trio, TrioError};

pub use report::BenchReport;

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Durable accept, beside noop
    Accept,
    /// Durable accept on one connection, beside noop
    One,
    /// The slowest accepts, while checkpoints, retention and a backup go on
    Tail,
    /// Jobs in batches, beside single posts
    Batch,
    /// From accepted to delivered while nothing else happens
    Idle,
    /// Draining stored jobs, beside direct calls
    Drain,
    /// The highest rate at which as much is delivered as accepted, beside direct calls
    Steady,
    /// Payloads of 100 KiB, accepted and drained
    Large,
    /// What a claim and its settle cost with very many jobs waiting, beside few
    Claim,
    /// A thousand destinations, one of them a black hole
    BlackHole,
    /// Lists and statistics of a large store, under load
    Read,
    /// Pages of the dashboard with a large store, and what one left open costs
    Pages,
    /// Resident memory and bytes written while many jobs come and go
    Memory,
    /// Resident memory with very many jobs waiting
    Waiting,
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub quick: bool,
    pub only: Option<Part>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Trio(#[from] TrioError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot {doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
    #[error(
        "{folder} is on tmpfs, where syncing costs nothing: the figures would be void; build into a folder on a disk"
    )]
    Void { folder: String },
    #[error("{what} took longer than {limit:?}: something is stuck; see the logs in {folder}")]
    Stuck { what: &'static str, limit: std::time::Duration, folder: String },
}

impl BenchError {
    fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| BenchError::Io { doing, source }
    }
}

/// Measures. Builds for speed first; a debug build of the drills hands over to its release build.
///
/// # Errors
/// [`BenchError`] when the programs cannot be run, or the figures would mean nothing.
pub fn run(settings: &Settings) -> Result<BenchReport, BenchError> {
    let programs = Programs::build_release(Output::Shown)?;
    if !programs.are_ours() {
        let error = Command::new(programs.drill()).args(std::env::args_os().skip(1)).exec();
        return Err(BenchError::Io { doing: "hand over to the release build", source: error });
    }
    // One thread: the load generator shares few cores with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(BenchError::io("start the runtime"))?
        .block_on(measure(&Bench { programs, quick: settings.quick }, settings.only))
}

async fn measure(bench: &Bench, only: Option<Part>) -> Result<BenchReport, BenchError> {
    let wanted = |part| only.is_none_or(|only| only == part);
    let mut disk = disk::Disk::under(&bench.folder())?;
    disk.sync()?;
    let (mut figures, mut charts) = (Vec::new(), Vec::new());
    for part in Part::value_variants().iter().filter(|part| wanted(**part)) {
        figures.extend(measure_part(bench, *part, &mut disk, &mut charts).await?);
    }
    disk.sync()?;
    Ok(BenchReport::new(figures, charts, bench.quick, &disk))
}

async fn measure_part(
    bench: &Bench,
    part: Part,
    disk: &mut disk::Disk,
    charts: &mut Vec<Chart>,
) -> Result<Vec<Figure>, BenchError> {
    match part {
        Part::Accept => accept::measure(bench).await,
        Part::One => one::measure(bench).await,
        Part::Tail => {
            let (figures, chart) = tail::measure(bench, disk).await?;
            charts.push(chart);
            Ok(figures)
        }
        Part::Batch => batch::measure(bench).await,
        Part::Idle => idle::measure(bench).await,
        Part::Drain => drain::measure(bench).await,
        Part::Steady => steady::measure(bench).await,
        Part::Large => large::measure(bench).await,
        Part::Claim => claim::measure(bench).await,
        Part::BlackHole => black_hole::measure(bench).await,
        Part::Read => read::measure(bench).await,
        Part::Pages => pages::measure(bench).await,
        Part::Memory => memory::measure(bench).await,
        Part::Waiting => waiting::measure(bench).await,
    }
}

/// Where no destination is: what is accepted for it stays.
const NOWHERE: &str = "http://127.0.0.1:9/";

/// What all parts share.
struct Bench {
    programs: Programs,
    quick: bool,
}

impl Bench {
    /// On the disk that holds the build, because a system's temporary files may be in memory.
    fn folder(&self) -> std::path::PathBuf {
        self.programs.target().join("bench")
    }

    /// A gateway and `workers`, with `destination` for their jobs.
    async fn start(&self, workers: usize, destination: &str, flags: &[&str]) -> Result<Trio, BenchError> {
        let mut gateway_flags = vec!["--destination".to_owned(), format!("api2={destination}")];
        gateway_flags.extend(flags.iter().map(ToString::to_string));
        self.start_as(self.plan(workers, gateway_flags)).await
    }

    /// A gateway with its store in memory, a destination that nobody calls, and no worker.
    async fn start_in_memory(&self) -> Result<Trio, BenchError> {
        let flags = vec!["--destination".to_owned(), format!("api2={NOWHERE}")];
        self.start_as(Plan { in_memory: true, ..self.plan(0, flags) }).await
    }

    /// A gateway with this file of destinations, and no worker yet.
    async fn start_with_file(&self, destinations: &str) -> Result<Trio, BenchError> {
        let file = self.folder().join("destinations.toml");
        std::fs::write(&file, destinations).map_err(BenchError::io("write the destinations file"))?;
        self.start_as(self.plan(0, vec!["--config".to_owned(), file.display().to_string()])).await
    }

    /// All as it comes out of the box, but for the flags of the gateway.
    fn plan(&self, workers: usize, gateway_flags: Vec<String>) -> Plan {
        let within = Some(self.folder());
        Plan { workers, destinations: Vec::new(), gateway_flags, within, ..Plan::default() }
    }

    async fn start_as(&self, plan: Plan) -> Result<Trio, BenchError> {
        Ok(Trio::start(&self.programs, plan).await?)
    }

    /// Starts one of our own servers, `noop` or `sink`.
    async fn reference(&self, name: &str) -> Result<(Process, std::net::SocketAddr), BenchError> {
        let folder = self.folder();
        std::fs::create_dir_all(&folder).map_err(BenchError::io("make a folder for the benchmark"))?;
        let mut process = Process::start(&self.programs, "drill", name, &[name.to_owned()], &folder)?;
        let address = process.listening().await?.address;
        let ready = Http::new().is_ready(&format!("http://{address}")).await;
        if ready {
            Ok((process, address))
        } else {
            Err(BenchError::Io { doing: "reach a reference", source: std::io::ErrorKind::NotConnected.into() })
        }
    }
}

/// Says on stderr what is being done: the whole takes minutes.
fn say(text: &str) {
    eprintln!("  {text}");
}
