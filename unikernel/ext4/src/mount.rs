//! Mounting and unmounting.
//!
//! The order at a mount: the superblock, its features, the group descriptors, the journal and what it has to
//! replay, all of that again if it did, then the orphans. A filesystem in use says so twice: the superblock has
//! `RECOVER` before the journal says where its log begins, and until after it says that it is empty.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;
use zerocopy::{FromZeros, IntoBytes};

use crate::cache::{Cache, Seal};
use crate::device::read_to_parse;
use crate::features::{Compat, Incompat, check_incompat, forbids_writing};
use crate::geometry::Geometry;
use crate::layout::group::Group;
use crate::layout::inode::InodeFlags;
use crate::layout::superblock::{MAGIC, STATE_VALID, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET};
use crate::layout::{GroupDescriptor, Superblock};
use crate::transaction::Transaction;
use crate::{BlockDevice, Error, Ext4, Identity, InodeNumber, MountError, MountMode, Statistics, Timestamp};

fn read_superblock<D: BlockDevice>(device: &D) -> Result<Box<Superblock>, MountError> {
    if device.size_bytes() < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES as u64 {
        return Err(MountError::NotExt4);
    }
    // Its place is not the stack of a thread, which has 16 KiB.
    let mut superblock = Superblock::new_box_zeroed().map_err(|_| MountError::NoMemory)?;
    superblock.as_mut_bytes().copy_from_slice(&read_to_parse(device, SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES)?);
    if superblock.magic.get() == MAGIC { Ok(superblock) } else { Err(MountError::NotExt4) }
}

