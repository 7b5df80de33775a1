//! Changing which blocks a file has without writing data: truncation, preallocation, holes.
//!
//! Freeing many blocks takes several operations, and a commit may fall between them. The inode is on the orphan
//! list meanwhile, so that the next mount finishes what a power cut interrupts.

use crate::inode::Inode;
use crate::layout::extent::{Extent, MAX_UNWRITTEN};
use crate::{BlockDevice, Error, Ext4, InodeNumber, Timestamp};

/// Extents that one operation frees: each may change two bitmaps and their descriptors.
const EXTENTS_PER_OPERATION: usize = 12;
/// The end of all files, in blocks.
pub(crate) const FILE_END: u32 = u32::MAX;

impl<D: BlockDevice> Ext4<D> {
    /// Frees blocks in `from..to`, from the right, as many as one operation may. Returns where what is left ends.
    pub(crate) fn remove_some(
        &mut self,
        inode: &mut Inode,
        from: u32,
        to: u32,
    ) -> Result<Option<u32>, Error> {
        let mut left = Some(to);
        for _ in 0..EXTENTS_PER_OPERATION {
            let Some(end) = left else { break };
            left = self.remove_last(inode, from, end)?;
        }
        Ok(left)
    }

    /// Changes a file's size (bytes). What it gains reads as zeros; what it loses is freed.
    pub fn set_size(&mut self, inode: InodeNumber, size: u64, now: Timestamp) -> Result<(), Error> {
        self.check_writable()?;
        let old = self.file(inode)?.raw.size();
        if size > self.geometry.max_file_bytes() {
            return Err(Error::TooLarge);
        }
        if size > old {
            self.zero_tail(inode, old)?;
        }
        let from = size.div_ceil(self.geometry.block_bytes as u64) as u32;
        let is_done = self.operation(now, |fs| {
            let mut inode = fs.file(inode)?;
            inode.raw.set_size(size);
            inode.raw.set_modified(now);
            inode.raw.set_changed(now);
            let mut is_done = true;
            if size < old {
                is_done = fs.remove_some(&mut inode, from, FILE_END)?.is_none();
                if !is_done && !fs.is_orphan(inode.number) {
                    fs.add_orphan(&mut inode);
                }
            }
            fs.note_inode(inode.number, true);
            fs.write_inode(&inode)?;
            Ok(is_done)
        })?;
        if is_done { Ok(()) } else { self.finish_truncation(inode.0, from, now) }
    }

    /// Frees the rest of what a truncation left, and takes the inode off the orphan list.
    pub(crate) fn finish_truncation(&mut self, number: u32, from: u32, now: Timestamp) -> Result<(), Error> {
        let mut is_done = false;
        while !is_done {
            is_done = self.operation(now, |fs| {
                let mut inode = fs.inode(number)?;
                let is_done = fs.remove_some(&mut inode, from, FILE_END)?.is_none();
                // An inode without a name stays on the list until it is released.
                if is_done && inode.raw.links.get() > 0 && fs.is_orphan(number) {
                    fs.remove_orphan(number)?;
                    inode.raw.deleted = 0.into();
                }
                fs.note_inode(number, true);
                fs.write_inode(&inode)?;
                Ok(is_done)
            })?;
        }
        Ok(())
    }

    /// Gives a range (bytes) blocks that read as zeros, where it has none; the file grows to its end unless
    /// `keep_size`.
    pub fn allocate_range(
        &mut self,
        inode: InodeNumber,
        offset: u64,
        len: u64,
        keep_size: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.check_writable()?;
        let block_bytes = self.geometry.block_bytes as u64;
        let end = offset.checked_add(len).filter(|end| *end <= self.geometry.max_file_bytes());
        let end = end.ok_or(Error::TooLarge)?;
        let (mut at, end_block) = ((offset / block_bytes) as u32, end.div_ceil(block_bytes) as u32);
        while at < end_block {
            at = self.operation(now, |fs| fs.allocate_some(inode, at, end_block))?;
        }
        let old = self.file(inode)?.raw.size();
        let grows = !keep_size && end > old;
        if grows {
            self.zero_tail(inode, old)?;
        }
        self.operation(now, |fs| {
            let mut inode = fs.file(inode)?;
            if grows {
                inode.raw.set_size(end);
            }
            inode.raw.set_changed(now);
            fs.note_inode(inode.number, true);
            fs.write_inode(&inode)
        })
    }

    /// Fills the first hole in `at..end` as far as one run of blocks goes. Returns where to go on.
    fn allocate_some(&mut self, number: InodeNumber, at: u32, end: u32) -> Result<u32, Error> {
        let mut inode = self.file(number)?;
        let path = self.walk(&inode, at)?;
        if let Some(extent) = path.holding(at) {
            return Ok(extent.end().min(end));
        }
        let limit = path.next.map_or(end, |next| next.min(end));
        let goal = self.goal_of(&inode, &path);
        let run = self.allocate_run(goal, limit.saturating_sub(at).clamp(1, MAX_UNWRITTEN))?;
        self.charge(&mut inode, i64::from(run.len))?;
        let extent = Extent { file_block: at, start: run.start, len: run.len, is_unwritten: true };
        self.insert_extent(&mut inode, extent)?;
        self.note_inode(inode.number, true);
        self.write_inode(&inode)?;
        Ok(at + run.len)
    }

    /// Makes a hole of a range (bytes): it reads as zeros, and its whole blocks are freed.
    pub fn punch(&mut self, inode: InodeNumber, offset: u64, len: u64, now: Timestamp) -> Result<(), Error> {
        self.check_writable()?;
        let block_bytes = self.geometry.block_bytes as u64;
        let size = self.file(inode)?.raw.size();
        let end = offset.saturating_add(len);
        let (from, to) = (offset.div_ceil(block_bytes), end / block_bytes);
        let end = end.min(size);
        if offset < end {
            let (first, last) = (offset / block_bytes, (end - 1) / block_bytes);
            for block in [first, last] {
                let start = block * block_bytes;
                let (zero_from, zero_to) = (offset.max(start) - start, end.min(start + block_bytes) - start);
                if zero_to - zero_from < block_bytes {
                    self.zero_in_block(inode, block, zero_from as usize, zero_to as usize)?;
                }
            }
        }
        let clamp = |block: u64| u32::try_from(block).unwrap_or(FILE_END);
        let (from, mut left) = (clamp(from), Some(clamp(to)));
        while let Some(to) = left {
            left = self.operation(now, |fs| {
                let mut inode = fs.file(inode)?;
                let left = fs.remove_some(&mut inode, from, to)?;
                inode.raw.set_modified(now);
                inode.raw.set_changed(now);
                fs.note_inode(inode.number, true);
                fs.write_inode(&inode)?;
                Ok(left)
            })?;
        }
        Ok(())
    }
}
