//! The state of one file's content in memory: how long the file is, which pages are there, dirty, being read or written, and
//! what could not be written. Each method is one step under the file's lock.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};
use core::sync::atomic::Ordering;

use super::clock::Reclaim;
use super::counts::Counts;
use super::error_sequence::ErrorCursor;
use super::extents::ExtentCache;
use super::failures::Failures;
use super::page::{Frame, PAGE_BYTES, Page};
use super::reservations::Reservations;
use super::split;
use super::write_back::DirtyPage;
use crate::Error;

/// Pages of a batch that are being read.
pub(super) type Batch<F> = Vec<(u64, Arc<Page<F>>)>;

/// The content of one file.
#[derive(Debug)]
pub struct FileCache<F> {
    /// The file's length in bytes.
    size: u64,
    /// The length that the filesystem knows. What its last block holds behind it is not the file's: reads as zeros, when the file
    /// has grown here, until the filesystem hears of that and clears it.
    stored_size: u64,
    pub(super) pages: BTreeMap<u64, Arc<Page<F>>>,
    /// Those that the disk does not have yet as they are.
    pub(super) dirty: BTreeSet<u64>,
    /// Where the write ends that is under way: up to there bytes behind the file's end may be somebody's.
    pub(super) write_end: u64,
    /// The page that a writer changes, with blocks reserved for it: who writes it back leaves the reservation.
    pub(super) changing: Option<u64>,
    pub(super) extents: ExtentCache,
    pub(super) failures: Failures,
}

