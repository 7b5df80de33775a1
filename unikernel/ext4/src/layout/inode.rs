//! An inode: 128 bytes of old, and a larger part whose length it states itself.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::types::{FileKind, Timestamp};

/// The part that every inode has.
pub(crate) const BASE_BYTES: usize = 128;
/// The fixed fields that this crate knows past the base (`i_extra_isize`).
pub(crate) const EXTRA_BYTES: usize = 32;
/// Where the low half of the checksum stands.
pub(crate) const CHECKSUM_LO_AT: usize = 0x7c;
/// Where the high half of the checksum stands.
pub(crate) const CHECKSUM_HI_AT: usize = 0x82;
/// Bytes of `i_block`.
pub(crate) const BLOCK_AREA_BYTES: usize = 60;

bitflags::bitflags! {
    /// `i_flags`, as far as they matter here.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct InodeFlags: u32 {
        const SECRM = 0x1;
        const IMMUTABLE = 0x10;
        const APPEND = 0x20;
        /// The directory has an index.
        const INDEX = 0x1000;
        /// `blocks` counts filesystem blocks.
        const HUGE_FILE = 0x4_0000;
        /// `block` is the root of an extent tree.
        const EXTENTS = 0x8_0000;
        /// Large values of extended attributes lie in inodes.
        const EA_INODE = 0x20_0000;
        /// The content is in the inode.
        const INLINE_DATA = 0x1000_0000;
        const _ = !0;
    }
}

/// What of the parent's flags a new inode does not inherit, see `EXT4_FL_INHERITED`: we inherit nothing.
pub(crate) const NEW_FLAGS: InodeFlags = InodeFlags::EXTENTS;

/// `struct ext4_inode`, the fields of 160 bytes.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RawInode {
    pub mode: U16,
    uid_lo: U16,
    size_lo: U32,
    accessed: U32,
    changed: U32,
    modified: U32,
    /// Time of deletion, or the next inode of the orphan list.
    pub deleted: U32,
    gid_lo: U16,
    pub links: U16,
    blocks_lo: U32,
    flags: U32,
    pub version_lo: U32,
    pub block: [u8; BLOCK_AREA_BYTES],
    pub generation: U32,
    xattr_block_lo: U32,
    size_hi: U32,
    obsolete_fragment: U32,
    blocks_hi: U16,
    xattr_block_hi: U16,
    uid_hi: U16,
    gid_hi: U16,
    checksum_lo: U16,
    reserved: U16,
    pub extra_size: U16,
    checksum_hi: U16,
    changed_extra: U32,
    modified_extra: U32,
    accessed_extra: U32,
    born: U32,
    born_extra: U32,
    pub version_hi: U32,
    pub project: U32,
}

const _: () = assert!(size_of::<RawInode>() == BASE_BYTES + EXTRA_BYTES);

/// The kinds by the top four bits of the mode.
const KINDS: [(u16, FileKind); 7] = [
    (0x1, FileKind::Fifo),
    (0x2, FileKind::CharacterDevice),
    (0x4, FileKind::Directory),
    (0x6, FileKind::BlockDevice),
    (0x8, FileKind::File),
    (0xa, FileKind::Symlink),
    (0xc, FileKind::Socket),
];

/// The mode's bits of a kind.
pub(crate) fn kind_bits(kind: FileKind) -> u16 {
    KINDS.iter().find(|entry| entry.1 == kind).map_or(0, |entry| entry.0 << 12)
}

/// Seconds below and above 32 bits, with nanoseconds: `i_*time_extra` has the epoch in its low two bits.
fn decode_time(seconds: U32, extra: u32) -> Timestamp {
    let low = i64::from(seconds.get().cast_signed());
    Timestamp { seconds: low + (i64::from(extra & 3) << 32), nanoseconds: (extra >> 2).min(999_999_999) }
}

/// A time as it is stored: with `has_extra`, up to 2446 and with nanoseconds, else up to 2038 without. What lies
/// outside is the nearest that there is, as on Linux (`timestamp_truncate`).
fn encode_time(time: Timestamp, has_extra: bool) -> (U32, U32) {
    const FIRST: i64 = i32::MIN as i64;
    let last = if has_extra { FIRST + (1 << 34) - 1 } else { i64::from(i32::MAX) };
    let seconds = time.seconds.clamp(FIRST, last);
    let is_bound = seconds == FIRST || seconds == last;
    let nanoseconds = if is_bound || !has_extra { 0 } else { time.nanoseconds };
    let low = seconds as i32;
    let epoch = (((seconds - i64::from(low)) >> 32) & 3) as u32;
    (low.cast_unsigned().into(), (epoch | nanoseconds << 2).into())
}

