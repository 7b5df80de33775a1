//! Space that is reserved for dirty pages without blocks (delayed allocation): a write that would find none is refused
//! at once, when there is still somebody to tell.

use core::sync::atomic::{AtomicU64, Ordering};

use super::page::Page;

/// The reservations of one filesystem. Its locks do not matter: each step is atomic.
///
/// The upper half counts the pages that the free blocks make, as far as it can (16 TiB of them); the lower half the dirty pages that have
/// no blocks yet.
#[derive(Debug)]
pub struct Reservations(AtomicU64);

const FREE: u32 = 32;
const DELAYED: u64 = (1 << FREE) - 1;

const fn parts(state: u64) -> (u64, u64) {
    (state >> FREE, state & DELAYED)
}

impl Default for Reservations {
    fn default() -> Self {
        Self::new()
    }
}

impl Reservations {
    /// For a filesystem that says nothing of its free space, or has not said it yet: all is reserved that is asked for.
    pub const fn new() -> Self {
        Self(AtomicU64::new(DELAYED << FREE))
    }

    /// Notes how many pages could get blocks.
    pub fn set_free_pages(&self, pages: u64) {
        let free = pages.min(DELAYED) << FREE;
        self.update(|state| Some(free | state & DELAYED));
    }

    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
    }

    /// Pages that have blocks reserved.
    pub fn delayed_pages(&self) -> u64 {
        parts(self.0.load(Ordering::Relaxed)).1
    }

    /// Reserves blocks for a page, unless that was done; false if there are none left. Writers of other files do the same at
    /// this moment: each has blocks of its own reserved.
    pub(super) fn reserve<F>(&self, page: &Page<F>) -> bool {
        if page.is_delayed.load(Ordering::Relaxed) {
            return true;
        }
        let is_reserved = self.update(|state| {
            let (free, delayed) = parts(state);
            (delayed < free && delayed < DELAYED).then_some(state + 1)
        });
        page.is_delayed.fetch_or(is_reserved, Ordering::Relaxed);
        is_reserved
    }

    /// Gives back what is reserved for a page.
    pub(super) fn release<F>(&self, page: &Page<F>) {
        if page.is_delayed.swap(false, Ordering::Relaxed) {
            self.release_pages(1);
        }
    }

    /// Gives back what was reserved for so many pages, which do not say so any more.
    pub(super) fn release_pages(&self, count: usize) {
        self.0.fetch_sub(count as u64, Ordering::Relaxed);
    }

    /// Lets the filesystem take blocks for up to so many pages at once, if that leaves those that are reserved. Until
    /// [`Self::set_free_pages`] none can be reserved; called from an operation of the filesystem, after which that is called.
    pub(super) fn claim(&self, pages: u64) -> bool {
        self.update(|state| {
            let (free, delayed) = parts(state);
            (delayed == 0 || delayed + pages <= free).then_some(delayed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_reserved_than_is_free() {
        let reservations = Reservations::new();
        reservations.set_free_pages(2);
        let pages = [(); 3].map(|()| Page::ready(()));
        assert_eq!(pages.each_ref().map(|page| reservations.reserve(page)), [true, true, false]);
        assert!(reservations.reserve(&pages[0]), "it is reserved already");
        reservations.release(&pages[0]);
        assert!(reservations.reserve(&pages[2]));
        assert_eq!(reservations.delayed_pages(), 2);
    }

    #[test]
    fn what_is_reserved_is_not_claimed() {
        let reservations = Reservations::new();
        reservations.set_free_pages(10);
        let (page, other) = (Page::ready(()), Page::ready(()));
        assert!(reservations.reserve(&page));
        assert!(!reservations.claim(10));
        assert!(reservations.claim(9));
        assert!(!reservations.reserve(&other), "nothing is known to be free");
        reservations.set_free_pages(u64::MAX);
        assert!(reservations.reserve(&other));
        reservations.release_pages(2);
        assert!(reservations.claim(u64::MAX >> 1), "the filesystem says how much there is");
        assert_eq!(reservations.delayed_pages(), 0);
    }
}