impl<F: Frame> FileCache<F> {
    /// Of a file of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            stored_size: size,
            pages: BTreeMap::new(),
            dirty: BTreeSet::new(),
            write_end: 0,
            changing: None,
            extents: ExtentCache::default(),
            failures: Failures::default(),
        }
    }

    /// The file's length in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Sets the length to what the filesystem says, for a file whose content is not changed here meanwhile.
    pub fn set_size(&mut self, size: u64) {
        (self.size, self.stored_size) = (size, size);
    }

    /// The file becomes shorter or longer, of which the filesystem does not know yet.
    pub(super) fn set_new_size(&mut self, size: u64) {
        self.size = size;
    }

    /// The filesystem has made the file at least so long.
    pub(super) fn note_stored(&mut self, end: u64) {
        self.stored_size = self.stored_size.max(end);
    }

    /// How many pages the file's bytes take.
    pub(super) fn size_in_pages(&self) -> u64 {
        self.size.div_ceil(PAGE_BYTES as u64)
    }

    /// Pages in memory.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// True if there are pages that the disk does not have yet.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// True if there are pages that could not be written, and were not written since.
    pub fn has_lost(&self) -> bool {
        self.failures.lost_pages().is_some()
    }

    /// Pages that the disk does not have, lost or still to be written: how many, and the first.
    pub fn unwritten(&self) -> Option<(usize, u64)> {
        let dirty = self.dirty.first().map(|&first| (self.dirty.len(), first));
        match (self.failures.lost_pages(), dirty) {
            (Some((lost, first)), Some((dirty, other))) => Some((lost + dirty, first.min(other))),
            (lost, dirty) => lost.or(dirty),
        }
    }

    /// Which errors of write-back are known to who opens the file now.
    pub fn sample_errors(&self) -> ErrorCursor {
        self.failures.sample()
    }

    /// The error of write-back that whoever has `cursor` was not told of yet.
    pub fn check_errors(&mut self, cursor: &ErrorCursor) -> Result<(), Error> {
        self.failures.check(cursor)
    }

    /// A page, if it is in memory.
    pub fn ready_page(&self, index: u64) -> Option<F> {
        let page = self.pages.get(&index).filter(|page| page.is_ready())?;
        page.touch();
        Some(page.frame().clone())
    }

    /// True if a page is in memory, and what is written to it will find blocks.
    pub fn has_place(&self, index: u64) -> bool {
        self.pages.get(&index).is_some_and(|page| page.has_place())
    }

    /// True if a page is in memory.
    pub fn is_ready(&self, index: u64) -> bool {
        self.pages.get(&index).is_some_and(|page| page.is_ready())
    }

    /// True if a page from `first` on is being read.
    pub(super) fn is_loading_from(&self, first: u64) -> bool {
        self.pages.range(first..).any(|(_, page)| page.is_loading())
    }

    /// Enters pages from `first` on that are to be read, in the order of `frames`, up to one that is there already. Answers how far
    /// blocks hold content of the file: what is written behind that from now on goes into these pages.
    ///
    /// It fails if the file was cut: who does that looks for pages after the size has changed, so that none may come behind the end.
    pub(super) fn begin_load(
        &mut self,
        first: u64,
        frames: Vec<F>,
        batch: &mut Batch<F>,
        counts: &Counts,
    ) -> Result<u64, Error> {
        let end = self.size_in_pages();
        if first >= end {
            return Err(Error::Device);
        }
        for (index, frame) in (first..end).zip(frames) {
            if self.pages.contains_key(&index) {
                break;
            }
            let page = Page::loading(frame);
            self.pages.insert(index, Arc::clone(&page));
            batch.push((index, page));
        }
        counts.note_added(batch.len());
        Ok(self.stored_size)
    }

    /// Takes a page out that could not be read.
    pub(super) fn abort_load(&mut self, index: u64, counts: &Counts) {
        if self.pages.remove(&index).is_some() {
            counts.note_removed(1);
        }
    }

    /// Enters a page that nobody has yet, written up to `end` in the file; false if somebody was faster.
    pub(super) fn add(&mut self, index: u64, page: Arc<Page<F>>, end: u64, counts: &Counts) -> bool {
        if self.pages.contains_key(&index) {
            return false;
        }
        self.pages.insert(index, page);
        counts.note_added(1);
        self.note_written(index, end, counts);
        true
    }

    /// Notes that a page was written, up to `end` in the file. That it is dirty and that the file goes so far
    /// become known together: whoever writes pages back takes what lies behind the end for nobody's.
    pub(super) fn note_written(&mut self, index: u64, end: u64, counts: &Counts) {
        self.mark_dirty(index, counts);
        self.size = self.size.max(end);
    }

    /// Notes that the disk does not have a page as it is.
    pub(super) fn mark_dirty(&mut self, index: u64, counts: &Counts) {
        if self.pages.contains_key(&index) && self.dirty.insert(index) {
            counts.note_dirty(1);
        }
    }

    /// True if a page is dirty.
    pub(super) fn is_page_dirty(&self, index: u64) -> bool {
        self.dirty.contains(&index)
    }

    /// Takes up to `most` dirty pages of a range, which are clean from then on; answers where to go on, or `None` if there were
    /// none. Those behind the file's end are written no more. `is_mapped` says that mappings may have left bytes there.
    pub(super) fn take_dirty(
        &mut self,
        range: RangeInclusive<u64>,
        most: usize,
        is_mapped: bool,
        reservations: &Reservations,
        counts: &Counts,
    ) -> Option<(Vec<DirtyPage<F>>, u64)> {
        // A write of no bytes asks for an empty range, and so does who has taken the last page of one; `range` panics then.
        if range.is_empty() {
            return None;
        }
        let size_pages = self.size_in_pages();
        let (last, within) = split(self.size.max(self.write_end));
        let taken: Vec<u64> = self.dirty.range(range).copied().take(most).collect();
        counts.note_clean(taken.len());
        let mut batch = Vec::with_capacity(taken.len());
        for &index in &taken {
            self.dirty.remove(&index);
            let Some(page) = self.pages.get(&index).cloned() else { continue };
            if index >= size_pages {
                reservations.release(&page);
            } else {
                // What a mapping has left behind the end must not come back when the file grows.
                if index == last && is_mapped {
                    page.frame().clear(within, PAGE_BYTES - within);
                }
                let is_changing = self.changing == Some(index);
                let is_delayed = !is_changing && page.is_delayed.swap(false, Ordering::Relaxed);
                batch.push(DirtyPage { index, page, is_delayed });
            }
        }
        taken.last().map(|last| (batch, last + 1))
    }

    /// Takes all pages from `first` on out, dirty or not.
    pub(super) fn cut(&mut self, first: u64, counts: &Counts) -> BTreeMap<u64, Arc<Page<F>>> {
        counts.note_clean(self.dirty.split_off(&first).len());
        self.failures.forget_from(first);
        let removed = self.pages.split_off(&first);
        counts.note_removed(removed.len());
        removed
    }

    /// Lets go of a page for memory's sake, if it is neither dirty, nor in use, nor was used since this was asked last.
    pub fn evict(&mut self, index: u64, counts: &Counts) -> Reclaim {
        let Some(page) = self.pages.get(&index) else { return Reclaim::Gone };
        let was_used = page.take_reference();
        if was_used || page.is_loading() || !self.is_idle(index, page) {
            return Reclaim::Keep;
        }
        self.pages.remove(&index);
        counts.note_removed(1);
        Reclaim::Freed
    }

    /// Takes pages of a range out that are clean and in nobody's use, looking at `most` at a time; answers those, and where to
    /// go on.
    pub(super) fn take_idle(&mut self, range: Range<u64>, most: usize, counts: &Counts) -> (Batch<F>, u64) {
        let mut last = range.end;
        let mut idle = Vec::with_capacity(most);
        for (index, page) in self.pages.range(range).take(most) {
            last = *index;
            if page.is_ready() && self.is_idle(*index, page) {
                idle.push(*index);
            }
        }
        let gone: Batch<F> =
            idle.into_iter().filter_map(|index| Some((index, self.pages.remove(&index)?))).collect();
        counts.note_removed(gone.len());
        (gone, last.saturating_add(1))
    }

    /// True if a page is clean, no call has it in hand, and no mapping shows it.
    fn is_idle(&self, index: u64, page: &Arc<Page<F>>) -> bool {
        Arc::strong_count(page) == 1 && page.frame().is_sole_owner() && !self.dirty.contains(&index)
    }
}
