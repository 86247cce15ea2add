//! The worst second of a destination: most calls within any second, whenever it began, not only within those of the clock.

use std::time::Duration;

use jobs_core::time::Timestamp;

const SECOND: Duration = Duration::from_secs(1);

/// Most of `calls` within any second.
pub(crate) fn worst_second(calls: impl Iterator<Item = Timestamp>) -> u64 {
    let mut calls: Vec<Timestamp> = calls.collect();
    calls.sort_unstable();
    let within = |(first, at): (usize, &Timestamp)| calls.partition_point(|call| call.since(*at) < SECOND) - first;
    calls.iter().enumerate().map(within).max().unwrap_or_default() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_may_begin_at_any_moment() {
        let calls = |millis: &[i64]| worst_second(millis.iter().map(|ms| Timestamp::from_millis(*ms)));
        assert_eq!(calls(&[]), 0);
        assert_eq!(calls(&[1_900, 900, 2_899]), 2);
        assert_eq!(calls(&[0, 1_000, 2_000]), 1);
        assert_eq!(calls(&[500, 500, 1_499]), 3);
    }
}
