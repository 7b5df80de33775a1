//! What `file::notify` is told of files with a name: which they are, and in which directory.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use unikernel_fs::Node;

use super::{FileTree, Handle, Located, NodeId, tree};
use crate::file::NamedNode;
use crate::file::notify::{self, FileKey};

impl From<&Located> for FileKey {
    fn from(located: &Located) -> Self {
        match located {
            Located::Memory(handle) => Self::Node(handle.id),
            Located::Inode(opened) => (&*opened.inode).into(),
        }
    }
}

/// What keeps a file that is watched.
pub(crate) fn pin(file: &Located) -> Arc<dyn Any + Send + Sync> {
    match file {
        Located::Memory(handle) => Arc::clone(handle) as _,
        Located::Inode(opened) => Arc::clone(opened) as _,
    }
}

/// Something was done with what a path leads to.
pub(crate) fn used_at(file: &Located, mask: u32) {
    if !notify::is_wanted(mask) {
        return;
    }
    match file {
        Located::Memory(handle) => handle.tell_watches(mask),
        Located::Inode(opened) => opened.tell_watches(mask),
    }
}

impl NamedNode for Handle {
    fn tell_watches(&self, mask: u32) {
        let id = self.id;
        let (is_directory, place) = {
            let tree = tree();
            match tree.node(id) {
                Node::Directory(directory) => {
                    let path = if id == NodeId::ROOT { None } else { tree.path_of(id) };
                    (true, path.map(|path| (directory.parent(), Box::from(notify::last_name(&path)))))
                }
                _ => (false, self.place.clone().filter(|(parent, name)| names(&tree, *parent, name, id))),
            }
        };
        let name = place.as_ref().map(|(parent, name)| (FileKey::Node(*parent), &**name));
        notify::used_named(id.into(), name, is_directory, mask);
    }
}

/// True if a name in a directory still leads to a node.
fn names(tree: &FileTree, parent: NodeId, name: &[u8], id: NodeId) -> bool {
    matches!(tree.node(parent), Node::Directory(directory) if directory.get(name) == Some(id))
}
