//! Changing which blocks a file has, and how long it is; pages that leave memory for other reasons than its shortness.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::backend::{Backend, Copies, Shared};
use super::load::size;
use super::page::{Frame, PAGE_BYTES};
use super::split;
use super::write_back::{ALL, write_back, write_back_in_turn};
use crate::Error;

/// Pages looked at with their file's list locked once.
const PAGES_AT_ONCE: usize = 64;

/// Makes the file shorter or longer (truncate(2)). The caller has the lock by which writes take turns.
pub fn resize<B: Backend + ?Sized>(file: &B, new: u64) -> Result<(), Error> {
    let _io = file.lock_io();
    let old = size(file);
    if new < old {
        // No page behind the end is brought in from now on, and none is being read while its blocks go.
        file.with(|cache| cache.set_new_size(new));
        wait_for_loads(file, new.div_ceil(PAGE_BYTES as u64));
    } else {
        clear_behind_end(file, new);
    }
    let outcome = file.with_filesystem(|filesystem| filesystem.set_size(file.number(), new, file.now()));
    file.with(|cache| {
        cache.extents.forget();
        if outcome.is_ok() {
            cache.set_size(new);
        } else {
            cache.set_new_size(old);
        }
    });
    outcome?;
    if new < old {
        cut_pages(file, new);
    }
    file.note_resize();
    file.refresh()
}

/// Waits until no page from `first` on is being read.
fn wait_for_loads<B: Backend + ?Sized>(file: &B, first: u64) {
    file.wait(|| file.with(|cache| !cache.is_loading_from(first)));
}

/// Takes what lies behind the new end out of mappings and out of the cache.
fn cut_pages<B: Backend + ?Sized>(file: &B, size: u64) {
    let (index, within) = split(size);
    let first = size.div_ceil(PAGE_BYTES as u64);
    unmap(file, first..u64::MAX, Copies::Drop);
    drop_pages(file, first);
    if within > 0 {
        file.with(|cache| {
            if let Some(page) = cache.pages.get(&index) {
                page.frame().clear(within, PAGE_BYTES - within);
            }
        });
    }
}

/// Forgets the pages from `first` on, dirty or not. Their number may be large; nobody may bring them in again meanwhile.
pub fn drop_pages<B: Backend + ?Sized>(file: &B, first: u64) {
    let removed = file.with(|cache| cache.cut(first, file.counts()));
    for (done, page) in removed.into_values().enumerate() {
        file.shared().reservations.release(&page);
        drop(page);
        file.breathe(done);
    }
}

/// Forgets all that is remembered of the content: somebody else has changed it. The caller has both locks, that of writes and
/// [`Backend::lock_io`].
pub fn forget_content<B: Backend + ?Sized>(file: &B) {
    wait_for_loads(file, 0);
    unmap(file, 0..u64::MAX, Copies::Keep);
    drop_pages(file, 0);
    file.with(|cache| cache.extents.forget());
}

/// Gives clean pages of a range back, as far as nobody uses them (`POSIX_FADV_DONTNEED`).
pub fn forget_pages<B: Backend + ?Sized>(file: &B, range: Range<u64>) {
    let mut next = range.start;
    while next < range.end {
        let (gone, behind) =
            file.with(|cache| cache.take_idle(next..range.end, PAGES_AT_ONCE, file.counts()));
        drop(gone);
        next = behind;
        file.yield_now();
    }
}

