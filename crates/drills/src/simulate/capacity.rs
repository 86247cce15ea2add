//! How near to its capacity a destination is kept busy after an outage, and how often it is asked too much, with everything in
//! the loop: the dispatcher, batches of claims, three workers, a network that takes its time.

use std::fmt;

use jobs_core::destination::Destination;
use jobs_core::store::Retention;
use serde::Serialize;

use super::destination::{Model, Weather};
use super::measure::{Measured, measure, pace};
use super::plan::{Act, MS, Network, Plan, Post, RetryBy, SECOND, SitePlan, Us};

/// How long it is down at first.
const DOWN: Us = 3 * SECOND;
/// From accepted to delivered, of 99 of a hundred fresh jobs.
const FRESH_MS: u64 = 1_000;
/// Posts in one request.
const BATCH: usize = 1_000;

/// A destination, and what must come of draining a backlog into it.
#[derive(Debug, Clone)]
pub struct Capacity {
    pub name: &'static str,
    model: Model,
    /// What it can do in a second, on average.
    per_second: f64,
    jobs: usize,
    /// Posted while it is drained, as a share of its capacity.
    fresh: f64,
    /// Its capacity changes by so much so long after it came back.
    change: Option<(Us, f64)>,
    /// Share of the capacity that must be used, and of the calls that may be refused.
    used: f64,
    refused: f64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct CapacityReport {
    pub name: &'static str,
    pub passed: bool,
    /// Share of its capacity that was used, from the first ok to the last.
    pub used: f64,
    pub used_at_least: f64,
    pub refused: f64,
    pub refused_at_most: f64,
    /// How often its gate opened again.
    pub trips: u64,
    /// Of the jobs that were posted meanwhile, if any: from accepted to delivered.
    pub fresh_p99_ms: Option<u64>,
    pub violation: Option<String>,
    pub measured: Measured,
}

fn bucket(name: &'static str, per_second: f64, burst: f64, jobs: usize) -> Capacity {
    let model = Model::Bucket { per_second, burst, service: 5 * MS, noise: 0.0 };
    Capacity { name, model, per_second, jobs, fresh: 0.0, change: None, used: 0.98, refused: 0.01 }
}

fn other(name: &'static str, model: Model, per_second: f64, jobs: usize, used: f64) -> Capacity {
    Capacity { name, model, per_second, jobs, fresh: 0.0, change: None, used, refused: 0.01 }
}

/// All of them. `jobs` are some 20 to 60 seconds of each.
pub fn capacities() -> Vec<Capacity> {
    let thousand = |name| bucket(name, 1_000.0, 50.0, 40_000);
    vec![
        bucket("100/s", 100.0, 5.0, 6_000),
        thousand("1,000/s"),
        bucket("5,000/s", 5_000.0, 250.0, 150_000),
        // With fresh jobs beside them. In a short drain the ramp, and what it refused, is a large part.
        Capacity { fresh: 0.15, ..bucket("100/s, and fresh", 100.0, 5.0, 6_000) },
        Capacity { fresh: 0.15, jobs: 10_000, ..thousand("1,000/s, short, and fresh") },
        Capacity { fresh: 0.15, ..thousand("1,000/s, and fresh") },
        // A second's worth of burst must be overrun to be found out.
        bucket("1,000/s, burst of 1,000", 1_000.0, 1_000.0, 100_000),
        // Of the time that a call counts as in flight, some 4 ms are the report's and the next claim's. So 16 at a time are
        // 16 / 54 ms, which is 93 % of 16 / 50 ms; one more would be refused every third time.
        other("16 at a time, 50 ms", Model::Concurrency { most: 16, service: 50 * MS }, 320.0, 15_000, 0.92),
        other("64 at a time, 200 ms", Model::Concurrency { most: 64, service: 200 * MS }, 320.0, 15_000, 0.96),
        other("1 server, 5 ms", Model::Queue { servers: 1, service: 5 * MS }, 200.0, 8_000, 0.98),
        other("8 servers, 20 ms", Model::Queue { servers: 8, service: 20 * MS }, 400.0, 15_000, 0.98),
        other("64 servers, 20 ms", Model::Queue { servers: 64, service: 20 * MS }, 3_200.0, 80_000, 0.98),
        Capacity { change: Some((15 * SECOND, 0.5)), ..thousand("1,000/s, halved meanwhile") },
        // Twice as much is found after some seconds, or what is too much would be tried out all the time.
        Capacity {
            change: Some((15 * SECOND, 2.0)),
            used: 0.93,
            jobs: 80_000,
            ..thousand("1,000/s, doubled meanwhile")
        },
        Capacity {
            model: Model::Bucket { per_second: 1_000.0, burst: 50.0, service: 5 * MS, noise: 100.0 },
            per_second: 900.0,
            used: 0.95,
            ..thousand("1,000/s, others take 100")
        },
    ]
}

impl Capacity {
    fn plan(&self) -> Plan {
        let settings = Destination::new("api2".parse().expect("it is a name"), "http://127.0.0.1/".to_owned());
        let mut weather = vec![(0, Weather::Refused), (DOWN, Weather::Up)];
        if let Some((after, factor)) = self.change {
            weather.push((DOWN + after, Weather::Capacity(factor)));
        }
        let starts = (0..self.jobs).step_by(BATCH);
        let backlog = starts.map(|from| (0, Act::Post(from..(from + BATCH).min(self.jobs))));
        let fresh = (self.jobs as f64 * self.fresh) as usize;
        let every = SECOND as f64 / (self.fresh * self.per_second);
        let freshly =
            (0..fresh).map(|n| (DOWN + (n as f64 * every) as Us, Act::Post(self.jobs + n..self.jobs + n + 1)));
        Plan {
            seed: 7,
            policy: RetryBy::Gate,
            sites: vec![SitePlan { settings, model: self.model.clone(), dial: (100, 400), weather }],
            workers: vec![256; 3],
            network: Network { delay: (200, 800), lost: 0, repeated: 0 },
            commit: (300, MS),
            retention: Retention::default(),
            posts: vec![Post::plain(0); self.jobs + fresh],
            acts: backlog.chain(freshly).collect(),
            faults: Vec::new(),
            quiet: DOWN,
            bound: 600 * SECOND,
            set_back: 0,
            audit_every: u64::MAX,
            bug: None,
        }
    }

