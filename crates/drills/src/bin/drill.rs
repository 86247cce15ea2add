//! The program: one subcommand for each drill; without any, the outage.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand};
use drills::bench::{self, direct, noop, sink};
use drills::outage::{self, Played, Stage};
use drills::overload;
use drills::proof::{Proof, tell};
use drills::recover;
use drills::report::Progress;
use drills::scenario;
use drills::simulate;
use drills::trio::build::{Output, Programs};
use drills::trio::leash;
use drills::up;
use jobs_core::process::duration;
use jobs_core::process::secret::Secret;
use jobs_core::process::shutdown::Shutdown;
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rehearses failure: starts the gateway, a worker and the flaky API, breaks something, and proves that nothing was lost.
///
/// Without a subcommand it plays the outage. Exit code 0 means that what the drill shows holds.
#[derive(Debug, Parser)]
#[command(name = "drill", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    outage: OutageFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the three programs on their usual ports, to play with; Ctrl-C drains them
    Up,
    /// Play an outage: API 2 down, post jobs, API 2 back, drain, compare what every side saw
    Outage(OutageFlags),
    /// Play the rules on virtual time, with everything going wrong by the seed's will, and check the invariants after each step
    Simulate(SimulateFlags),
    /// Play what can go wrong with a destination, one scenario after the other, each within its bounds
    Scenario(ScenarioFlags),
    /// Ask API 2 for twice what it can do, then for as little as before: is all as it was before?
    Overload(OverloadFlags),
    /// Toggle API 2 down and up many times: how soon is each recovery noticed?
    Recover(RecoverFlags),
    #[command(flatten)]
    Proof(Proof),
    /// Measure speed and memory against references of the same run
    Bench(BenchFlags),
    /// The HTTP server of the gateway with nothing behind it: what accepting could cost at least
    #[command(hide = true)]
    Noop,
    /// A destination that does nothing, fast
    #[command(hide = true)]
    Sink,
    /// The HTTP client of the worker with nothing before it: what delivering could cost at least
    #[command(hide = true)]
    Direct { url: String, jobs: u64, concurrency: usize, payload: usize },
    /// Become a program that dies with the process that started it
    #[command(hide = true)]
    Leash {
        parent: u32,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct OutageFlags {
    /// Jobs to post
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    jobs: u64,
    /// How long API 2 is down
    #[arg(long, default_value = "6s", value_name = "DURATION", value_parser = duration::parse)]
    down: Duration,
    /// What API 2 can do per second when it is back [default: anything]
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    capacity: Option<u32>,
    /// Workers to start
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    workers: u16,
    /// While the backlog drains, post so much of the capacity on top of it, 0.15 for 15 %
    #[arg(long, value_name = "SHARE", requires = "capacity", value_parser = share)]
    fresh: Option<f64>,
    /// Draw what happened over time, beside what it would have been without a gate, as SVG into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also fail when a goal is missed, which is set for large outages and a release build
    #[arg(long)]
    strict: bool,
    /// Use this running gateway instead of starting the three
    #[arg(long, value_name = "URL", requires = "api2", conflicts_with = "workers")]
    gateway: Option<String>,
    /// Use this running api2-flaky, the gateway's destination api2; its weather is set and its ledger cleared
    #[arg(long, value_name = "URL", requires = "gateway")]
    api2: Option<String>,
    /// A client's key, where that gateway has keys; better as a variable, since flags can be read by others
    #[arg(long, value_name = "KEY", env = "DRILL_CLIENT_KEY", hide_env_values = true)]
    client_key: Option<String>,
    /// Chooses the payloads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ScenarioFlags {
    /// Which
    #[arg(default_value = "all", value_parser = scenario_names())]
    name: String,
    /// Smaller, several at a time, and with patience as to times: under a minute for all
    #[arg(long)]
    quick: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// A share of something, above nothing and at most all of it.
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "write a number above 0 and up to 1, such as 0.15".to_owned())
}

fn scenario_names() -> PossibleValuesParser {
    let all = PossibleValue::new("all").help("every one of them");
    let each = scenario::catalogue::ALL.iter().map(|it| PossibleValue::new(it.name).help(it.what));
    std::iter::once(all).chain(each).collect::<Vec<_>>().into()
}

