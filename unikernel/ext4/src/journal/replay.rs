//! Replay: reads the log from its start and puts what was committed into place.
//!
//! A transaction counts if its commit block is there, and then all of it does. One pass over the log collects
//! where the latest version of each block lies and which blocks were revoked; then each is written once.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;
use zerocopy::FromBytes;

use super::Journal;
use super::checkpoint::{NumberedBlock, write_sorted};
use crate::checksum::crc32_be;
use crate::device::read_to_parse;
use crate::layout::journal::{
    COMMIT, COMMIT_CHECKSUM_AT, COMPAT_CHECKSUM, DESCRIPTOR, HEADER_BYTES, Header, JournalFeatures, MAGIC,
    REVOKE, REVOKE_HEADER_BYTES, RevokeHeader, Tag, Tag3, TagFlags,
};
use crate::{BlockDevice, Error, Ext4};

/// Log blocks that are read at once.
const READ_BLOCKS: u32 = 64;
/// Blocks that are held before they are written to their places.
const WRITE_BLOCKS: usize = 256;

/// A block in the log.
#[derive(Clone, Copy)]
struct LogCopy {
    log_block: u32,
    sequence: u32,
    checksum: u32,
    is_escaped: bool,
}

/// What the committed transactions say.
#[derive(Default)]
struct Findings {
    latest: HashMap<u64, LogCopy>,
    revoked: HashMap<u64, u32>,
}

/// What one transaction says, before its commit block was seen.
#[derive(Default)]
struct Pending {
    copies: Vec<(u64, LogCopy)>,
    revoked: Vec<u64>,
    /// The checksum of old journals, over descriptors and copies.
    sum: u32,
}

/// Reads log blocks, some ahead.
struct LogReader<'a, D> {
    device: &'a D,
    journal: &'a Journal,
    bytes: Arc<[u8]>,
    first: u32,
    count: u32,
}

impl<D: BlockDevice> LogReader<'_, D> {
    fn read(&mut self, block: u32) -> Result<&[u8], Error> {
        let block_bytes = self.journal.block_bytes;
        if block < self.first || block >= self.first + self.count {
            let place = self.journal.place(block)?;
            let mut count = 1;
            while count < READ_BLOCKS
                && block + count < self.journal.end
                && self.journal.place(block + count)? == place + u64::from(count)
            {
                count += 1;
            }
            (self.first, self.count) = (block, 0);
            let len = count as usize * block_bytes;
            self.bytes = read_to_parse(self.device, place * block_bytes as u64, len)?;
            self.count = count;
        }
        let at = (block - self.first) as usize * block_bytes;
        Ok(&self.bytes[at..at + block_bytes])
    }
}

/// True if the sequence number `one` is not before `other`; they wrap.
fn is_at_or_after(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() >= 0
}

impl Journal {
    /// Reads a descriptor's tags: block number, flags, checksum.
    fn tags(&self, block: &[u8]) -> Vec<(u64, TagFlags, u32)> {
        let (mut at, mut tags) = (HEADER_BYTES, Vec::new());
        let end = block.len() - self.tail_bytes();
        while at + self.tag_bytes() <= end {
            let (number, flags, checksum) = self.tag(&block[at..]);
            tags.push((number, flags, checksum));
            at += self.tag_bytes();
            if !flags.contains(TagFlags::SAME_UUID) {
                at += 16;
            }
            if flags.contains(TagFlags::LAST) {
                break;
            }
        }
        tags
    }

    fn tag(&self, bytes: &[u8]) -> (u64, TagFlags, u32) {
        let is_wide = self.features.contains(JournalFeatures::BITS64);
        let join = |low: u32, high: u32| u64::from(low) | if is_wide { u64::from(high) << 32 } else { 0 };
        if self.features.contains(JournalFeatures::CHECKSUM_V3) {
            return Tag3::read_from_prefix(bytes).map_or((u64::MAX, TagFlags::LAST, 0), |(tag, _)| {
                let flags = TagFlags::from_bits_retain((tag.flags.get() & 0xffff) as u16);
                (join(tag.block_lo.get(), tag.block_hi.get()), flags, tag.checksum.get())
            });
        }
        // The last field may be missing, and then so may be the bytes.
        let mut whole = [0; size_of::<Tag>()];
        let len = whole.len().min(bytes.len());
        whole[..len].copy_from_slice(&bytes[..len]);
        let tag: Tag = zerocopy::transmute!(whole);
        let flags = TagFlags::from_bits_retain(tag.flags.get());
        (join(tag.block_lo.get(), tag.block_hi.get()), flags, u32::from(tag.checksum.get()))
    }

