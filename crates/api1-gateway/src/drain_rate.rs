//! How fast each destination's jobs are ending, for the estimate of when it will be drained.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jobs_core::job::DestinationName;

/// Weight of the latest second against all before it: a change shows within a few seconds, a hiccup does not.
const WEIGHT: f64 = 0.3;
/// Jobs a second below which no end is in sight.
const STANDSTILL: f64 = 0.01;

/// Jobs that end, a second, by destination, smoothed.
#[derive(Debug, Default)]
pub(crate) struct DrainRates {
    rates: Mutex<BTreeMap<DestinationName, Rate>>,
}

#[derive(Debug, Default)]
struct Rate {
    /// Since the last tick.
    ended: u32,
    per_second: f64,
}

impl DrainRates {
    /// Jobs of these destinations have ended.
    pub(crate) fn ended<'a>(&self, destinations: impl Iterator<Item = &'a DestinationName>) {
        let mut rates = self.lock();
        for name in destinations {
            match rates.get_mut(name) {
                Some(rate) => rate.ended += 1,
                None => drop(rates.insert(name.clone(), Rate { ended: 1, per_second: 0.0 })),
            }
        }
    }

    /// To be called about once a second with the time since the last call.
    pub(crate) fn tick(&self, elapsed: Duration) {
        for rate in self.lock().values_mut() {
            let latest = f64::from(std::mem::take(&mut rate.ended)) / elapsed.as_secs_f64().max(0.1);
            rate.per_second += WEIGHT * (latest - rate.per_second);
        }
    }

    /// Milliseconds until `unfinished` jobs have ended at the present rate; `None` while nothing ends.
    pub(crate) fn estimate_ms(&self, name: &DestinationName, unfinished: u64) -> Option<u64> {
        let per_second = self.lock().get(name).map_or(0.0, |rate| rate.per_second);
        match unfinished {
            0 => Some(0),
            // A cast of a float saturates.
            _ => (per_second > STANDSTILL).then(|| (unfinished as f64 / per_second * 1_000.0) as u64),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DestinationName, Rate>> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_the_rate_and_ends_with_it() {
        let (rates, name) = (DrainRates::default(), "api2".parse().unwrap());
        assert_eq!(rates.estimate_ms(&name, 10), None);
        assert_eq!(rates.estimate_ms(&name, 0), Some(0));
        for _ in 0..30 {
            rates.ended(std::iter::repeat_n(&name, 100));
            rates.tick(Duration::from_secs(1));
        }
        let estimate = rates.estimate_ms(&name, 1_000).expect("jobs are ending");
        assert!((9_900..10_100).contains(&estimate), "{estimate}");
        for _ in 0..60 {
            rates.tick(Duration::from_secs(1));
        }
        assert_eq!(rates.estimate_ms(&name, 1_000), None);
    }
}
