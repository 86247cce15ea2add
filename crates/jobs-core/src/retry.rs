//! How long a job waits before it is tried again.
//!
//! The original rule is the default: after the n-th failure `min(2^n, 300)` seconds. Jitter is a hash of (job, attempt)
//! rather than a random draw, so that a plan can be explained to a person and repeated by a test.

use std::time::Duration;

use crate::job::JobId;

/// A destination's retry settings.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    pub backoff: Backoff,
    pub jitter: Jitter,
}

/// The delays before jitter.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// `min(base * factor^(n-1), max_delay)` after the n-th failure.
    Exponential { base: Duration, factor: f64, max_delay: Duration },
    /// The n-th of these after the n-th failure; the last one from then on. Never empty.
    Schedule(Vec<Duration>),
}

/// How a delay is spread, so that jobs that failed together do not all return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// The delay as it is.
    None,
    /// Uniform on [0, delay).
    Full,
    /// Uniform on [delay / 2, delay).
    Equal,
}

impl RetryPolicy {
    /// No answer of a destination delays a job by more than this: a mistyped `Retry-After` must not park it for a year.
    pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
    /// Longest delay that can be set: beyond a month, what is wanted is a dead letter.
    pub const MAX_DELAY: Duration = Duration::from_secs(30 * 24 * 3600);

    /// The wait after the `failures`-th failure (>= 1) since the destination last recovered.
    ///
    /// `attempt` is the number of the attempt that failed; with `job` it picks the jitter. `retry_after`, capped at
    /// [`RetryPolicy::MAX_RETRY_AFTER`], raises the delay and never lowers it. Full and equal jitter after AWS
    /// Architecture Blog, "Exponential Backoff And Jitter".
    pub fn delay(&self, failures: u32, job: JobId, attempt: u32, retry_after: Option<Duration>) -> Duration {
        let plain = self.backoff.delay(failures.max(1));
        let share = fraction(job, attempt);
        let spread = match self.jitter {
            Jitter::None => plain,
            Jitter::Full => plain.mul_f64(share),
            Jitter::Equal => plain.mul_f64(0.5 + share / 2.0),
        };
        spread.max(retry_after.unwrap_or_default().min(Self::MAX_RETRY_AFTER))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let backoff =
            Backoff::Exponential { base: Duration::from_secs(2), factor: 2.0, max_delay: Duration::from_secs(300) };
        RetryPolicy { backoff, jitter: Jitter::None }
    }
}

impl Backoff {
    fn delay(&self, failures: u32) -> Duration {
        match self {
            Backoff::Exponential { base, factor, max_delay } => {
                let exponent = i32::try_from(failures - 1).unwrap_or(i32::MAX);
                let seconds = base.as_secs_f64() * factor.powi(exponent);
                if seconds < max_delay.as_secs_f64() { Duration::from_secs_f64(seconds) } else { *max_delay }
            }
            Backoff::Schedule(delays) => {
                let index = (failures as usize - 1).min(delays.len().saturating_sub(1));
                delays.get(index).copied().unwrap_or_default()
            }
        }
    }
}

/// A number of [0, 1) that looks random and is the same every time: SplitMix64's finaliser over job and attempt.
fn fraction(job: JobId, attempt: u32) -> f64 {
    let (high, low) = job.0.as_u64_pair();
    let mut mixed = high ^ low.rotate_left(32) ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn job(n: u128) -> JobId {
        JobId(Uuid::from_u128(n))
    }

    #[test]
    fn the_default_delays_are_those_of_the_original_design() {
        let policy = RetryPolicy::default();
        let seconds: Vec<u64> = (1..=11).map(|n| policy.delay(n, job(1), n, None).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(policy.delay(u32::MAX, job(1), 1, None), Duration::from_secs(300));
    }

    #[test]
    fn a_schedule_is_followed_and_its_last_delay_repeats() {
        let backoff = Backoff::Schedule(vec![Duration::from_secs(5), Duration::from_secs(60)]);
        let policy = RetryPolicy { backoff, jitter: Jitter::None };
        let seconds: Vec<u64> = (1..=4).map(|n| policy.delay(n, job(1), n, None).as_secs()).collect();
        assert_eq!(seconds, [5, 60, 60, 60]);
    }

    #[test]
    fn retry_after_raises_a_delay_up_to_its_cap_and_never_lowers_one() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(1, job(1), 1, Some(Duration::from_secs(90))), Duration::from_secs(90));
        assert_eq!(policy.delay(1, job(1), 1, Some(Duration::from_secs(90_000))), RetryPolicy::MAX_RETRY_AFTER);
        assert_eq!(policy.delay(5, job(1), 5, Some(Duration::from_secs(1))), Duration::from_secs(32));
    }

    #[test]
    fn jitter_spreads_jobs_that_failed_together() {
        let policy = RetryPolicy { jitter: Jitter::Full, ..RetryPolicy::default() };
        let mut delays: Vec<Duration> = (0..1000).map(|n| policy.delay(9, job(n), 9, None)).collect();
        delays.sort();
        delays.dedup();
        assert!(delays.len() > 990, "only {} different delays", delays.len());
        let mean = delays.iter().sum::<Duration>() / delays.len() as u32;
        assert!((140..160).contains(&mean.as_secs()), "{mean:?}");
    }

    proptest! {
        #[test]
        fn jitter_keeps_within_its_bounds_and_repeats(failures in 1u32..2000, id: u128, attempt: u32) {
            for (jitter, low, high) in [(Jitter::Full, 0.0, 1.0), (Jitter::Equal, 0.5, 1.0), (Jitter::None, 1.0, 1.0)] {
                let policy = RetryPolicy { jitter, ..RetryPolicy::default() };
                let plain = RetryPolicy::default().delay(failures, job(id), attempt, None);
                let delay = policy.delay(failures, job(id), attempt, None);
                prop_assert!(delay >= plain.mul_f64(low) && delay <= plain.mul_f64(high));
                prop_assert_eq!(delay, policy.delay(failures, job(id), attempt, None));
            }
        }

        #[test]
        fn without_jitter_a_later_failure_never_waits_less(failures in 1u32..2000, id: u128) {
            let policy = RetryPolicy::default();
            prop_assert!(policy.delay(failures, job(id), 1, None) <= policy.delay(failures + 1, job(id), 1, None));
        }
    }
}
