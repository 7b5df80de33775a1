//! Getting frames back, for the app's pages and for the kernel's objects. What keeps the pages of files is above this
//! room; it says at boot how it gives them back.

use spin::Once;

use super::space;
use crate::kmem::{frames, heap};

/// Who keeps pages of files in memory.
pub(crate) trait PageCache: Sync {
    /// Gives up to `wanted` pages back. Never sleeps, whatever locks the caller holds.
    fn shrink(&self, wanted: usize) -> usize;

    /// Makes room for so many pages of the app's where nothing could go at once, by saving what is dirty. Sleeps; the
    /// caller holds no locks. False if there is no room after all.
    fn make_room(&self, pages: usize) -> bool;
}

static PAGE_CACHE: Once<&'static dyn PageCache> = Once::new();

/// Sets who keeps pages of files.
pub(crate) fn set_page_cache(cache: &'static dyn PageCache) {
    PAGE_CACHE.call_once(|| cache);
}

/// Takes back what others were lent, until so many pages can be had.
static LENDER: Once<fn(usize)> = Once::new();

/// Sets who has lent memory to others. It is called when caches give no more, with locks, and does not sleep.
pub(crate) fn set_lender(take_back: fn(usize)) {
    LENDER.call_once(|| take_back);
}

/// Makes room for `pages` of the app's, if they are not there: from caches, last from what was lent. Never sleeps.
pub(crate) fn make_room(pages: usize) {
    shrink_caches(pages);
    if let Some(take_back) = LENDER.get()
        && !frames::can_app_take(pages)
    {
        take_back(pages);
    }
}

/// Makes room for `pages` of the app's, if they are not there: from the heap's lists, then from the page
/// cache, last from what of it is mapped. Never sleeps.
pub(crate) fn shrink_caches(pages: usize) {
    if frames::can_app_take(pages) {
        return;
    }
    heap::trim();
    space::release_stacks();
    while !frames::can_app_take(pages) {
        let is_freed = PAGE_CACHE.get().is_some_and(|cache| cache.shrink(pages + 64) > 0);
        if !is_freed && space::release_clean() == 0 {
            break;
        }
    }
}

/// The same where nothing could go at once; see [`PageCache::make_room`].
pub(super) fn wait_for_room(pages: usize) -> bool {
    PAGE_CACHE.get().is_some_and(|cache| cache.make_room(pages))
}
