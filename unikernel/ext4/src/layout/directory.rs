//! Directory blocks: names one after the other, and the index blocks of large directories.

use super::{le16, le32, put16, put32};
use crate::types::FileKind;

/// Bytes of an entry before its name.
pub(crate) const ENTRY_HEADER_BYTES: usize = 8;
/// The longest name.
pub(crate) const MAX_NAME_BYTES: usize = 255;
/// Bytes of the checksum at a leaf's end, dressed as an entry without inode.
pub(crate) const TAIL_BYTES: usize = 12;
/// The kind by which the tail is known.
const TAIL_KIND: u8 = 0xde;
/// Where the index's description begins in its root, after `.` and `..`.
pub(crate) const ROOT_INFO_AT: usize = 24;
/// Where the root's limit and count begin.
pub(crate) const ROOT_COUNT_AT: usize = 32;
/// Where another index node's limit and count begin, after an entry that spans the block.
pub(crate) const NODE_COUNT_AT: usize = 8;
/// Bytes of an index entry: hash and block.
pub(crate) const INDEX_ENTRY_BYTES: usize = 8;
/// Bytes of the checksum at an index node's end.
pub(crate) const INDEX_TAIL_BYTES: usize = 8;

/// The kinds by their number in an entry.
const KINDS: [(u8, FileKind); 7] = [
    (1, FileKind::File),
    (2, FileKind::Directory),
    (3, FileKind::CharacterDevice),
    (4, FileKind::BlockDevice),
    (5, FileKind::Fifo),
    (6, FileKind::Socket),
    (7, FileKind::Symlink),
];

/// A kind's number in an entry.
pub(crate) fn kind_number(kind: FileKind) -> u8 {
    KINDS.iter().find(|entry| entry.1 == kind).map_or(0, |entry| entry.0)
}

/// The kind that an entry tells.
pub(crate) fn kind_of(number: u8) -> Option<FileKind> {
    KINDS.iter().find(|entry| entry.0 == number).map(|entry| entry.1)
}

/// Bytes that an entry with a name of this length needs.
pub(crate) fn entry_bytes(name_bytes: usize) -> usize {
    (ENTRY_HEADER_BYTES + name_bytes).next_multiple_of(4)
}

/// An entry in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RawEntry<'a> {
    /// Where it begins in the block.
    pub at: usize,
    /// Bytes to the next one.
    pub len: usize,
    /// 0 where nothing is.
    pub inode: u32,
    pub name: &'a [u8],
    pub kind: u8,
}

/// Walks over a block's entries. The walk ends at the first that makes no sense, with `None` as the item's inside.
pub(crate) struct Entries<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    /// All entries of a leaf, free ones and the tail included.
    pub(crate) fn new(block: &'a [u8]) -> Self {
        Self { block, at: 0 }
    }
}

/// A record's length: 16 bits say 65536 as 0 or 65535 (`ext4_rec_len_from_disk`).
fn record_bytes(stored: u16) -> usize {
    match stored {
        0 | 0xffff => 65536,
        other => usize::from(other & 0xfffc) | usize::from(other & 3) << 16,
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Option<RawEntry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        if at >= self.block.len() {
            return None;
        }
        let header = self.block.get(at..at + ENTRY_HEADER_BYTES);
        let entry = header.and_then(|header| {
            let len = record_bytes(le16(header, 4));
            let name_len = usize::from(header[6]);
            let is_sound =
                len >= entry_bytes(name_len) && len.is_multiple_of(4) && at + len <= self.block.len();
            let name = self.block.get(at + ENTRY_HEADER_BYTES..at + ENTRY_HEADER_BYTES + name_len)?;
            is_sound.then_some(RawEntry { at, len, inode: le32(header, 0), name, kind: header[7] })
        });
        self.at = entry.map_or(self.block.len(), |entry| at + entry.len);
        Some(entry)
    }
}

/// Writes an entry at `at` that spans `len` bytes.
pub(crate) fn write_entry(block: &mut [u8], at: usize, len: usize, inode: u32, kind: u8, name: &[u8]) {
    put32(block, at, inode);
    set_entry_len(block, at, len);
    block[at + 6] = name.len() as u8;
    block[at + 7] = kind;
    block[at + ENTRY_HEADER_BYTES..at + ENTRY_HEADER_BYTES + name.len()].copy_from_slice(name);
}

/// Changes where the entry at `at` ends.
pub(crate) fn set_entry_len(block: &mut [u8], at: usize, len: usize) {
    // Only blocks of 64 KiB have entries that 16 bits cannot tell.
    put16(block, at + 4, if len >= 65536 { 0xffff } else { len as u16 });
}

/// Changes where the entry at `at` leads.
pub(crate) fn set_entry_target(block: &mut [u8], at: usize, inode: u32, kind: u8) {
    put32(block, at, inode);
    block[at + 7] = kind;
}

/// Writes the entry that holds the checksum.
pub(crate) fn write_tail(block: &mut [u8], checksum: u32) {
    let at = block.len() - TAIL_BYTES;
    write_entry(block, at, TAIL_BYTES, 0, TAIL_KIND, &[]);
    put32(block, at + 8, checksum);
}

/// The checksum in a leaf's tail, if it has one.
pub(crate) fn tail_checksum(block: &[u8]) -> Option<u32> {
    let at = block.len() - TAIL_BYTES;
    let is_tail = le32(block, at) == 0
        && usize::from(le16(block, at + 4)) == TAIL_BYTES
        && block[at + 6] == 0
        && block[at + 7] == TAIL_KIND;
    is_tail.then(|| le32(block, at + 8))
}
