//! The page cache of all mounted filesystems: how large it is, and which pages go. A page that is dirty, in use
//! or mapped stays; of the others the least used go when memory is wanted (`unikernel_vfs::cache::Clock`).

use alloc::sync::Weak;
use core::ops::Range;

use unikernel_vfs::cache::{Clock, Counts, Reclaim};

use super::inode::Inode;
use crate::kmem::frames;
use crate::sync::SpinLock;

static CLOCK: SpinLock<Clock<(Weak<Inode>, u64)>> = SpinLock::new(Clock::new());

/// Pages in the cache, and how many of them are dirty.
pub(super) static COUNTS: Counts = Counts::new();

/// Pages in the cache.
pub(crate) fn pages() -> usize {
    COUNTS.pages()
}

/// Dirty pages that there may be: an eighth of memory, for they cannot go at once.
pub(super) fn most_dirty() -> usize {
    frames::total_pages() / 8
}

/// Pages of a file have entered its list.
pub(super) fn note_added(inode: &Weak<Inode>, indices: Range<u64>) {
    let mut clock = CLOCK.lock();
    indices.for_each(|index| clock.add((Weak::clone(inode), index)));
}

/// Gives up to `wanted` pages back. Never sleeps, whatever locks the caller holds: a file whose lock is taken
/// keeps its pages.
pub(crate) fn shrink(wanted: usize) -> usize {
    if COUNTS.pages() == 0 {
        return 0;
    }
    CLOCK.lock().sweep(wanted, |(inode, index)| {
        let Some(inode) = inode.upgrade() else { return Reclaim::Gone };
        let Some(mut content) = inode.content.try_lock() else { return Reclaim::Keep };
        content.evict(*index, &COUNTS)
    })
}
