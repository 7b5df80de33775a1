//! Write-back: dirty pages go to blocks of the file on the disk, a batch at a time. A batch that fails says nothing
//! about the next, and pages near what failed are tried again alone: a bad sector costs its own page only.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::sync::atomic::Ordering;

use unikernel_vfs::{BlockMap, Error, FileKind, Sync, Timestamp, WriteRun};

use super::cache::{self, Page};
use super::errors::Told;
use super::inode::Inode;
use super::load::{PAGES_MOVED_AT_ONCE, split};
use super::{Mount, flusher, now};
use crate::abi::Errno;
use crate::block::device::{Memory, Operation, SECTOR_BYTES};
use crate::kmem::{PAGE_BYTES, room};

/// Pages written back at a time.
const BATCH_PAGES: usize = 512;

/// All pages of a file.
pub(super) const ALL: RangeInclusive<u64> = 0..=u64::MAX;

/// A page to be written.
#[derive(Clone)]
pub(super) struct DirtyPage {
    /// Which of the file it is.
    pub(super) index: u64,
    page: Arc<Page>,
    /// Blocks are promised to it, as it may have none.
    is_delayed: bool,
}

/// Memory of a page, and the sectors it goes to.
struct Piece {
    index: u64,
    sector: u64,
    memory: Memory,
}

/// Neighbouring pages to be written, and where to.
struct DirtyRange<'a> {
    pages: &'a [DirtyPage],
    /// Blocks up to the file's end: the first, and how many.
    first: u64,
    blocks: u32,
    runs: Vec<WriteRun>,
}

/// What a pass over a file could not write.
#[derive(Default)]
struct Losses {
    pages: usize,
    first_error: Option<Errno>,
}

impl Inode {
    /// Writes the dirty pages of a range to the disk, as blocks of the file; perhaps only into the disk's own
    /// cache.
    pub(super) fn write_back(self: &Arc<Self>, range: RangeInclusive<u64>) -> Result<(), Errno> {
        let _turn = self.io_lock.lock();
        if range == ALL {
            // Not before the lock is held: an inode that is in neither state has nothing on its way to the disk.
            self.mount.dirty.lock().remove(&self.number.0);
        }
        self.write_back_in_turn(range)
    }

    /// The same for who holds `io_lock`.
    pub(super) fn write_back_in_turn(self: &Arc<Self>, range: RangeInclusive<u64>) -> Result<(), Errno> {
        self.collect_mapped();
        self.dirty_since_ns.store(0, Ordering::Relaxed);
        let (mut next, last) = (*range.start(), *range.end());
        let mut losses = Losses::default();
        while let Some((batch, end)) = self.take_dirty(next..=last) {
            self.store_batch(&batch, &mut losses);
            next = end;
        }
        let Some(error) = losses.first_error else { return Ok(()) };
        let (disk, path) = (&self.mount.disk, self.mount.path_of(self.number));
        log::error!("{disk}: {path}: {} page(s) could not be written: {error:?}", losses.pages);
        Err(error)
    }

    /// Takes dirty pages of a range, which are clean from then on, and answers where to go on; `None` if there were none.
    fn take_dirty(&self, range: RangeInclusive<u64>) -> Option<(Vec<DirtyPage>, u64)> {
        // A write of no bytes asks for an empty range, and so does who has taken the last page of one; `range` panics then.
        if range.is_empty() {
            return None;
        }
        let mut pages = self.pages.lock();
        // Under the lock: a page that is dirty by now lies before the end that is read here (`note_written`).
        let size = self.size();
        let size_pages = size.div_ceil(PAGE_BYTES as u64);
        let (last, within) = split(size.max(pages.write_end));
        let taken: Vec<u64> = pages.dirty.range(range).copied().take(BATCH_PAGES).collect();
        cache::note_clean(taken.len());
        let mut batch = Vec::with_capacity(taken.len());
        for &index in &taken {
            pages.dirty.remove(&index);
            let Some(page) = pages.all.get(&index).cloned() else { continue };
            if index >= size_pages {
                self.give_space_back(&page);
            } else {
                // What a mapping has left behind the end must not come back when the file grows.
                if index == last && self.is_mapped.load(Ordering::Relaxed) {
                    page.frame.clear(within, PAGE_BYTES - within);
                }
                let is_changing = pages.changing == Some(index);
                let is_delayed = !is_changing && page.is_delayed.swap(false, Ordering::Relaxed);
                batch.push(DirtyPage { index, page, is_delayed });
            }
        }
        taken.last().map(|last| (batch, last + 1))
    }

