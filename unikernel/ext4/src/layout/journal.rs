//! JBD2's blocks. All numbers are big-endian.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The number at the start of each block that is not a copy of one.
pub(crate) const MAGIC: u32 = 0xc03b_3998;
/// Block types.
pub(crate) const DESCRIPTOR: u32 = 1;
pub(crate) const COMMIT: u32 = 2;
pub(crate) const SUPERBLOCK_V2: u32 = 4;
pub(crate) const REVOKE: u32 = 5;

/// Compatible feature: commit blocks carry a checksum of the transaction.
pub(crate) const COMPAT_CHECKSUM: u32 = 1;

bitflags::bitflags! {
    /// Incompatible features of the journal.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct JournalFeatures: u32 {
        const REVOKE = 0x1;
        const BITS64 = 0x2;
        const ASYNC_COMMIT = 0x4;
        const CHECKSUM_V2 = 0x8;
        const CHECKSUM_V3 = 0x10;
        const FAST_COMMIT = 0x20;
        const _ = !0;
    }

    /// What a tag says about its block.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct TagFlags: u16 {
        /// The block began with the journal's magic number, which was replaced by zeros.
        const ESCAPE = 1;
        /// No UUID follows.
        const SAME_UUID = 2;
        const DELETED = 4;
        const LAST = 8;
        const _ = !0;
    }
}

/// `journal_header_t`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub magic: U32,
    pub block_type: U32,
    pub sequence: U32,
}

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = size_of::<Header>();

impl Header {
    pub(crate) fn new(block_type: u32, sequence: u32) -> Self {
        Self { magic: MAGIC.into(), block_type: block_type.into(), sequence: sequence.into() }
    }

    /// Reads a header, if the block has one.
    pub(crate) fn read(block: &[u8]) -> Option<Self> {
        let (header, _) = Self::read_from_prefix(block).ok()?;
        (header.magic.get() == MAGIC).then_some(header)
    }
}

/// `journal_superblock_t`.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct JournalSuperblock {
    pub header: Header,
    pub block_size: U32,
    /// Blocks in the journal, this one included.
    pub blocks: U32,
    /// The log's first block.
    pub first: U32,
    /// The sequence number expected first.
    pub sequence: U32,
    /// Where the log begins; 0 if it is empty.
    pub start: U32,
    pub error: U32,
    pub feature_compat: U32,
    pub feature_incompat: U32,
    pub feature_ro_compat: U32,
    pub uuid: [u8; 16],
    pub users_count: U32,
    pub dynamic_superblock: U32,
    pub max_transaction: U32,
    pub max_transaction_data: U32,
    pub checksum_type: u8,
    padding: [u8; 3],
    pub fast_commit_blocks: U32,
    pub head: U32,
    padding2: [u8; 160],
    pub checksum: U32,
    pub users: [u8; 768],
}

const _: () = assert!(size_of::<JournalSuperblock>() == 1024);

impl JournalSuperblock {
    /// A superblock of zeros.
    pub(crate) fn zeroed() -> Self {
        Self::new_zeroed()
    }
}

/// `checksum_type`: CRC-32C.
pub(crate) const CHECKSUM_CRC32C: u8 = 4;

/// `journal_block_tag3_t`, for [`JournalFeatures::CHECKSUM_V3`].
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Tag3 {
    pub block_lo: U32,
    pub flags: U32,
    pub block_hi: U32,
    pub checksum: U32,
}

/// `journal_block_tag_t`; the last field only with [`JournalFeatures::BITS64`].
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Tag {
    pub block_lo: U32,
    pub checksum: U16,
    pub flags: U16,
    pub block_hi: U32,
}

/// `struct commit_header`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Commit {
    pub header: Header,
    pub checksum_type: u8,
    pub checksum_size: u8,
    padding: [u8; 2],
    pub checksum: [U32; 8],
    pub seconds: zerocopy::big_endian::U64,
    pub nanoseconds: U32,
}

/// Where the commit block's checksum stands.
pub(crate) const COMMIT_CHECKSUM_AT: usize = 16;

impl Commit {
    pub(crate) fn new(sequence: u32, seconds: i64, nanoseconds: u32) -> Self {
        Self {
            header: Header::new(COMMIT, sequence),
            checksum_type: 0,
            checksum_size: 0,
            padding: [0; 2],
            checksum: [0.into(); 8],
            seconds: seconds.cast_unsigned().into(),
            nanoseconds: nanoseconds.into(),
        }
    }
}

/// `jbd2_journal_revoke_header_t`: the count is in bytes and includes this header.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RevokeHeader {
    pub header: Header,
    pub bytes: U32,
}

/// Bytes of it.
pub(crate) const REVOKE_HEADER_BYTES: usize = size_of::<RevokeHeader>();
