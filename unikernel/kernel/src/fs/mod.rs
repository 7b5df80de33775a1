//! Files with names: one tree in memory (tmpfs semantics), which begins with what the initrd brought
//! and what the kernel adds to it.
//!
//! - here: the one [`tree`] and the [`Handle`]s that keep its nodes alive; [`init`] fills it, with
//!   what programs look for (`defaults`);
//! - [`node`]: a node of the tree as an open file; [`memory_file`]: a file's bytes;
//! - `ext4`: how that reaches its disk (`crate::vfs` mounts it below a directory of the tree); [`mounts`]: which filesystems the app sees;
//! - [`confine`]: whether a file may be used as it is to be; [`permission`]: who may do what;
//! - [`resolve`]: walks that may not lead everywhere;
//! - [`watched`]: what `file::notify` is told of files with a name;
//! - [`image`]: the app's program as a file; [`device`]: `/dev`; [`proc`]: `/proc`, texts made when they are opened; [`metrics`]: the
//!   kernel's counters among them; [`attribute`]: texts and devices that come and go; [`generation`]: whether the machine goes on from a saved state; [`listing`]: its directories and links that change by themselves.
//!
//! The tree itself, and walking it, is `unikernel_fs`. Its lock is held for a step at a time, never
//! while the app's memory is touched.

pub(crate) mod attribute;
pub(crate) mod confine;
mod defaults;
pub(crate) mod device;
mod errors;
mod ext4;
mod fat;
pub(crate) mod generation;
pub(crate) mod image;
mod init;
pub(crate) mod listing;
pub(crate) mod memory_file;
pub(crate) mod metrics;
pub(crate) mod mounts;
pub(crate) mod node;
mod p9;
pub(crate) mod permission;
pub(crate) mod proc;
pub(crate) mod registry;
pub(crate) mod resolve;
pub(crate) mod socket_names;
pub(crate) mod watched;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

pub(crate) use defaults::{add_identity, put};
pub(crate) use init::init;
use spin::Once;
use unikernel_fs::{Attributes, LastLink, Node, Place, Tree, Walk};
pub(crate) use unikernel_fs::{LookupError, NodeId};
use unikernel_vfs::access::Wanted;

use crate::abi::Errno;
use crate::file::{self, File, Metadata};
use crate::ipc::pipe::Fifo;
use crate::net::socket::Socket;
use crate::platform::time;
use crate::sync::{SpinLock, SpinLockGuard};
use crate::task::credentials;
use crate::vfs;
use crate::vfs::file::Opened;
use crate::vfs::names::Mode;
use crate::vfs::walk::{InodePlace, InodeWalk};
use device::Device;
use listing::Onward;
use memory_file::MemoryFile;
use permission::Searcher;

/// Nodes that the kernel brings.
#[derive(Clone)]
pub(crate) enum Special {
    /// A device.
    Device(Device),
    /// A device that somebody drives who may go.
    Driver(Arc<dyn attribute::Driver>),
    /// A text of the kernel's.
    Text(proc::Text),
    /// A text of somebody who may go.
    Attribute(Arc<dyn attribute::Attribute>),
    /// The app's own program.
    Image,
    /// A named pipe.
    Fifo(Fifo),
    /// The name of a socket within the machine.
    Socket(Weak<Socket>),
}

/// The tree of this kernel.
pub(crate) type FileTree = Tree<Arc<MemoryFile>, Special>;

static TREE: Once<SpinLock<FileTree>> = Once::new();
static CURRENT_DIRECTORY: SpinLock<Option<Located>> = SpinLock::new(None);
/// Permission bits that new files do not get (umask(2)).
static MASK: AtomicU32 = AtomicU32::new(0o022);

/// The tree, for as long as the guard lives.
///
/// # Panics
///
/// Before [`init`].
pub(crate) fn tree() -> SpinLockGuard<'static, FileTree> {
    TREE.get().expect("`init` comes before the app").lock()
}

/// Keeps a node alive, whatever becomes of its names, and remembers the name that led to it.
pub(crate) struct Handle {
    /// Which node.
    pub id: NodeId,
    /// The directory in which it was found, which is kept alive too, and its name there.
    place: Option<(NodeId, Box<[u8]>)>,
}

impl Handle {
    /// Keeps what a walk has found.
    pub(crate) fn of_place(tree: &mut FileTree, place: Place, id: NodeId) -> Self {
        tree.open(id);
        tree.open(place.parent);
        Self { id, place: Some((place.parent, place.name.into())) }
    }

    /// Keeps a directory, which knows its place itself.
    pub(crate) fn of_directory(tree: &mut FileTree, id: NodeId) -> Self {
        tree.open(id);
        Self { id, place: None }
    }

