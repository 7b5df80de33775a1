//! Renaming: one operation, so that a power cut shows the old names or the new ones.

use crate::directory::linear::NewName;
use crate::directory::{Found, check_name};
use crate::inode::Inode;
use crate::{BlockDevice, Error, Ext4, InodeNumber, RenameMode, Timestamp};

/// One of the two names of a rename.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: InodeNumber,
    name: &'a [u8],
}

impl<D: BlockDevice> Ext4<D> {
    /// Gives what is called `from` the name `to`. What had that name before is replaced, the rename fails, or
    /// the two trade places, as `mode` says. Two names of one inode stay as they are.
    pub fn rename(
        &mut self,
        from_directory: InodeNumber,
        from: &[u8],
        to_directory: InodeNumber,
        to: &[u8],
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<(), Error> {
        let from = Place { directory: from_directory, name: from };
        let to = Place { directory: to_directory, name: to };
        let left = self.operation(now, |fs| fs.rename_in_operation(from, to, mode, now))?;
        self.release_left(left, now)
    }

    fn find_place(&mut self, place: Place<'_>) -> Result<Option<(Found, Inode)>, Error> {
        let directory = self.directory(place.directory)?;
        check_name(place.name)?;
        if matches!(place.name, b"." | b"..") {
            return Err(Error::Invalid);
        }
        if directory.raw.links.get() == 0 {
            return Err(Error::NotFound);
        }
        let Some(found) = self.find_name(&directory, place.name)? else { return Ok(None) };
        self.check_target(found.inode)?;
        let inode = self.inode(found.inode)?;
        inode.kind()?;
        Ok(Some((found, inode)))
    }

    fn rename_in_operation(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<Option<u32>, Error> {
        let (_, moved) = self.find_place(from)?.ok_or(Error::NotFound)?;
        let target = self.find_place(to)?;
        if moved.is_directory() {
            self.check_not_below(to.directory, moved.number)?;
        }
        match (target, mode) {
            (None, RenameMode::Exchange) => Err(Error::NotFound),
            (Some(_), RenameMode::NoReplace) => Err(Error::Exists),
            (Some((_, target)), _) if target.number == moved.number => Ok(None),
            (Some((found, target)), RenameMode::Exchange) => {
                if target.is_directory() {
                    self.check_not_below(from.directory, target.number)?;
                }
                self.exchange(from, to, &moved, (found, &target), now)?;
                Ok(None)
            }
            (target, _) => self.move_name(from, to, &moved, target, now),
        }
    }

    /// Fails if `directory` is `above` or lies below it.
    fn check_not_below(&mut self, directory: InodeNumber, above: u32) -> Result<(), Error> {
        let mut at = directory;
        for _ in 0..self.geometry.inodes {
            if at.0 == above {
                return Err(Error::Invalid);
            }
            if at == InodeNumber::ROOT {
                return Ok(());
            }
            at = self.parent(at)?;
        }
        Err(Error::Corrupt("loop of directories"))
    }

    fn move_name(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        moved: &Inode,
        target: Option<(Found, Inode)>,
        now: Timestamp,
    ) -> Result<Option<u32>, Error> {
        let mut left = None;
        let mut to_directory = self.directory(to.directory)?;
        let kind = moved.kind()?;
        if let Some((found, target)) = target {
            self.check_replaceable(moved, &target)?;
            self.retarget(&to_directory, found, moved.number, kind)?;
            if target.is_directory() {
                self.drop_link(&mut to_directory);
                let number = target.number;
                left = self.abandon(target, now)?.then_some(number);
            } else {
                left = self.lose_name(target, now)?;
            }
        } else {
            if moved.is_directory() && from.directory != to.directory {
                self.check_link(&to_directory)?;
            }
            let new = NewName { name: to.name, inode: moved.number, kind: self.entry_kind(kind) };
            self.add_name(&mut to_directory, new)?;
        }
        let is_moved_over = moved.is_directory() && from.directory != to.directory;
        if is_moved_over {
            self.add_link(&mut to_directory);
        }
        self.touch_directory(to_directory, now)?;
        // Adding the new name may have moved the old one.
        let mut from_directory = self.directory(from.directory)?;
        let found = self.find_name(&from_directory, from.name)?.ok_or(Error::Corrupt("lost name"))?;
        self.remove_name(&from_directory, found)?;
        if is_moved_over {
            self.drop_link(&mut from_directory);
        }
        self.touch_directory(from_directory, now)?;
        self.settle(moved.number, is_moved_over.then_some(to.directory), now)?;
        Ok(left)
    }

    fn check_replaceable(&mut self, moved: &Inode, target: &Inode) -> Result<(), Error> {
        match (moved.is_directory(), target.is_directory()) {
            (true, false) => Err(Error::NotADirectory),
            (false, true) => Err(Error::IsADirectory),
            (false, false) => Ok(()),
            (true, true) => self.check_removable(target),
        }
    }

    /// Gives an inode its new time of change, and a directory its new parent.
    fn settle(&mut self, number: u32, parent: Option<InodeNumber>, now: Timestamp) -> Result<(), Error> {
        let mut inode = self.inode(number)?;
        if let Some(parent) = parent {
            let found = self.find_name(&inode, b"..")?.ok_or(Error::Corrupt("directory without `..`"))?;
            self.retarget(&inode, found, parent.0, crate::FileKind::Directory)?;
        }
        inode.raw.set_changed(now);
        self.note_inode(number, true);
        self.write_inode(&inode)
    }

    fn exchange(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        moved: &Inode,
        (to_found, target): (Found, &Inode),
        now: Timestamp,
    ) -> Result<(), Error> {
        let to_directory = self.directory(to.directory)?;
        self.retarget(&to_directory, to_found, moved.number, moved.kind()?)?;
        self.touch_directory(to_directory, now)?;
        let from_directory = self.directory(from.directory)?;
        let found = self.find_name(&from_directory, from.name)?.ok_or(Error::Corrupt("lost name"))?;
        self.retarget(&from_directory, found, target.number, target.kind()?)?;
        self.touch_directory(from_directory, now)?;
        let is_over = from.directory != to.directory;
        self.settle(moved.number, (is_over && moved.is_directory()).then_some(to.directory), now)?;
        self.settle(target.number, (is_over && target.is_directory()).then_some(from.directory), now)?;
        if is_over && moved.is_directory() != target.is_directory() {
            let (gains, loses) = if moved.is_directory() {
                (to.directory, from.directory)
            } else {
                (from.directory, to.directory)
            };
            let (mut gains, mut loses) = (self.directory(gains)?, self.directory(loses)?);
            self.check_link(&gains)?;
            self.add_link(&mut gains);
            self.drop_link(&mut loses);
            self.write_inode(&gains)?;
            self.write_inode(&loses)?;
        }
        Ok(())
    }
}
