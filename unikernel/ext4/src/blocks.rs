//! Free blocks: finding runs of them near a goal, taking them, giving them back.
//!
//! A block is free for a new owner if its bit is clear and nobody has reserved it. Reservations live in memory
//! only: data is written into them first, and the bits are set by the transaction that makes them part of a file.

use alloc::sync::Arc;

use crate::bitmap;
use crate::cache::Seal;
use crate::checksum::crc32c;
use crate::layout::group::GroupFlags;
use crate::transaction::Freed;
use crate::{BlockDevice, Error, Ext4};

/// Groups that are looked at for a long run before a short one will do.
const GROUPS_FOR_A_LONG_RUN: u32 = 8;

/// Blocks that lie together on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockRun {
    pub start: u64,
    pub len: u32,
}

/// What there is of `want` blocks, at least one.
fn affordable(available: u64, want: u32) -> Result<u32, Error> {
    match available {
        0 => Err(Error::NoSpace),
        available => Ok(u32::try_from(available).map_or(want, |available| available.min(want))),
    }
}

impl<D: BlockDevice> Ext4<D> {
    /// Blocks kept back so that metadata of data already written finds a place (Linux keeps as many).
    pub(crate) fn pool_blocks(&self) -> u64 {
        (self.geometry.blocks / 50).min(4096)
    }

    /// Blocks that new data may take.
    pub(crate) fn available_blocks(&self) -> u64 {
        self.available_with(0)
    }

    /// The same, with `more` that become free at the next commit. They fill the pool up first.
    pub(crate) fn available_with(&self, more: u64) -> u64 {
        (self.free_blocks + more).saturating_sub(self.reserved_blocks + self.pool_blocks())
    }

    /// Takes one block for metadata.
    pub(crate) fn allocate_block(&mut self, goal: u64) -> Result<u64, Error> {
        let run = self.find_free(goal, 1)?;
        self.take(run)?;
        Ok(run.start)
    }

    /// Takes up to `want` blocks for data, at least one.
    pub(crate) fn allocate_run(&mut self, goal: u64, want: u32) -> Result<BlockRun, Error> {
        let want = affordable(self.available_blocks(), want)?;
        let run = self.find_free(goal, want)?;
        self.take(run)?;
        Ok(run)
    }

    /// Sets up to `want` blocks aside, at least one, for data that was accepted when there was room. Metadata may have taken
    /// some of it since, from the same free blocks: most of the pool makes up for that.
    pub(crate) fn reserve_run(&mut self, goal: u64, want: u32) -> Result<BlockRun, Error> {
        let kept_back = self.reserved_blocks + self.pool_blocks() / 4;
        let want = affordable(self.free_blocks.saturating_sub(kept_back), want)?;
        let run = self.find_free(goal, want)?;
        self.reservations.insert(run.start, run.len);
        self.reserved_blocks += u64::from(run.len);
        Ok(run)
    }

    /// Gives reserved blocks back.
    pub(crate) fn release_reservation(&mut self, run: BlockRun) {
        // A reservation may be used in pieces: find the one that holds this run, and keep its ends.
        let Some((start, len)) = self.reservation_at(run.start) else { return };
        let (end, run_end) = (start + u64::from(len), run.start + u64::from(run.len));
        self.reservations.remove(&start);
        self.reserved_blocks -= u64::from(len);
        for (start, end) in [(start, run.start), (run_end, end)] {
            if start < end {
                self.reservations.insert(start, (end - start) as u32);
                self.reserved_blocks += end - start;
            }
        }
    }

    /// True if all these blocks are set aside.
    pub(crate) fn is_reserved(&self, run: BlockRun) -> bool {
        self.reservation_at(run.start)
            .is_some_and(|(start, len)| start + u64::from(len) >= run.start + u64::from(run.len))
    }

    pub(crate) fn reservation_at(&self, block: u64) -> Option<(u64, u32)> {
        let (start, len) = self.reservations.range(..=block).next_back()?;
        (start + u64::from(*len) > block).then_some((*start, *len))
    }

    /// Marks blocks as used.
    pub(crate) fn take(&mut self, run: BlockRun) -> Result<(), Error> {
        let (group, first) = self.geometry.place_of_block(run.start);
        let taken = self.change_bits(group, |bits| bitmap::set(bits, first, run.len))?;
        if taken != run.len {
            return Err(Error::Corrupt("block taken twice"));
        }
        self.modify_group(group, |group| {
            group.set_free_blocks(group.free_blocks().saturating_sub(run.len));
            group.block_hint = first + run.len;
        });
        Ok(())
    }

