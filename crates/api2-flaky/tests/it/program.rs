//! The real program: its exit codes, signals and subcommands.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use crate::client::call;

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_api2-flaky"));
    command.args(args).env_clear();
    command
}

fn output(args: &[&str]) -> Output {
    program(args).output().unwrap()
}

struct Running {
    child: Child,
    service: SocketAddr,
    control: SocketAddr,
    log: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Running {
    /// Starts the program on free ports and reads from its first log line which ones they are.
    fn start() -> Self {
        let mut command = program(&["--listen", "127.0.0.1:0"]);
        let mut child = command.env("LOG_FORMAT", "json").stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line: serde_json::Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
        let address = |field: &str| line[field].as_str().unwrap().parse().unwrap();
        let (service, control) = (address("api"), address("control"));
        Running { child, service, control, log }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
    }
}

#[test]
fn two_bad_settings_are_reported_at_once_with_exit_code_2() {
    let output = program(&["--listen", "nowhere", "--start", "sunny"]).env("API2_LISTNE", "x").output().unwrap();
    let report = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{report}");
    for part in
        ["--listen / API2_LISTEN: \"nowhere\"", "--start / API2_START: \"sunny\"", "API2_LISTNE: no such setting"]
    {
        assert!(report.contains(part), "{part} in {report}");
    }
}

#[test]
fn the_effective_settings_are_printed() {
    let output = program(&["--print-config", "--start", "up"]).env("API2_GRACE", "1m").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for line in ["API2_LISTEN = 127.0.0.1:8082", "API2_CONTROL = 127.0.0.1:9082", "API2_START = up", "API2_GRACE = 1m"]
    {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn it_tells_its_version_and_help() {
    let version = String::from_utf8(output(&["--version"]).stdout).unwrap();
    assert_eq!(version.trim(), concat!("api2-flaky ", env!("CARGO_PKG_VERSION")));
    let help = String::from_utf8(output(&["--help"]).stdout).unwrap();
    for flag in ["--listen", "--control", "--start", "--grace", "--print-config", "healthcheck"] {
        assert!(help.contains(flag), "{flag} in {help}");
    }
}

#[test]
fn sigterm_drains_and_exits_with_0_and_the_healthcheck_follows() {
    let mut running = Running::start();
    assert_eq!(call(running.service, "POST", "/api2/simulate", &[], b"").unwrap().status, 503, "it starts down");
    let (service, control) = (running.service.to_string(), running.control.to_string());
    let healthcheck = ["healthcheck", "--listen", &service, "--control", &control];
    assert_eq!(output(&healthcheck).status.code(), Some(0));

    running.signal("TERM");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert_eq!(output(&healthcheck).status.code(), Some(1));
    let last = running.log.by_ref().map_while(Result::ok).last().unwrap();
    assert!(last.contains(r#""message":"stopped""#), "{last}");
}

#[test]
fn a_second_sigint_exits_at_once() {
    let mut running = Running::start();
    // A request that is still being answered keeps the drain waiting.
    call(running.control, "PUT", "/api2/drill", &[], br#"{"mode":"latency","ms":600000}"#).unwrap();
    let _waiting = crate::client::send(running.service, "POST", "/api2/simulate", &[], b"").unwrap();
    crate::harness::eventually("in flight", || {
        let ledger = call(running.control, "GET", "/api2/ledger", &[], b"").unwrap().json();
        (ledger["in_flight"] == 1).then_some(())
    });
    running.signal("INT");
    let draining = running.log.by_ref().map_while(Result::ok).any(|line| line.contains("draining"));
    assert!(draining);
    running.signal("INT");
    assert_eq!(running.child.wait().unwrap().code(), Some(130));
}
