//! Changing directories of mounted filesystems. Each function takes places that a walk has found, and the filesystem decides
//! anew: another thread may have been faster.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use linux_raw_sys::general::S_ISGID;
use unikernel_vfs::{NewKind, NewNode, RenameMode};

use super::inode::Inode;
use super::walk::InodePlace;
use super::{Mount, now};
use crate::abi::Errno;
use crate::file::notify::{self, FileKey};

/// True for names that are not a directory's to give away.
pub(crate) fn is_dots(place: &InodePlace) -> bool {
    matches!(place.name.as_slice(), b"" | b"." | b"..")
}

/// A node that is about to be made in a directory. If that has its set-group-ID bit set, its group goes on, and to
/// directories the bit, too (inode(7)).
fn inherited<'a>(directory: &Inode, kind: NewKind<'a>, permissions: u16) -> NewNode<'a> {
    let above = directory.attributes();
    if u32::from(above.permissions) & S_ISGID == 0 {
        return NewNode { kind, permissions, user: 0, group: 0 };
    }
    let bit = if kind == NewKind::Directory { S_ISGID as u16 } else { 0 };
    NewNode { kind, permissions: permissions | bit, user: 0, group: above.group }
}

/// Makes a node with a new name.
pub(crate) fn create(place: &InodePlace, kind: NewKind<'_>, permissions: u16) -> Result<Arc<Inode>, Errno> {
    let mount: &'static Mount = place.parent.mount;
    mount.check_writable()?;
    if place.found.is_some() {
        return Err(Errno::EEXIST);
    }
    let node = inherited(&place.parent, kind, permissions);
    let inode = mount.with(|filesystem| {
        let number = filesystem.create(place.parent.number, &place.name, node, now())?;
        mount.inode_in(filesystem, number)
    })?;
    mount.remember(place.parent.number, &place.name, inode.number);
    place.parent.refresh()?;
    notify::created((&*place.parent).into(), &place.name, kind == NewKind::Directory);
    Ok(inode)
}

/// Makes a file without a name. It can get one, unless it is exclusive (open(2), `O_TMPFILE` with `O_EXCL`).
pub(crate) fn create_unnamed(
    directory: &Inode,
    permissions: u16,
    is_exclusive: bool,
) -> Result<Arc<Inode>, Errno> {
    let mount: &'static Mount = directory.mount;
    mount.check_writable()?;
    let node = inherited(directory, NewKind::File, permissions);
    let inode = mount.with(|filesystem| {
        let number = filesystem.create_unnamed(directory.number, node, now())?;
        let inode = mount.inode_in(filesystem, number)?;
        filesystem.close(number, now())?;
        Ok(inode)
    })?;
    inode.is_nameable.store(!is_exclusive, Ordering::Relaxed);
    mount.note_unlinked(&inode);
    Ok(inode)
}

/// Gives an inode another name; one that has lost all its names gets none.
pub(crate) fn link(place: &InodePlace, inode: &Inode) -> Result<(), Errno> {
    let mount = place.parent.mount;
    mount.check_writable()?;
    if !core::ptr::eq(mount, inode.mount) {
        return Err(Errno::EXDEV);
    }
    if inode.is_directory() {
        return Err(Errno::EPERM);
    }
    if inode.links() == 0 && !inode.is_nameable.load(Ordering::Relaxed) {
        return Err(Errno::ENOENT);
    }
    mount.with(|filesystem| {
        filesystem.link(inode.number, place.parent.number, &place.name, now())?;
        mount.note_linked(inode);
        Ok(())
    })?;
    inode.refresh()?;
    place.parent.refresh()?;
    notify::created((&*place.parent).into(), &place.name, false);
    Ok(())
}

/// Removes a name, of a directory if that is meant.
pub(crate) fn remove(place: &InodePlace, is_directory: bool) -> Result<(), Errno> {
    let mount = place.parent.mount;
    mount.check_writable()?;
    let found = place.found.as_ref().ok_or(Errno::ENOENT)?;
    mount.forget(place.parent.number, &place.name);
    mount.with(|filesystem| match is_directory {
        true => filesystem.remove_directory(place.parent.number, &place.name, now()),
        false => filesystem.unlink(place.parent.number, &place.name, now()),
    })?;
    mount.forget(place.parent.number, &place.name);
    mount.note_removed(found)?;
    place.parent.refresh()?;
    let is_gone = is_directory || found.links() == 0;
    notify::removed((&*place.parent).into(), &place.name, (&**found).into(), is_directory, is_gone);
    Ok(())
}

/// Renames, within one filesystem.
pub(crate) fn rename(from: &InodePlace, to: &InodePlace, mode: RenameMode) -> Result<(), Errno> {
    let mount = from.parent.mount;
    mount.check_writable()?;
    mount.with(|filesystem| {
        mount.forget(from.parent.number, &from.name);
        mount.forget(to.parent.number, &to.name);
        filesystem.rename(from.parent.number, &from.name, to.parent.number, &to.name, mode, now())
    })?;
    if let Some(replaced) = to.found.as_ref().filter(|_| mode == RenameMode::Replace) {
        mount.note_removed(replaced)?;
    }
    for changed in [from.found.as_ref(), Some(&from.parent), Some(&to.parent)].into_iter().flatten() {
        changed.refresh()?;
    }
    tell_of_rename(from, to, mode);
    Ok(())
}

fn tell_of_rename(from: &InodePlace, to: &InodePlace, mode: RenameMode) {
    let Some(moved) = &from.found else { return };
    let old: (FileKey, &[u8]) = ((&*from.parent).into(), &from.name);
    let new: (FileKey, &[u8]) = ((&*to.parent).into(), &to.name);
    notify::renamed(old, new, (&**moved).into(), moved.is_directory());
    match &to.found {
        Some(other) if mode == RenameMode::Exchange => {
            notify::renamed(new, old, (&**other).into(), other.is_directory());
        }
        Some(replaced) if replaced.links() == 0 || replaced.is_directory() => {
            notify::gone((&**replaced).into());
        }
        _ => {}
    }
}

impl Mount {
    /// An inode without a name has got one.
    fn note_linked(&self, inode: &Inode) {
        inode.is_nameable.store(false, Ordering::Relaxed);
        self.unlinked.lock().remove(&inode.number.0);
    }

    /// A name of an inode has gone.
    fn note_removed(&self, inode: &Inode) -> Result<(), Errno> {
        inode.refresh()?;
        // A directory is gone with its name, whatever it counted as links.
        if inode.links() == 0 || inode.is_directory() {
            self.note_unlinked(inode);
        }
        Ok(())
    }
}
