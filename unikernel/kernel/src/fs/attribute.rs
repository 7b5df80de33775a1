//! Nodes of the tree that come and go while the machine runs: texts in `/proc` and `/sys` ([`Attribute`]) and devices in `/dev` ([`Driver`]), behind
//! which is somebody whom the tree does not know, such as a module.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use unikernel_fs::{AddError, Attributes, EditError, LastLink, Node};

use super::node::{metadata, name_of};
use super::{Handle, NodeId, Special, remove_name, tree};
use crate::abi::{Errno, SysResult};
use crate::file::{File, Metadata, NamedNode};
use crate::kmem::room;
use crate::mem::user::UserSlice;
use crate::platform::time;
use crate::sync::SpinLock;

/// The longest text that is taken at once (Linux: a page).
const MOST_WRITTEN_BYTES: usize = 4096;

/// A text that is made when it is read.
pub(crate) trait Attribute: Send + Sync {
    /// The text, or what is none; an error if whoever it is about has gone.
    fn show(&self) -> Result<Vec<u8>, Errno>;

    /// Takes what was written.
    fn store(&self, _bytes: &[u8]) -> Result<(), Errno> {
        Err(Errno::EIO)
    }
}

impl Attribute for Arc<dyn Attribute> {
    fn show(&self) -> Result<Vec<u8>, Errno> {
        (**self).show()
    }

    fn store(&self, bytes: &[u8]) -> Result<(), Errno> {
        (**self).store(bytes)
    }
}

/// Who opens a device.
pub(crate) trait Driver: Send + Sync {
    /// The device's number.
    fn number(&self) -> u64;

    /// Opens it.
    fn open(&self, node: Handle, flags: u32) -> Result<Arc<dyn File>, Errno>;
}

fn error_of(error: AddError) -> Errno {
    match error {
        AddError::NotADirectory => Errno::ENOTDIR,
        AddError::IsADirectory => Errno::EEXIST,
        _ => Errno::EINVAL,
    }
}

/// Adds a text, and the directories on the way to it.
pub(crate) fn add(path: &str, attribute: Arc<dyn Attribute>, permissions: u16) -> Result<(), Errno> {
    room::ask()?;
    let attributes = Attributes::new(permissions, time::wall_ns());
    let node = Node::Special(Special::Attribute(attribute));
    let added = tree().add(path.as_bytes(), node, attributes);
    added.map(|_| ()).map_err(error_of)
}

/// Adds a device to `/dev`, whose name must not be there; it has the name until [`remove_driver`].
pub(crate) fn add_driver(name: &str, driver: Arc<dyn Driver>, permissions: u16) -> Result<Handle, Errno> {
    room::ask()?;
    let attributes = Attributes::new(permissions, time::wall_ns());
    let mut tree = tree();
    let directory = tree.lookup(NodeId::ROOT, b"/dev", LastLink::Follow)?;
    let id = tree.create(directory, name.as_bytes(), Node::Special(Special::Driver(driver)), attributes)?;
    tree.open(id);
    tree.open(directory);
    Ok(Handle { id, place: Some((directory, name.as_bytes().into())) })
}

/// Takes its name away, if it still has it. Who has it open goes on to have it.
pub(crate) fn remove_driver(node: &Handle) {
    remove_name(node);
}

/// Removes a text.
pub(crate) fn remove(path: &str) {
    let _ = remove_at(path, |tree, parent, name| tree.unlink(parent, name, time::wall_ns()));
}

/// Removes a directory, if it is empty.
pub(crate) fn remove_directory(path: &str) {
    let _ = remove_at(path, |tree, parent, name| tree.remove_directory(parent, name, time::wall_ns()));
}

type Removed = Option<Node<Arc<super::MemoryFile>, Special>>;

fn remove_at(
    path: &str,
    remove: impl FnOnce(&mut super::FileTree, NodeId, &[u8]) -> Result<Removed, EditError>,
) -> Result<(), Errno> {
    let (parent, name) = path.rsplit_once('/').ok_or(Errno::EINVAL)?;
    let mut tree = tree();
    let parent = tree.lookup(NodeId::ROOT, parent.as_bytes(), LastLink::Follow)?;
    let removed = remove(&mut tree, parent, name.as_bytes());
    drop(tree);
    // What was there ends without the tree's lock.
    drop(removed?);
    Ok(())
}

/// A text, opened. It is made whenever it is read from its start, so that who keeps it open reads what is true now.
struct Opened<A> {
    handle: Handle,
    attribute: A,
    /// None before the first reading.
    content: SpinLock<Option<Arc<[u8]>>>,
}

/// Opens a text.
pub(super) fn open(handle: Handle, attribute: impl Attribute + 'static) -> Arc<dyn File> {
    Arc::new(Opened { handle, attribute, content: SpinLock::new(None) })
}

impl<A: Attribute + 'static> File for Opened<A> {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&self.handle)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, into: UserSlice) -> SysResult {
        let kept = self.content.lock().clone().filter(|_| offset > 0);
        let content = match kept {
            Some(content) => content,
            None => {
                let made: Arc<[u8]> = Arc::from(self.attribute.show()?);
                *self.content.lock() = Some(Arc::clone(&made));
                made
            }
        };
        let rest = content.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into.write(&rest[..count])?;
        Ok(count)
    }

    fn write_at(&self, _offset: u64, from: UserSlice) -> SysResult {
        let len = from.len().min(MOST_WRITTEN_BYTES);
        let mut bytes = room::filled(0, len)?;
        from.truncate(len).read(&mut bytes)?;
        self.attribute.store(&bytes)?;
        Ok(len)
    }

    fn metadata(&self) -> Metadata {
        metadata(self.handle.id)
    }

    fn name(&self) -> String {
        name_of(&self.handle)
    }
}
