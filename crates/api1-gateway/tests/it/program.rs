//! The program itself: a real process, its settings, its signals, its exit codes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{answer, client, eventually};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_api1-gateway"));
    command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A running gateway, killed when the test is over.
struct Program {
    child: Child,
    /// What it has logged since it listens.
    log: Arc<Mutex<String>>,
    address: SocketAddr,
    client: Client,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended long ago.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Program {
    /// Starts it on a free port and waits until it says where it listens.
    fn start(arguments: &[&str]) -> Self {
        Self::start_by(command(arguments))
    }

    fn start_by(mut command: Command) -> Self {
        let mut child = command.args(["--listen", "127.0.0.1:0", "--min-free", "0"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it says where it listens").unwrap();
            if let Some((_, rest)) = line.split_once("listening on http://") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        let log: Arc<Mutex<String>> = Arc::default();
        let written = Arc::clone(&log);
        // To its end, whoever looks: its log must not fill the pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log: MutexGuard<'_, String> = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Program { child, log, address, client: client() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    async fn logs(&self, text: &str) {
        eventually(text, async || self.log.lock().unwrap().contains(text).then_some(())).await;
    }

    /// The exit code, once it has ended.
    async fn exit_code(&mut self) -> Option<i32> {
        let child = Mutex::new(&mut self.child);
        eventually("the program ends", async || child.lock().unwrap().try_wait().unwrap()).await.code()
    }
}

#[test]
fn every_bad_setting_is_reported_at_once_with_exit_code_2() {
    let output =
        output(&["--listen", "nowhere", "--store", "file:x", "--max-body", "0", "--destination", "api2=ftp://x"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for flag in ["--listen", "--store", "--max-body", "--destination"] {
        assert!(text.contains(flag), "{flag} is not in\n{text}");
    }
}

#[test]
fn help_version_and_settings_are_printed() {
    let text = |arguments: &[&str]| {
        let output = output(arguments);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&["--help"]).contains("--default-destination"));
    assert!(text(&["--version"]).starts_with("api1-gateway "));
    assert!(text(&["--print-config"]).contains("API1_LISTEN = 127.0.0.1:8080"));
}

#[test]
fn a_store_that_cannot_be_opened_or_a_port_that_is_taken_is_a_failure_with_its_reason() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let store = format!("sqlite:{}/jobs.db", file.display());
    let output1 = output(&["--listen", "127.0.0.1:0", "--store", &store]);
    let text = String::from_utf8(output1.stderr).unwrap();
    assert_eq!(output1.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot open the store"), "{text}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output2 = output(&["--listen", &address, "--store", "memory:"]);
    let text = String::from_utf8(output2.stderr).unwrap();
    assert_eq!(output2.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("cannot listen on {address}")), "{text}");
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_0_and_the_jobs_are_there_again() {
    let folder = TempDir::new().unwrap();
    let store = format!("sqlite:{}/jobs.db", folder.path().display());
    let mut program = Program::start(&["--store", &store]);
    let send = |program: &Program, body: &'static str| {
        program.client.post(program.url("/api1/process")).header("idempotency-key", "k").body(body)
    };
    let accepted = answer(send(&program, "x"), 202).await;
    let pause = program.client.post(program.url("/api1/destinations/api2/pause"));
    assert_eq!(answer(pause, 200).await["state"], "paused");
    // A parked claim does not hold the drain up.
    let claim = serde_json::json!({"worker": uuid::Uuid::nil(), "concurrency": 1, "max": 1, "wait_ms": 30_000});
    let claim = program.client.post(program.url("/jobstore/v1/claim")).json(&claim).send();
    let claim = tokio::spawn(claim);
    eventually("the claim is parked", async || {
        let text = program.client.get(program.url("/metrics")).send().await.unwrap().text().await.unwrap();
        text.contains("holdfast_parked_claims 1\n").then_some(())
    })
    .await;
    program.signal("TERM");
    assert_eq!(claim.await.unwrap().unwrap().json::<Value>().await.unwrap()["leases"], serde_json::json!([]));
    assert_eq!(program.exit_code().await, Some(0));

    let mut program = Program::start(&["--store", &store]);
    let job =
        answer(program.client.get(program.url(&format!("/api1/jobs/{}", accepted["id"].as_str().unwrap()))), 200).await;
    assert_eq!(job["state"], "pending");
    assert_eq!(answer(send(&program, "x"), 202).await["id"], accepted["id"], "keys outlive a restart");
    let shown = answer(program.client.get(program.url("/api1/destinations/api2")), 200).await;
    assert_eq!(shown["state"], "paused", "so does a pause");
    program.signal("INT");
    assert_eq!(program.exit_code().await, Some(0));
}

#[tokio::test]
async fn killed_it_has_lost_nothing_it_acknowledged() {
    let folder = TempDir::new().unwrap();
    let store = format!("sqlite:{}/jobs.db", folder.path().display());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut program = Program::start(&["--store", &store]);
        for n in 0..20 {
            let request = program.client.post(program.url("/api1/process")).body(n.to_string());
            ids.push(answer(request, 202).await["id"].as_str().unwrap().to_owned());
        }
        program.child.kill().unwrap();
        program.child.wait().unwrap();
    }
    let program = Program::start(&["--store", &store]);
    for (n, id) in ids.iter().enumerate() {
        let payload = program.client.get(program.url(&format!("/api1/jobs/{id}/payload"))).send().await.unwrap();
        assert_eq!(payload.text().await.unwrap(), (n % 20).to_string());
    }
}

#[tokio::test]
async fn the_healthcheck_follows_readiness() {
    let mut program = Program::start(&["--store", "memory:"]);
    let address = program.address.to_string();
    assert_eq!(output(&["--listen", &address, "healthcheck"]).status.code(), Some(0));
    program.signal("TERM");
    assert_eq!(program.exit_code().await, Some(0));
    assert_eq!(output(&["healthcheck", "--listen", &address]).status.code(), Some(1));
}

#[tokio::test]
async fn a_hangup_reloads_the_destinations_unless_they_have_mistakes() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("destinations.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let destination = |name: &str| format!("[destinations.{name}]\nurl = \"http://127.0.0.1:1/{name}\"\n");
    write(&destination("old"));
    let program = Program::start(&["--store", "memory:", "--config", file.to_str().unwrap()]);
    let held = answer(program.client.post(program.url("/api1/process")).body("x"), 202).await;
    assert_eq!(held["destination"], "old");
    let status = async |name: &str| {
        let request = program.client.post(program.url(&format!("/api1/process/{name}"))).body("x");
        request.send().await.unwrap().status().as_u16()
    };
    write("not toml");
    program.signal("HUP");
    program.logs("destinations not reloaded").await;
    write(&destination("new"));
    assert_eq!(status("old").await, 202);
    program.signal("HUP");
    eventually("the new destination is known", async || (status("new").await == 202).then_some(())).await;
    assert_eq!(status("old").await, 404);
    let shown = answer(program.client.get(program.url("/api1/destinations/old")), 200).await;
    assert_eq!((&shown["removed"], &shown["reason"]), (&Value::Bool(true), &Value::from("removed from the settings")));
}

#[test]
fn what_cannot_start_says_so_and_does_not_hang() {
    let mut child = command(&["--store", "memory:", "--config", "/nonexistent/destinations.toml"]).spawn().unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{text}");
    assert!(text.contains("/nonexistent/destinations.toml"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn it_raises_its_limit_of_open_files_as_far_as_it_may() {
    let mut shell = Command::new("/bin/sh");
    shell.args([
        "-c",
        "ulimit -Sn 200 && exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_api1-gateway"),
        "--store",
        "memory:",
    ]);
    let program = Program::start_by({
        shell.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell
    });
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let limit = |column: usize| files.split_whitespace().nth(column).unwrap().parse::<u64>().unwrap_or(u64::MAX);
    assert_eq!(limit(3), limit(4).min(65_536), "{files}");
}
