//! What is at this moment: jobs by state, gates, the store. Made anew for each look, from kept counters.

use std::sync::atomic::{AtomicU64, Ordering};

use jobs_core::dispatch::DestinationView;
use jobs_core::gate::GateStateName;
use jobs_core::job::StateName;
use jobs_core::lifecycle::DuplicateCause;
use jobs_core::meters::Spread;
use jobs_core::store::{Stats, StoreError};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use super::{Labels, PREFIX, of, of_both};
use crate::app::App;
use crate::public::stats::unresolved;

type Gauges = Family<Labels, Gauge>;
type Floats = Family<Labels, Gauge<f64, AtomicU64>>;

const GATE_STATES: [(GateStateName, &str); 4] = [
    (GateStateName::Closed, "closed"),
    (GateStateName::Open, "open"),
    (GateStateName::Ramp, "ramp"),
    (GateStateName::Paused, "paused"),
];

pub(super) async fn registry(app: &App) -> Result<Registry, StoreError> {
    let mut registry = Registry::with_prefix(PREFIX);
    let stats = app.store.stats().await?;
    of_jobs(&mut registry, &stats);
    let views = app.dispatcher().views();
    of_gates(&mut registry, &views);
    let ages = Floats::default();
    let now = app.clock.now().wall;
    for view in &views {
        let due = app.store.oldest_due(&view.name).await?;
        let age = due.map_or(0.0, |due| now.since(due).as_secs_f64());
        ages.get_or_create(&of(&view.name)).set(age);
    }
    let help = "How long the oldest waiting job has been due; 0 if none is";
    registry.register_with_unit("oldest_due_age", help, Unit::Seconds, ages);
    let stalled = Floats::default();
    for view in &views {
        let seconds = app.watchdog.stalled(&view.name).map_or(0.0, |time| time.as_secs_f64());
        stalled.get_or_create(&of(&view.name)).set(seconds);
    }
    let help = "For how long due work has not been handed out although workers are there; 0 if all is well";
    registry.register_with_unit("stalled", help, Unit::Seconds, stalled);
    of_process(&mut registry, app);
    of_store(&mut registry, app);
    Ok(registry)
}

fn of_jobs(registry: &mut Registry, stats: &Stats) {
    let (jobs, open) = (Gauges::default(), Gauges::default());
    for (destination, states) in &stats.destinations {
        for state in StateName::ALL {
            let count = states.get(&state).copied().unwrap_or(0);
            jobs.get_or_create(&of_both(destination, "state", state.as_str())).set(whole(count));
        }
        open.get_or_create(&of(destination)).set(whole(unresolved(stats, destination)));
    }
    registry.register("jobs", "Stored jobs by destination and state", jobs);
    registry.register("jobs_unresolved", "Dead jobs that no operator has settled otherwise", open);
    for (name, help, count) in [
        ("jobs_accepted", "Jobs ever accepted", stats.accepted),
        ("jobs_purged", "Finished jobs deleted after their retention", stats.purged),
        ("attempts", "Settled attempts", stats.attempts),
    ] {
        let counter: Counter = Counter::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }
    let duplicates = Family::<Labels, Counter>::default();
    for cause in DuplicateCause::ALL {
        let count = stats.duplicates.get(&cause).copied().unwrap_or(0);
        duplicates.get_or_create(&vec![("cause", cause.as_str().to_owned())]).inc_by(count);
    }
    registry.register("possible_duplicates", "Requests that may have reached a destination twice", duplicates);
}

fn of_gates(registry: &mut Registry, views: &[DestinationView]) {
    let (in_flight, limits, states) = (Gauges::default(), Gauges::default(), Gauges::default());
    let (rates, epochs) = (Floats::default(), Family::<Labels, Counter>::default());
    for view in views {
        in_flight.get_or_create(&of(&view.name)).set(i64::from(view.in_flight));
        limits.get_or_create(&of(&view.name)).set(i64::from(view.limit));
        for (state, name) in GATE_STATES {
            let is = i64::from(view.state == state);
            states.get_or_create(&of_both(&view.name, "state", name)).set(is);
        }
        if let Some(rate) = view.rate {
            rates.get_or_create(&of(&view.name)).set(rate);
        }
        epochs.get_or_create(&of(&view.name)).inc_by(view.epoch);
    }
    registry.register("in_flight", "Leases by destination", in_flight);
    registry.register("gate_limit", "Calls in flight the gate lets through", limits);
    registry.register(
        "gate_rate_per_second",
        "Calls a second the gate lets through; absent while as many as the limit does",
        rates,
    );
    registry.register("gate_state", "1 for the state the gate is in, 0 for the others", states);
    registry.register("gate_recoveries", "Outages that have ended", epochs);
}

fn of_process(registry: &mut Registry, app: &App) {
    let low_space = u64::from(app.low_space.load(Ordering::Relaxed));
    for (name, help, value) in [
        ("parked_claims", "Claims waiting for work", app.parked.load(Ordering::Relaxed)),
        ("waiting_requests", "Requests waiting for a job to end", app.waiters.count() as u64),
        ("low_disk_space", "1 while jobs are refused because the disk is nearly full", low_space),
        ("settling_outcomes", "Outcomes that the store has not taken yet", app.settling.load(Ordering::Relaxed) as u64),
    ] {
        let gauge: Gauge = Gauge::default();
        gauge.set(whole(value));
        registry.register(name, help, gauge);
    }
}

fn of_store(registry: &mut Registry, app: &App) {
    let meters = app.store.meters();
    if let Some(bytes) = meters.log_bytes {
        let gauge: Gauge = Gauge::default();
        gauge.set(whole(bytes));
        let help = "What is committed and yet to be copied into the database";
        registry.register_with_unit("store_log", help, Unit::Bytes, gauge);
    }
    if let Some(spread) = meters.commit_seconds {
        let help = "How long commits took to reach the disk";
        registry.register_with_unit("commit_duration", help, Unit::Seconds, Told(spread));
    }
    if let Some(spread) = meters.commit_operations {
        registry.register("commit_operations", "Operations that one commit held", Told(spread));
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A histogram that was counted elsewhere.
#[derive(Debug)]
struct Told(Spread);

impl EncodeMetric for Told {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let count = self.0.counts.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.0.sum, count, &self.0.counts, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for Told {
    const TYPE: MetricType = MetricType::Histogram;
}