    /// Reads a revoke block's numbers.
    fn revoked(&self, block: &[u8]) -> Vec<u64> {
        let record = if self.features.contains(JournalFeatures::BITS64) { 8 } else { 4 };
        let bytes =
            RevokeHeader::read_from_prefix(block).map_or(0, |(header, _)| header.bytes.get() as usize);
        let end = bytes.min(block.len() - self.tail_bytes()).max(REVOKE_HEADER_BYTES);
        let numbers = block[REVOKE_HEADER_BYTES..end].chunks_exact(record);
        numbers.map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))).collect()
    }

    /// True if the checksum at a descriptor's or revoke block's end is right.
    fn has_whole_tail(&self, block: &[u8]) -> bool {
        !self.has_checksums() || self.is_checksum_right(block, block.len() - 4)
    }

    fn is_checksum_right(&self, block: &[u8], at: usize) -> bool {
        block[at..at + 4] == self.block_checksum(block, at).to_be_bytes()
    }

    /// True if a commit block is whole, and in old journals its transaction.
    fn is_commit_whole(&self, block: &[u8], sum: u32) -> bool {
        if self.has_checksums() {
            return self.is_checksum_right(block, COMMIT_CHECKSUM_AT);
        }
        let has_old_sum = self.superblock.feature_compat.get() & COMPAT_CHECKSUM != 0 && block[12] == 1;
        !has_old_sum || block[COMMIT_CHECKSUM_AT..COMMIT_CHECKSUM_AT + 4] == sum.to_be_bytes()
    }

    /// True if a copy is what its tag says.
    fn is_copy_whole(&self, copy: &LogCopy, bytes: &[u8]) -> bool {
        let sum = || self.tag_checksum(copy.sequence, bytes);
        if self.features.contains(JournalFeatures::CHECKSUM_V3) {
            sum() == copy.checksum
        } else if self.features.contains(JournalFeatures::CHECKSUM_V2) {
            sum() & 0xffff == copy.checksum
        } else {
            true
        }
    }
}

impl Findings {
    fn add(&mut self, pending: Pending, sequence: u32) {
        self.latest.extend(pending.copies);
        for number in pending.revoked {
            self.revoked.insert(number, sequence);
        }
    }

    /// What has to be written, in the log's order.
    fn copies(&self) -> Vec<(u64, LogCopy)> {
        let is_live = |number: &u64, copy: &LogCopy| {
            self.revoked.get(number).is_none_or(|revoked| !is_at_or_after(*revoked, copy.sequence))
        };
        let mut copies: Vec<(u64, LogCopy)> = self
            .latest
            .iter()
            .filter(|(number, copy)| is_live(number, copy))
            .map(|(number, copy)| (*number, *copy))
            .collect();
        copies.sort_unstable_by_key(|(_, copy)| copy.log_block);
        copies
    }
}

impl<D: BlockDevice> Ext4<D> {
    /// Puts what the log has committed into place and leaves it empty. Nothing of the filesystem may be cached.
    pub(crate) fn replay(&self, journal: &mut Journal) -> Result<(), Error> {
        let (findings, sequence) = self.scan_log(journal)?;
        let mut reader =
            LogReader { device: &self.device, journal, bytes: Arc::default(), first: 0, count: 0 };
        for batch in findings.copies().chunks(WRITE_BLOCKS) {
            let mut blocks: Vec<NumberedBlock> = Vec::with_capacity(batch.len());
            for (number, copy) in batch {
                let mut bytes = reader.read(copy.log_block)?.to_vec();
                if !journal.is_copy_whole(copy, &bytes) {
                    return Err(Error::Corrupt("checksum of a block in the journal"));
                }
                if copy.is_escaped {
                    bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
                }
                if *number >= self.geometry.blocks {
                    return Err(Error::Corrupt("block number in the journal"));
                }
                blocks.push((*number, bytes.into()));
            }
            blocks.sort_unstable_by_key(|block| block.0);
            write_sorted(&self.device, self.geometry.block_bytes, &blocks)?;
        }
        self.device.flush()?;
        // One number is left out: part of a transaction that was never committed may bear the next.
        journal.sequence = sequence.wrapping_add(1);
        Ok(())
    }

    /// Reads the log to the end of its last whole transaction. Returns also the number of the next.
    fn scan_log(&self, journal: &Journal) -> Result<(Findings, u32), Error> {
        let mut reader =
            LogReader { device: &self.device, journal, bytes: Arc::default(), first: 0, count: 0 };
        let (mut findings, mut pending) = (Findings::default(), Pending { sum: !0, ..Pending::default() });
        let (mut at, mut sequence) = (journal.superblock.start.get(), journal.superblock.sequence.get());
        let mut seen = 0;
        let keeps_old_sum = journal.superblock.feature_compat.get() & COMPAT_CHECKSUM != 0;
        while seen < journal.capacity() {
            let block = reader.read(at)?;
            let Some(header) = Header::read(block).filter(|header| header.sequence.get() == sequence) else {
                break;
            };
            (at, seen) = (journal.after(at), seen + 1);
            match header.block_type.get() {
                DESCRIPTOR if journal.has_whole_tail(block) => {
                    if keeps_old_sum {
                        pending.sum = crc32_be(pending.sum, block);
                    }
                    for (number, flags, checksum) in journal.tags(block) {
                        let is_escaped = flags.contains(TagFlags::ESCAPE);
                        pending
                            .copies
                            .push((number, LogCopy { log_block: at, sequence, checksum, is_escaped }));
                        if keeps_old_sum {
                            pending.sum = crc32_be(pending.sum, reader.read(at)?);
                        }
                        (at, seen) = (journal.after(at), seen + 1);
                        if seen > journal.capacity() {
                            return Ok((findings, sequence));
                        }
                    }
                }
                REVOKE if journal.has_whole_tail(block) => pending.revoked.extend(journal.revoked(block)),
                COMMIT if journal.is_commit_whole(block, pending.sum) => {
                    findings.add(core::mem::take(&mut pending), sequence);
                    pending.sum = !0;
                    sequence = sequence.wrapping_add(1);
                }
                _ => break,
            }
        }
        Ok((findings, sequence))
    }
}
