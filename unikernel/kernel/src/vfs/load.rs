//! Reading file content: from the cache, and what is not there from the disk. Threads that miss different pages
//! have their reads in flight together; those that miss the same one wait for whoever was first.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use unikernel_vfs::Run;
use unikernel_vfs::cache::ReadAhead;

use super::cache::{self, Page};
use super::flusher;
use super::inode::Inode;
use crate::abi::{Errno, SysResult};
use crate::block::device::{Memory, Operation, SECTOR_BYTES, Transfer};
use crate::block::volume::Volume;
use crate::kmem::{PAGE_BYTES, room};
use crate::mem::shared::SharedFrame;
use crate::mem::user::UserSlice;
use crate::sync::SpinLock;
use crate::task::scheduler;

/// Pages read before they are asked for, at most.
pub(super) const MOST_AHEAD: u32 = 256;
/// Pages that a filesystem moves in one operation, which others wait for.
pub(super) const PAGES_MOVED_AT_ONCE: usize = 32;
/// Blocks asked for at once when the filesystem is asked where a file lies.
const MAP_BLOCKS: u32 = 32_768;

/// Which page an offset lies in, and where in it.
pub(super) fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}

/// A run of pages that are being read.
type Batch = Vec<(u64, Arc<Page>)>;

impl Inode {
    /// Copies bytes from `offset` on to the app; less than asked for at the end of the file.
    pub fn read(self: &Arc<Self>, offset: u64, into: UserSlice, ahead: &SpinLock<ReadAhead>) -> SysResult {
        let mut done = 0;
        while done < into.len() {
            let at = offset.saturating_add(done as u64);
            let (index, within) = split(at);
            let rest = self.size().saturating_sub(at);
            let wanted = (into.len() - done).min(usize::try_from(rest).unwrap_or(usize::MAX));
            let len = (PAGE_BYTES - within).min(wanted);
            if len == 0 {
                break;
            }
            let part = into.skip(done).truncate(len);
            let copied = self
                .page(index, (within + wanted).div_ceil(PAGE_BYTES), Some(ahead))
                .and_then(|page| page.frame.copy_to(within, len, part).map_err(Errno::from));
            match copied {
                Ok(()) => {
                    done += len;
                    scheduler::breathe_now_and_then(index as usize);
                }
                Err(_) if done > 0 => break,
                // The file was cut meanwhile.
                Err(_) if at >= self.size() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// The page `index`, read if need be, with `wanted - 1` after it that the caller will ask for, and what is
    /// worth reading ahead.
    pub(super) fn page(
        self: &Arc<Self>,
        index: u64,
        wanted: usize,
        ahead: Option<&SpinLock<ReadAhead>>,
    ) -> Result<Arc<Page>, Errno> {
        loop {
            let found = self.pages.lock().all.get(&index).cloned();
            match found {
                Some(page) if page.is_ready() => {
                    page.touch();
                    if let Some(ahead) = ahead {
                        ahead.lock().hit(index, 1);
                    }
                    return Ok(page);
                }
                // If it could not be read, perhaps another of its batch was to blame: it is tried again here.
                Some(page) => {
                    self.loaded.wait_uninterrupted(None, || (!page.is_loading()).then_some(()));
                }
                None => {
                    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
                    let count = ahead.map_or(wanted, |ahead| ahead.lock().miss(index, wanted));
                    match self.load(index, count.min(MOST_AHEAD)) {
                        Err(error) if self.page_in_memory(index).is_none() => return Err(error),
                        // If there was an error, a page ahead was to blame.
                        _ => {}
                    }
                }
            }
        }
    }

    /// Reads up to `count` pages from `first` on that are not there. If the first is there, somebody else was
    /// faster, and nothing is read.
    pub(super) fn load(self: &Arc<Self>, first: u64, count: u32) -> Result<(), Errno> {
        let end = self.size().div_ceil(PAGE_BYTES as u64).min(first + u64::from(count)).max(first + 1);
        let take = || -> Vec<SharedFrame> { (first..end).map_while(|_| SharedFrame::for_cache()).collect() };
        let mut frames = take();
        // Memory may be full of pages that were changed through mappings.
        if frames.is_empty() && flusher::make_room(1) {
            frames = take();
        }
        if frames.is_empty() {
            return Err(Errno::ENOMEM);
        }
        let mut batch = Batch::with_capacity(frames.len());
        {
            let mut pages = self.pages.lock();
            // Who cuts the file looks for pages after the size has changed (`resize`): none may come behind the end.
            let end = self.size().div_ceil(PAGE_BYTES as u64);
            if first >= end {
                return Err(Errno::EIO);
            }
            for (index, frame) in (first..end).zip(frames) {
                if pages.all.contains_key(&index) {
                    break;
                }
                let page = Page::loading(frame);
                pages.all.insert(index, Arc::clone(&page));
                batch.push((index, page));
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        cache::note_added(self, batch.iter().map(|(index, _)| *index));
        let outcome = self.fill(&batch);
        if outcome.is_ok() {
            batch.iter().for_each(|(_, page)| page.finish(true));
        } else {
            // One bad sector must not spoil its neighbours: page after page.
            batch.iter().for_each(|one| self.fill_alone(one));
        }
        self.loaded.wake_all();
        outcome
    }

    /// Reads one page that could not be read with others; takes it out again if it cannot be read at all.
    fn fill_alone(&self, one: &(u64, Arc<Page>)) {
        let is_good = self.fill(core::slice::from_ref(one)).is_ok();
        if !is_good {
            self.pages.lock().all.remove(&one.0);
            cache::note_removed(1);
        }
        one.1.finish(is_good);
    }

    /// Reads pages.
    fn fill(&self, batch: &[(u64, Arc<Page>)]) -> Result<(), Errno> {
        match &self.mount.blocks {
            Some(volume) => self.fill_from_blocks(volume, batch)?,
            None => self.fill_from_bytes(batch)?,
        }
        // What lies behind the end is nobody's; a mapping would show it. Who cuts the file clears the last page, too, but
        // perhaps before it was read.
        let size = self.size();
        for (index, page) in batch {
            let valid = size.saturating_sub(index * PAGE_BYTES as u64).min(PAGE_BYTES as u64) as usize;
            page.frame.clear(valid, PAGE_BYTES - valid);
        }
        Ok(())
    }

    /// Reads pages from blocks of the disk.
    fn fill_from_blocks(&self, volume: &Volume, batch: &[(u64, Arc<Page>)]) -> Result<(), Errno> {
        let block_bytes = self.mount.block_bytes;
        let blocks_per_page = (PAGE_BYTES / block_bytes) as u64;
        let mut transfers: Vec<Transfer> = Vec::new();
        for (index, page) in batch {
            let (mut part, mut has_blocks) = (0, true);
            while part < blocks_per_page {
                let run = self.run(index * blocks_per_page + part)?;
                let blocks = u64::from(run.blocks).min(blocks_per_page - part);
                let (at, len) = (part as usize * block_bytes, blocks as usize * block_bytes);
                match run.start {
                    None => {
                        has_blocks = false;
                        page.frame.clear(at, len);
                    }
                    Some(start) => {
                        let address = page.frame.address().as_u64() + at as u64;
                        let memory = Memory { address, len: len as u32 };
                        let sector = start * (block_bytes as u64 / SECTOR_BYTES);
                        volume.limits().add(&mut transfers, sector, memory);
                    }
                }
                part += blocks;
            }
            page.has_blocks.store(has_blocks, Ordering::Relaxed);
        }
        if !transfers.is_empty() {
            volume.transfer(Operation::Read, transfers).map_err(|_| Errno::EIO)?;
        }
        Ok(())
    }

    /// Has the filesystem read pages, neighbours together.
    fn fill_from_bytes(&self, batch: &[(u64, Arc<Page>)]) -> Result<(), Errno> {
        let mut buffer = room::filled(0, batch.len().min(PAGES_MOVED_AT_ONCE) * PAGE_BYTES)?;
        for pages in batch.chunks(PAGES_MOVED_AT_ONCE) {
            let bytes = &mut buffer[..pages.len() * PAGE_BYTES];
            let offset = pages[0].0 * PAGE_BYTES as u64;
            let count = self.mount.with_bytes(|storage| storage.read(self.number, offset, bytes))?;
            // The file may have become shorter than was thought: then the rest is zeros.
            bytes.get_mut(count..).ok_or(Errno::EIO)?.fill(0);
            for ((_, page), bytes) in pages.iter().zip(bytes.chunks(PAGE_BYTES)) {
                page.frame.fill(0, bytes);
                page.has_blocks.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Where the file's block lies, and the blocks after it.
    fn run(&self, block: u64) -> Result<Run, Errno> {
        let generation = {
            let runs = self.extents.lock();
            if let Some(run) = runs.find(block) {
                return Ok(run);
            }
            runs.generation
        };
        let run = self.mount.with_blocks(|blocks| blocks.map(self.number, block, MAP_BLOCKS))?;
        self.extents.lock().note(block, run, generation);
        Ok(run)
    }
}