/// Zeros what lies between the end and `until`, where the file is about to grow to: a mapping shows all of the last
/// page, and may have left bytes behind the end. (If the page is read later, that is done by [`super::load`](super::load()).)
pub(super) fn clear_behind_end<B: Backend + ?Sized>(file: &B, until: u64) {
    let block_bytes = file.shared().block_bytes;
    let end = file.with(|cache| {
        let (index, within) = split(cache.size());
        if within == 0 || until <= cache.size() {
            return None;
        }
        if let Some(page) = cache.pages.get(&index) {
            let len = (until - cache.size()).min((PAGE_BYTES - within) as u64) as usize;
            page.frame().clear(within, len);
            page.has_blocks.fetch_and(block_bytes == PAGE_BYTES, Ordering::Relaxed);
        }
        Some(index)
    });
    if let Some(index) = end
        && block_bytes < PAGE_BYTES
    {
        // The blocks that the page now has more of are nobody's yet.
        unmap(file, index..index + 1, Copies::Keep);
    }
}

/// Takes pages out of mappings.
fn unmap<B: Backend + ?Sized>(file: &B, pages: Range<u64>, copies: Copies) {
    if file.is_mapped() {
        file.unmap(pages, copies);
    }
}

/// Gives a range blocks, so that writes there will not run out of space (fallocate(2)). The caller has the lock by which
/// writes take turns.
pub fn allocate<B: Backend + ?Sized>(file: &B, offset: u64, len: u64, keep_size: bool) -> Result<(), Error> {
    /// How often what is reserved for dirty pages is made theirs; others reserve more meanwhile.
    const ROUNDS: usize = 4;
    for _ in 0..ROUNDS {
        if allocate_unreserved(file, offset, len, keep_size)? {
            return Ok(());
        }
        // Who syncs a file is told if this fails.
        let _ = write_back(file, ALL);
        file.write_back_others();
    }
    Err(Error::NoSpace)
}

/// False if what is free may be too little for this and for what is reserved.
fn allocate_unreserved<B: Backend + ?Sized>(
    file: &B,
    offset: u64,
    len: u64,
    keep_size: bool,
) -> Result<bool, Error> {
    let _io = file.lock_io();
    let end = offset.saturating_add(len);
    let pages = end.div_ceil(PAGE_BYTES as u64) - split(offset).0;
    let Shared { has_blocks, reservations, .. } = file.shared();
    let outcome = file.with_filesystem(|filesystem| {
        if *has_blocks && !reservations.claim(pages) {
            return Ok(false);
        }
        filesystem.allocate_range(file.number(), offset, len, keep_size, file.now())?;
        Ok(true)
    });
    file.with(|cache| cache.extents.forget());
    if outcome? {
        if !keep_size {
            clear_behind_end(file, end);
            file.with(|cache| {
                cache.set_new_size(cache.size().max(end));
                cache.note_stored(end);
            });
        }
        file.refresh()?;
        return Ok(true);
    }
    Ok(false)
}

/// Sets a range to zeros and gives its blocks back (`FALLOC_FL_PUNCH_HOLE`). The caller has the lock by which writes take turns.
pub fn punch<B: Backend + ?Sized>(file: &B, offset: u64, len: u64) -> Result<(), Error> {
    let _io = file.lock_io();
    write_back_in_turn(file, ALL)?;
    let end = offset.saturating_add(len).min(size(file));
    if offset >= end {
        return Ok(());
    }
    let outcome =
        file.with_filesystem(|filesystem| filesystem.punch(file.number(), offset, end - offset, file.now()));
    file.with(|cache| cache.extents.forget());
    outcome?;
    let page_bytes = PAGE_BYTES as u64;
    let (mut next, behind) = (offset / page_bytes, end.div_ceil(page_bytes));
    while next < behind {
        let mut last = behind;
        file.with(|cache| {
            for (index, page) in cache.pages.range(next..behind).take(PAGES_AT_ONCE) {
                last = *index;
                let from = offset.max(index * page_bytes);
                let to = end.min((index + 1) * page_bytes);
                page.frame().clear((from % page_bytes) as usize, (to - from) as usize);
                page.has_blocks.store(false, Ordering::Relaxed);
            }
        });
        next = last + 1;
        file.yield_now();
    }
    // What is stored there from now on needs blocks again.
    unmap(file, offset / page_bytes..behind, Copies::Keep);
    file.refresh()
}
