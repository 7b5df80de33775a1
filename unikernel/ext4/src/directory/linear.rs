//! Adding and removing names within leaves, and directories without an index.

use super::Found;
use crate::inode::Inode;
use crate::layout::directory::{
    ENTRY_HEADER_BYTES, Entries, TAIL_BYTES, entry_bytes, kind_number, set_entry_len, set_entry_target,
    write_entry, write_tail,
};
use crate::layout::extent::Extent;
use crate::{BlockDevice, Error, Ext4, FileKind};

/// A name to be added.
#[derive(Clone, Copy)]
pub(crate) struct NewName<'a> {
    pub name: &'a [u8],
    pub inode: u32,
    pub kind: u8,
}

/// Where a name fits into a leaf: the entry that has the room, and how much of it that entry needs itself.
fn find_room(leaf: &[u8], usable: usize, name_bytes: usize) -> Result<Option<(usize, usize, usize)>, Error> {
    let needed = entry_bytes(name_bytes);
    for entry in Entries::new(&leaf[..usable]) {
        let entry = entry.ok_or(Error::Corrupt("directory entry"))?;
        let kept = if entry.inode == 0 { 0 } else { entry_bytes(entry.name.len()) };
        if entry.len >= kept + needed {
            return Ok(Some((entry.at, kept, entry.len)));
        }
    }
    Ok(None)
}

/// Writes a name where `find_room` found room.
fn place_name(leaf: &mut [u8], (at, kept, len): (usize, usize, usize), new: NewName<'_>) {
    if kept > 0 {
        set_entry_len(leaf, at, kept);
    }
    write_entry(leaf, at + kept, len - kept, new.inode, new.kind, new.name);
}

impl<D: BlockDevice> Ext4<D> {
    /// Bytes of a leaf that entries may fill.
    pub(crate) fn leaf_bytes(&self) -> usize {
        let tail = if self.geometry.checksum_seed.is_some() { TAIL_BYTES } else { 0 };
        self.geometry.block_bytes - tail
    }

    /// Makes an empty leaf of a fresh block.
    pub(crate) fn init_leaf(&self, leaf: &mut [u8]) {
        let usable = self.leaf_bytes();
        leaf.fill(0);
        set_entry_len(leaf, 0, usable);
        if usable < leaf.len() {
            write_tail(leaf, 0);
        }
    }

    /// A kind's number, where entries tell kinds.
    pub(crate) fn entry_kind(&self, kind: FileKind) -> u8 {
        if self.geometry.has_file_types { kind_number(kind) } else { 0 }
    }

    /// Adds a name that the directory does not have. The caller writes the inode.
    pub(crate) fn add_name(&mut self, directory: &mut Inode, new: NewName<'_>) -> Result<(), Error> {
        if self.is_indexed(directory) {
            return self.add_by_index(directory, new);
        }
        let blocks = self.directory_blocks(directory)?;
        // The last block first: that is where room is while a directory grows.
        for file_block in core::iter::once(blocks - 1).chain(0..blocks - 1) {
            if self.add_to_leaf(directory, file_block, new)? {
                return Ok(());
            }
        }
        if blocks == 1 && self.geometry.has_directory_index {
            self.make_index(directory)?;
            return self.add_by_index(directory, new);
        }
        let (_, place) = self.append_directory_block(directory)?;
        let seal = self.leaf_seal(directory);
        let usable = self.leaf_bytes();
        self.create_block(place, seal);
        let mut leaf = alloc::vec![0; self.geometry.block_bytes];
        self.init_leaf(&mut leaf);
        place_name(&mut leaf, (0, 0, usable), new);
        self.modify(place, seal, |block| block.copy_from_slice(&leaf))
    }

    /// Adds a name to a leaf if there is room.
    pub(crate) fn add_to_leaf(
        &mut self,
        directory: &Inode,
        file_block: u32,
        new: NewName<'_>,
    ) -> Result<bool, Error> {
        let (place, leaf) = self.leaf(directory, file_block)?;
        let usable = self.leaf_bytes();
        let Some(room) = find_room(&leaf, usable, new.name.len())? else { return Ok(false) };
        drop(leaf);
        self.modify(place, self.leaf_seal(directory), |block| place_name(block, room, new))?;
        Ok(true)
    }

    /// Adds a block at a directory's end: its number in the directory, and where it lies. It is not written.
    pub(crate) fn append_directory_block(&mut self, directory: &mut Inode) -> Result<(u32, u64), Error> {
        let file_block = u32::try_from(directory.raw.size() / self.geometry.block_bytes as u64)
            .map_err(|_| Error::Corrupt("directory size"))?;
        let path = self.walk(directory, file_block)?;
        let start = self.take_single(self.goal_of(directory, &path))?;
        self.charge(directory, 1)?;
        self.insert_extent(directory, Extent { file_block, start, len: 1, is_unwritten: false })?;
        directory.raw.set_size((u64::from(file_block) + 1) * self.geometry.block_bytes as u64);
        Ok((file_block, start))
    }

    /// Takes a name away.
    pub(crate) fn remove_name(&mut self, directory: &Inode, found: Found) -> Result<(), Error> {
        let seal = self.leaf_seal(directory);
        let leaf = self.block(found.block, seal)?;
        let mut before = None;
        let mut removed = None;
        for entry in Entries::new(&leaf) {
            let entry = entry.ok_or(Error::Corrupt("directory entry"))?;
            if entry.at == found.at {
                removed = Some(entry.len);
                break;
            }
            before = Some((entry.at, entry.len));
        }
        let len = removed.ok_or(Error::Corrupt("directory entry"))?;
        drop(leaf);
        self.modify(found.block, seal, |block| match before {
            Some((at, before_len)) => {
                set_entry_len(block, at, before_len + len);
                block[found.at..found.at + ENTRY_HEADER_BYTES].fill(0);
            }
            None => set_entry_target(block, found.at, 0, 0),
        })
    }

    /// Lets a name lead elsewhere. `..` may lie in the root of an index.
    pub(crate) fn retarget(
        &mut self,
        directory: &Inode,
        found: Found,
        inode: u32,
        kind: FileKind,
    ) -> Result<(), Error> {
        let kind = self.entry_kind(kind);
        let first = self.directory_place(directory, 0)?;
        let seal =
            if found.block == first { self.first_block_seal(directory) } else { self.leaf_seal(directory) };
        self.modify(found.block, seal, |block| set_entry_target(block, found.at, inode, kind))
    }

    /// True if a directory has no names but `.` and `..`.
    pub(crate) fn is_empty_directory(&mut self, directory: &Inode) -> Result<bool, Error> {
        let has_names = |block: &[u8]| -> Result<bool, Error> {
            for entry in Entries::new(block) {
                let entry = entry.ok_or(Error::Corrupt("directory entry"))?;
                if entry.inode != 0 && !matches!(entry.name, b"." | b"..") {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        if !self.is_indexed(directory) {
            for file_block in 0..self.directory_blocks(directory)? {
                if has_names(&self.leaf(directory, file_block)?.1)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let mut path = self.first_leaf(directory)?;
        loop {
            if has_names(&self.leaf(directory, path.leaf)?.1)? {
                return Ok(false);
            }
            if self.next_leaf(directory, &mut path)?.is_none() {
                return Ok(true);
            }
        }
    }
}
