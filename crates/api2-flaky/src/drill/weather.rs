//! The weathers: what may be ordered, and which plain condition holds at a given time.
//!
//! A script's steps are spells, which a script is not, so a nested script cannot be written down.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// What a flapping destination answers in its down times.
const FLAPPING_DOWN: Condition = Condition::Down { status: 503, retry_after: None };

/// A condition that does not change with time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Condition {
    /// Answers 200 at once.
    Up,
    /// Answers `status` at once, with `Retry-After` if given.
    Down {
        status: u16,
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
        retry_after: Option<Duration>,
    },
    /// Serves `burst` requests and then `per_second`, at most `max_in_flight` at a time; answers 503 beyond.
    Capacity {
        per_second: u32,
        burst: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_in_flight: Option<u32>,
    },
    /// Answers 200 after `ms` plus up to `jitter_ms`.
    Latency { ms: u64, jitter_ms: u64 },
    /// Answers `status` to a share `rate` (0 to 1) of the requests, 200 to the others.
    ErrorRate { rate: f64, status: u16 },
    /// Breaks the connection with a TCP reset.
    Reset,
    /// Never answers.
    Hang,
    /// Does not listen.
    Refuse,
}

impl Condition {
    /// Whether a request has a chance to be served. What `/api2/health` tells and the toggle flips.
    pub fn serves(self) -> bool {
        match self {
            Condition::Up | Condition::Capacity { .. } | Condition::Latency { .. } | Condition::ErrorRate { .. } => {
                true
            }
            Condition::Down { .. } | Condition::Reset | Condition::Hang | Condition::Refuse => false,
        }
    }
}

/// Up for `up_ms`, down (503) for `down_ms`, and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "mode", rename = "flapping")]
pub struct Flapping {
    pub up_ms: u64,
    pub down_ms: u64,
}

/// What may be a step of a script.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Spell {
    Steady(Condition),
    Flapping(Flapping),
}

/// One step: its weather for `for_ms`. The last step stays, and needs no `for_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Step {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    #[serde(flatten)]
    pub spell: Spell,
}

/// Steps one after the other; there is at least one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "mode", rename = "script")]
pub struct Script {
    pub steps: Vec<Step>,
}

/// Any weather.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Weather {
    Spell(Spell),
    Script(Script),
}

/// What holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Present {
    /// The script's step, from 0; 0 without a script.
    pub step: usize,
    pub condition: Condition,
    /// When the condition or the step changes by itself; `None` if never.
    pub changes_in: Option<Duration>,
}

impl Weather {
    /// The original design's failure mode.
    pub const DOWN: Weather = Weather::steady(Condition::Down { status: 503, retry_after: None });
    /// The original design's success mode.
    pub const UP: Weather = Weather::steady(Condition::Up);

    pub const fn steady(condition: Condition) -> Self {
        Weather::Spell(Spell::Steady(condition))
    }

    /// What holds when this weather was set `elapsed` ago.
    pub fn at(&self, elapsed: Duration) -> Present {
        match self {
            Weather::Spell(spell) => spell.at(elapsed),
            Weather::Script(script) => script.at(elapsed),
        }
    }
}

impl Spell {
    fn at(self, elapsed: Duration) -> Present {
        match self {
            Spell::Steady(condition) => Present { step: 0, condition, changes_in: None },
            Spell::Flapping(Flapping { up_ms, down_ms }) => {
                let (up, down) = (Duration::from_millis(up_ms), Duration::from_millis(down_ms));
                let nanos = elapsed.as_nanos() % (up + down).as_nanos();
                let into = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
                let (condition, changes_in) =
                    if into < up { (Condition::Up, up - into) } else { (FLAPPING_DOWN, up + down - into) };
                Present { step: 0, condition, changes_in: Some(changes_in) }
            }
        }
    }
}

impl Script {
    fn at(&self, elapsed: Duration) -> Present {
        let mut into = elapsed;
        let last = self.steps.len() - 1;
        for (number, step) in self.steps.iter().enumerate() {
            let lasts = step.for_ms.filter(|_| number < last).map(Duration::from_millis);
            if let Some(over) = lasts.and_then(|lasts| into.checked_sub(lasts)) {
                into = over;
                continue;
            }
            let present = step.spell.at(into);
            let step_ends_in = lasts.map(|lasts| lasts - into);
            let changes_in = [present.changes_in, step_ends_in].into_iter().flatten().min();
            return Present { step: number, changes_in, ..present };
        }
        unreachable!("the last step stays")
    }
}

fn as_text<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_str(&jobs_core::process::duration::show(*duration)),
        None => serializer.serialize_none(),
    }
}
