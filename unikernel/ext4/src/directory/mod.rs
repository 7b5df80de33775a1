//! Directories: finding, adding and removing names.
//!
//! A directory is a file of blocks with entries. A small one is searched from its start (`linear`); one with an
//! index (`index`) is searched by the name's hash. Listing is in `listing`.

mod grow;
pub(crate) mod hash;
mod index;
pub(crate) mod linear;
mod listing;

use alloc::sync::Arc;

use crate::cache::Seal;
use crate::inode::Inode;
use crate::layout::directory::{Entries, MAX_NAME_BYTES, ROOT_COUNT_AT};
use crate::layout::inode::InodeFlags;
use crate::{BlockDevice, Error, Ext4};

/// A name in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// The block of the disk that holds it.
    pub block: u64,
    /// Where the entry begins in that block.
    pub at: usize,
    /// Where it leads.
    pub inode: u32,
}

/// Fails for names that no directory can have.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Error> {
    match name {
        [] => Err(Error::NotFound),
        name if name.len() > MAX_NAME_BYTES => Err(Error::NameTooLong),
        name if name.contains(&b'/') || name.contains(&0) => Err(Error::Invalid),
        _ => Ok(()),
    }
}

impl<D: BlockDevice> Ext4<D> {
    fn directory_seed(&self, directory: &Inode) -> u32 {
        self.geometry.inode_seed(directory.number, directory.raw.generation.get())
    }

    pub(crate) fn leaf_seal(&self, directory: &Inode) -> Seal {
        Seal::Leaf(self.directory_seed(directory))
    }

    fn root_seal(&self, directory: &Inode) -> Seal {
        Seal::Index(self.directory_seed(directory), ROOT_COUNT_AT)
    }

    /// Blocks of a directory.
    pub(crate) fn directory_blocks(&self, directory: &Inode) -> Result<u32, Error> {
        let size = directory.raw.size();
        let block_bytes = self.geometry.block_bytes as u64;
        let blocks = u32::try_from(size / block_bytes).map_err(|_| Error::Corrupt("directory size"))?;
        if size.is_multiple_of(block_bytes) && blocks > 0 {
            Ok(blocks)
        } else {
            Err(Error::Corrupt("directory size"))
        }
    }

    /// Where a directory's block lies. A directory has no holes.
    pub(crate) fn directory_place(&mut self, directory: &Inode, file_block: u32) -> Result<u64, Error> {
        match self.find_extent(directory, file_block)? {
            Ok(extent) if !extent.is_unwritten => {
                Ok(extent.start + u64::from(file_block - extent.file_block))
            }
            _ => Err(Error::Corrupt("hole in a directory")),
        }
    }

    /// Reads a leaf.
    pub(crate) fn leaf(&mut self, directory: &Inode, file_block: u32) -> Result<(u64, Arc<[u8]>), Error> {
        let place = self.directory_place(directory, file_block)?;
        Ok((place, self.block(place, self.leaf_seal(directory))?))
    }

    /// True if names are found by an index.
    pub(crate) fn is_indexed(&self, directory: &Inode) -> bool {
        self.geometry.has_directory_index && directory.has(InodeFlags::INDEX)
    }

    /// Finds a name, which may be `.` or `..`.
    pub(crate) fn find_name(&mut self, directory: &Inode, name: &[u8]) -> Result<Option<Found>, Error> {
        if self.is_indexed(directory) {
            if matches!(name, b"." | b"..") {
                return self.find_in_root(directory, name);
            }
            return self.find_by_index(directory, name);
        }
        for file_block in 0..self.directory_blocks(directory)? {
            let (place, leaf) = self.leaf(directory, file_block)?;
            if let Some(found) = find_in_block(&leaf, place, name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// `.` and `..` lie in the index's root.
    fn find_in_root(&mut self, directory: &Inode, name: &[u8]) -> Result<Option<Found>, Error> {
        let place = self.directory_place(directory, 0)?;
        let root = self.block(place, self.root_seal(directory))?;
        find_in_block(&root, place, name)
    }

    /// The seal of the block that holds `.` and `..`.
    pub(crate) fn first_block_seal(&self, directory: &Inode) -> Seal {
        if self.is_indexed(directory) { self.root_seal(directory) } else { self.leaf_seal(directory) }
    }
}

/// Searches one block for a name.
pub(crate) fn find_in_block(block: &[u8], place: u64, name: &[u8]) -> Result<Option<Found>, Error> {
    for entry in Entries::new(block) {
        let entry = entry.ok_or(Error::Corrupt("directory entry"))?;
        if entry.inode != 0 && entry.name == name {
            return Ok(Some(Found { block: place, at: entry.at, inode: entry.inode }));
        }
    }
    Ok(None)
}
