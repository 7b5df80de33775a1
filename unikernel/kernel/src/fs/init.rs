//! What the tree begins with: the archives of the initrd, and over them what every Linux machine has.

use unikernel_fs::{Attributes, Node};

use super::proc::{self, MakeText, Text};
use super::{
    FileTree, Handle, MemoryFile, SLAVES, Special, TREE, defaults, device, generation, listing, mounts,
};
use crate::net;
use crate::process::linked;
use crate::sync::SpinLock;

/// Who may do what with a text of the kernel's: everybody may read.
pub(super) const TEXT: Attributes = Attributes::with_permissions(0o444);
/// The same: the process may read, and root.
const OWN_TEXT: Attributes = Attributes::with_permissions(0o400);
const DEVICE: Attributes = Attributes::with_permissions(0o666);
pub(super) const FILE: Attributes = Attributes::with_permissions(0o644);

/// Builds the tree, with the linked program in it if that is to run.
///
/// Of a file that is in both archives, that of the initrd counts.
pub(crate) fn init(packed: Option<&'static [u8]>, initrd: Option<&'static [u8]>, shows_linked: bool) {
    let mut tree = FileTree::new();
    for (name, archive) in [("the image's files", packed), ("initrd", initrd)] {
        if let Some(archive) = archive
            && let Err(error) = tree.add_archive(archive, MemoryFile::from_archive)
        {
            log::error!("{name}: {error}; what comes before it can be used");
        }
    }
    defaults::add_directories(&mut tree);
    if let Ok(id) = tree.add_directory(b"/dev/pts", Attributes::with_permissions(0o755)) {
        SLAVES.call_once(|| Handle::of_directory(&mut tree, id));
    }
    for (path, device) in device::NODES {
        add(&mut tree, path, Node::Special(Special::Device(*device)), DEVICE);
    }
    let short = proc::tables().into_iter().flatten().chain(net::listing::TEXTS);
    let short = short.map(|(path, make)| (path, MakeText::Short(*make)));
    let long = proc::LISTS.iter().chain(net::listing::LISTS);
    for (path, make) in short.chain(long.map(|(path, write)| (path, MakeText::Long(*write)))) {
        let attributes = if *path == proc::ENVIRONMENT { OWN_TEXT } else { TEXT };
        add(&mut tree, path, Node::Special(Special::Text(Text::Fixed(make))), attributes);
    }
    add(&mut tree, generation::PATH, Node::Special(Special::Text(Text::Generation)), TEXT);
    for (path, text) in proc::WRITABLE {
        add(&mut tree, path, Node::Special(Special::Text(*text)), FILE);
    }
    for (path, target) in proc::LINKS {
        let link = Node::Symlink(target.as_bytes().into());
        add(&mut tree, path, link, Attributes::with_permissions(0o777));
    }
    if shows_linked {
        let program = Attributes::with_permissions(0o755);
        defaults::add_default(&mut tree, &linked::path(), Node::Special(Special::Image), program);
    }
    listing::init(&mut tree);
    defaults::add_files(&mut tree);
    mounts::init(&mut tree);
    TREE.call_once(|| SpinLock::new(tree));
}

pub(super) type KernelNode = Node<alloc::sync::Arc<MemoryFile>, Special>;

pub(super) fn add(tree: &mut FileTree, path: &str, node: KernelNode, attributes: Attributes) {
    if let Err(error) = tree.add(path.as_bytes(), node, attributes) {
        log::warn!("{path} cannot be made, the initrd is in the way: {error:?}");
    }
}
