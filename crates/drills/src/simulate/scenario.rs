//! The named scenarios: what a destination can do to its callers, each with bounds on what may come of it.
//!
//! In each, 500 jobs are waiting or arrive while something is wrong with `api2` from second 5 to second 25, with a neighbour that
//! is well all the time, three workers, and a network that works.

use std::fmt;
use std::time::Duration;

use jobs_core::destination::{Destination, HealthCheck};
use jobs_core::store::Retention;
use serde::Serialize;

use super::destination::{Model, Weather};
use super::measure::{Measured, measure};
use super::plan::{Act, Fault, MS, Network, Plan, Post, RetryBy, SECOND, SitePlan, Temper, Us};

/// When it begins to go wrong, and when all is well again.
const FROM: Us = 5 * SECOND;
const UNTIL: Us = 25 * SECOND;
/// Jobs for api2 posted at once while it is wrong, and one by one before, meanwhile and after.
const AT_ONCE: usize = 300;
const ONE_BY_ONE: usize = 400;
const EVERY: Us = 100 * MS;
/// What api2 can do in a second: its backlog is a few seconds' work.
const CAPACITY: f64 = 200.0;
/// Calls in the worst second while it is down, by the goal of the whole.
const CALLS_WHILE_DOWN: u64 = 4;

/// A scenario and what must come of it. `None`: nothing is demanded.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    weather: Vec<(Us, Weather)>,
    faults: Vec<(Us, Fault)>,
    poison: Option<Temper>,
    health_check: bool,
    worst_second_while_down: Option<u64>,
    first_ok_ms: Option<u64>,
    drained_ms: u64,
    dead: u64,
    charged: u64,
    trips: (u64, u64),
    reason: Option<&'static str>,
}

/// How a scenario went.
#[derive(Debug, Serialize)]
pub struct ScenarioReport {
    pub name: &'static str,
    pub passed: bool,
    pub api2: Measured,
    pub neighbour: Measured,
    /// Bounds that were not kept.
    pub misses: Vec<String>,
}

fn scenario(name: &'static str, weather: Weather) -> Scenario {
    Scenario {
        name,
        weather: vec![(FROM, weather), (UNTIL, Weather::Up)],
        faults: Vec::new(),
        poison: None,
        health_check: false,
        worst_second_while_down: Some(CALLS_WHILE_DOWN),
        first_ok_ms: Some(1_000),
        drained_ms: 5_000,
        dead: 0,
        charged: 0,
        trips: (1, 1),
        reason: Some("down"),
    }
}

/// Something that is not an outage: the gate has no reason to open.
fn trouble(name: &'static str, weather: Weather) -> Scenario {
    let none = Scenario {
        worst_second_while_down: None,
        first_ok_ms: None,
        trips: (0, 0),
        reason: None,
        ..scenario(name, weather)
    };
    Scenario { drained_ms: 6_000, ..none }
}

