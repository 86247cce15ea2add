//! What a program has and holds while it is attacked: memory, open files, whether it lives, and what its log says.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::trio::process::{Process, resident_bytes};

/// How often memory is read: an attack lasts much longer.
const INTERVAL: Duration = Duration::from_millis(100);

/// What Rust writes when a thread or task panics.
const PANIC: &str = "panicked at";

/// Memory over a stretch of time, in megabytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) before: f64,
    pub(super) most: f64,
    pub(super) after: f64,
}

/// Reads a program's memory all the time, until it is stopped.
#[derive(Debug)]
pub(super) struct Watch {
    process: u32,
    before: f64,
    running: watch::Sender<()>,
    most: JoinHandle<f64>,
}

impl Watch {
    pub(super) fn start(process: u32) -> Self {
        let (running, mut over) = watch::channel(());
        let before = megabytes(process);
        let most = tokio::spawn(async move {
            let mut most = before;
            loop {
                most = most.max(megabytes(process));
                tokio::select! {
                    _ = over.changed() => return most,
                    () = tokio::time::sleep(INTERVAL) => {}
                }
            }
        });
        Watch { process, before, running, most }
    }

    /// # Panics
    /// When looking panicked.
    pub(super) async fn stop(self) -> Memory {
        drop(self.running);
        let most = self.most.await.expect("looking does not panic");
        Memory { before: self.before, most, after: megabytes(self.process) }
    }
}

/// What has ended has no memory, and that it has ended is noticed elsewhere.
fn megabytes(process: u32) -> f64 {
    resident_bytes(process).unwrap_or_default() as f64 / 1e6
}

/// Open files and sockets of a program; `None` where the system has no `/proc`, or it has ended.
pub(super) fn open_files(process: u32) -> Option<usize> {
    let folder = PathBuf::from(format!("/proc/{process}/fd"));
    std::fs::read_dir(folder).ok().map(Iterator::count)
}

/// What is wrong with a program that must have lived through all of it.
pub(super) fn complaints(process: &mut Process) -> Vec<String> {
    let name = process.name().to_owned();
    let mut complaints = Vec::new();
    if let Some(status) = process.ended() {
        complaints.push(format!("{name} has ended: {status}"));
    }
    let log = process.log();
    let panics = log.lines().filter(|line| line.contains(PANIC));
    complaints.extend(panics.map(|line| format!("{name} logged a panic: {line}")));
    complaints
}
