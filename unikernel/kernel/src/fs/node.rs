//! Nodes of the tree as open files.

use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;

use linux_raw_sys::general::*;
use unikernel_fs::{Node, NodeId};

use super::attribute;
use super::device::{self, DeviceFile};
use super::generation;
use super::memory_file::MemoryFile;
use super::{Device, FileTree, Handle, Special, image, mounts, permission, proc, tree};
use crate::abi::{Errno, SysResult};
use crate::file::lock::FileLocks;
use crate::file::{Content, File, MAX_FILE_BYTES, Metadata, NamedNode};
use crate::ipc::pipe::Fifo;
use crate::mem::space::{Description, PageSource, Supply};
use crate::mem::user::UserSlice;
use crate::platform::time;
use crate::process::file_size;

/// What `stat` tells of a node.
pub(crate) fn metadata_in(tree: &FileTree, id: NodeId) -> Metadata {
    let attributes = tree.attributes(id);
    let (file_type, size, occupied_bytes, special_device) = match tree.node(id) {
        Node::Directory(_) => (S_IFDIR, 0, 0, 0),
        Node::File(content) => (S_IFREG, content.size(), content.occupied_bytes(), 0),
        Node::Symlink(target) => (S_IFLNK, target.len() as u64, 0, 0),
        Node::Special(Special::Device(device)) => (S_IFCHR, 0, 0, device.number()),
        Node::Special(Special::Image) => (S_IFREG, image::size(), image::size(), 0),
        Node::Special(Special::Driver(driver)) => (S_IFCHR, 0, 0, driver.number()),
        // As in Linux's `/proc`: the size shows when it is read.
        Node::Special(Special::Text(_) | Special::Attribute(_)) => (S_IFREG, 0, 0, 0),
        Node::Special(Special::Socket(_)) => (S_IFSOCK, 0, 0, 0),
        Node::Special(Special::Fifo(_)) => (S_IFIFO, 0, 0, 0),
    };
    let stored_ns = match tree.node(id) {
        Node::File(content) => content.stored_ns().map(i128::from),
        _ => None,
    };
    let changed_ns = attributes.changed_ns;
    let (user, group) = permission::owner_of(&attributes, file_type == S_IFDIR);
    Metadata {
        device: mounts::device_number(tree, id),
        inode: tree.inode(id),
        mode: file_type | u32::from(attributes.permissions),
        links: tree.links(id),
        user,
        group,
        size,
        occupied_bytes,
        special_device,
        accessed_ns: attributes.accessed_ns,
        modified_ns: stored_ns.unwrap_or(attributes.modified_ns),
        changed_ns: stored_ns.map_or(changed_ns, |stored_ns| stored_ns.max(changed_ns)),
        born_ns: attributes.born_ns,
    }
}

/// The same, for who does not hold the tree.
pub(crate) fn metadata(id: NodeId) -> Metadata {
    metadata_in(&tree(), id)
}

/// The type in a directory entry.
pub(crate) fn entry_type(tree: &FileTree, id: NodeId) -> u8 {
    let entry_type = match tree.node(id) {
        Node::Directory(_) => DT_DIR,
        Node::Symlink(_) => DT_LNK,
        Node::Special(Special::Device(_) | Special::Driver(_)) => DT_CHR,
        Node::Special(Special::Socket(_)) => DT_SOCK,
        Node::Special(Special::Fifo(_)) => DT_FIFO,
        Node::File(_) | Node::Special(Special::Text(_) | Special::Attribute(_) | Special::Image) => DT_REG,
    };
    entry_type as u8
}

/// What is behind a node, apart from the tree.
enum Inside {
    NameOnly,
    File(Arc<MemoryFile>),
    Special(Special),
}

/// A node as a file, with flags of open(2) that drivers may look at; `ENOMEM` if its content is made at this moment and does not fit.
pub(crate) fn open(handle: Handle, flags: u32) -> Result<Arc<dyn File>, Errno> {
    let inside = match tree().node(handle.id) {
        Node::Directory(_) | Node::Symlink(_) => Inside::NameOnly,
        Node::File(content) => Inside::File(Arc::clone(content)),
        Node::Special(special) => Inside::Special(special.clone()),
    };
    Ok(match inside {
        // A socket is connected to, not opened; `check_open` has refused it. A named pipe is opened by
        // its ends ([`fifo`]).
        Inside::NameOnly | Inside::Special(Special::Socket(_) | Special::Fifo(_)) => open_name(handle),
        Inside::File(content) => Arc::new(FileNode(Arc::new(Named { handle, content }))),
        Inside::Special(Special::Image) => {
            Arc::new(FileNode(Arc::new(Named { handle, content: image::open()? })))
        }
        Inside::Special(Special::Driver(driver)) => driver.open(handle, flags)?,
        Inside::Special(Special::Attribute(attribute)) => attribute::open(handle, attribute),
        Inside::Special(Special::Text(proc::Text::Generation)) => generation::open(handle),
        Inside::Special(Special::Text(text)) => attribute::open(handle, text),
        Inside::Special(Special::Device(
            terminal @ (Device::Console | Device::Tty | Device::Ptmx | Device::Slave(_)),
        )) => device::terminals().open(terminal, handle)?,
        Inside::Special(Special::Device(device)) => Arc::new(DeviceFile { device, handle }),
    })
}

