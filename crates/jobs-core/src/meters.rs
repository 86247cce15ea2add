//! What a store can tell of its own work: how large its log is, how long its commits take, how much each of them holds.

use std::sync::atomic::{AtomicU64, Ordering};

/// For metrics; a store that has nothing to tell leaves it empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meters {
    /// Bytes that are committed and yet to be copied to where they belong.
    pub log_bytes: Option<u64>,
    /// Seconds that durable commits took.
    pub commit_seconds: Option<Spread>,
    /// Operations (enqueues, claims, settles …) that commits held.
    pub commit_operations: Option<Spread>,
}

/// How values are spread.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spread {
    pub sum: f64,
    /// Upper bounds, rising, the last is infinite; and how many values lie between each and the one before.
    pub counts: Vec<(f64, u64)>,
}

/// Counts how values are spread. One thread adds, any may look.
#[derive(Debug)]
pub struct Recorder {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Recorder {
    /// `bounds`: rising and finite.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Recorder { bounds, counts, sum: AtomicU64::new(0_f64.to_bits()) }
    }

    pub fn add(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed)) + value;
        self.sum.store(sum.to_bits(), Ordering::Relaxed);
    }

    pub fn spread(&self) -> Spread {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Spread { sum: f64::from_bits(self.sum.load(Ordering::Relaxed)), counts: bounds.zip(counts).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_counted_below_the_first_bound_that_it_does_not_exceed() {
        let recorder = Recorder::new(&[1.0, 10.0]);
        for value in [0.5, 1.0, 1.5, 10.0, 1_000.0] {
            recorder.add(value);
        }
        let counts = vec![(1.0, 2), (10.0, 2), (f64::INFINITY, 1)];
        assert_eq!(recorder.spread(), Spread { sum: 1_013.0, counts });
    }
}
