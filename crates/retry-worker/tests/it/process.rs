//! The real program: settings, logs, signals, exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use jobs_core::outcome::Class;
use jobs_core::protocol::WireClass;

use crate::support::destination::{Destination, Reaction};
use crate::support::gateway::Gateway;
use crate::support::http::answer;
use crate::support::lease::{lease, within_ms};
use crate::support::until;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-worker"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn output(args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program().args(args).envs(environment.iter().copied()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A running worker whose log can be read.
pub(crate) struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Running {
    pub(crate) fn start(gateway: &Gateway, environment: &[(&str, &str)]) -> Running {
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0", "--gateway", &gateway.url()]);
        let mut child = command.envs(environment.iter().copied()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, lines) = (Arc::new(Mutex::new(String::new())), BufReader::new(child.stderr.take().unwrap()).lines());
        let written = log.clone();
        std::thread::spawn(move || lines.for_each(|line| written.lock().unwrap().push_str(&(line.unwrap() + "\n"))));
        Running { child, log }
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The first line of the log with all of `parts`.
    pub(crate) async fn line(&self, parts: &[&str]) -> String {
        let find = || {
            let log = self.log.lock().unwrap();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(ToOwned::to_owned)
        };
        until(&format!("a line with {parts:?}"), find).await
    }

    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("/bin/sh").args(["-c", &command]).status().unwrap().success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok(); // it has ended already, unless the test has failed
        self.child.wait().ok();
    }
}

#[test]
fn help_and_version_say_what_it_is() {
    let (code, help, _) = output(&["--help"], &[]);
    assert_eq!(code, Some(0));
    for expected in ["--gateway", "WORKER_GATEWAY", "--concurrency", "WORKER_GRACE", "healthcheck", "--print-config"] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
    assert_eq!(output(&["--version"], &[]).1, format!("retry-worker {}\n", env!("CARGO_PKG_VERSION")));
}

#[cfg(not(feature = "otlp"))]
#[test]
fn without_its_feature_nothing_can_be_said_about_the_export_of_spans() {
    assert!(!output(&["--help"], &[]).1.contains("otlp"));
    assert_eq!(output(&["--otlp-endpoint", "http://127.0.0.1:4318"], &[]).0, Some(2));
    assert_eq!(output(&[], &[("WORKER_OTLP_ENDPOINT", "http://127.0.0.1:4318")]).0, Some(2));
}

#[test]
fn all_bad_settings_are_named_and_the_exit_code_is_2() {
    let environment = [("WORKER_CONCURRENCY", "many"), ("WORKER_TOKEN_FILE", "/no/such/file"), ("WORKER_GRCE", "1s")];
    let (code, _, report) = output(&["--listen", "here", "--gateway", "gopher://x"], &environment);
    assert_eq!(code, Some(2));
    for expected in ["WORKER_CONCURRENCY", "WORKER_TOKEN_FILE", "WORKER_GRCE", "WORKER_GRACE", "--listen", "gopher://x"]
    {
        assert!(report.contains(expected), "{expected} in {report}");
    }
}

#[test]
fn the_settings_are_shown_without_the_token() {
    let (code, settings, _) = output(&["--print-config", "--concurrency", "9"], &[("WORKER_TOKEN", "hush")]);
    assert_eq!(code, Some(0));
    assert!(settings.contains("WORKER_CONCURRENCY = 9\n") && settings.contains("WORKER_TOKEN = ***\n"), "{settings}");
    assert!(!settings.contains("hush"));
}

#[tokio::test]
async fn sigterm_lets_calls_end_and_exits_with_0() {
    let destination = Destination::always(Reaction::Stall(Vec::new())).await;
    let gateway = Gateway::start().await;
    let mut running = Running::start(&gateway, &[]);
    gateway.grant([within_ms(1_000, lease(1, &destination.url("/")))]);
    until("the request", || (destination.requests().len() == 1).then_some(())).await;
    running.signal("TERM");
    assert_eq!(running.exit().await.code(), Some(0));
    let outcomes = gateway.settled(1).await;
    assert_eq!((outcomes[0].class, outcomes[0].unknown), (WireClass::Attempted(Class::Down), true));
    running.line(&["INFO", "stopped"]).await;
}

#[tokio::test]
async fn a_drain_that_does_not_end_in_time_exits_with_1() {
    let destination = Destination::always(Reaction::Stall(Vec::new())).await;
    let gateway = Gateway::start().await;
    let mut running = Running::start(&gateway, &[("WORKER_GRACE", "200ms")]);
    gateway.grant([lease(1, &destination.url("/"))]);
    until("the request", || (destination.requests().len() == 1).then_some(())).await;
    running.signal("INT");
    assert_eq!(running.exit().await.code(), Some(1));
    running.line(&["ERROR", "the grace period is over", "held=1"]).await;
}

#[tokio::test]
async fn the_log_lets_one_watch_the_retries() {
    let destination = Destination::always(Reaction::Answer(answer(503, "API 2 is down"))).await;
    let gateway = Gateway::start().await;
    let mut running = Running::start(&gateway, &[]);
    gateway.grant([lease(1, &destination.url("/"))]);
    let id = "00000000-0000-0000-0000-000000000001";
    let text = format!("retry scheduled: retrying job {id} in 2s (attempt 1)");
    let line = running.line(&["INFO", &text]).await;
    for field in
        [&*format!("job={id}"), "destination=api2", "attempts=1", "delay_ms=2000", "class=overload", "status=503"]
    {
        assert!(line.contains(field), "{field} in {line}");
    }
    running.signal("TERM");
    assert_eq!(running.exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_healthcheck_asks_the_running_worker() {
    let gateway = Gateway::start().await;
    let running = Running::start(&gateway, &[]);
    let line = running.line(&["working", "listen="]).await;
    let listen = line.split("listen=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let healthy = || output(&["healthcheck", "--listen", &listen], &[]).0 == Some(0);
    tokio::task::spawn_blocking({
        let listen = listen.clone();
        move || output(&["healthcheck", "--listen", &listen], &[])
    })
    .await
    .unwrap();
    until("it is healthy", || healthy().then_some(())).await;
    drop(running);
    assert_eq!(output(&["healthcheck", "--listen", &listen], &[]).0, Some(1));
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, log) = output(&["--listen", &address], &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
}
