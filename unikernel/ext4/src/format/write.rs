//! Writing a new filesystem. The superblock comes last, after a flush: until then the device holds none.

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use super::plan::{FIRST_INODES, Plan};
use crate::bitmap;
use crate::cache::Seal;
use crate::extents::{empty_root, entry_at};
use crate::inode::{Inode, seal_inode};
use crate::layout::directory::{kind_number, set_entry_len, write_entry, write_tail};
use crate::layout::extent::Extent;
use crate::layout::group::GroupFlags;
use crate::layout::inode::{InodeFlags, RawInode, kind_bits};
use crate::layout::journal::{Header, JournalSuperblock, SUPERBLOCK_V2};
use crate::layout::superblock::{SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET};
use crate::layout::{le32, put16};
use crate::{BlockDevice, FileKind, FormatError, InodeNumber, Timestamp};

const JOURNAL_INODE: u32 = 8;
const LOST_FOUND_INODE: u32 = 11;

/// Writes everything that the plan says.
pub(super) fn write<D: BlockDevice>(device: &D, plan: &Plan, now: Timestamp) -> Result<(), FormatError> {
    // An old superblock must not lead into half a new filesystem.
    device.write(&[(SUPERBLOCK_OFFSET, &[0; SUPERBLOCK_BYTES])])?;
    device.flush()?;
    let writer = Writer { device, plan, now };
    writer.write_journal()?;
    writer.write_directories()?;
    let journal = writer.write_inodes()?;
    let descriptors = writer.write_bitmaps()?;
    writer.write_heads(&descriptors, &journal)
}

struct Writer<'a, D> {
    device: &'a D,
    plan: &'a Plan,
    now: Timestamp,
}

