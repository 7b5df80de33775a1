//! How many pages there are in the whole cache.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Numbers of pages of all files. They change with the files' lists, under their locks, and are read without.
#[derive(Debug, Default)]
pub struct Counts {
    pages: AtomicUsize,
    dirty: AtomicUsize,
}

impl Counts {
    /// No pages.
    pub const fn new() -> Self {
        Self { pages: AtomicUsize::new(0), dirty: AtomicUsize::new(0) }
    }

    /// Pages in the cache.
    pub fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed)
    }

    /// Of those, dirty ones.
    pub fn dirty(&self) -> usize {
        self.dirty.load(Ordering::Relaxed)
    }

    pub(super) fn note_added(&self, count: usize) {
        self.pages.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn note_removed(&self, count: usize) {
        self.pages.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn note_dirty(&self, count: usize) {
        self.dirty.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn note_clean(&self, count: usize) {
        self.dirty.fetch_sub(count, Ordering::Relaxed);
    }
}
