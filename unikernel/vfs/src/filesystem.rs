//! The interface between the kernel and a mounted filesystem.

use alloc::vec::Vec;
use core::ops::{ControlFlow, Range};

use crate::{
    AttributeChange, Attributes, Entry, Error, InodeNumber, NewNode, RenameMode, Run, Statistics, Sync,
    Timestamp, WriteRun,
};

/// Is told of the entries of a directory, one by one, until it has enough.
pub type EachEntry<'a> = &'a mut dyn FnMut(Entry<'_>) -> ControlFlow<()>;

/// How a filesystem keeps the content of files.
pub enum Storage<'a> {
    /// In blocks of its device, which the kernel reads and writes itself.
    Blocks(&'a mut dyn BlockMap),
    /// In its own way: it moves the bytes.
    Bytes(&'a mut dyn ByteStorage),
}

/// A mounted filesystem.
///
/// The kernel calls one operation at a time. It looks a number up ([`lookup`](Self::lookup), a listing) before it uses it, and holds
/// ([`open`](Self::open)) what it keeps for longer than one operation on the whole; a number that is neither may be forgotten.
/// What it passes was not checked by anybody: names may be empty, long, or contain slashes, and offsets may be anything.
///
/// What a filesystem does not do it leaves to the methods given here, which refuse it.
pub trait FileSystem: Send {
    /// The root directory.
    fn root(&self) -> InodeNumber;

    /// Bytes in a block, as `statfs` tells it: a power of two up to a page. Content of [`Storage::Blocks`] lies in such blocks.
    fn block_bytes(&self) -> u32;

    /// The greatest size that a file may have, in bytes.
    fn max_file_bytes(&self) -> u64;

    /// True if nothing can be changed. It may become so.
    fn is_read_only(&self) -> bool {
        true
    }

    /// True if others change it, too, so that what was learnt of a file or name is old after a while.
    fn is_shared(&self) -> bool {
        false
    }

    /// How the content of files is kept: the same way for all, as long as it is mounted.
    fn storage(&mut self) -> Storage<'_>;

    /// What a name in a directory leads to. `.` and `..` are names too.
    fn lookup(&mut self, directory: InodeNumber, name: &[u8]) -> Result<InodeNumber, Error>;

    /// What is known about an inode.
    fn attributes(&mut self, inode: InodeNumber) -> Result<Attributes, Error>;

    /// The bytes of a symbolic link; [`Error::Invalid`] for anything else.
    fn read_link(&mut self, inode: InodeNumber) -> Result<Vec<u8>, Error>;

    /// Tells the names in a directory, `.` and `..` first, from `cookie` on: 0, or [`Entry::next_cookie`] of an entry. Names
    /// that are there all the time are told once.
    fn entries(&mut self, directory: InodeNumber, cookie: u64, each: EachEntry<'_>) -> Result<(), Error>;

    /// Space and inodes.
    fn statistics(&mut self) -> Result<Statistics, Error>;

    /// Holds an inode: while it is open it lives on, even without a name.
    fn open(&mut self, _inode: InodeNumber) -> Result<(), Error> {
        Ok(())
    }

    /// Lets go of an inode. If it has no name and nobody else holds it, it is freed.
    fn close(&mut self, _inode: InodeNumber, _now: Timestamp) -> Result<(), Error> {
        Ok(())
    }

    /// Changes attributes.
    fn set_attributes(&mut self, _: InodeNumber, _: AttributeChange, _now: Timestamp) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    /// Makes a file shorter or longer. What is added reads as zeros.
    fn set_size(&mut self, _: InodeNumber, _size: u64, _now: Timestamp) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    /// Makes a node with a name.
    fn create(
        &mut self,
        _: InodeNumber,
        _name: &[u8],
        _: NewNode<'_>,
        _now: Timestamp,
    ) -> Result<InodeNumber, Error> {
        Err(Error::ReadOnly)
    }

    /// Makes a file without a name, which is open once. The directory says where in the filesystem it shall be.
    fn create_unnamed(
        &mut self,
        _: InodeNumber,
        _: NewNode<'_>,
        _now: Timestamp,
    ) -> Result<InodeNumber, Error> {
        Err(Error::Unsupported)
    }

    /// Gives an inode, which is no directory, another name.
    fn link(
        &mut self,
        _: InodeNumber,
        _directory: InodeNumber,
        _name: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    /// Removes a name of what is no directory.
    fn unlink(&mut self, _directory: InodeNumber, _name: &[u8], _now: Timestamp) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    /// Removes an empty directory.
    fn remove_directory(&mut self, _: InodeNumber, _name: &[u8], _now: Timestamp) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    /// Gives what has one name another. What had that name before is replaced, the rename fails, or the two trade places, as
    /// `mode` says. Two names of one inode stay as they are.
    fn rename(
        &mut self,
        _from_directory: InodeNumber,
        _from: &[u8],
        _to_directory: InodeNumber,
        _to: &[u8],
        _mode: RenameMode,
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    /// Gives a range (bytes) room, where it has none; the file grows to its end unless `keep_size`.
    fn allocate_range(
        &mut self,
        _inode: InodeNumber,
        _offset: u64,
        _len: u64,
        _keep_size: bool,
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }

    /// Makes a hole of a range (bytes); the file's size stays.
    fn punch(&mut self, _: InodeNumber, _offset: u64, _len: u64, _now: Timestamp) -> Result<(), Error> {
        Err(Error::Unsupported)
    }

    /// The first offset at or after `offset` (bytes) that has data, or `None` if there is none. Who knows no holes has data
    /// everywhere.
    fn next_data(&mut self, inode: InodeNumber, offset: u64) -> Result<Option<u64>, Error> {
        Ok((offset < self.attributes(inode)?.size).then_some(offset))
    }

    /// The first offset at or after `offset` (bytes) in a hole; the file's end counts as one. `None` past the end.
    fn next_hole(&mut self, inode: InodeNumber, offset: u64) -> Result<Option<u64>, Error> {
        let size = self.attributes(inode)?.size;
        Ok((offset < size).then_some(size))
    }

    /// The value of an extended attribute, whose name has its prefix, as in `user.mime`.
    fn extended_attribute(&mut self, _: InodeNumber, _name: &[u8]) -> Result<Vec<u8>, Error> {
        Err(Error::Unsupported)
    }

    /// The names of all extended attributes.
    fn extended_attribute_names(&mut self, _: InodeNumber) -> Result<Vec<Vec<u8>>, Error> {
        Ok(Vec::new())
    }

    /// Sets an extended attribute, whether it was there or not.
    fn set_extended_attribute(
        &mut self,
        _inode: InodeNumber,
        _name: &[u8],
        _value: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }

    /// Removes an extended attribute.
    fn remove_extended_attribute(
        &mut self,
        _: InodeNumber,
        _name: &[u8],
        _now: Timestamp,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }

    /// Makes an inode durable, and all content that was written to it before.
    fn sync_inode(&mut self, _inode: InodeNumber, _what: Sync, _now: Timestamp) -> Result<(), Error> {
        Ok(())
    }

    /// Makes all changes so far durable.
    fn commit(&mut self, _now: Timestamp) -> Result<(), Error> {
        Ok(())
    }

    /// True if there is something to commit.
    fn has_uncommitted(&self) -> bool {
        false
    }

    /// Tells the device which blocks of a range are free, in runs of at least `min_blocks`; answers how many blocks that were.
    fn trim(&mut self, _blocks: Range<u64>, _min_blocks: u32, _now: Timestamp) -> Result<u64, Error> {
        Err(Error::Unsupported)
    }

    /// Makes everything durable and leaves the device as one that was unmounted. No operation follows.
    fn unmount(&mut self, _now: Timestamp) -> Result<(), Error> {
        Ok(())
    }
}

/// Content that lies in blocks of the filesystem's device, of [`FileSystem::block_bytes`] each.
pub trait BlockMap {
    /// Where a file's blocks from `first_block` on lie: one run of at most `max_blocks`, which are at least 1. The file's size
    /// does not matter here: past the end there is a hole.
    fn map(&mut self, inode: InodeNumber, first_block: u64, max_blocks: u32) -> Result<Run, Error>;

    /// True if blocks of a file all have a place on the device, be they written or not.
    fn is_allocated(&mut self, inode: InodeNumber, blocks: Range<u64>) -> Result<bool, Error>;

    /// Finds the blocks for a file's data from `first_block` on: those it has, and newly reserved ones. The caller writes the
    /// data, whole blocks at a time, and calls [`finish_write`](Self::finish_write).
    ///
    /// Until then nobody else may prepare the same blocks, and the file must not be truncated or punched there.
    fn prepare_write(
        &mut self,
        inode: InodeNumber,
        first_block: u64,
        blocks: u32,
    ) -> Result<Vec<WriteRun>, Error>;

    /// Gives the blocks back that were reserved. The file stays as it was.
    fn cancel_write(&mut self, runs: &[WriteRun]);

    /// Makes blocks part of a file after their data was written, and the file at least `size` bytes long. What of `runs` lies
    /// past the file's end then is given back. `is_written` tells which blocks of the file the device took, one by one, and is `None`
    /// if it took all: the others, too, become part of the file, and read as zeros, so that nothing else is put where the device may be bad.
    ///
    /// On an error the runs that were not joined are still reserved: call [`cancel_write`](Self::cancel_write).
    fn finish_write(
        &mut self,
        inode: InodeNumber,
        runs: &[WriteRun],
        is_written: Option<&dyn Fn(u64) -> bool>,
        size: Option<u64>,
        now: Timestamp,
    ) -> Result<(), Error>;
}

/// Content that the filesystem moves itself.
pub trait ByteStorage {
    /// Reads a file's content from `offset` on; answers how many bytes there were: fewer than asked for at the end only.
    fn read(&mut self, inode: InodeNumber, offset: u64, into: &mut [u8]) -> Result<usize, Error>;

    /// Writes a file's content, all of it or an error; the file grows if it must.
    fn write(&mut self, _: InodeNumber, _offset: u64, _bytes: &[u8]) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }
}
