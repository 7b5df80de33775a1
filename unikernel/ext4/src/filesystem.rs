//! ext4 as the kernel sees every filesystem ([`unikernel_vfs`]): the same operations, with inode numbers of 64 bits.

use alloc::vec::Vec;
use core::ops::Range;

use unikernel_vfs::access::{Acl, AclError};
use unikernel_vfs::{BlockMap, EachEntry, FileSystem, InodeNumber as Number, Storage};

use crate::{
    AttributeChange, Attributes, BlockDevice, Error, Ext4, InodeNumber, NewNode, RenameMode, Run, Statistics,
    Sync, Timestamp, WriteRun,
};

/// The inode with a number; ext4 counts in 32 bits, so no larger one can be used.
fn own(number: Number) -> Result<InodeNumber, Error> {
    u32::try_from(number.0).map(InodeNumber).map_err(|_| Error::NotFound)
}

/// True for the names of access control lists.
fn is_list(name: &[u8]) -> bool {
    matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
}

fn damaged(error: AclError) -> Error {
    match error {
        AclError::OutOfMemory => Error::NoMemory,
        AclError::Malformed | AclError::Version => Error::Corrupt("an access control list"),
    }
}

impl From<InodeNumber> for Number {
    fn from(number: InodeNumber) -> Self {
        Self(number.0.into())
    }
}

impl<D: BlockDevice + Send> FileSystem for Ext4<D> {
    fn root(&self) -> Number {
        InodeNumber::ROOT.into()
    }

    fn block_bytes(&self) -> u32 {
        Self::block_bytes(self)
    }

    fn max_file_bytes(&self) -> u64 {
        Self::max_file_bytes(self)
    }

    fn is_read_only(&self) -> bool {
        Self::is_read_only(self)
    }

