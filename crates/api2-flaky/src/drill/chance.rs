//! Repeatable chance: SplitMix64's finalizer as a hash of (seed, number). After Steele, Lea and Flood, "Fast Splittable
//! Pseudorandom Number Generators" (2014). Good enough for weather; not for secrets.

/// SplitMix64's step between two states.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `number`-th value of the sequence that starts at `seed`.
pub(super) fn hash(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(GOLDEN_GAMMA));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The same, as a number in [0, 1).
pub(super) fn uniform(seed: u64, number: u64) -> f64 {
    // The upper 53 bits are what an f64 holds exactly.
    (hash(seed, number) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_splitmix64() {
        // The first outputs of the reference implementation for seed 1234567.
        let drawn: Vec<u64> = (1..=3).map(|n| hash(1_234_567, n)).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn it_spreads_evenly() {
        let low = (0..10_000).filter(|n| uniform(7, *n) < 0.25).count();
        assert!((2_300..2_700).contains(&low), "{low}");
    }
}
