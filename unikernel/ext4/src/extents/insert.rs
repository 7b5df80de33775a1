//! Adding an extent: joined to a neighbour where it continues one, else as an entry of its own.

use super::{Level, Path, entry_at, key, read_extent, read_header, write_header};
use crate::inode::Inode;
use crate::layout::extent::{Extent, Header, Index, MAX_DEPTH, RECORD_BYTES};
use crate::{BlockDevice, Error, Ext4};

/// Opens a gap for one more entry.
fn open_gap(node: &mut [u8], position: usize, entries: usize) {
    node.copy_within(entry_at(position)..entry_at(entries), entry_at(position + 1));
    set_entries(node, entries + 1);
}

/// Changes the count of entries.
pub(super) fn set_entries(node: &mut [u8], entries: usize) {
    crate::layout::put16(node, 2, entries as u16);
}

/// True if `right` continues `left`, on the disk too, and one entry can tell both.
fn joins(left: &Extent, right: &Extent) -> bool {
    left.end() == right.file_block
        && left.start + u64::from(left.len) == right.start
        && left.is_unwritten == right.is_unwritten
        && left.len + right.len <= Extent::max_len(left.is_unwritten)
}

impl<D: BlockDevice> Ext4<D> {
    /// Adds an extent where the file has a hole. The caller writes the inode.
    pub(crate) fn insert_extent(&mut self, inode: &mut Inode, new: Extent) -> Result<(), Error> {
        // Each round splits one node or adds a level, and there are at most `MAX_DEPTH` of both.
        for _ in 0..2 * MAX_DEPTH + 4 {
            let path = self.walk(inode, new.file_block)?;
            let leaf = path.leaf();
            if self.join_neighbour(inode, &path, new)? {
                return Ok(());
            }
            if leaf.entries < leaf.max {
                let position = leaf.position.map_or(0, |position| position + 1);
                self.modify_node(inode, leaf.block, |node| {
                    open_gap(node, position, leaf.entries);
                    new.write(&mut node[entry_at(position)..]);
                })?;
                return self.fix_keys(inode, &path, position, new.file_block);
            }
            self.split(inode, &path, new.file_block)?;
        }
        Err(Error::Corrupt("extent tree"))
    }

    fn join_neighbour(&mut self, inode: &mut Inode, path: &Path, new: Extent) -> Result<bool, Error> {
        let leaf = path.leaf();
        if path.extent.is_some_and(|left| left.end() > new.file_block)
            || path.next.is_some_and(|next| next < new.end())
        {
            return Err(Error::Corrupt("extents overlap"));
        }
        if let (Some(position), Some(left)) = (leaf.position, path.extent)
            && joins(&left, &new)
        {
            let joined = Extent { len: left.len + new.len, ..left };
            self.modify_node(inode, leaf.block, |node| joined.write(&mut node[entry_at(position)..]))?;
            return Ok(true);
        }
        let after = leaf.position.map_or(0, |position| position + 1);
        if after >= leaf.entries {
            return Ok(false);
        }
        let right = read_extent(&self.node(inode, leaf.block)?, after)?;
        if !joins(&new, &right) {
            return Ok(false);
        }
        let joined = Extent { len: new.len + right.len, ..new };
        self.modify_node(inode, leaf.block, |node| joined.write(&mut node[entry_at(after)..]))?;
        self.fix_keys(inode, path, after, new.file_block)?;
        Ok(true)
    }

    /// Tells the nodes above that the leaf begins at another block now, if its first entry has changed.
    pub(super) fn fix_keys(
        &mut self,
        inode: &mut Inode,
        path: &Path,
        position: usize,
        first: u32,
    ) -> Result<(), Error> {
        let mut below = position;
        for level in path.levels.iter().rev().skip(1) {
            if below != 0 {
                break;
            }
            below = level.position.unwrap_or(0);
            self.modify_node(inode, level.block, |node| {
                crate::layout::put32(node, entry_at(below), first);
            })?;
        }
        Ok(())
    }

