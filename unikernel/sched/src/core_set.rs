//! Sets of cores.

/// More cores than this stay switched off.
pub const MAX_CORES: usize = 64;

/// A set of cores: bit `n` is core `n`. The layout is that of `sched_setaffinity`'s first word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreSet(pub u64);

impl CoreSet {
    /// Every core there could be.
    pub const ALL: Self = Self(u64::MAX);

    /// The set with one core.
    pub const fn only(core: usize) -> Self {
        Self(1 << core)
    }

    /// The first `count` cores.
    pub const fn first(count: usize) -> Self {
        if count >= MAX_CORES { Self::ALL } else { Self((1 << count) - 1) }
    }

    /// True if `core` is in the set.
    pub const fn contains(self, core: usize) -> bool {
        core < MAX_CORES && self.0 & 1 << core != 0
    }

    /// The cores in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The set without `core`.
    #[must_use]
    pub const fn without(self, core: usize) -> Self {
        Self(self.0 & !(1 << core))
    }

    /// The core with the lowest number.
    pub const fn lowest(self) -> Option<usize> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros() as usize) }
    }

    /// True if no core is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Every core in the set, lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_CORES).filter(move |&core| self.contains(core))
    }
}
