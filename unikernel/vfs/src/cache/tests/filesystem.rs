//! A filesystem in memory over a [`Disk`], with what matters to a cache: blocks that are reserved, joined, freed and used again;
//! a journal that makes all structures durable at once; or content that it moves itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::vec::Vec;

use super::disk::{Disk, SECTOR_BYTES};
use super::faults::Operation;
use super::random::Random;
use crate::{
    Attributes, BlockMap, EachEntry, Error, FileKind, FileSystem, InodeNumber, Run, RunState, Statistics,
    Storage, Sync, Timestamp, WriteRun,
};

/// A file's length, and where its blocks lie; the flag says whether one was written.
#[derive(Clone, Default)]
pub(super) struct Node {
    pub(super) size: u64,
    pub(super) blocks: BTreeMap<u64, (u64, bool)>,
}

pub(super) struct MemoryFs {
    pub(super) disk: Arc<Disk>,
    pub(super) block_bytes: usize,
    has_blocks: bool,
    pub(super) nodes: BTreeMap<u64, Node>,
    free: BTreeSet<u64>,
    /// Prepared for a write that is not finished.
    prepared: BTreeSet<u64>,
    /// Freed, but perhaps still in use after a power cut.
    freed: Vec<u64>,
    durable: BTreeMap<u64, Node>,
    /// In the disk's cache: durable or not after a power cut.
    in_flight: Option<BTreeMap<u64, Node>>,
    pub(super) is_changed: bool,
    is_read_only: bool,
}

impl MemoryFs {
    pub(super) fn new(
        disk: Arc<Disk>,
        files: u64,
        block_bytes: usize,
        blocks: u64,
        has_blocks: bool,
    ) -> Self {
        let nodes: BTreeMap<_, _> = (0..files).map(|file| (file, Node::default())).collect();
        Self {
            disk,
            block_bytes,
            has_blocks,
            durable: nodes.clone(),
            nodes,
            free: (0..if has_blocks { blocks } else { 0 }).collect(),
            prepared: BTreeSet::new(),
            freed: Vec::new(),
            in_flight: None,
            is_changed: false,
            is_read_only: false,
        }
    }

    pub(super) fn sectors(&self) -> u64 {
        (self.block_bytes / SECTOR_BYTES) as u64
    }

    pub(super) fn check(&self, operation: Operation) -> Result<(), Error> {
        self.disk.faults.check(operation)
    }

    pub(super) fn check_writable(&self) -> Result<(), Error> {
        if self.is_read_only { Err(Error::ReadOnly) } else { self.check(Operation::Metadata) }
    }

    pub(super) fn node(&mut self, inode: InodeNumber) -> &mut Node {
        self.nodes.get_mut(&inode.0).expect("a file")
    }

    /// No block is free and in use, or prepared and in use.
    pub(super) fn check_blocks(&self) {
        let used: Vec<u64> =
            self.nodes.values().flat_map(|node| node.blocks.values()).map(|it| it.0).collect();
        let set: BTreeSet<u64> = used.iter().copied().collect();
        assert_eq!(set.len(), used.len(), "a block is part of two files");
        assert!(set.is_disjoint(&self.free) && set.is_disjoint(&self.prepared), "a used block is free");
        assert!(self.prepared.is_empty(), "blocks are reserved for ever");
    }

    /// After a power cut: what is on the disk counts.
    pub(super) fn recover(&mut self, random: &mut Random) {
        if let Some(nodes) = self.in_flight.take().filter(|_| random.below(2) == 0) {
            self.durable = nodes;
        }
        self.disk.cut_power(random);
    }

    /// What is durable of a file: its length and content.
    pub(super) fn durable(&self, file: u64) -> (u64, Vec<u8>) {
        let node = &self.durable[&file];
        let mut content = std::vec![0; node.size as usize];
        for (offset, bytes) in content.chunks_mut(SECTOR_BYTES).enumerate() {
            let (block, within) = (offset as u64 / self.sectors(), offset as u64 % self.sectors());
            if let Some((start, true)) = node.blocks.get(&block) {
                let sector = self.disk.durable(start * self.sectors() + within);
                bytes.copy_from_slice(&sector[..bytes.len()]);
            }
        }
        (node.size, content)
    }

