//! The page cache: pages of files of mounted filesystems, under reads, writes and mappings alike. A page that is dirty, in use
//! or mapped stays; of the others the least used go when memory is wanted (`unikernel_vfs::cache::Clock`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use unikernel_vfs::cache::{Clock, Verdict};

use super::inode::Inode;
use super::load::split;
use crate::kmem::{PAGE_BYTES, frames};
use crate::mem::shared::SharedFrame;
use crate::sync::SpinLock;

static CLOCK: SpinLock<Clock<(Weak<Inode>, u64)>> = SpinLock::new(Clock::new());
/// Pages in the cache.
static CACHED: AtomicUsize = AtomicUsize::new(0);
/// Of those, dirty ones.
static DIRTY: AtomicUsize = AtomicUsize::new(0);

const LOADING: u8 = 0;
const READY: u8 = 1;
const FAILED: u8 = 2;

/// One page of a file.
pub(super) struct Page {
    /// Its bytes.
    pub(super) frame: SharedFrame,
    state: AtomicU8,
    is_referenced: AtomicBool,
    /// It is dirty and has no blocks yet.
    pub(super) is_delayed: AtomicBool,
    /// All of it is known to have blocks.
    pub(super) has_blocks: AtomicBool,
}

/// A file's pages in memory.
#[derive(Default)]
pub(super) struct Pages {
    pub(super) all: BTreeMap<u64, Arc<Page>>,
    /// Those that the disk does not have yet as they are.
    pub(super) dirty: BTreeSet<u64>,
    /// Where the write ends that is under way: up to there bytes behind the file's end may be somebody's.
    pub(super) write_end: u64,
    /// The page that a writer changes, with blocks promised to it: who writes it back leaves the promise.
    pub(super) changing: Option<u64>,
}

impl Page {
    /// A page that is about to be read.
    pub(super) fn loading(frame: SharedFrame) -> Arc<Self> {
        Arc::new(Self {
            frame,
            state: AtomicU8::new(LOADING),
            is_referenced: AtomicBool::new(false),
            is_delayed: AtomicBool::new(false),
            has_blocks: AtomicBool::new(false),
        })
    }

    /// A page that holds what it should.
    pub(super) fn ready(frame: SharedFrame) -> Arc<Self> {
        let page = Self::loading(frame);
        page.finish(true);
        page
    }

    /// It was read, or could not be.
    pub(super) fn finish(&self, is_good: bool) {
        self.state.store(if is_good { READY } else { FAILED }, Ordering::Release);
    }

    pub(super) fn is_loading(&self) -> bool {
        self.state.load(Ordering::Acquire) == LOADING
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) == READY
    }

    /// True if what is written to it will find blocks.
    pub(super) fn has_place(&self) -> bool {
        self.is_delayed.load(Ordering::Relaxed) || self.has_blocks.load(Ordering::Relaxed)
    }

    /// Notes that somebody uses it.
    #[inline]
    pub(super) fn touch(&self) {
        if !self.is_referenced.load(Ordering::Relaxed) {
            self.is_referenced.store(true, Ordering::Relaxed);
        }
    }
}

/// Pages in the cache, and how many of them are dirty.
pub fn counts() -> (usize, usize) {
    (CACHED.load(Ordering::Relaxed), DIRTY.load(Ordering::Relaxed))
}

/// Dirty pages that there may be: an eighth of memory, for they cannot go at once.
pub(super) fn most_dirty() -> usize {
    frames::total_pages() / 8
}

/// Counts pages that entered a file's [`Pages`].
pub(super) fn note_added(inode: &Arc<Inode>, indices: impl Iterator<Item = u64>) {
    let mut clock = CLOCK.lock();
    for index in indices {
        clock.add((Arc::downgrade(inode), index));
        CACHED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts pages that left it.
pub(super) fn note_removed(count: usize) {
    CACHED.fetch_sub(count, Ordering::Relaxed);
}

/// Counts pages that became dirty.
pub(super) fn note_dirty(count: usize) {
    DIRTY.fetch_add(count, Ordering::Relaxed);
}

/// Counts pages that are not dirty any more.
pub(super) fn note_clean(count: usize) {
    DIRTY.fetch_sub(count, Ordering::Relaxed);
}

/// Gives up to `wanted` pages back. Never sleeps, whatever locks the caller holds: a file whose lock is taken
/// keeps its pages.
pub fn shrink(wanted: usize) -> usize {
    if CACHED.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    CLOCK.lock().sweep(wanted, |(inode, index)| {
        let Some(inode) = inode.upgrade() else { return Verdict::Gone };
        let Some(mut pages) = inode.pages.try_lock() else { return Verdict::Keep };
        let Some(page) = pages.all.get(index) else { return Verdict::Gone };
        let was_used = page.is_referenced.swap(false, Ordering::Relaxed);
        let is_busy = page.is_loading() || Arc::strong_count(page) > 1 || !page.frame.is_sole_owner();
        if was_used || is_busy || pages.dirty.contains(index) {
            return Verdict::Keep;
        }
        pages.all.remove(index);
        note_removed(1);
        Verdict::Freed
    })
}

impl Inode {
    /// A page, if it is in memory.
    pub(super) fn page_in_memory(&self, index: u64) -> Option<SharedFrame> {
        let pages = self.pages.lock();
        let page = pages.all.get(&index).filter(|page| page.is_ready())?;
        page.touch();
        Some(page.frame.clone())
    }

    /// True if all pages of a range are in memory, as far as the file goes.
    pub(super) fn has_in_memory(&self, offset: u64, len: usize) -> bool {
        let end = offset.saturating_add(len as u64).min(self.size());
        let (first, last) = (split(offset).0, end.div_ceil(PAGE_BYTES as u64));
        (first..last).all(|index| self.pages.lock().all.get(&index).is_some_and(|page| page.is_ready()))
    }

    /// A mapping is made: from now on the page tables are asked what the app has written.
    pub(super) fn note_mapped(&self) {
        self.is_mapped.store(true, Ordering::Relaxed);
        self.mount.note_mapped(self);
    }
}
