//! Where everything lies in a new filesystem.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::FormatOptions;
use crate::features::{Compat, Incompat, RoCompat};
use crate::geometry::Geometry;
use crate::layout::Superblock;
use crate::layout::group::{Group, GroupDescriptor, GroupFlags};
use crate::layout::superblock::{FLAG_SIGNED_HASH, MAGIC, STATE_VALID};
use crate::mount::seconds;
use crate::{FormatError, Timestamp};

/// Groups whose bitmaps and inode tables lie together.
const FLEX_GROUPS: u32 = 16;
/// Inodes that the format itself uses or reserves, `lost+found` included.
pub(super) const FIRST_INODES: u32 = 11;
/// Extents that fit into an inode.
const ROOT_EXTENTS: usize = 4;

/// A new filesystem.
pub(super) struct Plan {
    pub superblock: Superblock,
    pub geometry: Geometry,
    pub groups: Vec<Group>,
    /// The journal's pieces: first block, blocks.
    pub journal: Vec<(u64, u32)>,
    pub root_block: u64,
    /// Blocks of `lost+found`, which lie together.
    pub lost_found: (u64, u32),
    /// What is in use: first block and the one after the last.
    pub used: BTreeMap<u64, u64>,
}

/// Blocks of a journal for a filesystem of so many (`ext2fs_default_journal_size`), but at most 32768: what a
/// small machine replays in a moment.
fn journal_blocks(blocks: u64, block_bytes: usize) -> Option<u32> {
    let most = if block_bytes == 1024 { 16384 } else { 32768 };
    match blocks {
        0..2048 => None,
        2048..32768 => Some(1024),
        32768..262_144 => Some(4096),
        262_144..524_288 => Some(8192),
        524_288..4_194_304 => Some(16384),
        _ => Some(most),
    }
}

impl Plan {
    pub(super) fn new(bytes: u64, options: &FormatOptions, now: Timestamp) -> Result<Self, FormatError> {
        let superblock = new_superblock(bytes, options, now)?;
        let geometry = Geometry::new(&superblock).map_err(|_| FormatError::BadSize)?;
        let mut plan = Self {
            groups: Vec::new(),
            journal: Vec::new(),
            root_block: 0,
            lost_found: (0, 0),
            used: BTreeMap::new(),
            superblock,
            geometry,
        };
        plan.place_heads();
        plan.place_groups()?;
        let after_tables = plan.groups.first().map_or(0, Group::inode_table);
        plan.place_files(after_tables)?;
        plan.count();
        Ok(plan)
    }

    fn place_heads(&mut self) {
        for group in 0..self.geometry.groups {
            let start = self.geometry.group_start(group);
            let head = u64::from(self.geometry.head_blocks(group));
            if head > 0 {
                self.used.insert(start, start + head);
            }
        }
    }

    /// The first free stretch at or after `from`: its start and its end.
    fn free_stretch(&self, from: u64) -> Option<(u64, u64)> {
        let mut start = from;
        if let Some((_, end)) = self.used.range(..=start).next_back() {
            start = start.max(*end);
        }
        loop {
            let end = self.used.range(start..).next().map_or(self.geometry.blocks, |next| *next.0);
            if start >= self.geometry.blocks {
                return None;
            }
            if end > start {
                return Some((start, end));
            }
            start = *self.used.get(&start)?;
        }
    }

    fn mark(&mut self, start: u64, len: u32) {
        self.used.insert(start, start + u64::from(len));
    }

    /// Finds room for `len` blocks that lie together.
    fn place(&mut self, from: u64, len: u32) -> Result<u64, FormatError> {
        let mut from = from;
        loop {
            let (start, end) = self.free_stretch(from).ok_or(FormatError::BadSize)?;
            if end - start >= u64::from(len) {
                self.mark(start, len);
                return Ok(start);
            }
            from = end;
        }
    }