    /// A written block with part of it zeroed, and where it goes; `None` for others.
    fn zeroed(
        &mut self,
        inode: InodeNumber,
        block: u64,
        within: Range<usize>,
    ) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let Some(&(start, true)) = self.node(inode).blocks.get(&block) else { return Ok(None) };
        let mut bytes = std::vec![0; self.block_bytes];
        self.disk.read(start * self.sectors(), &mut bytes)?;
        bytes[within].fill(0);
        Ok(Some((start * self.sectors(), bytes)))
    }

    /// What the last block has behind the end becomes part of the file.
    pub(super) fn zero_tail(&mut self, inode: InodeNumber) -> Result<(), Error> {
        let size = self.node(inode).size as usize;
        let (block, within) = (size / self.block_bytes, size % self.block_bytes);
        if within > 0
            && let Some((sector, bytes)) = self.zeroed(inode, block as u64, within..self.block_bytes)?
        {
            self.disk.write(sector, &bytes)?;
        }
        Ok(())
    }

    fn remove_blocks(&mut self, inode: InodeNumber, range: Range<u64>) {
        let node = self.nodes.get_mut(&inode.0).expect("a file");
        let gone: Vec<u64> = node.blocks.range(range).map(|(block, _)| *block).collect();
        self.freed.extend(gone.iter().filter_map(|block| node.blocks.remove(block)).map(|(start, _)| start));
    }
}

impl FileSystem for MemoryFs {
    fn root(&self) -> InodeNumber {
        InodeNumber(u64::MAX)
    }

    fn block_bytes(&self) -> u32 {
        self.block_bytes as u32
    }

    fn max_file_bytes(&self) -> u64 {
        1 << 40
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn storage(&mut self) -> Storage<'_> {
        if self.has_blocks { Storage::Blocks(self) } else { Storage::Bytes(self) }
    }

    fn lookup(&mut self, _: InodeNumber, _: &[u8]) -> Result<InodeNumber, Error> {
        Err(Error::NotFound)
    }

    fn attributes(&mut self, inode: InodeNumber) -> Result<Attributes, Error> {
        let zero = Timestamp::default();
        Ok(Attributes {
            kind: FileKind::File,
            permissions: 0o644,
            user: 0,
            group: 0,
            size: self.node(inode).size,
            links: 1,
            blocks_512: self.node(inode).blocks.len() as u64 * self.sectors(),
            device: 0,
            accessed: zero,
            modified: zero,
            changed: zero,
            born: zero,
            generation: 0,
            is_mappable: true,
        })
    }

    fn read_link(&mut self, _: InodeNumber) -> Result<Vec<u8>, Error> {
        Err(Error::Invalid)
    }

    fn entries(&mut self, _: InodeNumber, _: u64, _: EachEntry<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn statistics(&mut self) -> Result<Statistics, Error> {
        let free = self.free.len() as u64;
        Ok(Statistics {
            block_bytes: self.block_bytes as u32,
            blocks: free,
            free_blocks: free,
            available_blocks: free,
            inodes: 0,
            free_inodes: 0,
            uuid: [0; 16],
        })
    }

    fn set_size(&mut self, inode: InodeNumber, size: u64, _: Timestamp) -> Result<(), Error> {
        self.check_writable()?;
        if size > self.node(inode).size {
            self.zero_tail(inode)?;
        }
        self.node(inode).size = size;
        self.remove_blocks(inode, size.div_ceil(self.block_bytes as u64)..u64::MAX);
        self.is_changed = true;
        Ok(())
    }

    fn allocate_range(
        &mut self,
        inode: InodeNumber,
        offset: u64,
        len: u64,
        keep_size: bool,
        _: Timestamp,
    ) -> Result<(), Error> {
        self.check_writable()?;
        let (block_bytes, end) = (self.block_bytes as u64, offset + len);
        let wanted = offset / block_bytes..end.div_ceil(block_bytes);
        let missing: Vec<u64> = wanted.filter(|block| !self.node(inode).blocks.contains_key(block)).collect();
        if self.has_blocks {
            self.check(Operation::Allocation)?;
            if missing.len() > self.free.len() {
                return Err(Error::NoSpace);
            }
        }
        if !keep_size && end > self.node(inode).size {
            self.zero_tail(inode)?;
            self.node(inode).size = end;
        }
        for block in missing {
            let Some(start) = self.free.pop_first().filter(|_| self.has_blocks) else { break };
            self.node(inode).blocks.insert(block, (start, false));
        }
        self.is_changed = true;
        Ok(())
    }

    fn punch(&mut self, inode: InodeNumber, offset: u64, len: u64, _: Timestamp) -> Result<(), Error> {
        self.check_writable()?;
        let (block_bytes, end) = (self.block_bytes as u64, offset + len);
        let (first, behind) = (offset.div_ceil(block_bytes), end / block_bytes);
        let mut edges = Vec::new();
        for block in offset / block_bytes..end.div_ceil(block_bytes) {
            if !(first..behind).contains(&block) {
                let start = block * block_bytes;
                let within = offset.max(start) - start..end.min(start + block_bytes) - start;
                edges.extend(self.zeroed(inode, block, within.start as usize..within.end as usize)?);
            }
        }
        if !edges.is_empty() {
            self.disk.write_all(&edges)?;
        }
        if first < behind {
            self.remove_blocks(inode, first..behind);
        }
        self.is_changed = true;
        Ok(())
    }

    fn sync_inode(&mut self, _: InodeNumber, _: Sync, now: Timestamp) -> Result<(), Error> {
        if self.is_changed { self.commit(now) } else { self.disk.flush() }
    }

    fn commit(&mut self, _: Timestamp) -> Result<(), Error> {
        if self.is_read_only {
            return Err(Error::ReadOnly);
        }
        // Content before the structures that lead to it; if that fails, nothing has changed.
        self.disk.flush()?;
        if self.check(Operation::Metadata).is_err() {
            self.is_read_only = true;
            return Err(Error::Device);
        }
        self.in_flight = Some(self.nodes.clone());
        if self.disk.flush().is_err() {
            self.is_read_only = true;
            return Err(Error::Device);
        }
        self.durable = self.in_flight.take().expect("set above");
        let freed = std::mem::take(&mut self.freed);
        if self.has_blocks {
            self.free.extend(freed);
        }
        self.is_changed = false;
        Ok(())
    }

    fn has_uncommitted(&self) -> bool {
        self.is_changed
    }
}

impl BlockMap for MemoryFs {
    fn map(&mut self, inode: InodeNumber, first_block: u64, max_blocks: u32) -> Result<Run, Error> {
        self.check(Operation::Metadata)?;
        let node = self.node(inode);
        let start_of = |block: u64| node.blocks.get(&block).filter(|it| it.1).map(|it| it.0);
        let start = start_of(first_block);
        let follows = |skip: &u64| start_of(first_block + skip) == start.map(|start| start + skip);
        // A run that ends early, now and then, is one as well.
        let most = u64::from(max_blocks).min(5);
        Ok(Run { start, blocks: (1..most).take_while(follows).count() as u32 + 1 })
    }

