//! What can go wrong in an operation on a filesystem.

/// Why an operation failed. An operation that fails has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The directory has no such name, or the inode is free.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory is needed here.
    NotADirectory,
    /// A directory cannot be used so.
    IsADirectory,
    /// The directory still has names in it.
    NotEmpty,
    /// No free block or inode is left, or a directory's index is full.
    NoSpace,
    /// The inode has as many links as the format can count.
    TooManyLinks,
    /// The name is longer than 255 bytes.
    NameTooLong,
    /// The filesystem is mounted read-only, or turned so after a failed commit.
    ReadOnly,
    /// The offset or size is past what the format can address.
    TooLarge,
    /// The argument makes no sense for this inode: a directory moved below itself, an empty name, data of a symlink.
    Invalid,
    /// The extended attribute does not exist.
    NoAttribute,
    /// The filesystem does not do this, or the inode uses something that it does not read, such as the block maps of ext3.
    Unsupported,
    /// Whoever keeps the filesystem refuses this to us: its permission bits (`EACCES`).
    Denied,
    /// Whoever keeps the filesystem lets nobody do this, or only its administrator (`EPERM`).
    NotPermitted,
    /// What the disk holds contradicts itself; the text says where.
    Corrupt(&'static str),
    /// The device reported an I/O error, or whoever keeps the filesystem does not answer.
    Device,
    /// There is no memory for what has to be kept.
    NoMemory,
}