    fn place_groups(&mut self) -> Result<(), FormatError> {
        let table_blocks = self.geometry.table_blocks();
        for first in (0..self.geometry.groups).step_by(FLEX_GROUPS as usize) {
            let count = FLEX_GROUPS.min(self.geometry.groups - first);
            let start = self.geometry.group_start(first);
            let block_bitmaps = self.place(start, count)?;
            let inode_bitmaps = self.place(start, count)?;
            for index in 0..u64::from(count) {
                let table = self.place(start, table_blocks)?;
                let mut group = Group::new(GroupDescriptor::read(&[]));
                group.set_places(block_bitmaps + index, inode_bitmaps + index, table);
                group.set_free_inodes(self.geometry.inodes_per_group);
                group.set_unused_inodes(self.geometry.inodes_per_group);
                self.groups.push(group);
            }
        }
        Ok(())
    }

    fn place_files(&mut self, from: u64) -> Result<(), FormatError> {
        self.root_block = self.place(from, 1)?;
        let blocks = (16384 / self.geometry.block_bytes).max(1) as u32;
        self.lost_found = (self.place(from, blocks)?, blocks);
        let wanted = journal_blocks(self.geometry.blocks, self.geometry.block_bytes);
        let mut left = wanted.ok_or(FormatError::BadSize)?;
        let mut from = from;
        while left > 0 {
            let (start, end) = self.free_stretch(from).ok_or(FormatError::BadSize)?;
            let len = u64::from(left).min(end - start) as u32;
            // Crumbs between other things would make more extents than an inode holds.
            if len < left && end - start < 64 {
                from = end;
                continue;
            }
            self.mark(start, len);
            self.journal.push((start, len));
            left -= len;
        }
        if self.journal.len() > ROOT_EXTENTS { Err(FormatError::BadSize) } else { Ok(()) }
    }

    /// The parts of a group that are in use, counted from its start.
    pub(super) fn used_in_group(&self, index: u32) -> Vec<(u32, u32)> {
        let start = self.geometry.group_start(index);
        let end = start + u64::from(self.geometry.group_blocks(index));
        let before = self.used.range(..start).next_back();
        let inside = self.used.range(start..end);
        before
            .into_iter()
            .chain(inside)
            .filter(|(_, until)| **until > start)
            .map(|(from, until)| {
                let (from, until) = ((*from).max(start) - start, (*until).min(end) - start);
                (from as u32, (until - from) as u32)
            })
            .collect()
    }

    /// Fills in the counts, and what of each group needs no writing.
    fn count(&mut self) {
        let last = self.geometry.groups - 1;
        let mut free_blocks = 0;
        for index in 0..self.geometry.groups {
            let used: u32 = self.used_in_group(index).iter().map(|part| part.1).sum();
            let free = self.geometry.group_blocks(index) - used;
            free_blocks += u64::from(free);
            let is_untouched = used == self.geometry.head_blocks(index) && index != last && index != 0;
            let group = &mut self.groups[index as usize];
            group.set_free_blocks(free);
            let mut flags = GroupFlags::empty();
            flags.set(GroupFlags::BLOCK_UNINIT, is_untouched);
            flags.set(GroupFlags::INODE_UNINIT, index != 0);
            group.set_flags(flags);
        }
        let first = &mut self.groups[0];
        first.set_free_inodes(self.geometry.inodes_per_group - FIRST_INODES);
        first.set_unused_inodes(self.geometry.inodes_per_group - FIRST_INODES);
        first.set_used_directories(2);
        self.superblock.set_free_blocks(free_blocks);
        self.superblock.free_inodes = (self.geometry.inodes - FIRST_INODES).into();
        let files = 1 + self.lost_found.1;
        let overhead = self.geometry.blocks - free_blocks - u64::from(files);
        self.superblock.overhead_clusters = (overhead as u32).into();
    }
}

