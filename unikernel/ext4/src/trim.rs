//! Telling the disk which blocks are free, so that what is behind it can be used for something else (fstrim(8)).

use alloc::vec::Vec;

use crate::blocks::BlockRun;
use crate::{BlockDevice, Error, Ext4, Timestamp, bitmap};

impl<D: BlockDevice> Ext4<D> {
    /// Discards the free runs of at least `min_blocks` blocks that begin in `blocks`; returns how many blocks these
    /// were. What is uncommitted is committed first: until then a freed block is still its old owner's.
    pub fn trim(
        &mut self,
        blocks: core::ops::Range<u64>,
        min_blocks: u32,
        now: Timestamp,
    ) -> Result<u64, Error> {
        self.check_writable()?;
        self.commit(now)?;
        let block_bytes = self.geometry.block_bytes as u64;
        let mut trimmed = 0;
        for group in 0..self.geometry.groups {
            let free = self.free_runs(group)?;
            for run in free.iter().filter(|run| run.len >= min_blocks.max(1) && blocks.contains(&run.start)) {
                self.device.discard(run.start * block_bytes, u64::from(run.len) * block_bytes)?;
                trimmed += u64::from(run.len);
            }
        }
        Ok(trimmed)
    }

    /// The runs of a group that nobody has, and nobody has set aside.
    fn free_runs(&mut self, group: u32) -> Result<Vec<BlockRun>, Error> {
        let bits = self.block_bitmap(group)?;
        let (start, limit) = (self.geometry.group_start(group), self.geometry.group_blocks(group));
        let (mut runs, mut at) = (Vec::new(), 0);
        while let Some(first) = bitmap::next_clear(&bits, at, limit) {
            let end = bitmap::next_set(&bits, first, limit).unwrap_or(limit);
            self.push_unreserved(&mut runs, start + u64::from(first), start + u64::from(end));
            at = end;
        }
        Ok(runs)
    }

    fn push_unreserved(&self, runs: &mut Vec<BlockRun>, first: u64, end: u64) {
        let mut at = first;
        while at < end {
            if let Some((start, len)) = self.reservation_at(at) {
                at = start + u64::from(len);
                continue;
            }
            let next = self.reservations.range(at..end).next().map_or(end, |(start, _)| *start);
            runs.push(BlockRun { start: at, len: (next - at) as u32 });
            at = next;
        }
    }
}
