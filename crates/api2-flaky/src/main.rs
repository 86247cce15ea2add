//! The program: settings, logs, sockets, and [`api2_flaky::server::run`].

use std::process::ExitCode;

use anyhow::Context;
use api2_flaky::config::{Command, Config, Flags};
use api2_flaky::server::{self, Options};
use clap::Parser;
use jobs_core::process::health;
use jobs_core::process::logging::{self, LogSettings};
use jobs_core::process::settings::{self, Settings};
use jobs_core::process::shutdown::Shutdown;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let mut settings = Settings::of_process("API2_");
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
        // The control port: the service port may be closed, which is weather and not ill health.
        return health::healthcheck(config.control);
    }
    logging::init("api2-flaky", &log);
    serve(config).unwrap_or_else(|error| {
        log::error!("{error:#}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::on_signals().context("cannot handle signals")?;
    let service = server::listen(config.listen)?;
    let control = server::listen(config.control)?;
    let options = Options { start: config.start, grace: config.grace };
    server::run(service, control, options, shutdown.clone()).await?;
    log::info!("stopped");
    Ok(shutdown.exit_code())
}
