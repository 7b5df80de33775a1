//! Extended attributes: in the inode's tail and in one block.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The number at the start of both places.
pub(crate) const MAGIC: u32 = 0xea02_0000;
/// Bytes of the block's header.
pub(crate) const BLOCK_HEADER_BYTES: usize = 32;
/// Bytes of the inode's header: the magic number.
pub(crate) const BODY_HEADER_BYTES: usize = 4;
/// Where the block's checksum stands.
pub(crate) const CHECKSUM_AT: usize = 16;
/// Bytes of an entry before its name.
pub(crate) const ENTRY_BYTES: usize = 16;

/// `struct ext4_xattr_header`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct BlockHeader {
    pub magic: U32,
    /// Inodes that share the block.
    pub users: U32,
    pub blocks: U32,
    pub hash: U32,
    pub checksum: U32,
    pub reserved: [U32; 3],
}

/// `struct ext4_xattr_entry`; the name follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Entry {
    pub name_len: u8,
    /// Which prefix the name has.
    pub name_index: u8,
    /// Where the value lies, from the block's start or from the first entry in an inode.
    pub value_at: U16,
    pub value_inode: U32,
    pub value_len: U32,
    pub hash: U32,
}
