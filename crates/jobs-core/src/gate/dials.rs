//! How many calls a destination may get: at most `limit` in flight, at most `rate` starts a second.
//!
//! Two dials, because one cannot serve all. A destination that counts calls per second is overrun by a limit: at 5 ms and
//! 1,000/s its whole capacity is five calls in flight, so a step of one is a fifth too much. One that counts calls in
//! flight is starved or overrun by a rate. After an outage both start at their floors and double in each clean round in
//! which they are what holds calls back (slow start, as in TCP, RFC 5681); the first overload picks the dial that
//! explains it, and from then on that dial is cut by what was too much and creeps up again.
//!
//! What it does not do: decide whether the destination is up. That is the breaker's, in [`super::breaker`].

use std::time::Duration;

use super::latency::{Baseline, median};
use super::window::Window;
use crate::outcome::Class;
use crate::time::Mono;

/// Shortest round: answers are judged together, or noise would turn the dials.
const ROUND: Duration = Duration::from_millis(100);
/// Answers that make a round worth judging before [`LONGEST_ROUND`].
const ENOUGH_ANSWERS: usize = 5;
/// Answers in a round from which on its share of refusals can be trusted.
const ENOUGH_FOR_A_SHARE: usize = 30;
/// A slow destination's round is judged with fewer.
const LONGEST_ROUND: Duration = Duration::from_secs(1);
/// Most starts saved up, as time at the present rate: more would arrive as a burst.
const SAVED_UP: f64 = 0.01;
/// Calls in flight at the beginning of a ramp.
const LIMIT_FLOOR: f64 = 4.0;
/// Starts per second at the beginning of a ramp: a quarter of what was done before the outage, within these.
const RATE_FLOOR: (f64, f64) = (2.0, 20.0);
/// After a cut a dial rests: the destination is still working off what was too much.
const REST: Duration = Duration::from_secs(2);
/// A confirmed limit is tried again after this, doubled with each confirmation, up to a minute.
const LIMIT_REST: Duration = Duration::from_secs(5);
const LONGEST_LIMIT_REST: Duration = Duration::from_secs(60);
/// Between two steps up of a limit that was cut: one answer time of most destinations.
const LIMIT_STEP: Duration = Duration::from_millis(500);

/// The two dials of one destination.
#[derive(Debug)]
pub(super) struct Dials {
    limit: Dial,
    rate: Dial,
    ramping: bool,
    /// The limit never grows beyond this.
    max_limit: f64,
    tokens: f64,
    filled: Mono,
    round: Round,
    window: Window,
    baseline: Baseline,
    /// Oks per second of the best rounds, slowly forgotten.
    goodput: f64,
}

#[derive(Debug, Clone, Copy)]
struct Dial {
    value: f64,
    cut: Option<Cut>,
}

/// The latest cut of a dial.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: Mono,
    /// What the dial is to come back to before it grows faster again.
    target: f64,
    /// The first cut after a ramp: the true value lies between here and the last one that was too much.
    finding: bool,
    /// How often the same value was found again.
    confirmed: u32,
    grown: Mono,
}

/// Answers gathered until they are judged.
#[derive(Debug, Default)]
struct Round {
    began: Mono,
    oks: Vec<Duration>,
    answers: usize,
    overloads: usize,
    downs: usize,
    limit_bound: bool,
    rate_bound: bool,
}

/// What an answer tells the dials.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) class: Class,
    pub(super) latency: Duration,
    /// Calls in flight when this one was granted, itself included.
    pub(super) in_flight: u32,
}

impl Dials {
    /// Wide open, as for a destination nobody has reason to doubt: `limit` calls, no rate.
    pub(super) fn closed(limit: u32, max_limit: u32, now: Mono) -> Self {
        Self::new(f64::from(limit), f64::INFINITY, false, max_limit, now)
    }

    /// At their floors. `goodput`: oks per second before the outage; `None` if nothing is known of it.
    pub(super) fn ramp(goodput: Option<f64>, max_limit: u32, now: Mono) -> Self {
        let rate = goodput.map_or(RATE_FLOOR.1, |before| (0.25 * before).clamp(RATE_FLOOR.0, RATE_FLOOR.1));
        Self::new(LIMIT_FLOOR, rate, true, max_limit, now)
    }

