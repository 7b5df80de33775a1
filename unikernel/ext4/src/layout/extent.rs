//! Extents: a B-tree whose root lies in the inode and whose other nodes are blocks.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The number at the start of each node.
pub(crate) const MAGIC: u16 = 0xf30a;
/// Bytes of a node's header, of an extent and of an index entry.
pub(crate) const RECORD_BYTES: usize = 12;
/// The tree's greatest depth, which 32-bit file blocks cannot exceed.
pub(crate) const MAX_DEPTH: u16 = 5;
/// The longest extent of written blocks.
pub(crate) const MAX_WRITTEN: u32 = 32768;
/// The longest extent of unwritten blocks.
pub(crate) const MAX_UNWRITTEN: u32 = 32767;

/// `struct ext4_extent_header`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub magic: U16,
    pub entries: U16,
    pub max: U16,
    pub depth: U16,
    pub generation: U32,
}

impl Header {
    pub(crate) fn new(max: u16, depth: u16) -> Self {
        Self {
            magic: MAGIC.into(),
            entries: 0.into(),
            max: max.into(),
            depth: depth.into(),
            generation: 0.into(),
        }
    }
}

/// `struct ext4_extent` and `struct ext4_extent_idx`: both have the file block first.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawExtent {
    file_block: U32,
    len: U16,
    start_hi: U16,
    start_lo: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawIndex {
    file_block: U32,
    child_lo: U32,
    child_hi: U16,
    unused: U16,
}

/// Blocks of a file that lie together on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    /// The first block in the file.
    pub file_block: u32,
    /// The first block on the disk.
    pub start: u64,
    /// How many; at least 1.
    pub len: u32,
    /// True if they were never written and read as zeros.
    pub is_unwritten: bool,
}

impl Extent {
    /// The file's first block after this extent. Extents are checked to end within 32 bits when read.
    pub(crate) fn end(&self) -> u32 {
        self.file_block + self.len
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (raw, _) = RawExtent::read_from_prefix(bytes).ok()?;
        let len = u32::from(raw.len.get());
        let is_unwritten = len > MAX_WRITTEN;
        let len = if is_unwritten { len - MAX_WRITTEN } else { len };
        let file_block = raw.file_block.get();
        let is_sound = len != 0 && file_block.checked_add(len).is_some();
        let start = u64::from(raw.start_lo.get()) | u64::from(raw.start_hi.get()) << 32;
        is_sound.then_some(Self { file_block, start, len, is_unwritten })
    }

    pub(crate) fn write(&self, bytes: &mut [u8]) {
        let len = if self.is_unwritten { self.len + MAX_WRITTEN } else { self.len };
        let raw = RawExtent {
            file_block: self.file_block.into(),
            len: (len as u16).into(),
            start_hi: ((self.start >> 32) as u16).into(),
            start_lo: super::low32(self.start).into(),
        };
        bytes[..RECORD_BYTES].copy_from_slice(raw.as_bytes());
    }

    /// The longest extent of this kind.
    pub(crate) fn max_len(is_unwritten: bool) -> u32 {
        if is_unwritten { MAX_UNWRITTEN } else { MAX_WRITTEN }
    }
}

/// Which node holds the extents from a file block on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Index {
    /// The first file block below that node.
    pub file_block: u32,
    /// Where the node lies.
    pub child: u64,
}

impl Index {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (raw, _) = RawIndex::read_from_prefix(bytes).ok()?;
        let child = u64::from(raw.child_lo.get()) | u64::from(raw.child_hi.get()) << 32;
        Some(Self { file_block: raw.file_block.get(), child })
    }

    pub(crate) fn write(&self, bytes: &mut [u8]) {
        let raw = RawIndex {
            file_block: self.file_block.into(),
            child_lo: super::low32(self.child).into(),
            child_hi: ((self.child >> 32) as u16).into(),
            unused: 0.into(),
        };
        bytes[..RECORD_BYTES].copy_from_slice(raw.as_bytes());
    }
}
