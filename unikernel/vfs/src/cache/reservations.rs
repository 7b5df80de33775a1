//! Space that is reserved for dirty pages without blocks (delayed allocation): a write that would find none is refused
//! at once, when there is still somebody to tell.

use core::sync::atomic::{AtomicU64, Ordering};

use super::page::Page;

/// The reservations of one filesystem. Its locks do not matter: each step is atomic.
#[derive(Debug)]
pub struct Reservations {
    /// Dirty pages that have no blocks yet.
    delayed_pages: AtomicU64,
    /// Pages that the free blocks make.
    free_pages: AtomicU64,
}

impl Default for Reservations {
    fn default() -> Self {
        Self::new()
    }
}

impl Reservations {
    /// For a filesystem that says nothing of its free space, or has not said it yet: all is reserved that is asked for.
    pub const fn new() -> Self {
        Self { delayed_pages: AtomicU64::new(0), free_pages: AtomicU64::new(u64::MAX) }
    }

    /// Notes how many pages could get blocks.
    pub fn set_free_pages(&self, pages: u64) {
        self.free_pages.store(pages, Ordering::Relaxed);
    }

    /// Pages that have blocks reserved.
    pub fn delayed_pages(&self) -> u64 {
        self.delayed_pages.load(Ordering::Relaxed)
    }

    /// Reserves blocks for a page, unless that was done; false if there are none left. Writers of other files do the same at
    /// this moment: each has blocks of its own reserved.
    pub(super) fn reserve<F>(&self, page: &Page<F>) -> bool {
        if page.is_delayed.load(Ordering::Relaxed) {
            return true;
        }
        let free = self.free_pages.load(Ordering::Relaxed);
        let one_more = |delayed: u64| delayed.checked_add(1).filter(|delayed| *delayed <= free);
        let is_reserved =
            self.delayed_pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
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
        self.delayed_pages.fetch_sub(count as u64, Ordering::Relaxed);
    }
}
