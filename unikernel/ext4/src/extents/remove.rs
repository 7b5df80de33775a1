//! Taking blocks out of a tree, from the right; turning unwritten extents into written ones.

use super::insert::set_entries;
use super::{Level, Path, entry_at, key};
use crate::inode::Inode;
use crate::layout::extent::Extent;
use crate::{BlockDevice, Error, Ext4};

impl<D: BlockDevice> Ext4<D> {
    /// Takes the last extent that touches `from..to` out of the tree, or its part in there, and frees its
    /// blocks. Returns where what is left to do ends; `None` when nothing is left. The caller writes the inode.
    pub(crate) fn remove_last(
        &mut self,
        inode: &mut Inode,
        from: u32,
        to: u32,
    ) -> Result<Option<u32>, Error> {
        match self.cut_last(inode, from, to)? {
            None => Ok(None),
            Some(cut) => {
                let is_metadata = inode.raw.kind() != Some(crate::FileKind::File);
                self.free_run(cut.start, cut.len, is_metadata)?;
                self.charge(inode, -i64::from(cut.len))?;
                Ok(Some(cut.file_block).filter(|left| *left > from))
            }
        }
    }

    /// Cuts the last part of the tree that touches `from..to` out, and returns it. Its blocks stay taken.
    pub(crate) fn cut_last(
        &mut self,
        inode: &mut Inode,
        from: u32,
        to: u32,
    ) -> Result<Option<Extent>, Error> {
        if to <= from {
            return Ok(None);
        }
        let path = self.walk(inode, to - 1)?;
        let Some(extent) = path.extent.filter(|extent| extent.end() > from) else { return Ok(None) };
        let position = path.leaf().position.unwrap_or(0);
        let (first, end) = (extent.file_block.max(from), extent.end().min(to));
        let part = |from: u32, to: u32| Extent {
            file_block: from,
            start: extent.start + u64::from(from - extent.file_block),
            len: to - from,
            ..extent
        };
        let (head, tail) = (part(extent.file_block, first), part(end, extent.end()));
        let leaf = path.leaf().block;
        match (head.len, tail.len) {
            (0, 0) => self.remove_entry(inode, &path)?,
            (0, _) => {
                self.modify_node(inode, leaf, |node| tail.write(&mut node[entry_at(position)..]))?;
                self.fix_keys(inode, &path, position, tail.file_block)?;
            }
            (_, rest) => {
                self.modify_node(inode, leaf, |node| head.write(&mut node[entry_at(position)..]))?;
                if rest > 0 {
                    self.insert_extent(inode, tail)?;
                }
            }
        }
        Ok(Some(part(first, end)))
    }

    /// Takes an entry out of the leaf, and nodes out of the tree that are empty then.
    fn remove_entry(&mut self, inode: &mut Inode, path: &Path) -> Result<(), Error> {
        for (depth, level) in path.levels.iter().enumerate().rev() {
            let position = level.position.unwrap_or(0);
            let left = level.entries - 1;
            if left == 0 && depth > 0 {
                self.free_node(inode, level)?;
                continue;
            }
            self.modify_node(inode, level.block, |node| {
                node.copy_within(entry_at(position + 1)..entry_at(level.entries), entry_at(position));
                node[entry_at(left)..entry_at(left + 1)].fill(0);
                set_entries(node, left);
            })?;
            if left == 0 {
                inode.raw.block = super::empty_root();
                return Ok(());
            }
            if position == 0 && depth > 0 {
                let first = key(&self.node(inode, level.block)?, 0);
                let above = Path { levels: path.levels[..=depth].to_vec(), extent: None, next: None };
                self.fix_keys(inode, &above, 0, first)?;
            }
            return self.shorten(inode);
        }
        Ok(())
    }

    fn free_node(&mut self, inode: &mut Inode, level: &Level) -> Result<(), Error> {
        if let Some(block) = level.block {
            self.free_run(block, 1, true)?;
            self.charge(inode, -1)?;
        }
        Ok(())
    }

    /// Moves the only child's entries into the root while they fit there.
    fn shorten(&mut self, inode: &mut Inode) -> Result<(), Error> {
        loop {
            let root = super::read_header(&inode.raw.block)?;
            if root.depth.get() == 0 || root.entries.get() != 1 {
                return Ok(());
            }
            let path = self.walk(inode, 0)?;
            let child = path.levels[1];
            if child.entries > usize::from(root.max.get()) {
                return Ok(());
            }
            let node = self.node(inode, child.block)?;
            let (end, depth) = (entry_at(child.entries), root.depth.get() - 1);
            inode.raw.block[entry_at(0)..end].copy_from_slice(&node[entry_at(0)..end]);
            crate::layout::put16(&mut inode.raw.block, 6, depth);
            set_entries(&mut inode.raw.block, child.entries);
            drop(node);
            self.free_node(inode, &child)?;
        }
    }

    /// Turns what is unwritten in `from..to` into written extents. The caller writes the inode.
    pub(crate) fn mark_written(&mut self, inode: &mut Inode, from: u32, to: u32) -> Result<(), Error> {
        let mut at = from;
        while at < to {
            match self.find_extent(inode, at)? {
                Ok(extent) if extent.is_unwritten => {
                    let end = extent.end().min(to);
                    let cut = self.cut_last(inode, at, end)?.ok_or(Error::Corrupt("extent"))?;
                    self.insert_extent(inode, Extent { is_unwritten: false, ..cut })?;
                    at = end;
                }
                Ok(extent) => at = extent.end(),
                Err(None) => return Ok(()),
                Err(Some(next)) => at = next,
            }
        }
        Ok(())
    }
}
