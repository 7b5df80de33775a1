//! An initrd: what is in the archives is in the tree, under its name, and no name leads out of it.

use unikernel_fs::{Attributes, FilesystemId, LastLink, NodeId, Tree, cpio};

pub(crate) fn run(data: &[u8]) {
    let mut tree: Tree<&[u8], ()> = Tree::new();
    let result = tree.add_archive(data, |content| content);
    let mut last = 0;
    for entry in cpio::Entries::new(data) {
        let Ok(entry) = entry else {
            assert!(result.is_err(), "what cannot be read cannot be added");
            break;
        };
        assert!(entry.offset >= last && entry.offset < data.len());
        last = entry.offset;
        let found = tree.lookup(NodeId::ROOT, entry.name, LastLink::Keep);
        if let Ok(id) = found {
            let _: (Attributes, FilesystemId) = (tree.attributes(id), tree.filesystem(id));
            assert!(tree.path_of(id).is_none_or(|path| path.starts_with(b"/")));
            let _ = tree.lookup(id, b"../x/./y/..", LastLink::Follow);
            assert!(tree.list(id, 0).is_none_or(|entries| entries.count() <= tree.len() + 2));
        }
    }
    assert!(tree.len() <= 1 + data.len());
}
