//! Free inodes: finding one near its directory, taking it, giving it back.

use alloc::sync::Arc;

use crate::bitmap;
use crate::cache::Seal;
use crate::checksum::crc32c;
use crate::layout::group::GroupFlags;
use crate::{BlockDevice, Error, Ext4};

impl<D: BlockDevice> Ext4<D> {
    /// A group's inode bitmap.
    pub(crate) fn inode_bitmap(&mut self, group: u32) -> Result<Arc<[u8]>, Error> {
        let descriptor = self.groups[group as usize];
        let number = descriptor.inode_bitmap();
        if let Some(block) = self.cache.get(number) {
            let is_right = block.seal == Seal::Plain;
            return if is_right { Ok(block.bytes.clone()) } else { Err(Error::Corrupt("block used twice")) };
        }
        if descriptor.flags().contains(GroupFlags::INODE_UNINIT) {
            let mut bits = alloc::vec![0; self.geometry.block_bytes];
            let (used, all) = (self.geometry.inodes_per_group, self.geometry.block_bytes as u32 * 8);
            bitmap::set(&mut bits, used, all - used);
            let bits: Arc<[u8]> = bits.into();
            self.cache.insert(number, bits.clone(), Seal::Plain);
            return Ok(bits);
        }
        let bits = self.block(number, Seal::Plain)?;
        let is_whole = self
            .inode_bitmap_checksum(&bits)
            .is_none_or(|sum| sum & self.bitmap_checksum_mask() == descriptor.inode_bitmap_checksum());
        if !is_whole {
            self.cache.remove(number);
            return Err(Error::Corrupt("checksum of an inode bitmap"));
        }
        Ok(bits)
    }

    /// The checksum of an inode bitmap, where there are checksums.
    pub(crate) fn inode_bitmap_checksum(&self, bytes: &[u8]) -> Option<u32> {
        let used = self.geometry.inodes_per_group as usize / 8;
        self.geometry.checksum_seed.map(|seed| crc32c(seed, &bytes[..used]))
    }

    fn change_inode_bit(&mut self, group: u32, change: impl FnOnce(&mut [u8]) -> u32) -> Result<(), Error> {
        drop(self.inode_bitmap(group)?);
        let number = self.groups[group as usize].inode_bitmap();
        if self.modify(number, Seal::Plain, change)? != 1 {
            return Err(Error::Corrupt("inode taken or freed twice"));
        }
        self.modify_group(group, |group| {
            group.set_flags(group.flags().difference(GroupFlags::INODE_UNINIT));
            group.inodes_changed = true;
        });
        Ok(())
    }

    /// Takes a free inode: in the parent's group if there is one, and for a directory at the top level in the
    /// group with the most free ones, so that trees lie apart.
    pub(crate) fn allocate_inode(&mut self, parent: u32, is_directory: bool) -> Result<u32, Error> {
        if self.free_inodes == 0 {
            return Err(Error::NoSpace);
        }
        let near = self.geometry.place_of_inode(parent).0;
        let spreads = is_directory && parent == crate::InodeNumber::ROOT.0;
        let preferred = if spreads { self.emptiest_group().unwrap_or(near) } else { near };
        for step in 0..self.geometry.groups {
            let group = (preferred + step) % self.geometry.groups;
            if self.groups[group as usize].free_inodes() == 0 {
                continue;
            }
            if let Some(index) = self.free_inode_in(group)? {
                self.take_inode(group, index, is_directory)?;
                return Ok(group * self.geometry.inodes_per_group + index + 1);
            }
        }
        Err(Error::NoSpace)
    }

    fn emptiest_group(&self) -> Option<u32> {
        let weight = |group: &crate::layout::group::Group| (group.free_inodes(), group.free_blocks());
        let indices = 0..self.geometry.groups;
        // Of equals the first: `max_by_key` takes the last.
        indices.rev().max_by_key(|index| weight(&self.groups[*index as usize]))
    }

    fn free_inode_in(&mut self, group: u32) -> Result<Option<u32>, Error> {
        let bits = self.inode_bitmap(group)?;
        let reserved = if group == 0 { self.geometry.first_inode - 1 } else { 0 };
        let from = self.groups[group as usize].inode_hint.max(reserved);
        Ok(bitmap::next_clear(&bits, from, self.geometry.inodes_per_group))
    }

    fn take_inode(&mut self, group: u32, index: u32, is_directory: bool) -> Result<(), Error> {
        self.change_inode_bit(group, |bits| bitmap::set(bits, index, 1))?;
        let per_group = self.geometry.inodes_per_group;
        self.modify_group(group, |group| {
            group.set_free_inodes(group.free_inodes().saturating_sub(1));
            group.set_unused_inodes(group.unused_inodes().min(per_group - index - 1));
            group.set_used_directories(group.used_directories() + u32::from(is_directory));
            group.inode_hint = index + 1;
        });
        Ok(())
    }

    /// Gives an inode's number back.
    pub(crate) fn free_inode(&mut self, number: u32, is_directory: bool) -> Result<(), Error> {
        let (group, index) = self.geometry.place_of_inode(number);
        self.change_inode_bit(group, |bits| bitmap::clear(bits, index, 1))?;
        self.modify_group(group, |group| {
            group.set_free_inodes(group.free_inodes() + 1);
            let directories = group.used_directories().saturating_sub(u32::from(is_directory));
            group.set_used_directories(directories);
            group.inode_hint = group.inode_hint.min(index);
        });
        Ok(())
    }
}
