//! Changing directories of mounted filesystems. Each function takes places that a walk has found, and the filesystem decides
//! anew: another thread may have been faster.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use unikernel_vfs::access::{self, Acl, Inherited, Wanted};
use unikernel_vfs::{Error, FileKind, FileSystem, InodeNumber, NewKind, NewNode, RenameMode};

use super::inode::Inode;
use super::permission::{ACCESS_LIST, AccessAttributes, DEFAULT_LIST, list_error, object};
use super::walk::InodePlace;
use super::{Mount, errno, now};
use crate::abi::Errno;
use crate::file::notify::{self, FileKey};
use crate::task::credentials;

/// True for names that are not a directory's to give away.
pub(crate) fn is_dots(place: &InodePlace) -> bool {
    matches!(place.name.as_slice(), b"" | b"." | b"..")
}

/// Permissions that are asked for, and those that new files do not get (umask(2)).
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    /// The low twelve bits.
    pub wanted: u16,
    /// Bits that are taken off, unless the directory has a list of its own for that.
    pub mask: u16,
}

/// A node that is about to be made in a directory, and the lists that it gets.
struct Planned<'a> {
    node: NewNode<'a>,
    access: Option<Acl>,
    /// The directory, whose default list goes on to directories.
    above: Arc<AccessAttributes>,
}

impl<'a> Planned<'a> {
    /// What the running thread makes: it is its own; the directory's set-group-ID bit and default list go on (inode(7), acl(5)).
    fn new(directory: &Inode, kind: NewKind<'a>, mode: Mode) -> Result<Self, Errno> {
        let above = directory.access_attributes()?;
        let is_directory = kind == NewKind::Directory;
        let default = above.default.as_ref().filter(|_| !matches!(kind, NewKind::Symlink(_)));
        let (permissions, access) = match default {
            Some(list) => {
                let Inherited { permissions, acl } =
                    list.inherit(mode.wanted).map_err(list_error).map_err(errno)?;
                (permissions, acl)
            }
            None => (mode.wanted & !mode.mask, None),
        };
        let who = credentials::mine();
        let attributes = directory.attributes();
        let (group, permissions) =
            access::new_permissions(&who, &object(&attributes, None), is_directory, permissions);
        Ok(Self { node: NewNode { kind, permissions, user: who.user_fs, group }, access, above })
    }

    /// Gives the node its lists, once it is made.
    fn set_lists(&self, filesystem: &mut dyn FileSystem, number: InodeNumber) -> Result<(), Error> {
        let default = self.above.default.as_ref().filter(|_| self.node.kind == NewKind::Directory);
        for (name, list) in [(ACCESS_LIST, self.access.as_ref()), (DEFAULT_LIST, default)] {
            if let Some(list) = list {
                let value = list.to_attribute().map_err(list_error)?;
                filesystem.set_extended_attribute(number, name, &value, now())?;
            }
        }
        Ok(())
    }
}

/// Makes a node with a new name.
pub(crate) fn create(place: &InodePlace, kind: NewKind<'_>, mode: Mode) -> Result<Arc<Inode>, Errno> {
    let mount: &'static Mount = place.parent.mount;
    mount.check_writable()?;
    if place.found.is_some() {
        return Err(Errno::EEXIST);
    }
    place.parent.check(Wanted::CHANGE_NAMES)?;
    let planned = Planned::new(&place.parent, kind, mode)?;
    let inode = mount.with(|filesystem| {
        // Names are remembered while nobody can take them away: what is remembered is so.
        let (directory, name) = (place.parent.number, &place.name);
        let number = filesystem.create(directory, name, planned.node, now())?;
        if let Err(error) = planned.set_lists(filesystem, number) {
            // Without them it would be open to others than it should be.
            let _ = match kind {
                NewKind::Directory => filesystem.remove_directory(directory, name, now()),
                _ => filesystem.unlink(directory, name, now()),
            };
            return Err(error);
        }
        let inode = mount.inode_in(filesystem, number)?;
        mount.remember(directory, name, number);
        place.parent.refresh_in(filesystem)?;
        Ok(inode)
    })?;
    notify::created((&*place.parent).into(), &place.name, kind == NewKind::Directory);
    Ok(inode)
}

/// Makes a file without a name. It can get one, unless it is exclusive (open(2), `O_TMPFILE` with `O_EXCL`).
pub(crate) fn create_unnamed(directory: &Inode, mode: Mode, is_exclusive: bool) -> Result<Arc<Inode>, Errno> {
    let mount: &'static Mount = directory.mount;
    mount.check_writable()?;
    directory.check(Wanted::CHANGE_NAMES)?;
    let planned = Planned::new(directory, NewKind::File, mode)?;
    let inode = mount.with(|filesystem| {
        let number = filesystem.create_unnamed(directory.number, planned.node, now())?;
        let outcome = planned.set_lists(filesystem, number);
        let inode = outcome.and_then(|()| mount.inode_in(filesystem, number));
        filesystem.close(number, now())?;
        if let Ok(inode) = &inode {
            inode.is_nameable.store(!is_exclusive, Ordering::Relaxed);
            mount.note_unlinked(inode);
        }
        inode
    })?;
    Ok(inode)
}

