//! What the app is promised, in one of Linux's two ways (vm.overcommit_memory).
//!
//! *Heuristic*, as usual: memory is taken by the first touch. Only a promise that all of RAM could not keep is refused.
//!
//! *Strict* (`overcommit=strict`): what is promised and not there yet is set aside among the free frames
//! ([`frames::set_aside`]), and nobody else gets it; page tables are made with the promise. So no touch can fail. What
//! can be evicted is evicted for a promise, not for a touch.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{PAGE_BYTES, Space, SpaceError};
use crate::kmem::{frames, heap, page_table};
use crate::mem::reclaim;

static IS_STRICT: AtomicBool = AtomicBool::new(false);
static OWED_PAGES: AtomicUsize = AtomicUsize::new(0);

/// Chooses the strict way, before the app is there.
pub(crate) fn be_strict() {
    IS_STRICT.store(true, Ordering::Relaxed);
}

/// True if promises are kept to the last page.
pub(crate) fn is_strict() -> bool {
    IS_STRICT.load(Ordering::Relaxed)
}

/// Pages that others should leave to the app, as it was promised them and has not touched them yet. Where more may be
/// promised than there is, most of it is never touched: there, this is a quarter of RAM at most.
pub(crate) fn owed_pages() -> usize {
    OWED_PAGES.load(Ordering::Relaxed)
}

/// Pages that may be promised as writable: all but the kernel's reserve, or what the kernel uses if that is more.
pub(crate) fn charge_limit() -> u64 {
    let reserve = frames::reserve_pages();
    let kernel = heap::used_bytes() / PAGE_BYTES as usize + reserve / 2;
    frames::total_pages().saturating_sub(kernel.max(reserve)) as u64
}

/// Pages that no promise gets, so that a cache has some to work with: mapped files are read through it.
fn cache_pages() -> u64 {
    frames::reserve_pages() as u64 / 8
}

impl Space {
    /// Refuses a promise of `pages` in `[start, end)` that cannot be kept; `freed` others are taken back with it. In the
    /// strict way, what else a touch there needs is made now.
    pub(super) fn check_charge(
        &self,
        start: u64,
        end: u64,
        pages: u64,
        freed: u64,
    ) -> Result<(), SpaceError> {
        if pages == 0 {
            return Ok(());
        }
        if pages > frames::total_pages() as u64 {
            return Err(SpaceError::OutOfMemory);
        }
        if !is_strict() {
            return Ok(());
        }
        let more = pages.saturating_sub(freed) + page_table::most_tables(start, end) + cache_pages();
        reclaim::make_room(more as usize);
        if !frames::can_app_take(more as usize) {
            return Err(SpaceError::OutOfMemory);
        }
        Ok(page_table::prepare_range(start, end)?)
    }

    /// Lets the rest of the kernel know how much of what was promised is not there yet.
    pub(super) fn publish(&self) {
        let owed = self.charged_pages.saturating_sub(self.kept_pages) as usize;
        if is_strict() {
            frames::set_aside(owed);
        }
        let most = if is_strict() { usize::MAX } else { frames::total_pages() / 4 };
        OWED_PAGES.store(owed.min(most), Ordering::Relaxed);
    }
}
