//! One destination's recent past: samples, changes of its gate, kinds of failures.

use std::collections::VecDeque;

use jobs_core::dispatch::{DestinationView, GateStateName};
use jobs_core::job::{Attempt, AttemptOutcome, JobId};
use jobs_core::outcome::Class;
use jobs_core::time::Timestamp;
use serde::Serialize;

use super::errors::Kinds;
use super::latency::Latencies;
use super::ring::{Ring, Sample};

/// Changes of a gate that are kept: a destination that flaps every five seconds fills them in a quarter of an hour.
const MAX_MARKS: usize = 200;

/// From then on a gate was in this state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct GateMark {
    pub(crate) at: Timestamp,
    pub(crate) state: GateStateName,
    pub(crate) reason: Option<String>,
}

/// What is remembered of one destination.
#[derive(Debug, Default)]
pub(crate) struct Track {
    /// Since the last sample.
    calls: u32,
    oks: u32,
    latencies: Latencies,
    pub(crate) ring: Ring,
    marks: VecDeque<GateMark>,
    pub(crate) errors: Kinds,
}

impl Track {
    pub(crate) fn attempted(&mut self, job: JobId, attempt: &Attempt, at: Timestamp) {
        self.calls += 1;
        self.oks += u32::from(attempt.outcome == AttemptOutcome::Settled(Class::Ok));
        self.latencies.note(attempt.duration);
        self.errors.note(job, attempt, at);
    }

    pub(crate) fn sample(&mut self, view: &DestinationView, waiting: u64, at: Timestamp) {
        let since = self.ring.last().map_or(1_000, |last| at.as_millis() - last.at.as_millis());
        self.ring.push(Sample {
            at,
            // A clock that was set makes one odd sample.
            millis: u32::try_from(since).unwrap_or(1_000).max(1),
            calls: std::mem::take(&mut self.calls),
            oks: std::mem::take(&mut self.oks),
            waiting,
            in_flight: view.in_flight,
            limit: view.limit,
            rate: view.rate.map(|rate| rate as f32),
            median_us: self.latencies.quantile_us(0.5),
            p99_us: self.latencies.quantile_us(0.99),
            gate: view.state,
        });
        self.latencies = Latencies::default();
    }

    /// Answers the change if the gate is in another state than it was last known to be in.
    pub(crate) fn gate_is(&mut self, view: &DestinationView, at: Timestamp) -> Option<GateMark> {
        let last = self.marks.back();
        if last.is_some_and(|mark| mark.state == view.state && mark.reason == view.reason) {
            return None;
        }
        // An outage that began before this process did is shown from its beginning.
        let began = view.since.filter(|_| last.is_none() && view.state == GateStateName::Open);
        let mark = GateMark { at: began.unwrap_or(at), state: view.state, reason: view.reason.clone() };
        let is_first = last.is_none();
        if self.marks.len() == MAX_MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back(mark.clone());
        (!is_first).then_some(mark)
    }

    /// Changes of the gate, oldest first.
    pub(crate) fn marks(&self) -> impl DoubleEndedIterator<Item = &GateMark> {
        self.marks.iter()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn view(state: GateStateName, reason: Option<&str>) -> DestinationView {
        DestinationView {
            name: "api2".parse().unwrap(),
            title: "API 2".to_owned(),
            url: "http://127.0.0.1:1/api2/simulate".to_owned(),
            state,
            reason: reason.map(str::to_owned),
            removed: false,
            limit: 16,
            rate: None,
            epoch: 0,
            in_flight: 0,
            cut_off: Vec::new(),
            goodput: 0.0,
            last_error: None,
            since: (state == GateStateName::Open).then(|| Timestamp::from_millis(5_000)),
        }
    }

    #[test]
    fn each_change_of_the_gate_is_noted_once() {
        let mut track = Track::default();
        let at = |second: i64| Timestamp::from_millis(second * 1_000);
        assert_eq!(track.gate_is(&view(GateStateName::Closed, None), at(1)), None, "the first is no change");
        assert_eq!(track.gate_is(&view(GateStateName::Closed, None), at(2)), None);
        let opened = track.gate_is(&view(GateStateName::Open, Some("down: answered 503")), at(9)).unwrap();
        assert_eq!((opened.at, opened.state), (at(9), GateStateName::Open));
        assert!(track.gate_is(&view(GateStateName::Ramp, None), at(12)).is_some());
        assert_eq!(track.marks().count(), 3);
    }

    #[test]
    fn an_outage_from_before_the_start_is_shown_from_its_beginning() {
        let mut track = Track::default();
        track.gate_is(&view(GateStateName::Open, Some("down: answered 503")), Timestamp::from_millis(60_000));
        assert_eq!(track.marks().next().unwrap().at, Timestamp::from_millis(5_000));
    }
}