/// All of them.
pub fn scenarios() -> Vec<Scenario> {
    let status = |status, retry_after| Weather::Status { status, retry_after };
    // What hangs when it is over hangs until its own timeout, of ten seconds here.
    let hanging = |scenario| Scenario { drained_ms: 11_000, ..scenario };
    vec![
        scenario("refused", Weather::Refused),
        hanging(scenario("black hole", Weather::BlackHole)),
        scenario("reset", Weather::Reset),
        hanging(scenario("accept and hang", Weather::Hang)),
        scenario("503", status(503, None)),
        scenario("503 with a health check", status(503, None)).with_health_check(),
        // The seven seconds of quiet that were asked for at the end of the outage are kept.
        Scenario {
            first_ok_ms: Some(8_000),
            drained_ms: 14_000,
            ..scenario("503 with Retry-After", status(503, Some(7 * SECOND)))
        },
        // The first error is charged: no other job has failed yet.
        Scenario { charged: 1, ..scenario("500 for all", status(500, None)) },
        // Two jobs alone make no verdict, and are retried on their own account.
        Scenario {
            charged: 2,
            drained_ms: 7_000,
            reason: Some("misconfigured"),
            ..scenario("401 for all", status(401, None))
        },
        // Twenty refusals in a row make a fault; those before the last have ended their jobs.
        Scenario {
            dead: 19,
            worst_second_while_down: Some(20),
            reason: Some("misconfigured"),
            ..scenario("400 for all", status(400, None))
        },
        Scenario { trips: (0, 1), ..trouble("latency x10", Weather::Slow(10)) },
        // Each failure is beside others' successes, so most count; what failed waits for its own time, 16 s the fourth time.
        Scenario {
            charged: 500,
            drained_ms: 17_000,
            ..trouble("50 % errors", Weather::Errors { status: 500, percent: 50 })
        },
        Scenario { poison: Some(Temper::Answered(500)), dead: 1, charged: 3, ..trouble("poison", Weather::Up) },
        Scenario {
            faults: vec![(FROM, Fault::CutOff { worker: 0, site: 0, span: UNTIL - FROM })],
            drained_ms: 15_000,
            ..trouble("one partitioned worker", Weather::Up)
        },
        Scenario {
            weather: vec![(FROM, Weather::Refused), (UNTIL, Weather::Capacity(0.5))],
            drained_ms: 11_000,
            ..scenario("capacity halved after recovery", Weather::Refused)
        },
        Scenario {
            first_ok_ms: None,
            trips: (1, 8),
            ..scenario("flapping", Weather::Flapping { up: 5 * SECOND, down: 5 * SECOND })
        },
    ]
}

/// A run under the gate, and one under the original design's timers.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub gate: Measured,
    pub timers: Measured,
}

/// The refused scenario under the gate, and under the original design's timers: what api2 saw of each.
pub fn compare() -> Comparison {
    let refused = scenario("refused", Weather::Refused);
    let of = |policy| {
        let (mut measured, violation) = measure(refused.plan(policy));
        assert_eq!(violation, None);
        measured.remove(0)
    };
    Comparison { gate: of(RetryBy::Gate), timers: of(RetryBy::Timers) }
}

impl Scenario {
    fn with_health_check(self) -> Self {
        Scenario { health_check: true, ..self }
    }

    /// As a plan, by the gate or by the original design's timers.
    pub fn plan(&self, policy: RetryBy) -> Plan {
        let mut settings = Destination::new("api2".parse().expect("it is a name"), "http://127.0.0.1/".to_owned());
        settings.attempt_timeout = Duration::from_secs(10);
        settings.health_check = self.health_check.then(|| HealthCheck {
            url: "http://127.0.0.1/".to_owned(),
            method: "GET".to_owned(),
            expect: 200,
        });
        let api2 = SitePlan {
            settings,
            model: Model::Bucket { per_second: CAPACITY, burst: CAPACITY / 20.0, service: 5 * MS, noise: 0.0 },
            dial: (100, 400),
            weather: self.weather.clone(),
        };
        let well = Destination::new("neighbour".parse().expect("it is a name"), "http://127.0.0.1/".to_owned());
        let model = Model::Steady { service: 20 * MS };
        let neighbour = SitePlan { settings: well, model, dial: (100, 400), weather: Vec::new() };
        let mut posts = vec![Post::plain(0); AT_ONCE + ONE_BY_ONE];
        if let Some(temper) = self.poison {
            posts[AT_ONCE / 2].temper = temper;
            posts[AT_ONCE / 2].max_attempts = Some(3);
        }
        posts.extend(vec![Post::plain(1); ONE_BY_ONE]);
        let mut acts = vec![(FROM + 3 * SECOND, Act::Post(0..AT_ONCE))];
        for n in 0..ONE_BY_ONE {
            let at = n as Us * EVERY;
            acts.push((at, Act::Post(AT_ONCE + n..AT_ONCE + n + 1)));
            acts.push((at, Act::Post(AT_ONCE + ONE_BY_ONE + n..AT_ONCE + ONE_BY_ONE + n + 1)));
        }
        Plan {
            seed: 1,
            policy,
            sites: vec![api2, neighbour],
            workers: vec![64; 3],
            network: Network { delay: (200, 800), lost: 0, repeated: 0 },
            commit: (500, 2 * MS),
            retention: Retention::default(),
            posts,
            acts,
            faults: self.faults.clone(),
            quiet: UNTIL,
            bound: match policy {
                RetryBy::Gate => 600 * SECOND,
                // Jobs that failed together return together, five minutes apart, and are refused together.
                RetryBy::Timers => 12 * 3_600 * SECOND,
            },
            set_back: 0,
            audit_every: 10_000,
            bug: None,
        }
    }

