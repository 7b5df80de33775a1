//! Making and removing (mkdir(2), mknod(2), symlink(2), link(2), unlink(2)); renaming is in [`rename`](super::rename).

use linux_raw_sys::general::*;
use unikernel_fs::{Attributes, EditError, LastLink, Node, Place};
use unikernel_policy::access::FileAccess;
use unikernel_vfs::NewKind;
use unikernel_vfs::access::{self, Wanted};

use super::path::{base_of, read_path};
use crate::abi::{Errno, SysResult};
use crate::file;
use crate::file::notify;
use crate::fs::confine::{self, Spot};
use crate::fs::memory_file::MemoryFile;
use crate::fs::mounts;
use crate::fs::{self, FileTree, Handle, Located, Special, Walked, permission};
use crate::ipc::pipe::Fifo;
use crate::mem::user::UserPtr;
use crate::platform::time;
use crate::vfs::file::Opened;
use crate::vfs::names::{self, Mode};
use crate::vfs::walk::InodePlace;

/// Walks to a new name, and runs `make` with its place if `check` has nothing against it. What is there already is the error that
/// matters most.
fn at_new_name<T>(
    directory: i32,
    path: &[u8],
    check: impl FnOnce(&Spot<'_>) -> Result<(), Errno>,
    on_disk: impl FnOnce(&InodePlace) -> Result<T, Errno>,
    make: impl FnOnce(&mut FileTree, &Place) -> Result<T, Errno>,
) -> Result<T, Errno> {
    // It lives longer than the tree's guard: letting go of it takes the tree's lock.
    let base = base_of(directory, path)?;
    let (mut tree, place) = match fs::walk(&base, path, LastLink::Keep)? {
        Walked::Memory(tree, place) => (tree, place),
        Walked::Inode(place) if place.found.is_some() => return Err(Errno::EEXIST),
        Walked::Inode(place) => {
            check(&Spot::on_disk(&place))?;
            return on_disk(&place);
        }
        Walked::Descriptor(_) => return Err(Errno::EEXIST),
    };
    if place.found.is_some() {
        return Err(Errno::EEXIST);
    }
    mounts::check_create(&tree, place.parent)?;
    permission::check_node(&tree, place.parent, Wanted::CHANGE_NAMES)?;
    check(&Spot::in_memory(&tree, &place))?;
    let outcome = make(&mut tree, &place)?;
    let made = match tree.node(place.parent) {
        Node::Directory(directory) => directory.get(&place.name),
        _ => None,
    };
    let is_directory = made.is_some_and(|id| tree.is_directory(id));
    drop(tree);
    notify::created(place.parent.into(), &place.name, is_directory);
    Ok(outcome)
}

/// Makes what is no directory, so that the name must not end with a slash.
fn create_without_slash(place: &InodePlace, kind: NewKind<'_>, mode: Mode) -> SysResult {
    if place.wants_directory {
        return Err(Errno::ENOENT);
    }
    names::create(place, kind, mode)?;
    Ok(0)
}

/// mkdirat(2).
pub(crate) fn mkdirat(directory: i32, path: UserPtr<u8>, mode: u32) -> SysResult {
    // Of the special bits a directory gets the sticky one only.
    let mode = mode & 0o1777;
    let on_disk = |place: &InodePlace| {
        names::create(place, NewKind::Directory, fs::mode(mode))?;
        Ok(0)
    };
    at_new_name(directory, &read_path(path)?, making(FileAccess::MAKE_DIR), on_disk, |tree, place| {
        let attributes = permission::new_attributes(tree, place.parent, true, mode);
        tree.create_directory(place.parent, &place.name, attributes)?;
        Ok(0)
    })
}

/// mknodat(2): regular files and named pipes. Sockets get names by `bind`, and the devices are all there.
pub(crate) fn mknodat(directory: i32, path: UserPtr<u8>, mode: u32) -> SysResult {
    let path = read_path(path)?;
    match mode & S_IFMT {
        0 | S_IFREG | S_IFIFO => {}
        S_IFSOCK | S_IFCHR | S_IFBLK => {}
        S_IFDIR => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    let right = match mode & S_IFMT {
        S_IFIFO => FileAccess::MAKE_FIFO,
        S_IFSOCK => FileAccess::MAKE_SOCK,
        S_IFCHR => FileAccess::MAKE_CHAR,
        S_IFBLK => FileAccess::MAKE_BLOCK,
        _ => FileAccess::MAKE_REG,
    };
    let is_device = matches!(mode & S_IFMT, S_IFSOCK | S_IFCHR | S_IFBLK);
    let on_disk = |place: &InodePlace| {
        if is_device {
            return Err(Errno::EPERM);
        }
        let kind = if mode & S_IFMT == S_IFIFO { NewKind::Fifo } else { NewKind::File };
        create_without_slash(place, kind, fs::mode(mode))
    };
    at_new_name(directory, &path, making(right), on_disk, |tree, place| {
        if is_device {
            return Err(Errno::EPERM);
        }
        if place.wants_directory {
            return Err(Errno::ENOENT);
        }
        let attributes = permission::new_attributes(tree, place.parent, false, mode);
        let node = match mode & S_IFMT {
            S_IFIFO => Node::Special(Special::Fifo(Fifo::default())),
            _ => Node::File(MemoryFile::empty()),
        };
        tree.create(place.parent, &place.name, node, attributes)?;
        Ok(0)
    })
}

/// What says who may use a link, and is asked nowhere.
const LINK: Mode = Mode { wanted: 0o777, mask: 0 };

/// symlinkat(2).
pub(crate) fn symlinkat(target: UserPtr<u8>, directory: i32, path: UserPtr<u8>) -> SysResult {
    let target = read_path(target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let on_disk = |place: &InodePlace| create_without_slash(place, NewKind::Symlink(&target), LINK);
    at_new_name(directory, &read_path(path)?, making(FileAccess::MAKE_SYM), on_disk, |tree, place| {
        if place.wants_directory {
            return Err(Errno::ENOENT);
        }
        let new = permission::new_attributes(tree, place.parent, false, 0);
        let attributes = Attributes { permissions: LINK.wanted, ..new };
        tree.create(place.parent, &place.name, Node::Symlink(target.as_slice().into()), attributes)?;
        Ok(0)
    })
}

/// linkat(2). A file without a name can be given one by its descriptor (`O_TMPFILE`).
pub(crate) fn linkat(
    directory: i32,
    path: UserPtr<u8>,
    new_directory: i32,
    new_path: UserPtr<u8>,
    flags: u32,
) -> SysResult {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = read_path(path)?;
    let follows = flags & AT_SYMLINK_FOLLOW != 0;
    let last = if follows { LastLink::Follow } else { LastLink::Keep };
    let found = if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        Located::of(&*file::get_any(directory)?.file).ok_or(Errno::EXDEV)?
    } else {
        let base = base_of(directory, &path)?;
        match fs::walk(&base, &path, last)? {
            Walked::Descriptor(descriptor) => {
                let opened = file::get_any(descriptor).map_err(|_| Errno::ENOENT)?;
                // What has no name is in no filesystem that could give it one.
                Located::of(&*opened.file).ok_or(Errno::EXDEV)?
            }
            walked => fs::locate(walked)?,
        }
    };
    let new_path = read_path(new_path)?;
    match found {
        Located::Memory(handle) => link_node(&handle, new_directory, &new_path),
        Located::Inode(opened) => link_inode(&opened, new_directory, &new_path),
    }
}

/// What is asked before something is made.
fn making(right: FileAccess) -> impl FnOnce(&Spot<'_>) -> Result<(), Errno> {
    move |spot| confine::check_directory(spot, right)
}

fn link_inode(opened: &Opened, directory: i32, path: &[u8]) -> SysResult {
    let inode = &opened.inode;
    let on_disk = |place: &InodePlace| {
        if place.wants_directory {
            return Err(Errno::ENOENT);
        }
        names::link(place, inode)?;
        Ok(0)
    };
    let check = |to: &Spot<'_>| match to {
        Spot::Disk { .. } => confine::check_link_of_inode(opened, to),
        Spot::Memory { .. } => Err(Errno::EXDEV),
    };
    at_new_name(directory, path, check, on_disk, |_, _| Err(Errno::EXDEV))
}

fn link_node(handle: &Handle, directory: i32, path: &[u8]) -> SysResult {
    let id = handle.id;
    at_new_name(
        directory,
        path,
        |to| confine::check_link_of_node(handle, to),
        |_| Err(Errno::EXDEV),
        |tree, place| {
            if place.wants_directory {
                return Err(Errno::ENOENT);
            }
            permission::ask_node(tree, id, |who, object| {
                access::check_hard_link(who, object, is_regular(tree.node(id)))
            })?;
            match tree.link(place.parent, &place.name, id, time::wall_ns()) {
                Err(EditError::IsADirectory) => Err(Errno::EPERM),
                outcome => Ok(outcome.map(|()| 0)?),
            }
        },
    )
}

/// unlinkat(2).
pub(crate) fn unlinkat(directory: i32, path: UserPtr<u8>, flags: u32) -> SysResult {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let path = read_path(path)?;
    let base = base_of(directory, &path)?;
    until_current(|| remove(&base, &path, flags))
}

/// Walks to a name, and removes it; `ESTALE` if another thread has changed it meanwhile.
fn remove(base: &Located, path: &[u8], flags: u32) -> SysResult {
    let (mut tree, place) = match walk_to_name(base, path)? {
        Walked::Memory(tree, place) => (tree, place),
        Walked::Inode(place) => return remove_on_disk(&place, flags & AT_REMOVEDIR != 0),
        Walked::Descriptor(_) => return Err(Errno::EPERM),
    };
    mounts::check_remove(&tree, place.parent)?;
    let found = place.found.ok_or(Errno::ENOENT)?;
    if !is_dots(&place) {
        permission::check_removal(&tree, place.parent, found)?;
    }
    let right = right_to_remove(flags & AT_REMOVEDIR != 0);
    confine::check_directory(&Spot::in_memory(&tree, &place), right)?;
    let removed = if flags & AT_REMOVEDIR != 0 {
        match place.name.as_slice() {
            b"." => return Err(Errno::EINVAL),
            b".." => return Err(Errno::ENOTEMPTY),
            b"" => return Err(Errno::EBUSY),
            name => tree.remove_directory(place.parent, name, time::wall_ns())?,
        }
    } else {
        if is_dots(&place) {
            return Err(Errno::EISDIR);
        }
        if place.wants_directory && !matches!(tree.node(found), Node::Directory(_)) {
            return Err(Errno::ENOTDIR);
        }
        tree.unlink(place.parent, &place.name, time::wall_ns())?
    };
    // A node that has left the tree was watched by nobody, who would have kept it.
    let is_gone = removed.is_none() && tree.links(found) == 0;
    let is_directory = flags & AT_REMOVEDIR != 0;
    drop(tree);
    drop(removed);
    notify::removed(place.parent.into(), &place.name, found.into(), is_directory, is_gone || is_directory);
    Ok(0)
}

fn right_to_remove(removes_directory: bool) -> FileAccess {
    if removes_directory { FileAccess::REMOVE_DIR } else { FileAccess::REMOVE_FILE }
}

fn remove_on_disk(place: &InodePlace, removes_directory: bool) -> SysResult {
    let found = place.found.as_ref().ok_or(Errno::ENOENT)?;
    confine::check_directory(&Spot::on_disk(place), right_to_remove(removes_directory))?;
    match place.name.as_slice() {
        b"." if removes_directory => return Err(Errno::EINVAL),
        b".." if removes_directory => return Err(Errno::ENOTEMPTY),
        b"" if removes_directory => return Err(Errno::EBUSY),
        b"." | b".." | b"" => return Err(Errno::EISDIR),
        _ if place.wants_directory && !found.is_directory() => return Err(Errno::ENOTDIR),
        _ => {}
    }
    names::remove(place, removes_directory)?;
    Ok(0)
}

/// Tries again what walks to names and changes them, while other threads change the same names in between (`ESTALE`). Each of them has got
/// on then; so one of all gets on each time.
pub(super) fn until_current<T>(mut attempt: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match attempt() {
            Err(Errno::ESTALE) => {}
            outcome => return outcome,
        }
    }
}

/// Walks to a name that will be changed, so a link at the end is kept, slash or not.
pub(super) fn walk_to_name(base: &Located, path: &[u8]) -> Result<Walked, Errno> {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(path.len(), |last| last + 1);
    let mut walked = fs::walk(base, &path[..end], LastLink::Keep)?;
    match &mut walked {
        Walked::Memory(_, place) => place.wants_directory = end < path.len(),
        Walked::Inode(place) => place.wants_directory = end < path.len(),
        Walked::Descriptor(_) => {}
    }
    Ok(walked)
}

fn is_regular(node: &Node<alloc::sync::Arc<MemoryFile>, Special>) -> bool {
    matches!(node, Node::File(_) | Node::Special(Special::Image | Special::Text(_)))
}

/// True for names that are not a directory's to give away.
pub(super) fn is_dots(place: &Place) -> bool {
    matches!(place.name.as_slice(), b"" | b"." | b"..")
}