    /// Gives blocks back when the running transaction commits. The run may cross groups.
    pub(crate) fn free_run(&mut self, start: u64, len: u32, is_metadata: bool) -> Result<(), Error> {
        if !self.geometry.has_blocks(start, len) {
            return Err(Error::Corrupt("blocks past the end"));
        }
        for piece in self.by_group(start, len) {
            let (group, first) = self.geometry.place_of_block(piece.start);
            let bits = self.block_bitmap(group)?;
            if !bitmap::all_set(&bits, first, piece.len) {
                return Err(Error::Corrupt("block freed twice"));
            }
            self.running.freed.push(Freed { start: piece.start, len: piece.len, is_metadata });
            self.running.freed_groups.insert(group);
            self.running.freed_blocks += u64::from(piece.len);
        }
        Ok(())
    }

    /// Clears the bits of freed blocks, as part of the commit.
    pub(crate) fn apply_freed(&mut self, freed: Freed) -> Result<(), Error> {
        let (group, first) = self.geometry.place_of_block(freed.start);
        let cleared = self.change_bits(group, |bits| bitmap::clear(bits, first, freed.len))?;
        self.modify_group(group, |group| {
            group.set_free_blocks(group.free_blocks() + cleared);
            group.block_hint = group.block_hint.min(first);
        });
        Ok(())
    }

    fn by_group(&self, mut start: u64, mut len: u32) -> alloc::vec::Vec<BlockRun> {
        let mut pieces = alloc::vec::Vec::with_capacity(1);
        while len > 0 {
            let (_, first) = self.geometry.place_of_block(start);
            let piece = len.min(self.geometry.blocks_per_group - first);
            pieces.push(BlockRun { start, len: piece });
            start += u64::from(piece);
            len -= piece;
        }
        pieces
    }

    /// Finds up to `want` free blocks: at the goal, else a run of that length nearby, else the longest seen,
    /// else any.
    fn find_free(&mut self, goal: u64, want: u32) -> Result<BlockRun, Error> {
        let goal = if goal < self.geometry.blocks { goal } else { self.geometry.first_data_block };
        let (goal_group, goal_bit) = self.geometry.place_of_block(goal);
        if let Some(run) = self.run_at(goal_group, goal_bit, want)? {
            return Ok(run);
        }
        let (mut best, mut looked_at): (Option<BlockRun>, u32) = (None, 0);
        for step in 0..self.geometry.groups {
            let group = (goal_group + step) % self.geometry.groups;
            if self.groups[group as usize].free_blocks() == 0 {
                continue;
            }
            let from = if step == 0 { goal_bit } else { self.groups[group as usize].block_hint };
            let found = self.search_group(group, from, want)?;
            best = longer(best, found);
            looked_at += 1;
            let is_enough = best.is_some_and(|run| run.len >= want || looked_at >= GROUPS_FOR_A_LONG_RUN);
            if is_enough {
                break;
            }
        }
        best.ok_or(Error::NoSpace)
    }

    /// The free blocks that begin exactly here.
    fn run_at(&mut self, group: u32, bit: u32, want: u32) -> Result<Option<BlockRun>, Error> {
        if self.groups[group as usize].free_blocks() == 0 {
            return Ok(None);
        }
        let bits = self.block_bitmap(group)?;
        let limit = self.geometry.group_blocks(group);
        let found = self.free_from(group, &bits, bit, limit, want);
        Ok(found.filter(|run| self.geometry.place_of_block(run.start).1 == bit))
    }

    /// The first run of `want` free blocks from `from` on, then from the group's start; else the longest.
    fn search_group(&mut self, group: u32, from: u32, want: u32) -> Result<Option<BlockRun>, Error> {
        let bits = self.block_bitmap(group)?;
        let limit = self.geometry.group_blocks(group);
        let mut best = None;
        for (mut at, end) in [(from, limit), (0, from.min(limit))] {
            while let Some(run) = self.free_from(group, &bits, at, end, want) {
                best = longer(best, Some(run));
                if run.len >= want {
                    return Ok(best);
                }
                at = self.geometry.place_of_block(run.start).1 + run.len;
            }
        }
        Ok(best)
    }

