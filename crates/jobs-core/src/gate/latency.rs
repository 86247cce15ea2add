//! What answer time is usual for a destination.

use std::collections::VecDeque;
use std::time::Duration;

/// From so many on their tenth percentile is more than luck.
const ENOUGH: usize = 100;
/// Rounds remembered: half a minute of them, so that one lucky minimum does not set the measure for ever.
const REMEMBERED: usize = 300;
/// Queueing shorter than this is nobody's trouble, and may well be on our side.
const TOLERATED: Duration = Duration::from_millis(20);
/// What was usual is forgotten by so much with each round: by half within a minute or so. If it were at once, what a queue has
/// grown to would be usual after half a minute, and the queue would grow on; if never, a destination that has become slower
/// for good would be starved.
const FORGOTTEN: f64 = 1.001;

/// The usual answer time: the tenth percentile of the latest rounds' medians, or the least it has been of late. Robust against
/// a lucky minimum, which would make a small queueing server look slow at its best throughput.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    medians: VecDeque<Duration>,
    usual: Option<Duration>,
}

impl Baseline {
    /// Takes note of a round's median; whether it is well more than twice what is usual.
    pub(super) fn is_well_below(&mut self, rtt: Duration) -> bool {
        if self.medians.len() >= REMEMBERED {
            self.medians.pop_front();
        }
        self.medians.push_back(rtt);
        let mut sorted: Vec<Duration> = self.medians.iter().copied().collect();
        let tenth = sorted.len() / 10;
        let lately = *sorted.select_nth_unstable(tenth).1;
        let usual = self.usual.map_or(lately, |usual| lately.min(usual.mul_f64(FORGOTTEN)));
        self.usual = (self.medians.len() >= ENOUGH).then_some(usual);
        rtt > usual * 2 + TOLERATED
    }
}

/// The median; `None` of nothing. Reorders `latencies`.
pub(super) fn median(latencies: &mut [Duration]) -> Option<Duration> {
    let middle = latencies.len() / 2;
    (!latencies.is_empty()).then(|| *latencies.select_nth_unstable(middle).1)
}