    /// Drains it.
    pub fn play(&self) -> CapacityReport {
        let (mut measured, violation) = measure(self.plan());
        let measured = measured.remove(0);
        let used = pace(&measured, measured.delivered) / self.average(&measured);
        let refused = measured.refused_share;
        let trips = measured.trips.saturating_sub(1);
        let violation = violation.map(|violation| violation.to_string());
        let fresh_p99_ms = measured.fresh_p99_ms;
        let quick = fresh_p99_ms.is_none_or(|ms| ms <= FRESH_MS);
        let passed = used >= self.used && refused <= self.refused && trips == 0 && quick && violation.is_none();
        let (used_at_least, refused_at_most) = (self.used, self.refused);
        CapacityReport {
            name: self.name,
            passed,
            used,
            used_at_least,
            refused,
            refused_at_most,
            trips,
            fresh_p99_ms,
            violation,
            measured,
        }
    }

    /// What it could have done in a second, from its first ok to its last.
    fn average(&self, measured: &Measured) -> f64 {
        let (Some(first), Some(last)) = (measured.first_ok_ms, measured.last_ok_ms) else { return self.per_second };
        match self.change {
            Some((after, factor)) if after / MS > first && after / MS < last => {
                let (before, since) = ((after / MS - first) as f64, (last - after / MS) as f64);
                self.per_second * (before + factor * since) / (before + since)
            }
            _ => self.per_second,
        }
    }
}

impl fmt::Display for CapacityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CapacityReport { name, passed, used, used_at_least, refused, trips, .. } = self;
        let mark = if *passed { ' ' } else { '!' };
        write!(f, "{mark} {name:<28} used {:>5.1} % (>= {:.0})", used * 100.0, used_at_least * 100.0)?;
        write!(f, "  refused {:>5.2} % (<= {:.1})", refused * 100.0, self.refused_at_most * 100.0)?;
        write!(f, "  opened again {trips}  first ok {:?} ms", self.measured.first_ok_ms.unwrap_or_default())?;
        if let Some(p99) = self.fresh_p99_ms {
            write!(f, "  fresh p99 {p99} ms (<= {FRESH_MS})")?;
        }
        if let Some(violation) = &self.violation {
            write!(f, "\n    ! {violation}")?;
        }
        Ok(())
    }
}
