//! What a run did to one destination, as figures and curves.

use jobs_core::job::StateName;
use jobs_core::store::Filter;
use serde::Serialize;

use super::destination::Second;
use super::plan::{MS, Plan, SECOND, Us};
use super::watch::Violation;
use super::world::{Sample, World};

/// A run as one of its destinations saw it. Times are since all was well, unless they say otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    pub destination: String,
    pub calls: u64,
    pub delivered: u64,
    pub dead: u64,
    /// Deliveries beyond the first of each job.
    pub duplicates: u64,
    /// Attempts that were counted against jobs.
    pub charged: u64,
    /// Calls within the worst second while it was down for two seconds or more.
    pub worst_second_while_down: u64,
    /// How often its gate opened, and why the last time.
    pub trips: u64,
    pub reason: Option<String>,
    pub first_ok_ms: Option<u64>,
    /// Until the last job of those that were accepted before was delivered.
    pub drained_ms: Option<u64>,
    pub last_ok_ms: Option<u64>,
    /// Calls that it refused, as a share of all.
    pub refused_share: f64,
    /// Of jobs accepted since: from accepted to delivered.
    pub fresh_p99_ms: Option<u64>,
    /// Of all: from accepted to delivered.
    pub p99_ms: Option<u64>,
    #[serde(skip)]
    pub seconds: Vec<Second>,
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// Runs a plan, and measures each of its destinations.
pub(super) fn measure(plan: Plan) -> (Vec<Measured>, Option<Violation>) {
    let mut world = World::new(plan);
    world.sampled = true;
    world.run();
    let measured = (0..world.sites.len()).map(|index| world.measured(index)).collect();
    (measured, world.watch.broken().cloned())
}

impl World {
    fn measured(&self, index: usize) -> Measured {
        let (quiet, site) = (self.plan.quiet, &self.sites[index]);
        let name = &self.plan.sites[index].settings.name;
        let states = self.gateway.state().stats().destinations.remove(name).unwrap_or_default();
        let since = |at: Us| at.saturating_sub(quiet) / MS;
        let backlog = self.watch.deliveries(index).filter(|(accepted, _)| *accepted < quiet).map(|(_, done)| done);
        let fresh = self.watch.deliveries(index).filter(|(accepted, _)| *accepted >= quiet);
        Measured {
            destination: name.to_string(),
            calls: site.calls,
            delivered: self.watch.deliveries(index).count() as u64,
            dead: states.get(&StateName::Dead).copied().unwrap_or_default(),
            duplicates: self.watch.duplicates(index),
            charged: self.charged(index),
            worst_second_while_down: site.worst_while_down as u64,
            trips: self.watch.trips(index),
            reason: self.watch.reason(index).map(str::to_owned),
            first_ok_ms: site.first_ok.map(since),
            drained_ms: backlog.max().map(since),
            last_ok_ms: Some(site.last_ok).filter(|at| *at > 0).map(since),
            refused_share: site.quiet_refused as f64 / site.quiet_calls.max(1) as f64,
            fresh_p99_ms: p99(fresh.map(|(accepted, done)| done - accepted).collect()),
            p99_ms: p99(self.watch.deliveries(index).map(|(accepted, done)| done - accepted).collect()),
            seconds: site.seconds.clone(),
            samples: self.samples[index].clone(),
        }
    }

    fn charged(&self, index: usize) -> u64 {
        let destination = Some(self.plan.sites[index].settings.name.clone());
        let filter = Filter { destination, ..Filter::default() };
        let (mut charged, mut below) = (0, None);
        loop {
            let page = self.gateway.state().list(&filter, below, 1_000);
            charged += page.jobs.iter().map(|job| u64::from(job.progress.charged)).sum::<u64>();
            below = page.next;
            if below.is_none() {
                return charged;
            }
        }
    }
}

fn p99(mut times: Vec<Us>) -> Option<u64> {
    times.sort_unstable();
    let last = times.len().checked_sub(1)?;
    Some(times[last * 99 / 100] / MS)
}

/// Oks per second from the first to the last since all was well.
pub(super) fn pace(measured: &Measured, oks: u64) -> f64 {
    match (measured.first_ok_ms, measured.last_ok_ms) {
        (Some(first), Some(last)) if last > first => oks as f64 / ((last - first) as f64 * MS as f64 / SECOND as f64),
        _ => 0.0,
    }
}
