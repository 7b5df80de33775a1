//! Orphans: inodes that have no name but are open, or whose truncation is not finished. They are a list on the
//! disk, linked through `dtime` from the superblock; who mounts after a power cut finishes them.
//!
//! The feature `orphan_file` has a file for them instead. What Linux left there is processed at a mount; this
//! crate itself always uses the list, as Linux does when the file is full.

use alloc::vec::Vec;

use hashbrown::HashSet;

use crate::blocks::BlockRun;
use crate::features::{Compat, RoCompat};
use crate::inode::Inode;
use crate::layout::le32;
use crate::truncate::FILE_END;
use crate::{BlockDevice, Error, Ext4, FileKind, InodeNumber, MountError, Timestamp};

/// Bytes at the end of each block of the orphan file: a magic number and a checksum.
const ORPHAN_TAIL_BYTES: usize = 8;

impl<D: BlockDevice> Ext4<D> {
    pub(crate) fn is_orphan(&self, number: u32) -> bool {
        self.orphans.contains(&number)
    }

    /// Puts an inode on the list. The caller writes it.
    pub(crate) fn add_orphan(&mut self, inode: &mut Inode) {
        inode.raw.deleted = self.orphans.last().copied().unwrap_or(0).into();
        self.modify_orphans(|orphans| orphans.push(inode.number));
    }

    /// Takes an inode off the list. The caller gives its `dtime` another value.
    pub(crate) fn remove_orphan(&mut self, number: u32) -> Result<(), Error> {
        let index = self.orphans.iter().position(|orphan| *orphan == number);
        let Some(index) = index else { return Ok(()) };
        if let Some(before) = self.orphans.get(index + 1).copied() {
            let next = index.checked_sub(1).map_or(0, |next| self.orphans[next]);
            let mut before = self.inode(before)?;
            before.raw.deleted = next.into();
            self.write_inode(&before)?;
        }
        self.modify_orphans(|orphans| {
            orphans.remove(index);
        });
        Ok(())
    }

    /// Holds an inode: while it is open it lives on, even without a name.
    pub fn open(&mut self, inode: InodeNumber) -> Result<(), Error> {
        self.used_inode(inode)?;
        *self.open.entry(inode.0).or_insert(0) += 1;
        Ok(())
    }

    /// Lets go of an inode. If it has no name and nobody else holds it, it is freed.
    pub fn close(&mut self, inode: InodeNumber, now: Timestamp) -> Result<(), Error> {
        match self.open.get_mut(&inode.0) {
            None => return Err(Error::Invalid),
            Some(count) if *count > 1 => {
                *count -= 1;
                return Ok(());
            }
            Some(_) => drop(self.open.remove(&inode.0)),
        }
        if self.is_writable && self.is_orphan(inode.0) && self.inode(inode.0)?.raw.links.get() == 0 {
            return self.release(inode.0, now);
        }
        Ok(())
    }

    /// Within an operation: what becomes of an inode that has lost its last name. Returns true if the caller
    /// must [`release`](Self::release) it after the operation.
    pub(crate) fn abandon(&mut self, mut inode: Inode, now: Timestamp) -> Result<bool, Error> {
        inode.raw.links = 0.into();
        let is_open = self.open.contains_key(&inode.number);
        if !is_open && self.is_small(&inode) {
            if self.remove_all_it_can(&mut inode)?.is_none() {
                self.free_all(inode, now)?;
                return Ok(false);
            }
            return Err(Error::Corrupt("extent tree"));
        }
        self.add_orphan(&mut inode);
        self.write_inode(&inode)?;
        Ok(!is_open)
    }

    /// True if freeing the inode surely is one operation: its tree is the root alone, or it has none.
    fn is_small(&self, inode: &Inode) -> bool {
        !self.has_tree(inode) || crate::layout::le16(&inode.raw.block, 6) == 0
    }

    /// Frees an inode's blocks, as many as one operation may.
    fn remove_all_it_can(&mut self, inode: &mut Inode) -> Result<Option<u32>, Error> {
        if self.has_tree(inode) { self.remove_some(inode, 0, FILE_END) } else { Ok(None) }
    }

    /// True if the inode has blocks of its own.
    fn has_tree(&self, inode: &Inode) -> bool {
        use crate::layout::inode::InodeFlags;
        let kind = inode.raw.kind();
        let may_have = matches!(kind, Some(FileKind::File | FileKind::Directory | FileKind::Symlink));
        may_have && inode.has(InodeFlags::EXTENTS)
    }

