//! The tree of hashes. Level 0 has the hashes of the data's blocks, each level above those of the blocks of the level below it, and the root hash is
//! that of the one block of the highest level; if there is one block of data, it is that block's. On the disk the highest level comes first.

use alloc::vec::Vec;

use crate::digest::Digest;
use crate::error::{CheckError, FormatError, ReadError};
use crate::superblock::{SUPERBLOCK_BYTES, Superblock};

/// A block of hashes has eight at least (512 bytes of SHA-512), so more levels than this cannot be.
const MOST_LEVELS: usize = 22;

/// How blocks of the hash area are had.
pub trait Hashes {
    /// Reads a block of hashes: `block` counts in such blocks from the start of the disk on which the hash area is.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn read(&self, block: u64, into: &mut [u8]) -> Result<(), ReadError>;

    /// A digest that lies `at` so many bytes in a block that was given to [`Self::remember`]; `None` if it was not kept.
    fn known(&self, block: u64, at: usize, len: usize) -> Option<Digest>;

    /// Takes a block that was found good.
    fn remember(&self, block: u64, bytes: Vec<u8>);
}

/// Where hashes lie, and what the highest is.
#[derive(Clone, Debug)]
pub struct Tree {
    superblock: Superblock,
    root: Digest,
    /// How many bits of a block's number one level takes.
    bits: u32,
    /// The first block of each level, from the lowest.
    starts: [u64; MOST_LEVELS],
    levels: usize,
}

impl Tree {
    /// The tree of a hash area at `hash_offset` of a disk of `hash_bytes`, for the first bytes of a disk of `data_bytes`; the two may be
    /// one.
    ///
    /// # Errors
    ///
    /// If there is no room for what the superblock says.
    pub fn new(
        superblock: Superblock,
        root: &[u8],
        hash_offset: u64,
        hash_bytes: u64,
        data_bytes: u64,
    ) -> Result<Self, FormatError> {
        if root.len() != superblock.algorithm.digest_bytes() {
            return Err(FormatError::Root);
        }
        let blocks = superblock.data_blocks;
        let end = blocks.checked_mul(superblock.data_block_bytes.into());
        let end = end.filter(|_| blocks > 0).ok_or(FormatError::Blocks(blocks))?;
        if end > data_bytes {
            return Err(FormatError::ShortData);
        }
        let hash_block = u64::from(superblock.hash_block_bytes);
        let per_block = superblock.hash_block_bytes / superblock.algorithm.digest_bytes() as u32;
        let bits = per_block.ilog2();
        let mut levels = 0;
        while levels < MOST_LEVELS && shifted(blocks - 1, bits, levels) > 0 {
            levels += 1;
        }
        // `VERITY_hash_offset_block`: the hashes begin with the first block behind the superblock.
        let first = hash_offset.checked_add(SUPERBLOCK_BYTES as u64).ok_or(FormatError::ShortHashes)?;
        let (mut starts, mut next) = ([0; MOST_LEVELS], first.div_ceil(hash_block));
        for level in (0..levels).rev() {
            starts[level] = next;
            let count = shifted(blocks - 1, bits, level + 1) + 1;
            next = next.checked_add(count).ok_or(FormatError::ShortHashes)?;
        }
        if next.checked_mul(hash_block).is_none_or(|end| end > hash_bytes) && levels > 0 {
            return Err(FormatError::ShortHashes);
        }
        Ok(Self { superblock, root: Digest::from_bytes(root), bits, starts, levels })
    }

    /// What the hash area says of itself.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The highest hash.
    pub fn root(&self) -> &Digest {
        &self.root
    }

    /// Bytes of data for which there are hashes.
    pub fn data_bytes(&self) -> u64 {
        self.superblock.data_blocks * u64::from(self.superblock.data_block_bytes)
    }

    /// Checks a block of data.
    ///
    /// # Errors
    ///
    /// If it is not the block that was there when the tree was made, or that cannot be said.
    pub fn check(&self, hashes: &impl Hashes, block: u64, data: &[u8]) -> Result<(), CheckError> {
        if block >= self.superblock.data_blocks {
            return Err(CheckError::Beyond);
        }
        if data.len() != self.superblock.data_block_bytes as usize {
            return Err(CheckError::Data);
        }
        let expected = self.expected(hashes, block)?;
        if self.digest(data) == expected { Ok(()) } else { Err(CheckError::Data) }
    }

    /// The digest that a block must have: from the lowest block of hashes that is known, downwards.
    fn expected(&self, hashes: &impl Hashes, block: u64) -> Result<Digest, CheckError> {
        let len = self.superblock.algorithm.digest_bytes();
        let (mut level, mut digest) = (self.levels, self.root);
        for known in 0..self.levels {
            let (number, at) = self.place(known, block);
            if let Some(found) = hashes.known(number, at, len) {
                (level, digest) = (known, found);
                break;
            }
        }
        while level > 0 {
            level -= 1;
            let (number, at) = self.place(level, block);
            let bytes = self.read(hashes, number)?;
            if self.digest(&bytes) != digest {
                return Err(CheckError::Hash(number));
            }
            digest = Digest::from_bytes(&bytes[at..at + len]);
            hashes.remember(number, bytes);
        }
        Ok(digest)
    }

    fn read(&self, hashes: &impl Hashes, number: u64) -> Result<Vec<u8>, CheckError> {
        let len = self.superblock.hash_block_bytes as usize;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| CheckError::NoMemory)?;
        bytes.resize(len, 0);
        hashes.read(number, &mut bytes).map_err(|ReadError| CheckError::Read(number))?;
        Ok(bytes)
    }

    /// The block of a level that leads to a block of data, and where in it.
    fn place(&self, level: usize, block: u64) -> (u64, usize) {
        let index = shifted(block, self.bits, level);
        let within = (index & ((1 << self.bits) - 1)) as usize;
        (self.starts[level] + (index >> self.bits), within * self.superblock.algorithm.digest_bytes())
    }

    fn digest(&self, block: &[u8]) -> Digest {
        self.superblock.algorithm.digest(self.superblock.salt(), block)
    }
}

/// `number` without the bits that `levels` levels take.
fn shifted(number: u64, bits: u32, levels: usize) -> u64 {
    number.checked_shr(bits.saturating_mul(levels as u32)).unwrap_or(0)
}