/// Who a filesystem says it is, if there is one: what `UUID=` and `LABEL=` mean.
pub fn identify<D: BlockDevice>(device: &D) -> Option<Identity> {
    let superblock = read_superblock(device).ok()?;
    let digits = |range: core::ops::Range<usize>| -> String {
        superblock.uuid[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let groups = [0..4, 4..6, 6..8, 8..10, 10..16].map(digits);
    let name = superblock.volume_name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Identity { uuid: groups.join("-"), label: String::from_utf8_lossy(name).into_owned() })
}

/// Checks a superblock, and gives its numbers.
fn check_superblock(superblock: &Superblock, device_bytes: u64) -> Result<Geometry, MountError> {
    check_incompat(superblock)?;
    let geometry = Geometry::new(superblock).map_err(MountError::Corrupt)?;
    if geometry.checksum_seed.is_some() && superblock.checksum.get() != superblock.computed_checksum() {
        return Err(MountError::Corrupt("checksum of the superblock"));
    }
    if geometry.blocks.checked_mul(geometry.block_bytes as u64).is_none_or(|bytes| bytes > device_bytes) {
        return Err(MountError::Corrupt("the device is smaller than the filesystem"));
    }
    Ok(geometry)
}

impl<D: BlockDevice> Ext4<D> {
    /// Mounts the filesystem on `device`. A journal that needs it is replayed even for a read-only mount; a
    /// feature that only forbids writing makes the mount read-only, see [`Ext4::read_only_feature`].
    pub fn mount(device: D, mode: MountMode, now: Timestamp) -> Result<Self, MountError> {
        let superblock = read_superblock(&device)?;
        let geometry = check_superblock(&superblock, device.size_bytes())?;
        if geometry.block_bytes < device.sector_bytes() {
            return Err(MountError::LargeSectors);
        }
        let mut fs = Self::unmounted(device, superblock, geometry);
        fs.read_groups()?;
        fs.recover()?;
        if fs.inode(InodeNumber::ROOT.0).is_ok_and(|root| !root.has(InodeFlags::EXTENTS)) {
            return Err(MountError::UnknownFeature("a root directory with a block map".into()));
        }
        fs.read_only_feature = forbids_writing(&fs.superblock);
        fs.is_writable =
            mode == MountMode::ReadWrite && fs.read_only_feature.is_none() && !fs.device.is_read_only();
        if fs.is_writable {
            fs.begin_writing(now)?;
            fs.process_orphans(now)?;
        } else {
            fs.journal = None;
        }
        Ok(fs)
    }

    fn unmounted(device: D, superblock: Box<Superblock>, geometry: Geometry) -> Self {
        Self {
            device,
            cache: Cache::new(geometry.block_bytes, geometry.checksum_seed.is_some()),
            geometry,
            superblock,
            groups: Vec::new(),
            dirty_groups: Vec::new(),
            journal: None,
            running: Transaction::default(),
            latest: Timestamp::default(),
            is_writable: false,
            read_only_feature: None,
            free_inodes: 0,
            free_blocks: 0,
            reservations: BTreeMap::new(),
            reserved_blocks: 0,
            open: HashMap::new(),
            orphans: Vec::new(),
        }
    }

    /// Reads all group descriptors and adds up their counts.
    fn read_groups(&mut self) -> Result<(), MountError> {
        self.groups.clear();
        let per_block = self.geometry.descriptors_per_block();
        for index in 0..self.geometry.descriptor_blocks() {
            let block = self.block(self.geometry.descriptor_block(index), Seal::Plain)?;
            let first = index * per_block;
            for number in first..(first + per_block).min(self.geometry.groups) {
                let at = (number - first) as usize * self.geometry.descriptor_bytes;
                let group = self.check_group(number, &block[at..at + self.geometry.descriptor_bytes])?;
                self.groups.push(group);
            }
        }
        self.free_blocks = self.groups.iter().map(|group| u64::from(group.free_blocks())).sum();
        self.free_inodes = self.groups.iter().map(|group| u64::from(group.free_inodes())).sum();
        Ok(())
    }

    fn check_group(&self, number: u32, bytes: &[u8]) -> Result<Group, MountError> {
        let raw = GroupDescriptor::read(bytes);
        if self.geometry.descriptor_checksum(number, bytes).is_some_and(|sum| sum != raw.checksum.get()) {
            return Err(MountError::Corrupt("checksum of a group descriptor"));
        }
        let group = Group::new(raw);
        let is_sound = self.geometry.has_blocks(group.block_bitmap(), 1)
            && self.geometry.has_blocks(group.inode_bitmap(), 1)
            && self.geometry.has_blocks(group.inode_table(), self.geometry.table_blocks())
            && group.free_blocks() <= self.geometry.group_blocks(number)
            && group.free_inodes() <= self.geometry.inodes_per_group
            && group.unused_inodes() <= self.geometry.inodes_per_group;
        if is_sound { Ok(group) } else { Err(MountError::Corrupt("group descriptor")) }
    }

    /// Opens the journal, and replays it if it has to be. The orphan list is read before the superblock, which
    /// holds its head, is written again.
    fn recover(&mut self) -> Result<(), MountError> {
        if !self.superblock.compat().contains(Compat::HAS_JOURNAL) {
            let needs_it = self.superblock.incompat().contains(Incompat::RECOVER);
            self.orphans = self.read_orphan_list()?;
            return if needs_it { Err(MountError::Corrupt("recovery without a journal")) } else { Ok(()) };
        }
        let number = self.superblock.journal_inode.get();
        if number == 0 {
            return Err(MountError::UnknownFeature("external journal".into()));
        }
        let mut journal = self.open_journal(number)?;
        if journal.needs_replay() {
            if self.device.is_read_only() {
                return Err(MountError::NeedsRecovery);
            }
            self.cache = Cache::new(self.geometry.block_bytes, self.geometry.checksum_seed.is_some());
            self.replay(&mut journal)?;
            self.superblock = read_superblock(&self.device)?;
            check_superblock(&self.superblock, self.device.size_bytes())?;
            self.read_groups()?;
            self.orphans = self.read_orphan_list()?;
            self.journal = Some(journal);
            self.stop_journal()?;
            self.set_recovery_mark(false);
            self.write_superblock()?;
            return Ok(());
        }
        self.journal = Some(journal);
        self.orphans = self.read_orphan_list()?;
        Ok(())
    }

    fn begin_writing(&mut self, now: Timestamp) -> Result<(), MountError> {
        self.latest = now;
        self.superblock.mount_time = seconds(now).into();
        self.superblock.write_time = seconds(now).into();
        self.superblock.mount_count = self.superblock.mount_count.get().wrapping_add(1).into();
        if self.journal.is_some() {
            self.set_recovery_mark(true);
        } else {
            self.superblock.state = (self.superblock.state.get() & !STATE_VALID).into();
        }
        self.write_superblock()?;
        self.start_journal()?;
        Ok(())
    }

    fn set_recovery_mark(&mut self, is_needed: bool) {
        let mut features = self.superblock.incompat();
        features.set(Incompat::RECOVER, is_needed);
        self.superblock.feature_incompat = features.bits().into();
    }

    /// Writes everything, empties the journal and marks the filesystem clean. Nothing can be changed after.
    pub fn unmount(&mut self, now: Timestamp) -> Result<(), Error> {
        if !self.is_writable {
            return Ok(());
        }
        self.commit(now)?;
        self.checkpoint()?;
        self.is_writable = false;
        self.stop_journal()?;
        self.set_recovery_mark(false);
        self.superblock.state = (self.superblock.state.get() | STATE_VALID).into();
        self.superblock.write_time = seconds(now).into();
        self.write_superblock()
    }

    /// Brings counts, the head of the orphan list and the checksum up to date.
    fn refresh_superblock(&mut self) {
        self.superblock.set_free_blocks(self.free_blocks);
        self.superblock.free_inodes = u32::try_from(self.free_inodes).unwrap_or(u32::MAX).into();
        self.superblock.last_orphan = self.orphans.last().copied().unwrap_or(0).into();
        if self.geometry.checksum_seed.is_some() {
            self.superblock.checksum = self.superblock.computed_checksum().into();
        }
    }

    fn superblock_place(&self) -> (u64, usize) {
        let block_bytes = self.geometry.block_bytes as u64;
        (SUPERBLOCK_OFFSET / block_bytes, (SUPERBLOCK_OFFSET % block_bytes) as usize)
    }

    /// Writes the superblock durably, past the journal, which must be empty.
    fn write_superblock(&mut self) -> Result<(), Error> {
        self.refresh_superblock();
        let (block, at) = self.superblock_place();
        if let Some(block) = self.cache.get(block) {
            let bytes = alloc::sync::Arc::make_mut(&mut block.bytes);
            bytes[at..at + SUPERBLOCK_BYTES].copy_from_slice(self.superblock.as_bytes());
        }
        self.device.write(&[(SUPERBLOCK_OFFSET, self.superblock.as_bytes())])?;
        self.device.flush()?;
        Ok(())
    }

    /// Makes the superblock part of the running transaction.
    pub(crate) fn update_superblock(&mut self) -> Result<(), Error> {
        self.refresh_superblock();
        let (block, at) = self.superblock_place();
        let superblock = self.superblock.as_bytes().to_vec();
        self.modify(block, Seal::Plain, |bytes| {
            bytes[at..at + SUPERBLOCK_BYTES].copy_from_slice(&superblock);
        })
    }

    /// Returns the device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Returns the greatest size that a file may have, in bytes.
    pub fn max_file_bytes(&self) -> u64 {
        self.geometry.max_file_bytes()
    }

    /// Returns the size of a block in bytes.
    pub fn block_bytes(&self) -> u32 {
        self.geometry.block_bytes as u32
    }

    /// True if nothing can be changed.
    pub fn is_read_only(&self) -> bool {
        !self.is_writable
    }

    /// The name of the feature for which the filesystem was mounted read-only, if that is the reason.
    pub fn read_only_feature(&self) -> Option<&str> {
        self.read_only_feature.as_deref()
    }

    /// Bounds how many bytes of clean metadata are kept in memory. The default is 16 MiB.
    pub fn set_cache_bytes(&mut self, bytes: usize) {
        self.cache.set_limit((bytes / self.geometry.block_bytes).max(1024));
    }

    /// Returns how much space and how many inodes there are.
    pub fn statistics(&self) -> Statistics {
        let overhead = u64::from(self.superblock.overhead_clusters.get());
        let pending = self.running.freed_blocks;
        Statistics {
            block_bytes: self.block_bytes(),
            blocks: self.geometry.blocks.saturating_sub(overhead),
            free_blocks: (self.free_blocks + pending).saturating_sub(self.reserved_blocks),
            available_blocks: self.available_with(pending),
            inodes: u64::from(self.geometry.inodes),
            free_inodes: self.free_inodes,
            uuid: self.geometry.uuid,
        }
    }
}

/// The low 32 bits of a time, as the superblock keeps them.
pub(crate) fn seconds(now: Timestamp) -> u32 {
    (now.seconds & 0xffff_ffff) as u32
}
