//! Changing directories of a disk. Each function takes places that a walk has found, and the filesystem decides
//! anew: another thread may have been faster.

use alloc::sync::Arc;

use unikernel_ext4::{NewKind, NewNode, RenameMode};

use super::inode::Inode;
use super::walk::DiskPlace;
use super::{Mount, now};
use crate::syscall::Errno;

/// True for names that are not a directory's to give away.
pub fn is_dots(place: &DiskPlace) -> bool {
    matches!(place.name.as_slice(), b"" | b"." | b"..")
}

/// Makes a node with a new name.
pub fn create(place: &DiskPlace, kind: NewKind<'_>, permissions: u16) -> Result<Arc<Inode>, Errno> {
    let mount: &'static Mount = place.parent.mount;
    mount.check_writable()?;
    if place.found.is_some() {
        return Err(Errno::EEXIST);
    }
    let node = NewNode { kind, permissions, user: 0, group: 0 };
    let number = mount.with(|ext4| ext4.create(place.parent.number, &place.name, node, now()))?;
    let inode = mount.inode(number)?;
    mount.remember(place.parent.number, &place.name, number);
    place.parent.refresh()?;
    Ok(inode)
}

/// Gives an inode another name.
pub fn link(place: &DiskPlace, inode: &Inode) -> Result<(), Errno> {
    let mount = place.parent.mount;
    mount.check_writable()?;
    if !core::ptr::eq(mount, inode.mount) {
        return Err(Errno::EXDEV);
    }
    if inode.is_directory() {
        return Err(Errno::EPERM);
    }
    mount.with(|ext4| ext4.link(inode.number, place.parent.number, &place.name, now()))?;
    inode.refresh()?;
    place.parent.refresh()
}

/// Removes a name, of a directory if that is meant.
pub fn remove(place: &DiskPlace, is_directory: bool) -> Result<(), Errno> {
    let mount = place.parent.mount;
    mount.check_writable()?;
    let found = place.found.as_ref().ok_or(Errno::ENOENT)?;
    mount.forget(place.parent.number, &place.name);
    mount.with(|ext4| match is_directory {
        true => ext4.remove_directory(place.parent.number, &place.name, now()),
        false => ext4.unlink(place.parent.number, &place.name, now()),
    })?;
    mount.forget(place.parent.number, &place.name);
    mount.note_removed(found)?;
    place.parent.refresh()
}

/// Renames, within one filesystem.
pub fn rename(from: &DiskPlace, to: &DiskPlace, mode: RenameMode) -> Result<(), Errno> {
    let mount = from.parent.mount;
    mount.check_writable()?;
    mount.with(|ext4| {
        mount.forget(from.parent.number, &from.name);
        mount.forget(to.parent.number, &to.name);
        ext4.rename(from.parent.number, &from.name, to.parent.number, &to.name, mode, now())
    })?;
    if let Some(replaced) = to.found.as_ref().filter(|_| mode == RenameMode::Replace) {
        mount.note_removed(replaced)?;
    }
    for changed in [from.found.as_ref(), Some(&from.parent), Some(&to.parent)].into_iter().flatten() {
        changed.refresh()?;
    }
    Ok(())
}

impl Mount {
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
