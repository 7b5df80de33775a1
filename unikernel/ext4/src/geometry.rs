//! What the superblock says about where things are, checked once at mount so that the rest may trust it.

use crate::checksum::{crc16, crc32c};
use crate::features::{Compat, Incompat, RoCompat};
use crate::layout::Superblock;
use crate::layout::superblock::FLAG_UNSIGNED_HASH;

/// The filesystem's dimensions and habits. None changes while it is mounted.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    pub block_bytes: usize,
    pub blocks: u64,
    pub first_data_block: u64,
    pub blocks_per_group: u32,
    pub inodes_per_group: u32,
    pub inodes: u32,
    pub inode_bytes: usize,
    pub descriptor_bytes: usize,
    pub groups: u32,
    pub first_inode: u32,
    /// What all checksums begin with (`metadata_csum`), if they are in use.
    pub checksum_seed: Option<u32>,
    /// The older checksum of group descriptors only (`uninit_bg`).
    pub has_descriptor_crc16: bool,
    pub uuid: [u8; 16],
    pub hash_seed: [u32; 4],
    pub hash_version: u8,
    pub is_hash_unsigned: bool,
    pub has_directory_index: bool,
    pub has_file_types: bool,
    pub has_huge_files: bool,
    pub has_large_directories: bool,
    pub has_many_links: bool,
    pub has_sparse_superblocks: bool,
    /// The only groups with copies of the superblock, besides the first (`sparse_super2`).
    pub backup_groups: Option<[u32; 2]>,
    pub has_meta_groups: bool,
    pub first_meta_group: u32,
    pub reserved_descriptor_blocks: u32,
    pub extra_inode_bytes: u16,
}

fn is_power_of(mut number: u32, base: u32) -> bool {
    while number > 1 && number.is_multiple_of(base) {
        number /= base;
    }
    number == 1
}

