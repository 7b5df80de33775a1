//! Renaming (rename(2)).

use linux_raw_sys::general::*;
use unikernel_fs::{Attributes, LastLink, Node, Place, RenameMode, Walk};
use unikernel_vfs::access::Wanted;

use super::names::{is_dots, until_current, walk_to_name};
use super::path::{base_of, read_path};
use crate::abi::{Errno, SysResult};
use crate::file::notify;
use crate::fs::confine::{self, Move, Spot};
use crate::fs::mounts;
use crate::fs::permission::{self, Searcher};
use crate::fs::{self, FileTree, Located, NodeId, Walked};
use crate::mem::user::UserPtr;
use crate::platform::time;
use crate::vfs::walk::InodePlace;
use crate::vfs::{self, names};

/// Walks to a name that will be changed, within the tree only.
fn walk_in_tree(tree: &FileTree, base: &Located, path: &[u8]) -> Result<Place, Errno> {
    let base = match base {
        Located::Memory(handle) => handle.id,
        Located::Inode(_) if path.starts_with(b"/") => NodeId::ROOT,
        Located::Inode(_) => return Err(Errno::EXDEV),
    };
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(path.len(), |last| last + 1);
    let who = Searcher::new();
    let may_search = |directory: &Attributes| who.may_search(directory);
    match tree.walk_to_cover(base, &path[..end], LastLink::Keep, vfs::table::covered(), may_search)? {
        Walk::Here(place) => Ok(Place { wants_directory: end < path.len(), ..place }),
        Walk::Covered(..) => Err(Errno::EXDEV),
    }
}

/// What becomes of the old name.
fn way_of(flags: u32) -> Move {
    if flags & RENAME_EXCHANGE != 0 { Move::Exchange } else { Move::Rename }
}

/// rename(2) where at least one of the names is on a disk.
fn rename_on_disk(from: &InodePlace, to: &InodePlace, flags: u32) -> SysResult {
    if names::is_dots(from) || names::is_dots(to) {
        return Err(Errno::EBUSY);
    }
    let moved = from.found.as_ref().ok_or(Errno::ENOENT)?;
    if !core::ptr::eq(from.parent.mount, to.parent.mount) {
        return Err(Errno::EXDEV);
    }
    if (from.wants_directory || to.wants_directory) && !moved.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let mode = match flags {
        0 => unikernel_vfs::RenameMode::Replace,
        RENAME_NOREPLACE => unikernel_vfs::RenameMode::NoReplace,
        _ => unikernel_vfs::RenameMode::Exchange,
    };
    confine::check_move(&Spot::on_disk(from), &Spot::on_disk(to), way_of(flags))?;
    let is_same = to.found.as_ref().is_some_and(|found| found.number == moved.number);
    if is_same && flags == 0 {
        return Ok(0);
    }
    names::rename(from, to, mode)?;
    Ok(0)
}

/// Whether the running thread may do that: a directory that moves gets another `..`.
fn check_permissions(tree: &FileTree, from: &Place, to: &Place, mode: RenameMode) -> Result<(), Errno> {
    match (to.found, mode) {
        (Some(_), RenameMode::KeepExisting) => return Err(Errno::EEXIST),
        (None, RenameMode::Exchange) => return Err(Errno::ENOENT),
        _ => {}
    }
    let moved = from.found.ok_or(Errno::ENOENT)?;
    permission::check_removal(tree, from.parent, moved)?;
    match to.found {
        Some(replaced) => permission::check_removal(tree, to.parent, replaced)?,
        None => permission::check_node(tree, to.parent, Wanted::CHANGE_NAMES)?,
    }
    if from.parent == to.parent {
        return Ok(());
    }
    let other = to.found.filter(|_| mode == RenameMode::Exchange);
    let mut moving = [Some(moved), other].into_iter().flatten().filter(|id| tree.is_directory(*id));
    moving.try_for_each(|id| permission::check_node(tree, id, Wanted::WRITE))
}

/// renameat2(2).
pub(crate) fn renameat2(
    directory: i32,
    path: UserPtr<u8>,
    new_directory: i32,
    new_path: UserPtr<u8>,
    flags: u32,
) -> SysResult {
    until_current(|| rename((directory, path), (new_directory, new_path), flags))
}

/// Walks to both names, and renames; `ESTALE` if another thread has changed one of them meanwhile.
fn rename(
    (directory, path): (i32, UserPtr<u8>),
    (new_directory, new_path): (i32, UserPtr<u8>),
    flags: u32,
) -> SysResult {
    let mode = match flags {
        0 => RenameMode::Replace,
        RENAME_NOREPLACE => RenameMode::KeepExisting,
        RENAME_EXCHANGE => RenameMode::Exchange,
        _ => return Err(Errno::EINVAL),
    };
    let path = read_path(path)?;
    let base = base_of(directory, &path)?;
    // The old name's faults are told before the new one is looked at, and the tree is not locked for
    // the first walk while the second may wait for a disk.
    let from = match walk_to_name(&base, &path)? {
        Walked::Inode(place) => Some(place),
        Walked::Memory(..) => None,
        Walked::Descriptor(_) => return Err(Errno::EPERM),
    };
    let new_path = read_path(new_path)?;
    let new_base = base_of(new_directory, &new_path)?;
    match (from, walk_to_name(&new_base, &new_path)?) {
        (Some(from), Walked::Inode(to)) => return rename_on_disk(&from, &to, flags),
        // The root of a mount: the directory that it covers is in use.
        (Some(place), Walked::Memory(..)) | (None, Walked::Inode(place)) if place.name.is_empty() => {
            return Err(Errno::EBUSY);
        }
        (None, Walked::Memory(..)) => {}
        _ => return Err(Errno::EXDEV),
    }
    // Once more, now both under one lock.
    let mut tree = fs::tree();
    let from = walk_in_tree(&tree, &base, &path)?;
    let to = walk_in_tree(&tree, &new_base, &new_path)?;
    if tree.filesystem(from.parent) != tree.filesystem(to.parent) {
        return Err(Errno::EXDEV);
    }
    if is_dots(&from) || is_dots(&to) {
        return Err(Errno::EBUSY);
    }
    mounts::check_remove(&tree, from.parent)?;
    let moved = from.found.ok_or(Errno::ENOENT)?;
    let is_directory = matches!(tree.node(moved), Node::Directory(_));
    if (from.wants_directory || to.wants_directory) && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    confine::check_move(&Spot::in_memory(&tree, &from), &Spot::in_memory(&tree, &to), way_of(flags))?;
    if from.found == to.found && mode == RenameMode::Replace {
        return Ok(0);
    }
    check_permissions(&tree, &from, &to, mode)?;
    let replaced = tree.rename((from.parent, &from.name), (to.parent, &to.name), mode, time::wall_ns())?;
    let other = to.found.map(|id| (id, replaced.is_none() && tree.links(id) == 0));
    let is_other_directory = other.is_some_and(|(id, _)| replaced.is_none() && tree.is_directory(id));
    drop(tree);
    drop(replaced);
    let (old, new) = ((from.parent.into(), &*from.name), (to.parent.into(), &*to.name));
    notify::renamed(old, new, moved.into(), is_directory);
    match other {
        Some((id, _)) if mode == RenameMode::Exchange => {
            notify::renamed(new, old, id.into(), is_other_directory);
        }
        Some((id, true)) => notify::gone(id.into()),
        _ => {}
    }
    Ok(0)
}
