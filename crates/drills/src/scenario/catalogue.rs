//! The scenarios, by name: what goes wrong, what it is like when it is over, and what may come of it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Calls in the worst second to a destination that is held: the goal of the whole.
const CALLS_WHILE_HELD: u64 = 4;

/// A recovery is noticed within this: a busy destination is probed more than once a second.
const NOTICED: Duration = Duration::from_secs(1);

/// A backlog of a few seconds' work is gone within this after a recovery.
const DRAINED: Duration = Duration::from_secs(8);

/// What api2 can do in usual times: 200 calls a second, far more than the gentle pace, and less than a backlog at once.
const USUAL: &str = r#"{"mode":"capacity","per_second":200}"#;

/// One of them.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// For people who choose.
    pub what: &'static str,
    pub(super) before: &'static str,
    pub(super) trouble: Trouble,
    pub(super) after: &'static str,
    pub(super) health_check: bool,
    pub(super) bounds: Bounds,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// api2's weather.
    Weather(&'static str),
    /// Connecting hangs, and what is connected is silent.
    BlackHole,
    /// Twice up and twice down (503) in turn, for as long each as the size of the drill says.
    Flapping,
    /// One of three workers has all its connections reset.
    OneWorkerCutOff,
    /// One job is answered 500 whenever it is tried, and may be tried three times.
    PoisonJob,
}

/// What may come of it. `None`: nothing is demanded.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// How often the gate opens.
    pub(super) trips: RangeInclusive<u64>,
    /// What its reason contains.
    pub(super) reason: Option<&'static str>,
    pub(super) calls_while_held: Option<u64>,
    pub(super) noticed: Option<Duration>,
    pub(super) drained: Duration,
    pub(super) dead: RangeInclusive<u64>,
    pub(super) charged: Option<u64>,
}

/// An outage: it is held, noticed, and costs nobody anything.
const fn outage(name: &'static str, what: &'static str, trouble: Trouble) -> Scenario {
    Scenario {
        name,
        what,
        before: USUAL,
        trouble,
        after: USUAL,
        health_check: false,
        bounds: Bounds {
            trips: 1..=1,
            reason: Some("down"),
            calls_while_held: Some(CALLS_WHILE_HELD),
            noticed: Some(NOTICED),
            drained: DRAINED,
            dead: 0..=0,
            charged: Some(0),
        },
    }
}

/// Something that is no outage: the gate has no reason to open.
const fn trouble(name: &'static str, what: &'static str, trouble: Trouble) -> Scenario {
    let it = outage(name, what, trouble);
    let bounds = Bounds { trips: 0..=0, reason: None, calls_while_held: None, noticed: None, ..it.bounds };
    Scenario { bounds, ..it }
}

/// All of them.
pub static ALL: [Scenario; 16] = [
    outage("refused", "nothing listens", Trouble::Weather(r#"{"mode":"refuse"}"#)),
    outage("black-hole", "connecting hangs", Trouble::BlackHole),
    outage("reset", "every connection is reset", Trouble::Weather(r#"{"mode":"reset"}"#)),
    outage("hang", "requests are taken and never answered", Trouble::Weather(r#"{"mode":"hang"}"#)),
    outage("503", "503 for all", Trouble::Weather(r#"{"mode":"down"}"#)),
    Scenario {
        health_check: true,
        ..outage("503-health-check", "503 for all, with a health check", Trouble::Weather(r#"{"mode":"down"}"#))
    },
    {
        // Quiet that was asked for just before the end is kept.
        let it = outage(
            "503-retry-after",
            "503 for all, asking for 2 s of quiet",
            Trouble::Weather(r#"{"mode":"down","retry_after":"2s"}"#),
        );
        Scenario { bounds: Bounds { noticed: Some(Duration::from_secs(3)), ..it.bounds }, ..it }
    },
    {
        // Of the very first failure nobody can say whether it is the job or its destination.
        let it = outage("500", "500 for all", Trouble::Weather(r#"{"mode":"down","status":500}"#));
        Scenario { bounds: Bounds { charged: Some(1), ..it.bounds }, ..it }
    },
    {
        // The first two refusals look like those of two jobs.
        let it =
            outage("401", "401 for all: a revoked credential", Trouble::Weather(r#"{"mode":"down","status":401}"#));
        Scenario { bounds: Bounds { reason: Some("misconfigured"), charged: Some(2), ..it.bounds }, ..it }
    },
    {
        // Nineteen refusals in a row are of nineteen bad jobs; with the twentieth it is the destination.
        let it = outage("400", "400 for all: a broken deploy", Trouble::Weather(r#"{"mode":"down","status":400}"#));
        Scenario { bounds: Bounds { reason: Some("misconfigured"), dead: 19..=19, ..it.bounds }, ..it }
    },
    Scenario {
        before: r#"{"mode":"latency","ms":20}"#,
        after: r#"{"mode":"latency","ms":20}"#,
        ..trouble("slow", "ten times the latency", Trouble::Weather(r#"{"mode":"latency","ms":200}"#))
    },
    {
        // What failed by chance waits for its own timer, and is charged where others got through meanwhile. Five in a row are
        // errors by chance now and then: it is held for a moment.
        let it = trouble(
            "half-errors",
            "every second call is answered 500",
            Trouble::Weather(r#"{"mode":"error_rate","rate":0.5}"#),
        );
        Scenario {
            bounds: Bounds { trips: 0..=15, drained: Duration::from_secs(20), charged: None, ..it.bounds },
            ..it
        }
    },
    {
        let it = trouble("poison", "one job is answered 500 whenever it is tried", Trouble::PoisonJob);
        Scenario { bounds: Bounds { dead: 1..=1, charged: Some(3), ..it.bounds }, ..it }
    },
    {
        let it = trouble("one-worker-cut-off", "one of three workers cannot reach it", Trouble::OneWorkerCutOff);
        Scenario { bounds: Bounds { drained: Duration::from_secs(20), ..it.bounds }, ..it }
    },
    {
        let it =
            outage("halved", "half its capacity is gone soon after an outage", Trouble::Weather(r#"{"mode":"down"}"#));
        Scenario {
            after: r#"{"mode":"script","steps":[{"for_ms":1000,"mode":"capacity","per_second":200},{"mode":"capacity","per_second":100}]}"#,
            ..it
        }
    },
    {
        let it = trouble("flapping", "up for a while and down for a while, twice", Trouble::Flapping);
        Scenario { bounds: Bounds { trips: 1..=2, reason: Some("down"), ..it.bounds }, ..it }
    },
];

/// The one of that name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
