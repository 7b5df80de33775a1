//! Checkpoint: brings what was committed to its place and empties the log.

use alloc::sync::Arc;
use alloc::vec::Vec;

use zerocopy::IntoBytes;

use super::{Journal, checksum_of};
use crate::{BlockDevice, DeviceError, Error, Ext4};

/// Blocks that are handed to the device at once.
const BATCH_BLOCKS: usize = 256;

/// A block with its number.
pub(super) type NumberedBlock = (u64, Arc<[u8]>);

/// Writes blocks, which are in order, and neighbours together.
pub(super) fn write_sorted<D: BlockDevice>(
    device: &D,
    block_bytes: usize,
    blocks: &[NumberedBlock],
) -> Result<(), DeviceError> {
    for batch in blocks.chunks(BATCH_BLOCKS) {
        let stretches: Vec<&[NumberedBlock]> = batch.chunk_by(|one, next| one.0 + 1 == next.0).collect();
        let joined: Vec<Vec<u8>> = stretches
            .iter()
            .map(|stretch| {
                let parts: Vec<&[u8]> = stretch.iter().map(|(_, bytes)| &bytes[..]).collect();
                parts.concat()
            })
            .collect();
        let writes: Vec<(u64, &[u8])> = stretches
            .iter()
            .zip(&joined)
            .map(|(stretch, bytes)| (stretch[0].0 * block_bytes as u64, &bytes[..]))
            .collect();
        device.write(&writes)?;
    }
    Ok(())
}

impl<D: BlockDevice> Ext4<D> {
    /// True if half the log is used, or more blocks wait in the cache than it is meant to hold.
    pub(super) fn is_checkpoint_due(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| {
            journal.used > journal.capacity() / 2 || journal.logged.len() > self.cache.limit() / 2
        })
    }

    /// Brings all committed blocks to their places and empties the log. Nothing may be uncommitted.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if journal.used == 0 {
            return Ok(());
        }
        let mut numbers = core::mem::take(&mut journal.logged);
        numbers.sort_unstable();
        let mut blocks = Vec::with_capacity(numbers.len());
        for number in numbers {
            // What was freed meanwhile is not there any more, and what came back may be listed twice.
            if let Some(block) = self.cache.get(number).filter(|block| block.is_logged) {
                block.is_logged = false;
                blocks.push((number, block.bytes.clone()));
            }
        }
        write_sorted(&self.device, self.geometry.block_bytes, &blocks)?;
        self.device.flush()?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.used = 0;
        let start = journal.head;
        self.write_journal_superblock(start)
    }

    /// Says durably that the log begins at `start`, or is empty if that is 0.
    pub(crate) fn write_journal_superblock(&mut self, start: u32) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.superblock.start = start.into();
        journal.superblock.sequence = journal.sequence.into();
        let place = journal.place(0)? * journal.block_bytes as u64;
        journal.superblock.checksum = checksum_of(&journal.superblock).into();
        self.device.write(&[(place, journal.superblock.as_bytes())])?;
        self.device.flush()?;
        Ok(())
    }

    /// Begins to use an empty log.
    pub(crate) fn start_journal(&mut self) -> Result<(), Error> {
        let has_checksums = self.geometry.checksum_seed.is_some();
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.adopt_features(&self.superblock, has_checksums);
        journal.used = 0;
        let start = journal.head;
        self.write_journal_superblock(start)
    }

    /// Says durably that the log is empty and nobody uses it.
    pub(crate) fn stop_journal(&mut self) -> Result<(), Error> {
        self.write_journal_superblock(0)
    }
}

impl Journal {
    /// True if there may be something to replay.
    pub(crate) fn needs_replay(&self) -> bool {
        self.superblock.start.get() != 0
    }
}
