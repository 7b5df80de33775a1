//! Which physical memory is RAM, when a loader's map may have its entries in any order, twice, or one upon the other.

use core::ops::Range;

use arrayvec::ArrayVec;

/// Runs of RAM in ascending order, of which no two touch. More than `N` are not kept: what is left out is only lost.
#[derive(Clone, Debug, Default)]
pub struct Ram<const N: usize> {
    runs: ArrayVec<Range<u64>, N>,
}

impl<const N: usize> Ram<N> {
    /// None yet.
    pub const fn new() -> Self {
        Self { runs: ArrayVec::new_const() }
    }

    /// The runs.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// True if all of a range is RAM.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        self.runs.iter().any(|run| run.start <= range.start && range.end <= run.end)
    }

    /// Takes a run in. What is known already is not taken twice.
    pub fn add(&mut self, mut new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        self.runs.retain(|run| {
            let touches = run.start <= new.end && new.start <= run.end;
            if touches {
                new = new.start.min(run.start)..new.end.max(run.end);
            }
            !touches
        });
        let at = self.runs.partition_point(|run| run.start < new.start);
        let _ = self.runs.try_insert(at, new);
    }

    /// Takes out what is something else than RAM.
    pub fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let cut = |run: &Range<u64>| [run.start..run.end.min(range.start), run.start.max(range.end)..run.end];
        let old = core::mem::take(&mut self.runs);
        for part in old.iter().flat_map(cut).filter(|part| !part.is_empty()) {
            let _ = self.runs.try_push(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_are_merged_and_cut() {
        let mut ram = Ram::<4>::new();
        ram.add(10..20);
        ram.add(30..40);
        ram.add(5..10);
        assert_eq!(ram.runs(), [5..20, 30..40]);
        ram.add(15..35);
        assert_eq!(ram.runs().first(), Some(&(5..40)));
        assert_eq!(ram.runs().len(), 1);
        ram.remove(&(7..9));
        ram.remove(&(0..6));
        ram.remove(&(39..u64::MAX));
        assert_eq!(ram.runs(), [6..7, 9..39]);
        assert!(ram.covers(&(10..39)) && !ram.covers(&(6..10)));
    }

    /// The same steps with runs and with a bitmap; what each has in the end.
    fn both<const N: usize>(steps: Vec<(bool, u64, u64)>) -> (Ram<N>, u64, u64) {
        let (mut ram, mut model) = (Ram::new(), 0);
        let mask = |range: Range<u64>| range.fold(0, |mask, bit| mask | 1 << bit);
        for (is_ram, a, b) in steps {
            let range = a.min(b)..a.max(b);
            if is_ram {
                ram.add(range.clone());
                model |= mask(range);
            } else {
                ram.remove(&range);
                model &= !mask(range);
            }
        }
        let found = ram.runs().iter().cloned().fold(0, |found, run| found | mask(run));
        (ram, found, model)
    }

    proptest! {
        #[test]
        fn every_address_is_ram_or_not(
            steps in proptest::collection::vec((any::<bool>(), 0..64_u64, 0..64_u64), 0..20),
        ) {
            let (ram, found, model) = both::<40>(steps);
            prop_assert_eq!(found, model);
            prop_assert!(ram.runs().windows(2).all(|pair| pair[0].end < pair[1].start));
        }

        #[test]
        fn what_does_not_fit_is_only_lost(
            steps in proptest::collection::vec((any::<bool>(), 0..64_u64, 0..64_u64), 0..20),
        ) {
            let (_, found, model) = both::<2>(steps);
            prop_assert_eq!(found & !model, 0);
        }
    }
}
