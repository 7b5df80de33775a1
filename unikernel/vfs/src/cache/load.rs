//! Reading file content: from the cache, and what is not there from the disk. Threads that miss different pages
//! have their reads in flight together; those that miss the same one wait for whoever was first.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::backend::{Backend, Direction, Piece, Requests, with_blocks, with_bytes};
use super::file_cache::Batch;
use super::page::{Frame, PAGE_BYTES, Page};
use super::split;
use crate::{Error, Run};

/// Pages read before they are asked for, at most.
pub const MOST_AHEAD: u32 = 256;
/// Pages that a filesystem moves in one operation, which others wait for.
pub(super) const PAGES_MOVED_AT_ONCE: usize = 32;
/// Blocks asked for at once when the filesystem is asked where a file lies.
const MAP_BLOCKS: u32 = 32_768;

/// The caller's memory could not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// Why content could not be read or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessError {
    /// The filesystem or its disk.
    Filesystem(Error),
    /// The caller's memory.
    Fault,
}

impl From<Error> for AccessError {
    fn from(error: Error) -> Self {
        Self::Filesystem(error)
    }
}

impl From<Fault> for AccessError {
    fn from(_: Fault) -> Self {
        Self::Fault
    }
}

/// One reader's [`super::ReadAhead`], which several threads may use.
pub trait Window {
    /// See [`super::ReadAhead::hit`].
    fn hit(&self, first: u64, count: u32);

    /// See [`super::ReadAhead::miss`].
    fn miss(&self, first: u64, count: u32) -> u32;
}

