//! What a path means, beginning at a directory that a call names. Opening is in [`open`](super::open), what changes names in
//! [`names`](super::names).

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::*;
use unikernel_fs::LastLink;

use crate::abi::Errno;
use crate::file::{self, File, OpenFile};
use crate::fs::node::NameOnly;
use crate::fs::{self, Located, Walked};
use crate::mem::user::{UserPtr, read_c_string};
use crate::vfs::file::InodeName;

/// The longest path, without its NUL (`PATH_MAX`).
const MAX_PATH_BYTES: usize = 4095;

/// Reads a path out of the app's memory.
pub(crate) fn read_path(path: UserPtr<u8>) -> Result<Vec<u8>, Errno> {
    read_c_string(path, MAX_PATH_BYTES)?.ok_or(Errno::ENAMETOOLONG)
}

/// What an open file stands for, if it is one that only names.
pub(crate) fn node_of(opened: &OpenFile) -> Option<Located> {
    let in_memory = opened.downcast::<NameOnly>().map(|named| Located::Memory(Arc::clone(&named.handle)));
    in_memory
        .or_else(|| opened.downcast::<InodeName>().map(|named| Located::Inode(Arc::clone(named.opened()))))
}

/// Where a relative path starts (`AT_FDCWD` or a directory's descriptor).
pub(crate) fn base_of(directory: i32, path: &[u8]) -> Result<Located, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if directory == AT_FDCWD || path.starts_with(b"/") {
        return Ok(fs::current_directory());
    }
    node_of(&*file::get_any(directory)?).ok_or(Errno::ENOTDIR)
}

/// What a path and flags of the `*at` calls name: a node of the tree, or with `AT_EMPTY_PATH` a
/// descriptor.
pub(crate) enum Named {
    /// By path.
    Node(Located),
    /// By descriptor.
    Opened(Arc<OpenFile>),
}

/// Resolves the pair of directory and path as the `*at` calls do.
pub(crate) fn resolve(directory: i32, path: UserPtr<u8>, flags: u32) -> Result<Named, Errno> {
    // A null path with AT_EMPTY_PATH is allowed since Linux 6.11.
    let is_empty_allowed = flags & AT_EMPTY_PATH != 0;
    let path = if is_empty_allowed && path.is_null() { Vec::new() } else { read_path(path)? };
    if path.is_empty() && is_empty_allowed {
        return Ok(match directory {
            AT_FDCWD => Named::Node(fs::find(&fs::current_directory(), b".", LastLink::Follow)?),
            descriptor => Named::Opened(file::get_any(descriptor)?),
        });
    }
    let follows = flags & AT_SYMLINK_NOFOLLOW == 0;
    let last = if follows { LastLink::Follow } else { LastLink::Keep };
    let base = base_of(directory, &path)?;
    Ok(match fs::walk(&base, &path, last)? {
        Walked::Descriptor(descriptor) => {
            Named::Opened(file::get_any(descriptor).map_err(|_| Errno::ENOENT)?)
        }
        walked => Named::Node(fs::locate(walked)?),
    })
}

/// Changes a file's length (truncate(2), `O_TRUNC`); devices have none, and do not mind.
pub(crate) fn truncate(file: &dyn File, size: u64) -> Result<(), Errno> {
    if file.is_regular() { file.resize(size) } else { Ok(()) }
}