/// Blocks, groups and inodes: those of a size, as `mke2fs` rounds them.
fn dimensions(bytes: u64, options: &FormatOptions) -> Result<(usize, u64, u32, u32), FormatError> {
    let default_block = if bytes < 64 << 20 { 1024 } else { 4096 };
    let block_bytes = options.block_bytes.unwrap_or(default_block) as usize;
    if !matches!(block_bytes, 1024 | 2048 | 4096) {
        return Err(FormatError::BadOptions);
    }
    let first = u64::from(block_bytes == 1024);
    let per_group = 8 * block_bytes as u64;
    let mut blocks = bytes / block_bytes as u64;
    if blocks < 2048 {
        return Err(FormatError::BadSize);
    }
    // A short last group that would hold little more than its own head is left out.
    let rest = (blocks - first) % per_group;
    let groups = (blocks - first).div_ceil(per_group);
    let head = 2 + (groups * 64).div_ceil(block_bytes as u64);
    if rest != 0 && rest < head + 50 && groups > 1 {
        blocks -= rest;
    }
    let groups = (blocks - first).div_ceil(per_group);
    let groups = u32::try_from(groups).map_err(|_| FormatError::BadSize)?;
    let ratio = options.inode_ratio.unwrap_or(if bytes < 512 << 20 { 4096 } else { 16384 });
    if ratio < block_bytes as u32 {
        return Err(FormatError::BadOptions);
    }
    let per_table_block = (block_bytes / 256) as u64;
    let inodes = (bytes / u64::from(ratio)).max(16).div_ceil(u64::from(groups));
    let inodes = inodes.next_multiple_of(per_table_block.max(8)).min(per_group);
    let inodes = u32::try_from(inodes).map_err(|_| FormatError::BadSize)?;
    if u64::from(inodes) * u64::from(groups) > u64::from(u32::MAX) {
        return Err(FormatError::BadSize);
    }
    Ok((block_bytes, blocks, groups, inodes))
}

fn new_superblock(bytes: u64, options: &FormatOptions, now: Timestamp) -> Result<Superblock, FormatError> {
    let (block_bytes, blocks, groups, inodes) = dimensions(bytes, options)?;
    if options.label.len() > 16 {
        return Err(FormatError::BadOptions);
    }
    let mut superblock = Superblock::zeroed();
    let per_group = 8 * block_bytes as u32;
    superblock.inodes_count = (inodes * groups).into();
    superblock.blocks_count_lo = crate::layout::low32(blocks).into();
    superblock.blocks_count_hi = crate::layout::high32(blocks).into();
    superblock.reserved_blocks_lo = crate::layout::low32(blocks / 20).into();
    superblock.reserved_blocks_hi = crate::layout::high32(blocks / 20).into();
    superblock.first_data_block = u32::from(block_bytes == 1024).into();
    superblock.log_block_size = (block_bytes.trailing_zeros() - 10).into();
    superblock.log_cluster_size = superblock.log_block_size;
    superblock.blocks_per_group = per_group.into();
    superblock.clusters_per_group = per_group.into();
    superblock.inodes_per_group = inodes.into();
    superblock.write_time = seconds(now).into();
    superblock.last_check = seconds(now).into();
    superblock.mkfs_time = seconds(now).into();
    superblock.max_mount_count = 0xffff.into();
    superblock.magic = MAGIC.into();
    superblock.state = STATE_VALID.into();
    superblock.errors = 1.into();
    superblock.revision = 1.into();
    superblock.first_inode = FIRST_INODES.into();
    superblock.inode_size = 256.into();
    superblock.feature_compat = (Compat::HAS_JOURNAL | Compat::EXT_ATTR | Compat::DIR_INDEX).bits().into();
    let incompat = Incompat::FILETYPE | Incompat::EXTENTS | Incompat::BITS64 | Incompat::FLEX_BG;
    superblock.feature_incompat = incompat.bits().into();
    let ro_compat = RoCompat::SPARSE_SUPER
        | RoCompat::LARGE_FILE
        | RoCompat::HUGE_FILE
        | RoCompat::DIR_NLINK
        | RoCompat::EXTRA_ISIZE
        | RoCompat::METADATA_CSUM;
    superblock.feature_ro_compat = ro_compat.bits().into();
    superblock.uuid = options.uuid;
    superblock.volume_name[..options.label.len()].copy_from_slice(&options.label);
    superblock.journal_inode = 8.into();
    for (word, bytes) in superblock.hash_seed.iter_mut().zip(options.hash_seed.chunks(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into();
    }
    superblock.default_hash_version = 1;
    superblock.descriptor_size = 64.into();
    superblock.default_mount_options = 0xc.into();
    superblock.min_extra_isize = 32.into();
    superblock.want_extra_isize = 32.into();
    superblock.flags = FLAG_SIGNED_HASH.into();
    superblock.log_groups_per_flex = FLEX_GROUPS.trailing_zeros() as u8;
    superblock.checksum_type = 1;
    Ok(superblock)
}
