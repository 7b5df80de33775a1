//! The running transaction: which blocks changed since the last commit, and how to take one operation back.
//!
//! Operations run one after the other. Each joins the running transaction as a whole or not at all: before it
//! first changes a block it keeps the block's version, and if it fails, the versions are put back. A commit
//! (`journal`) makes all operations since the last durable at once.
//!
//! Freed blocks stay taken in the bitmaps until the commit begins, so nobody can write into them while a power
//! cut could still bring their old owner back.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::{HashMap, HashSet};

use crate::cache::{CachedBlock, Seal};
use crate::device::read_to_parse;
use crate::layout::group::Group;
use crate::{BlockDevice, Error, Ext4, Timestamp};

/// The most blocks that one operation may change: splits of a directory's index and of an extent tree at each
/// level, with their bitmaps, for two names.
pub(crate) const OPERATION_BLOCKS: usize = 96;

/// What an operation has changed, as it was.
enum Undo {
    Block(u64, Option<CachedBlock>),
    Group(u32, Group),
    Orphans(Vec<u32>),
}

/// Blocks that are free once the transaction has committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Freed {
    pub start: u64,
    pub len: u32,
    /// They may be in the cache and in the journal.
    pub is_metadata: bool,
}

/// Everything since the last commit.
#[derive(Default)]
pub(crate) struct Transaction {
    /// Changed blocks, each once.
    pub dirty: Vec<u64>,
    pub freed: Vec<Freed>,
    /// Groups whose bitmap the freed blocks will change.
    pub freed_groups: HashSet<u32>,
    pub freed_blocks: u64,
    /// Changed inodes; true if their data cannot be found without the change.
    pub inodes: HashMap<u32, bool>,
    pub is_superblock_dirty: bool,
    undo: Vec<Undo>,
    operation: u64,
}

impl Transaction {
    /// True if nothing has changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.dirty.is_empty() && self.freed.is_empty() && !self.is_superblock_dirty
    }

    /// Begins the next transaction.
    pub(crate) fn reset(&mut self) {
        let operation = self.operation;
        *self = Self { operation, ..Self::default() };
    }

    /// How many blocks a commit would write, at most.
    pub(crate) fn size(&self) -> usize {
        self.dirty.len() + 2 * self.freed_groups.len() + 2
    }
}

impl<D: BlockDevice> Ext4<D> {
    /// Runs `body` as one operation. If it fails, it has changed nothing. If space is lacking that only waits
    /// for a commit, commits and tries again.
    pub(crate) fn operation<T>(
        &mut self,
        now: Timestamp,
        mut body: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.check_writable()?;
        self.latest = now;
        if self.running.size() + OPERATION_BLOCKS > self.max_transaction_blocks() {
            self.commit(now)?;
        }
        match self.attempt(&mut body) {
            Err(Error::NoSpace) if !self.running.freed.is_empty() => {
                self.commit(now)?;
                self.attempt(&mut body)
            }
            outcome => outcome,
        }
    }

