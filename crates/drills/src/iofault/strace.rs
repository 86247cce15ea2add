//! Makes a system call of a running program fail: strace, attached to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Serialize;

use crate::error::DrillError;
use crate::wait;

/// Attaching takes milliseconds.
const ATTACH_LIMIT: Duration = Duration::from_secs(10);

/// The calls with which a store's data reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Pwrite64,
    Fdatasync,
    Fsync,
}

impl Call {
    pub(super) const ALL: [Call; 3] = [Call::Pwrite64, Call::Fdatasync, Call::Fsync];

    pub(super) fn name(self) -> &'static str {
        match self {
            Call::Pwrite64 => "pwrite64",
            Call::Fdatasync => "fdatasync",
            Call::Fsync => "fsync",
        }
    }

    pub(super) fn is_sync(self) -> bool {
        matches!(self, Call::Fdatasync | Call::Fsync)
    }
}

/// What becomes of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Fault {
    #[serde(rename = "EIO")]
    Io,
    #[serde(rename = "ENOSPC")]
    NoSpace,
    /// The program is killed as it makes it.
    #[serde(rename = "KILL")]
    Kill,
}

impl Fault {
    pub(super) const ALL: [Fault; 3] = [Fault::Io, Fault::NoSpace, Fault::Kill];

    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Io => "EIO",
            Fault::NoSpace => "ENOSPC",
            Fault::Kill => "KILL",
        }
    }
}

/// One call of one kind, by its number in the thread that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Injection {
    pub(super) call: Call,
    pub(super) fault: Fault,
    pub(super) number: u64,
}

/// strace at a program.
pub(super) struct Strace {
    child: Child,
    output: PathBuf,
}

impl Strace {
    /// Attaches to all threads of the process `id`. Without an injection it only writes down.
    pub(super) async fn attach(id: u32, injection: Option<Injection>, output: PathBuf) -> Result<Self, DrillError> {
        let calls = Call::ALL.map(Call::name).join(",");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-e"]).arg(format!("trace={calls}")).arg("-o").arg(&output);
        if let Some(Injection { call, fault, number }) = injection {
            let what = match fault {
                Fault::Io | Fault::NoSpace => format!("error={}", fault.name()),
                Fault::Kill => "signal=KILL".to_owned(),
            };
            command.arg("-e").arg(format!("inject={}:{what}:when={number}", call.name()));
        }
        command.arg("-p").arg(id.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut strace = Strace { child: command.spawn().map_err(DrillError::io("start strace"))?, output };
        let attached = wait::until(ATTACH_LIMIT, async || {
            let ended = strace.child.try_wait().ok().flatten().is_some();
            (ended || is_traced(id)).then_some(!ended)
        });
        match attached.await {
            Some(true) => Ok(strace),
            Some(false) | None => Err(DrillError::never("strace's hold of the gateway (may it trace?)", ATTACH_LIMIT)),
        }
    }

    /// What it wrote down, once the program has ended.
    pub(super) fn finish(mut self) -> Result<Trace, DrillError> {
        self.child.wait().map_err(DrillError::io("wait for strace"))?;
        let text = std::fs::read_to_string(&self.output).map_err(DrillError::io("read what strace wrote"))?;
        Ok(Trace(text))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Both fail only when it has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether every thread of a process is traced.
fn is_traced(id: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return false };
    let mut threads = threads.filter_map(Result::ok).map(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().filter_map(|line| line.strip_prefix("TracerPid:")).any(|tracer| tracer.trim() != "0")
    });
    threads.all(|traced| traced)
}

/// What strace wrote down: a line for each call, beginning with the thread's id.
pub(super) struct Trace(String);

impl Trace {
    /// How many calls the thread made that made most.
    pub(super) fn most(&self, call: Call) -> u64 {
        let start = format!("{}(", call.name());
        let mut by_thread: BTreeMap<&str, u64> = BTreeMap::new();
        for line in self.0.lines() {
            if let Some((thread, rest)) = line.split_once(' ')
                && rest.trim_start().starts_with(&start)
            {
                *by_thread.entry(thread).or_default() += 1;
            }
        }
        by_thread.into_values().max().unwrap_or_default()
    }

    /// The call that failed, if it came to it; of one in each of several threads, that of the store's own files.
    pub(super) fn injected(&self) -> Option<String> {
        let lines: Vec<&str> = self.0.lines().collect();
        let mut failed = Vec::new();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("(INJECTED)")) {
            // Where another thread came in between, the call's arguments are on an earlier line of its own.
            let thread = line.split(' ').next().unwrap_or_default();
            let begun = |line: &&&str| line.starts_with(thread) && line.contains("<unfinished");
            let begun = lines[..number].iter().rev().find(begun).filter(|_| line.contains(" resumed>"));
            failed.push(begun.map_or_else(|| (*line).to_owned(), |begun| format!("{begun} {line}")));
        }
        let of_store = failed.iter().position(|line| line.contains("/jobs.db"));
        failed.into_iter().nth(of_store.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread_and_what_was_injected_is_found() {
        let trace = Trace(
            "10 pwrite64(3</x/jobs.db-wal>, \"\", 24, 0) = 24\n10 pwrite64(3</x/jobs.db-wal>, <unfinished ...>\n\
             11 fdatasync(3</x/jobs.db-wal>) = -1 EIO (Input/output error) (INJECTED)\n10 <... pwrite64 resumed>) = 24\n\
             11 pwrite64(3</x/jobs.db>, \"\", 24, 0) = 24\n"
                .to_owned(),
        );
        assert_eq!([Call::Pwrite64, Call::Fdatasync, Call::Fsync].map(|call| trace.most(call)), [2, 1, 0]);
        assert!(trace.injected().is_some_and(|line| line.starts_with("11 fdatasync")));
        let torn = Trace(
            "10 fsync(4</x>) = -1 EIO (Input/output error) (INJECTED)\n11 fsync(3</x/jobs.db> <unfinished ...>\n\
             10 fsync(4</x>) = 0\n11 <... fsync resumed>) = -1 EIO (Input/output error) (INJECTED)\n"
                .to_owned(),
        );
        assert!(torn.injected().is_some_and(|line| line.starts_with("11 fsync(3</x/jobs.db>")));
        assert!(Trace(String::new()).injected().is_none());
    }
}
