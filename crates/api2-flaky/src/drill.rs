//! Decides what happens to each request: the weather, and how it runs through time.
//!
//! Pure: given the same weather, seed, request numbers and times it decides the same, so a drill that failed can be repeated.
//! Chance is a hash of (seed, request number), not a sequence, so that requests which overtake each other change nothing. Acting
//! on a decision (waiting, resetting, closing the port) is the business of the routes and the server.

mod bucket;
mod chance;
mod parse;
mod weather;

use std::time::Duration;

use jobs_core::time::Mono;

pub use parse::{BadWeather, parse};
pub use weather::{Condition, Flapping, Present, Script, Spell, Step, Weather};

use bucket::Bucket;

/// The seed of a weather that names none.
const DEFAULT_SEED: u64 = 1;

/// What an idle destination of limited capacity takes to answer: a few milliseconds, as a fast API does.
const CAPACITY_BASE_LATENCY: Duration = Duration::from_millis(2);

/// How many times the base latency a destination at its very limit takes.
const CAPACITY_FULL_FACTOR: f64 = 4.0;

/// A weather that has been set, with all it remembers since then.
#[derive(Debug, Clone)]
pub struct Drill {
    order: Order,
    set_at: Mono,
    /// The script's step the next two belong to: a step starts afresh.
    step: usize,
    number: u64,
    bucket: Option<Bucket>,
}

/// A weather as somebody orders it. The JSON of `PUT /api2/drill`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Order {
    #[serde(flatten)]
    pub weather: Weather,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl From<Weather> for Order {
    fn from(weather: Weather) -> Self {
        Order { weather, seed: None }
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Answer `status` after `delay`. `retry_after` goes into the header of that name.
    Answer { status: u16, retry_after: Option<Duration>, delay: Duration },
    /// Break the connection with a TCP reset.
    Reset,
    /// Never answer; close the connection when the weather changes.
    Hang,
    /// The port is about to be closed: as if it already were.
    Refuse,
}

impl Decision {
    /// Whether the request is served: it then counts as in flight until it has been answered.
    pub fn serves(self) -> bool {
        matches!(self, Decision::Answer { status: 200..=299, .. })
    }
}

impl Drill {
    /// Starts the weather `order` at `now`.
    pub fn start(order: Order, now: Mono) -> Self {
        Drill { order, set_at: now, step: 0, number: 0, bucket: None }
    }

    pub fn order(&self) -> &Order {
        &self.order
    }

    /// What holds at `now`: one plain condition, whatever the script.
    pub fn present(&self, now: Mono) -> Present {
        self.order.weather.at(now.since(self.set_at))
    }

    /// What to do with a request that arrived at `now`, while `in_flight` others are being served.
    pub fn decide(&mut self, now: Mono, in_flight: u32) -> Decision {
        let present = self.present(now);
        if present.step != self.step {
            self.step = present.step;
            self.number = 0;
            self.bucket = None;
        }
        self.number += 1;
        match present.condition {
            Condition::Up => answer(200, Duration::ZERO),
            Condition::Down { status, retry_after } => Decision::Answer { status, retry_after, delay: Duration::ZERO },
            Condition::Capacity { per_second, burst, max_in_flight } => {
                let bucket = self.bucket.get_or_insert_with(|| Bucket::full(per_second, burst, now));
                let has_room = max_in_flight.is_none_or(|max| in_flight < max);
                if !has_room || !bucket.take(now) {
                    return answer(503, Duration::ZERO);
                }
                let crowding = max_in_flight.map_or(0.0, |max| f64::from(in_flight) / f64::from(max));
                answer(200, latency_under_load(bucket.drained().max(crowding)))
            }
            Condition::Latency { ms, jitter_ms } => answer(200, Duration::from_millis(ms + self.draw_up_to(jitter_ms))),
            Condition::ErrorRate { rate, status } => {
                let unlucky = chance::uniform(self.seed(), self.number) < rate;
                answer(if unlucky { status } else { 200 }, Duration::ZERO)
            }
            Condition::Reset => Decision::Reset,
            Condition::Hang => Decision::Hang,
            Condition::Refuse => Decision::Refuse,
        }
    }

    fn seed(&self) -> u64 {
        self.order.seed.unwrap_or(DEFAULT_SEED)
    }

    /// A whole number from 0 to `most`, each as likely.
    fn draw_up_to(&self, most: u64) -> u64 {
        chance::hash(self.seed(), self.number) % (most + 1)
    }
}

fn answer(status: u16, delay: Duration) -> Decision {
    Decision::Answer { status, retry_after: None, delay }
}

/// The simple model of a busy server: 2 ms when idle, rising with the square of the load to four times that at its limit. `load`
/// is the emptier of the bucket and the places in flight, from 0 (idle) to 1 (at the limit).
fn latency_under_load(load: f64) -> Duration {
    CAPACITY_BASE_LATENCY.mul_f64(1.0 + (CAPACITY_FULL_FACTOR - 1.0) * load.clamp(0.0, 1.0).powi(2))
}

#[cfg(test)]
mod tests;
