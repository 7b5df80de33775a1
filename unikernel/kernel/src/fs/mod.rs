//! Files with names: the initrd's tree, and what the kernel adds to it. Nothing of it can be
//! written yet.
//!
//! - [`node`]: a node of the tree as an open file;
//! - [`device`]: `/dev`; [`proc`]: `/proc`, texts made when they are opened; [`metrics`]: the
//!   kernel's counters among them.
//!
//! The tree itself, and walking it, is `unikernel_fs`.

pub mod device;
pub mod metrics;
pub mod node;
pub mod proc;

use alloc::string::String;

use spin::Once;
use unikernel_fs::{Attributes, LastLink, Node, Tree};
pub use unikernel_fs::{LookupError, NodeId};

use crate::file;
use crate::net;
use crate::sync::SpinLock;
use device::Device;

/// Nodes that the kernel brings.
#[derive(Clone, Copy)]
pub enum Special {
    /// A device.
    Device(Device),
    /// A text that is made at each opening.
    Text(fn() -> String),
}

/// The tree of this kernel.
pub type FileTree = Tree<'static, Special>;

static TREE: Once<FileTree> = Once::new();
static CURRENT_DIRECTORY: SpinLock<NodeId> = SpinLock::new(NodeId::ROOT);

/// Who may do what with a text of the kernel's: everybody may read.
const TEXT: Attributes = Attributes::with_permissions(0o444);
const DEVICE: Attributes = Attributes::with_permissions(0o666);

/// For names to reach the loopback address without a name server.
const HOSTS: &[u8] = b"127.0.0.1\tlocalhost\n::1\tlocalhost\n";

/// Builds the tree and opens the standard streams.
pub fn init(initrd: Option<&'static [u8]>) {
    let mut tree = FileTree::new();
    if let Some(initrd) = initrd
        && let Err(error) = tree.add_archive(initrd)
    {
        log::error!("initrd: {error}; what comes before it can be used");
    }
    add_devices(&mut tree);
    for (path, make) in proc::TEXTS {
        add(&mut tree, path, Node::Special(Special::Text(*make)), TEXT);
    }
    for (path, target) in proc::LINKS {
        add(&mut tree, path, Node::Symlink(target.as_bytes()), Attributes::with_permissions(0o777));
    }
    add_default(&mut tree, "/etc/hosts", Node::File(HOSTS));
    add_default(&mut tree, "/etc/resolv.conf", Node::Special(Special::Text(net::resolv_conf)));
    TREE.call_once(|| tree);
    file::console::open_standard_streams();
}

fn add_devices(tree: &mut FileTree) {
    for (path, device) in device::NODES {
        add(tree, path, Node::Special(Special::Device(*device)), DEVICE);
    }
}

fn add(tree: &mut FileTree, path: &'static str, node: Node<'static, Special>, attributes: Attributes) {
    if let Err(error) = tree.add(path.as_bytes(), node, attributes) {
        log::warn!("{path} cannot be made, the initrd is in the way: {error:?}");
    }
}

/// Adds what an initrd may bring itself.
fn add_default(tree: &mut FileTree, path: &'static str, node: Node<'static, Special>) {
    if tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Keep).is_err() {
        add(tree, path, node, TEXT);
    }
}

/// The tree.
///
/// # Panics
///
/// Before [`init`].
pub fn tree() -> &'static FileTree {
    TREE.get().expect("`init` comes before the app")
}

/// Where relative paths start.
pub fn current_directory() -> NodeId {
    *CURRENT_DIRECTORY.lock()
}

/// Makes relative paths start elsewhere.
pub fn set_current_directory(directory: NodeId) {
    *CURRENT_DIRECTORY.lock() = directory;
}
