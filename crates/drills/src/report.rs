//! What a drill tells while it runs: a line that shows how it goes. Each drill's report at the end is a file of its own.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use jobs_core::process::clock;

use crate::client::{LedgerView, StatsView};

/// How often a line is written where there is no terminal to overwrite one on.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// What was claimed before a gate opened may be on its way for this long; the first probe leaves no earlier.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// How many violations a report writes out; a drill that breaks everything should still be readable.
pub(crate) const MAX_SHOWN: usize = 20;

/// What is seen of a drill while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) phase: &'static str,
    pub(crate) stats: StatsView,
    pub(crate) ledger: LedgerView,
}

/// The line that shows how a drill goes: overwritten on a terminal, now and then a new one elsewhere. On stderr.
#[derive(Debug)]
pub struct Progress {
    live: bool,
    began: Instant,
    written: Option<Instant>,
}

impl Progress {
    #[expect(clippy::new_without_default, reason = "a default that looks at the terminal and the clock would surprise")]
    pub fn new() -> Self {
        Progress { live: std::io::stderr().is_terminal(), began: clock::instant(), written: None }
    }

    /// The clock in the line counts from here.
    pub(crate) fn restart(&mut self) {
        self.began = clock::instant();
    }

    /// A line of its own.
    pub fn say(&mut self, text: &str) {
        self.end();
        eprintln!("{text}");
    }

    pub(crate) fn show(&mut self, watched: &Watched) {
        if !self.live && self.written.is_some_and(|written| written.elapsed() < PLAIN_INTERVAL) {
            return;
        }
        self.written = Some(clock::instant());
        let Watched { phase, stats, ledger } = watched;
        let line = format!(
            "{:5.1} s  {phase:<13}  accepted {:>6}  waiting {:>6}  calls to API 2 {:>6}  delivered {:>6}",
            self.began.elapsed().as_secs_f64(),
            stats.accepted,
            stats.waiting(),
            ledger.requests,
            ledger.accepted
        );
        if self.live { eprint!("\r\x1b[2K{line}") } else { eprintln!("{line}") }
    }

    /// Leaves the line as it is; what is written next begins a new one.
    pub(crate) fn end(&mut self) {
        if self.live && self.written.take().is_some() {
            eprintln!();
        }
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn seconds(ms: u64) -> String {
    format!("{:.2} s", ms as f64 / 1000.0)
}

pub(crate) fn or_never(ms: Option<u64>) -> String {
    ms.map_or_else(|| "never".to_owned(), seconds)
}
