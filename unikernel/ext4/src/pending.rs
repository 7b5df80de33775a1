//! Operations whose signatures are settled and whose bodies follow in the next commits; each fails with `Unsupported`.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::{
    BlockDevice, Entry, Error, Ext4, FormatError, InodeNumber, NewNode, RenameMode, Sync, Timestamp, WriteRun,
};

/// How a device is formatted. `Default` is what `mke2fs -t ext4` does.
#[derive(Clone, Debug, Default)]
pub struct FormatOptions {
    /// Up to 16 bytes of label.
    pub label: Vec<u8>,
    /// The filesystem's identity; random.
    pub uuid: [u8; 16],
    /// Seeds the directories' hashes; random.
    pub hash_seed: [u8; 16],
    /// Bytes in a block: 1024, 2048 or 4096; `None` chooses by size.
    pub block_bytes: Option<u32>,
    /// Bytes of disk for each inode; `None` chooses by size.
    pub inode_ratio: Option<u32>,
}

#[expect(missing_docs, reason = "bodies and documentation follow")]
impl<D: BlockDevice> Ext4<D> {
    pub fn format(_device: &D, _options: &FormatOptions, _now: Timestamp) -> Result<(), FormatError> {
        Err(FormatError::BadOptions)
    }
    pub fn entries(
        &mut self,
        _directory: InodeNumber,
        _cookie: u64,
        _each: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn create(
        &mut self,
        _directory: InodeNumber,
        _name: &[u8],
        _node: NewNode<'_>,
        _now: Timestamp,
    ) -> Result<InodeNumber, Error> {
        Err(Error::Unsupported)
    }
    pub fn link(
        &mut self,
        _inode: InodeNumber,
        _directory: InodeNumber,
        _name: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn unlink(&mut self, _directory: InodeNumber, _name: &[u8], _now: Timestamp) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn remove_directory(
        &mut self,
        _directory: InodeNumber,
        _name: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn rename(
        &mut self,
        _from_directory: InodeNumber,
        _from: &[u8],
        _to_directory: InodeNumber,
        _to: &[u8],
        _mode: RenameMode,
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn open(&mut self, _inode: InodeNumber) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn close(&mut self, _inode: InodeNumber, _now: Timestamp) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn prepare_write(
        &mut self,
        _inode: InodeNumber,
        _first_block: u64,
        _blocks: u32,
    ) -> Result<Vec<WriteRun>, Error> {
        Err(Error::Unsupported)
    }
    pub fn finish_write(
        &mut self,
        _inode: InodeNumber,
        _runs: &[WriteRun],
        _size: Option<u64>,
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn cancel_write(&mut self, _runs: &[WriteRun]) {}
    pub fn write_at(
        &mut self,
        _inode: InodeNumber,
        _offset: u64,
        _bytes: &[u8],
        _now: Timestamp,
    ) -> Result<usize, Error> {
        Err(Error::Unsupported)
    }
    pub fn set_size(&mut self, _inode: InodeNumber, _size: u64, _now: Timestamp) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn allocate_range(
        &mut self,
        _inode: InodeNumber,
        _offset: u64,
        _len: u64,
        _keep_size: bool,
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn punch(
        &mut self,
        _inode: InodeNumber,
        _offset: u64,
        _len: u64,
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn sync_inode(&mut self, _inode: InodeNumber, _what: Sync, _now: Timestamp) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn attribute(&mut self, _inode: InodeNumber, _name: &[u8]) -> Result<Vec<u8>, Error> {
        Err(Error::Unsupported)
    }
    pub fn set_attribute(
        &mut self,
        _inode: InodeNumber,
        _name: &[u8],
        _value: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn remove_attribute(
        &mut self,
        _inode: InodeNumber,
        _name: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    pub fn attribute_names(&mut self, _inode: InodeNumber) -> Result<Vec<Vec<u8>>, Error> {
        Err(Error::Unsupported)
    }
}
