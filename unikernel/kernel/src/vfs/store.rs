//! Writing file content into the cache. From there it goes to the disk (`write_back`) in time (`flusher`), when there
//! is too much of it, or because somebody wants to be sure.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use unikernel_vfs::AttributeChange;

use super::cache::{self, Page, Pages};
use super::flusher;
use super::inode::Inode;
use super::load::split;
use super::write_back::ALL;
use crate::abi::Errno;
use crate::kmem::PAGE_BYTES;
use crate::mem::shared::SharedFrame;
use crate::mem::space;
use crate::mem::user::UserSlice;
use crate::platform::time;
use crate::task::{limits, scheduler};

/// Pages looked at with their file's list locked once.
pub(super) const PAGES_AT_ONCE: usize = 64;

impl Inode {
    /// Copies the app's bytes to `offset` and after, or to the end; less than all if there is no room. Answers
    /// where that ended, and how much it was.
    pub fn write(self: &Arc<Self>, offset: Option<u64>, from: UserSlice) -> Result<(u64, usize), Errno> {
        self.mount.check_writable()?;
        let _turn = self.write_lock.lock();
        let offset = offset.unwrap_or_else(|| self.size());
        if !self.attributes().is_mappable {
            // The pages would be lost when they are written back.
            return Err(Errno::EOPNOTSUPP);
        }
        let from = from.truncate(limits::room_in_file(offset, from.len(), self.mount.max_file_bytes)?);
        self.clear_behind_end(offset);
        self.pages.lock().write_end = offset + from.len() as u64;
        let outcome = self.write_in_turn(offset, from);
        self.pages.lock().write_end = 0;
        outcome
    }

