//! Writing file content: into the cache, and from there to the disk, in time (`flusher`), when there is too much
//! of it, or because somebody wants to be sure.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::sync::atomic::Ordering;

use unikernel_ext4::{AttributeChange, Error, Ext4, FileKind, Sync, WriteRun};

use super::cache::{self, Page, Pages};
use super::inode::Inode;
use super::load::split;
use super::{flusher, now};
use crate::block::volume::{Volume, push};
use crate::drivers::virtio::blk::{Memory, Operation, SECTOR_BYTES, Transfer};
use crate::fs::memory_file::MAX_FILE_BYTES;
use crate::mem::PAGE_BYTES;
use crate::mem::shared::SharedFrame;
use crate::mem::space;
use crate::mem::user::UserSlice;
use crate::platform::time;
use crate::syscall::Errno;

/// Pages written back at a time.
const BATCH_PAGES: usize = 512;

/// All pages of a file.
pub(super) const ALL: RangeInclusive<u64> = 0..=u64::MAX;

/// Neighbouring pages to be written, and where to.
struct Stretch {
    first: u64,
    pages: Vec<Arc<Page>>,
    runs: Vec<WriteRun>,
}

impl Inode {
    /// Copies the app's bytes to `offset` and after, or to the end; less than all if there is no room. Answers
    /// where that ended, and how much it was.
    pub fn write(self: &Arc<Self>, offset: Option<u64>, from: UserSlice) -> Result<(u64, usize), Errno> {
        self.mount.check_writable()?;
        let _turn = self.writers.lock();
        let offset = offset.unwrap_or_else(|| self.size());
        let room = MAX_FILE_BYTES.saturating_sub(offset);
        if room == 0 && !from.is_empty() {
            return Err(Errno::EFBIG);
        }
        let from = from.truncate(usize::try_from(room).unwrap_or(usize::MAX));
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
                self.write_back(ALL)?;
            }
        }
        Ok((offset + done as u64, done))
    }

    fn write_piece(self: &Arc<Self>, index: u64, within: usize, from: UserSlice) -> Result<(), Errno> {
        let start = index * PAGE_BYTES as u64;
        let end = start + (within + from.len()) as u64;
        let is_there = self.pages.lock().all.contains_key(&index);
        let is_whole = from.len() == PAGE_BYTES;
        if !is_there && (is_whole || start >= self.size()) {
            let after_making_room = || flusher::make_room().then(SharedFrame::for_cache).flatten();
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
        if !self.pages.lock().dirty.contains(&index) {
            self.check_space(index, &page)?;
        }
        page.frame.copy_from(within, from.len(), from)?;
        self.note_written(&mut self.pages.lock(), index, end);
        Ok(())
    }

    /// Adds a page that nobody has yet, written up to `end` in the file; false if somebody was faster.
    fn add(self: &Arc<Self>, index: u64, frame: SharedFrame, end: u64) -> Result<bool, Errno> {
        let page = Page::ready(frame);
        self.check_space(index, &page)?;
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

    /// Makes sure that there will be blocks for a page, as if it had none: better than to find out when it is
    /// too late to say so.
    fn check_space(self: &Arc<Self>, index: u64, page: &Page) -> Result<(), Errno> {
        let is_full = || {
            let delayed = self.mount.delayed_pages.load(Ordering::Relaxed);
            delayed + 1 > self.mount.free_pages.load(Ordering::Relaxed)
        };
        if is_full() && self.mount.delayed_pages.load(Ordering::Relaxed) > 0 {
            // Many of the pages that were counted have blocks already.
            self.write_back(ALL)?;
            // Who syncs that other file is told if it fails.
            let _ = flusher::write_back_all(self.mount);
        }
        // A page that was read may well have blocks; only the filesystem knows.
        if is_full() && !self.has_blocks(index) {
            return Err(Errno::ENOSPC);
        }
        if !page.is_delayed.swap(true, Ordering::Relaxed) {
            self.mount.delayed_pages.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn has_blocks(&self, index: u64) -> bool {
        let block = index * (PAGE_BYTES / self.mount.block_bytes) as u64;
        self.mount.with(|ext4| ext4.map(self.number, block, 1)).is_ok_and(|run| run.start.is_some())
    }

    fn give_space_back(&self, page: &Page) {
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
    fn collect_mapped(self: &Arc<Self>) {
        if self.is_mapped.load(Ordering::Relaxed) {
            space::collect_dirty(self.as_ref());
        }
    }

    /// Writes the dirty pages of a range to the disk, as blocks of the file; perhaps only into the disk's own
    /// cache.
    pub(super) fn write_back(self: &Arc<Self>, range: RangeInclusive<u64>) -> Result<(), Errno> {
        let _turn = self.transfers.lock();
        self.write_back_in_turn(range)
    }

    /// The same for who holds `transfers`.
    pub(super) fn write_back_in_turn(self: &Arc<Self>, range: RangeInclusive<u64>) -> Result<(), Errno> {
        self.collect_mapped();
        self.dirty_since_ns.store(0, Ordering::Relaxed);
        let (mut next, last) = (*range.start(), *range.end());
        let mut outcome = Ok(());
        while let Some((stretches, end)) = self.take_dirty(next..=last) {
            // A batch that fails says nothing about the next: one bad sector must not cost the rest of the file.
            let stored = if stretches.is_empty() { Ok(()) } else { self.store(stretches) };
            if stored.is_err() {
                self.has_lost_data.store(true, Ordering::Relaxed);
            }
            outcome = outcome.and(stored);
            next = end;
        }
        outcome
    }

    /// Takes dirty pages of a range, which are clean from then on, and answers where to go on; `None` if there were none.
    fn take_dirty(&self, range: RangeInclusive<u64>) -> Option<(Vec<Stretch>, u64)> {
        // A write of no bytes asks for an empty range, and so does who has taken the last page of one; `range` panics then.
        if range.is_empty() {
            return None;
        }
        let mut pages = self.pages.lock();
        // Under the lock: a page that is dirty by now lies before the end that is read here (`note_written`).
        let size_pages = self.size().div_ceil(PAGE_BYTES as u64);
        let taken: Vec<u64> = pages.dirty.range(range).copied().take(BATCH_PAGES).collect();
        cache::note_clean(taken.len());
        let mut stretches: Vec<Stretch> = Vec::new();
        for &index in &taken {
            pages.dirty.remove(&index);
            let Some(page) = pages.all.get(&index).cloned() else { continue };
            self.give_space_back(&page);
            if index >= size_pages {
                continue;
            }
            match stretches.last_mut() {
                Some(last) if last.first + last.pages.len() as u64 == index => last.pages.push(page),
                _ => stretches.push(Stretch { first: index, pages: Vec::from([page]), runs: Vec::new() }),
            }
        }
        taken.last().map(|last| (stretches, last + 1))
    }

    /// Blocks of a stretch, up to the file's end.
    fn blocks(&self, stretch: &Stretch) -> (u64, u32) {
        let block_bytes = self.mount.block_bytes as u64;
        let per_page = PAGE_BYTES as u64 / block_bytes;
        let first = stretch.first * per_page;
        let end = (first + stretch.pages.len() as u64 * per_page).min(self.size().div_ceil(block_bytes));
        (first, end.saturating_sub(first) as u32)
    }

    fn store(&self, mut stretches: Vec<Stretch>) -> Result<(), Errno> {
        let plan: Vec<(u64, u32)> = stretches.iter().map(|stretch| self.blocks(stretch)).collect();
        let prepared = self.mount.with(|ext4| {
            for (index, (first, blocks)) in plan.iter().enumerate() {
                let runs = if *blocks == 0 {
                    Ok(Vec::new())
                } else {
                    ext4.prepare_write(self.number, *first, *blocks)
                };
                match runs {
                    Ok(runs) => stretches[index].runs = runs,
                    Err(error) => {
                        stretches[..index].iter().for_each(|stretch| ext4.cancel_write(&stretch.runs));
                        return Err(error);
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = prepared {
            log::error!("{}: data of inode {} is lost: {error:?}", self.mount.disk, self.number.0);
            return Err(error);
        }
        self.runs.lock().forget();
        let transfers = self.transfers_of(&stretches);
        let written = self.mount.volume.disk().transfer(Operation::Write, &transfers);
        let modified = self.attributes().modified;
        let block_bytes = self.mount.block_bytes as u64;
        let size = self.size();
        let outcome = self.mount.with(|ext4| {
            if written.is_err() {
                stretches.iter().for_each(|stretch| ext4.cancel_write(&stretch.runs));
                self.keep_blocks(ext4, &plan);
                return Err(Error::Device);
            }
            for (stretch, (first, blocks)) in stretches.iter().zip(&plan) {
                let end = ((first + u64::from(*blocks)) * block_bytes).min(size);
                if let Err(error) = ext4.finish_write(self.number, &stretch.runs, Some(end), modified) {
                    ext4.cancel_write(&stretch.runs);
                    return Err(error);
                }
            }
            Ok(())
        });
        self.runs.lock().forget();
        outcome
    }

    /// The blocks of a failed write stay the file's, without content, so that the next write does not run into the
    /// same bad ones. (Linux leaves them so, too.)
    fn keep_blocks(&self, ext4: &mut Ext4<Volume>, plan: &[(u64, u32)]) {
        let block_bytes = self.mount.block_bytes as u64;
        for (first, blocks) in plan.iter().filter(|(_, blocks)| *blocks > 0) {
            let len = u64::from(*blocks) * block_bytes;
            // Without space for them there is nothing to keep.
            let _ = ext4.allocate_range(self.number, first * block_bytes, len, true, now());
        }
    }

    fn transfers_of(&self, stretches: &[Stretch]) -> Vec<Transfer> {
        let block_bytes = self.mount.block_bytes;
        let per_page = (PAGE_BYTES / block_bytes) as u64;
        let mut transfers = Vec::new();
        for (stretch, run) in
            stretches.iter().flat_map(|stretch| stretch.runs.iter().map(move |run| (stretch, run)))
        {
            let mut done = 0;
            while done < u64::from(run.blocks) {
                let block = run.file_block + done;
                let page = &stretch.pages[(block / per_page - stretch.first) as usize];
                let within = (block % per_page) as usize;
                let count = (per_page - within as u64).min(u64::from(run.blocks) - done);
                let address = page.frame.address() + (within * block_bytes) as u64;
                let memory = Memory { address, len: count as u32 * block_bytes as u32 };
                let sector = (run.start + done) * (block_bytes as u64 / SECTOR_BYTES);
                push(&mut transfers, self.mount.volume.disk(), sector, memory);
                done += count;
            }
        }
        transfers
    }

    /// Tells the filesystem of the times, if they are newer than it knows.
    pub(super) fn store_times(&self) -> Result<(), Errno> {
        if !self.has_new_times.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let modified = Some(self.attributes().modified);
        let change = AttributeChange { modified, ..AttributeChange::default() };
        self.mount.with(|ext4| ext4.set_attributes(self.number, change, now()))
    }

    /// fsync(2), fdatasync(2).
    pub fn sync(self: &Arc<Self>, what: Sync) -> Result<(), Errno> {
        // The error is told below, with the flag that the same failure has set, or it would be told twice.
        let written = if self.kind() == FileKind::File { self.write_back(ALL) } else { Ok(()) };
        if what == Sync::All && !self.mount.is_read_only() {
            self.store_times()?;
        }
        if !self.mount.is_read_only() {
            self.mount.with(|ext4| ext4.sync_inode(self.number, what, now()))?;
        }
        let has_lost_data = self.has_lost_data.swap(false, Ordering::Relaxed);
        written.and(if has_lost_data { Err(Errno::EIO) } else { Ok(()) })
    }

    /// Forgets the pages from `first` on, dirty or not.
    pub(super) fn drop_pages(&self, first: u64) {
        let removed = {
            let mut pages = self.pages.lock();
            let dirty = pages.dirty.split_off(&first);
            cache::note_clean(dirty.len());
            pages.all.split_off(&first)
        };
        removed.values().for_each(|page| self.give_space_back(page));
        cache::note_removed(removed.len());
    }

    /// Gives clean pages of a range back, as far as nobody uses them (`POSIX_FADV_DONTNEED`).
    pub(super) fn forget_pages(&self, range: core::ops::Range<u64>) {
        let mut pages = self.pages.lock();
        let Pages { all, dirty } = &mut *pages;
        let is_idle =
            |page: &Arc<Page>| page.is_ready() && Arc::strong_count(page) == 1 && page.frame.is_sole_owner();
        let before = all.len();
        all.retain(|index, page| !range.contains(index) || dirty.contains(index) || !is_idle(page));
        cache::note_removed(before - all.len());
    }
}
