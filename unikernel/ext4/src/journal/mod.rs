//! The journal, JBD2's: a ring of blocks in a file of its own.
//!
//! A commit writes the changed blocks into the log, flushes, writes a commit block, flushes (`commit`). From
//! then on they are durable, though not at their places; a checkpoint brings them there, all at once, when half
//! the log is used. After a power cut the log is read from its start and what was committed is put into place
//! (`replay`).
//!
//! Why a checkpoint may write what is in the cache: it only runs right after a commit, when the cached version
//! of each logged block is the committed one.

mod checkpoint;
mod commit;
mod replay;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::offset_of;

use zerocopy::{FromZeros, IntoBytes};

use crate::checksum::crc32c;
use crate::device::read_to_parse;
use crate::features::Incompat;
use crate::inode::Inode;
use crate::layout::Superblock;
use crate::layout::journal::{
    CHECKSUM_CRC32C, COMPAT_CHECKSUM, JournalFeatures, JournalSuperblock, MAGIC, SUPERBLOCK_V2,
};
use crate::{BlockDevice, Error, Ext4, MountError};

/// The fewest blocks a journal may have (`JBD2_MIN_JOURNAL_BLOCKS`).
pub(crate) const MIN_JOURNAL_BLOCKS: u32 = 1024;
/// The most blocks that one transaction writes: the log's buffers are memory.
const MAX_TRANSACTION_BLOCKS: usize = 1024;

/// The journal of a mounted filesystem.
pub(crate) struct Journal {
    superblock: Box<JournalSuperblock>,
    features: JournalFeatures,
    seed: u32,
    block_bytes: usize,
    /// Where the log's blocks lie: first block in the journal, first on the disk, how many.
    map: Vec<(u32, u64, u32)>,
    /// The log is `first..end`.
    first: u32,
    end: u32,
    /// Where the next transaction begins.
    head: u32,
    /// Its number.
    sequence: u32,
    /// Log blocks between the oldest transaction and the head.
    used: u32,
    /// Blocks that were committed and are not yet at their places.
    logged: Vec<u64>,
}

impl Journal {
    /// Blocks that the log can hold.
    fn capacity(&self) -> u32 {
        self.end - self.first
    }

    /// Where a block of the journal lies on the disk.
    fn place(&self, block: u32) -> Result<u64, Error> {
        let after = self.map.partition_point(|run| run.0 <= block);
        let run = after.checked_sub(1).and_then(|index| self.map.get(index));
        let run = run.filter(|run| block - run.0 < run.2).ok_or(Error::Corrupt("hole in the journal"))?;
        Ok(run.1 + u64::from(block - run.0))
    }

    /// The block after `block` in the ring.
    fn after(&self, block: u32) -> u32 {
        if block + 1 == self.end { self.first } else { block + 1 }
    }

    fn has_checksums(&self) -> bool {
        self.features.intersects(JournalFeatures::CHECKSUM_V2 | JournalFeatures::CHECKSUM_V3)
    }

    /// Bytes of a tag (`journal_tag_bytes`).
    fn tag_bytes(&self) -> usize {
        if self.features.contains(JournalFeatures::CHECKSUM_V3) {
            return 16;
        }
        let v2 = if self.features.contains(JournalFeatures::CHECKSUM_V2) { 2 } else { 0 };
        let high = if self.features.contains(JournalFeatures::BITS64) { 4 } else { 0 };
        8 + v2 + high
    }

    /// Bytes of a checksum at the end of descriptor and revoke blocks.
    fn tail_bytes(&self) -> usize {
        if self.has_checksums() { 4 } else { 0 }
    }

    /// The checksum of a logged block.
    fn tag_checksum(&self, sequence: u32, bytes: &[u8]) -> u32 {
        crc32c(crc32c(self.seed, &sequence.to_be_bytes()), bytes)
    }

    /// The checksum of a block in which it stands at `at`.
    fn block_checksum(&self, bytes: &[u8], at: usize) -> u32 {
        crc32c(crc32c(crc32c(self.seed, &bytes[..at]), &[0; 4]), &bytes[at + 4..])
    }
}

/// The checksum of a journal's superblock; 0 where it has none.
pub(crate) fn checksum_of(superblock: &JournalSuperblock) -> u32 {
    if superblock.checksum_type != CHECKSUM_CRC32C {
        return 0;
    }
    let (at, bytes) = (offset_of!(JournalSuperblock, checksum), superblock.as_bytes());
    crc32c(crc32c(crc32c(!0, &bytes[..at]), &[0; 4]), &bytes[at + 4..])
}