    fn is_allocated(&mut self, inode: InodeNumber, blocks: Range<u64>) -> Result<bool, Error> {
        self.check(Operation::Metadata)?;
        Ok(blocks.into_iter().all(|block| self.node(inode).blocks.contains_key(&block)))
    }

    fn prepare_write(
        &mut self,
        inode: InodeNumber,
        first_block: u64,
        blocks: u32,
    ) -> Result<Vec<WriteRun>, Error> {
        self.check_writable()?;
        let mut runs: Vec<WriteRun> = Vec::new();
        for file_block in first_block..first_block + u64::from(blocks) {
            let known = self.node(inode).blocks.get(&file_block).copied();
            let (start, state) = match known {
                Some((start, true)) => (start, RunState::Written),
                Some((start, false)) => (start, RunState::Unwritten),
                None => {
                    let outcome = self.check(Operation::Allocation);
                    let found = outcome.and_then(|()| self.free.pop_first().ok_or(Error::NoSpace));
                    let start = found.inspect_err(|_| self.cancel_write(&runs))?;
                    self.prepared.insert(start);
                    (start, RunState::Reserved)
                }
            };
            match runs.last_mut() {
                Some(run) if run.state == state && run.start + u64::from(run.blocks) == start => {
                    run.blocks += 1;
                }
                _ => runs.push(WriteRun { file_block, start, blocks: 1, state }),
            }
        }
        Ok(runs)
    }

    fn cancel_write(&mut self, runs: &[WriteRun]) {
        for run in runs.iter().filter(|run| run.state == RunState::Reserved) {
            for start in (run.start..run.start + u64::from(run.blocks)).filter(|it| self.prepared.remove(it))
            {
                self.free.insert(start);
            }
        }
    }

    fn finish_write(
        &mut self,
        inode: InodeNumber,
        runs: &[WriteRun],
        is_written: Option<&dyn Fn(u64) -> bool>,
        size: Option<u64>,
        _: Timestamp,
    ) -> Result<(), Error> {
        self.check_writable()?;
        let (old, size) = (self.node(inode).size, size.unwrap_or(0));
        let covers =
            |run: &WriteRun, block| (run.file_block..run.file_block + u64::from(run.blocks)).contains(&block);
        if size > old && !runs.iter().any(|run| covers(run, old / self.block_bytes as u64)) {
            self.zero_tail(inode)?;
        }
        let size = size.max(old);
        self.node(inode).size = size;
        self.is_changed = true;
        let end = size.div_ceil(self.block_bytes as u64);
        for run in runs {
            for skip in (0..u64::from(run.blocks)).filter(|skip| run.file_block + skip < end) {
                let (block, start) = (run.file_block + skip, run.start + skip);
                let is_good = is_written.is_none_or(|is_written| is_written(block));
                match run.state {
                    RunState::Reserved => assert!(self.prepared.remove(&start), "it was prepared"),
                    RunState::Unwritten | RunState::Written => {
                        assert!(self.node(inode).blocks.contains_key(&block), "it is the file's");
                    }
                }
                let was_written = run.state == RunState::Written;
                self.node(inode).blocks.insert(block, (start, is_good || was_written));
            }
            self.cancel_write(std::slice::from_ref(run));
        }
        Ok(())
    }
}
