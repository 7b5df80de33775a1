//! Reading files: where their blocks lie, holes, content through the device.

use crate::inode::Inode;
use crate::layout::inode::{BLOCK_AREA_BYTES, InodeFlags};
use crate::{BlockDevice, Error, Ext4, FileKind, InodeNumber, Run};
use alloc::vec::Vec;
use core::ops::Range;

impl<D: BlockDevice> Ext4<D> {
    /// Reads a regular file's inode.
    pub(crate) fn file(&mut self, number: InodeNumber) -> Result<Inode, Error> {
        let inode = self.used_inode(number)?;
        match inode.kind()? {
            FileKind::File if inode.has(InodeFlags::INLINE_DATA) => Err(Error::Unsupported),
            FileKind::File => Ok(inode),
            FileKind::Directory => Err(Error::IsADirectory),
            _ => Err(Error::Invalid),
        }
    }

    /// Returns where a file's blocks from `first_block` on lie: one run of at most `max_blocks`, which are at
    /// least 1. The file's size does not matter here: past the end there is a hole.
    pub fn map(&mut self, inode: InodeNumber, first_block: u64, max_blocks: u32) -> Result<Run, Error> {
        let inode = self.file(inode)?;
        self.map_inode(&inode, first_block, max_blocks)
    }

    /// True if blocks of a file all have a place on the disk, be they written or not.
    pub fn is_allocated(&mut self, inode: InodeNumber, blocks: Range<u64>) -> Result<bool, Error> {
        let inode = self.file(inode)?;
        let mut at = blocks.start;
        while at < blocks.end {
            let Ok(block) = u32::try_from(at) else { return Ok(false) };
            let Ok(extent) = self.find_extent(&inode, block)? else { return Ok(false) };
            at = u64::from(extent.end());
        }
        Ok(true)
    }

    pub(crate) fn map_inode(&mut self, inode: &Inode, first: u64, max_blocks: u32) -> Result<Run, Error> {
        let max_blocks = max_blocks.max(1);
        let Ok(first) = u32::try_from(first) else { return Ok(Run { start: None, blocks: max_blocks }) };
        Ok(match self.find_extent(inode, first)? {
            Ok(extent) => {
                let skip = first - extent.file_block;
                let start = (!extent.is_unwritten).then_some(extent.start + u64::from(skip));
                Run { start, blocks: max_blocks.min(extent.len - skip) }
            }
            Err(next) => {
                let blocks = next.map_or(max_blocks, |next| max_blocks.min(next - first));
                Run { start: None, blocks }
            }
        })
    }

    /// Reads a file's content from `offset` (bytes) on, through the device. Returns how many bytes there were.
    pub fn read_at(&mut self, inode: InodeNumber, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let inode = self.file(inode)?;
        let left = inode.raw.size().saturating_sub(offset);
        let len = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        let mut done = 0;
        while done < len {
            done += self.read_piece(&inode, offset + done as u64, &mut into[done..len])?;
        }
        Ok(len)
    }

    /// Reads from one run of blocks; returns how many bytes.
    fn read_piece(&mut self, inode: &Inode, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let block_bytes = self.geometry.block_bytes;
        let (block, skip) = (offset / block_bytes as u64, (offset % block_bytes as u64) as usize);
        let wanted = (skip + into.len()).div_ceil(block_bytes);
        let run = self.map_inode(inode, block, u32::try_from(wanted).unwrap_or(u32::MAX))?;
        let Some(start) = run.start else {
            let len = into.len().min(run.blocks as usize * block_bytes - skip);
            into[..len].fill(0);
            return Ok(len);
        };
        let is_whole = skip == 0 && into.len() >= block_bytes;
        let len = if is_whole {
            let len = (into.len() / block_bytes * block_bytes).min(run.blocks as usize * block_bytes);
            self.device.read(self.geometry.offset(start), &mut into[..len])?;
            len
        } else {
            let mut bytes = alloc::vec![0; block_bytes];
            self.device.read(self.geometry.offset(start), &mut bytes)?;
            let len = into.len().min(block_bytes - skip);
            into[..len].copy_from_slice(&bytes[skip..skip + len]);
            len
        };
        Ok(len)
    }

    /// Returns where a symbolic link leads.
    pub fn read_link(&mut self, inode: InodeNumber) -> Result<Vec<u8>, Error> {
        let inode = self.used_inode(inode)?;
        if inode.kind()? != FileKind::Symlink {
            return Err(Error::Invalid);
        }
        let len = usize::try_from(inode.raw.size()).map_err(|_| Error::Corrupt("symlink"))?;
        if len < BLOCK_AREA_BYTES && !inode.has(InodeFlags::EXTENTS) {
            return Ok(inode.raw.block[..len].to_vec());
        }
        if len == 0 || len > self.geometry.block_bytes {
            return Err(Error::Corrupt("symlink"));
        }
        let start = self.map_inode(&inode, 0, 1)?.start.ok_or(Error::Corrupt("symlink"))?;
        Ok(self.block(start, crate::cache::Seal::Plain)?[..len].to_vec())
    }

    /// Returns the first offset at or after `offset` (bytes) that has data, or `None` if there is none.
    pub fn next_data(&mut self, inode: InodeNumber, offset: u64) -> Result<Option<u64>, Error> {
        self.next_where(inode, offset, true)
    }

    /// Returns the first offset at or after `offset` (bytes) in a hole; the file's end counts as one. `None`
    /// past the end.
    pub fn next_hole(&mut self, inode: InodeNumber, offset: u64) -> Result<Option<u64>, Error> {
        let size = self.file(inode)?.raw.size();
        Ok(if offset >= size { None } else { Some(self.next_where(inode, offset, false)?.unwrap_or(size)) })
    }

    fn next_where(&mut self, number: InodeNumber, offset: u64, is_data: bool) -> Result<Option<u64>, Error> {
        let inode = self.file(number)?;
        let block_bytes = self.geometry.block_bytes as u64;
        let mut at = offset;
        while at < inode.raw.size() {
            let run = self.map_inode(&inode, at / block_bytes, u32::MAX)?;
            if run.start.is_some() == is_data {
                return Ok(Some(at));
            }
            at = (at / block_bytes + u64::from(run.blocks)) * block_bytes;
        }
        Ok(None)
    }
}
