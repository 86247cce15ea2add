//! One running program: started on a leash, its log in a file, and all that a drill does to it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::TrioError;
use super::build::Programs;
use super::leash;
use super::ports::Listening;
use crate::wait;

/// A program opens its store and its sockets within this, also on a machine that builds something else at the same time.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A stopped program stands still within microseconds.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How many of its last log lines are shown when a program fails.
const TAIL_LINES: usize = 20;

/// Settings of a person's own programs must not change what a drill rehearses.
const FOREIGN_VARIABLES: [&str; 5] = ["API1_", "WORKER_", "API2_", "RUST_LOG", "LOG_FORMAT"];

/// A program in the hands of a drill. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where in the log this run begins: a restarted program goes on in the same file.
    log_from: u64,
}

impl Process {
    /// Starts `package`'s program with `arguments`; its stderr is added to `folder`/`name`.log.
    ///
    /// # Errors
    /// [`TrioError::Io`] when the log cannot be opened or the program cannot be started.
    pub fn start(
        programs: &Programs,
        package: &str,
        name: &str,
        arguments: &[String],
        folder: &Path,
    ) -> Result<Self, TrioError> {
        Self::start_with(programs, package, name, arguments, folder, &[])
    }

    /// As [`Process::start`], with variables of its own.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_with(
        programs: &Programs,
        package: &str,
        name: &str,
        arguments: &[String],
        folder: &Path,
        variables: &[(String, String)],
    ) -> Result<Self, TrioError> {
        let command = leash::command(&programs.drill(), &programs.path(package));
        Self::spawn(command, name, arguments, folder, variables)
    }

    /// As [`Process::start`], by the name of its package, in the network namespace that the file `network` stands for.
    ///
    /// # Errors
    /// [`TrioError::Io`]
    pub fn start_within(
        programs: &Programs,
        network: &Path,
        package: &str,
        arguments: &[String],
        folder: &Path,
    ) -> Result<Self, TrioError> {
        let mut command = leash::command(&programs.drill(), Path::new("nsenter"));
        command.arg(format!("--net={}", network.display())).arg(programs.path(package));
        Self::spawn(command, package, arguments, folder, &[])
    }

    /// A process that does nothing, in a network namespace of its own, which is there for as long as the process is.
    ///
    /// # Errors
    /// [`TrioError::Io`]
    pub fn hold_network(programs: &Programs, name: &str, folder: &Path) -> Result<Self, TrioError> {
        let arguments = ["--net", "sleep", "infinity"].map(str::to_owned);
        Self::spawn(leash::command(&programs.drill(), Path::new("unshare")), name, &arguments, folder, &[])
    }

    fn spawn(
        mut command: Command,
        name: &str,
        arguments: &[String],
        folder: &Path,
        variables: &[(String, String)],
    ) -> Result<Self, TrioError> {
        let path = folder.join(format!("{name}.log"));
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|source| TrioError::io("open a log file", source))?;
        let log_from = log.metadata().map_err(|source| TrioError::io("read a log file", source))?.len();
        for (variable, _) in std::env::vars_os() {
            if FOREIGN_VARIABLES.iter().any(|ours| variable.to_string_lossy().starts_with(ours)) {
                command.env_remove(variable);
            }
        }
        command.args(arguments).current_dir(folder).envs(variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
        let child = command.spawn().map_err(|source| TrioError::io("start a program", source))?;
        Ok(Process { name: name.to_owned(), child, log: path, log_from })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged since this start.
    pub fn log(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_from))?;
            file.read_to_end(&mut text)
        });
        // A log that cannot be read has nothing to tell; whoever looks for a line in it will miss it and say so.
        read.map(|_| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// Waits until it listens, and says where.
    ///
    /// # Errors
    /// [`TrioError::Ended`] if it ends instead, [`TrioError::NotReady`] if it takes too long; both with the end of its log.
    pub async fn listening(&mut self) -> Result<Listening, TrioError> {
        let found = wait::until(START_LIMIT, async || match Listening::in_log(&self.log()) {
            Some(listening) => Some(Ok(listening)),
            None => self.ended().map(|status| Err(self.end(status))),
        });
        found.await.unwrap_or_else(|| Err(self.not_ready(START_LIMIT)))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // An error would mean that it is not our child any more: then it has ended, but nobody knows how.
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`TrioError::StillRunning`] when it has not after `within`.
    pub async fn exited(&mut self, within: Duration) -> Result<ExitStatus, TrioError> {
        let ended = wait::until(within, async || self.ended()).await;
        ended.ok_or_else(|| TrioError::StillRunning { name: self.name.clone(), within })
    }

    /// `kill -9`: it gets no chance to do anything. Returns when it is gone.
    pub fn kill(&mut self) {
        // Both fail only when it has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// SIGTERM: asks it to drain.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP: asks it to read its settings file again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP: it stands still, its sockets stay open, until [`Process::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// As [`Process::pause`]; returns when none of its threads can do anything more outside the kernel.
    ///
    /// # Errors
    /// [`TrioError::StillRunning`] when it does not come to a stand.
    pub async fn stand_still(&self) -> Result<(), TrioError> {
        self.pause();
        let stands = wait::until(STOP_LIMIT, async || stands_still(self.id()).then_some(())).await;
        stands.ok_or_else(|| TrioError::StillRunning { name: self.name.clone(), within: STOP_LIMIT })
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Resident memory in bytes; `None` where the system has no `/proc`, or it has ended.
    pub fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(self.id())
    }

    pub(super) fn not_ready(&self, within: Duration) -> TrioError {
        TrioError::NotReady { name: self.name.clone(), within, log: tail(&self.log()) }
    }

    pub(super) fn end(&self, status: ExitStatus) -> TrioError {
        TrioError::Ended { name: self.name.clone(), status, log: tail(&self.log()) }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        // It fails only when the program has ended: until it is waited for, its id is nobody else's.
        let _ended = id.map(|id| kill_process(id, signal));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether every thread of a process is stopped, or in a call that it will not come back from before it is. Linux only.
pub(crate) fn stands_still(id: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return false };
    let mut threads = threads.filter_map(Result::ok).map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in brackets and may hold anything.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 'D']))
    });
    threads.all(|stands| stands)
}

/// The resident memory of the process `id` in bytes; `None` where the system has no `/proc`, or it has ended.
pub fn resident_bytes(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
