//! The superblock: 1024 bytes at offset 1024, and in some groups a copy.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{high32, low32};
use crate::checksum::crc32c;

/// Where the superblock lies, in bytes from the start of the device.
pub(crate) const SUPERBLOCK_OFFSET: u64 = 1024;
/// Its size.
pub(crate) const SUPERBLOCK_BYTES: usize = 1024;
/// The number that every ext filesystem has.
pub(crate) const MAGIC: u16 = 0xef53;
/// `state`: unmounted cleanly.
pub(crate) const STATE_VALID: u16 = 1;
/// `flags`: directory hashes take bytes as unsigned.
pub(crate) const FLAG_UNSIGNED_HASH: u32 = 2;
/// `flags`: directory hashes take bytes as signed.
pub(crate) const FLAG_SIGNED_HASH: u32 = 1;

/// `struct ext2_super_block`.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Superblock {
    pub inodes_count: U32,
    pub blocks_count_lo: U32,
    pub reserved_blocks_lo: U32,
    pub free_blocks_lo: U32,
    pub free_inodes: U32,
    pub first_data_block: U32,
    pub log_block_size: U32,
    pub log_cluster_size: U32,
    pub blocks_per_group: U32,
    pub clusters_per_group: U32,
    pub inodes_per_group: U32,
    pub mount_time: U32,
    pub write_time: U32,
    pub mount_count: U16,
    pub max_mount_count: U16,
    pub magic: U16,
    pub state: U16,
    pub errors: U16,
    pub minor_revision: U16,
    pub last_check: U32,
    pub check_interval: U32,
    pub creator_os: U32,
    pub revision: U32,
    pub reserved_uid: U16,
    pub reserved_gid: U16,
    pub first_inode: U32,
    pub inode_size: U16,
    pub block_group: U16,
    pub feature_compat: U32,
    pub feature_incompat: U32,
    pub feature_ro_compat: U32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub last_mounted: [u8; 64],
    pub algorithm_bitmap: U32,
    pub prealloc_blocks: u8,
    pub prealloc_dir_blocks: u8,
    pub reserved_gdt_blocks: U16,
    pub journal_uuid: [u8; 16],
    pub journal_inode: U32,
    pub journal_device: U32,
    pub last_orphan: U32,
    pub hash_seed: [U32; 4],
    pub default_hash_version: u8,
    pub journal_backup_type: u8,
    pub descriptor_size: U16,
    pub default_mount_options: U32,
    pub first_meta_bg: U32,
    pub mkfs_time: U32,
    pub journal_blocks: [U32; 17],
    pub blocks_count_hi: U32,
    pub reserved_blocks_hi: U32,
    pub free_blocks_hi: U32,
    pub min_extra_isize: U16,
    pub want_extra_isize: U16,
    pub flags: U32,
    pub raid_stride: U16,
    pub mmp_interval: U16,
    pub mmp_block: U64,
    pub raid_stripe_width: U32,
    pub log_groups_per_flex: u8,
    pub checksum_type: u8,
    pub encryption_level: u8,
    pub reserved_pad: u8,
    pub kbytes_written: U64,
    pub snapshot: [u8; 20],
    pub error_record: [u8; 172],
    pub user_quota_inode: U32,
    pub group_quota_inode: U32,
    pub overhead_clusters: U32,
    pub backup_groups: [U32; 2],
    pub encryption: [u8; 20],
    pub lost_found_inode: U32,
    pub project_quota_inode: U32,
    pub checksum_seed: U32,
    pub time_hi: [u8; 8],
    pub encoding: [u8; 4],
    pub orphan_file_inode: U32,
    pub reserved: [u8; 376],
    pub checksum: U32,
}

const _: () = assert!(size_of::<Superblock>() == SUPERBLOCK_BYTES);

impl Superblock {
    /// A superblock of zeros.
    pub(crate) fn zeroed() -> Self {
        Self::new_zeroed()
    }

    pub(crate) fn blocks_count(&self) -> u64 {
        u64::from(self.blocks_count_lo.get()) | u64::from(self.blocks_count_hi.get()) << 32
    }

    pub(crate) fn set_free_blocks(&mut self, blocks: u64) {
        self.free_blocks_lo = low32(blocks).into();
        self.free_blocks_hi = high32(blocks).into();
    }

    /// What the checksum should be.
    pub(crate) fn computed_checksum(&self) -> u32 {
        crc32c(!0, &self.as_bytes()[..SUPERBLOCK_BYTES - 4])
    }
}
