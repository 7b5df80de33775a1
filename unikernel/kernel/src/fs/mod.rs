//! Files with names: one tree in memory (tmpfs semantics), which begins with what the initrd brought
//! and what the kernel adds to it.
//!
//! - here: the one [`tree`] and the [`Handle`]s that keep its nodes alive; [`init`] fills it;
//! - [`node`]: a node of the tree as an open file; [`memory_file`]: a file's bytes;
//! - [`device`]: `/dev`; [`proc`]: `/proc`, texts made when they are opened; [`metrics`]: the
//!   kernel's counters among them; [`listing`]: its directories that change.
//!
//! The tree itself, and walking it, is `unikernel_fs`. Its lock is held for a step at a time, never
//! while the app's memory is touched.

pub mod device;
mod init;
pub mod listing;
pub mod memory_file;
pub mod metrics;
pub mod node;
pub mod proc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

pub use init::init;
use spin::Once;
use unikernel_fs::{LastLink, Node, Place, Tree};
pub use unikernel_fs::{LookupError, NodeId};

use crate::file::pipe::Fifo;
use crate::net::socket::Socket;
use crate::sync::{SpinLock, SpinLockGuard};
use device::Device;
use memory_file::MemoryFile;

/// Nodes that the kernel brings.
#[derive(Clone)]
pub enum Special {
    /// A device.
    Device(Device),
    /// A text that is made at each opening.
    Text(fn() -> String),
    /// A named pipe.
    Fifo(Fifo),
    /// The name of a socket within the machine.
    Socket(Weak<Socket>),
}

/// The tree of this kernel.
pub type FileTree = Tree<Arc<MemoryFile>, Special>;

static TREE: Once<SpinLock<FileTree>> = Once::new();
static CURRENT_DIRECTORY: SpinLock<Option<Arc<Handle>>> = SpinLock::new(None);
/// Permission bits that new files do not get (umask(2)).
static MASK: AtomicU32 = AtomicU32::new(0o022);

/// The tree, for as long as the guard lives.
///
/// # Panics
///
/// Before [`init`].
pub fn tree() -> SpinLockGuard<'static, FileTree> {
    TREE.get().expect("`init` comes before the app").lock()
}

/// Keeps a node alive, whatever becomes of its names, and remembers the name that led to it.
pub struct Handle {
    /// Which node.
    pub id: NodeId,
    /// The directory in which it was found, which is kept alive too, and its name there.
    place: Option<(NodeId, Box<[u8]>)>,
}

impl Handle {
    /// Keeps what a walk has found.
    pub fn of_place(tree: &mut FileTree, place: Place, id: NodeId) -> Self {
        tree.open(id);
        tree.open(place.parent);
        Self { id, place: Some((place.parent, place.name.into())) }
    }

    /// Keeps a directory, which knows its place itself.
    pub fn of_directory(tree: &mut FileTree, id: NodeId) -> Self {
        tree.open(id);
        Self { id, place: None }
    }

    /// Takes over a node that has no name ([`Tree::create_unnamed`]).
    pub fn of_unnamed(id: NodeId) -> Self {
        Self { id, place: None }
    }

    /// The path that led here, as far as it still does.
    pub fn path(&self) -> Vec<u8> {
        let tree = tree();
        if let Some(path) = tree.path_of(self.id) {
            return path;
        }
        let Some((parent, name)) = &self.place else { return b"/ (deleted)".to_vec() };
        let mut path = tree.path_of(*parent).unwrap_or_default();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if tree.links(self.id) == 0 {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut tree = tree();
        let node = tree.close(self.id);
        let parent = self.place.as_ref().and_then(|(parent, _)| tree.close(*parent));
        drop(tree);
        // A long file takes a while to go; nobody waits for the tree meanwhile.
        drop((node, parent));
    }
}

/// Walks a path to a node and keeps it.
pub fn find(base: &Handle, path: &[u8], last: LastLink) -> Result<Handle, LookupError> {
    let mut tree = tree();
    let id = tree.lookup(base.id, path, last)?;
    if matches!(tree.node(id), Node::Directory(_)) {
        return Ok(Handle::of_directory(&mut tree, id));
    }
    let place = tree.walk(base.id, path, last)?;
    Ok(Handle::of_place(&mut tree, place, id))
}

/// Where relative paths start.
pub fn current_directory() -> Arc<Handle> {
    if let Some(directory) = &*CURRENT_DIRECTORY.lock() {
        return Arc::clone(directory);
    }
    Arc::new(Handle::of_directory(&mut tree(), NodeId::ROOT))
}

/// Makes relative paths start elsewhere.
pub fn set_current_directory(directory: Arc<Handle>) {
    let before = CURRENT_DIRECTORY.lock().replace(directory);
    drop(before);
}

/// Makes relative paths start at the folder of this path.
pub fn enter(path: &[u8]) -> Result<(), LookupError> {
    let directory = find(&current_directory(), path, LastLink::Follow)?;
    if !matches!(tree().node(directory.id), Node::Directory(_)) {
        return Err(LookupError::NotADirectory);
    }
    set_current_directory(Arc::new(directory));
    Ok(())
}

/// The permissions that a new file gets when `wanted` are asked for.
pub fn masked(wanted: u32) -> u16 {
    (wanted & 0o7777 & !MASK.load(Ordering::Relaxed)) as u16
}

/// The bits that new files do not get.
pub fn mask() -> u32 {
    MASK.load(Ordering::Relaxed)
}

/// Sets the bits that new files do not get; answers those before.
pub fn set_mask(mask: u32) -> u32 {
    MASK.swap(mask & 0o777, Ordering::Relaxed)
}
