//! A block group's descriptor, and what is in memory of it.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{high32, low32};

bitflags::bitflags! {
    /// What of a group was never written.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct GroupFlags: u16 {
        /// The inode bitmap is not initialised: no inode is in use.
        const INODE_UNINIT = 1;
        /// The block bitmap is not initialised: only metadata is in use.
        const BLOCK_UNINIT = 2;
        /// The inode table holds no garbage.
        const ITABLE_ZEROED = 4;
        const _ = !0;
    }
}

/// `struct ext4_group_desc` in its 64-byte form; the second half is zero where descriptors have 32 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct GroupDescriptor {
    block_bitmap_lo: U32,
    inode_bitmap_lo: U32,
    inode_table_lo: U32,
    free_blocks_lo: U16,
    free_inodes_lo: U16,
    used_directories_lo: U16,
    flags: U16,
    exclude_bitmap_lo: U32,
    block_bitmap_checksum_lo: U16,
    inode_bitmap_checksum_lo: U16,
    unused_inodes_lo: U16,
    pub checksum: U16,
    block_bitmap_hi: U32,
    inode_bitmap_hi: U32,
    inode_table_hi: U32,
    free_blocks_hi: U16,
    free_inodes_hi: U16,
    used_directories_hi: U16,
    unused_inodes_hi: U16,
    exclude_bitmap_hi: U32,
    block_bitmap_checksum_hi: U16,
    inode_bitmap_checksum_hi: U16,
    reserved: U32,
}

/// Where the checksum stands in a descriptor.
pub(crate) const CHECKSUM_AT: usize = 0x1e;

const _: () = assert!(size_of::<GroupDescriptor>() == 64);

fn join16(lo: U16, hi: U16) -> u32 {
    u32::from(lo.get()) | u32::from(hi.get()) << 16
}

fn join32(lo: U32, hi: U32) -> u64 {
    u64::from(lo.get()) | u64::from(hi.get()) << 32
}

fn split16(value: u32) -> (U16, U16) {
    (((value & 0xffff) as u16).into(), ((value >> 16) as u16).into())
}

impl GroupDescriptor {
    /// Reads the first 32 or 64 bytes.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut descriptor = Self::new_zeroed();
        let len = bytes.len().min(64);
        descriptor.as_mut_bytes()[..len].copy_from_slice(&bytes[..len]);
        descriptor
    }

    /// Writes as much as fits: 32 or 64 bytes.
    pub(crate) fn write(&self, bytes: &mut [u8]) {
        let len = bytes.len().min(64);
        bytes[..len].copy_from_slice(&self.as_bytes()[..len]);
    }
}

/// A block group in memory.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    raw: GroupDescriptor,
    /// Where the search for a free block begins, in blocks from the group's start.
    pub block_hint: u32,
    /// No inode before this one is free, counted from the group's first.
    pub inode_hint: u32,
    /// The descriptor must go to disk.
    pub is_dirty: bool,
    /// The block bitmap's checksum must be computed anew.
    pub blocks_changed: bool,
    /// The inode bitmap's checksum must be computed anew.
    pub inodes_changed: bool,
}

impl Group {
    pub(crate) fn new(raw: GroupDescriptor) -> Self {
        Self {
            raw,
            block_hint: 0,
            inode_hint: 0,
            is_dirty: false,
            blocks_changed: false,
            inodes_changed: false,
        }
    }

    pub(crate) fn raw(&self) -> &GroupDescriptor {
        &self.raw
    }

    pub(crate) fn block_bitmap(&self) -> u64 {
        join32(self.raw.block_bitmap_lo, self.raw.block_bitmap_hi)
    }

    pub(crate) fn inode_bitmap(&self) -> u64 {
        join32(self.raw.inode_bitmap_lo, self.raw.inode_bitmap_hi)
    }

    pub(crate) fn inode_table(&self) -> u64 {
        join32(self.raw.inode_table_lo, self.raw.inode_table_hi)
    }

    pub(crate) fn set_places(&mut self, block_bitmap: u64, inode_bitmap: u64, inode_table: u64) {
        (self.raw.block_bitmap_lo, self.raw.block_bitmap_hi) =
            (low32(block_bitmap).into(), high32(block_bitmap).into());
        (self.raw.inode_bitmap_lo, self.raw.inode_bitmap_hi) =
            (low32(inode_bitmap).into(), high32(inode_bitmap).into());
        (self.raw.inode_table_lo, self.raw.inode_table_hi) =
            (low32(inode_table).into(), high32(inode_table).into());
    }

    pub(crate) fn free_blocks(&self) -> u32 {
        join16(self.raw.free_blocks_lo, self.raw.free_blocks_hi)
    }

    pub(crate) fn set_free_blocks(&mut self, count: u32) {
        (self.raw.free_blocks_lo, self.raw.free_blocks_hi) = split16(count);
    }

    pub(crate) fn free_inodes(&self) -> u32 {
        join16(self.raw.free_inodes_lo, self.raw.free_inodes_hi)
    }

    pub(crate) fn set_free_inodes(&mut self, count: u32) {
        (self.raw.free_inodes_lo, self.raw.free_inodes_hi) = split16(count);
    }

    pub(crate) fn used_directories(&self) -> u32 {
        join16(self.raw.used_directories_lo, self.raw.used_directories_hi)
    }

    pub(crate) fn set_used_directories(&mut self, count: u32) {
        (self.raw.used_directories_lo, self.raw.used_directories_hi) = split16(count);
    }

    /// Inodes at the table's end that were never used.
    pub(crate) fn unused_inodes(&self) -> u32 {
        join16(self.raw.unused_inodes_lo, self.raw.unused_inodes_hi)
    }

    pub(crate) fn set_unused_inodes(&mut self, count: u32) {
        (self.raw.unused_inodes_lo, self.raw.unused_inodes_hi) = split16(count);
    }

    pub(crate) fn flags(&self) -> GroupFlags {
        GroupFlags::from_bits_retain(self.raw.flags.get())
    }

    pub(crate) fn set_flags(&mut self, flags: GroupFlags) {
        self.raw.flags = flags.bits().into();
    }

    pub(crate) fn block_bitmap_checksum(&self) -> u32 {
        join16(self.raw.block_bitmap_checksum_lo, self.raw.block_bitmap_checksum_hi)
    }

    pub(crate) fn set_block_bitmap_checksum(&mut self, checksum: u32) {
        (self.raw.block_bitmap_checksum_lo, self.raw.block_bitmap_checksum_hi) = split16(checksum);
    }

    pub(crate) fn inode_bitmap_checksum(&self) -> u32 {
        join16(self.raw.inode_bitmap_checksum_lo, self.raw.inode_bitmap_checksum_hi)
    }

    pub(crate) fn set_inode_bitmap_checksum(&mut self, checksum: u32) {
        (self.raw.inode_bitmap_checksum_lo, self.raw.inode_bitmap_checksum_hi) = split16(checksum);
    }

    pub(crate) fn set_checksum(&mut self, checksum: u16) {
        self.raw.checksum = checksum.into();
    }
}