    /// Makes room on the way to a full leaf: splits the lowest full node whose parent is not full, or adds a
    /// level under the root.
    fn split(&mut self, inode: &mut Inode, path: &Path, file_block: u32) -> Result<(), Error> {
        let roomy = path.levels.iter().rposition(|level| level.entries < level.max);
        match roomy {
            Some(parent) if parent + 1 < path.levels.len() => {
                self.split_child(inode, path.levels[parent], path.levels[parent + 1], file_block)
            }
            Some(_) => Err(Error::Corrupt("extent tree")),
            None => self.add_level(inode, path),
        }
    }

    fn new_node(&mut self, inode: &mut Inode, near: u64) -> Result<u64, Error> {
        let block = self.allocate_block(near)?;
        self.create_block(block, self.extent_seal(inode));
        self.charge(inode, 1)?;
        Ok(block)
    }

    fn node_capacity(&self) -> u16 {
        ((self.geometry.block_bytes - 4) / RECORD_BYTES - 1) as u16
    }

    /// Moves the root's entries into a block of their own.
    fn add_level(&mut self, inode: &mut Inode, path: &Path) -> Result<(), Error> {
        let depth = (path.levels.len() - 1) as u16;
        if depth >= MAX_DEPTH {
            return Err(Error::TooLarge);
        }
        let root = inode.raw.block;
        let entries = path.levels[0].entries;
        let block = self.new_node(inode, self.goal_of(inode, path))?;
        let capacity = self.node_capacity();
        self.modify_node(inode, Some(block), |node| {
            write_header(node, Header::new(capacity, depth));
            set_entries(node, entries);
            node[entry_at(0)..entry_at(entries)].copy_from_slice(&root[entry_at(0)..entry_at(entries)]);
        })?;
        let first = key(&root, 0);
        inode.raw.block = super::empty_root();
        crate::layout::put16(&mut inode.raw.block, 6, depth + 1);
        set_entries(&mut inode.raw.block, 1);
        Index { file_block: first, child: block }.write(&mut inode.raw.block[entry_at(0)..]);
        Ok(())
    }

    /// Moves part of a full node into a new one to its right.
    fn split_child(
        &mut self,
        inode: &mut Inode,
        parent: Level,
        child: Level,
        file_block: u32,
    ) -> Result<(), Error> {
        let node = self.node(inode, child.block)?;
        let header = read_header(&node)?;
        // What grows at its end leaves full nodes behind.
        let is_append =
            child.position == Some(child.entries - 1) && key(&node, child.entries - 1) < file_block;
        let keep = if is_append { child.entries - 1 } else { child.entries / 2 };
        let first = key(&node, keep);
        let block = self.new_node(inode, child.block.unwrap_or(0))?;
        let (capacity, moved) = (self.node_capacity(), child.entries - keep);
        self.modify_node(inode, Some(block), |new| {
            write_header(new, Header::new(capacity, header.depth.get()));
            set_entries(new, moved);
            new[entry_at(0)..entry_at(moved)].copy_from_slice(&node[entry_at(keep)..entry_at(child.entries)]);
        })?;
        drop(node);
        self.modify_node(inode, child.block, |old| {
            set_entries(old, keep);
            old[entry_at(keep)..entry_at(child.entries)].fill(0);
        })?;
        let position = parent.position.map_or(0, |position| position + 1);
        self.modify_node(inode, parent.block, |node| {
            open_gap(node, position, parent.entries);
            Index { file_block: first, child: block }.write(&mut node[entry_at(position)..]);
        })
    }

    /// Where the block after what the path found would best lie.
    pub(crate) fn goal_of(&self, inode: &Inode, path: &Path) -> u64 {
        path.extent.map_or_else(
            || {
                let (group, _) = self.geometry.place_of_inode(inode.number);
                self.geometry.group_start(group) + u64::from(self.groups[group as usize].block_hint)
            },
            |extent| extent.start + u64::from(extent.len),
        )
    }
}
