//! What lies on the disk, byte for byte. Sources: `Documentation/filesystems/ext4/` of Linux, `ext2_fs.h`
//! and `jbd2.h` of e2fsprogs.

pub(crate) mod directory;
pub(crate) mod extent;
pub(crate) mod group;
pub(crate) mod inode;
pub(crate) mod journal;
pub(crate) mod superblock;
pub(crate) mod xattr;

pub(crate) use group::GroupDescriptor;
pub(crate) use superblock::Superblock;

/// Reads two bytes, least significant first. Past the end reads as 0.
pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// Reads four bytes, least significant first. Past the end reads as 0.
pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Writes two bytes, least significant first.
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Writes four bytes, least significant first.
pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The low half of a number that is stored in two.
pub(crate) fn low32(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// The high half of a number that is stored in two.
pub(crate) fn high32(value: u64) -> u32 {
    (value >> 32) as u32
}
