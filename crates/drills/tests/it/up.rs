//! `cargo up`, as a person starts it and stops it.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::time::Duration;

use drills::client::{Api2, Gateway, Http};
use drills::trio::API2;
use drills::wait;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PATIENCE, command, job_becomes, post};

/// A running `drill up`, killed when dropped.
pub(crate) struct Up {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Up {
    /// In a folder of its own, on free ports where `settings` do not say otherwise.
    pub(crate) fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = command("drill");
        for variable in ["API1_LISTEN", "WORKER_LISTEN", "API2_LISTEN", "API2_CONTROL"] {
            command.env(variable, "127.0.0.1:0");
        }
        command.envs(settings.iter().copied()).arg("up").current_dir(folder);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Up { child, stdout }
    }

    /// The URL after `name` in the greeting.
    pub(crate) fn url_of(&mut self, name: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "it ended before it had greeted");
            if let Some(rest) = line.trim_start().strip_prefix(name)
                && let Some(url) = rest.split_whitespace().next().filter(|url| url.starts_with("http"))
            {
                return url.to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    async fn exited(&mut self) -> ExitStatus {
        wait::until(PATIENCE, async || self.child.try_wait().unwrap()).await.expect("it ends")
    }

    /// All that it printed until it ended.
    fn rest(&mut self) -> String {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.child.kill().ok(); // it may have ended
        self.child.wait().ok();
    }
}

/// Whether nobody listens at `url` any more, soon.
async fn is_gone(url: &str) -> bool {
    let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let refused = wait::until(PATIENCE, async || {
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err().then_some(())
    });
    refused.await.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_what_to_try_and_ctrl_c_drains_all_three() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    let (gateway, worker, api2) = (up.url_of("gateway"), up.url_of("worker"), up.url_of("API 2"));
    let http = Http::new();
    let client = Gateway::new(&gateway, &http);
    let id = post(&client, API2, r#"{ "name": "hello" }"#).await;
    job_becomes(&client, id, |job| job.attempts == 1 && job.state == "pending").await;
    Api2::new(&api2, &api2, &http).toggle().await.unwrap();
    job_becomes(&client, id, |job| job.state == "succeeded").await;

    up.signal(Signal::INT);
    let status = up.exited().await;
    let text = up.rest();
    assert!(status.success(), "{status}: {text}");
    let line_of = |name: &str, end: &str| text.lines().position(|line| line.starts_with(name) && line.contains(end));
    let (worker_stopped, gateway_stopped) = (line_of("worker", "stopped"), line_of("gateway", "drained"));
    assert!(worker_stopped.is_some() && worker_stopped < gateway_stopped, "{text}");
    assert!(folder.path().join("data/jobs.db").is_file());
    for url in [gateway, worker, api2] {
        assert!(is_gone(&url).await, "{url} still answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_on_when_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    let urls = [up.url_of("gateway"), up.url_of("worker"), up.url_of("API 2")];
    up.signal(Signal::KILL);
    for url in urls {
        assert!(is_gone(&url).await, "{url} still answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_start_stops_the_others_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[("WORKER_CONCURRENCY", "many")]);
    assert_eq!(up.exited().await.code(), Some(1));
    let text = up.rest();
    assert!(text.contains("WORKER_CONCURRENCY") && text.contains("worker ended"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_told_with_the_setting_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[("API1_LISTEN", &address)]);
    assert_eq!(up.exited().await.code(), Some(1));
    let text = up.rest();
    assert!(text.contains(&address) && text.contains("is taken") && text.contains("API1_LISTEN"), "{text}");
}
