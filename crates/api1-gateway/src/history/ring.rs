//! The recent past at two resolutions: ten minutes by the second, six hours by the minute.

use std::collections::VecDeque;

use jobs_core::dispatch::GateStateName;
use jobs_core::time::Timestamp;

/// Samples a second apart.
const FINE: usize = 600;
/// Samples of [`PER_MINUTE`] fine ones each.
const COARSE: usize = 360;
const PER_MINUTE: usize = 60;

/// One destination in one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Its end.
    pub(crate) at: Timestamp,
    pub(crate) millis: u32,
    /// Calls that came back, and those of them that were done.
    pub(crate) calls: u32,
    pub(crate) oks: u32,
    /// Jobs waiting, calls in flight and calls let through at its end.
    pub(crate) waiting: u64,
    pub(crate) in_flight: u32,
    pub(crate) limit: u32,
    /// Calls a second let through at its end; `None`: as many as the limit does.
    pub(crate) rate: Option<f32>,
    /// Of the calls that came back, in microseconds; `None` without any.
    pub(crate) median_us: Option<u32>,
    pub(crate) p99_us: Option<u32>,
    /// The worst it was in.
    pub(crate) gate: GateStateName,
}

/// Which part of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    TenMinutes,
    SixHours,
}

impl Span {
    pub(crate) const fn millis(self) -> i64 {
        match self {
            Span::TenMinutes => 600_000,
            Span::SixHours => 6 * 3_600_000,
        }
    }
}

/// The samples of one destination.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    fine: VecDeque<Sample>,
    coarse: VecDeque<Sample>,
    /// Fine ones since the last coarse one.
    unmerged: usize,
}

impl Ring {
    pub(crate) fn push(&mut self, sample: Sample) {
        push(&mut self.fine, sample, FINE);
        self.unmerged += 1;
        if self.unmerged == PER_MINUTE {
            self.unmerged = 0;
            let latest = self.fine.iter().skip(self.fine.len().saturating_sub(PER_MINUTE));
            if let Some(minute) = merge(latest) {
                push(&mut self.coarse, minute, COARSE);
            }
        }
    }

    pub(crate) fn last(&self) -> Option<&Sample> {
        self.fine.back()
    }

    /// All that was in the last `millis`, as one; `None` if there is nothing.
    pub(crate) fn recent(&self, now: Timestamp, millis: i64) -> Option<Sample> {
        merge(self.fine.iter().rev().take_while(|sample| sample.at.as_millis() > now.as_millis() - millis))
    }

    /// The span up to `now` in `count` equal stretches, oldest first; `None` where nothing was sampled.
    pub(crate) fn stretches(&self, span: Span, count: usize, now: Timestamp) -> Vec<Option<Sample>> {
        let samples = match span {
            Span::TenMinutes => &self.fine,
            Span::SixHours => &self.coarse,
        };
        let begin = now.as_millis() - span.millis();
        let width = (span.millis() / i64::try_from(count).unwrap_or(1)).max(1);
        let mut stretches: Vec<Vec<&Sample>> = vec![Vec::new(); count];
        for sample in samples {
            let place = (sample.at.as_millis() - begin - 1).div_euclid(width);
            if let Some(stretch) = usize::try_from(place).ok().and_then(|place| stretches.get_mut(place)) {
                stretch.push(sample);
            }
        }
        stretches.into_iter().map(|stretch| merge(stretch.into_iter())).collect()
    }
}

fn push(samples: &mut VecDeque<Sample>, sample: Sample, most: usize) {
    if samples.len() == most {
        samples.pop_front();
    }
    samples.push_back(sample);
}

/// Several samples as one: sums of what is counted, the latest of what is, the worst of gate and slowest calls.
fn merge<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<Sample> {
    samples.copied().reduce(|one, other| {
        let (earlier, later) = if one.at <= other.at { (one, other) } else { (other, one) };
        Sample {
            millis: one.millis.saturating_add(other.millis),
            calls: one.calls.saturating_add(other.calls),
            oks: one.oks.saturating_add(other.oks),
            median_us: weighted((one.median_us, one.calls), (other.median_us, other.calls)),
            p99_us: one.p99_us.max(other.p99_us),
            gate: if severity(earlier.gate) > severity(later.gate) { earlier.gate } else { later.gate },
            ..later
        }
    })
}

/// The mean of two medians, by their calls: no median, but near one, and all that a chart can show.
fn weighted(one: (Option<u32>, u32), other: (Option<u32>, u32)) -> Option<u32> {
    match (one, other) {
        ((Some(a), m), (Some(b), n)) => {
            let sum = u64::from(a) * u64::from(m) + u64::from(b) * u64::from(n);
            u32::try_from(sum / (u64::from(m) + u64::from(n)).max(1)).ok()
        }
        ((found, _), (None, _)) | ((None, _), (found, _)) => found,
    }
}

fn severity(gate: GateStateName) -> u8 {
    match gate {
        GateStateName::Closed => 0,
        GateStateName::Ramp => 1,
        GateStateName::Paused => 2,
        GateStateName::Open => 3,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(second: i64) -> Sample {
        Sample {
            at: Timestamp::from_millis(second * 1_000),
            millis: 1_000,
            calls: 2,
            oks: 1,
            waiting: second.unsigned_abs(),
            in_flight: 1,
            limit: 16,
            rate: None,
            median_us: Some(1_000),
            p99_us: Some(5_000),
            gate: GateStateName::Closed,
        }
    }

    #[test]
    fn ten_minutes_are_kept_by_the_second_and_six_hours_by_the_minute_and_no_more() {
        let mut ring = Ring::default();
        for second in 1..=30_000 {
            ring.push(sample(second));
        }
        assert_eq!((ring.fine.len(), ring.coarse.len()), (FINE, COARSE));
        let minute = ring.coarse.back().unwrap();
        assert_eq!((minute.calls, minute.millis, minute.waiting), (120, 60_000, 30_000));
        let now = Timestamp::from_millis(30_000_000);
        assert_eq!(ring.recent(now, 10_000).unwrap().calls, 20);
        let six_hours = ring.stretches(Span::SixHours, 60, now);
        assert!(six_hours.iter().all(|stretch| stretch.unwrap().calls == 6 * 120), "{six_hours:?}");
    }

    #[test]
    fn a_stretch_without_samples_is_a_gap_and_the_worst_gate_of_one_is_shown() {
        let mut ring = Ring::default();
        ring.push(sample(590));
        ring.push(Sample { gate: GateStateName::Open, ..sample(591) });
        ring.push(sample(592));
        let stretches = ring.stretches(Span::TenMinutes, 60, Timestamp::from_millis(600_000));
        let filled: Vec<usize> = (0..60).filter(|place| stretches[*place].is_some()).collect();
        assert_eq!(filled, [58, 59]);
        assert_eq!(stretches[59].unwrap().gate, GateStateName::Open);
        assert_eq!(stretches[59].unwrap().waiting, 592);
    }
}
