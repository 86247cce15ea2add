//! Twice what a destination can do, then as little as before, on virtual time: what becomes of its goodput, exactly.

use std::fmt;

use jobs_core::destination::Destination;
use jobs_core::store::Retention;
use serde::Serialize;

use super::destination::{Model, Weather};
use super::measure::{Measured, measure};
use super::plan::{Act, Fault, MS, Network, Plan, Post, RetryBy, SECOND, SitePlan, Us};

/// Posted in usual times and in the overload, as shares of the capacity.
const USUAL: f64 = 0.8;
const OVERLOAD: f64 = 2.0;
/// How long it is as usual before and after.
const BEFORE: Us = 10 * SECOND;
const AFTER: Us = 15 * SECOND;
/// Until the gate has found what the destination takes.
const FOUND_WITHIN: Us = 2 * SECOND;
/// How much of what it was goodput must be from the very first second.
const AT_ONCE: f64 = 0.95;
/// A busy machine: the gateway gets no processor for so long, so often.
const STALL: Us = 300 * MS;
const STALL_EVERY: Us = 1_100 * MS;
/// Of the calls, how many may be refused.
const REFUSED: f64 = 0.02;

/// A destination that is overloaded for a while.
#[derive(Debug, Clone)]
pub struct Overload {
    pub name: &'static str,
    per_second: f64,
    lasts: Us,
    /// Whether the gateway stands still now and then.
    stalls: bool,
    /// How much of the capacity must be used once it is found.
    used_at_least: f64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct OverloadReport {
    pub name: &'static str,
    pub passed: bool,
    /// Goodput in the overload's first seconds, of before.
    pub at_once: f64,
    /// The same in its worst second after those, of the capacity, and in all of them.
    pub worst: f64,
    pub used: f64,
    pub used_at_least: f64,
    /// Goodput after it, while what piled up is drained, of the capacity.
    pub after: f64,
    pub refused: f64,
    pub trips: u64,
    pub violation: Option<String>,
    pub measured: Measured,
}

/// All of them.
pub fn overloads() -> Vec<Overload> {
    let of = |name, per_second, lasts| Overload { name, per_second, lasts, stalls: false, used_at_least: 0.97 };
    // While the gateway stands still, which is a quarter of the time, nobody is called.
    let stalls = |overload| Overload { stalls: true, used_at_least: 0.7, ..overload };
    vec![
        of("50/s", 50.0, 60 * SECOND),
        of("200/s", 200.0, 60 * SECOND),
        of("1,000/s", 1_000.0, 20 * SECOND),
        stalls(of("50/s, with stalls", 50.0, 60 * SECOND)),
        stalls(of("1,000/s, with stalls", 1_000.0, 20 * SECOND)),
    ]
}

impl Overload {
    fn plan(&self, seed: u64) -> Plan {
        let settings = Destination::new("api2".parse().expect("it is a name"), "http://127.0.0.1/".to_owned());
        let burst = (self.per_second / 20.0).floor().max(1.0);
        let model = Model::Bucket { per_second: self.per_second, burst, service: 5 * MS, noise: 0.0 };
        let mut acts = Vec::new();
        for (share, from, until) in [
            (USUAL, 0, BEFORE),
            (OVERLOAD, BEFORE, BEFORE + self.lasts),
            (USUAL, BEFORE + self.lasts, BEFORE + self.lasts + AFTER),
        ] {
            let every = (SECOND as f64 / (share * self.per_second)) as Us;
            let posts = (from..until).step_by(every as usize).zip(acts.len()..);
            acts.extend(posts.map(|(at, post)| (at, Act::Post(post..post + 1))).collect::<Vec<_>>());
        }
        let until = if self.stalls { BEFORE + self.lasts + AFTER } else { 0 };
        let faults = (0..until).step_by(STALL_EVERY as usize).map(|at| (at, Fault::StallGateway(STALL))).collect();
        Plan {
            seed,
            policy: RetryBy::Gate,
            sites: vec![SitePlan { settings, model, dial: (100, 400), weather: vec![(0, Weather::Up)] }],
            workers: vec![256; 3],
            network: Network { delay: (200, 800), lost: 0, repeated: 0 },
            commit: (300, MS),
            retention: Retention::default(),
            posts: vec![Post::plain(0); acts.len()],
            acts,
            faults,
            quiet: BEFORE + self.lasts + AFTER,
            bound: 600 * SECOND,
            set_back: 0,
            audit_every: u64::MAX,
            bug: None,
        }
    }

    /// Plays it.
    pub fn play(&self) -> OverloadReport {
        let (mut measured, violation) = measure(self.plan(7));
        let measured = measured.remove(0);
        let oks = |from: Us, until: Us| -> Vec<f64> {
            let seconds = &measured.seconds[(from / SECOND) as usize..(until / SECOND) as usize];
            seconds.iter().map(|second| f64::from(second.oks)).collect()
        };
        let mean = |oks: &[f64]| oks.iter().sum::<f64>() / oks.len() as f64;
        let (found, over) = (BEFORE + FOUND_WITHIN, BEFORE + self.lasts);
        let before = mean(&oks(2 * SECOND, BEFORE));
        let meanwhile = oks(found, over);
        let at_once = mean(&oks(BEFORE, found)) / before;
        let worst = meanwhile.iter().copied().fold(f64::INFINITY, f64::min) / self.per_second;
        let used = mean(&meanwhile) / self.per_second;
        let after = mean(&oks(over, over + AFTER.min(self.lasts / 2))) / self.per_second;
        let (calls, turned_away) = measured.seconds.iter().fold((0, 0), |(calls, refused), second| {
            (calls + u64::from(second.calls), refused + u64::from(second.refused))
        });
        let refused = turned_away as f64 / calls as f64;
        let violation = violation.map(|violation| violation.to_string());
        let passed = at_once >= AT_ONCE
            && used.min(after) >= self.used_at_least
            && refused <= REFUSED
            && measured.trips == 0
            && violation.is_none();
        OverloadReport {
            name: self.name,
            passed,
            at_once,
            worst,
            used,
            used_at_least: self.used_at_least,
            after,
            refused,
            trips: measured.trips,
            violation,
            measured,
        }
    }
}

impl fmt::Display for OverloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OverloadReport { name, passed, at_once, worst, used, after, refused, trips, .. } = self;
        let mark = if *passed { ' ' } else { '!' };
        write!(
            f,
            "{mark} {name:<22} overloaded  at once {:>5.1} % of before (>= {:.0})",
            at_once * 100.0,
            AT_ONCE * 100.0
        )?;
        write!(f, "  then used {:>5.1} % (>= {:.0})", used * 100.0, self.used_at_least * 100.0)?;
        write!(f, ", worst second {:>5.1} %  afterwards {:>5.1} %", worst * 100.0, after * 100.0)?;
        write!(f, "  refused {:>5.2} % (<= {:.1})  opened {trips}", refused * 100.0, REFUSED * 100.0)?;
        if let Some(violation) = &self.violation {
            write!(f, "\n    ! {violation}")?;
        }
        Ok(())
    }
}
