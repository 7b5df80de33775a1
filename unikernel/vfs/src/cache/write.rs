//! Writing file content into the cache. From there it goes to the disk (`write_back`) in time, when there is too much of
//! it, or because somebody wants to be sure.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::backend::{Backend, with_blocks};
use super::load::{AccessError, Fault, frame_in_time, page, size};
use super::page::{Frame, PAGE_BYTES, Page};
use super::resize::clear_behind_end;
use super::split;
use super::write_back::{ALL, write_back};
use crate::Error;

/// Writes `len` bytes to `offset` and after; answers how many: less than all if there is no room. `copy` gets a page's memory, where in it
/// and in the caller's bytes to copy to and from, and how much. The caller has the lock by which writes take turns.
pub fn write<B: Backend + ?Sized>(
    file: &B,
    offset: u64,
    len: usize,
    mut copy: impl FnMut(&B::Frame, usize, usize, usize) -> Result<(), Fault>,
) -> Result<usize, AccessError> {
    clear_behind_end(file, offset);
    file.with(|cache| cache.write_end = offset + len as u64);
    let outcome = write_in_turn(file, offset, len, &mut copy);
    file.with(|cache| cache.write_end = 0);
    outcome
}

fn write_in_turn<B: Backend + ?Sized>(
    file: &B,
    offset: u64,
    len: usize,
    copy: &mut impl FnMut(&B::Frame, usize, usize, usize) -> Result<(), Fault>,
) -> Result<usize, AccessError> {
    let mut done = 0;
    while done < len {
        let (index, within) = split(offset + done as u64);
        let part = (PAGE_BYTES - within).min(len - done);
        match write_piece(file, index, within, part, |frame| copy(frame, within, done, part)) {
            Ok(()) => done += part,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        if file.has_too_many_dirty() {
            // As on Linux, who syncs the file is told if this fails.
            let _ = write_back(file, ALL);
        }
        file.breathe(index as usize);
    }
    Ok(done)
}

fn write_piece<B: Backend + ?Sized>(
    file: &B,
    index: u64,
    within: usize,
    len: usize,
    mut copy: impl FnMut(&B::Frame) -> Result<(), Fault>,
) -> Result<(), AccessError> {
    let start = index * PAGE_BYTES as u64;
    let end = start + (within + len) as u64;
    let (is_there, size) = file.with(|cache| (cache.pages.contains_key(&index), cache.size()));
    let is_whole = len == PAGE_BYTES;
    if !is_there && (is_whole || start >= size) {
        let frame = frame_in_time(file)?;
        if !is_whole {
            frame.clear(0, PAGE_BYTES);
        }
        copy(&frame)?;
        if add(file, index, frame, end)? {
            return Ok(());
        }
    }
    let page = page(file, index, 1, None)?;
    change_page(file, index, &page, end, || copy(page.frame()).map_err(AccessError::from))
}

/// Changes a page, up to `end` in the file, with blocks reserved for it. If it is dirty already and is written back
/// meanwhile, it gets the blocks that it needed before; the reservation stays for those of the change.
fn change_page<B: Backend + ?Sized, E: From<Error>>(
    file: &B,
    index: u64,
    page: &Page<B::Frame>,
    end: u64,
    change: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    file.with(|cache| cache.changing = Some(index));
    let outcome = ensure_space(file, index, end, page).map_err(E::from).and_then(|()| change());
    file.with(|cache| {
        cache.changing = None;
        match outcome {
            Ok(()) => cache.note_written(index, end, file.counts()),
            Err(_) if !cache.is_page_dirty(index) => file.shared().reservations.release(page),
            Err(_) => {}
        }
    });
    if outcome.is_ok() {
        note_written(file);
    }
    outcome
}

/// Adds a page that nobody has yet, written up to `end` in the file; false if somebody was faster.
fn add<B: Backend + ?Sized>(file: &B, index: u64, frame: B::Frame, end: u64) -> Result<bool, Error> {
    let page = Page::ready(frame);
    ensure_space(file, index, end, &page)?;
    let is_added = file.with(|cache| cache.add(index, Arc::clone(&page), end, file.counts()));
    if is_added {
        file.note_added(index..index + 1);
        note_written(file);
    } else {
        file.shared().reservations.release(&page);
    }
    Ok(is_added)
}

fn note_written<B: Backend + ?Sized>(file: &B) {
    file.note_dirty();
    file.note_write();
}

/// Makes sure that there will be blocks for a page that is written up to `end` in the file, as if it had none:
/// better than to find out when it is too late to say so.
fn ensure_space<B: Backend + ?Sized>(
    file: &B,
    index: u64,
    end: u64,
    page: &Page<B::Frame>,
) -> Result<(), Error> {
    let reservations = &file.shared().reservations;
    if reservations.reserve(page) {
        return Ok(());
    }
    // Files that were deleted give their blocks back when somebody looks at the filesystem next.
    file.refresh_space();
    if reservations.reserve(page) {
        return Ok(());
    }
    if reservations.delayed_pages() > 0 {
        // Many of the pages that were counted have blocks already. Who syncs a file is told if this fails.
        let _ = write_back(file, ALL);
        file.write_back_others();
    }
    // A page that was read may well have blocks; only the filesystem knows.
    if reservations.reserve(page) {
        return Ok(());
    }
    if !has_blocks(file, index, end) {
        return Err(Error::NoSpace);
    }
    // A mapping asks for it; where the file grows, it is forgotten (`clear_behind_end`).
    page.has_blocks.store(true, Ordering::Relaxed);
    Ok(())
}

/// True if a page has blocks, be they written or not, as far as it lies in the file or before `end`.
fn has_blocks<B: Backend + ?Sized>(file: &B, index: u64, end: u64) -> bool {
    let block_bytes = file.shared().block_bytes as u64;
    let per_page = PAGE_BYTES as u64 / block_bytes;
    let first = index * per_page;
    let end = (first + per_page).min(size(file).max(end).div_ceil(block_bytes));
    first < end && with_blocks(file, |blocks| blocks.is_allocated(file.number(), first..end)) == Ok(true)
}

/// A mapping is about to write to a page: makes sure of blocks for it, and counts it as dirty, so that it gets them. The caller has
/// the lock by which writes take turns.
pub fn reserve<B: Backend + ?Sized>(file: &B, index: u64) -> Result<(), Error> {
    let page = page(file, index, 1, None)?;
    change_page(file, index, &page, 0, || Ok(()))
}

/// Notes that the disk does not have a page as it is: somebody has written to it through a mapping.
pub fn mark_dirty<B: Backend + ?Sized>(file: &B, index: u64) {
    file.with(|cache| cache.mark_dirty(index, file.counts()));
    file.note_dirty();
}
