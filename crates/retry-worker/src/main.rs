//! The program: settings, logs, a socket, and [`retry_worker::run`].

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use jobs_core::process::logging::{self, LogSettings};
use jobs_core::process::settings::{self, Settings};
use jobs_core::process::shutdown::Shutdown;
use jobs_core::process::{files, health};
use retry_worker::config::{Command, Config, Flags};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let mut settings = Settings::of_process("WORKER_");
    let config = Config::read(&flags, &mut settings);
    let log = LogSettings::read(&mut settings);
    match settings.finish() {
        Err(bad) => {
            eprintln!("{bad}");
            return ExitCode::from(settings::EXIT_BAD_SETTINGS);
        }
        Ok(effective) if flags.print_config => {
            print!("{effective}");
            return ExitCode::SUCCESS;
        }
        Ok(_) => {}
    }
    if flags.command == Some(Command::Healthcheck) {
        return health::healthcheck(config.listen);
    }
    logging::init("retry-worker", &log);
    files::allow_many_connections();
    serve(config).unwrap_or_else(|error| {
        log::error!("{error:#}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::on_signals().context("cannot handle signals")?;
    let listener = TcpListener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    retry_worker::run(config, listener, shutdown.clone()).await?;
    log::info!("stopped");
    Ok(shutdown.exit_code())
}
