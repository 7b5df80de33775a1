//! The index of a large directory: a tree whose root is the directory's first block, ordered by hashes.
//!
//! An entry `(hash, block)` says: names from this hash on lie below that block. If the hash's lowest bit is set,
//! the block also continues the hash of the one before it.

use alloc::vec::Vec;

use super::hash::{NameHash, hash_name};
use super::{Found, find_in_block};
use crate::cache::Seal;
use crate::inode::Inode;
use crate::layout::directory::{INDEX_ENTRY_BYTES, NODE_COUNT_AT, ROOT_COUNT_AT, ROOT_INFO_AT};
use crate::layout::{le16, le32};
use crate::{BlockDevice, Error, Ext4};

/// One node on the way from the root to a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexLevel {
    /// Where it lies on the disk.
    pub place: u64,
    pub seal: Seal,
    /// Where its limit and count begin.
    pub count_at: usize,
    pub limit: usize,
    pub count: usize,
    /// The entry that was followed.
    pub position: usize,
}

/// The way to a leaf.
pub(super) struct IndexPath {
    pub levels: Vec<IndexLevel>,
    /// The leaf's block in the directory.
    pub leaf: u32,
    pub version: u8,
}

/// An entry's hash; the first has none and begins at 0.
pub(super) fn entry_hash(node: &[u8], count_at: usize, position: usize) -> u32 {
    if position == 0 { 0 } else { le32(node, count_at + position * INDEX_ENTRY_BYTES) }
}

/// An entry's block in the directory.
fn entry_block(node: &[u8], count_at: usize, position: usize) -> u32 {
    le32(node, count_at + position * INDEX_ENTRY_BYTES + 4) & 0x0fff_ffff
}

/// The last entry whose hash is at or before `hash`.
fn position_of(node: &[u8], count_at: usize, count: usize, hash: u32) -> usize {
    let (mut low, mut high) = (1, count);
    while low < high {
        let middle = low.midpoint(high);
        if entry_hash(node, count_at, middle) <= hash { low = middle + 1 } else { high = middle }
    }
    low - 1
}

impl<D: BlockDevice> Ext4<D> {
    /// The most levels below the root.
    pub(super) fn max_index_levels(&self) -> u8 {
        if self.geometry.has_large_directories { 2 } else { 1 }
    }

    pub(super) fn node_seal(&self, directory: &Inode) -> Seal {
        Seal::Index(self.directory_seed(directory), NODE_COUNT_AT)
    }

    /// The hash version of a directory's index, and its levels below the root.
    fn index_info(&self, root: &[u8]) -> Result<(u8, u8), Error> {
        let (version, info_len, levels) =
            (root[ROOT_INFO_AT + 4], root[ROOT_INFO_AT + 5], root[ROOT_INFO_AT + 6]);
        let is_sound = le32(root, ROOT_INFO_AT) == 0 && info_len == 8 && levels <= self.max_index_levels();
        if is_sound { Ok((version, levels)) } else { Err(Error::Corrupt("directory index")) }
    }

    /// A directory's hash version.
    pub(crate) fn hash_version(&mut self, directory: &Inode) -> Result<u8, Error> {
        if !self.is_indexed(directory) {
            return Ok(self.geometry.hash_version);
        }
        let place = self.directory_place(directory, 0)?;
        let root = self.block(place, self.root_seal(directory))?;
        Ok(self.index_info(&root)?.0)
    }

    pub(crate) fn name_hash(&self, version: u8, name: &[u8]) -> Result<NameHash, Error> {
        hash_name(&self.geometry, version, name).ok_or(Error::Unsupported)
    }

    /// Walks to the first leaf that may hold `hash`.
    pub(super) fn walk_index(&mut self, directory: &Inode, hash: u32) -> Result<IndexPath, Error> {
        let place = self.directory_place(directory, 0)?;
        let seal = self.root_seal(directory);
        let (version, levels) = {
            let root = self.block(place, seal)?;
            self.index_info(&root)?
        };
        let mut path = IndexPath { levels: Vec::with_capacity(2), leaf: 0, version };
        let (mut place, mut seal, mut count_at) = (place, seal, ROOT_COUNT_AT);
        for depth in 0..=levels {
            let node = self.block(place, seal)?;
            let level = read_level(&node, place, seal, count_at, hash)?;
            let below = entry_block(&node, count_at, level.position);
            path.levels.push(level);
            if depth == levels {
                path.leaf = below;
                break;
            }
            place = self.directory_place(directory, below)?;
            (seal, count_at) = (self.node_seal(directory), NODE_COUNT_AT);
        }
        Ok(path)
    }

    /// Steps to the next leaf. Returns the hash from which it holds names, or `None` at the end.
    pub(super) fn next_leaf(
        &mut self,
        directory: &Inode,
        path: &mut IndexPath,
    ) -> Result<Option<u32>, Error> {
        let Some(from) = path.levels.iter().rposition(|level| level.position + 1 < level.count) else {
            return Ok(None);
        };
        path.levels[from].position += 1;
        let level = path.levels[from];
        let node = self.block(level.place, level.seal)?;
        let hash = entry_hash(&node, level.count_at, level.position);
        let mut below = entry_block(&node, level.count_at, level.position);
        for depth in from + 1..path.levels.len() {
            let place = self.directory_place(directory, below)?;
            let seal = self.node_seal(directory);
            let node = self.block(place, seal)?;
            let level = read_level(&node, place, seal, NODE_COUNT_AT, 0)?;
            let level = IndexLevel { position: 0, ..level };
            below = entry_block(&node, NODE_COUNT_AT, 0);
            path.levels[depth] = level;
        }
        path.leaf = below;
        Ok(Some(hash))
    }

    /// The first leaf of an index, for a walk over all.
    pub(super) fn first_leaf(&mut self, directory: &Inode) -> Result<IndexPath, Error> {
        self.walk_index(directory, 0)
    }

    pub(super) fn find_by_index(&mut self, directory: &Inode, name: &[u8]) -> Result<Option<Found>, Error> {
        let version = self.hash_version(directory)?;
        let hash = self.name_hash(version, name)?.major;
        let mut path = self.walk_index(directory, hash)?;
        loop {
            let (place, leaf) = self.leaf(directory, path.leaf)?;
            if let Some(found) = find_in_block(&leaf, place, name)? {
                return Ok(Some(found));
            }
            // Names with one hash may go on in the next leaf.
            match self.next_leaf(directory, &mut path)? {
                Some(next) if next & 1 != 0 && next & !1 == hash => {}
                _ => return Ok(None),
            }
        }
    }
}

fn read_level(node: &[u8], place: u64, seal: Seal, count_at: usize, hash: u32) -> Result<IndexLevel, Error> {
    let (limit, count) = (usize::from(le16(node, count_at)), usize::from(le16(node, count_at + 2)));
    let fits = count_at + limit * INDEX_ENTRY_BYTES <= node.len();
    if count == 0 || count > limit || !fits {
        return Err(Error::Corrupt("directory index"));
    }
    let position = position_of(node, count_at, count, hash);
    Ok(IndexLevel { place, seal, count_at, limit, count, position })
}