impl<D: BlockDevice> Ext4<D> {
    /// The most blocks that the running transaction may change.
    pub(crate) fn max_transaction_blocks(&self) -> usize {
        let by_log = self.journal.as_ref().map_or(usize::MAX, |journal| journal.capacity() as usize / 4);
        by_log.min(MAX_TRANSACTION_BLOCKS).min(self.cache.limit() / 2)
    }

    /// Reads the journal's superblock and finds its blocks.
    pub(crate) fn open_journal(&mut self, number: u32) -> Result<Journal, MountError> {
        let inode = self.inode(number)?;
        if inode.kind()? != crate::FileKind::File {
            return Err(MountError::Corrupt("journal inode"));
        }
        let map = self.journal_map(&inode)?;
        let place = map.first().map(|run| run.1).ok_or(MountError::Corrupt("hole in the journal"))?;
        let bytes = read_to_parse(&self.device, self.geometry.offset(place), self.geometry.block_bytes)?;
        let mut superblock = JournalSuperblock::new_box_zeroed().map_err(|_| MountError::NoMemory)?;
        let whole = bytes.get(..size_of::<JournalSuperblock>());
        superblock.as_mut_bytes().copy_from_slice(whole.ok_or(MountError::Corrupt("journal superblock"))?);
        let journal = Journal {
            features: JournalFeatures::from_bits_retain(superblock.feature_incompat.get()),
            seed: crc32c(!0, &superblock.uuid),
            block_bytes: self.geometry.block_bytes,
            first: superblock.first.get(),
            end: superblock.blocks.get(),
            head: superblock.first.get(),
            sequence: superblock.sequence.get(),
            superblock,
            map,
            used: 0,
            logged: Vec::new(),
        };
        journal
            .check(u64::from(inode.raw.size() != 0) * inode.raw.size() / self.geometry.block_bytes as u64)?;
        Ok(journal)
    }

    fn journal_map(&mut self, inode: &Inode) -> Result<Vec<(u32, u64, u32)>, Error> {
        let blocks = inode.raw.size() / self.geometry.block_bytes as u64;
        let blocks = u32::try_from(blocks).map_err(|_| Error::Corrupt("journal size"))?;
        let (mut map, mut at) = (Vec::new(), 0);
        while at < blocks {
            let run = self.map_inode(inode, u64::from(at), blocks - at)?;
            let start = run.start.ok_or(Error::Corrupt("hole in the journal"))?;
            map.push((at, start, run.blocks));
            at += run.blocks;
        }
        Ok(map)
    }
}

impl Journal {
    /// Fails if the superblock makes no sense or asks for what is not known.
    fn check(&self, file_blocks: u64) -> Result<(), MountError> {
        let superblock = &self.superblock;
        let has_checksum = superblock.checksum_type == CHECKSUM_CRC32C && self.has_checksums();
        let is_whole = !has_checksum || checksum_of(superblock) == superblock.checksum.get();
        let is_sound = superblock.header.magic.get() == MAGIC
            && superblock.header.block_type.get() == SUPERBLOCK_V2
            && superblock.block_size.get() as usize == self.block_bytes
            && self.first >= 1
            && self.first < self.end
            && u64::from(self.end) <= file_blocks
            && self.end >= MIN_JOURNAL_BLOCKS
            && (superblock.start.get() == 0 || (self.first..self.end).contains(&superblock.start.get()));
        let known = JournalFeatures::REVOKE
            | JournalFeatures::BITS64
            | JournalFeatures::ASYNC_COMMIT
            | JournalFeatures::CHECKSUM_V2
            | JournalFeatures::CHECKSUM_V3;
        if self.features.contains(JournalFeatures::FAST_COMMIT) {
            return Err(MountError::UnknownFeature("fast_commit (journal)".into()));
        }
        if !known.contains(self.features) || superblock.feature_ro_compat.get() != 0 {
            return Err(MountError::UnknownFeature("unknown journal feature".into()));
        }
        if is_sound && is_whole { Ok(()) } else { Err(MountError::Corrupt("journal superblock")) }
    }

    /// Turns on what a filesystem of this kind has in its journal, as Linux does when it mounts one.
    fn adopt_features(&mut self, superblock: &Superblock, has_checksums: bool) {
        self.features -= JournalFeatures::CHECKSUM_V2 | JournalFeatures::CHECKSUM_V3;
        self.features |= JournalFeatures::REVOKE;
        if superblock.incompat().contains(Incompat::BITS64) {
            self.features |= JournalFeatures::BITS64;
        }
        let compat = self.superblock.feature_compat.get() & !COMPAT_CHECKSUM;
        self.superblock.checksum_type = 0;
        if has_checksums {
            self.features |= JournalFeatures::CHECKSUM_V3;
            self.superblock.checksum_type = CHECKSUM_CRC32C;
        }
        self.superblock.feature_compat = compat.into();
        self.superblock.feature_incompat = self.features.bits().into();
    }
}