    /// Takes over a node that has no name ([`Tree::create_unnamed`]).
    pub(crate) fn of_unnamed(id: NodeId) -> Self {
        Self { id, place: None }
    }

    /// The same; people read this name, which leads nowhere.
    pub(crate) fn of_unnamed_called(tree: &mut FileTree, id: NodeId, name: &[u8]) -> Self {
        tree.open(NodeId::ROOT);
        Self { id, place: Some((NodeId::ROOT, name.into())) }
    }

    /// The directory in which it was found, and its name there, unless it is a directory itself.
    pub(crate) fn place(&self) -> Option<(NodeId, &[u8])> {
        self.place.as_ref().map(|(parent, name)| (*parent, &**name))
    }

    /// Another one for the same node.
    pub(crate) fn again(&self, tree: &mut FileTree) -> Self {
        tree.open(self.id);
        if let Some((parent, _)) = &self.place {
            tree.open(*parent);
        }
        Self { id: self.id, place: self.place.clone() }
    }

    /// The path that led here, as far as it still does.
    pub(crate) fn path(&self) -> Vec<u8> {
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

/// `/dev/pts`.
static SLAVES: Once<Handle> = Once::new();

/// Makes the node of a pseudo-terminal's slave in `/dev/pts`.
pub(crate) fn create_slave(name: &[u8], device: Device, permissions: u16) -> Result<Handle, Errno> {
    let directory = SLAVES.get().ok_or(Errno::ENOENT)?.id;
    let attributes = Attributes::new(permissions, time::wall_ns()).owned_by(credentials::owner());
    let mut tree = tree();
    let id = tree.create(directory, name, Node::Special(Special::Device(device)), attributes)?;
    tree.open(id);
    tree.open(directory);
    Ok(Handle { id, place: Some((directory, name.into())) })
}

/// Takes that node's name away, if the app has not done that, or given it to something else.
pub(crate) fn remove_slave(node: &Handle) {
    remove_name(node);
}

/// Takes the name away by which a node was found or made, if it still has it.
fn remove_name(node: &Handle) {
    let Some((directory, name)) = &node.place else { return };
    let mut tree = tree();
    let is_there = tree.lookup(*directory, name, LastLink::Keep) == Ok(node.id);
    let removed = is_there.then(|| tree.unlink(*directory, name, time::wall_ns()));
    drop(tree);
    drop(removed);
}

/// What a path leads to, kept alive.
#[derive(Clone)]
pub(crate) enum Located {
    /// A node of the tree.
    Memory(Arc<Handle>),
    /// An inode of a disk.
    Inode(Arc<Opened>),
}

impl Located {
    /// What is behind an open file, if that is a node or an inode.
    pub(crate) fn of(file: &dyn File) -> Option<Self> {
        if let Some(opened) = vfs::file::of(file) {
            return Some(Self::Inode(Arc::clone(opened)));
        }
        let handle = node::handle_of(file)?.again(&mut tree());
        Some(Self::Memory(Arc::new(handle)))
    }

    /// What `stat` tells.
    pub(crate) fn metadata(&self) -> Metadata {
        match self {
            Self::Memory(handle) => node::metadata(handle.id),
            Self::Inode(opened) => opened.inode.metadata(),
        }
    }

    /// True for a directory.
    pub(crate) fn is_directory(&self) -> bool {
        match self {
            Self::Memory(handle) => tree().is_directory(handle.id),
            Self::Inode(opened) => opened.inode.is_directory(),
        }
    }
}

/// Where a path leads: a name in a directory, and what has it.
pub(crate) enum Walked {
    /// In the tree, which is locked.
    Memory(SpinLockGuard<'static, FileTree>, Place),
    /// On a disk.
    Inode(InodePlace),
    /// To what a descriptor has open, by its link in `/proc/self/fd`.
    Descriptor(i32),
}

static STOPS: Once<Vec<NodeId>> = Once::new();

/// Finishes the tree: all filesystems are mounted, and all cores run.
pub(crate) fn finish() {
    proc::topology::add_cores(&mut tree());
    STOPS.call_once(|| [vfs::table::covered(), &listing::stops()].concat());
    // From now on it is known what covers the root, and need not be looked for with each path.
    set_current_directory(root());
}

/// Filesystems crossed on one path: as many as links.
const MAX_CROSSINGS: usize = 40;

/// Walks to the last name of a path, through whatever filesystems it leads.
pub(crate) fn walk(base: &Located, path: &[u8], last: LastLink) -> Result<Walked, Errno> {
    let (mut node, mut rest) = match base {
        Located::Inode(opened) if !path.starts_with(b"/") => {
            if path.is_empty() {
                return Err(Errno::ENOENT);
            }
            match vfs::walk::walk(Arc::clone(&opened.inode), &opened.path, path, last)? {
                InodeWalk::Here(place) => return Ok(Walked::Inode(place)),
                InodeWalk::Leaves(node, rest) => (node, Cow::Owned(rest)),
            }
        }
        Located::Inode(_) => (NodeId::ROOT, Cow::Borrowed(path)),
        Located::Memory(handle) => match listing::way_back(handle.id) {
            Some(way) if !path.is_empty() && !path.starts_with(b"/") => {
                (handle.id, Cow::Owned([way, path].concat()))
            }
            _ => (handle.id, Cow::Borrowed(path)),
        },
    };
    let who = Searcher::new();
    for _ in 0..MAX_CROSSINGS {
        let tree = tree();
        let stops = STOPS.get().map_or(&[][..], Vec::as_slice);
        let (covered, below) =
            match tree.walk_to_cover(node, &rest, last, stops, |directory| who.may_search(directory))? {
                Walk::Here(place) => return Ok(Walked::Memory(tree, place)),
                Walk::Covered(covered, below) => (covered, below),
            };
        drop(tree);
        match listing::go_on(covered, &below, last) {
            None => {}
            Some(Onward::From(to, left)) => {
                (node, rest) = (to, Cow::Owned(left));
                continue;
            }
            Some(Onward::Itself(parent, name)) => {
                let tree = self::tree();
                let place = tree.walk(parent, name, LastLink::Keep)?;
                return Ok(Walked::Memory(tree, place));
            }
            Some(Onward::Descriptor(descriptor)) => return Ok(Walked::Descriptor(descriptor)),
        }
        let mount = vfs::table::on(covered).ok_or(Errno::ENOENT)?;
        let root = mount.inode(mount.root)?;
        match vfs::walk::walk(root, mount.path.as_bytes(), &below, last)? {
            InodeWalk::Here(place) => return Ok(Walked::Inode(place)),
            InodeWalk::Leaves(to, left) => (node, rest) = (to, Cow::Owned(left)),
        }
    }
    Err(Errno::ELOOP)
}

/// Walks a path to what it leads to, and keeps it.
pub(crate) fn find(base: &Located, path: &[u8], last: LastLink) -> Result<Located, Errno> {
    locate(walk(base, path, last)?)
}

/// Keeps what a walk has found.
pub(crate) fn locate(walked: Walked) -> Result<Located, Errno> {
    let (mut tree, place) = match walked {
        Walked::Inode(place) => return Ok(Located::Inode(Arc::new(place.open()?))),
        Walked::Memory(tree, place) => (tree, place),
        Walked::Descriptor(descriptor) => {
            let opened = file::get_any(descriptor).map_err(|_| Errno::ENOENT)?;
            // What has no name anywhere is no directory either.
            return Located::of(&*opened.file).ok_or(Errno::ENOTDIR);
        }
    };
    let id = place.found.ok_or(Errno::ENOENT)?;
    let is_directory = tree.is_directory(id);
    if place.wants_directory && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    let handle = if is_directory {
        Handle::of_directory(&mut tree, id)
    } else {
        Handle::of_place(&mut tree, place, id)
    };
    Ok(Located::Memory(Arc::new(handle)))
}

/// Where relative paths start.
pub(crate) fn current_directory() -> Located {
    if let Some(directory) = &*CURRENT_DIRECTORY.lock() {
        return directory.clone();
    }
    root()
}

/// Where absolute paths start.
fn root() -> Located {
    let root = Located::Memory(Arc::new(Handle::of_directory(&mut tree(), NodeId::ROOT)));
    // The root may be covered.
    find(&root, b"/", LastLink::Follow).unwrap_or(root)
}

/// Makes relative paths start elsewhere.
pub(crate) fn set_current_directory(directory: Located) {
    let before = CURRENT_DIRECTORY.lock().replace(directory);
    drop(before);
}

/// Makes relative paths start at the folder of this path.
pub(crate) fn enter(path: &[u8]) -> Result<(), Errno> {
    let directory = find(&current_directory(), path, LastLink::Follow)?;
    if !directory.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    permission::check(&directory, Wanted::EXECUTE)?;
    set_current_directory(directory);
    Ok(())
}

/// The permissions that a new file gets when `wanted` are asked for.
pub(crate) fn masked(wanted: u32) -> u16 {
    (wanted & 0o7777 & !MASK.load(Ordering::Relaxed)) as u16
}

/// The same, where a directory may say which bits new files do not get.
pub(crate) fn mode(wanted: u32) -> Mode {
    Mode { wanted: (wanted & 0o7777) as u16, mask: mask() as u16 }
}

/// The bits that new files do not get.
pub(crate) fn mask() -> u32 {
    MASK.load(Ordering::Relaxed)
}

/// Sets the bits that new files do not get; answers those before.
pub(crate) fn set_mask(mask: u32) -> u32 {
    MASK.swap(mask & 0o777, Ordering::Relaxed)
}