/// Gives an inode another name; one that has lost all its names gets none.
pub(crate) fn link(place: &InodePlace, inode: &Inode) -> Result<(), Errno> {
    let mount = place.parent.mount;
    mount.check_writable()?;
    if !core::ptr::eq(mount, inode.mount) {
        return Err(Errno::EXDEV);
    }
    if let Some(who) = credentials::restricted() {
        let is_regular = inode.kind() == FileKind::File;
        inode.ask(&who, |object| access::check_hard_link(&who, object, is_regular))??;
    }
    place.parent.check(Wanted::CHANGE_NAMES)?;
    if inode.is_directory() {
        return Err(Errno::EPERM);
    }
    if inode.links() == 0 && !inode.is_nameable.load(Ordering::Relaxed) {
        return Err(Errno::ENOENT);
    }
    mount.with(|filesystem| {
        filesystem.link(inode.number, place.parent.number, &place.name, now())?;
        mount.note_linked(inode);
        inode.refresh_in(filesystem)?;
        place.parent.refresh_in(filesystem)
    })?;
    notify::created((&*place.parent).into(), &place.name, false);
    Ok(())
}

/// Removes a name, of a directory if that is meant. `ESTALE` if it leads elsewhere by now.
pub(crate) fn remove(place: &InodePlace, is_directory: bool) -> Result<(), Errno> {
    let mount = place.parent.mount;
    mount.check_writable()?;
    let found = place.found.as_ref().ok_or(Errno::ENOENT)?;
    place.parent.check_removal(found)?;
    mount.change_names(&[place], |filesystem| {
        match is_directory {
            true => filesystem.remove_directory(place.parent.number, &place.name, now())?,
            false => filesystem.unlink(place.parent.number, &place.name, now())?,
        }
        mount.note_removed(filesystem, found)?;
        place.parent.refresh_in(filesystem)
    })?;
    let is_gone = is_directory || found.links() == 0;
    notify::removed((&*place.parent).into(), &place.name, (&**found).into(), is_directory, is_gone);
    Ok(())
}

/// Renames, within one filesystem. `ESTALE` if one of the names leads elsewhere by now.
pub(crate) fn rename(from: &InodePlace, to: &InodePlace, mode: RenameMode) -> Result<(), Errno> {
    let mount = from.parent.mount;
    mount.check_writable()?;
    check_rename(from, to, mode)?;
    mount.change_names(&[from, to], |filesystem| {
        filesystem.rename(from.parent.number, &from.name, to.parent.number, &to.name, mode, now())?;
        match &to.found {
            Some(replaced) if mode == RenameMode::Replace => mount.note_removed(filesystem, replaced)?,
            Some(exchanged) => exchanged.refresh_in(filesystem)?,
            None => {}
        }
        let changed = [from.found.as_ref(), Some(&from.parent), Some(&to.parent)];
        changed.into_iter().flatten().try_for_each(|inode| inode.refresh_in(filesystem))
    })?;
    tell_of_rename(from, to, mode);
    Ok(())
}

/// Whether the running thread may do that: a directory that moves gets another `..`.
fn check_rename(from: &InodePlace, to: &InodePlace, mode: RenameMode) -> Result<(), Errno> {
    let moved = from.found.as_ref().ok_or(Errno::ENOENT)?;
    match (&to.found, mode) {
        (Some(_), RenameMode::NoReplace) => return Err(Errno::EEXIST),
        (None, RenameMode::Exchange) => return Err(Errno::ENOENT),
        _ => {}
    }
    from.parent.check_removal(moved)?;
    match &to.found {
        Some(replaced) => to.parent.check_removal(replaced)?,
        None => to.parent.check(Wanted::CHANGE_NAMES)?,
    }
    if from.parent.number == to.parent.number {
        return Ok(());
    }
    let other = to.found.as_ref().filter(|_| mode == RenameMode::Exchange);
    let mut moving = [Some(moved), other].into_iter().flatten();
    moving.try_for_each(|moved| if moved.is_directory() { moved.check(Wanted::WRITE) } else { Ok(()) })
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
    /// Changes names by `work`, unless one of them leads elsewhere than the walk found: then it is `ESTALE`, and the caller walks again.
    /// So it is what was found, and was asked whether it may, that loses its name; and all that is known of it changes with the
    /// filesystem, before another thread can change it further.
    fn change_names(
        &self,
        places: &[&InodePlace],
        work: impl FnOnce(&mut dyn FileSystem) -> Result<(), Error>,
    ) -> Result<(), Errno> {
        let is_done = self.with(|filesystem| {
            for place in places {
                if !self.is_current(filesystem, place)? {
                    return Ok(false);
                }
            }
            for place in places {
                self.forget(place.parent.number, &place.name);
            }
            work(filesystem).map(|()| true)
        })?;
        if is_done { Ok(()) } else { Err(Errno::ESTALE) }
    }

    /// True if a name still leads where the walk found that it does. In shared filesystems others change names whenever they like.
    fn is_current(&self, filesystem: &mut dyn FileSystem, place: &InodePlace) -> Result<bool, Error> {
        if self.is_shared {
            return Ok(true);
        }
        let now = self.look_up(filesystem, place.parent.number, &place.name)?;
        // What was found is kept until now: its number is nobody else's.
        Ok(now == place.found.as_ref().map(|inode| inode.number))
    }

    /// An inode without a name has got one.
    fn note_linked(&self, inode: &Inode) {
        inode.is_nameable.store(false, Ordering::Relaxed);
        self.unlinked.lock().remove(&inode.number.0);
    }

    /// A name of an inode has gone.
    fn note_removed(&self, filesystem: &mut dyn FileSystem, inode: &Inode) -> Result<(), Error> {
        inode.refresh_in(filesystem)?;
        // A directory is gone with its name, whatever it counted as links.
        if inode.links() == 0 || inode.is_directory() {
            self.note_unlinked(inode);
        }
        Ok(())
    }
}
