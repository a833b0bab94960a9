//! Every choice of a run, from its seed.

/// A small generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The choices that belong to `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for a part, so that what the part draws does not shift everybody else's choices.
    pub const fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// Any number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// An index into something that has `length` entries, which is not 0.
    pub const fn index(&mut self, length: usize) -> usize {
        (self.number() % length as u64) as usize
    }

    /// Takes any of the entries, where there are some.
    pub fn take<T>(&mut self, entries: &mut Vec<T>) -> Option<T> {
        (!entries.is_empty()).then(|| entries.swap_remove(self.index(entries.len())))
    }

    /// True once in `times`.
    pub const fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
