//! `drill up`: the three programs on their usual ports, for a person to play with.
//!
//! They take the person's own environment (`API1_LISTEN`, `API2_START` …), so that every setting can be tried here, too. Their log
//! lines share the terminal behind their names. Ctrl-C drains them in the order in which work flows backwards: the worker
//! first, so that nothing is in mid-air when the gateway stops. If one dies, the others are stopped, and that is a failure.

use std::env;
use std::io::{IsTerminal, Write};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use jobs_core::process::shutdown::Shutdown;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;

use crate::client::Http;
use crate::trio::TrioError;
use crate::trio::build::{API1_GATEWAY, API2_FLAKY, Output, Programs, RETRY_WORKER};
use crate::trio::leash;
use crate::trio::ports::{self, Listening};
use crate::wait;

/// A program is ready within this.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A drain ends within this: more than the grace period the programs give themselves.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// How often the programs are looked after.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// The addresses taken when nothing else is set: the variable, and its default.
const ADDRESSES: [(&str, &str, &str); 4] = [
    (API1_GATEWAY, "API1_LISTEN", "127.0.0.1:8080"),
    (RETRY_WORKER, "WORKER_LISTEN", "127.0.0.1:8081"),
    (API2_FLAKY, "API2_LISTEN", "127.0.0.1:8082"),
    (API2_FLAKY, "API2_CONTROL", "127.0.0.1:9082"),
];

/// Why the three do not run.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    #[error(
        "{address}, where {program} should listen, is taken ({source}): stop what listens there, or set {variable}"
    )]
    PortTaken { program: &'static str, variable: &'static str, address: String, source: std::io::Error },
    #[error("{name} ended ({status}); its last lines above say why")]
    Ended { name: &'static str, status: String },
    #[error("{name} was not ready within {START_LIMIT:?}; its last lines above may say why")]
    NotReady { name: &'static str },
    #[error("{0} was still running {STOP_LIMIT:?} after it was asked to stop, and was killed")]
    Stuck(&'static str),
    #[error(transparent)]
    Trio(#[from] TrioError),
}

/// Builds and starts the three, and runs them until the shutdown. They live no longer than the calling thread.
///
/// # Errors
/// [`UpError`] when they do not start, one dies, or one does not stop well. None is left running.
pub async fn run(shutdown: Shutdown) -> Result<(), UpError> {
    let mut services = Vec::new();
    let ran = tokio::select! {
        ended = start_and_watch(&mut services) => ended,
        () = shutdown.wait() => Ok(()),
    };
    if let Err(error) = &ran {
        say(&format!("\n{error}\n"));
    }
    let stopped = stop_all(services).await;
    ran.and(stopped)
}

/// Ends only with a failure.
async fn start_and_watch(services: &mut Vec<Service>) -> Result<(), UpError> {
    free_ports()?;
    let programs = Programs::build(Output::Shown)?;
    start_all(&programs, services).await?;
    Err(first_ended(services).await)
}

fn free_ports() -> Result<(), UpError> {
    for (program, variable, default) in ADDRESSES {
        let address = env::var(variable).unwrap_or_else(|_| default.to_owned());
        // What is no address at all, the program itself reports.
        let is_address = address.parse::<std::net::SocketAddr>().is_ok();
        if let Some(source) = ports::try_listen(&address).err().filter(|_| is_address) {
            return Err(UpError::PortTaken { program, variable, address, source });
        }
    }
    Ok(())
}

async fn start_all(programs: &Programs, services: &mut Vec<Service>) -> Result<(), UpError> {
    let http = Http::new();
    let api2 = Service::start(programs, API2_FLAKY, "api2", 35, &[], services)?.ready(&http).await?;
    let destination = format!("api2={api2}/api2/simulate");
    let health_check = format!("api2={api2}/api2/health");
    let own = ["API1_DESTINATIONS", "API1_DESTINATIONS_FILE", "API1_CONFIG", "API1_CONFIG_FILE"];
    let is_set = own.iter().any(|variable| env::var_os(variable).is_some());
    let flags = ["--destination", &destination, "--health-check", &health_check];
    let flags = if is_set { &[] } else { flags.as_slice() };
    let gateway = Service::start(programs, API1_GATEWAY, "gateway", 36, flags, services)?.ready(&http).await?;
    let is_set = ["WORKER_GATEWAY", "WORKER_GATEWAY_FILE"].iter().any(|variable| env::var_os(variable).is_some());
    let flags = if is_set { Vec::new() } else { vec!["--gateway", &gateway] };
    let worker = Service::start(programs, RETRY_WORKER, "worker", 33, &flags, services)?.ready(&http).await?;
    say(&greeting(&gateway, &worker, &api2));
    Ok(())
}

fn greeting(gateway: &str, worker: &str, api2: &str) -> String {
    format!(
        r#"
Holdfast runs. Ctrl-C drains and stops it.

  gateway   {gateway}
  worker    {worker}
  API 2     {api2}   down at first, as the worst API would be

Try, in another terminal:

  curl -i -X POST {gateway}/api1/process -H 'Content-Type: application/json' -d '{{ "name": "hello" }}'
  curl {gateway}/api1/jobs        the job waits, and its retries are 2, 4, 8, 16 … seconds apart
  curl -X POST {api2}/api2/toggle     brings API 2 back: the job is tried at once, for the gateway asks for its health
  curl {gateway}/api1/destinations    what the gateway thinks of API 2
  curl {api2}/api2/ledger             what really arrived there
"#
    )
}

/// One running program.
struct Service {
    name: &'static str,
    child: Child,
    listening: watch::Receiver<Option<Listening>>,
}

impl Service {
    fn start<'a>(
        programs: &Programs,
        package: &str,
        name: &'static str,
        colour: u8,
        arguments: &[&str],
        services: &'a mut Vec<Service>,
    ) -> Result<&'a mut Self, UpError> {
        let mut command = Command::from(leash::command(&programs.drill(), &programs.path(package)));
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| TrioError::io("start a program", source))?;
        let stderr = child.stderr.take().expect("it was asked for above");
        let (heard, listening) = watch::channel(None);
        tokio::spawn(print_lines(stderr, name, colour, heard));
        services.push(Service { name, child, listening });
        Ok(services.last_mut().expect("one was just pushed"))
    }

    /// Waits until it is ready; answers with its URL.
    async fn ready(&mut self, http: &Http) -> Result<String, UpError> {
        let found = wait::until(START_LIMIT, async || {
            if let Some(status) = self.ended() {
                return Some(Err(UpError::Ended { name: self.name, status }));
            }
            let address = self.listening.borrow().as_ref().map(|listening| listening.address);
            let url = format!("http://{}", address?);
            http.is_ready(&url).await.then_some(Ok(url))
        });
        match found.await {
            Some(ready) => ready,
            None => Err(UpError::NotReady { name: self.name }),
        }
    }

    fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(status) => status.as_ref().map(ExitStatus::to_string),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Asks it to drain and waits until it has.
    async fn stop(mut self) -> Result<(), UpError> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(id) = id else { return Ok(()) }; // it has ended, which was noticed before
        // It fails only when the program has ended by now, which the wait shows.
        let _ended = kill_process(id, Signal::TERM);
        match tokio::time::timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(UpError::Ended { name: self.name, status: status.to_string() }),
            Ok(Err(error)) => Err(UpError::Ended { name: self.name, status: error.to_string() }),
            Err(_) => Err(UpError::Stuck(self.name)), // dropping it kills it
        }
    }
}

