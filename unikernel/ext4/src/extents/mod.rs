//! Extent trees: which blocks of the disk hold which blocks of a file. `insert` and `remove` change them.
//!
//! A walk from the root checks each node it passes: depths must fall by one, so no damaged tree makes a loop.

mod insert;
mod remove;

use alloc::sync::Arc;
use alloc::vec::Vec;

use zerocopy::{FromBytes, IntoBytes};

use crate::cache::Seal;
use crate::inode::Inode;
use crate::layout::extent::{Extent, Header, Index, MAGIC, MAX_DEPTH, RECORD_BYTES};
use crate::layout::inode::{BLOCK_AREA_BYTES, InodeFlags};
use crate::{BlockDevice, Error, Ext4};

/// A node's bytes: the root is copied out of the inode.
pub(crate) enum Node {
    Root([u8; BLOCK_AREA_BYTES]),
    Block(Arc<[u8]>),
}

impl core::ops::Deref for Node {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Root(bytes) => bytes,
            Self::Block(bytes) => bytes,
        }
    }
}

/// One node on the way from the root to a leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    /// Where the node lies; `None` is the inode.
    pub block: Option<u64>,
    pub entries: usize,
    pub max: usize,
    /// The last entry that begins at or before the block looked for. An index node always has one.
    pub position: Option<usize>,
}

/// The way from the root to a leaf, and what was found there.
#[derive(Debug)]
pub(crate) struct Path {
    pub levels: Vec<Level>,
    /// The last extent that begins at or before the block looked for, in that leaf.
    pub extent: Option<Extent>,
    /// Where the next extent begins.
    pub next: Option<u32>,
}

impl Path {
    pub(crate) fn leaf(&self) -> Level {
        self.levels[self.levels.len() - 1]
    }

    /// The extent that holds the block.
    pub(crate) fn holding(&self, file_block: u32) -> Option<Extent> {
        self.extent.filter(|extent| file_block < extent.end())
    }
}

/// Where a node's entry lies.
pub(crate) fn entry_at(position: usize) -> usize {
    RECORD_BYTES * (1 + position)
}

pub(crate) fn read_header(node: &[u8]) -> Result<Header, Error> {
    Header::read_from_prefix(node).map(|parts| parts.0).map_err(|_| Error::Corrupt("extent header"))
}

pub(crate) fn write_header(node: &mut [u8], header: Header) {
    node[..RECORD_BYTES].copy_from_slice(header.as_bytes());
}

/// The first file block of any entry: both kinds have it at the same place.
fn key(node: &[u8], position: usize) -> u32 {
    crate::layout::le32(node, entry_at(position))
}

pub(crate) fn read_extent(node: &[u8], position: usize) -> Result<Extent, Error> {
    node.get(entry_at(position)..).and_then(Extent::read).ok_or(Error::Corrupt("extent"))
}

fn check_header(node: &[u8], depth: Option<u16>) -> Result<Header, Error> {
    let header = read_header(node)?;
    let capacity = node.len() / RECORD_BYTES - 1;
    let is_sound = header.magic.get() == MAGIC
        && header.entries.get() <= header.max.get()
        && usize::from(header.max.get()) <= capacity
        && depth.map_or(header.depth.get() <= MAX_DEPTH, |depth| header.depth.get() == depth)
        && (header.depth.get() == 0 || header.entries.get() > 0);
    if is_sound { Ok(header) } else { Err(Error::Corrupt("extent header")) }
}

/// The last entry whose key is at or before `file_block`, by bisection.
fn position_of(node: &[u8], entries: usize, file_block: u32) -> Option<usize> {
    let (mut low, mut high) = (0, entries);
    while low < high {
        let middle = low.midpoint(high);
        if key(node, middle) <= file_block { low = middle + 1 } else { high = middle }
    }
    low.checked_sub(1)
}

impl<D: BlockDevice> Ext4<D> {
    pub(crate) fn extent_seal(&self, inode: &Inode) -> Seal {
        Seal::Extent(self.geometry.inode_seed(inode.number, inode.raw.generation.get()))
    }

    /// Reads a node.
    pub(crate) fn node(&mut self, inode: &Inode, block: Option<u64>) -> Result<Node, Error> {
        match block {
            None => Ok(Node::Root(inode.raw.block)),
            Some(block) => Ok(Node::Block(self.block(block, self.extent_seal(inode))?)),
        }
    }

    /// Changes a node. The inode itself must be written by the caller.
    pub(crate) fn modify_node(
        &mut self,
        inode: &mut Inode,
        block: Option<u64>,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<(), Error> {
        match block {
            None => change(&mut inode.raw.block),
            Some(block) => self.modify(block, self.extent_seal(inode), change)?,
        }
        Ok(())
    }

    /// Walks to the leaf that holds `file_block` or would.
    pub(crate) fn walk(&mut self, inode: &Inode, file_block: u32) -> Result<Path, Error> {
        if !inode.has(InodeFlags::EXTENTS) {
            return Err(Error::Unsupported);
        }
        let mut path = Path { levels: Vec::with_capacity(2), extent: None, next: None };
        let (mut block, mut depth) = (None, None);
        loop {
            let node = self.node(inode, block)?;
            let header = check_header(&node, depth)?;
            let entries = usize::from(header.entries.get());
            let is_leaf = header.depth.get() == 0;
            let mut position = position_of(&node, entries, file_block);
            if !is_leaf {
                position = position.or(Some(0));
            }
            let after = position.map_or(0, |position| position + 1);
            if after < entries {
                path.next = Some(key(&node, after));
            }
            path.levels.push(Level { block, entries, max: usize::from(header.max.get()), position });
            if is_leaf {
                return self.finish_walk(path, &node);
            }
            let index = Index::read(&node[entry_at(position.unwrap_or(0))..]);
            let index = index.ok_or(Error::Corrupt("extent index"))?;
            if file_block < index.file_block {
                path.next = Some(index.file_block);
            }
            depth = header.depth.get().checked_sub(1);
            block = Some(index.child);
        }
    }

    fn finish_walk(&self, mut path: Path, node: &[u8]) -> Result<Path, Error> {
        if let Some(position) = path.leaf().position {
            let extent = read_extent(node, position)?;
            let is_sound = self.geometry.has_blocks(extent.start, extent.len)
                && path.next.is_none_or(|next| extent.end() <= next);
            if !is_sound {
                return Err(Error::Corrupt("extent"));
            }
            path.extent = Some(extent);
        }
        Ok(path)
    }

    /// The extent that holds `file_block`, or else where the hole there ends, if it does.
    pub(crate) fn find_extent(
        &mut self,
        inode: &Inode,
        file_block: u32,
    ) -> Result<Result<Extent, Option<u32>>, Error> {
        let path = self.walk(inode, file_block)?;
        if path.next.is_some_and(|next| next <= file_block) {
            return Err(Error::Corrupt("extent order"));
        }
        Ok(path.holding(file_block).ok_or(path.next))
    }
}

/// An empty root.
pub(crate) fn empty_root() -> [u8; BLOCK_AREA_BYTES] {
    let mut root = [0; BLOCK_AREA_BYTES];
    write_header(&mut root, Header::new((BLOCK_AREA_BYTES / RECORD_BYTES - 1) as u16, 0));
    root
}
