//! Commit: the running transaction becomes durable as a whole.

use alloc::vec::Vec;

use hashbrown::HashSet;
use zerocopy::IntoBytes;

use super::Journal;
use super::checkpoint::NumberedBlock;
use crate::cache::Seal;
use crate::layout::journal::{
    COMMIT_CHECKSUM_AT, Commit, DESCRIPTOR, HEADER_BYTES, Header, JournalFeatures, MAGIC, REVOKE,
    REVOKE_HEADER_BYTES, RevokeHeader, Tag, Tag3, TagFlags,
};
use crate::layout::{high32, low32};
use crate::{BlockDevice, DeviceError, Error, Ext4, Timestamp};

/// Log blocks that are written at once.
const CHUNK_BLOCKS: usize = 128;

/// Writes blocks one after the other into the log, many at once.
struct LogWriter<'a, D> {
    device: &'a D,
    journal: &'a Journal,
    chunk: Vec<u8>,
    /// Where each block of the chunk goes, in bytes.
    places: Vec<u64>,
    head: u32,
    written: u32,
}

impl<'a, D: BlockDevice> LogWriter<'a, D> {
    fn new(device: &'a D, journal: &'a Journal) -> Self {
        Self { device, journal, chunk: Vec::new(), places: Vec::new(), head: journal.head, written: 0 }
    }

