//! The filesystem of the tests, where it moves content itself.

use std::vec::Vec;

use super::faults::Operation;
use super::filesystem::MemoryFs;
use crate::{ByteStorage, Error, InodeNumber};

/// Blocks for each file's content if the filesystem moves it: they are its own, and lie in the same place always.
const BLOCKS_OF_FILE: u64 = 1 << 8;

impl ByteStorage for MemoryFs {
    fn read(&mut self, inode: InodeNumber, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        self.check(Operation::Metadata)?;
        let (size, block_bytes) = (self.node(inode).size, self.block_bytes);
        let count = size.saturating_sub(offset).min(into.len() as u64) as usize;
        let first = offset / block_bytes as u64;
        assert!(offset.is_multiple_of(block_bytes as u64), "the cache moves pages");
        for (index, bytes) in into[..count].chunks_mut(block_bytes).enumerate() {
            let content = self.content_of(inode, first + index as u64)?;
            bytes.copy_from_slice(&content[..bytes.len()]);
        }
        Ok(count)
    }

    fn write(&mut self, inode: InodeNumber, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.check_writable()?;
        self.check(Operation::Allocation)?;
        let (block_bytes, end) = (self.block_bytes, offset + bytes.len() as u64);
        if end > self.node(inode).size {
            self.zero_tail(inode)?;
        }
        let first = offset / block_bytes as u64;
        for (index, bytes) in bytes.chunks(block_bytes).enumerate() {
            let block = first + index as u64;
            let mut content = self.content_of(inode, block)?;
            content[..bytes.len()].copy_from_slice(bytes);
            let start = inode.0 * BLOCKS_OF_FILE + block;
            self.disk.write(start * self.sectors(), &content)?;
            self.node(inode).blocks.insert(block, (start, true));
            self.is_changed = true;
        }
        self.node(inode).size = self.node(inode).size.max(end);
        Ok(())
    }
}

impl MemoryFs {
    fn content_of(&mut self, inode: InodeNumber, block: u64) -> Result<Vec<u8>, Error> {
        let mut content = std::vec![0; self.block_bytes];
        if let Some(&(start, true)) = self.node(inode).blocks.get(&block) {
            self.disk.read(start * self.sectors(), &mut content)?;
        }
        Ok(content)
    }
}
