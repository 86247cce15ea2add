//! How an outage went, beside the goals of the whole.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jobs_core::job::JobId;
use jobs_core::time::Timestamp;
use serde::Serialize;

use super::Settings;
use super::observe::Testimony;
use crate::client::{LedgerView, ReceivedView};
use crate::figure::{Figure, Goal, Table};
use crate::invariants::Findings;
use crate::ledger::ClientLedger;
use crate::percentile::percentile;
use crate::report::{MAX_SHOWN, ON_ITS_WAY, millis, or_never, seconds};
use crate::worst_second::worst_second;

/// What the goals are about: see the design's proof.
const MOST_CALLS: f64 = 4.0;
const NOTICED_MS: f64 = 1_000.0;
const OF_CAPACITY: f64 = 0.95;
const OVERLOADED: f64 = 0.01;
const FRESH_MS: f64 = 1_000.0;

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
    /// Calls in the worst second, whenever it began, from when the gate held API 2 until it was back.
    pub worst_second_of_outage: u64,
    pub time_to_first_success_ms: Option<u64>,
    pub time_to_drain_ms: Option<u64>,
    /// 503 answers after API 2 was back, as a share of all calls then.
    pub overload_share: f64,
    pub seed: u64,
    /// Beside the goals, whether or not this outage was large enough for them.
    pub figures: Vec<Figure>,
    pub violations: Vec<String>,
}

/// What was measured beside the jobs themselves.
pub(super) struct Measured<'a> {
    pub(super) down: Duration,
    /// API 2's ledger just before it came back, and at the end.
    pub(super) before: &'a LedgerView,
    pub(super) after: &'a LedgerView,
    /// Since when the gate held API 2, the last time before it was back.
    pub(super) held_since: Option<Timestamp>,
    /// How often the gate opened after API 2 was back.
    pub(super) retrips: u64,
    pub(super) testimony: &'a Testimony,
    /// Posted while the backlog drained.
    pub(super) fresh: &'a ClientLedger,
    /// What the recovery wrote, where the store could be read.
    pub(super) written: Option<super::rows::Written>,
}

impl OutageReport {
    pub(super) fn new(client: &ClientLedger, findings: Findings, failures: Vec<String>) -> Self {
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
            figures: Vec::new(),
            violations,
        }
    }

    /// Adds what API 2's ledger says of the time before and after it was back.
    pub(super) fn measured(&mut self, settings: &Settings, measured: &Measured<'_>) {
        let Measured { down, before, after, held_since, retrips, testimony, fresh, written } = measured;
        let back = after.since_weather.set_at;
        self.seed = settings.seed;
        self.down_ms = millis(*down);
        self.calls_during_outage = before.requests;
        let held = held_since.map_or(Timestamp::default(), |since| since.plus(ON_ITS_WAY))..back;
        self.worst_second_of_outage = worst_second(requests(testimony).filter(|at| held.contains(at)));
        self.time_to_first_success_ms = after.since_weather.first_ok_after().map(millis);
        let last_ok = after.last_ok_at.filter(|_| self.pending == 0);
        self.time_to_drain_ms = last_ok.map(|at| millis(at.since(back)));
        let overload = after.with_status(503).saturating_sub(before.with_status(503));
        let calls = after.requests.saturating_sub(before.requests);
        self.overload_share = overload as f64 / calls.max(1) as f64;

        let number = |found: Option<u64>| found.map_or(f64::NAN, |found| found as f64);
        let figure = Figure::new;
        self.figures = vec![
            figure(
                "calls in the worst second while held",
                self.worst_second_of_outage as f64,
                "",
                Goal::AtMost(MOST_CALLS),
            ),
            figure("API 2 back to first 2xx", number(self.time_to_first_success_ms), "ms", Goal::AtMost(NOTICED_MS)),
            figure("gate opened again while draining", *retrips as f64, "", Goal::AtMost(0.0)),
        ];
        if let Some(per_second) = settings.capacity {
            let share = share_of_capacity(per_second, before, after);
            self.figures.push(figure("of capacity, first to last 2xx", share, "", Goal::AtLeast(OF_CAPACITY)));
            self.figures.push(figure(
                "503 answers while draining, of calls",
                self.overload_share,
                "",
                Goal::AtMost(OVERLOADED),
            ));
        }
        if settings.fresh.is_some() {
            let mut times = deliveries(testimony, fresh);
            let p99 = percentile(&mut times, 0.99);
            let count = fresh.acknowledged().len() as f64;
            self.figures.push(
                figure("fresh jobs while draining: accepted to delivered, p99", p99, "ms", Goal::AtMost(FRESH_MS))
                    .beside("fresh jobs", count)
                    .beside("p50 ms", percentile(&mut times, 0.5)),
            );
        }
        if let Some(written) = written {
            self.figures.push(
                figure("waiting rows the recovery wrote", written.waiting as f64, "", Goal::AtMost(0.0))
                    .beside("rows still waiting then", written.looked_at as f64),
            );
            self.figures.push(figure("rows of gates the recovery wrote", written.gates as f64, "", Goal::AtMost(1.0)));
        }
    }

    /// Whether all goals are met, beside nothing being lost.
    pub fn goals_met(&self) -> bool {
        self.passed && crate::figure::all_met(&self.figures)
    }
}

fn requests(testimony: &Testimony) -> impl Iterator<Item = Timestamp> {
    let received = testimony.values().filter_map(|(_, received)| received.as_ref());
    received.flat_map(|received: &ReceivedView| received.requests.iter().map(|request| request.time))
}

/// 2xx answers, of what API 2 could have given between the first and the last of them, its burst included.
fn share_of_capacity(per_second: u32, before: &LedgerView, after: &LedgerView) -> f64 {
    let (Some(first), Some(last)) = (after.since_weather.first_ok_at, after.last_ok_at) else { return f64::NAN };
    let ok = after.with_status(200).saturating_sub(before.with_status(200)) as f64;
    let per_second = f64::from(per_second);
    ok / (per_second * last.since(first).as_secs_f64() + (per_second / 20.0).max(1.0))
}

/// From accepted to delivered, in milliseconds, of the jobs in `client`.
fn deliveries(testimony: &Testimony, client: &ClientLedger) -> Vec<f64> {
    let of = |id: &JobId| {
        let (job, received) = testimony.get(id)?;
        let mut requests = received.as_ref()?.requests.iter();
        let ok = requests.find(|request| request.status == Some(200))?;
        Some(ok.time.since(job.as_ref()?.created_at).as_secs_f64() * 1_000.0)
    };
    let by_id: BTreeMap<&JobId, ()> = client.acknowledged().values().map(|id| (id, ())).collect();
    by_id.into_keys().filter_map(of).collect()
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
        let worst = self.worst_second_of_outage;
        writeln!(
            f,
            "\n  calls during outage  {:>7}   {worst} in the worst second while held",
            self.calls_during_outage
        )?;
        writeln!(f, "  first success        {:>9} after API 2 was back", or_never(self.time_to_first_success_ms))?;
        writeln!(f, "  all drained          {:>9} after API 2 was back\n", or_never(self.time_to_drain_ms))?;
        writeln!(f, "{}", Table(&self.figures))?;
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
