//! How many jobs a client may have accepted in a second, where the operator has set a limit.
//!
//! Each principal has a bucket that fills at the limit and holds one second of it. A batch that is larger than a full bucket
//! is not refused for ever: it is taken when the bucket is full, and what it took too much is owed, so that on average nobody
//! gets more. There are no more buckets than keys, since a principal is a configured key or nobody in particular; so none is
//! ever thrown away. Requests that are refused for another reason count for nothing; replays count, for they cost a commit.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobs_core::time::Mono;

use crate::app::App;
use crate::problem::{Code, Problem};

/// The limit, with what each principal has left of it.
#[derive(Debug, Default)]
pub(crate) struct AcceptRate {
    /// Jobs a second for each principal; `None`: as many as the store takes.
    per_second: Option<NonZeroU32>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl AcceptRate {
    pub(crate) fn new(per_second: Option<NonZeroU32>) -> Self {
        AcceptRate { per_second, buckets: Mutex::default() }
    }

    /// Lets `jobs` of `principal` in, all or none; otherwise says how long until they would be.
    fn take(&self, principal: &str, jobs: usize, now: Mono) -> Result<(), Duration> {
        let Some(per_second) = self.per_second else { return Ok(()) };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.get_mut(principal) {
            Some(bucket) => bucket.take(jobs, per_second, now),
            None => {
                let full = Bucket { tokens: f64::from(per_second.get()), at: now };
                buckets.entry(principal.to_owned()).or_insert(full).take(jobs, per_second, now)
            }
        }
    }
}

impl App {
    /// Refuses `jobs` of `principal` that come faster than its clients may send them.
    pub(crate) fn check_rate(&self, principal: &str, jobs: usize) -> Result<(), Problem> {
        self.accept_rate.take(principal, jobs, self.clock.now().mono).map_err(|wait| {
            let detail = "nothing was stored; send fewer jobs a second, or wait as long as Retry-After says";
            Problem::new(Code::RateLimited, detail).retry_after(wait)
        })
    }
}

#[derive(Debug)]
struct Bucket {
    /// Jobs that may come at once; below zero after a batch that was larger.
    tokens: f64,
    /// When `tokens` was right.
    at: Mono,
}

impl Bucket {
    fn take(&mut self, jobs: usize, per_second: NonZeroU32, now: Mono) -> Result<(), Duration> {
        let per_second = f64::from(per_second.get());
        self.tokens = (self.tokens + now.since(self.at).as_secs_f64() * per_second).min(per_second);
        self.at = now;
        // At most a thousand: no precision is lost.
        let jobs = jobs as f64;
        let missing = jobs.min(per_second) - self.tokens;
        if missing > 0.0 {
            return Err(Duration::from_secs_f64(missing / per_second));
        }
        self.tokens -= jobs;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(per_second: u32) -> AcceptRate {
        AcceptRate::new(NonZeroU32::new(per_second))
    }

    #[test]
    fn a_second_of_the_rate_comes_at_once_and_then_as_it_fills() {
        let rate = rate(4);
        let at = Mono::from_millis;
        assert_eq!(rate.take("a", 4, at(0)), Ok(()));
        assert_eq!(rate.take("a", 1, at(0)), Err(Duration::from_millis(250)));
        assert_eq!(rate.take("b", 1, at(0)), Ok(()), "another client has its own");
        assert_eq!(rate.take("a", 2, at(250)), Err(Duration::from_millis(250)), "all or none");
        assert_eq!(rate.take("a", 2, at(500)), Ok(()));
        assert_eq!(rate.take("a", 5, at(60_000)), Ok(()), "idle, it has filled up");
    }

    #[test]
    fn a_batch_above_a_second_of_the_rate_needs_a_full_bucket_and_is_paid_off_afterwards() {
        let rate = rate(10);
        let at = Mono::from_millis;
        assert_eq!(rate.take("a", 30, at(0)), Ok(()));
        assert_eq!(rate.take("a", 1, at(0)), Err(Duration::from_millis(2_100)));
        assert_eq!(rate.take("a", 30, at(2_000)), Err(Duration::from_secs(1)), "it must be full again");
        assert_eq!(rate.take("a", 30, at(3_000)), Ok(()));
    }

    #[test]
    fn without_a_limit_nobody_is_refused() {
        assert_eq!(AcceptRate::default().take("a", 1_000_000, Mono::from_millis(0)), Ok(()));
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_comes_than_rate_and_one_batch_allow(
            per_second in 1u32..100, steps in prop::collection::vec((0u64..2_000, 0usize..300), 1..100)
        ) {
            let rate = rate(per_second);
            let (mut ms, mut taken, mut largest) = (0, 0, 0);
            for (wait_ms, jobs) in steps {
                ms += wait_ms;
                if rate.take("a", jobs, Mono::from_millis(ms)).is_ok() {
                    taken += jobs;
                    largest = largest.max(jobs);
                }
                let allowed = f64::from(per_second).max(largest as f64) + ms as f64 / 1000.0 * f64::from(per_second);
                prop_assert!(taken as f64 <= allowed + 1e-6);
            }
        }

        #[test]
        fn after_the_wait_it_is_let_in(per_second in 1u32..1_000, first in 0usize..1_000, jobs in 0usize..1_000) {
            let rate = rate(per_second);
            prop_assert_eq!(rate.take("a", first, Mono::from_millis(0)), Ok(()));
            if let Err(wait) = rate.take("a", jobs, Mono::from_millis(0)) {
                // As the caller is told: whole seconds, rounded up.
                let seconds = wait.as_secs_f64().ceil() as u64;
                prop_assert_eq!(rate.take("a", jobs, Mono::from_millis(seconds * 1_000)), Ok(()));
            }
        }
    }
}
