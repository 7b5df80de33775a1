//! What was promised to the app, and what of it is still owed.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::{PAGE_BYTES, Space, SpaceError};
use crate::mem::{frames, heap};

static OWED_PAGES: AtomicUsize = AtomicUsize::new(0);

/// Pages that are promised to the app, and that it has not touched yet: whoever takes the last of memory breaks that
/// promise.
pub fn owed_pages() -> usize {
    OWED_PAGES.load(Ordering::Relaxed)
}

/// Pages that may be promised as writable: all but the kernel's reserve, or what the kernel uses if that is more.
pub fn charge_limit() -> u64 {
    let reserve = frames::reserve_pages();
    let kernel = heap::used_bytes() / PAGE_BYTES as usize + reserve / 2;
    frames::total_pages().saturating_sub(kernel.max(reserve)) as u64
}

impl Space {
    /// Refuses a promise that RAM could not keep.
    pub(super) fn check_charge(&self, pages: u64) -> Result<(), SpaceError> {
        let is_kept = self.charged_pages.saturating_add(pages) <= charge_limit();
        if is_kept { Ok(()) } else { Err(SpaceError::OutOfMemory) }
    }

    /// Lets the rest of the kernel know how much of what was promised is not there yet.
    pub(super) fn publish(&self) {
        let owed = self.charged_pages.saturating_sub(self.resident_pages);
        OWED_PAGES.store(owed as usize, Ordering::Relaxed);
    }
}