#[derive(Debug, Args)]
struct OverloadFlags {
    /// How long twice its capacity is asked of API 2
    #[arg(long = "for", default_value = "60s", value_name = "DURATION", value_parser = duration::parse)]
    lasts: Duration,
    /// What API 2 can do per second
    #[arg(long, default_value_t = 200, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    capacity: u32,
    /// Chooses the payloads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RecoverFlags {
    /// Recoveries of a busy destination, and as many of one with a health check
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    times: u64,
    /// Chooses the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct BenchFlags {
    /// Fewer and shorter rounds: a minute or two instead of a quarter of an hour
    #[arg(long)]
    quick: bool,
    /// Measure only this
    #[arg(long, value_name = "NAME")]
    only: Option<bench::Part>,
    /// Draw the figures beside their goals, as SVG into this file; what happened over time goes into files beside it
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct SimulateFlags {
    /// Seeds to run
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this one seed and write down every event
    #[arg(long, env = "SEED", hide_env_values = true)]
    seed: Option<u64>,
    /// Instead, play the named scenarios, each with its bounds
    #[arg(long, conflicts_with_all = ["seed", "capacity"])]
    scenarios: bool,
    /// Instead, drain backlogs into models of destinations and overload some, and tell how near to their capacity
    #[arg(long, conflicts_with = "seed")]
    capacity: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Outage(cli.outage)) {
        Command::Up => start_up(),
        Command::Outage(flags) => play_outage(&flags),
        Command::Simulate(flags) => play_seeds(&flags),
        Command::Scenario(flags) => play_scenarios(&flags),
        Command::Overload(flags) => play_overload(&flags),
        Command::Recover(flags) => play_recoveries(&flags),
        Command::Proof(proof) => proof.play(),
        Command::Bench(flags) => measure(&flags),
        Command::Noop => noop::serve().context("the noop server"),
        Command::Sink => sink::serve().context("the sink"),
        Command::Direct { url, jobs, concurrency, payload } => {
            direct::run(&url, jobs, concurrency, payload).context("direct calls")
        }
        Command::Leash { parent, program, arguments } => {
            let error = leash::run(parent, &program, &arguments);
            Err(error).with_context(|| format!("cannot start {}", program.display()))
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn start_up() -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::on_signals().context("cannot handle signals")?;
    // The reason of a failure has been printed among the log lines where it belongs.
    Ok(if up::run(shutdown).await.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[tokio::main]
async fn play_outage(flags: &OutageFlags) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::new();
    let mut stage = match (&flags.gateway, &flags.api2) {
        (Some(gateway), Some(api2)) => Stage::given(gateway, api2, flags.client_key.clone().map(Secret::new)),
        _ => {
            let programs = Programs::build(Output::Shown)?;
            progress.say("starting gateway, worker and API 2 on free ports");
            Stage::own(&programs, usize::from(flags.workers)).await?
        }
    };
    let OutageFlags { jobs, down, capacity, fresh, workers, seed, .. } = *flags;
    let settings = outage::Settings { jobs, down, capacity, fresh, workers: usize::from(workers), seed };
    let Played { report, picture } = outage::run(&stage, &settings, &mut progress).await?;
    if let Some(file) = &flags.svg {
        std::fs::write(file, picture).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let passed = if flags.strict { report.goals_met() } else { report.passed };
    if tell(&report, passed, flags.json)? == ExitCode::SUCCESS {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = stage.keep() {
        progress.say(&format!("store and logs stay in {}", folder.display()));
    }
    Ok(ExitCode::FAILURE)
}

fn play_seeds(flags: &SimulateFlags) -> anyhow::Result<ExitCode> {
    if flags.scenarios {
        let reports: Vec<_> = simulate::scenarios().iter().map(simulate::Scenario::play).collect();
        let passed = show_all(&reports, reports.iter().all(|report| report.passed), flags.json);
        if !flags.json {
            println!("{}", simulate::compare());
        }
        return passed;
    }
    if flags.capacity {
        let reports: Vec<_> = simulate::capacities().iter().map(simulate::Capacity::play).collect();
        let drained = reports.iter().all(|report| report.passed);
        if flags.json {
            return show_all(&reports, drained, true);
        }
        let overloads: Vec<_> = simulate::overloads().iter().map(simulate::Overload::play).collect();
        show_all(&reports, drained, false)?;
        return show_all(&overloads, drained && overloads.iter().all(|report| report.passed), false);
    }
    let report = match flags.seed {
        Some(seed) => simulate::trace(seed),
        None => simulate::simulate(flags.from, flags.seeds, None),
    };
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_all<R: Serialize + Display>(reports: &[R], passed: bool, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string_pretty(reports)?);
    } else {
        reports.iter().for_each(|report| println!("{report}"));
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(flags: &BenchFlags) -> anyhow::Result<ExitCode> {
    let report = bench::run(&bench::Settings { quick: flags.quick, only: flags.only })?;
    if let Some(file) = &flags.svg {
        std::fs::write(file, report.picture()).with_context(|| format!("cannot write {}", file.display()))?;
        for (number, chart) in report.charts().iter().enumerate() {
            let file = file.with_extension(format!("{}.svg", number + 1));
            std::fs::write(&file, chart.svg()).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    tell(&report, report.passed, flags.json)
}

#[tokio::main]
async fn play_scenarios(flags: &ScenarioFlags) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::new();
    let programs = Programs::build(Output::Shown)?;
    let chosen: Vec<_> = match scenario::catalogue::named(&flags.name) {
        Some(one) => vec![one],
        None => scenario::catalogue::ALL.iter().collect(),
    };
    let size = if flags.quick { scenario::Size::QUICK } else { scenario::Size::FULL };
    let report = scenario::run(&programs, &chosen, size, &mut progress).await?;
    tell(&report, report.passed, flags.json)
}

#[tokio::main]
async fn play_overload(flags: &OverloadFlags) -> anyhow::Result<ExitCode> {
    let programs = Programs::build(Output::Shown)?;
    let OverloadFlags { lasts, capacity, seed, json } = *flags;
    let report = overload::run(&programs, overload::Settings { capacity, lasts, seed }, &mut Progress::new()).await?;
    tell(&report, report.passed, json)
}

#[tokio::main]
async fn play_recoveries(flags: &RecoverFlags) -> anyhow::Result<ExitCode> {
    let programs = Programs::build(Output::Shown)?;
    let RecoverFlags { times, seed, json } = *flags;
    let report = recover::run(&programs, recover::Settings { times, seed }, &mut Progress::new()).await?;
    tell(&report, report.passed, json)
}