    fn new(limit: f64, rate: f64, ramping: bool, max_limit: u32, now: Mono) -> Self {
        let max_limit = f64::from(max_limit);
        Dials {
            limit: Dial { value: limit.min(max_limit), cut: None },
            rate: Dial { value: rate, cut: None },
            ramping,
            max_limit,
            tokens: 1.0,
            filled: now,
            round: Round { began: now, ..Round::default() },
            window: Window::default(),
            baseline: Baseline::default(),
            goodput: 0.0,
        }
    }

    /// Most calls in flight now.
    pub(super) fn limit(&self) -> u32 {
        // A cast of a float saturates and cuts off the fraction.
        self.limit.value as u32
    }

    /// Starts per second; `None` if unlimited.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate.value.is_finite().then_some(self.rate.value)
    }

    pub(super) fn goodput(&self) -> f64 {
        self.goodput
    }

    pub(super) fn is_ramping(&self) -> bool {
        self.ramping
    }

    /// Whether both are still where a ramp begins.
    pub(super) fn at_floors(&self) -> bool {
        self.ramping && self.limit.value <= LIMIT_FLOOR && self.rate.value <= RATE_FLOOR.1
    }

    /// Of `wanted` calls, how many may start now while `in_flight` are out.
    pub(super) fn take(&mut self, wanted: u32, in_flight: u32, now: Mono) -> u32 {
        self.close_round(now);
        self.fill(now);
        let room = self.limit().saturating_sub(in_flight);
        let count = wanted.min(room).min(self.tokens as u32);
        self.round.limit_bound |= room < wanted;
        self.round.rate_bound |= count < wanted.min(room);
        if self.rate.value.is_finite() {
            self.tokens -= f64::from(count);
        }
        count
    }

    /// Calls that were taken and not made, because there was nothing to call with: then neither dial held anything back.
    pub(super) fn give_back(&mut self, count: u32) {
        self.tokens += f64::from(count);
        self.round.limit_bound = false;
        self.round.rate_bound = false;
    }

    /// Another bound on the limit.
    pub(super) fn cap(&mut self, max_limit: u32) {
        self.max_limit = f64::from(max_limit);
        self.limit.value = self.limit.value.min(self.max_limit);
    }

    /// How long until the rate allows another start.
    pub(super) fn wait(&self, now: Mono) -> Duration {
        if self.rate.value.is_infinite() {
            return Duration::ZERO;
        }
        let missing = 1.0 - self.tokens - now.since(self.filled).as_secs_f64() * self.rate.value;
        if missing <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((missing / self.rate.value).max(1e-4)) }
    }

    pub(super) fn answered(&mut self, sample: Sample, now: Mono) {
        self.round.answers += 1;
        match sample.class {
            Class::Ok | Class::JobFail | Class::Suspect => self.round.oks.push(sample.latency),
            Class::Overload => self.round.overloads += 1,
            Class::Down => self.round.downs += 1,
            Class::Error => {}
        }
        self.window.note(now, sample.class == Class::Overload, sample.in_flight);
        self.close_round(now);
    }

    fn fill(&mut self, now: Mono) {
        if self.rate.value.is_infinite() {
            self.tokens = f64::from(u32::MAX);
        } else {
            let most = (self.rate.value * SAVED_UP).max(1.0);
            let filled = self.tokens.min(most) + now.since(self.filled).as_secs_f64() * self.rate.value;
            self.tokens = filled.min(most);
        }
        self.filled = now;
    }

    fn close_round(&mut self, now: Mono) {
        let length = now.since(self.round.began);
        if length < ROUND {
            return;
        }
        let rtt = median(&mut self.round.oks);
        let too_few = self.round.answers < ENOUGH_ANSWERS && length < LONGEST_ROUND;
        if too_few || rtt.is_some_and(|rtt| length < rtt) {
            return;
        }
        self.window.forget(now);
        let round = std::mem::replace(&mut self.round, Round { began: now, ..Round::default() });
        self.judge(&round, length.as_secs_f64(), rtt, now);
    }

    fn judge(&mut self, round: &Round, seconds: f64, rtt: Option<Duration>, now: Mono) {
        let goodput = round.oks.len() as f64 / seconds;
        let share = |count: usize| count as f64 / round.answers.max(1) as f64;
        let gap = rtt.unwrap_or_default().mul_f64(1.5).max(Duration::from_millis(150));
        if round.overloads > 0 {
            // One refusal among the ten answers of a slow destination's round is not a tenth of all: ask the whole second.
            let few = round.answers < ENOUGH_FOR_A_SHARE;
            let overloads = if few { self.window.overload_share() } else { share(round.overloads) };
            self.overloaded(overloads, goodput, gap, now);
        } else if share(round.downs) > 0.05 {
            for dial in [&mut self.limit, &mut self.rate] {
                dial.cut_to(dial.value * 0.7, gap, now);
            }
        } else if round.answers > 0 {
            let steps = seconds / ROUND.as_secs_f64();
            if round.rate_bound {
                self.grow_rate(steps, now);
            }
            self.tune_limit(round, rtt, goodput, now);
            let limit_is_enough = !round.limit_bound || self.limit.value >= self.max_limit;
            if self.ramping && limit_is_enough && !round.rate_bound {
                self.end_ramp();
            }
        }
        if !round.oks.is_empty() {
            self.goodput = goodput.max(0.9 * self.goodput);
        }
    }

    /// A ramp that met no overload: the destination takes all there is.
    fn end_ramp(&mut self) {
        self.ramping = false;
        if self.rate.cut.is_none() {
            self.rate.value = f64::INFINITY;
        }
    }

    /// Overload answers came: was it too many at once, or too many a second?
    fn overloaded(&mut self, share: f64, goodput: f64, gap: Duration, now: Mono) {
        let ramping = std::mem::take(&mut self.ramping);
        if let Some(lowest) = self.window.concurrency_cap() {
            let below = f64::from(lowest) - 1.0;
            let value = if ramping { below.max(self.limit.value / 2.0) } else { below };
            if self.limit.cut_to(value, gap, now) && ramping {
                self.rate.value = (self.rate.value / 2.0).max(1.5 * goodput);
            }
            return;
        }
        let before = if self.rate.value.is_finite() { self.rate.value } else { goodput / (1.0 - share).max(0.03) };
        let value = if ramping { (before / 2.0).max(0.97 * goodput) } else { before * (1.0 - share.max(0.03)) };
        if self.rate.cut_to(value, gap, now)
            && let Some(cut) = &mut self.rate.cut
        {
            cut.target = value / 0.97;
            cut.finding = ramping;
        }
    }

    fn grow_rate(&mut self, steps: f64, now: Mono) {
        let growth = match self.rate.cut {
            None => return self.rate.value *= if self.ramping { 2.0 } else { 1.5 },
            Some(cut) if cut.finding => 0.02,
            Some(cut) if now.since(cut.at) <= REST => 0.0,
            // Back to where it was, carefully; beyond it, capacity has grown.
            Some(cut) if self.rate.value < cut.target * 1.1 => 0.002,
            Some(_) => 0.1,
        };
        self.rate.value *= 1.0 + growth * steps;
    }

    fn tune_limit(&mut self, round: &Round, rtt: Option<Duration>, goodput: f64, now: Mono) {
        let Some(rtt) = rtt else { return };
        let slow = self.baseline.is_well_below(rtt);
        if !round.limit_bound {
            return;
        }
        if slow && round.answers >= 10 && goodput < 1.1 * self.goodput {
            // More in flight, and no more done: they queue.
            self.limit.cut_to((self.limit.value * 0.9).max(2.0), Duration::ZERO, now);
            return;
        }
        let value = self.limit.value;
        let grown = match &mut self.limit.cut {
            None => value * if self.ramping { 2.0 } else { 1.5 },
            Some(cut) if now.since(cut.at) > cut.rest(value) && now.since(cut.grown) >= LIMIT_STEP => {
                cut.grown = now;
                value + (0.02 * value).max(1.0)
            }
            Some(_) => value,
        };
        self.limit.value = grown.min(self.max_limit);
    }
}

impl Dial {
    /// Turns it down to `value` (1 at least), unless it was turned down within `gap`: answers to what was already sent do
    /// not count twice. Answers whether it did.
    fn cut_to(&mut self, value: f64, gap: Duration, now: Mono) -> bool {
        if self.value.is_infinite() && value.is_infinite() || self.cut.is_some_and(|cut| now.since(cut.at) <= gap) {
            return false;
        }
        let value = value.max(1.0);
        let again = |cut: &Cut| (value - cut.target).abs() <= 1.0 + 0.05 * value;
        let confirmed = self.cut.as_ref().filter(|cut| again(cut)).map_or(0, |cut| cut.confirmed + 1);
        self.cut = Some(Cut { at: now, target: value, finding: false, confirmed, grown: now });
        self.value = value;
        true
    }
}

impl Cut {
    /// How long a limit of `value` rests before it is tried again.
    fn rest(&self, value: f64) -> Duration {
        if value < 8.0 { REST } else { (LIMIT_REST * 2u32.pow(self.confirmed.min(4))).min(LONGEST_LIMIT_REST) }
    }
}
