//! What is ext4's own among its types. The others are those of all filesystems (`unikernel_vfs`).

pub use unikernel_vfs::{
    AttributeChange, Attributes, FileKind, Identity, NewKind, NewNode, RenameMode, Run, Statistics, Sync,
    Timestamp, WriteRun,
};

/// An inode's number, from 1. The root directory is [`InodeNumber::ROOT`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InodeNumber(pub u32);

impl InodeNumber {
    /// The root directory.
    pub const ROOT: Self = Self(2);
}

/// A name in a directory, as a listing shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The name's bytes.
    pub name: &'a [u8],
    /// Where it leads.
    pub inode: InodeNumber,
    /// What is there, if the directory tells; else ask the inode.
    pub kind: Option<FileKind>,
    /// Continues the listing after this entry.
    pub next_cookie: u64,
}

/// How [`Ext4::mount`](crate::Ext4::mount) uses the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MountMode {
    /// Nothing is changed, but a journal that needs it is replayed, as ext4 does.
    ReadOnly,
    /// The normal way.
    ReadWrite,
}
