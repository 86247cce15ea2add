//! How many calls a destination may get: at most `limit` in flight, at most `rate` starts a second.
//!
//! Two dials, because one cannot serve all. A destination that counts calls per second is overrun by a limit: at 5 ms and
//! 1,000/s its whole capacity is five calls in flight, so a step of one is a fifth too much. One that counts calls in
//! flight is starved or overrun by a rate. After an outage both start at their floors and double in each clean round in
//! which they are what holds calls back (slow start, as in TCP, RFC 5681); the first overload picks the dial that
//! explains it, and from then on that dial is cut by what was too much and creeps up again.
//!
//! While the dials search, a round is counted in answers to calls that were sent within it, not in time: a fast
//! destination is found out within tens of milliseconds, and a slow one never gets more than a few calls it has not
//! answered yet. The first refusal ends the round at once.
//!
//! What it does not do: decide whether the destination is up. That is the breaker's, in [`super::breaker`].

use std::time::Duration;

use super::dial::{Dial, LEAST_CUT, MOST_CUT};
use super::latency::{Baseline, median};
use super::settings::GateSettings;
use super::window::Window;
use crate::outcome::Class;
use crate::time::Mono;

/// Shortest round of a dial that was found: answers are judged together, or noise would turn it.
const ROUND: Duration = Duration::from_millis(100);
/// The same while a dial doubles, and while the rate is found between two doublings.
const QUICK_ROUND: Duration = Duration::from_millis(25);
const FINDING_ROUND: Duration = Duration::from_millis(50);
/// Answers that make a round worth judging before [`LONGEST_ROUND`], and one of the rate while it is found.
const ENOUGH_ANSWERS: usize = 5;
const ENOUGH_TO_FIND: usize = 10;
/// Answers in a round from which on its share of refusals can be trusted.
const ENOUGH_FOR_A_SHARE: usize = 30;
/// Oks of the latest second that tell what a destination can do, when it first refuses something.
const ENOUGH_OKS: usize = 20;
/// A slow destination's round is judged with fewer.
const LONGEST_ROUND: Duration = Duration::from_secs(1);
/// Most starts saved up, as time at the present rate: more would arrive as a burst.
const SAVED_UP: f64 = 0.01;
/// Calls in flight at the beginning of a ramp.
const LIMIT_FLOOR: f64 = 4.0;
/// Starts per second at the beginning of a ramp: a quarter of what was done before the outage, within these. With so few calls in
/// flight they are but the pace of the first handful.
const RATE_FLOOR: (f64, f64) = (20.0, 100.0);
/// A share of refusals below this, so soon after a ramp was ended by one, is its tail.
const TAIL: f64 = 0.1;
const TAIL_LASTS: Duration = Duration::from_millis(500);
/// Where queues are shortened, so many calls in flight are never too many.
const SHORTEST_QUEUE: f64 = 8.0;
/// Goodput is averaged over about so many seconds, and rounds below so many have none to speak of.
const SUSTAINED: f64 = 2.0;
const SHORTEST_MEASURE: f64 = 0.02;

/// The two dials of one destination.
#[derive(Debug)]
pub(super) struct Dials {
    limit: Dial,
    rate: Dial,
    ramping: bool,
    start_limit: f64,
    /// The limit never grows beyond this.
    max_limit: f64,
    tokens: f64,
    filled: Mono,
    /// When a dial was last turned down: refusals of calls sent before say nothing more.
    cut_at: Option<Mono>,
    /// The latest round's median.
    rtt: Duration,
    round: Round,
    window: Window,
    baseline: Baseline,
    /// Oks per second of the best rounds, slowly forgotten, and of late on average.
    goodput: f64,
    sustained: f64,
}

/// Answers gathered until they are judged.
#[derive(Debug, Default)]
struct Round {
    began: Mono,
    oks: Vec<Duration>,
    answers: usize,
    /// Answers to calls that were sent within the round: what is seen of the dials as they stand.
    to_its_own: usize,
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
    /// Calls in flight when this one was granted, itself included, and when that was.
    pub(super) in_flight: u32,
    pub(super) at: Mono,
}

impl Dials {
    /// Wide open, as for a destination nobody has reason to doubt: the start limit, no rate.
    pub(super) fn closed(settings: GateSettings, now: Mono) -> Self {
        Self::new(f64::from(settings.start_limit), f64::INFINITY, false, settings, now)
    }

    /// At their floors. `goodput`: oks per second before the outage; `None` if nothing is known of it.
    pub(super) fn ramp(goodput: Option<f64>, settings: GateSettings, now: Mono) -> Self {
        let rate = goodput.map_or(RATE_FLOOR.1, |before| (0.25 * before).clamp(RATE_FLOOR.0, RATE_FLOOR.1));
        Self::new(LIMIT_FLOOR, rate, true, settings, now)
    }