    fn attempt<T>(&mut self, body: &mut impl FnMut(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.running.operation += 1;
        self.running.undo.clear();
        let (dirty, freed, freed_blocks) =
            (self.running.dirty.len(), self.running.freed.len(), self.running.freed_blocks);
        let outcome = body(self);
        if outcome.is_err() {
            self.running.dirty.truncate(dirty);
            self.running.freed.truncate(freed);
            self.running.freed_blocks = freed_blocks;
            self.undo();
        }
        self.running.undo.clear();
        outcome
    }

    fn undo(&mut self) {
        while let Some(step) = self.running.undo.pop() {
            match step {
                Undo::Block(number, before) => self.cache.restore(number, before),
                Undo::Group(index, group) => {
                    let changed = core::mem::replace(&mut self.groups[index as usize], group);
                    self.count_group(&changed, &group);
                }
                Undo::Orphans(orphans) => self.orphans = orphans,
            }
        }
    }

    /// Begins an operation outside `operation`: the commit's own changes, which nothing takes back.
    pub(crate) fn begin_internal(&mut self) {
        self.running.operation += 1;
        self.running.undo.clear();
    }

    /// Reads a block through the cache.
    pub(crate) fn block(&mut self, number: u64, seal: Seal) -> Result<Arc<[u8]>, Error> {
        if let Some(block) = self.cache.get(number) {
            return if block.seal == seal {
                Ok(block.bytes.clone())
            } else {
                Err(Error::Corrupt("block used twice"))
            };
        }
        if number >= self.geometry.blocks {
            return Err(Error::Corrupt("block number past the end"));
        }
        let bytes = read_to_parse(&self.device, self.geometry.offset(number), self.geometry.block_bytes)?;
        if self.cache.add_read(number, bytes.clone(), seal) {
            Ok(bytes)
        } else {
            Err(Error::Corrupt("checksum of a metadata block"))
        }
    }

    /// Changes a block within the running transaction.
    pub(crate) fn modify<T>(
        &mut self,
        number: u64,
        seal: Seal,
        change: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, Error> {
        drop(self.block(number, seal)?);
        self.save(number);
        let block = self.cache.get(number).ok_or(Error::Corrupt("block left the cache"))?;
        if !block.is_dirty {
            block.is_dirty = true;
            self.running.dirty.push(number);
        }
        Ok(change(Arc::make_mut(&mut block.bytes)))
    }

    /// Begins a fresh metadata block of zeros, whatever the disk holds there.
    pub(crate) fn create_block(&mut self, number: u64, seal: Seal) {
        self.save(number);
        let operation = self.running.operation;
        let zeros: Arc<[u8]> = alloc::vec![0; self.geometry.block_bytes].into();
        let block = self.cache.insert(number, zeros, seal);
        block.is_dirty = true;
        block.saved_by = operation;
        self.running.dirty.push(number);
    }

    /// Changes what a block is.
    pub(crate) fn set_seal(&mut self, number: u64, seal: Seal) {
        self.save(number);
        if let Some(block) = self.cache.get(number) {
            block.seal = seal;
        }
    }

    /// Keeps the version of a block from before the running operation.
    fn save(&mut self, number: u64) {
        let operation = self.running.operation;
        let before = match self.cache.get(number) {
            Some(block) if block.saved_by == operation => return,
            Some(block) => {
                let before = block.clone();
                block.saved_by = operation;
                Some(before)
            }
            None => None,
        };
        self.running.undo.push(Undo::Block(number, before));
    }

    /// Changes a group's descriptor within the running transaction.
    pub(crate) fn modify_group(&mut self, index: u32, change: impl FnOnce(&mut Group)) {
        let group = &mut self.groups[index as usize];
        self.running.undo.push(Undo::Group(index, *group));
        let before = *group;
        change(group);
        if !group.is_dirty {
            group.is_dirty = true;
            self.dirty_groups.push(index);
        }
        let after = self.groups[index as usize];
        self.count_group(&before, &after);
    }

    /// Keeps the totals in step with a group's counts.
    fn count_group(&mut self, before: &Group, after: &Group) {
        let changed = |total: u64, before: u32, after: u32| {
            (total + u64::from(after)).saturating_sub(u64::from(before))
        };
        self.free_blocks = changed(self.free_blocks, before.free_blocks(), after.free_blocks());
        self.free_inodes = changed(self.free_inodes, before.free_inodes(), after.free_inodes());
    }

    /// Changes the list of orphans within the running transaction.
    pub(crate) fn modify_orphans(&mut self, change: impl FnOnce(&mut Vec<u32>)) {
        self.running.undo.push(Undo::Orphans(self.orphans.clone()));
        change(&mut self.orphans);
        self.running.is_superblock_dirty = true;
    }

    /// Notes that an inode changes; `is_for_data` if its data cannot be found without the change.
    pub(crate) fn note_inode(&mut self, inode: u32, is_for_data: bool) {
        *self.running.inodes.entry(inode).or_insert(false) |= is_for_data;
    }

    /// Fails if nothing may be changed.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        if self.is_writable { Ok(()) } else { Err(Error::ReadOnly) }
    }
}