    /// Writes a batch, as much of it as the disk takes.
    fn store_batch(&self, batch: &[DirtyPage], losses: &mut Losses) {
        match self.mount.blocks {
            Some(_) => self.store_in_blocks(batch, losses),
            None => self.store_as_bytes(batch, losses),
        }
    }

    /// Has the filesystem write pages: neighbours together, and alone where that fails.
    fn store_as_bytes(&self, batch: &[DirtyPage], losses: &mut Losses) {
        self.keep_promises(batch);
        let neighbours = batch.chunk_by(|one, other| one.index + 1 == other.index);
        for pages in neighbours.flat_map(|pages| pages.chunks(PAGES_MOVED_AT_ONCE)) {
            if pages.len() > 1 && self.send(pages).is_ok() {
                continue;
            }
            for page in pages.chunks(1) {
                if let Err(error) = self.send(page) {
                    self.lose(page, error, losses);
                }
            }
        }
    }

    /// Has the filesystem write pages that are neighbours, as far as they lie in the file.
    fn send(&self, pages: &[DirtyPage]) -> Result<(), Errno> {
        let offset = pages[0].index * PAGE_BYTES as u64;
        let mut buffer = room::filled(0, pages.len() * PAGE_BYTES)?;
        for (DirtyPage { page, .. }, bytes) in pages.iter().zip(buffer.chunks_mut(PAGE_BYTES)) {
            page.frame.read(0, bytes);
        }
        let left = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        buffer.truncate(left);
        self.mount.with_bytes(|storage| storage.write(self.number, offset, &buffer))?;
        pages.iter().for_each(|page| self.note_blocks(page));
        self.failures.lock().note_written(pages);
        Ok(())
    }

