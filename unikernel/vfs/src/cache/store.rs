//! How a batch of dirty pages reaches the filesystem: as blocks of the disk, or as bytes that it moves itself.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::backend::{Backend, with_blocks, with_bytes};
use super::load::{PAGES_MOVED_AT_ONCE, size};
use super::page::{Frame, PAGE_BYTES};
use super::transfer::{pieces_of, write_pieces};
use super::write_back::{DirtyPage, Losses};
use crate::{BlockMap, Error, Timestamp, WriteRun};

/// Neighbouring pages to be written, and where to.
pub(super) struct DirtyRange<'a, F> {
    pub(super) pages: &'a [DirtyPage<F>],
    /// Blocks up to the file's end: the first, and how many.
    pub(super) first: u64,
    blocks: u32,
    pub(super) runs: Vec<WriteRun>,
}

/// Writes a batch, as much of it as the disk takes.
pub(super) fn store_batch<B: Backend + ?Sized>(file: &B, batch: &[DirtyPage<B::Frame>], losses: &mut Losses) {
    if file.shared().has_blocks {
        store_in_blocks(file, batch, losses);
    } else {
        store_as_bytes(file, batch, losses);
    }
}

/// Has the filesystem write pages: neighbours together, and alone where that fails.
fn store_as_bytes<B: Backend + ?Sized>(file: &B, batch: &[DirtyPage<B::Frame>], losses: &mut Losses) {
    end_reservations(file, batch);
    let neighbours = batch.chunk_by(|one, other| one.index + 1 == other.index);
    for pages in neighbours.flat_map(|pages| pages.chunks(PAGES_MOVED_AT_ONCE)) {
        if pages.len() > 1 && send(file, pages).is_ok() {
            continue;
        }
        for page in pages.chunks(1) {
            if let Err(error) = send(file, page) {
                lose(file, page, error, losses);
            }
        }
    }
}

/// Has the filesystem write pages that are neighbours, as far as they lie in the file.
fn send<B: Backend + ?Sized>(file: &B, pages: &[DirtyPage<B::Frame>]) -> Result<(), Error> {
    let offset = pages[0].index * PAGE_BYTES as u64;
    let mut buffer = file.buffer(pages.len() * PAGE_BYTES)?;
    for (DirtyPage { page, .. }, bytes) in pages.iter().zip(buffer.chunks_mut(PAGE_BYTES)) {
        page.frame().read(0, bytes);
    }
    let left = usize::try_from(size(file).saturating_sub(offset)).unwrap_or(usize::MAX);
    buffer.truncate(left);
    with_bytes(file, |storage| storage.write(file.number(), offset, &buffer))?;
    note_written(file, pages.iter());
    Ok(())
}

fn store_in_blocks<B: Backend + ?Sized>(file: &B, batch: &[DirtyPage<B::Frame>], losses: &mut Losses) {
    let mut parts = Vec::from([batch]);
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let mut ranges = ranges_of(file, part);
        match with_blocks(file, |blocks| prepare(file, blocks, &mut ranges)) {
            // There may be blocks for some of the pages.
            Err(Error::Device | Error::Corrupt(_) | Error::NoSpace) if part.len() > 1 => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.extend([right, left]);
            }
            Err(error) => {
                end_reservations(file, part);
                lose(file, part, error, losses);
            }
            Ok(()) => {
                end_reservations(file, part);
                store(file, part, &ranges, losses);
            }
        }
    }
}

/// Pages have their blocks by now, of which the filesystem knows, or will never get any: nothing is reserved for
/// them any more. Before, others would get the same blocks reserved.
fn end_reservations<B: Backend + ?Sized>(file: &B, pages: &[DirtyPage<B::Frame>]) {
    let delayed = pages.iter().filter(|page| page.is_delayed).count();
    file.shared().reservations.release_pages(delayed);
}

fn lose<B: Backend + ?Sized>(file: &B, pages: &[DirtyPage<B::Frame>], error: Error, losses: &mut Losses) {
    losses.pages += pages.len();
    losses.first_error = losses.first_error.or(Some(error));
    file.with(|cache| cache.failures.note_lost(pages.iter().map(|page| page.index), error));
    file.record_error(error);
}

