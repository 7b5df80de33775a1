//! Names: looking up, making, linking, removing.

use crate::cache::Seal;
use crate::directory::check_name;
use crate::directory::linear::NewName;
use crate::inode::Inode;
use crate::layout::directory::write_entry;
use crate::layout::inode::{BLOCK_AREA_BYTES, NEW_FLAGS};
use crate::{BlockDevice, Error, Ext4, FileKind, InodeNumber, NewKind, NewNode, Timestamp};

/// The most links of a file (`EXT4_LINK_MAX`). A directory with more counts 1, where the feature allows.
const MAX_LINKS: u16 = 65000;

impl<D: BlockDevice> Ext4<D> {
    /// Returns what a name in a directory leads to. `.` and `..` are names too.
    pub fn lookup(&mut self, directory: InodeNumber, name: &[u8]) -> Result<InodeNumber, Error> {
        let directory = self.directory(directory)?;
        check_name(name)?;
        let found = self.find_name(&directory, name)?.ok_or(Error::NotFound)?;
        self.check_target(found.inode)?;
        Ok(InodeNumber(found.inode))
    }

    /// Fails if a name leads where no file can be.
    pub(crate) fn check_target(&self, number: u32) -> Result<(), Error> {
        let is_sound = number == InodeNumber::ROOT.0
            || (number >= self.geometry.first_inode && number <= self.geometry.inodes);
        if is_sound { Ok(()) } else { Err(Error::Corrupt("inode number in a directory")) }
    }

    /// A directory that can get a new name, which it must not have.
    pub(crate) fn directory_without(&mut self, directory: InodeNumber, name: &[u8]) -> Result<Inode, Error> {
        let directory = self.directory(directory)?;
        check_name(name)?;
        if directory.raw.links.get() == 0 {
            return Err(Error::NotFound);
        }
        if self.find_name(&directory, name)?.is_some() { Err(Error::Exists) } else { Ok(directory) }
    }

    /// Makes a node with a name.
    pub fn create(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        node: NewNode<'_>,
        now: Timestamp,
    ) -> Result<InodeNumber, Error> {
        self.operation(now, |fs| {
            let mut directory = fs.directory_without(directory, name)?;
            let is_directory = node.kind == NewKind::Directory;
            if is_directory {
                fs.check_link(&directory)?;
            }
            let number = fs.allocate_inode(directory.number, is_directory)?;
            let inode = fs.new_inode(number, &node, directory.number, now)?;
            let kind = fs.entry_kind(node.kind.kind());
            fs.add_name(&mut directory, NewName { name, inode: number, kind })?;
            if is_directory {
                fs.add_link(&mut directory);
            }
            fs.touch_directory(directory, now)?;
            fs.note_inode(number, true);
            fs.write_inode(&inode)?;
            Ok(InodeNumber(number))
        })
    }

    /// Makes a file without a name, near a directory (`O_TMPFILE`). It is opened, and ends when it is closed unless
    /// [`link`](Self::link) names it first; a power cut ends it, too.
    pub fn create_unnamed(
        &mut self,
        near: InodeNumber,
        node: NewNode<'_>,
        now: Timestamp,
    ) -> Result<InodeNumber, Error> {
        let number = self.operation(now, |fs| {
            let near = fs.directory(near)?.number;
            let number = fs.allocate_inode(near, false)?;
            let mut inode = fs.new_inode(number, &node, near, now)?;
            inode.raw.links = 0.into();
            fs.add_orphan(&mut inode);
            fs.note_inode(number, true);
            fs.write_inode(&inode)?;
            Ok(number)
        })?;
        *self.open.entry(number).or_insert(0) += 1;
        Ok(InodeNumber(number))
    }

