//! The answers of the last second, with how many calls were in flight when each was granted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Mono;

/// How far back it looks.
const SPAN: Duration = Duration::from_secs(1);
/// Fewer moments than that say nothing about a second.
const SHORTEST: Duration = Duration::from_millis(250);
/// Most answers kept: enough for the percentiles of the fastest destination, whatever the rate.
const MOST: usize = 8_192;
/// A cap on calls in flight below this cannot be told from a rate.
const LOWEST_CAP: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Window {
    answers: VecDeque<(Mono, bool, u32)>,
}

impl Window {
    pub(super) fn note(&mut self, now: Mono, overload: bool, in_flight: u32) {
        if self.answers.len() >= MOST {
            self.answers.pop_front();
        }
        self.answers.push_back((now, overload, in_flight));
    }

    pub(super) fn forget(&mut self, now: Mono) {
        while self.answers.front().is_some_and(|(at, _, _)| now.since(*at) > SPAN) {
            self.answers.pop_front();
        }
    }

    /// What was answered while the dials doubled says nothing: whatever grew with them may have been too much.
    pub(super) fn clear(&mut self) {
        self.answers.clear();
    }

    /// Of the answers, the share by overload.
    pub(super) fn overload_share(&self) -> f64 {
        let overloads = self.answers.iter().filter(|answer| answer.1).count();
        overloads as f64 / self.answers.len().max(1) as f64
    }

    /// The oks, and how many that is in a second.
    pub(super) fn oks(&self, now: Mono) -> (usize, f64) {
        let oks = self.answers.iter().filter(|answer| !answer.1).count();
        let span = self.answers.front().map_or(SPAN, |(first, _, _)| now.since(*first).clamp(SHORTEST, SPAN));
        (oks, oks as f64 / span.as_secs_f64())
    }

    /// The fewest calls in flight with which one was refused.
    pub(super) fn lowest_refused(&self) -> Option<u32> {
        self.answers.iter().filter(|answer| answer.1).map(|answer| answer.2).min()
    }

    /// If nearly all overload answers were sent with more in flight than nearly all others, the destination counts calls
    /// in flight: the lowest number that was too many. `enough`: refusals that are evidence.
    pub(super) fn concurrency_cap(&self, enough: usize) -> Option<u32> {
        let of = |overload: bool| -> Vec<u32> {
            let mut counts: Vec<u32> = self.answers.iter().filter(|a| a.1 == overload).map(|a| a.2).collect();
            counts.sort_unstable();
            counts
        };
        let (good, over) = (of(false), of(true));
        if good.len() < 5 || over.len() < enough {
            return None;
        }
        let (low, high) = (over[over.len() / 10], good[good.len() * 9 / 10]);
        (low >= LOWEST_CAP && low >= high).then_some(over[0])
    }
}
