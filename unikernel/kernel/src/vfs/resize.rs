//! Changing which blocks a file has, and how long it is.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::Ordering;

use super::inode::Inode;
use super::load::split;
use super::now;
use super::store::PAGES_AT_ONCE;
use super::write_back::ALL;
use crate::abi::Errno;
use crate::kmem::PAGE_BYTES;
use crate::mem::space::{self, Copies};
use crate::task::{limits, scheduler};

impl Inode {
    /// Makes the file shorter or longer (truncate(2)).
    pub fn resize(self: &Arc<Self>, size: u64) -> Result<(), Errno> {
        self.mount.check_writable()?;
        let _turn = self.write_lock.lock();
        let _io = self.io_lock.lock();
        let old = self.size();
        limits::check_file_size(old, size, self.mount.max_file_bytes)?;
        if size < old {
            // No page behind the end is brought in from now on, and none is being read while its blocks go.
            self.set_size(size);
            self.wait_for_loads(size.div_ceil(PAGE_BYTES as u64));
        } else {
            self.clear_behind_end(size);
        }
        let outcome = self.mount.with(|filesystem| filesystem.set_size(self.number, size, now()));
        self.extents.lock().forget();
        if outcome.is_err() {
            self.set_size(old);
            return outcome;
        }
        self.set_size(size);
        if size < old {
            self.cut_pages(size);
        }
        self.has_new_times.store(false, Ordering::Relaxed);
        self.refresh()
    }

    /// Waits until no page from `first` on is being read.
    fn wait_for_loads(&self, first: u64) {
        self.loaded.wait_uninterrupted(None, || {
            let pages = self.pages.lock();
            (!pages.all.range(first..).any(|(_, page)| page.is_loading())).then_some(())
        });
    }

    /// Takes what lies behind the new end out of mappings and out of the cache.
    fn cut_pages(&self, size: u64) {
        let (index, within) = split(size);
        let first = size.div_ceil(PAGE_BYTES as u64);
        self.unmap(first..u64::MAX, Copies::Drop);
        self.drop_pages(first);
        if within > 0
            && let Some(page) = self.pages.lock().all.get(&index)
        {
            page.frame.clear(within, PAGE_BYTES - within);
        }
    }

    /// Forgets all that is remembered of the content: somebody else has changed it.
    pub(super) fn forget_content(&self) {
        self.wait_for_loads(0);
        self.unmap(0..u64::MAX, Copies::Keep);
        self.drop_pages(0);
        self.extents.lock().forget();
    }

    /// Zeros what lies between the end and `until`, where the file is about to grow to: a mapping shows all of the last
    /// page, and may have left bytes behind the end. (The disk has zeros there: `take_dirty`, and ext4 when it grows.)
    pub(super) fn clear_behind_end(&self, until: u64) {
        let size = self.size();
        let (index, within) = split(size);
        if within == 0 || until <= size {
            return;
        }
        if let Some(page) = self.pages.lock().all.get(&index) {
            page.frame.clear(within, (until - size).min((PAGE_BYTES - within) as u64) as usize);
            page.has_blocks.fetch_and(self.mount.block_bytes == PAGE_BYTES, Ordering::Relaxed);
        }
        if self.mount.block_bytes < PAGE_BYTES {
            // The blocks that the page now has more of are nobody's yet.
            self.unmap(index..index + 1, Copies::Keep);
        }
    }

    /// Takes pages out of mappings.
    fn unmap(&self, pages: Range<u64>, copies: Copies) {
        if self.is_mapped.load(Ordering::Relaxed) {
            space::unmap_object(self, pages, copies);
        }
    }

    /// Whether the blocks of a range may be changed. As on Linux, even a hole cannot be made past the largest file.
    fn check_range(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.mount.check_writable()?;
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.mount.max_file_bytes);
        if fits { Ok(()) } else { Err(Errno::EFBIG) }
    }

    /// Gives a range blocks, so that writes there will not run out of space (fallocate(2)).
    pub fn allocate(self: &Arc<Self>, offset: u64, len: u64, keep_size: bool) -> Result<(), Errno> {
        self.check_range(offset, len)?;
        let _turn = self.write_lock.lock();
        let _io = self.io_lock.lock();
        if !keep_size {
            limits::check_file_size(self.size(), offset + len, self.mount.max_file_bytes)?;
        }
        let outcome = self
            .mount
            .with(|filesystem| filesystem.allocate_range(self.number, offset, len, keep_size, now()));
        self.extents.lock().forget();
        outcome?;
        if !keep_size {
            let end = offset.saturating_add(len);
            self.clear_behind_end(end);
            self.set_size(self.size().max(end));
        }
        self.refresh()
    }

    /// Sets a range to zeros and gives its blocks back (`FALLOC_FL_PUNCH_HOLE`).
    pub fn punch(self: &Arc<Self>, offset: u64, len: u64) -> Result<(), Errno> {
        self.check_range(offset, len)?;
        let _turn = self.write_lock.lock();
        let _io = self.io_lock.lock();
        self.write_back_in_turn(ALL)?;
        let end = offset.saturating_add(len).min(self.size());
        if offset >= end {
            return Ok(());
        }
        let outcome =
            self.mount.with(|filesystem| filesystem.punch(self.number, offset, end - offset, now()));
        self.extents.lock().forget();
        outcome?;
        let page_bytes = PAGE_BYTES as u64;
        let (mut next, behind) = (offset / page_bytes, end.div_ceil(page_bytes));
        while next < behind {
            let mut last = behind;
            for (index, page) in self.pages.lock().all.range(next..behind).take(PAGES_AT_ONCE) {
                last = *index;
                let from = offset.max(index * page_bytes);
                let to = end.min((index + 1) * page_bytes);
                page.frame.clear((from % page_bytes) as usize, (to - from) as usize);
                page.has_blocks.store(false, Ordering::Relaxed);
            }
            next = last + 1;
            scheduler::breathe();
        }
        // What is stored there from now on needs blocks again.
        self.unmap(offset / page_bytes..end.div_ceil(page_bytes), Copies::Keep);
        self.refresh()
    }
}