impl RawInode {
    /// An inode of zeros.
    pub(crate) fn zeroed() -> Self {
        Self::new_zeroed()
    }

    pub(crate) fn kind(&self) -> Option<FileKind> {
        KINDS.iter().find(|entry| entry.0 == self.mode.get() >> 12).map(|entry| entry.1)
    }

    pub(crate) fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits_retain(self.flags.get())
    }

    pub(crate) fn set_flags(&mut self, flags: InodeFlags) {
        self.flags = flags.bits().into();
    }

    pub(crate) fn size(&self) -> u64 {
        u64::from(self.size_lo.get()) | u64::from(self.size_hi.get()) << 32
    }

    pub(crate) fn set_size(&mut self, size: u64) {
        self.size_lo = super::low32(size).into();
        self.size_hi = super::high32(size).into();
    }

    pub(crate) fn user(&self) -> u32 {
        u32::from(self.uid_lo.get()) | u32::from(self.uid_hi.get()) << 16
    }

    pub(crate) fn set_user(&mut self, user: u32) {
        self.uid_lo = ((user & 0xffff) as u16).into();
        self.uid_hi = ((user >> 16) as u16).into();
    }

    pub(crate) fn group(&self) -> u32 {
        u32::from(self.gid_lo.get()) | u32::from(self.gid_hi.get()) << 16
    }

    pub(crate) fn set_group(&mut self, group: u32) {
        self.gid_lo = ((group & 0xffff) as u16).into();
        self.gid_hi = ((group >> 16) as u16).into();
    }

    /// The stored count of blocks; [`InodeFlags::HUGE_FILE`] tells its unit.
    pub(crate) fn stored_blocks(&self) -> u64 {
        u64::from(self.blocks_lo.get()) | u64::from(self.blocks_hi.get()) << 32
    }

    pub(crate) fn set_stored_blocks(&mut self, blocks: u64) {
        self.blocks_lo = super::low32(blocks).into();
        self.blocks_hi = ((blocks >> 32) as u16).into();
    }

    pub(crate) fn xattr_block(&self) -> u64 {
        u64::from(self.xattr_block_lo.get()) | u64::from(self.xattr_block_hi.get()) << 32
    }

    pub(crate) fn set_xattr_block(&mut self, block: u64) {
        self.xattr_block_lo = super::low32(block).into();
        self.xattr_block_hi = ((block >> 32) as u16).into();
    }

    /// True if the inode's larger part has this many bytes: each time's upper half stands behind a different number.
    fn reaches(&self, extra_bytes: u16) -> bool {
        self.extra_size.get() >= extra_bytes
    }

    pub(crate) fn accessed(&self) -> Timestamp {
        decode_time(self.accessed, self.accessed_extra.get())
    }

    pub(crate) fn set_accessed(&mut self, time: Timestamp) {
        (self.accessed, self.accessed_extra) = encode_time(time, self.reaches(16));
    }

    pub(crate) fn modified(&self) -> Timestamp {
        decode_time(self.modified, self.modified_extra.get())
    }

    pub(crate) fn set_modified(&mut self, time: Timestamp) {
        (self.modified, self.modified_extra) = encode_time(time, self.reaches(12));
    }

    pub(crate) fn changed(&self) -> Timestamp {
        decode_time(self.changed, self.changed_extra.get())
    }

    pub(crate) fn set_changed(&mut self, time: Timestamp) {
        (self.changed, self.changed_extra) = encode_time(time, self.reaches(8));
    }

    pub(crate) fn born(&self) -> Timestamp {
        decode_time(self.born, self.born_extra.get())
    }

    pub(crate) fn set_born(&mut self, time: Timestamp) {
        (self.born, self.born_extra) = encode_time(time, self.reaches(24));
    }

    /// A device node's number. Linux keeps small ones in the first word, others in the second.
    pub(crate) fn device(&self) -> u32 {
        match super::le32(&self.block, 0) {
            0 => super::le32(&self.block, 4),
            // The old form has eight bits of major number and eight of minor, which is also a valid `dev_t`.
            old => old & 0xffff,
        }
    }

    pub(crate) fn set_device(&mut self, device: u32) {
        self.block = [0; BLOCK_AREA_BYTES];
        if device <= 0xffff {
            super::put32(&mut self.block, 0, device);
        } else {
            super::put32(&mut self.block, 4, device);
        }
    }
}