    /// The same for who holds `write_lock`.
    fn write_in_turn(self: &Arc<Self>, offset: u64, from: UserSlice) -> Result<(u64, usize), Errno> {
        let mut done = 0;
        while done < from.len() {
            let (index, within) = split(offset + done as u64);
            let len = (PAGE_BYTES - within).min(from.len() - done);
            match self.write_piece(index, within, from.skip(done).truncate(len)) {
                Ok(()) => done += len,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
            if cache::counts().1 > cache::most_dirty() {
                // As on Linux, who syncs the file is told if this fails.
                let _ = self.write_back(ALL);
            }
            scheduler::breathe_now_and_then(index as usize);
        }
        Ok((offset + done as u64, done))
    }

    fn write_piece(self: &Arc<Self>, index: u64, within: usize, from: UserSlice) -> Result<(), Errno> {
        let start = index * PAGE_BYTES as u64;
        let end = start + (within + from.len()) as u64;
        let is_there = self.pages.lock().all.contains_key(&index);
        let is_whole = from.len() == PAGE_BYTES;
        if !is_there && (is_whole || start >= self.size()) {
            let after_making_room = || flusher::make_room(1).then(SharedFrame::for_cache).flatten();
            let frame = SharedFrame::for_cache().or_else(after_making_room).ok_or(Errno::ENOMEM)?;
            if !is_whole {
                frame.clear(0, PAGE_BYTES);
            }
            frame.copy_from(within, from.len(), from)?;
            if self.add(index, frame, end)? {
                return Ok(());
            }
        }
        let page = self.page(index, 1, None)?;
        self.change_page(index, &page, end, || Ok(page.frame.copy_from(within, from.len(), from)?))
    }

    /// Changes a page, up to `end` in the file, with blocks promised to it. If it is dirty already and is written back
    /// meanwhile, it gets the blocks that it needed before; the promise stays for those of the change.
    fn change_page(
        self: &Arc<Self>,
        index: u64,
        page: &Page,
        end: u64,
        change: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.pages.lock().changing = Some(index);
        let outcome = self.check_space(index, end, page).and_then(|()| change());
        let mut pages = self.pages.lock();
        pages.changing = None;
        match outcome {
            Ok(()) => self.note_written(&mut pages, index, end),
            Err(_) if !pages.dirty.contains(&index) => self.give_space_back(page),
            Err(_) => {}
        }
        outcome
    }

    /// Adds a page that nobody has yet, written up to `end` in the file; false if somebody was faster.
    fn add(self: &Arc<Self>, index: u64, frame: SharedFrame, end: u64) -> Result<bool, Errno> {
        let page = Page::ready(frame);
        self.check_space(index, end, &page)?;
        {
            let mut pages = self.pages.lock();
            if pages.all.contains_key(&index) {
                self.give_space_back(&page);
                return Ok(false);
            }
            pages.all.insert(index, page);
            self.note_written(&mut pages, index, end);
        }
        cache::note_added(self, core::iter::once(index));
        Ok(true)
    }

    /// Notes that a page was written, up to `end` in the file. That it is dirty and that the file goes so far
    /// become known together: whoever writes pages back takes what lies behind the end for nobody's.
    fn note_written(&self, pages: &mut Pages, index: u64, end: u64) {
        self.note_dirty_page(pages, index);
        self.note_write(end);
    }

    /// Makes sure that there will be blocks for a page that is written up to `end` in the file, as if it had none:
    /// better than to find out when it is too late to say so.
    fn check_space(self: &Arc<Self>, index: u64, end: u64, page: &Page) -> Result<(), Errno> {
        if self.promise_space(page) {
            return Ok(());
        }
        // Files that were deleted give their blocks back when somebody looks at the filesystem next.
        let _ = self.mount.statistics();
        if self.promise_space(page) {
            return Ok(());
        }
        if self.mount.delayed_pages.load(Ordering::Relaxed) > 0 {
            // Many of the pages that were counted have blocks already. Who syncs a file is told if this fails.
            let _ = self.write_back(ALL);
            let _ = flusher::write_back_all(self.mount);
        }
        // A page that was read may well have blocks; only the filesystem knows.
        if self.promise_space(page) {
            return Ok(());
        }
        if !self.has_blocks(index, end) {
            return Err(Errno::ENOSPC);
        }
        // A mapping asks for it; where the file grows, it is forgotten (`clear_behind_end`).
        page.has_blocks.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Promises blocks to a page, unless they are promised already; false if there are none left. Writers of other
    /// files do the same at this moment: each is promised blocks of its own.
    fn promise_space(&self, page: &Page) -> bool {
        if page.is_delayed.load(Ordering::Relaxed) {
            return true;
        }
        let free = self.mount.free_pages.load(Ordering::Relaxed);
        let one_more = |delayed: u64| delayed.checked_add(1).filter(|delayed| *delayed <= free);
        let promised =
            self.mount.delayed_pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        page.is_delayed.fetch_or(promised, Ordering::Relaxed);
        promised
    }

    /// True if a page has blocks, be they written or not, as far as it lies in the file or before `end`.
    fn has_blocks(&self, index: u64, end: u64) -> bool {
        let block_bytes = self.mount.block_bytes as u64;
        let per_page = PAGE_BYTES as u64 / block_bytes;
        let first = index * per_page;
        let end = (first + per_page).min(self.size().max(end).div_ceil(block_bytes));
        first < end
            && self.mount.with_blocks(|blocks| blocks.is_allocated(self.number, first..end)) == Ok(true)
    }

    /// A mapping is about to write to a page: makes sure of blocks for it, and counts it as dirty, so that it gets them.
    pub(super) fn reserve_page(self: &Arc<Self>, index: u64) -> Result<(), Errno> {
        self.mount.check_writable()?;
        let _turn = self.write_lock.lock();
        let page = self.page(index, 1, None)?;
        self.change_page(index, &page, 0, || Ok(()))
    }

    pub(super) fn give_space_back(&self, page: &Page) {
        if page.is_delayed.swap(false, Ordering::Relaxed) {
            self.mount.delayed_pages.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Notes that the disk does not have a page as it is.
    pub(super) fn mark_dirty(&self, index: u64) {
        self.note_dirty_page(&mut self.pages.lock(), index);
        self.mount.note_dirty(self);
    }

    fn note_dirty_page(&self, pages: &mut Pages, index: u64) {
        if pages.all.contains_key(&index) && pages.dirty.insert(index) {
            cache::note_dirty(1);
            let _ = self.dirty_since_ns.compare_exchange(
                0,
                time::now_ns().max(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// Asks the page tables what the app has written through mappings.
    pub(super) fn collect_mapped(self: &Arc<Self>) {
        if self.is_mapped.load(Ordering::Relaxed) {
            space::collect_dirty(self.as_ref());
        }
    }

    /// Tells the filesystem of the times, if they are newer than it knows.
    pub(super) fn store_times(&self) -> Result<(), Errno> {
        if !self.has_new_times.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let attributes = self.attributes();
        let change = AttributeChange { modified: Some(attributes.modified), ..AttributeChange::default() };
        self.mount.with(|filesystem| filesystem.set_attributes(self.number, change, attributes.changed))
    }

    /// Forgets the pages from `first` on, dirty or not.
    pub(super) fn drop_pages(&self, first: u64) {
        let removed = {
            let mut pages = self.pages.lock();
            let dirty = pages.dirty.split_off(&first);
            cache::note_clean(dirty.len());
            pages.all.split_off(&first)
        };
        self.failures.lock().forget_from(first);
        cache::note_removed(removed.len());
        for (done, page) in removed.into_values().enumerate() {
            self.give_space_back(&page);
            drop(page);
            scheduler::breathe_now_and_then(done);
        }
    }

    /// Gives clean pages of a range back, as far as nobody uses them (`POSIX_FADV_DONTNEED`).
    pub(super) fn forget_pages(&self, range: core::ops::Range<u64>) {
        let is_idle =
            |page: &Arc<Page>| page.is_ready() && Arc::strong_count(page) == 1 && page.frame.is_sole_owner();
        let mut next = range.start;
        while next < range.end {
            let mut gone = ArrayVec::<u64, PAGES_AT_ONCE>::new();
            let mut pages = self.pages.lock();
            let Pages { all, dirty, .. } = &mut *pages;
            let mut last = range.end;
            for (index, page) in all.range(next..range.end).take(PAGES_AT_ONCE) {
                last = *index;
                if !dirty.contains(index) && is_idle(page) {
                    gone.push(*index);
                }
            }
            gone.iter().for_each(|index| drop(all.remove(index)));
            drop(pages);
            cache::note_removed(gone.len());
            next = last.saturating_add(1);
            scheduler::breathe();
        }
    }
}
