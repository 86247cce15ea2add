//! The settings of api2-flaky: flags, variables, defaults. Values are checked in [`Config::read`], all of them at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Parser, Subcommand};
use jobs_core::process::settings::Settings;

use crate::drill::Weather;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);

/// The control port, unless set, is this far above the service port.
const CONTROL_PORT_OFFSET: u16 = 1_000;

/// How long a drain may take by default: half of what `docker stop` grants.
const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// An unreliable API to rehearse failures with: up, down, slow, flapping, resetting, hanging or refusing, on a script.
#[derive(Debug, Parser)]
#[command(name = "api2-flaky", version, about)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Address of the API [API2_LISTEN; default 127.0.0.1:8082]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address for steering and reading the ledger, open in any weather [API2_CONTROL; default the API's port + 1000]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub control: Option<String>,
    /// Weather at the start, up or down [API2_START; default down]
    #[arg(long, global = true, value_name = "WEATHER")]
    pub start: Option<String>,
    /// How long requests may take to end after SIGTERM [API2_GRACE; default 5s]
    #[arg(long, global = true, value_name = "DURATION")]
    pub grace: Option<String>,
    /// Show the settings as they are and exit
    #[arg(long)]
    pub print_config: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Exit 0 if a running api2-flaky with the same settings is ready, else 1
    Healthcheck,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub control: SocketAddr,
    pub start: Weather,
    pub grace: Duration,
}

impl Config {
    /// Reads the settings; mistakes become problems of `settings`.
    pub fn read(flags: &Flags, settings: &mut Settings) -> Self {
        let listen = settings.parsed("--listen", "API2_LISTEN", flags.listen.clone(), DEFAULT_LISTEN);
        let above = match listen.port() {
            0 => Some(0),
            port => port.checked_add(CONTROL_PORT_OFFSET),
        };
        let default_control = SocketAddr::new(listen.ip(), above.unwrap_or(0));
        let control = settings.parsed("--control", "API2_CONTROL", flags.control.clone(), default_control);
        if above.is_none() && control == default_control {
            let detail = "must be set, because the default, the port of --listen + 1000, does not exist";
            settings.problem("--control", "API2_CONTROL", detail);
        }
        if control == listen && listen.port() != 0 {
            settings.problem("--control", "API2_CONTROL", "must differ from --listen");
        }
        let start = settings.text("--start", "API2_START", flags.start.clone(), "down");
        let start = match start.as_str() {
            "up" => Weather::UP,
            "down" => Weather::DOWN,
            other => {
                let detail = format!("{other:?} is neither up nor down; other weathers are set with PUT /api2/drill");
                settings.problem("--start", "API2_START", &detail);
                Weather::DOWN
            }
        };
        let grace = settings.duration("--grace", "API2_GRACE", flags.grace.clone(), DEFAULT_GRACE);
        Config { listen, control, start, grace }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> (Config, Settings) {
        let flags = Flags::parse_from(["api2-flaky"].iter().chain(args));
        let mut settings = Settings::new("API2_", []);
        (Config::read(&flags, &mut settings), settings)
    }

    #[test]
    fn by_default_it_starts_down_on_8082_and_is_steered_on_9082() {
        let (config, settings) = read(&[]);
        assert_eq!((config.listen.port(), config.control.port()), (8082, 9082));
        assert_eq!(config.start, Weather::DOWN);
        assert!(settings.finish().is_ok());
    }

    #[test]
    fn a_port_without_room_above_needs_its_control_port_set() {
        assert!(read(&["--listen", "127.0.0.1:65000"]).1.finish().is_err());
        assert!(read(&["--listen", "127.0.0.1:65000", "--control", "127.0.0.1:1"]).1.finish().is_ok());
        assert!(read(&["--listen", "127.0.0.1:1", "--control", "127.0.0.1:1"]).1.finish().is_err());
    }

    #[test]
    fn only_up_and_down_can_be_the_start() {
        assert_eq!(read(&["--start", "up"]).0.start, Weather::UP);
        let report = read(&["--start", "sunny"]).1.finish().unwrap_err().to_string();
        assert!(report.contains("--start / API2_START: \"sunny\" is neither up nor down"), "{report}");
    }
}