    fn new_inode(
        &mut self,
        number: u32,
        node: &NewNode<'_>,
        parent: u32,
        now: Timestamp,
    ) -> Result<Inode, Error> {
        self.clear_inode(number)?;
        let mut inode = self.blank_inode(number, node.kind.kind(), node.permissions, now);
        inode.raw.set_user(node.user);
        inode.raw.set_group(node.group);
        inode.raw.links = 1.into();
        // Tells uses of a number apart, for who keeps it over a removal.
        let mixed = now.nanoseconds ^ (now.seconds as u32).rotate_left(16) ^ number.wrapping_mul(0x9e37_79b1);
        inode.raw.generation = mixed.into();
        match node.kind {
            NewKind::File => self.give_tree(&mut inode),
            NewKind::Directory => self.fill_directory(&mut inode, parent)?,
            NewKind::Symlink(target) => self.fill_symlink(&mut inode, target)?,
            NewKind::CharacterDevice(device) | NewKind::BlockDevice(device) => inode.raw.set_device(device),
            NewKind::Fifo | NewKind::Socket => {}
        }
        Ok(inode)
    }

    fn give_tree(&self, inode: &mut Inode) {
        inode.raw.set_flags(NEW_FLAGS);
        inode.raw.block = crate::extents::empty_root();
    }

    fn fill_directory(&mut self, inode: &mut Inode, parent: u32) -> Result<(), Error> {
        self.give_tree(inode);
        inode.raw.links = 2.into();
        let (_, place) = self.append_directory_block(inode)?;
        let seal = self.leaf_seal(inode);
        self.create_block(place, seal);
        let mut leaf = alloc::vec![0; self.geometry.block_bytes];
        self.init_leaf(&mut leaf);
        let kind = self.entry_kind(FileKind::Directory);
        write_entry(&mut leaf, 0, 12, inode.number, kind, b".");
        write_entry(&mut leaf, 12, self.leaf_bytes() - 12, parent, kind, b"..");
        self.modify(place, seal, |block| block.copy_from_slice(&leaf))
    }

    fn fill_symlink(&mut self, inode: &mut Inode, target: &[u8]) -> Result<(), Error> {
        if target.is_empty() || target.len() >= self.geometry.block_bytes || target.len() > 4095 {
            return Err(if target.is_empty() { Error::NotFound } else { Error::NameTooLong });
        }
        inode.raw.set_size(target.len() as u64);
        if target.len() < BLOCK_AREA_BYTES {
            inode.raw.block[..target.len()].copy_from_slice(target);
            return Ok(());
        }
        self.give_tree(inode);
        let size = inode.raw.size();
        inode.raw.set_size(0);
        let (_, place) = self.append_directory_block(inode)?;
        inode.raw.set_size(size);
        self.create_block(place, Seal::Plain);
        self.modify(place, Seal::Plain, |block| block[..target.len()].copy_from_slice(target))
    }

    /// Gives a directory that has changed its new times, and writes it.
    pub(crate) fn touch_directory(&mut self, mut directory: Inode, now: Timestamp) -> Result<(), Error> {
        directory.raw.set_modified(now);
        directory.raw.set_changed(now);
        self.note_inode(directory.number, true);
        self.write_inode(&directory)
    }

    /// Fails if an inode has as many links as can be counted.
    pub(crate) fn check_link(&self, inode: &Inode) -> Result<(), Error> {
        let links = inode.raw.links.get();
        let has_room = if inode.is_directory() {
            links < MAX_LINKS || self.geometry.has_many_links
        } else {
            links < MAX_LINKS
        };
        if has_room { Ok(()) } else { Err(Error::TooManyLinks) }
    }

    /// Counts one more link. 1 means that a directory has too many to count.
    pub(crate) fn add_link(&self, inode: &mut Inode) {
        let links = inode.raw.links.get();
        let uncounted = inode.is_directory() && (links == 1 || links >= MAX_LINKS);
        inode.raw.links = if uncounted { 1.into() } else { (links + 1).into() };
    }

    /// Counts one link less.
    pub(crate) fn drop_link(&self, inode: &mut Inode) {
        let links = inode.raw.links.get();
        let is_uncounted = inode.is_directory() && links <= 2;
        if !is_uncounted {
            inode.raw.links = links.saturating_sub(1).into();
        }
    }