async fn first_ended(services: &mut [Service]) -> UpError {
    loop {
        for service in services.iter_mut() {
            if let Some(status) = service.ended() {
                return UpError::Ended { name: service.name, status };
            }
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Stops the last started first; answers with the first failure.
async fn stop_all(services: Vec<Service>) -> Result<(), UpError> {
    let mut stopped = Ok(());
    for service in services.into_iter().rev() {
        stopped = stopped.and(service.stop().await);
    }
    stopped
}

async fn print_lines(stderr: ChildStderr, name: &str, colour: u8, heard: watch::Sender<Option<Listening>>) {
    let coloured = std::io::stdout().is_terminal();
    let prefix = if coloured { format!("\x1b[{colour}m{name:<7} |\x1b[0m ") } else { format!("{name:<7} | ") };
    let mut lines = BufReader::new(stderr).lines();
    // A line that is not UTF-8 ends the reading; our programs write none.
    while let Ok(Some(line)) = lines.next_line().await {
        say(&format!("{prefix}{line}"));
        if heard.borrow().is_none()
            && let Some(listening) = Listening::in_log(&format!("{line}\n"))
        {
            heard.send_replace(Some(listening));
        }
    }
}

/// Writes a line to stdout. Where nobody reads it any more, the programs still run and drain.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_shows_commands_that_can_be_copied() {
        let text = greeting("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3");
        assert!(text.contains(r#"curl -i -X POST http://127.0.0.1:1/api1/process"#), "{text}");
        assert!(text.contains(r#"-d '{ "name": "hello" }'"#), "{text}");
        assert!(text.contains("curl -X POST http://127.0.0.1:3/api2/toggle"), "{text}");
    }
}