/// The named pipe that a node is, if it is one.
pub(crate) fn fifo(id: NodeId) -> Option<Fifo> {
    match tree().node(id) {
        Node::Special(Special::Fifo(fifo)) => Some(fifo.clone()),
        _ => None,
    }
}

/// A node of which only the name is wanted (`O_PATH`), and every directory.
pub(crate) fn open_name(handle: Handle) -> Arc<dyn File> {
    Arc::new(NameOnly { handle: Arc::new(handle) })
}

/// What keeps the node behind an open file, if there is one.
pub(crate) fn handle_of(file: &dyn File) -> Option<&Handle> {
    let node: &dyn Any = file.node()?;
    node.downcast_ref()
}

/// The path that led to a node.
pub(crate) fn name_of(handle: &Handle) -> String {
    String::from_utf8_lossy(&handle.path()).into_owned()
}

/// A regular file, which mappings share.
pub(crate) struct FileNode(Arc<Named>);

/// A file's bytes, and the node that has them.
struct Named {
    handle: Handle,
    content: Arc<MemoryFile>,
}

/// What a mapping shows are the bytes; the node has the name.
impl PageSource for Named {
    fn identity(&self) -> usize {
        self.content.identity()
    }

    fn page(&self, index: u64) -> Supply {
        self.content.page(index)
    }

    fn allows_writing(&self) -> bool {
        self.content.allows_writing()
    }

    fn note_store(&self) {
        self.content.note_store();
    }

    fn describe(&self) -> Description {
        let Metadata { device, inode, .. } = metadata(self.handle.id);
        Description { name: name_of(&self.handle), device, inode }
    }
}

impl FileNode {
    /// Its bytes.
    pub(crate) fn content(&self) -> &Arc<MemoryFile> {
        &self.0.content
    }

    /// Notes that the content changed now.
    pub(crate) fn note_change(&self) {
        note_change(self.0.handle.id);
    }
}

/// Makes a regular file shorter or longer.
pub(crate) fn resize(id: NodeId, size: u64) -> Result<(), Errno> {
    let content = match tree().node(id) {
        Node::File(content) => Arc::clone(content),
        _ => return Err(Errno::EINVAL),
    };
    content.resize(size)?;
    note_change(id);
    Ok(())
}

/// Notes that a file's content changed now.
pub(crate) fn note_change(id: NodeId) {
    let now_ns = time::wall_ns();
    let mut tree = tree();
    let is_file = if let Node::File(content) = tree.node(id) {
        content.forget_store();
        true
    } else {
        false
    };
    let attributes = tree.attributes_mut(id);
    permission::drop_privileges(attributes, is_file);
    attributes.modified_ns = now_ns.into();
    attributes.changed_ns = now_ns.into();
}

impl File for FileNode {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&self.0.handle)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, into: UserSlice) -> SysResult {
        self.0.content.read(offset, into)
    }

    fn write_at(&self, offset: u64, from: UserSlice) -> SysResult {
        let count = self.0.content.write(offset, from)?;
        self.note_change();
        Ok(count)
    }

    fn append(&self, from: UserSlice) -> Result<(u64, usize), Errno> {
        let outcome = self.0.content.append(from)?;
        self.note_change();
        Ok(outcome)
    }

    fn find_content(&self, offset: u64, wanted: Content) -> Option<u64> {
        self.0.content.find(offset, wanted)
    }

    fn metadata(&self) -> Metadata {
        metadata(self.0.handle.id)
    }

    fn locks(&self) -> Option<&FileLocks> {
        Some(self.0.content.locks())
    }

    fn page_source(&self) -> Result<Arc<dyn PageSource>, Errno> {
        Ok(Arc::clone(&self.0) as Arc<dyn PageSource>)
    }

    fn is_regular(&self) -> bool {
        true
    }

    fn resize(&self, size: u64) -> Result<(), Errno> {
        self.0.content.resize(size)?;
        self.note_change();
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<(), Errno> {
        if !keep_size {
            file_size::check_file_size(self.0.content.size(), offset + len, MAX_FILE_BYTES)?;
        }
        self.0.content.reserve(offset, len)?;
        if !keep_size && offset + len > self.0.content.size() {
            self.0.content.resize(offset + len)?;
        }
        self.note_change();
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.0.content.punch(offset, len)?;
        self.note_change();
        Ok(())
    }

    fn name(&self) -> String {
        name_of(&self.0.handle)
    }
}

/// A directory, or anything else as long as only its name is used.
pub(crate) struct NameOnly {
    /// Which node.
    pub handle: Arc<Handle>,
}

impl File for NameOnly {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&*self.handle)
    }

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
        metadata(self.handle.id)
    }

    fn name(&self) -> String {
        name_of(&self.handle)
    }
}
