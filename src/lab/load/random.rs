//! Numbers that look random and are a pure function of a seed: the same load on every machine and for ever.

/// SplitMix64. Good enough to choose among names, and small enough to stay as it is.
#[derive(Debug, Clone)]
pub(in crate::lab) struct Random(u64);

impl Random {
    pub(in crate::lab) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::lab) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where `bound` is 0.
    pub(in crate::lab) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()).wrapping_mul(u128::from(bound)) >> 64;
        u64::try_from(wide).unwrap_or_default()
    }

    /// True in `percent` of 100 cases.
    pub(in crate::lab) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `from`; `None` where there is none.
    pub(in crate::lab) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(u64::try_from(from.len()).unwrap_or(u64::MAX));
        from.get(usize::try_from(at).ok()?)
    }

    /// One of `words`; nothing where there is none.
    pub(in crate::lab) fn word(&mut self, words: &[&'static str]) -> &'static str {
        self.pick(words).copied().unwrap_or_default()
    }

    /// A UUID of version 4.
    pub(in crate::lab) fn uuid(&mut self) -> uuid::Uuid {
        let bits = (u128::from(self.next()) << 64) | u128::from(self.next());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }

    /// A text built as `pattern` says: `n` is a digit, `a` an upper-case letter, `c` either.
    pub(in crate::lab) fn fill(&mut self, pattern: impl Iterator<Item = char>) -> String {
        const CHARACTERS: &[char; 36] = &[
            '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K',
            'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z',
        ];
        let (digits, letters) = CHARACTERS.split_at(10);
        let mut one = |kind| {
            let from = match kind {
                'n' => digits,
                'a' => letters,
                _ => CHARACTERS.as_slice(),
            };
            self.pick(from).copied().unwrap_or('0')
        };
        pattern.map(&mut one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_never_changes() {
        // The published test values of SplitMix64 for seed 1234567.
        let mut random = Random::new(1_234_567);
        let values = [(); 3].map(|()| random.next());
        assert_eq!(values, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_it() {
        let mut random = Random::new(7);
        let seen: std::collections::BTreeSet<u64> = (0..1000).map(|_| random.below(10)).collect();
        assert_eq!(seen.len(), 10);
        assert_eq!(seen.last(), Some(&9));
        assert_eq!(random.below(0), 0);
        assert_eq!(random.fill("nnaac".chars()).len(), 5);
    }
}
