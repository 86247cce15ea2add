//! What a drill tells: a line while it runs, and a report at the end, for people or as JSON.

use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use jobs_core::process::clock;
use jobs_core::time::Timestamp;
use serde::Serialize;

use crate::client::{LedgerView, StatsView};
use crate::invariants::Findings;
use crate::ledger::ClientLedger;
use crate::outage::Settings;

/// How often a line is written where there is no terminal to overwrite one on.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// How many violations are written out; a drill that breaks everything should still be readable.
const MAX_SHOWN: usize = 20;

/// How the outage went. The times are from the moment API 2 came back.
#[derive(Debug, Clone, Serialize)]
pub struct OutageReport {
    /// Whether nothing was lost, nothing still waits, and nothing else is wrong.
    pub passed: bool,
    /// Acknowledged jobs: delivered + dead + cancelled + pending + lost.
    pub accepted: u64,
    pub delivered: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub pending: u64,
    pub lost: u64,
    /// Deliveries beyond the first of each job.
    pub duplicates: u64,
    /// Requests of the client that were never acknowledged, although it repeated them.
    pub unacknowledged: u64,
    /// Requests that the client had to repeat, with the same key.
    pub repeats: u64,
    /// How long API 2 was down.
    pub down_ms: u64,
    pub calls_during_outage: u64,
    /// Calls in the worst second of the outage.
    pub worst_second_of_outage: u64,
    pub time_to_first_success_ms: Option<u64>,
    pub time_to_drain_ms: Option<u64>,
    /// 503 answers after API 2 was back, as a share of all calls then.
    pub overload_share: f64,
    pub seed: u64,
    pub violations: Vec<String>,
}

impl OutageReport {
    pub(crate) fn new(client: &ClientLedger, findings: Findings, failures: Vec<String>) -> Self {
        let mut violations: Vec<String> = findings.violations.iter().map(ToString::to_string).collect();
        let unacknowledged = u64::try_from(failures.len()).unwrap_or(u64::MAX);
        violations.extend(failures.iter().map(|failure| format!("a request was never acknowledged: {failure}")));
        OutageReport {
            passed: violations.is_empty(),
            accepted: findings.accepted,
            delivered: findings.delivered,
            dead: findings.dead,
            cancelled: findings.cancelled,
            pending: findings.waiting,
            lost: findings.lost,
            duplicates: findings.duplicates,
            unacknowledged,
            repeats: client.repeats(),
            down_ms: 0,
            calls_during_outage: 0,
            worst_second_of_outage: 0,
            time_to_first_success_ms: None,
            time_to_drain_ms: None,
            overload_share: 0.0,
            seed: 0,
            violations,
        }
    }

    /// Adds what API 2's ledger says of the time before and after `back`.
    pub(crate) fn time(
        &mut self,
        settings: &Settings,
        down: Duration,
        before: &LedgerView,
        after: &LedgerView,
        back: Timestamp,
    ) {
        let since_back = |at: Option<Timestamp>| at.map(|at| millis(at.since(back)));
        self.seed = settings.seed;
        self.down_ms = millis(down);
        self.calls_during_outage = before.requests;
        self.worst_second_of_outage = before.per_second.iter().map(|second| second.requests).max().unwrap_or_default();
        self.time_to_first_success_ms = since_back(after.first_ok_at);
        self.time_to_drain_ms = since_back(after.last_ok_at).filter(|_| self.pending == 0);
        let overload = |ledger: &LedgerView| ledger.by_status.get("503").copied().unwrap_or_default();
        let calls = after.requests.saturating_sub(before.requests);
        self.overload_share = overload(after).saturating_sub(overload(before)) as f64 / calls.max(1) as f64;
    }
}

impl fmt::Display for OutageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutageReport { accepted, delivered, dead, cancelled, pending, lost, duplicates, .. } = self;
        writeln!(f, "The outage: API 2 was down for {} while jobs were posted.\n", seconds(self.down_ms))?;
        writeln!(f, "  accepted             {accepted:>7}   acknowledged with 202 once on disk")?;
        writeln!(f, "  = delivered          {delivered:>7}   called succeeded, and in API 2's own ledger")?;
        writeln!(f, "  + dead               {dead:>7}")?;
        if *cancelled > 0 {
            writeln!(f, "  + cancelled          {cancelled:>7}")?;
        }
        writeln!(f, "  + pending            {pending:>7}")?;
        writeln!(f, "  + lost               {lost:>7}")?;
        writeln!(f, "  duplicates           {duplicates:>7}   deliveries beyond the first of a job")?;
        if self.repeats > 0 {
            writeln!(f, "  repeated requests    {:>7}   by the client, with the same key", self.repeats)?;
        }
        writeln!(f)?;
        let worst = self.worst_second_of_outage;
        writeln!(f, "  calls during outage  {:>7}   {worst} in the worst second", self.calls_during_outage)?;
        writeln!(f, "  first success        {:>9} after API 2 was back", or_never(self.time_to_first_success_ms))?;
        writeln!(f, "  all drained          {:>9} after API 2 was back\n", or_never(self.time_to_drain_ms))?;
        for violation in self.violations.iter().take(MAX_SHOWN) {
            writeln!(f, "  ! {violation}")?;
        }
        if self.violations.len() > MAX_SHOWN {
            writeln!(f, "  ! and {} more", self.violations.len() - MAX_SHOWN)?;
        }
        let verdict = match (self.passed, lost) {
            (true, _) => "Nothing was lost.",
            (false, 0) => "Nothing was lost, but not all is as it should be.",
            (false, _) => "JOBS WERE LOST.",
        };
        write!(f, "{verdict}")
    }
}

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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(ms: u64) -> String {
    format!("{:.2} s", ms as f64 / 1000.0)
}

fn or_never(ms: Option<u64>) -> String {
    ms.map_or_else(|| "never".to_owned(), seconds)
}