/// Reads `len` bytes from `offset` on; answers how many there were: less at the end of the file, or where there is an error later on.
/// `copy` gets a page's memory, where in it and in the caller's bytes to copy from and to, and how much.
pub fn read<B: Backend + ?Sized>(
    file: &B,
    offset: u64,
    len: usize,
    ahead: &dyn Window,
    mut copy: impl FnMut(&B::Frame, usize, usize, usize) -> Result<(), Fault>,
) -> Result<usize, AccessError> {
    let mut done = 0;
    while done < len {
        let at = offset.saturating_add(done as u64);
        let (index, within) = split(at);
        let rest = size(file).saturating_sub(at);
        let wanted = (len - done).min(usize::try_from(rest).unwrap_or(usize::MAX));
        let part = (PAGE_BYTES - within).min(wanted);
        if part == 0 {
            break;
        }
        let copied = page(file, index, (within + wanted).div_ceil(PAGE_BYTES), Some(ahead))
            .map_err(AccessError::from)
            .and_then(|page| Ok(copy(page.frame(), within, done, part)?));
        match copied {
            Ok(()) => {
                done += part;
                file.breathe(index as usize);
            }
            Err(_) if done > 0 => break,
            // The file was cut meanwhile.
            Err(_) if at >= size(file) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

pub(super) fn size<B: Backend + ?Sized>(file: &B) -> u64 {
    file.with(|cache| cache.size())
}

/// True if all pages of a range are in memory, as far as the file goes.
pub fn has_in_memory<B: Backend + ?Sized>(file: &B, offset: u64, len: usize) -> bool {
    let end = offset.saturating_add(len as u64).min(size(file));
    let (first, last) = (split(offset).0, end.div_ceil(PAGE_BYTES as u64));
    (first..last).all(|index| file.with(|cache| cache.is_ready(index)))
}

/// The page `index`, read if need be, with `wanted - 1` after it that the caller will ask for, and what is
/// worth reading ahead. It stays in memory while the answer is kept.
pub fn page<B: Backend + ?Sized>(
    file: &B,
    index: u64,
    wanted: usize,
    ahead: Option<&dyn Window>,
) -> Result<Arc<Page<B::Frame>>, Error> {
    loop {
        let found = file.with(|cache| cache.pages.get(&index).cloned());
        match found {
            Some(page) if page.is_ready() => {
                page.touch();
                if let Some(ahead) = ahead {
                    ahead.hit(index, 1);
                }
                return Ok(page);
            }
            // If it could not be read, perhaps another of its batch was to blame: it is tried again here.
            Some(page) => file.wait(|| !page.is_loading()),
            None => {
                let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
                let count = ahead.map_or(wanted, |ahead| ahead.miss(index, wanted));
                match load(file, index, count.min(MOST_AHEAD)) {
                    Err(error) if !file.with(|cache| cache.is_ready(index)) => return Err(error),
                    // If there was an error, a page ahead was to blame.
                    _ => {}
                }
            }
        }
    }
}

/// Memory for a page, as soon as there is any: it may be full of pages that were changed through mappings.
pub(super) fn frame_in_time<B: Backend + ?Sized>(file: &B) -> Result<B::Frame, Error> {
    /// Others take memory, too, and may be faster each time that there is some.
    const MOST_TRIES: usize = 64;
    for _ in 0..MOST_TRIES {
        if let Some(frame) = file.new_frame() {
            return Ok(frame);
        }
        if !file.make_room() {
            break;
        }
    }
    Err(Error::NoMemory)
}

/// Reads up to `count` pages from `first` on that are not there. If the first is there, somebody else was
/// faster, and nothing is read.
pub fn load<B: Backend + ?Sized>(file: &B, first: u64, count: u32) -> Result<(), Error> {
    let size_pages = file.with(|cache| cache.size_in_pages());
    let end = size_pages.min(first + u64::from(count)).max(first + 1);
    let mut frames: Vec<B::Frame> = (first..end).map_while(|_| file.new_frame()).collect();
    if frames.is_empty() {
        frames.push(frame_in_time(file)?);
        frames.extend((first + 1..end).map_while(|_| file.new_frame()));
    }
    let mut batch = Batch::with_capacity(frames.len());
    let stored_size = file.with(|cache| cache.begin_load(first, frames, &mut batch, file.counts()))?;
    if batch.is_empty() {
        return Ok(());
    }
    file.note_added(first..first + batch.len() as u64);
    let outcome = fill(file, &batch, stored_size);
    if outcome.is_ok() {
        batch.iter().for_each(|(_, page)| page.finish(true));
    } else {
        // One bad sector must not spoil its neighbours: page after page.
        batch.iter().for_each(|one| fill_alone(file, one, stored_size));
    }
    file.wake();
    outcome
}

/// Reads one page that could not be read with others; takes it out again if it cannot be read at all.
fn fill_alone<B: Backend + ?Sized>(file: &B, one: &(u64, Arc<Page<B::Frame>>), stored_size: u64) {
    let is_good = fill(file, core::slice::from_ref(one), stored_size).is_ok();
    if !is_good {
        file.with(|cache| cache.abort_load(one.0, file.counts()));
    }
    one.1.finish(is_good);
}

/// Reads pages. Blocks hold content of the file up to `stored_size`.
fn fill<B: Backend + ?Sized>(
    file: &B,
    batch: &[(u64, Arc<Page<B::Frame>>)],
    stored_size: u64,
) -> Result<(), Error> {
    let stored_size = if file.shared().has_blocks {
        fill_from_blocks(file, batch)?;
        stored_size
    } else {
        // The filesystem has cut what it knows to be behind the end.
        fill_from_bytes(file, batch)?;
        u64::MAX
    };
    // What lies behind the end is nobody's; a mapping would show it. Who cuts the file clears the last page, too, but
    // perhaps before it was read.
    let size = size(file).min(stored_size);
    for (index, page) in batch {
        let valid = size.saturating_sub(index * PAGE_BYTES as u64).min(PAGE_BYTES as u64) as usize;
        page.frame().clear(valid, PAGE_BYTES - valid);
    }
    Ok(())
}

/// Reads pages from blocks of the disk.
fn fill_from_blocks<B: Backend + ?Sized>(
    file: &B,
    batch: &[(u64, Arc<Page<B::Frame>>)],
) -> Result<(), Error> {
    let block_bytes = file.shared().block_bytes;
    let blocks_per_page = (PAGE_BYTES / block_bytes) as u64;
    let mut pieces = Vec::with_capacity(batch.len());
    for (index, page) in batch {
        let (mut part, mut has_blocks) = (0, true);
        while part < blocks_per_page {
            let run = run(file, index * blocks_per_page + part)?;
            let blocks = u64::from(run.blocks).min(blocks_per_page - part);
            let (offset, len) = (part as usize * block_bytes, blocks as usize * block_bytes);
            match run.start {
                None => {
                    has_blocks = false;
                    page.frame().clear(offset, len);
                }
                Some(start) => {
                    let sector = start * super::transfer::sectors_per_block(block_bytes);
                    pieces.push(Piece { index: *index, sector, frame: page.frame(), offset, len });
                }
            }
            part += blocks;
        }
        page.has_blocks.store(has_blocks, Ordering::Relaxed);
    }
    if pieces.is_empty() {
        return Ok(());
    }
    file.transfer(Direction::Read, Requests::Joined, &pieces).map_err(|_| Error::Device)
}

/// Has the filesystem read pages, neighbours together.
fn fill_from_bytes<B: Backend + ?Sized>(file: &B, batch: &[(u64, Arc<Page<B::Frame>>)]) -> Result<(), Error> {
    let mut buffer = file.buffer(batch.len().min(PAGES_MOVED_AT_ONCE) * PAGE_BYTES)?;
    for pages in batch.chunks(PAGES_MOVED_AT_ONCE) {
        let bytes = &mut buffer[..pages.len() * PAGE_BYTES];
        let offset = pages[0].0 * PAGE_BYTES as u64;
        let count = with_bytes(file, |storage| storage.read(file.number(), offset, bytes))?;
        // The file may have become shorter than was thought: then the rest is zeros.
        bytes.get_mut(count..).ok_or(Error::Device)?.fill(0);
        for ((_, page), bytes) in pages.iter().zip(bytes.chunks(PAGE_BYTES)) {
            page.frame().fill(0, bytes);
            page.has_blocks.store(true, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Where the file's block lies, and the blocks after it.
fn run<B: Backend + ?Sized>(file: &B, block: u64) -> Result<Run, Error> {
    let (known, generation) = file.with(|cache| (cache.extents.find(block), cache.extents.generation()));
    if let Some(run) = known {
        return Ok(run);
    }
    let run = with_blocks(file, |blocks| blocks.map(file.number(), block, MAP_BLOCKS))?;
    file.with(|cache| cache.extents.note(block, run, generation));
    Ok(run)
}