    fn store_in_blocks(&self, batch: &[DirtyPage], losses: &mut Losses) {
        let mut parts = Vec::from([batch]);
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let mut ranges = self.ranges(part);
            match self.mount.with_blocks(|blocks| self.prepare(blocks, &mut ranges)) {
                // There may be blocks for some of the pages.
                Err(Errno::EIO | Errno::ENOSPC) if part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([right, left]);
                }
                Err(error) => {
                    self.keep_promises(part);
                    self.lose(part, error, losses);
                }
                Ok(()) => {
                    self.keep_promises(part);
                    self.store(part, &ranges, losses);
                }
            }
        }
    }

    /// Pages have their blocks by now, of which the filesystem knows, or will never get any: nothing is promised to
    /// them any more. Before, others would be promised the same blocks.
    fn keep_promises(&self, pages: &[DirtyPage]) {
        let promised = pages.iter().filter(|page| page.is_delayed).count();
        self.mount.delayed_pages.fetch_sub(promised as u64, Ordering::Relaxed);
    }

    fn lose(&self, pages: &[DirtyPage], error: Errno, losses: &mut Losses) {
        losses.pages += pages.len();
        losses.first_error = losses.first_error.or(Some(error));
        self.note_lost(pages, error);
    }

    /// Notes that a page which was written has blocks; the last one perhaps for the file's part of it only.
    fn note_blocks(&self, page: &DirtyPage) {
        let whole_pages = self.size() / PAGE_BYTES as u64;
        if self.mount.block_bytes == PAGE_BYTES || page.index < whole_pages {
            page.page.has_blocks.store(true, Ordering::Relaxed);
        }
    }

    /// Pages as ranges, with no blocks yet.
    fn ranges<'a>(&self, pages: &'a [DirtyPage]) -> Vec<DirtyRange<'a>> {
        let block_bytes = self.mount.block_bytes as u64;
        let per_page = PAGE_BYTES as u64 / block_bytes;
        let end_of_file = self.size().div_ceil(block_bytes);
        let range = |pages: &'a [DirtyPage]| {
            let first = pages[0].index * per_page;
            let end = (first + pages.len() as u64 * per_page).min(end_of_file);
            DirtyRange { pages, first, blocks: end.saturating_sub(first) as u32, runs: Vec::new() }
        };
        let neighbours = pages.chunk_by(|one, other| one.index + 1 == other.index);
        neighbours.map(range).filter(|range| range.blocks > 0).collect()
    }

    /// Writes pages whose blocks are prepared.
    fn store(&self, pages: &[DirtyPage], ranges: &[DirtyRange<'_>], losses: &mut Losses) {
        self.extents.lock().forget();
        let bad = self.transfer(&self.pieces_of(ranges));
        let modified = self.attributes().modified;
        let outcome = self.mount.with_blocks(|blocks| self.finish(blocks, ranges, &bad, modified));
        self.extents.lock().forget();
        if let Err(error) = outcome {
            return self.lose(pages, error, losses);
        }
        let (lost, written): (Vec<_>, Vec<_>) =
            pages.iter().cloned().partition(|page| bad.contains(&page.index));
        written.iter().for_each(|page| self.note_blocks(page));
        self.failures.lock().note_written(&written);
        if !lost.is_empty() {
            self.lose(&lost, Errno::EIO, losses);
        }
    }

    /// Writes pieces, together where they lie together; those of a request that fails are tried again alone. Answers
    /// the pages that the disk did not take.
    fn transfer(&self, pieces: &[Piece]) -> BTreeSet<u64> {
        let Some(volume) = &self.mount.blocks else { return BTreeSet::new() };
        let mut transfers = Vec::new();
        // The first request that each piece can be in: the one that the piece before ended in.
        let mut requests = Vec::with_capacity(pieces.len());
        for piece in pieces {
            requests.push(transfers.len().saturating_sub(1));
            volume.limits().add(&mut transfers, piece.sector, piece.memory);
        }
        let last = transfers.len().saturating_sub(1);
        let Err(failed) = volume.transfer(Operation::Write, transfers) else { return BTreeSet::new() };
        // One by one: a set that is collected is sorted first, with 4 KiB of the stack.
        let mut failed_requests = BTreeSet::<usize>::new();
        failed_requests.extend(failed.0);
        let failed = failed_requests;
        let ends = requests.iter().skip(1).copied().chain([last]);
        let is_doubtful = |first: usize, last: usize| failed.range(first..=last).next().is_some();
        let again = pieces.iter().zip(requests.iter().zip(ends));
        let again: Vec<&Piece> =
            again.filter(|(_, (first, last))| is_doubtful(**first, *last)).map(|(piece, _)| piece).collect();
        self.transfer_alone(again)
    }

    /// Writes pieces, each by requests of its own. Of neighbours on the disk only one is in flight at a time: the device
    /// would join their requests (QEMU does, and the host's block layer), and all would fail with the bad one.
    fn transfer_alone(&self, mut pieces: Vec<&Piece>) -> BTreeSet<u64> {
        pieces.sort_unstable_by_key(|piece| piece.sector);
        let mut bad = self.transfer_apart(pieces.iter().step_by(2));
        bad.append(&mut self.transfer_apart(pieces.iter().skip(1).step_by(2)));
        bad
    }

    fn transfer_apart<'a>(&self, pieces: impl Iterator<Item = &'a &'a Piece>) -> BTreeSet<u64> {
        let Some(volume) = &self.mount.blocks else { return BTreeSet::new() };
        let (mut transfers, mut pages) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut own = Vec::new();
            volume.limits().add(&mut own, piece.sector, piece.memory);
            pages.extend(own.iter().map(|_| piece.index));
            transfers.append(&mut own);
        }
        match volume.transfer(Operation::Write, transfers) {
            Ok(()) => BTreeSet::new(),
            Err(failed) => {
                let mut bad = BTreeSet::new();
                bad.extend(failed.0.into_iter().map(|request| pages[request]));
                bad
            }
        }
    }

    fn prepare(&self, blocks: &mut dyn BlockMap, ranges: &mut [DirtyRange<'_>]) -> Result<(), Error> {
        for index in 0..ranges.len() {
            match blocks.prepare_write(self.number, ranges[index].first, ranges[index].blocks) {
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
    fn finish(
        &self,
        blocks: &mut dyn BlockMap,
        ranges: &[DirtyRange<'_>],
        bad: &BTreeSet<u64>,
        modified: Timestamp,
    ) -> Result<(), Error> {
        let (block_bytes, size) = (self.mount.block_bytes as u64, self.size());
        let is_written = |block: u64| !bad.contains(&(block * block_bytes / PAGE_BYTES as u64));
        let mut outcome = Ok(());
        for range in ranges {
            let end = ((range.first + u64::from(range.blocks)) * block_bytes).min(size);
            let finished = outcome.and_then(|()| {
                let doubtful: Option<&dyn Fn(u64) -> bool> =
                    if bad.is_empty() { None } else { Some(&is_written) };
                blocks.finish_write(self.number, &range.runs, doubtful, Some(end), modified)
            });
            if finished.is_err() {
                blocks.cancel_write(&range.runs);
            }
            outcome = finished;
        }
        outcome
    }

    fn pieces_of(&self, ranges: &[DirtyRange<'_>]) -> Vec<Piece> {
        let block_bytes = self.mount.block_bytes;
        let per_page = (PAGE_BYTES / block_bytes) as u64;
        let mut pieces = Vec::new();
        for (range, run) in ranges.iter().flat_map(|range| range.runs.iter().map(move |run| (range, run))) {
            let mut done = 0;
            while done < u64::from(run.blocks) {
                let block = run.file_block + done;
                let DirtyPage { index, page, .. } = &range.pages[((block - range.first) / per_page) as usize];
                let within = (block % per_page) as usize;
                let count = (per_page - within as u64).min(u64::from(run.blocks) - done);
                let address = page.frame.address().as_u64() + (within * block_bytes) as u64;
                let memory = Memory { address, len: count as u32 * block_bytes as u32 };
                let sector = (run.start + done) * (block_bytes as u64 / SECTOR_BYTES);
                pieces.push(Piece { index: *index, sector, memory });
                done += count;
            }
        }
        pieces
    }

    /// fsync(2), fdatasync(2), by who was told of the errors in `told`.
    pub(super) fn sync(self: &Arc<Self>, what: Sync, told: &Told) -> Result<(), Errno> {
        if self.kind() == FileKind::File {
            // What fails is told below, with what has failed before.
            let _ = self.write_back(ALL);
        }
        let written = told.check(self);
        if !self.mount.is_read_only() {
            let times = if what == Sync::All { self.store_times() } else { Ok(()) };
            let synced = self.mount.with(|filesystem| filesystem.sync_inode(self.number, what, now()));
            return written.and(times).and(synced);
        }
        written
    }
}

impl Mount {
    /// Makes all that was written so far durable. Data that could not be written is told of by [`Told::check_mount`].
    pub fn sync(&'static self) -> Result<(), Errno> {
        if self.is_read_only() {
            return Ok(());
        }
        let _ = flusher::write_back_all(self);
        self.with(|filesystem| filesystem.commit(now()))
    }
}
