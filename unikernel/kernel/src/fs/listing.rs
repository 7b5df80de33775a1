//! `/proc/self/fd` and `/proc/self/task`: directories whose entries are brought up to date when they are
//! opened, as the texts of `/proc` are made then. Looking up `/proc/self/fd/3` itself needs no entry.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use spin::Once;
use unikernel_fs::{Attributes, Node};

use super::{FileTree, NodeId, tree};
use crate::file::table;
use crate::mem::room;
use crate::platform::time;
use crate::task::process::process;

/// The two directories.
static LISTINGS: Once<[NodeId; 2]> = Once::new();

const READABLE: Attributes = Attributes::with_permissions(0o555);
const LINK: Attributes = Attributes::with_permissions(0o700);

/// Makes the directories.
pub(super) fn init(tree: &mut FileTree) {
    let made = ["/proc/1/fd", "/proc/1/task"].map(|path| tree.add_directory(path.as_bytes(), READABLE));
    match made {
        [Ok(descriptors), Ok(threads)] => _ = LISTINGS.call_once(|| [descriptors, threads]),
        _ => log::warn!("/proc/1 cannot be made, the initrd is in the way"),
    }
}

/// Brings a directory up to date, if it is one of the two.
pub fn refresh(directory: NodeId) {
    let Some(&[descriptors, threads]) = LISTINGS.get() else { return };
    if directory == descriptors {
        let mut open = Vec::new();
        // As many as there is room for: there may be a million.
        for descriptor in table::in_use(0, usize::MAX).take_while(|_| room::is_left()) {
            let Ok(opened) = table::get_any(descriptor) else { continue };
            if room::push(&mut open, (descriptor.to_string(), Some(opened.file.name()))).is_err() {
                break;
            }
        }
        update(directory, open);
    } else if directory == threads {
        let mut running = Vec::new();
        for thread in process().threads().take_while(|_| room::is_left()) {
            if room::push(&mut running, (thread.id.to_string(), None)).is_err() {
                break;
            }
        }
        update(directory, running);
    }
}

/// Makes the entries these: links where there is a target, else directories.
fn update(directory: NodeId, entries: Vec<(String, Option<String>)>) {
    let now_ns = time::wall_ns();
    let mut tree = tree();
    let listed = tree.list(directory, 0).into_iter().flatten();
    let stale: Vec<Vec<u8>> = listed
        .map(|entry| entry.name.to_vec())
        .filter(|name| !name.starts_with(b".") && !entries.iter().any(|(new, _)| new.as_bytes() == name))
        .collect();
    let mut gone = Vec::new();
    for name in stale {
        gone.push(
            tree.unlink(directory, &name, now_ns)
                .or_else(|_| tree.remove_directory(directory, &name, now_ns)),
        );
    }
    for (name, target) in entries {
        if !room::is_left() {
            break;
        }
        // One that is there already stays.
        let _ = match target {
            Some(target) => {
                let link = Node::Symlink(target.into_bytes().into());
                tree.create(directory, name.as_bytes(), link, LINK)
            }
            None => tree.create_directory(directory, name.as_bytes(), READABLE),
        };
    }
    drop(tree);
    drop(gone);
}