impl Geometry {
    /// Reads the superblock's numbers; the error says which makes no sense.
    pub(crate) fn new(superblock: &Superblock) -> Result<Self, &'static str> {
        let geometry = Self::unchecked(superblock)?;
        let bits = u32::try_from(geometry.block_bytes * 8).unwrap_or(0);
        let is_sound = (1..=bits).contains(&geometry.blocks_per_group)
            && geometry.blocks_per_group.is_multiple_of(8)
            && (1..=bits).contains(&geometry.inodes_per_group)
            && geometry.inodes_per_group.is_multiple_of(8);
        if !is_sound {
            return Err("group size");
        }
        if u64::from(geometry.inodes_per_group) * u64::from(geometry.groups) != u64::from(geometry.inodes) {
            return Err("inode count");
        }
        Ok(geometry)
    }

    fn unchecked(superblock: &Superblock) -> Result<Self, &'static str> {
        let log_block = superblock.log_block_size.get();
        if log_block > 6 {
            return Err("block size");
        }
        let block_bytes = 1024usize << log_block;
        let (blocks, first) = (superblock.blocks_count(), u64::from(superblock.first_data_block.get()));
        let blocks_per_group = superblock.blocks_per_group.get();
        if blocks_per_group == 0 || first != u64::from(log_block == 0) || blocks <= first {
            return Err("block count");
        }
        let groups = (blocks - first).div_ceil(u64::from(blocks_per_group));
        let groups = u32::try_from(groups).map_err(|_| "group count")?;
        let is_new = superblock.revision.get() >= 1;
        let inode_bytes = if is_new { usize::from(superblock.inode_size.get()) } else { 128 };
        if !inode_bytes.is_power_of_two() || !(128..=block_bytes).contains(&inode_bytes) {
            return Err("inode size");
        }
        let (incompat, ro_compat, compat) =
            (superblock.incompat(), superblock.ro_compat(), superblock.compat());
        let descriptor_bytes = match (incompat.contains(Incompat::BITS64), superblock.descriptor_size.get()) {
            (false, _) => 32,
            (true, bytes @ (64 | 128 | 256 | 512 | 1024)) => usize::from(bytes),
            (true, _) => return Err("group descriptor size"),
        };
        let has_checksums = ro_compat.contains(RoCompat::METADATA_CSUM);
        let seed = if incompat.contains(Incompat::CSUM_SEED) {
            superblock.checksum_seed.get()
        } else {
            crc32c(!0, &superblock.uuid)
        };
        Ok(Self {
            block_bytes,
            blocks,
            first_data_block: first,
            blocks_per_group,
            inodes_per_group: superblock.inodes_per_group.get(),
            inodes: superblock.inodes_count.get(),
            inode_bytes,
            descriptor_bytes,
            groups,
            first_inode: if is_new { superblock.first_inode.get().max(3) } else { 11 },
            checksum_seed: has_checksums.then_some(seed),
            has_descriptor_crc16: !has_checksums && ro_compat.contains(RoCompat::GDT_CSUM),
            uuid: superblock.uuid,
            hash_seed: superblock.hash_seed.map(|word| word.get()),
            hash_version: superblock.default_hash_version,
            is_hash_unsigned: superblock.flags.get() & FLAG_UNSIGNED_HASH != 0,
            has_directory_index: compat.contains(Compat::DIR_INDEX),
            has_file_types: incompat.contains(Incompat::FILETYPE),
            has_huge_files: ro_compat.contains(RoCompat::HUGE_FILE),
            has_large_directories: incompat.contains(Incompat::LARGEDIR),
            has_many_links: ro_compat.contains(RoCompat::DIR_NLINK),
            has_sparse_superblocks: ro_compat.contains(RoCompat::SPARSE_SUPER),
            backup_groups: compat
                .contains(Compat::SPARSE_SUPER2)
                .then(|| superblock.backup_groups.map(|group| group.get())),
            has_meta_groups: incompat.contains(Incompat::META_BG),
            first_meta_group: superblock.first_meta_bg.get(),
            reserved_descriptor_blocks: u32::from(superblock.reserved_gdt_blocks.get()),
            extra_inode_bytes: if inode_bytes > 128 { superblock.want_extra_isize.get().max(32) } else { 0 },
        })
    }

    /// A block's offset on the device, in bytes.
    pub(crate) fn offset(&self, block: u64) -> u64 {
        block * self.block_bytes as u64
    }

    /// The first block of a group.
    pub(crate) fn group_start(&self, group: u32) -> u64 {
        self.first_data_block + u64::from(group) * u64::from(self.blocks_per_group)
    }

    /// Blocks in a group; the last may be short.
    pub(crate) fn group_blocks(&self, group: u32) -> u32 {
        let left = self.blocks - self.group_start(group);
        u32::try_from(left).map_or(self.blocks_per_group, |left| left.min(self.blocks_per_group))
    }

    /// The group of a block, and the block's number in it.
    pub(crate) fn place_of_block(&self, block: u64) -> (u32, u32) {
        let from_start = block.saturating_sub(self.first_data_block);
        let per_group = u64::from(self.blocks_per_group);
        ((from_start / per_group) as u32, (from_start % per_group) as u32)
    }

    /// The group of an inode, and the inode's number in it.
    pub(crate) fn place_of_inode(&self, inode: u32) -> (u32, u32) {
        ((inode - 1) / self.inodes_per_group, (inode - 1) % self.inodes_per_group)
    }

    /// True if all these blocks are on the disk.
    pub(crate) fn has_blocks(&self, start: u64, len: u32) -> bool {
        start > self.first_data_block
            && start.checked_add(u64::from(len)).is_some_and(|end| end <= self.blocks)
    }

    /// Group descriptors in a block.
    pub(crate) fn descriptors_per_block(&self) -> u32 {
        (self.block_bytes / self.descriptor_bytes) as u32
    }

    /// Blocks that the group descriptors fill.
    pub(crate) fn descriptor_blocks(&self) -> u32 {
        self.groups.div_ceil(self.descriptors_per_block())
    }

    /// Where a block of group descriptors lies (`ext4_group_desc` and `meta_bg` in `ext4/group_descr.rst`).
    pub(crate) fn descriptor_block(&self, index: u32) -> u64 {
        if !self.has_meta_groups || index < self.first_meta_group {
            return self.first_data_block + 1 + u64::from(index);
        }
        let group = index * self.descriptors_per_block();
        self.group_start(group) + u64::from(self.has_superblock(group))
    }

    /// True if the group begins with a superblock or a copy.
    pub(crate) fn has_superblock(&self, group: u32) -> bool {
        match self.backup_groups {
            _ if group == 0 => true,
            Some(groups) => groups.contains(&group),
            None => !self.has_sparse_superblocks || [3, 5, 7].iter().any(|base| is_power_of(group, *base)),
        }
    }

    /// Blocks at a group's start that hold the superblock and group descriptors.
    pub(crate) fn head_blocks(&self, group: u32) -> u32 {
        let copy = u32::from(self.has_superblock(group));
        let per_block = self.descriptors_per_block();
        if self.has_meta_groups && group / per_block >= self.first_meta_group {
            let place = group % per_block;
            return copy + u32::from(place == 0 || place == 1 || place == per_block - 1);
        }
        let all = if self.has_meta_groups { self.first_meta_group } else { self.descriptor_blocks() };
        if copy == 0 { 0 } else { 1 + all + self.reserved_descriptor_blocks }
    }

    /// Blocks of a group's inode table.
    pub(crate) fn table_blocks(&self) -> u32 {
        (self.inodes_per_group as usize * self.inode_bytes).div_ceil(self.block_bytes) as u32
    }

    /// The seed of checksums that belong to an inode; 0 where there are none.
    pub(crate) fn inode_seed(&self, inode: u32, generation: u32) -> u32 {
        self.checksum_seed
            .map_or(0, |seed| crc32c(crc32c(seed, &inode.to_le_bytes()), &generation.to_le_bytes()))
    }

    /// The checksum of a group's descriptor, whose own field is skipped or taken as zero.
    pub(crate) fn descriptor_checksum(&self, group: u32, bytes: &[u8]) -> Option<u16> {
        use crate::layout::group::CHECKSUM_AT as AT;
        let number = group.to_le_bytes();
        if let Some(seed) = self.checksum_seed {
            let head = crc32c(crc32c(seed, &number), &bytes[..AT]);
            let all = crc32c(crc32c(head, &[0; 2]), &bytes[AT + 2..self.descriptor_bytes]);
            return Some((all & 0xffff) as u16);
        }
        let head = || crc16(crc16(crc16(!0, &self.uuid), &number), &bytes[..AT]);
        self.has_descriptor_crc16.then(|| crc16(head(), &bytes[AT + 2..self.descriptor_bytes]))
    }

    /// The greatest size of a file, as Linux has it (`ext4_max_size`): one block fewer than 32 bits can number, so that
    /// an extent can end there; without `huge_file`, what 32 bits count in sectors.
    pub(crate) fn max_file_bytes(&self) -> u64 {
        let block_bytes = self.block_bytes as u64;
        let counted = u64::from(u32::MAX) * 512 / block_bytes * block_bytes;
        let numbered = u64::from(u32::MAX) * block_bytes;
        if self.has_huge_files { numbered } else { numbered.min(counted) }
    }
}
