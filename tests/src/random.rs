//! A seeded generator (SplitMix64's recurrence): the same seed loses the same datagrams and makes the same tags.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Pseudo-random numbers, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that repeats itself for the same `seed`.
    pub fn seeded(seed: u64) -> Self {
        Random(seed)
    }

    /// A generator that differs from run to run: for Call-IDs and tags.
    pub fn fresh() -> Self {
        Random(RandomState::new().build_hasher().finish())
    }

    /// The next number, all 64 bits usable.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.number() % 100 < percent
    }

    /// Sixteen hexadecimal digits.
    pub fn token(&mut self) -> String {
        format!("{:016x}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_about_the_asked_share() {
        let (mut a, mut b) = (Random::seeded(7), Random::seeded(7));
        let hits = (0..10_000)
            .filter(|_| {
                let hit = a.percent(30);
                assert_eq!(hit, b.percent(30));
                hit
            })
            .count();
        assert!((2_800..3_200).contains(&hits), "{hits} of 10000");
    }
}