    /// Adds a block, which `fill` makes out of zeros.
    fn push(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<(), Error> {
        if self.places.len() == CHUNK_BLOCKS {
            self.flush_chunk()?;
        }
        let block_bytes = self.journal.block_bytes;
        self.places.push(self.journal.place(self.head)? * block_bytes as u64);
        let at = self.chunk.len();
        self.chunk.resize(at + block_bytes, 0);
        fill(&mut self.chunk[at..]);
        self.head = self.journal.after(self.head);
        self.written += 1;
        Ok(())
    }

    /// Writes what was collected: one write for each stretch that is contiguous on the disk.
    fn flush_chunk(&mut self) -> Result<(), DeviceError> {
        let block_bytes = self.journal.block_bytes;
        let mut writes: Vec<(u64, &[u8])> = Vec::new();
        let mut first = 0;
        for index in 1..=self.places.len() {
            let continues = self.places.get(index) == Some(&(self.places[index - 1] + block_bytes as u64));
            if !continues {
                writes.push((self.places[first], &self.chunk[first * block_bytes..index * block_bytes]));
                first = index;
            }
        }
        self.device.write(&writes)?;
        self.chunk.clear();
        self.places.clear();
        Ok(())
    }

    fn push_revokes(&mut self, revoked: &[u64]) -> Result<(), Error> {
        let journal = self.journal;
        let is_wide = journal.features.contains(JournalFeatures::BITS64);
        let record = if is_wide { 8 } else { 4 };
        let per_block = (journal.block_bytes - REVOKE_HEADER_BYTES - journal.tail_bytes()) / record;
        for numbers in revoked.chunks(per_block) {
            let bytes = REVOKE_HEADER_BYTES + numbers.len() * record;
            let header =
                RevokeHeader { header: Header::new(REVOKE, journal.sequence), bytes: (bytes as u32).into() };
            self.push(|block| {
                block[..REVOKE_HEADER_BYTES].copy_from_slice(header.as_bytes());
                for (slot, number) in block[REVOKE_HEADER_BYTES..].chunks_mut(record).zip(numbers) {
                    slot.copy_from_slice(&number.to_be_bytes()[8 - record..]);
                }
                seal_tail(journal, block);
            })?;
        }
        Ok(())
    }

    fn push_blocks(&mut self, blocks: &[NumberedBlock]) -> Result<(), Error> {
        let journal = self.journal;
        // One UUID follows the first tag.
        let room = journal.block_bytes - HEADER_BYTES - journal.tail_bytes() - 16;
        for group in blocks.chunks(room / journal.tag_bytes()) {
            self.push(|block| fill_descriptor(journal, block, group))?;
            for (_, bytes) in group {
                self.push(|block| {
                    block.copy_from_slice(bytes);
                    if is_escaped(bytes) {
                        block[..4].fill(0);
                    }
                })?;
            }
        }
        Ok(())
    }

    fn push_commit(&mut self, now: Timestamp) -> Result<(), Error> {
        let journal = self.journal;
        let commit = Commit::new(journal.sequence, now.seconds, now.nanoseconds);
        self.push(|block| {
            block[..size_of::<Commit>()].copy_from_slice(commit.as_bytes());
            if journal.has_checksums() {
                let checksum = journal.block_checksum(block, COMMIT_CHECKSUM_AT);
                block[COMMIT_CHECKSUM_AT..COMMIT_CHECKSUM_AT + 4].copy_from_slice(&checksum.to_be_bytes());
            }
        })
    }
}

/// A block that begins like one of the journal's own is stored with zeros there.
fn is_escaped(bytes: &[u8]) -> bool {
    bytes[..4] == MAGIC.to_be_bytes()
}

fn seal_tail(journal: &Journal, block: &mut [u8]) {
    if journal.has_checksums() {
        let at = block.len() - 4;
        let checksum = journal.block_checksum(block, at);
        block[at..].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Writes the list of what the next blocks of the log are.
fn fill_descriptor(journal: &Journal, block: &mut [u8], group: &[NumberedBlock]) {
    block[..HEADER_BYTES].copy_from_slice(Header::new(DESCRIPTOR, journal.sequence).as_bytes());
    let tag_bytes = journal.tag_bytes();
    let mut at = HEADER_BYTES;
    for (index, (number, bytes)) in group.iter().enumerate() {
        let mut flags = TagFlags::empty();
        flags.set(TagFlags::ESCAPE, is_escaped(bytes));
        flags.set(TagFlags::SAME_UUID, index > 0);
        flags.set(TagFlags::LAST, index + 1 == group.len());
        let checksum = if journal.has_checksums() {
            let mut seed = crate::checksum::crc32c(journal.seed, &journal.sequence.to_be_bytes());
            if is_escaped(bytes) {
                seed = crate::checksum::crc32c(seed, &[0; 4]);
                crate::checksum::crc32c(seed, &bytes[4..])
            } else {
                crate::checksum::crc32c(seed, bytes)
            }
        } else {
            0
        };
        write_tag(journal, &mut block[at..], *number, flags, checksum);
        at += tag_bytes;
        if index == 0 {
            block[at..at + 16].copy_from_slice(&journal.superblock.uuid);
            at += 16;
        }
    }
    seal_tail(journal, block);
}

fn write_tag(journal: &Journal, into: &mut [u8], number: u64, flags: TagFlags, checksum: u32) {
    if journal.features.contains(JournalFeatures::CHECKSUM_V3) {
        let tag = Tag3 {
            block_lo: low32(number).into(),
            flags: u32::from(flags.bits()).into(),
            block_hi: high32(number).into(),
            checksum: checksum.into(),
        };
        into[..16].copy_from_slice(tag.as_bytes());
    } else {
        let tag = Tag {
            block_lo: low32(number).into(),
            checksum: ((checksum & 0xffff) as u16).into(),
            flags: flags.bits().into(),
            block_hi: high32(number).into(),
        };
        let len = journal.tag_bytes().min(size_of::<Tag>());
        into[..len].copy_from_slice(&tag.as_bytes()[..len]);
    }
}

impl<D: BlockDevice> Ext4<D> {
    /// True if an operation was not committed yet.
    pub fn has_uncommitted(&self) -> bool {
        !self.running.is_empty()
    }

    /// Makes all operations so far durable, and all data that was written before. If that fails, nothing more
    /// can be changed: what the disk holds is not known any more.
    pub fn commit(&mut self, now: Timestamp) -> Result<(), Error> {
        if self.running.is_empty() {
            return Ok(());
        }
        self.check_writable()?;
        let outcome = self.commit_running(now);
        if outcome.is_err() {
            self.is_writable = false;
        }
        outcome
    }

    fn commit_running(&mut self, now: Timestamp) -> Result<(), Error> {
        self.begin_internal();
        let revoked = self.release_freed()?;
        self.write_groups()?;
        if self.running.is_superblock_dirty {
            self.update_superblock()?;
        }
        let blocks = self.changed_blocks();
        if self.journal.is_some() {
            self.write_log(&revoked, &blocks, now)?;
        } else {
            let writes: Vec<(u64, &[u8])> =
                blocks.iter().map(|(number, bytes)| (self.geometry.offset(*number), &bytes[..])).collect();
            self.device.write(&writes)?;
            self.device.flush()?;
        }
        self.mark_committed(&blocks);
        if self.is_checkpoint_due() { self.checkpoint() } else { Ok(()) }
    }

    /// Clears the bits of freed blocks. Returns those whose copies in the log must not be replayed.
    fn release_freed(&mut self) -> Result<Vec<u64>, Error> {
        let mut revoked = HashSet::new();
        for freed in core::mem::take(&mut self.running.freed) {
            self.apply_freed(freed)?;
            if !freed.is_metadata {
                continue;
            }
            for number in freed.start..freed.start + u64::from(freed.len) {
                if self.cache.remove(number).is_some_and(|block| block.is_logged) {
                    revoked.insert(number);
                }
            }
        }
        Ok(revoked.into_iter().collect())
    }

    /// Brings the changed descriptors into their blocks, with checksums.
    fn write_groups(&mut self) -> Result<(), Error> {
        for index in core::mem::take(&mut self.dirty_groups) {
            let group = self.groups[index as usize];
            if !group.is_dirty {
                continue;
            }
            let mut group = group;
            self.seal_bitmaps(index, &mut group)?;
            (group.is_dirty, group.blocks_changed, group.inodes_changed) = (false, false, false);
            let bytes = self.geometry.descriptor_bytes;
            let mut descriptor = alloc::vec![0; bytes.max(64)];
            group.raw().write(&mut descriptor);
            if let Some(checksum) = self.geometry.descriptor_checksum(index, &descriptor) {
                group.set_checksum(checksum);
            }
            let per_block = self.geometry.descriptors_per_block();
            let place = self.geometry.descriptor_block(index / per_block);
            let at = (index % per_block) as usize * bytes;
            self.modify(place, Seal::Plain, |block| group.raw().write(&mut block[at..at + bytes]))?;
            self.groups[index as usize] = group;
        }
        Ok(())
    }

    fn seal_bitmaps(&mut self, index: u32, group: &mut crate::layout::group::Group) -> Result<(), Error> {
        let mask = self.bitmap_checksum_mask();
        if group.blocks_changed {
            let bits = self.block_bitmap(index)?;
            if let Some(checksum) = self.block_bitmap_checksum(&bits) {
                group.set_block_bitmap_checksum(checksum & mask);
            }
        }
        if group.inodes_changed {
            let bits = self.inode_bitmap(index)?;
            if let Some(checksum) = self.inode_bitmap_checksum(&bits) {
                group.set_inode_bitmap_checksum(checksum & mask);
            }
        }
        Ok(())
    }

    /// The changed blocks with their checksums, in order.
    fn changed_blocks(&mut self) -> Vec<NumberedBlock> {
        let mut numbers = core::mem::take(&mut self.running.dirty);
        numbers.sort_unstable();
        numbers.dedup();
        let mut blocks = Vec::with_capacity(numbers.len());
        for number in numbers {
            self.cache.seal(number);
            if let Some(block) = self.cache.get(number).filter(|block| block.is_dirty) {
                blocks.push((number, block.bytes.clone()));
            }
        }
        blocks
    }

    fn write_log(&mut self, revoked: &[u64], blocks: &[NumberedBlock], now: Timestamp) -> Result<(), Error> {
        let Some(journal) = &self.journal else { return Ok(()) };
        // Tags, revoke records and the commit block come on top; a hundredth and a few are more than enough.
        let needed = blocks.len() + blocks.len() / 32 + revoked.len() / 64 + 8;
        if needed > (journal.capacity() - journal.used) as usize {
            return Err(Error::Corrupt("transaction larger than the journal"));
        }
        let mut log = LogWriter::new(&self.device, journal);
        log.push_revokes(revoked)?;
        log.push_blocks(blocks)?;
        log.flush_chunk()?;
        // Also makes the data durable that these blocks lead to.
        self.device.flush()?;
        log.push_commit(now)?;
        log.flush_chunk()?;
        self.device.flush()?;
        let (head, written) = (log.head, log.written);
        if let Some(journal) = &mut self.journal {
            journal.head = head;
            journal.used += written;
            journal.sequence = journal.sequence.wrapping_add(1);
        }
        Ok(())
    }

    fn mark_committed(&mut self, blocks: &[NumberedBlock]) {
        for (number, _) in blocks {
            let Some(block) = self.cache.get(*number) else { continue };
            block.is_dirty = false;
            if let Some(journal) = &mut self.journal
                && !block.is_logged
            {
                block.is_logged = true;
                journal.logged.push(*number);
            }
        }
        self.running.reset();
    }
}