    fn new(limit: f64, rate: f64, ramping: bool, settings: GateSettings, now: Mono) -> Self {
        let max_limit = f64::from(settings.max_limit);
        Dials {
            limit: Dial::new(limit.min(max_limit)),
            rate: Dial::new(rate),
            ramping,
            start_limit: f64::from(settings.start_limit),
            max_limit,
            tokens: 1.0,
            filled: now,
            cut_at: None,
            rtt: Duration::ZERO,
            round: Round { began: now, ..Round::default() },
            window: Window::default(),
            baseline: Baseline::default(),
            goodput: 0.0,
            sustained: 0.0,
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

    /// Whether it is known what was too much for the destination, and kept below it.
    pub(super) fn have_found(&self) -> bool {
        self.cut_at.is_some()
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
        let tokens = self.tokens as u32;
        self.round.limit_bound |= room < wanted && room <= tokens;
        self.round.rate_bound |= tokens < wanted && tokens < room;
        let count = wanted.min(room).min(tokens);
        if self.rate.value.is_finite() {
            self.tokens -= f64::from(count);
        }
        count
    }

    /// Calls that were taken and not made. `partly`: others of the same claim were, so that it was neither dial that ended it.
    pub(super) fn give_back(&mut self, count: u32, partly: bool) {
        self.tokens += f64::from(count);
        if partly {
            self.round.limit_bound = false;
            self.round.rate_bound = false;
        }
    }

    /// Nothing is left that is due: neither dial held anything back, and a ramp that met no overload so far has nothing more to
    /// find out.
    pub(super) fn nothing_is_due(&mut self) {
        self.round.limit_bound = false;
        self.round.rate_bound = false;
        if self.ramping && self.round.overloads == 0 {
            self.end_ramp();
        }
    }

    /// Other bounds on the limit.
    pub(super) fn configure(&mut self, settings: GateSettings) {
        (self.start_limit, self.max_limit) = (f64::from(settings.start_limit), f64::from(settings.max_limit));
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
        let news = self.cut_at.is_none_or(|cut| sample.at >= cut);
        let refused = sample.class == Class::Overload;
        self.window.note(now, refused, sample.in_flight);
        match sample.class {
            Class::Ok | Class::JobFail | Class::Suspect => self.round.oks.push(sample.latency),
            // What began before a dial was turned down says nothing of how it stands.
            Class::Overload | Class::Down if !news => return,
            Class::Overload => self.round.overloads += 1,
            Class::Down => self.round.downs += 1,
            Class::Error => {}
        }
        self.round.answers += 1;
        self.round.to_its_own += usize::from(sample.at >= self.round.began);
        if refused && (self.is_searching() || self.round.overloads == ENOUGH_ANSWERS) {
            self.end_round(now);
        } else {
            self.close_round(now);
        }
    }

    /// Nothing has been too much yet, or not since the ramp began.
    fn is_searching(&self) -> bool {
        self.ramping || self.cut_at.is_none()
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
        let is_finding = self.rate.cut.is_some_and(|cut| cut.finding);
        let (shortest, enough) = match () {
            () if self.is_searching() => (QUICK_ROUND, self.round.to_its_own >= ENOUGH_ANSWERS),
            () if is_finding => (FINDING_ROUND, self.round.to_its_own >= ENOUGH_TO_FIND),
            () => (ROUND, self.round.answers >= ENOUGH_ANSWERS),
        };
        if length < shortest || !enough && length < LONGEST_ROUND {
            return;
        }
        // Without an answer to a call of its own a round is not over, unless there were no answers at all.
        let is_blind = self.round.to_its_own == 0 && self.round.answers > self.round.downs;
        if is_blind || median(&mut self.round.oks).is_some_and(|rtt| length < rtt) {
            return;
        }
        self.end_round(now);
    }

    fn end_round(&mut self, now: Mono) {
        self.window.forget(now);
        let seconds = now.since(self.round.began).as_secs_f64().max(1e-3);
        let mut round = std::mem::replace(&mut self.round, Round { began: now, ..Round::default() });
        let rtt = median(&mut round.oks);
        self.rtt = rtt.unwrap_or(self.rtt);
        self.judge(&round, seconds, rtt, now);
        if !round.oks.is_empty() && seconds >= SHORTEST_MEASURE {
            let goodput = round.oks.len() as f64 / seconds;
            let weight = 1.0 - (-seconds / SUSTAINED).exp();
            self.goodput = goodput.max(0.9 * self.goodput);
            self.sustained += (goodput - self.sustained) * weight;
        }
    }

    fn judge(&mut self, round: &Round, seconds: f64, rtt: Option<Duration>, now: Mono) {
        let share = |count: usize| count as f64 / round.answers.max(1) as f64;
        if round.overloads > 0 {
            // One refusal among the ten answers of a slow destination's round is not a tenth of all: ask the whole second.
            let few = round.answers < ENOUGH_FOR_A_SHARE;
            let whole = if few { self.window.overload_share() } else { 1.0 };
            self.overloaded(share(round.overloads).min(whole), now);
        } else if share(round.downs) > 0.05 {
            let gap = rtt.unwrap_or_default().mul_f64(1.5).max(Duration::from_millis(150));
            for dial in [&mut self.limit, &mut self.rate] {
                if dial.cut_to(dial.value * 0.7, gap, now) {
                    self.cut_at = Some(now);
                }
            }
        } else if round.answers > 0 {
            if round.rate_bound {
                self.rate.grow_rate(seconds / ROUND.as_secs_f64(), now);
            }
            self.tune_limit(round, rtt, round.oks.len() as f64 / seconds, now);
            if self.ramping && round.limit_bound && self.limit.value >= self.max_limit && !round.rate_bound {
                self.end_ramp();
            }
        }
    }

    /// A ramp that met no overload: the destination takes all there is.
    fn end_ramp(&mut self) {
        self.ramping = false;
        if self.rate.cut.is_none() {
            self.rate.value = f64::INFINITY;
        }
        if self.limit.cut.is_none() {
            self.limit.value = self.limit.value.max(self.start_limit).min(self.max_limit);
        }
    }

    /// Overload answers came: was it too many at once, or too many a second?
    fn overloaded(&mut self, share: f64, now: Mono) {
        if self.is_searching() {
            // Whatever grew may have been too much. The last clean rate was not; the limit follows if it was that.
            if self.rate.value.is_infinite() {
                self.first_refusal(now);
            } else {
                self.ramping = false;
                self.rate.cut_rate_to(self.rate.value / 2.0, 0.0, true, now);
            }
            self.window.clear();
        } else if let Some(lowest) = self.window.concurrency_cap(self.enough_refusals()) {
            self.limit.cut_to(f64::from(lowest) - 1.0, Duration::ZERO, now);
        } else if self.rate.value.is_infinite() {
            self.first_refusal(now);
        } else if self.rate.cut.is_some_and(|cut| cut.finding) && share < TAIL && self.is_recent(TAIL_LASTS, now) {
            // What the ramp was too much by is worked off still: nothing new.
            return;
        } else if !self.is_recent(self.rtt.mul_f64(1.5), now) {
            let before = self.rate.value;
            let target = before.min(1.02 * self.sustained);
            self.rate.cut_rate_to(before * (1.0 - share.clamp(LEAST_CUT, MOST_CUT)), target, false, now);
            if self.window.lowest_refused().is_some_and(|lowest| f64::from(lowest) <= self.limit.value / 2.0) {
                // If the limit was ever cut: it was not too many at once after all.
                self.limit.cut = None;
            }
        } else {
            // A refusal is quick: until the first oks can have come, their share says nothing.
            return;
        }
        self.tokens = self.tokens.min(1.0);
        self.cut_at = Some(now);
    }

    /// Whether a dial was turned down less than `span` ago.
    fn is_recent(&self, span: Duration, now: Mono) -> bool {
        self.cut_at.is_some_and(|cut| now.since(cut) < span)
    }

    /// Refusals that show a bound on calls in flight: fewer where one was found before.
    fn enough_refusals(&self) -> usize {
        if self.limit.cut.is_some() { 2 } else { ENOUGH_ANSWERS }
    }

    /// Nobody counted calls per second until now. What was done in the latest second tells how many are not too many; if
    /// that was next to nothing, as before a burst that was refused, it is found out as after an outage.
    fn first_refusal(&mut self, now: Mono) {
        let (oks, per_second) = self.window.oks(now);
        if oks >= ENOUGH_OKS {
            self.rate.cut_rate_to(per_second, 0.0, true, now);
        } else {
            self.rate.value = per_second.max(RATE_FLOOR.1);
        }
        self.ramping = oks < ENOUGH_OKS;
    }

    fn tune_limit(&mut self, round: &Round, rtt: Option<Duration>, goodput: f64, now: Mono) {
        let Some(rtt) = rtt else { return };
        // A handful of answers has no usual time.
        let slow = round.answers >= ENOUGH_TO_FIND && self.baseline.is_well_below(rtt);
        if !round.limit_bound {
            return;
        }
        if slow && goodput < 1.1 * self.goodput {
            // More in flight, and no more done: they queue.
            let shorter = (self.limit.value * 0.9).max(SHORTEST_QUEUE.min(self.limit.value));
            self.limit.cut_to(shorter, Duration::ZERO, now);
            return;
        }
        self.limit.grow_limit(self.max_limit, now);
    }
}