    fn storage(&mut self) -> Storage<'_> {
        Storage::Blocks(self)
    }

    fn lookup(&mut self, directory: Number, name: &[u8]) -> Result<Number, Error> {
        Self::lookup(self, own(directory)?, name).map(Number::from)
    }

    fn attributes(&mut self, inode: Number) -> Result<Attributes, Error> {
        Self::attributes(self, own(inode)?)
    }

    fn read_link(&mut self, inode: Number) -> Result<Vec<u8>, Error> {
        Self::read_link(self, own(inode)?)
    }

    fn entries(&mut self, directory: Number, cookie: u64, each: EachEntry<'_>) -> Result<(), Error> {
        Self::entries(self, own(directory)?, cookie, &mut |entry| {
            let crate::Entry { name, inode, kind, next_cookie } = entry;
            each(unikernel_vfs::Entry { name, inode: inode.into(), kind, next_cookie })
        })
    }

    fn statistics(&mut self) -> Result<Statistics, Error> {
        Ok(Self::statistics(self))
    }

    fn open(&mut self, inode: Number) -> Result<(), Error> {
        Self::open(self, own(inode)?)
    }

    fn close(&mut self, inode: Number, now: Timestamp) -> Result<(), Error> {
        Self::close(self, own(inode)?, now)
    }

    fn set_attributes(
        &mut self,
        inode: Number,
        change: AttributeChange,
        now: Timestamp,
    ) -> Result<(), Error> {
        Self::set_attributes(self, own(inode)?, change, now)
    }

    fn set_size(&mut self, inode: Number, size: u64, now: Timestamp) -> Result<(), Error> {
        Self::set_size(self, own(inode)?, size, now)
    }

    fn create(
        &mut self,
        directory: Number,
        name: &[u8],
        node: NewNode<'_>,
        now: Timestamp,
    ) -> Result<Number, Error> {
        Self::create(self, own(directory)?, name, node, now).map(Number::from)
    }

    fn create_unnamed(
        &mut self,
        directory: Number,
        node: NewNode<'_>,
        now: Timestamp,
    ) -> Result<Number, Error> {
        Self::create_unnamed(self, own(directory)?, node, now).map(Number::from)
    }

    fn link(&mut self, inode: Number, directory: Number, name: &[u8], now: Timestamp) -> Result<(), Error> {
        Self::link(self, own(inode)?, own(directory)?, name, now)
    }

    fn unlink(&mut self, directory: Number, name: &[u8], now: Timestamp) -> Result<(), Error> {
        Self::unlink(self, own(directory)?, name, now)
    }

    fn remove_directory(&mut self, directory: Number, name: &[u8], now: Timestamp) -> Result<(), Error> {
        Self::remove_directory(self, own(directory)?, name, now)
    }

    fn rename(
        &mut self,
        from_directory: Number,
        from: &[u8],
        to_directory: Number,
        to: &[u8],
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<(), Error> {
        Self::rename(self, own(from_directory)?, from, own(to_directory)?, to, mode, now)
    }

    fn allocate_range(
        &mut self,
        inode: Number,
        offset: u64,
        len: u64,
        keep_size: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        Self::allocate_range(self, own(inode)?, offset, len, keep_size, now)
    }

    fn punch(&mut self, inode: Number, offset: u64, len: u64, now: Timestamp) -> Result<(), Error> {
        Self::punch(self, own(inode)?, offset, len, now)
    }

    fn next_data(&mut self, inode: Number, offset: u64) -> Result<Option<u64>, Error> {
        Self::next_data(self, own(inode)?, offset)
    }

    fn next_hole(&mut self, inode: Number, offset: u64) -> Result<Option<u64>, Error> {
        Self::next_hole(self, own(inode)?, offset)
    }

    fn extended_attribute(&mut self, inode: Number, name: &[u8]) -> Result<Vec<u8>, Error> {
        let value = self.attribute(own(inode)?, name)?;
        // On the disk lists have a form of their own (`ext4_acl_from_disk`).
        if !is_list(name) {
            return Ok(value);
        }
        let list = Acl::from_disk(&value).map_err(damaged)?.ok_or(Error::NoAttribute)?;
        list.to_attribute().map_err(damaged)
    }

    fn extended_attribute_names(&mut self, inode: Number) -> Result<Vec<Vec<u8>>, Error> {
        self.attribute_names(own(inode)?)
    }

    fn set_extended_attribute(
        &mut self,
        inode: Number,
        name: &[u8],
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        if !is_list(name) {
            return self.set_attribute(own(inode)?, name, value, now);
        }
        let list = Acl::from_attribute(value).ok().flatten().ok_or(Error::Invalid)?;
        let value = list.to_disk().map_err(damaged)?;
        self.set_attribute(own(inode)?, name, &value, now)
    }

    fn remove_extended_attribute(&mut self, inode: Number, name: &[u8], now: Timestamp) -> Result<(), Error> {
        self.remove_attribute(own(inode)?, name, now)
    }

    fn sync_inode(&mut self, inode: Number, what: Sync, now: Timestamp) -> Result<(), Error> {
        Self::sync_inode(self, own(inode)?, what, now)
    }

    fn commit(&mut self, now: Timestamp) -> Result<(), Error> {
        Self::commit(self, now)
    }

    fn has_uncommitted(&self) -> bool {
        Self::has_uncommitted(self)
    }

    fn trim(&mut self, blocks: Range<u64>, min_blocks: u32, now: Timestamp) -> Result<u64, Error> {
        Self::trim(self, blocks, min_blocks, now)
    }

    fn unmount(&mut self, now: Timestamp) -> Result<(), Error> {
        Self::unmount(self, now)
    }
}

impl<D: BlockDevice + Send> BlockMap for Ext4<D> {
    fn map(&mut self, inode: Number, first_block: u64, max_blocks: u32) -> Result<Run, Error> {
        Self::map(self, own(inode)?, first_block, max_blocks)
    }

    fn is_allocated(&mut self, inode: Number, blocks: Range<u64>) -> Result<bool, Error> {
        Self::is_allocated(self, own(inode)?, blocks)
    }

    fn prepare_write(
        &mut self,
        inode: Number,
        first_block: u64,
        blocks: u32,
    ) -> Result<Vec<WriteRun>, Error> {
        Self::prepare_write(self, own(inode)?, first_block, blocks)
    }

    fn cancel_write(&mut self, runs: &[WriteRun]) {
        Self::cancel_write(self, runs);
    }

    fn finish_write(
        &mut self,
        inode: Number,
        runs: &[WriteRun],
        is_written: Option<&dyn Fn(u64) -> bool>,
        size: Option<u64>,
        now: Timestamp,
    ) -> Result<(), Error> {
        match is_written {
            None => Self::finish_write(self, own(inode)?, runs, size, now),
            Some(is_written) => self.finish_partial_write(own(inode)?, runs, is_written, size, now),
        }
    }
}