/// Notes that pages were written, and have blocks; the last one of the file perhaps for the file's part of it only.
fn note_written<'a, B: Backend + ?Sized>(
    file: &B,
    pages: impl Iterator<Item = &'a DirtyPage<B::Frame>> + Clone,
) where
    B::Frame: 'a,
{
    let is_whole_block = file.shared().block_bytes == PAGE_BYTES;
    file.with(|cache| {
        let whole_pages = cache.size() / PAGE_BYTES as u64;
        for page in pages.clone().filter(|page| is_whole_block || page.index < whole_pages) {
            page.page.has_blocks.store(true, Ordering::Relaxed);
        }
        cache.failures.note_written(pages.map(|page| page.index));
    });
}

/// Pages as ranges, with no blocks yet.
fn ranges_of<'a, B: Backend + ?Sized>(
    file: &B,
    pages: &'a [DirtyPage<B::Frame>],
) -> Vec<DirtyRange<'a, B::Frame>> {
    let block_bytes = file.shared().block_bytes as u64;
    let per_page = PAGE_BYTES as u64 / block_bytes;
    let end_of_file = size(file).div_ceil(block_bytes);
    let range = |pages: &'a [DirtyPage<B::Frame>]| {
        let first = pages[0].index * per_page;
        let end = (first + pages.len() as u64 * per_page).min(end_of_file);
        DirtyRange { pages, first, blocks: end.saturating_sub(first) as u32, runs: Vec::new() }
    };
    let neighbours = pages.chunk_by(|one, other| one.index + 1 == other.index);
    neighbours.map(range).filter(|range| range.blocks > 0).collect()
}

/// Writes pages whose blocks are prepared.
fn store<B: Backend + ?Sized>(
    file: &B,
    pages: &[DirtyPage<B::Frame>],
    ranges: &[DirtyRange<'_, B::Frame>],
    losses: &mut Losses,
) {
    file.with(|cache| cache.extents.forget());
    let bad = write_pieces(file, &pieces_of(ranges, file.shared().block_bytes));
    let modified = file.modified();
    let outcome = with_blocks(file, |blocks| finish(file, blocks, ranges, &bad, modified));
    file.with(|cache| cache.extents.forget());
    if let Err(error) = outcome {
        return lose(file, pages, error, losses);
    }
    note_written(file, pages.iter().filter(|page| !bad.contains(&page.index)));
    let lost: Vec<_> = pages.iter().filter(|page| bad.contains(&page.index)).cloned().collect();
    if !lost.is_empty() {
        lose(file, &lost, Error::Device, losses);
    }
}

fn prepare<B: Backend + ?Sized>(
    file: &B,
    blocks: &mut dyn BlockMap,
    ranges: &mut [DirtyRange<'_, B::Frame>],
) -> Result<(), Error> {
    for index in 0..ranges.len() {
        match blocks.prepare_write(file.number(), ranges[index].first, ranges[index].blocks) {
            Ok(runs) => ranges[index].runs = runs,
            Err(error) => {
                ranges[..index].iter().for_each(|range| blocks.cancel_write(&range.runs));
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Makes the blocks the file's. Those of bad pages stay so without content: nobody else shall run into them.
fn finish<B: Backend + ?Sized>(
    file: &B,
    blocks: &mut dyn BlockMap,
    ranges: &[DirtyRange<'_, B::Frame>],
    bad: &BTreeSet<u64>,
    modified: Timestamp,
) -> Result<(), Error> {
    let (block_bytes, size) = (file.shared().block_bytes as u64, size(file));
    let is_written = |block: u64| !bad.contains(&(block * block_bytes / PAGE_BYTES as u64));
    let mut outcome = Ok(());
    let mut stored = 0;
    for range in ranges {
        let end = ((range.first + u64::from(range.blocks)) * block_bytes).min(size);
        let finished = outcome.and_then(|()| {
            let doubtful: Option<&dyn Fn(u64) -> bool> =
                if bad.is_empty() { None } else { Some(&is_written) };
            blocks.finish_write(file.number(), &range.runs, doubtful, Some(end), modified)
        });
        match finished {
            Ok(()) => stored = end,
            Err(_) => blocks.cancel_write(&range.runs),
        }
        outcome = finished;
    }
    file.with(|cache| cache.note_stored(stored));
    outcome
}
