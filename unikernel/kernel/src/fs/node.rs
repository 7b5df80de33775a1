//! Nodes of the tree as open files.

use alloc::string::String;
use alloc::sync::Arc;

use linux_raw_sys::general::*;
use unikernel_fs::{Node, NodeId};

use super::{Special, tree};
use crate::file::{File, Metadata, console};
use crate::mem::user::UserSlice;
use crate::syscall::{Errno, SysResult};

/// `st_dev` of everything in the tree.
const DEVICE_NUMBER: u64 = 1;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What `stat` tells of a node.
pub fn metadata(id: NodeId) -> Metadata {
    let attributes = tree().attributes(id);
    let (file_type, size, special_device) = match tree().node(id) {
        Node::Directory(_) => (S_IFDIR, 0, 0),
        Node::File(bytes) => (S_IFREG, bytes.len() as u64, 0),
        Node::Symlink(target) => (S_IFLNK, target.len() as u64, 0),
        Node::Special(Special::Device(device)) => (S_IFCHR, 0, device.number()),
        // As in Linux's `/proc`: the size shows when it is read.
        Node::Special(Special::Text(_)) => (S_IFREG, 0, 0),
    };
    Metadata {
        device: DEVICE_NUMBER,
        inode: id.inode(),
        mode: file_type | u32::from(attributes.permissions),
        links: tree().links(id),
        size,
        special_device,
        modified_ns: attributes.modified_s * NANOS_PER_SECOND,
    }
}

/// The type in a directory entry.
pub fn entry_type(id: NodeId) -> u8 {
    let entry_type = match tree().node(id) {
        Node::Directory(_) => DT_DIR,
        Node::Symlink(_) => DT_LNK,
        Node::Special(Special::Device(_)) => DT_CHR,
        Node::File(_) | Node::Special(Special::Text(_)) => DT_REG,
    };
    entry_type as u8
}

/// A node as a file. Symbolic links can only be named (`O_PATH`), not read.
pub fn open(id: NodeId) -> Arc<dyn File> {
    match tree().node(id) {
        Node::Directory(_) | Node::Symlink(_) => Arc::new(NameOnly { id }),
        Node::File(bytes) => Arc::new(Content { id, bytes: Bytes::Archive(bytes) }),
        Node::Special(Special::Text(make)) => Arc::new(Content { id, bytes: Bytes::Made(make()) }),
        Node::Special(Special::Device(super::Device::Console)) => console::console(),
        Node::Special(Special::Device(device)) => Arc::new(super::device::DeviceFile { device: *device, id }),
    }
}

enum Bytes {
    Archive(&'static [u8]),
    Made(String),
}

/// A file whose bytes do not change while it is open.
struct Content {
    id: NodeId,
    bytes: Bytes,
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Archive(bytes) => bytes,
            Bytes::Made(text) => text.as_bytes(),
        }
    }

    fn from(&self, offset: u64) -> &[u8] {
        let bytes = self.bytes();
        &bytes[usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())..]
    }
}

impl File for Content {
    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, into: UserSlice) -> SysResult {
        let rest = self.from(offset);
        let count = rest.len().min(into.len());
        into.write(&rest[..count])?;
        Ok(count)
    }

    fn write_at(&self, _offset: u64, _from: UserSlice) -> SysResult {
        Err(Errno::EBADF)
    }

    fn metadata(&self) -> Metadata {
        metadata(self.id)
    }

    fn map_content(&self, into: UserSlice, offset: u64) -> Result<(), Errno> {
        let rest = self.from(offset);
        into.write(&rest[..rest.len().min(into.len())])?;
        Ok(())
    }

    fn name(&self) -> String {
        alloc::format!("inode:[{}]", self.id.inode())
    }
}

/// A directory, or anything else as long as only its name is used.
pub struct NameOnly {
    /// Which node.
    pub id: NodeId,
}

impl File for NameOnly {
    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, _offset: u64, _into: UserSlice) -> SysResult {
        Err(Errno::EISDIR)
    }

    fn write_at(&self, _offset: u64, _from: UserSlice) -> SysResult {
        Err(Errno::EBADF)
    }

    fn metadata(&self) -> Metadata {
        metadata(self.id)
    }

    fn name(&self) -> String {
        let path = tree().path_of(self.id).unwrap_or_default();
        String::from_utf8_lossy(&path).into_owned()
    }
}
