//! The program: reads its settings, opens the store, binds, serves.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use api1_gateway::app::{App, Setup};
use api1_gateway::config::flags::Flags;
use api1_gateway::config::store_url::StoreUrl;
use api1_gateway::config::{self, Config};
use api1_gateway::reload::Reload;
use api1_gateway::store::Terms;
use api1_gateway::{server, store};
use clap::{Parser, Subcommand};
use jobs_core::process::clock::Clock;
use jobs_core::process::settings::{EXIT_BAD_SETTINGS, Settings};
use jobs_core::process::shutdown::Shutdown;
use jobs_core::process::{files, health, logging, tasks};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections the kernel may hold for us until we accept them: a burst of clients, not a queue.
const BACKLOG: i32 = 1024;

/// The audit's exit code where a store cannot be judged.
const EXIT_UNJUDGED: u8 = 2;

/// Stores requests for unreliable APIs and answers at once; workers deliver them when the API recovers.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Asks a running gateway whether it can serve: exit code 0 or 1
    Healthcheck,
    /// Checks a backup, or the store of a gateway that does not run, and changes nothing: exit code 0 if all is as it must be, 1
    /// if not, 2 if it cannot be judged
    Audit,
}

fn main() -> ExitCode {
    let Cli { flags, command } = Cli::parse();
    let print_config = flags.print_config;
    let config = match Config::read(flags, Settings::of_process(config::PREFIX)) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(EXIT_BAD_SETTINGS);
        }
    };
    if print_config {
        print!("{config}");
        return ExitCode::SUCCESS;
    }
    match command {
        Some(Command::Healthcheck) => return health::healthcheck(config.listen),
        Some(Command::Audit) => return audit(&config.store),
        None => {}
    }
    logging::init("api1-gateway", &config.log);
    match tokio::runtime::Runtime::new()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run(config)))
    {
        Ok(code) => code,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::on_signals().context("cannot handle signals")?;
    let reload = Reload::on_hangup().context("cannot handle signals")?;
    files::allow_many_connections();
    let listener = bind(&config).with_context(|| format!("cannot listen on {}", config.listen))?;
    if config.store == StoreUrl::Memory {
        log::warn!("the store is in memory: nothing survives the end of this process");
    }
    let clock = Clock::new();
    if config.unsynced {
        log::warn!("commits are not synced: what is acknowledged is lost when the power fails");
    }
    let terms = Terms { synced: !config.unsynced, min_free: config.min_free };
    let store = store::open(&config.store, terms, clock.now())
        .with_context(|| format!("cannot open the store {}", config.store))?;
    let setup = Setup::from(&config);
    for role in setup.keys.left_open() {
        log::warn!(role; "other roles have keys and this one has none: it is open to everybody");
    }
    let address = listener.local_addr()?;
    let app = App::new(setup, store, clock, shutdown.clone()).await.context("cannot take stock of the store")?;
    tasks::supervise("reload", &shutdown, reload.follow(Arc::clone(&app), config.sources));
    log::info!(address:% = address, store:% = config.store; "listening on http://{address}");
    server::serve(listener, app).await?;
    log::info!("drained");
    Ok(shutdown.exit_code())
}

/// What was found goes to stdout, why it could not be looked for to stderr.
fn audit(store: &StoreUrl) -> ExitCode {
    match store::audit(store) {
        Ok(audit) => {
            audit.found.iter().for_each(|finding| println!("{finding}"));
            if audit.more > 0 {
                println!("and {} more", audit.more);
            }
            println!(
                "{} jobs, {} attempts: {}",
                audit.jobs,
                audit.attempts,
                if audit.holds() { "all is as it must be" } else { "NOT as it must be" }
            );
            if audit.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(EXIT_UNJUDGED)
        }
    }
}

/// With SO_REUSEADDR, so that a restart need not wait for the connections of the last run to be forgotten.
fn bind(config: &Config) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(config.listen), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&config.listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
