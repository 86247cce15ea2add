//! What answer time is usual for a destination.

use std::collections::VecDeque;
use std::time::Duration;

/// Rounds remembered: half a minute of them, so that one lucky minimum does not set the measure for ever.
const REMEMBERED: usize = 300;

/// The usual answer time: the tenth percentile of the latest rounds' medians. Robust against a lucky minimum, which
/// would make a small queueing server look slow at its best throughput.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    medians: VecDeque<Duration>,
}

impl Baseline {
    /// Takes note of a round's median; whether it is more than twice what is usual.
    pub(super) fn is_well_below(&mut self, rtt: Duration) -> bool {
        if self.medians.len() >= REMEMBERED {
            self.medians.pop_front();
        }
        self.medians.push_back(rtt);
        let mut sorted: Vec<Duration> = self.medians.iter().copied().collect();
        let tenth = sorted.len() / 10;
        let usual = *sorted.select_nth_unstable(tenth).1;
        rtt > usual * 2
    }
}

/// The median; `None` of nothing. Reorders `latencies`.
pub(super) fn median(latencies: &mut [Duration]) -> Option<Duration> {
    let middle = latencies.len() / 2;
    (!latencies.is_empty()).then(|| *latencies.select_nth_unstable(middle).1)
}
