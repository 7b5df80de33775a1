//! Adding names to an indexed directory: making the index, splitting leaves and nodes.

use alloc::vec::Vec;

use super::hash::NameHash;
use super::index::{IndexLevel, IndexPath};
use super::linear::NewName;
use crate::inode::Inode;
use crate::layout::directory::{
    Entries, INDEX_ENTRY_BYTES, INDEX_TAIL_BYTES, NODE_COUNT_AT, ROOT_COUNT_AT, ROOT_INFO_AT, entry_bytes,
    set_entry_len, write_entry,
};
use crate::layout::inode::InodeFlags;
use crate::layout::{put16, put32};
use crate::{BlockDevice, Error, Ext4};

/// A name in a leaf that is being split.
struct HashedEntry {
    hash: NameHash,
    inode: u32,
    kind: u8,
    name: Vec<u8>,
}

/// Fills a fresh leaf with entries, the last of which gets the rest of the block.
fn fill_leaf(leaf: &mut [u8], usable: usize, entries: &[HashedEntry]) {
    let mut at = 0;
    for (index, entry) in entries.iter().enumerate() {
        let is_last = index + 1 == entries.len();
        let len = if is_last { usable - at } else { entry_bytes(entry.name.len()) };
        write_entry(leaf, at, len, entry.inode, entry.kind, &entry.name);
        at += len;
    }
}

/// Adds an entry to an index node after `position`.
fn insert_index(node: &mut [u8], level: &IndexLevel, hash: u32, block: u32) {
    let at = |index: usize| level.count_at + index * INDEX_ENTRY_BYTES;
    let position = level.position + 1;
    node.copy_within(at(position)..at(level.count), at(position + 1));
    put32(node, at(position), hash);
    put32(node, at(position) + 4, block);
    put16(node, level.count_at + 2, (level.count + 1) as u16);
}

impl<D: BlockDevice> Ext4<D> {
    /// How many entries an index node holds that has its count at `count_at`.
    fn index_limit(&self, count_at: usize) -> u16 {
        let tail = if self.geometry.checksum_seed.is_some() { INDEX_TAIL_BYTES } else { 0 };
        ((self.geometry.block_bytes - count_at - tail) / INDEX_ENTRY_BYTES) as u16
    }

    /// Gives a directory of one block an index: its names move to a second block.
    pub(super) fn make_index(&mut self, directory: &mut Inode) -> Result<(), Error> {
        let (place, old) = self.leaf(directory, 0)?;
        let version = self.geometry.hash_version;
        let mut parent = 0;
        let mut names = Vec::new();
        for entry in Entries::new(&old[..self.leaf_bytes()]) {
            let entry = entry.ok_or(Error::Corrupt("directory entry"))?;
            match entry.name {
                b"." => {}
                b".." => parent = entry.inode,
                _ if entry.inode == 0 => {}
                name => names.push(HashedEntry {
                    hash: self.name_hash(version, name)?,
                    inode: entry.inode,
                    kind: entry.kind,
                    name: name.to_vec(),
                }),
            }
        }
        drop(old);
        let (leaf_block, leaf_place) = self.append_directory_block(directory)?;
        self.write_leaf(directory, leaf_place, &names, true)?;
        directory.raw.set_flags(directory.raw.flags() | InodeFlags::INDEX);
        self.set_seal(place, self.first_block_seal(directory));
        let (number, kind) = (directory.number, self.entry_kind(crate::FileKind::Directory));
        let limit = self.index_limit(ROOT_COUNT_AT);
        self.modify(place, self.first_block_seal(directory), |root| {
            let block_bytes = root.len();
            root.fill(0);
            write_entry(root, 0, 12, number, kind, b".");
            write_entry(root, 12, block_bytes - 12, parent, kind, b"..");
            root[ROOT_INFO_AT + 4] = version;
            root[ROOT_INFO_AT + 5] = 8;
            put16(root, ROOT_COUNT_AT, limit);
            put16(root, ROOT_COUNT_AT + 2, 1);
            put32(root, ROOT_COUNT_AT + 4, leaf_block);
        })
    }

    /// Writes a whole leaf; `is_new` if the block was just allocated.
    fn write_leaf(
        &mut self,
        directory: &Inode,
        place: u64,
        entries: &[HashedEntry],
        is_new: bool,
    ) -> Result<(), Error> {
        let seal = self.leaf_seal(directory);
        let mut leaf = alloc::vec![0; self.geometry.block_bytes];
        self.init_leaf(&mut leaf);
        if !entries.is_empty() {
            fill_leaf(&mut leaf, self.leaf_bytes(), entries);
        }
        if is_new {
            self.create_block(place, seal);
        }
        self.modify(place, seal, |block| block.copy_from_slice(&leaf))
    }

