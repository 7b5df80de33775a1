//! Which page a cache gives up: the clock algorithm (second chance). A page that was used since the hand passed
//! is passed once more, so that what is read again and again stays, and a long file read once goes.

use alloc::collections::VecDeque;

/// What the hand finds when it looks at a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reclaim {
    /// It was used since, or cannot go now.
    Keep,
    /// It has gone now.
    Freed,
    /// It was not there any more.
    Gone,
}

/// The pages of a cache, in a ring, by whatever names them.
#[derive(Debug)]
pub struct Clock<K> {
    ring: VecDeque<K>,
}

impl<K> Default for Clock<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Clock<K> {
    /// No pages.
    pub const fn new() -> Self {
        Self { ring: VecDeque::new() }
    }

    /// How many pages there are, those included that have gone meanwhile.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Adds a page, just behind the hand.
    pub fn add(&mut self, key: K) {
        self.ring.push_back(key);
    }

    /// Moves the hand until `wanted` pages were freed, at most twice around: in the second round what was used
    /// before the first is not in use any more. Answers how many were freed.
    pub fn sweep(&mut self, wanted: usize, mut look: impl FnMut(&K) -> Reclaim) -> usize {
        let mut freed = 0;
        for _ in 0..self.ring.len() * 2 {
            if freed >= wanted {
                break;
            }
            let Some(key) = self.ring.pop_front() else { break };
            match look(&key) {
                Reclaim::Keep => self.ring.push_back(key),
                Reclaim::Freed => freed += 1,
                Reclaim::Gone => {}
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_used_gets_a_second_chance() {
        let mut clock = Clock::new();
        (0..4).for_each(|page| clock.add(page));
        let mut used = BTreeSet::from([0, 2]);
        let mut freed = Vec::new();
        let mut look = |page: &i32| {
            if used.remove(page) {
                return Reclaim::Keep;
            }
            freed.push(*page);
            Reclaim::Freed
        };
        assert_eq!(clock.sweep(2, &mut look), 2);
        assert_eq!(clock.sweep(9, &mut look), 2);
        assert_eq!(freed, [1, 3, 0, 2]);
    }

    #[test]
    fn pages_that_cannot_go_do_not_hold_the_hand_for_ever() {
        let mut clock = Clock::new();
        (0..100).for_each(|page| clock.add(page));
        assert_eq!(clock.sweep(1, |_| Reclaim::Keep), 0);
        assert_eq!(clock.len(), 100);
    }

    proptest! {
        /// Against a set: nothing is freed twice, nothing that was kept is lost.
        #[test]
        fn every_page_is_freed_once(pages in 1usize..60, pinned in prop::collection::btree_set(0usize..60, 0..20),
                                    steps in prop::collection::vec(0usize..10, 0..40)) {
            let mut clock = Clock::new();
            (0..pages).for_each(|page| clock.add(page));
            let mut left: BTreeSet<usize> = (0..pages).collect();
            for wanted in steps {
                let before = left.len();
                let freed = clock.sweep(wanted, |page| {
                    if pinned.contains(page) { return Reclaim::Keep; }
                    if left.remove(page) { Reclaim::Freed } else { Reclaim::Gone }
                });
                prop_assert_eq!(before - left.len(), freed);
                let free_able = left.iter().filter(|page| !pinned.contains(page)).count();
                prop_assert!(freed == wanted || free_able == 0);
                prop_assert_eq!(clock.len(), left.len());
            }
        }
    }
}