    /// Plays it, and compares what came of it with its bounds.
    pub fn play(&self) -> ScenarioReport {
        let (mut measured, violation) = measure(self.plan(RetryBy::Gate));
        let (neighbour, api2) = (measured.remove(1), measured.remove(0));
        let mut misses: Vec<String> = violation.iter().map(ToString::to_string).collect();
        let mut at_most = |what: &str, found: Option<u64>, bound: Option<u64>| {
            if let Some(bound) = bound.filter(|bound| found.is_none_or(|found| found > *bound)) {
                misses.push(format!("{what}: {found:?}, and at most {bound} is allowed"));
            }
        };
        at_most(
            "calls in the worst second while down",
            Some(api2.worst_second_while_down),
            self.worst_second_while_down,
        );
        at_most("milliseconds to the first ok", api2.first_ok_ms, self.first_ok_ms);
        at_most("milliseconds to drain", api2.drained_ms, Some(self.drained_ms));
        at_most("dead", Some(api2.dead), Some(self.dead));
        at_most("charged", Some(api2.charged), Some(self.charged));
        at_most("trips", Some(api2.trips), Some(self.trips.1));
        at_most("neighbour's p99 in milliseconds", neighbour.p99_ms, Some(100));
        at_most("neighbour's trips", Some(neighbour.trips), Some(0));
        if api2.trips < self.trips.0 {
            misses.push(format!("the gate opened {} times", api2.trips));
        }
        if let Some(wanted) = self.reason.filter(|wanted| !api2.reason.as_deref().unwrap_or_default().contains(wanted))
        {
            misses.push(format!("the reason was to say {wanted:?} and says {:?}", api2.reason));
        }
        ScenarioReport { name: self.name, passed: misses.is_empty(), api2, neighbour, misses }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, measured) in [("by the gate", &self.gate), ("by each job's own timer", &self.timers)] {
            let drained =
                measured.drained_ms.map_or_else(|| "never".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1_000.0));
            write!(f, "\n  refused, {name:<24} {:>4} calls in the worst second", measured.worst_second_while_down)?;
            write!(f, "  drained {drained} after  {} calls in all", measured.calls)?;
        }
        Ok(())
    }
}

impl fmt::Display for ScenarioReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { worst_second_while_down, first_ok_ms, drained_ms, dead, charged, trips, .. } = &self.api2;
        let ms = |time: &Option<u64>| time.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
        write!(f, "  {:<32} {worst_second_while_down:>3}/s  first ok {:>8}", self.name, ms(first_ok_ms))?;
        write!(f, "  drained {:>9}  dead {dead:>2}  charged {charged:>3}", ms(drained_ms))?;
        write!(f, "  opened {trips}  neighbour p99 {}", ms(&self.neighbour.p99_ms))?;
        if let Some(reason) = &self.api2.reason {
            write!(f, "  ({reason})")?;
        }
        for miss in &self.misses {
            write!(f, "\n    ! {miss}")?;
        }
        Ok(())
    }
}
