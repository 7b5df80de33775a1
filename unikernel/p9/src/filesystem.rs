//! The tree as the kernel sees every filesystem ([`unikernel_vfs`]).

use alloc::vec::Vec;

use unikernel_vfs::{
    AttributeChange, Attributes, EachEntry, Error, FileSystem, InodeNumber, NewNode, RenameMode, Statistics,
    Storage, Sync, Timestamp,
};

use crate::P9;
use crate::attributes::BLOCK_BYTES;
use crate::content::MAX_FILE_BYTES;

impl FileSystem for P9 {
    fn root(&self) -> InodeNumber {
        self.root
    }

    fn block_bytes(&self) -> u32 {
        BLOCK_BYTES
    }

    fn max_file_bytes(&self) -> u64 {
        MAX_FILE_BYTES
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn storage(&mut self) -> Storage<'_> {
        Storage::Bytes(self)
    }

    fn lookup(&mut self, directory: InodeNumber, name: &[u8]) -> Result<InodeNumber, Error> {
        self.find(directory, name)
    }

    fn attributes(&mut self, inode: InodeNumber) -> Result<Attributes, Error> {
        self.stat(inode)
    }

    fn read_link(&mut self, inode: InodeNumber) -> Result<Vec<u8>, Error> {
        self.target(inode)
    }

    fn entries(&mut self, directory: InodeNumber, cookie: u64, each: EachEntry<'_>) -> Result<(), Error> {
        self.list(directory, cookie, each)
    }

    fn statistics(&mut self) -> Result<Statistics, Error> {
        self.whole()
    }

    fn open(&mut self, inode: InodeNumber) -> Result<(), Error> {
        self.resolve(inode)?;
        let node = self.nodes.get_mut(inode)?;
        node.opens = node.opens.checked_add(1).ok_or(Error::NoMemory)?;
        self.nodes.touch(inode);
        Ok(())
    }

    fn close(&mut self, inode: InodeNumber, _now: Timestamp) -> Result<(), Error> {
        let node = self.nodes.get_mut(inode)?;
        // The root is held once by ourselves.
        let own = u32::from(inode == self.root);
        node.opens = node.opens.checked_sub(1).filter(|opens| *opens >= own).ok_or(Error::Invalid)?;
        if node.opens > 0 {
            return Ok(());
        }
        if node.is_nameless {
            self.forget(inode);
        } else {
            self.nodes.touch(inode);
            self.forget_surplus();
        }
        Ok(())
    }

    fn set_attributes(
        &mut self,
        inode: InodeNumber,
        change: AttributeChange,
        _now: Timestamp,
    ) -> Result<(), Error> {
        self.change_attributes(inode, &change)
    }

    fn set_size(&mut self, inode: InodeNumber, size: u64, _now: Timestamp) -> Result<(), Error> {
        self.change_size(inode, size)
    }

    fn create(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        node: NewNode<'_>,
        _now: Timestamp,
    ) -> Result<InodeNumber, Error> {
        self.make(directory, name, &node)
    }

    fn link(
        &mut self,
        inode: InodeNumber,
        directory: InodeNumber,
        name: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        self.make_link(inode, directory, name)
    }

    fn unlink(&mut self, directory: InodeNumber, name: &[u8], _now: Timestamp) -> Result<(), Error> {
        self.remove(directory, name, false)
    }

    fn remove_directory(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        self.remove(directory, name, true)
    }

    /// With [`RenameMode::NoReplace`] the new name is looked up first, as the protocol knows no such rename: somebody else who gives
    /// the name away between the two loses what had it. [`RenameMode::Exchange`] is [`Error::Unsupported`].
    fn rename(
        &mut self,
        from_directory: InodeNumber,
        from: &[u8],
        to_directory: InodeNumber,
        to: &[u8],
        mode: RenameMode,
        _now: Timestamp,
    ) -> Result<(), Error> {
        self.give_name((from_directory, from), (to_directory, to), mode)
    }

    fn extended_attribute(&mut self, inode: InodeNumber, name: &[u8]) -> Result<Vec<u8>, Error> {
        self.attribute(inode, name)
    }

    fn extended_attribute_names(&mut self, inode: InodeNumber) -> Result<Vec<Vec<u8>>, Error> {
        self.attribute_names(inode)
    }

    /// An empty value is [`Error::Unsupported`]: the protocol takes it for a removal.
    fn set_extended_attribute(
        &mut self,
        inode: InodeNumber,
        name: &[u8],
        value: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        self.set_attribute(inode, name, value)
    }

    fn remove_extended_attribute(
        &mut self,
        inode: InodeNumber,
        name: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        self.remove_attribute(inode, name)
    }

    fn sync_inode(&mut self, inode: InodeNumber, what: Sync, _now: Timestamp) -> Result<(), Error> {
        self.sync_file(inode, what)
    }

    fn commit(&mut self, _now: Timestamp) -> Result<(), Error> {
        self.sync_all()
    }

    fn has_uncommitted(&self) -> bool {
        !self.unsynced.is_empty() || self.lost_sync.is_some()
    }

    fn unmount(&mut self, _now: Timestamp) -> Result<(), Error> {
        let result = self.sync_all();
        while let Some(node) = self.nodes.pop() {
            self.end(&node);
        }
        result
    }
}
