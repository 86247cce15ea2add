//! A token bucket: at most `per_second` starts on average and `burst` at once, on the monotonic clock.

use std::time::Duration;

use crate::destination::RateLimit;
use crate::time::Mono;

#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    tokens: f64,
    /// When `tokens` was right; `None` before the first take.
    at: Option<Mono>,
}

impl Bucket {
    /// A full bucket, or after a reload one that has what `before` had, as far as it fits.
    pub(super) fn new(limit: RateLimit, before: Option<&Bucket>) -> Self {
        let full = f64::from(limit.burst);
        match before {
            Some(before) => Bucket { limit, tokens: before.tokens.min(full), at: before.at },
            None => Bucket { limit, tokens: full, at: None },
        }
    }

    /// Takes up to `wanted` tokens; answers how many there were.
    pub(super) fn take(&mut self, wanted: u32, now: Mono) -> u32 {
        self.tokens = self.tokens_at(now);
        self.at = Some(now);
        let count = wanted.min(self.available(now));
        self.tokens -= f64::from(count);
        count
    }

    /// Whole tokens that can be taken.
    pub(super) fn available(&self, now: Mono) -> u32 {
        // A cast of a float to an integer saturates and cuts off the fraction.
        self.tokens_at(now) as u32
    }

    /// Tokens that were taken and not used.
    pub(super) fn give_back(&mut self, count: u32) {
        self.tokens = (self.tokens + f64::from(count)).min(f64::from(self.limit.burst));
    }

    /// How long until there is one whole token.
    pub(super) fn wait(&self, now: Mono) -> Duration {
        let missing = 1.0 - self.tokens_at(now);
        if missing <= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(missing / self.limit.per_second) + ROUNDING
        }
    }

    fn tokens_at(&self, now: Mono) -> f64 {
        let elapsed = self.at.map_or(Duration::ZERO, |at| now.since(at));
        (self.tokens + elapsed.as_secs_f64() * self.limit.per_second).min(f64::from(self.limit.burst))
    }
}

/// Added to a wait, so that rounding never ends it just before the token is whole.
const ROUNDING: Duration = Duration::from_micros(10);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_idle_bucket_fills_up_to_its_burst_and_no_further() {
        let mut bucket = Bucket::new(RateLimit { per_second: 10.0, burst: 5 }, None);
        assert_eq!(bucket.take(100, Mono::from_millis(0)), 5);
        assert_eq!(bucket.take(100, Mono::from_millis(50)), 0);
        assert_eq!(bucket.take(100, Mono::from_millis(100)), 1);
        assert_eq!(bucket.take(100, Mono::from_millis(60_000)), 5);
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst_allow(per_second in 0.5f64..5000.0, burst in 1u32..200, steps in prop::collection::vec((0u64..500, 0u32..300), 1..100)) {
            let mut bucket = Bucket::new(RateLimit { per_second, burst }, None);
            let (mut ms, mut taken) = (0, 0.0);
            for (wait_ms, wanted) in steps {
                ms += wait_ms;
                taken += f64::from(bucket.take(wanted, Mono::from_millis(ms)));
                prop_assert!(taken <= f64::from(burst) + ms as f64 / 1000.0 * per_second + 1e-6);
            }
        }

        #[test]
        fn after_the_wait_there_is_a_token(per_second in 0.01f64..5000.0, burst in 1u32..10, used in 0u32..10) {
            let mut bucket = Bucket::new(RateLimit { per_second, burst }, None);
            bucket.take(used, Mono::from_millis(1));
            let then = Mono::from_millis(1).plus(bucket.wait(Mono::from_millis(1)));
            prop_assert_eq!(bucket.take(1, then), 1);
        }
    }
}
