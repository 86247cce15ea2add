//! A token bucket in whole numbers: admits at most `burst + rate * time` requests, and never fewer when there is demand.

use jobs_core::time::Mono;

/// One token, in units of (tokens per second) x nanoseconds: so refilling needs no division and loses nothing.
const TOKEN: u128 = 1_000_000_000;

#[derive(Debug, Clone)]
pub(super) struct Bucket {
    per_second: u128,
    most: u128,
    level: u128,
    filled_at: Mono,
}

impl Bucket {
    /// A full bucket at `now`: `burst` requests at once, then `per_second`.
    pub(super) fn full(per_second: u32, burst: u32, now: Mono) -> Self {
        let most = u128::from(burst) * TOKEN;
        Bucket { per_second: per_second.into(), most, level: most, filled_at: now }
    }

    /// Takes a token if there is one.
    pub(super) fn take(&mut self, now: Mono) -> bool {
        let gained = now.since(self.filled_at).as_nanos() * self.per_second;
        self.level = self.most.min(self.level.saturating_add(gained));
        self.filled_at = self.filled_at.max(now);
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }

    /// How empty the bucket is: 0 full, 1 empty.
    pub(super) fn drained(&self) -> f64 {
        1.0 - self.level as f64 / self.most as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn it_admits_no_more_than_promised_and_no_fewer(
            per_second in 1_u32..5_000, burst in 1_u32..300, gaps in prop::collection::vec(0_u64..20_000, 1..2_000),
        ) {
            let mut bucket = Bucket::full(per_second, burst, Mono::default());
            let (mut elapsed, mut admitted, mut gained, mut level) = (Duration::ZERO, 0_u64, 0.0, f64::from(burst));
            for gap in gaps {
                let gap = Duration::from_micros(gap);
                elapsed += gap;
                gained += gap.as_secs_f64() * f64::from(per_second);
                level = f64::from(burst).min(level + gap.as_secs_f64() * f64::from(per_second));
                let taken = bucket.take(Mono::from_duration(elapsed));
                admitted += u64::from(taken);
                prop_assert!(admitted as f64 <= f64::from(burst) + gained + 1e-6);
                // Away from the edge, where the model's rounding decides, it agrees with the model.
                if (level - 1.0).abs() > 1e-6 {
                    prop_assert_eq!(taken, level > 1.0, "level {}", level);
                }
                level -= f64::from(u8::from(taken));
            }
        }
    }

    #[test]
    fn time_that_seems_to_go_back_gains_nothing() {
        let mut bucket = Bucket::full(10, 1, Mono::from_millis(1_000));
        assert!(bucket.take(Mono::from_millis(1_000)));
        assert!(!bucket.take(Mono::from_millis(0)));
        assert!(!bucket.take(Mono::from_millis(1_099)));
        assert!(bucket.take(Mono::from_millis(1_100)));
    }
}
