//! What a filesystem holds after all, to be compared with the model.

use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use super::ROOT;
use super::workload::{Model, Node};
use crate::{BlockDevice, Ext4};

/// What a filesystem really holds: paths with kinds, contents of files, sizes.
pub(super) fn content_of<D: BlockDevice>(fs: &mut Ext4<D>) -> BTreeMap<String, Found> {
    let (mut found, mut todo) = (BTreeMap::new(), std::vec![(String::new(), ROOT)]);
    while let Some((path, directory)) = todo.pop() {
        let mut names = Vec::new();
        fs.entries(directory, 0, &mut |entry| {
            names.push((String::from_utf8_lossy(entry.name).into_owned(), entry.inode));
            core::ops::ControlFlow::Continue(())
        })
        .expect("the directory can be listed");
        for (name, inode) in names {
            if matches!(name.as_str(), "." | ".." | "lost+found") {
                continue;
            }
            let path = std::format!("{path}/{name}");
            let attributes = fs.attributes(inode).expect("the inode can be read");
            let node = match attributes.kind {
                crate::FileKind::Directory => {
                    todo.push((path.clone(), inode));
                    Found::Directory
                }
                crate::FileKind::Symlink => Found::Symlink(fs.read_link(inode).expect("a target")),
                _ => {
                    let mut bytes = std::vec![0; attributes.size as usize];
                    fs.read_at(inode, 0, &mut bytes).expect("the content can be read");
                    Found::File(inode.0, bytes)
                }
            };
            found.insert(path, node);
        }
    }
    found
}

/// What a path of a filesystem really leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Directory,
    File(u32, Vec<u8>),
    Symlink(Vec<u8>),
}

/// Fails unless a filesystem holds what the model does.
pub(super) fn assert_same<D: BlockDevice>(fs: &mut Ext4<D>, model: &Model) {
    let found = content_of(fs);
    let paths: Vec<&String> = found.keys().collect();
    assert_eq!(paths, model.paths.keys().collect::<Vec<_>>());
    for (path, node) in &model.paths {
        let is_same = match (node, &found[path]) {
            (Node::Directory, Found::Directory) => true,
            (Node::Symlink(one), Found::Symlink(other)) => one == other,
            (Node::File(number), Found::File(_, bytes)) => **model.content[number] == bytes[..],
            _ => false,
        };
        assert!(is_same, "{path} differs");
    }
}