    /// The first run of free, unreserved blocks in `from..limit`, no longer than `want`.
    fn free_from(&self, group: u32, bits: &[u8], from: u32, limit: u32, want: u32) -> Option<BlockRun> {
        let group_start = self.geometry.group_start(group);
        let mut from = from;
        loop {
            let first = bitmap::next_clear(bits, from, limit)?;
            let start = group_start + u64::from(first);
            if let Some((reserved, len)) = self.reservation_at(start) {
                from = u32::try_from(reserved + u64::from(len) - group_start).unwrap_or(limit);
                continue;
            }
            let end = limit.min(first + want);
            let end = bitmap::next_set(bits, first, end).unwrap_or(end);
            let next_reserved = self.reservations.range(start..).next().map_or(u64::MAX, |next| *next.0);
            let len = u64::from(end - first).min(next_reserved - start) as u32;
            return Some(BlockRun { start, len });
        }
    }

    /// A group's block bitmap.
    pub(crate) fn block_bitmap(&mut self, group: u32) -> Result<Arc<[u8]>, Error> {
        let descriptor = self.groups[group as usize];
        let number = descriptor.block_bitmap();
        if let Some(block) = self.cache.get(number) {
            let is_right = block.seal == Seal::Plain;
            return if is_right { Ok(block.bytes.clone()) } else { Err(Error::Corrupt("block used twice")) };
        }
        if descriptor.flags().contains(GroupFlags::BLOCK_UNINIT) {
            let bytes: Arc<[u8]> = self.initial_block_bitmap(group).into();
            self.cache.insert(number, bytes.clone(), Seal::Plain);
            return Ok(bytes);
        }
        let bytes = self.block(number, Seal::Plain)?;
        let is_whole = self
            .block_bitmap_checksum(&bytes)
            .is_none_or(|sum| sum & self.bitmap_checksum_mask() == descriptor.block_bitmap_checksum());
        if !is_whole {
            self.cache.remove(number);
            return Err(Error::Corrupt("checksum of a block bitmap"));
        }
        Ok(bytes)
    }

    /// What a block bitmap says that was never written: only the group's own metadata is in use.
    fn initial_block_bitmap(&self, group: u32) -> alloc::vec::Vec<u8> {
        let mut bits = alloc::vec![0; self.geometry.block_bytes];
        let (start, len) = (self.geometry.group_start(group), self.geometry.group_blocks(group));
        bitmap::set(&mut bits, 0, self.geometry.head_blocks(group));
        let descriptor = &self.groups[group as usize];
        let own = [
            (descriptor.block_bitmap(), 1),
            (descriptor.inode_bitmap(), 1),
            (descriptor.inode_table(), self.geometry.table_blocks()),
        ];
        for (first, count) in own {
            for block in first..first.saturating_add(u64::from(count)) {
                if block >= start && block < start + u64::from(len) {
                    bitmap::set(&mut bits, (block - start) as u32, 1);
                }
            }
        }
        let all = self.geometry.block_bytes as u32 * 8;
        bitmap::set(&mut bits, len, all - len);
        bits
    }

    fn change_bits(&mut self, group: u32, change: impl FnOnce(&mut [u8]) -> u32) -> Result<u32, Error> {
        drop(self.block_bitmap(group)?);
        let number = self.groups[group as usize].block_bitmap();
        let changed = self.modify(number, Seal::Plain, change)?;
        self.modify_group(group, |group| {
            group.set_flags(group.flags().difference(GroupFlags::BLOCK_UNINIT));
            group.blocks_changed = true;
        });
        Ok(changed)
    }

    /// The checksum of a block bitmap, where there are checksums.
    pub(crate) fn block_bitmap_checksum(&self, bytes: &[u8]) -> Option<u32> {
        let used = self.geometry.blocks_per_group as usize / 8;
        self.geometry.checksum_seed.map(|seed| crc32c(seed, &bytes[..used]))
    }

    /// Small descriptors have room for half a bitmap's checksum.
    pub(crate) fn bitmap_checksum_mask(&self) -> u32 {
        if self.geometry.descriptor_bytes >= 64 { !0 } else { 0xffff }
    }
}

fn longer(one: Option<BlockRun>, other: Option<BlockRun>) -> Option<BlockRun> {
    match (one, other) {
        (Some(one), Some(other)) if other.len > one.len => Some(other),
        (None, other) => other,
        (one, _) => one,
    }
}