    pub(super) fn add_by_index(&mut self, directory: &mut Inode, new: NewName<'_>) -> Result<(), Error> {
        let version = self.hash_version(directory)?;
        let hash = self.name_hash(version, new.name)?.major;
        // At most each level of the index and the leaf must be split, one a round.
        for _ in 0..8 {
            let path = self.walk_index(directory, hash)?;
            if self.add_to_leaf(directory, path.leaf, new)? {
                return Ok(());
            }
            let last = path.levels[path.levels.len() - 1];
            if last.count < last.limit {
                self.split_leaf(directory, &path, last)?;
            } else {
                self.make_index_room(directory, &path)?;
            }
        }
        Err(Error::NoSpace)
    }

    /// Moves the upper half of a leaf's names, by hash, to a new leaf.
    fn split_leaf(
        &mut self,
        directory: &mut Inode,
        path: &IndexPath,
        level: IndexLevel,
    ) -> Result<(), Error> {
        let (place, leaf) = self.leaf(directory, path.leaf)?;
        let mut names = Vec::new();
        for entry in Entries::new(&leaf[..self.leaf_bytes()]) {
            let entry = entry.ok_or(Error::Corrupt("directory entry"))?;
            if entry.inode != 0 {
                let hash = self.name_hash(path.version, entry.name)?;
                names.push(HashedEntry {
                    hash,
                    inode: entry.inode,
                    kind: entry.kind,
                    name: entry.name.to_vec(),
                });
            }
        }
        drop(leaf);
        if names.len() < 2 {
            return Err(Error::Corrupt("full leaf with one name"));
        }
        names.sort_unstable_by_key(|entry| (entry.hash, entry.inode));
        let total: usize = names.iter().map(|entry| entry_bytes(entry.name.len())).sum();
        let mut sum = 0;
        let half = names.iter().position(|entry| {
            sum += entry_bytes(entry.name.len());
            sum > total / 2
        });
        let half = half.unwrap_or(1).clamp(1, names.len() - 1);
        let hash = names[half].hash.major;
        let continues = u32::from(names[half - 1].hash.major == hash);
        let (new_block, new_place) = self.append_directory_block(directory)?;
        self.write_leaf(directory, new_place, &names[half..], true)?;
        self.write_leaf(directory, place, &names[..half], false)?;
        self.modify(level.place, level.seal, |node| insert_index(node, &level, hash | continues, new_block))
    }

    /// Splits the lowest full node whose parent is not full, or adds a level under the root.
    fn make_index_room(&mut self, directory: &mut Inode, path: &IndexPath) -> Result<(), Error> {
        let roomy = path.levels.iter().rposition(|level| level.count < level.limit);
        match roomy {
            Some(parent) => self.split_node(directory, path.levels[parent], path.levels[parent + 1]),
            None if path.levels.len() <= usize::from(self.max_index_levels()) => {
                self.add_index_level(directory, path)
            }
            None => Err(Error::NoSpace),
        }
    }

    /// Makes an index node of a new block, with `entries` in it.
    fn new_index_node(&mut self, directory: &mut Inode, entries: &[u8]) -> Result<u32, Error> {
        let (block, place) = self.append_directory_block(directory)?;
        let seal = self.node_seal(directory);
        self.create_block(place, seal);
        let limit = self.index_limit(NODE_COUNT_AT);
        let count = (entries.len() / INDEX_ENTRY_BYTES) as u16;
        self.modify(place, seal, |node| {
            let block_bytes = node.len();
            set_entry_len(node, 0, block_bytes);
            node[NODE_COUNT_AT..NODE_COUNT_AT + entries.len()].copy_from_slice(entries);
            put16(node, NODE_COUNT_AT, limit);
            put16(node, NODE_COUNT_AT + 2, count);
        })?;
        Ok(block)
    }

    fn split_node(
        &mut self,
        directory: &mut Inode,
        parent: IndexLevel,
        child: IndexLevel,
    ) -> Result<(), Error> {
        let node = self.block(child.place, child.seal)?;
        let keep = child.count / 2;
        let at = |index: usize| child.count_at + index * INDEX_ENTRY_BYTES;
        let hash = super::index::entry_hash(&node, child.count_at, keep);
        let block = self.new_index_node(directory, &node[at(keep)..at(child.count)])?;
        drop(node);
        self.modify(child.place, child.seal, |node| {
            put16(node, child.count_at + 2, keep as u16);
            node[at(keep)..at(child.count)].fill(0);
        })?;
        self.modify(parent.place, parent.seal, |node| insert_index(node, &parent, hash, block))
    }

    /// Moves the root's entries into a node of their own.
    fn add_index_level(&mut self, directory: &mut Inode, path: &IndexPath) -> Result<(), Error> {
        let root = path.levels[0];
        let bytes = self.block(root.place, root.seal)?;
        let end = root.count_at + root.count * INDEX_ENTRY_BYTES;
        let block = self.new_index_node(directory, &bytes[root.count_at..end])?;
        drop(bytes);
        let levels = path.levels.len() as u8;
        self.modify(root.place, root.seal, |node| {
            node[root.count_at + 4..end].fill(0);
            put16(node, root.count_at + 2, 1);
            put32(node, root.count_at + 4, block);
            node[ROOT_INFO_AT + 6] = levels;
        })
    }
}