impl<D: BlockDevice> Writer<'_, D> {
    fn put(&self, block: u64, bytes: &[u8]) -> Result<(), FormatError> {
        Ok(self.device.write(&[(self.plan.geometry.offset(block), bytes)])?)
    }

    fn block(&self) -> Vec<u8> {
        alloc::vec![0; self.plan.geometry.block_bytes]
    }

    /// Zeroes the journal, for an older one may have left blocks there, and writes its superblock.
    fn write_journal(&self) -> Result<(), FormatError> {
        let block_bytes = self.plan.geometry.block_bytes;
        for (start, len) in &self.plan.journal {
            self.device.zero(self.plan.geometry.offset(*start), u64::from(*len) * block_bytes as u64)?;
        }
        let blocks: u32 = self.plan.journal.iter().map(|piece| piece.1).sum();
        let mut block = self.block();
        let mut superblock = JournalSuperblock::zeroed();
        superblock.header = Header::new(SUPERBLOCK_V2, 0);
        superblock.block_size = (block_bytes as u32).into();
        superblock.blocks = blocks.into();
        superblock.first = 1.into();
        superblock.sequence = 1.into();
        superblock.uuid = self.plan.geometry.uuid;
        superblock.users_count = 1.into();
        block[..SUPERBLOCK_BYTES].copy_from_slice(superblock.as_bytes());
        self.put(self.plan.journal[0].0, &block)
    }

    /// A leaf with `.` and `..`, or with nothing.
    fn leaf(&self, number: u32, names: Option<InodeNumber>) -> Vec<u8> {
        let mut leaf = self.block();
        let usable = leaf.len() - crate::layout::directory::TAIL_BYTES;
        set_entry_len(&mut leaf, 0, usable);
        let kind = kind_number(FileKind::Directory);
        if let Some(parent) = names {
            write_entry(&mut leaf, 0, 12, number, kind, b".");
            write_entry(&mut leaf, 12, usable - 12, parent.0, kind, b"..");
        }
        write_tail(&mut leaf, 0);
        Seal::Leaf(self.plan.geometry.inode_seed(number, 0)).apply(&mut leaf);
        leaf
    }

    fn write_directories(&self) -> Result<(), FormatError> {
        let root = InodeNumber::ROOT;
        let mut leaf = self.leaf(root.0, Some(root));
        let kind = kind_number(FileKind::Directory);
        let usable = leaf.len() - crate::layout::directory::TAIL_BYTES;
        set_entry_len(&mut leaf, 12, 12);
        write_entry(&mut leaf, 24, usable - 24, LOST_FOUND_INODE, kind, b"lost+found");
        Seal::Leaf(self.plan.geometry.inode_seed(root.0, 0)).apply(&mut leaf);
        self.put(self.plan.root_block, &leaf)?;
        let (start, len) = self.plan.lost_found;
        for index in 0..u64::from(len) {
            let leaf = self.leaf(LOST_FOUND_INODE, (index == 0).then_some(root));
            self.put(start + index, &leaf)?;
        }
        Ok(())
    }

    fn inode(&self, number: u32, mode: u16, links: u16, pieces: &[(u64, u32)]) -> Inode {
        let mut raw = RawInode::zeroed();
        raw.mode = mode.into();
        raw.links = links.into();
        raw.extra_size = self.plan.geometry.extra_inode_bytes.into();
        raw.set_accessed(self.now);
        raw.set_modified(self.now);
        raw.set_changed(self.now);
        raw.set_born(self.now);
        raw.set_flags(InodeFlags::EXTENTS);
        raw.block = empty_root();
        put16(&mut raw.block, 2, pieces.len() as u16);
        let mut file_block = 0;
        for (index, (start, len)) in pieces.iter().enumerate() {
            let extent = Extent { file_block, start: *start, len: *len, is_unwritten: false };
            extent.write(&mut raw.block[entry_at(index)..]);
            file_block += len;
        }
        let block_bytes = self.plan.geometry.block_bytes as u64;
        raw.set_size(u64::from(file_block) * block_bytes);
        raw.set_stored_blocks(u64::from(file_block) * (block_bytes / 512));
        Inode { number, raw }
    }

    /// Writes the first inodes. Returns the journal's.
    fn write_inodes(&self) -> Result<Inode, FormatError> {
        let directory = kind_bits(FileKind::Directory);
        let journal = self.inode(JOURNAL_INODE, kind_bits(FileKind::File) | 0o600, 1, &self.plan.journal);
        let inodes = [
            self.inode(InodeNumber::ROOT.0, directory | 0o755, 3, &[(self.plan.root_block, 1)]),
            self.inode(LOST_FOUND_INODE, directory | 0o700, 2, &[self.plan.lost_found]),
        ];
        let inode_bytes = self.plan.geometry.inode_bytes;
        let blocks = (FIRST_INODES as usize * inode_bytes).div_ceil(self.plan.geometry.block_bytes);
        let mut table = alloc::vec![0; blocks * self.plan.geometry.block_bytes];
        for inode in inodes.iter().chain([&journal]) {
            let at = (inode.number as usize - 1) * inode_bytes;
            seal_inode(&self.plan.geometry, inode, &mut table[at..at + inode_bytes]);
        }
        self.put(self.plan.groups[0].inode_table(), &table)?;
        Ok(journal)
    }

    /// Writes the bitmaps that are not left uninitialised. Returns all descriptors, in blocks.
    fn write_bitmaps(&self) -> Result<Vec<u8>, FormatError> {
        let geometry = &self.plan.geometry;
        let seed = geometry.checksum_seed.unwrap_or(0);
        let bits_in_block = geometry.block_bytes as u32 * 8;
        let mut descriptors = alloc::vec![0; geometry.descriptor_blocks() as usize * geometry.block_bytes];
        for (index, group) in self.plan.groups.iter().enumerate() {
            let (mut group, index) = (*group, index as u32);
            if !group.flags().contains(GroupFlags::BLOCK_UNINIT) {
                let mut bits = self.block();
                for (from, len) in self.plan.used_in_group(index) {
                    bitmap::set(&mut bits, from, len);
                }
                let len = geometry.group_blocks(index);
                bitmap::set(&mut bits, len, bits_in_block - len);
                let used = geometry.blocks_per_group as usize / 8;
                group.set_block_bitmap_checksum(crate::checksum::crc32c(seed, &bits[..used]));
                self.put(group.block_bitmap(), &bits)?;
            }
            if !group.flags().contains(GroupFlags::INODE_UNINIT) {
                let mut bits = self.block();
                bitmap::set(&mut bits, 0, FIRST_INODES);
                let len = geometry.inodes_per_group;
                bitmap::set(&mut bits, len, bits_in_block - len);
                group.set_inode_bitmap_checksum(crate::checksum::crc32c(seed, &bits[..len as usize / 8]));
                self.put(group.inode_bitmap(), &bits)?;
            }
            let at = index as usize * geometry.descriptor_bytes;
            let bytes = &mut descriptors[at..at + geometry.descriptor_bytes];
            group.raw().write(bytes);
            if let Some(checksum) = geometry.descriptor_checksum(index, bytes) {
                group.set_checksum(checksum);
                group.raw().write(bytes);
            }
        }
        Ok(descriptors)
    }

    /// Writes the superblock and the descriptors, and their copies.
    fn write_heads(&self, descriptors: &[u8], journal: &Inode) -> Result<(), FormatError> {
        let geometry = &self.plan.geometry;
        // Not on the stack, where a device may not reach it.
        let mut superblock = alloc::boxed::Box::new(self.plan.superblock.clone());
        for (index, word) in superblock.journal_blocks.iter_mut().take(15).enumerate() {
            *word = le32(&journal.raw.block, index * 4).into();
        }
        superblock.journal_blocks[15] = crate::layout::high32(journal.raw.size()).into();
        superblock.journal_blocks[16] = crate::layout::low32(journal.raw.size()).into();
        superblock.journal_backup_type = 1;
        for group in (1..geometry.groups).filter(|group| geometry.has_superblock(*group)) {
            let start = geometry.group_start(group);
            superblock.block_group = ((group & 0xffff) as u16).into();
            superblock.checksum = superblock.computed_checksum().into();
            self.device.write(&[(geometry.offset(start), superblock.as_bytes())])?;
            self.put(start + 1, descriptors)?;
        }
        self.put(geometry.first_data_block + 1, descriptors)?;
        self.device.flush()?;
        superblock.block_group = 0.into();
        superblock.checksum = superblock.computed_checksum().into();
        self.device.write(&[(SUPERBLOCK_OFFSET, superblock.as_bytes())])?;
        Ok(self.device.flush()?)
    }
}
