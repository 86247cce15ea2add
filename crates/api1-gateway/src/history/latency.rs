//! How long calls took, as counts in buckets that grow with what they hold: a quantile is right to an eighth.

use std::time::Duration;

/// Buckets to each doubling.
const STEPS: u32 = 4;
/// Up to 2^27 us: two minutes, more than any call may take.
const BUCKETS: usize = 27 * STEPS as usize;

/// The durations of calls.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { counts: [0; BUCKETS], total: 0 }
    }
}

impl Latencies {
    pub(crate) fn note(&mut self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
    }

    /// The duration that a share `q` (0 to 1) of all calls did not exceed, in microseconds; `None` without calls.
    pub(crate) fn quantile_us(&self, q: f64) -> Option<u32> {
        if self.total == 0 {
            return None;
        }
        let rank = (f64::from(self.total) * q).ceil().max(1.0);
        let mut seen = 0.0;
        let found = self.counts.iter().position(|count| {
            seen += f64::from(*count);
            seen >= rank
        });
        found.map(middle)
    }
}

/// Below [`STEPS`] each microsecond has a bucket of its own.
fn bucket(micros: u32) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let doubling = micros.ilog2();
    let step = (micros >> (doubling - STEPS.ilog2())) - STEPS;
    (((doubling - 1) * STEPS + step) as usize).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> u32 {
    let bucket = bucket as u32;
    if bucket < STEPS {
        return bucket;
    }
    let (doubling, step) = (bucket / STEPS + 1, bucket % STEPS);
    let width = 1 << (doubling - STEPS.ilog2());
    (STEPS + step) * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_known_durations_are_where_they_should_be() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile_us(0.5), None);
        for ms in 1..=100 {
            latencies.note(Duration::from_millis(ms));
        }
        let near = |q: f64, ms: f64| (f64::from(latencies.quantile_us(q).unwrap()) / 1_000.0 / ms - 1.0).abs() < 0.13;
        assert!(near(0.5, 50.0) && near(0.99, 99.0) && near(0.0, 1.0), "{latencies:?}");
    }

    proptest! {
        #[test]
        fn a_duration_lands_in_a_bucket_whose_middle_is_near_it(micros in 0u32..120_000_000) {
            let middle = f64::from(middle(bucket(micros)));
            prop_assert!((middle - f64::from(micros)).abs() <= f64::from(micros) / 8.0 + 0.5);
        }
    }
}