    /// Frees an orphan without a name: its blocks, its attributes, its number.
    pub(crate) fn release(&mut self, number: u32, now: Timestamp) -> Result<(), Error> {
        let mut is_done = false;
        while !is_done {
            is_done = self.operation(now, |fs| {
                let mut inode = fs.inode(number)?;
                if fs.remove_all_it_can(&mut inode)?.is_some() {
                    fs.write_inode(&inode)?;
                    return Ok(false);
                }
                fs.remove_orphan(number)?;
                fs.free_all(inode, now)?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// Frees an inode whose blocks are gone.
    fn free_all(&mut self, mut inode: Inode, now: Timestamp) -> Result<(), Error> {
        self.drop_attribute_block(&mut inode)?;
        inode.raw.set_size(0);
        inode.raw.deleted = crate::mount::seconds(now).max(1).into();
        self.write_inode(&inode)?;
        self.free_inode(inode.number, inode.is_directory())
    }

    /// Finishes what the last user of the filesystem left.
    pub(crate) fn process_orphans(&mut self, now: Timestamp) -> Result<(), MountError> {
        for number in self.orphans.clone().into_iter().rev() {
            self.process_orphan(number, now)?;
        }
        if self.superblock.ro_compat().contains(RoCompat::ORPHAN_PRESENT) {
            self.process_orphan_file(now)?;
        }
        Ok(())
    }

    fn process_orphan(&mut self, number: u32, now: Timestamp) -> Result<(), Error> {
        let inode = self.inode(number)?;
        if inode.raw.links.get() == 0 {
            return self.release(number, now);
        }
        let from = inode.raw.size().div_ceil(self.geometry.block_bytes as u64);
        self.finish_truncation(number, u32::try_from(from).unwrap_or(FILE_END), now)
    }

    pub(crate) fn read_orphan_list(&mut self) -> Result<Vec<u32>, MountError> {
        let (mut orphans, mut seen) = (Vec::new(), HashSet::new());
        let mut next = self.superblock.last_orphan.get();
        while next != 0 {
            if next < self.geometry.first_inode || !seen.insert(next) {
                return Err(MountError::Corrupt("orphan list"));
            }
            orphans.push(next);
            next = self.inode(next)?.raw.deleted.get();
        }
        orphans.reverse();
        Ok(orphans)
    }

    fn process_orphan_file(&mut self, now: Timestamp) -> Result<(), MountError> {
        if !self.superblock.compat().contains(Compat::ORPHAN_FILE) {
            return Err(MountError::Corrupt("orphan file"));
        }
        let file = self.inode(self.superblock.orphan_file_inode.get())?;
        let block_bytes = self.geometry.block_bytes;
        for block in 0..file.raw.size() / block_bytes as u64 {
            let start = self.map_inode(&file, block, 1)?.start.ok_or(MountError::Corrupt("orphan file"))?;
            let bytes = self.block(start, crate::cache::Seal::Plain)?;
            for at in (0..block_bytes - ORPHAN_TAIL_BYTES).step_by(4) {
                let number = le32(&bytes, at);
                if number != 0 {
                    self.process_orphan(number, now)?;
                }
            }
            self.clear_orphan_block(&file, start, now)?;
        }
        let features = self.superblock.ro_compat().difference(RoCompat::ORPHAN_PRESENT);
        self.superblock.feature_ro_compat = features.bits().into();
        self.running.is_superblock_dirty = true;
        Ok(self.commit(now)?)
    }

    /// Empties a block of the orphan file; its checksum covers the block's number and the entries.
    fn clear_orphan_block(&mut self, file: &Inode, start: u64, now: Timestamp) -> Result<(), Error> {
        use crate::checksum::crc32c;
        let seed = self.geometry.inode_seed(file.number, file.raw.generation.get());
        let seed = crc32c(seed, &start.to_le_bytes());
        let has_checksums = self.geometry.checksum_seed.is_some();
        self.operation(now, |fs| {
            fs.modify(start, crate::cache::Seal::Plain, |bytes| {
                let end = bytes.len() - ORPHAN_TAIL_BYTES;
                bytes[..end].fill(0);
                if has_checksums {
                    let sum = crc32c(seed, &bytes[..end]);
                    crate::layout::put32(bytes, end + 4, sum);
                }
            })
        })
    }

    /// Frees the block of extended attributes, or one share of it.
    fn drop_attribute_block(&mut self, inode: &mut Inode) -> Result<(), Error> {
        let block = inode.raw.xattr_block();
        if block == 0 {
            return Ok(());
        }
        self.release_attribute_block(block)?;
        inode.raw.set_xattr_block(0);
        self.charge(inode, -1)
    }

    /// Takes a block for the first time: used by what is not an extent.
    pub(crate) fn take_single(&mut self, goal: u64) -> Result<u64, Error> {
        let run: BlockRun = self.allocate_run(goal, 1)?;
        Ok(run.start)
    }
}