    /// Gives an inode one more name. Directories have only one.
    pub fn link(
        &mut self,
        inode: InodeNumber,
        directory: InodeNumber,
        name: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        self.operation(now, |fs| {
            let mut directory = fs.directory_without(directory, name)?;
            let mut inode = fs.used_inode(inode)?;
            if inode.is_directory() {
                return Err(Error::IsADirectory);
            }
            fs.check_link(&inode)?;
            let kind = fs.entry_kind(inode.kind()?);
            fs.add_name(&mut directory, NewName { name, inode: inode.number, kind })?;
            if inode.raw.links.get() == 0 {
                fs.remove_orphan(inode.number)?;
                inode = fs.inode(inode.number)?;
                inode.raw.deleted = 0.into();
            }
            fs.add_link(&mut inode);
            inode.raw.set_changed(now);
            fs.note_inode(inode.number, true);
            fs.write_inode(&inode)?;
            fs.touch_directory(directory, now)
        })
    }

    /// Takes a name away that does not lead to a directory. The inode is freed when it has no other and nobody
    /// has it open.
    pub fn unlink(&mut self, directory: InodeNumber, name: &[u8], now: Timestamp) -> Result<(), Error> {
        let left = self.operation(now, |fs| {
            let directory = fs.directory(directory)?;
            check_name(name)?;
            if matches!(name, b"." | b"..") {
                return Err(Error::IsADirectory);
            }
            let found = fs.find_name(&directory, name)?.ok_or(Error::NotFound)?;
            fs.check_target(found.inode)?;
            let inode = fs.inode(found.inode)?;
            if inode.is_directory() {
                return Err(Error::IsADirectory);
            }
            fs.remove_name(&directory, found)?;
            fs.touch_directory(directory, now)?;
            fs.lose_name(inode, now)
        })?;
        self.release_left(left, now)
    }

    /// Within an operation: takes one link off what is not a directory. Returns what is to be released after.
    pub(crate) fn lose_name(&mut self, mut inode: Inode, now: Timestamp) -> Result<Option<u32>, Error> {
        if inode.raw.links.get() == 0 {
            return Err(Error::Corrupt("link count"));
        }
        self.drop_link(&mut inode);
        inode.raw.set_changed(now);
        if inode.raw.links.get() > 0 {
            self.write_inode(&inode)?;
            return Ok(None);
        }
        let number = inode.number;
        Ok(self.abandon(inode, now)?.then_some(number))
    }

    pub(crate) fn release_left(&mut self, left: Option<u32>, now: Timestamp) -> Result<(), Error> {
        left.map_or(Ok(()), |number| self.release(number, now))
    }

    /// Removes an empty directory.
    pub fn remove_directory(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        let left = self.operation(now, |fs| {
            let mut parent = fs.directory(directory)?;
            check_name(name)?;
            match name {
                b"." => return Err(Error::Invalid),
                b".." => return Err(Error::NotEmpty),
                _ => {}
            }
            let found = fs.find_name(&parent, name)?.ok_or(Error::NotFound)?;
            fs.check_target(found.inode)?;
            let inode = fs.inode(found.inode)?;
            fs.check_removable(&inode)?;
            fs.remove_name(&parent, found)?;
            fs.drop_link(&mut parent);
            fs.touch_directory(parent, now)?;
            let number = inode.number;
            Ok(fs.abandon(inode, now)?.then_some(number))
        })?;
        self.release_left(left, now)
    }

    /// Fails unless this is an empty directory that is not the root.
    pub(crate) fn check_removable(&mut self, inode: &Inode) -> Result<(), Error> {
        if !inode.is_directory() {
            return Err(Error::NotADirectory);
        }
        if inode.number == InodeNumber::ROOT.0 {
            return Err(Error::Invalid);
        }
        if self.is_empty_directory(inode)? { Ok(()) } else { Err(Error::NotEmpty) }
    }

    /// Returns the directory that holds this one; the root's is the root.
    pub fn parent(&mut self, directory: InodeNumber) -> Result<InodeNumber, Error> {
        self.lookup(directory, b"..")
    }
}
