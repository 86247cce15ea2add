//! One dial: a number that is turned up while it is what holds calls back, and down by what was too much.

use std::time::Duration;

use crate::time::Mono;

/// After a cut a dial rests: the destination is still working off what was too much.
const REST: Duration = Duration::from_secs(1);
/// A cut far below what was done for a while before is a misjudgement or a lasting change: the next try, which is soon, tells.
const SHORT_REST: Duration = Duration::from_millis(500);
/// A confirmed limit is tried again after this, doubled with each confirmation, up to a minute.
const LIMIT_REST: Duration = Duration::from_secs(5);
const LONGEST_LIMIT_REST: Duration = Duration::from_secs(60);
/// Between two steps up of a limit that was cut: one answer time of most destinations.
const LIMIT_STEP: Duration = Duration::from_millis(500);
/// What a rate grows by in a tenth of a second once it is near what was too much.
const CREEP: f64 = 0.004;
/// Part of what a rate is cut by at least, so that what was too much is worked off.
pub(super) const LEAST_CUT: f64 = 0.03;
/// And at most: if for a moment everything is refused, that says little about how much is too much.
pub(super) const MOST_CUT: f64 = 0.7;

#[derive(Debug, Clone, Copy)]
pub(super) struct Dial {
    pub(super) value: f64,
    pub(super) cut: Option<Cut>,
}

/// The latest cut of a dial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    at: Mono,
    /// What the dial is to come back to before it grows faster again.
    target: f64,
    /// The first cut after a ramp: the true value lies between here and the last one that was too much.
    pub(super) finding: bool,
    /// How often the same value was found again.
    pub(super) confirmed: u32,
    grown: Mono,
}

impl Dial {
    pub(super) fn new(value: f64) -> Self {
        Dial { value, cut: None }
    }

    /// Turns it down to `value` (1 at least), unless it was turned down within `gap`: answers to what was already sent do
    /// not count twice. Answers whether it did.
    pub(super) fn cut_to(&mut self, value: f64, gap: Duration, now: Mono) -> bool {
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

    /// As [`Dial::cut_to`], of a rate: it comes back to `target` before it grows faster again.
    pub(super) fn cut_rate_to(&mut self, value: f64, target: f64, finding: bool, now: Mono) {
        if self.cut_to(value, Duration::ZERO, now)
            && let Some(cut) = &mut self.cut
        {
            cut.target = target.max(value / (1.0 - LEAST_CUT));
            cut.finding = finding;
        }
    }

    /// A rate held calls back for `steps` tenths of a second and nothing was refused.
    pub(super) fn grow_rate(&mut self, steps: f64, now: Mono) {
        let Some(cut) = self.cut else { return self.value *= 2.0 };
        let (since, share) = (now.since(cut.at), self.value / cut.target);
        let growth = if cut.finding {
            0.08
        } else if since <= SHORT_REST {
            0.0
        } else if share < 0.5 {
            0.3
        } else if share < 0.95 {
            0.05
        } else if since <= REST {
            0.0
        } else {
            // Faster well beyond what was too much before: its capacity has grown.
            CREEP + (0.3 * (share - 1.12)).clamp(0.0, 0.03)
        };
        self.value *= 1.0 + growth * steps;
    }

    /// A limit held calls back for a round and nothing was refused.
    pub(super) fn grow_limit(&mut self, max: f64, now: Mono) {
        let value = self.value;
        let grown = match &mut self.cut {
            None => value * 2.0,
            Some(cut) if now.since(cut.at) > cut.limit_rest(value) && now.since(cut.grown) >= LIMIT_STEP => {
                cut.grown = now;
                value + (0.02 * value).max(1.0)
            }
            Some(_) => value,
        };
        self.value = grown.min(max);
    }
}

impl Cut {
    /// How long a limit of `value` rests before it is tried again.
    fn limit_rest(&self, value: f64) -> Duration {
        if value < 8.0 { REST } else { (LIMIT_REST * 2u32.pow(self.confirmed.min(4))).min(LONGEST_LIMIT_REST) }
    }
}
