//! Metadata blocks in memory. A block is shared by reference count, so that a reader needs no borrow of the
//! filesystem and a change can keep the version before it. Data of files is never here.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::checksum::crc32c;
use crate::layout::{directory, extent, le16, le32, put32, xattr};

/// How many bytes of clean metadata are kept. What must not be dropped comes on top: see `transaction`.
pub(crate) const CACHE_BYTES: usize = 16 << 20;

/// What a block is, which says how its checksum is kept. `seed` is the owning inode's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seal {
    /// Bitmaps, inode tables, descriptors, symlinks: the checksum lies elsewhere or nowhere.
    Plain,
    /// A directory's leaf.
    Leaf(u32),
    /// A node of a directory's index, with its count at this offset.
    Index(u32, usize),
    /// A node of an extent tree.
    Extent(u32),
    /// Extended attributes; the seed is the filesystem's, continued over the block's number.
    Attributes(u32),
}

impl Seal {
    /// Computes the checksum and its place, if the block has one.
    fn checksum(self, bytes: &[u8]) -> Option<(usize, u32)> {
        match self {
            Self::Plain => None,
            Self::Leaf(seed) => {
                directory::tail_checksum(bytes)?;
                Some((bytes.len() - 4, crc32c(seed, &bytes[..bytes.len() - directory::TAIL_BYTES])))
            }
            Self::Index(seed, count_at) => index_checksum(bytes, seed, count_at),
            Self::Extent(seed) => {
                let end = extent::RECORD_BYTES * (1 + usize::from(le16(bytes, 4)));
                (end + 4 <= bytes.len()).then(|| (end, crc32c(seed, &bytes[..end])))
            }
            Self::Attributes(seed) => {
                let at = xattr::CHECKSUM_AT;
                let head = crc32c(crc32c(seed, &bytes[..at]), &[0; 4]);
                Some((at, crc32c(head, &bytes[at + 4..])))
            }
        }
    }

    /// True if the checksum in the block is right.
    pub(crate) fn is_whole(self, bytes: &[u8]) -> bool {
        match self.checksum(bytes) {
            Some((at, checksum)) => le32(bytes, at) == checksum,
            None => self == Self::Plain,
        }
    }

    /// Writes the checksum into the block.
    pub(crate) fn apply(self, bytes: &mut [u8]) {
        if let Some((at, checksum)) = self.checksum(bytes) {
            put32(bytes, at, checksum);
        }
    }

    fn needs_applying(self) -> bool {
        self != Self::Plain
    }
}

fn index_checksum(bytes: &[u8], seed: u32, count_at: usize) -> Option<(usize, u32)> {
    let (limit, count) = (usize::from(le16(bytes, count_at)), usize::from(le16(bytes, count_at + 2)));
    let tail = count_at + limit * directory::INDEX_ENTRY_BYTES;
    if count > limit || tail + directory::INDEX_TAIL_BYTES > bytes.len() {
        return None;
    }
    let head = crc32c(seed, &bytes[..count_at + count * directory::INDEX_ENTRY_BYTES]);
    Some((tail + 4, crc32c(crc32c(head, &bytes[tail..tail + 4]), &[0; 4])))
}

/// A block in memory.
#[derive(Clone)]
pub(crate) struct CachedBlock {
    pub bytes: Arc<[u8]>,
    pub seal: Seal,
    /// Changed by the running transaction.
    pub is_dirty: bool,
    /// In the journal, and not yet at its place.
    pub is_logged: bool,
    /// The operation that has last saved the version before it.
    pub saved_by: u64,
    /// Which of the first 64 inodes in a table's block have a checksum that was found right.
    pub verified: u64,
    used: u64,
}

/// The blocks, by number.
pub(crate) struct Cache {
    blocks: HashMap<u64, CachedBlock>,
    limit: usize,
    evict_at: usize,
    tick: u64,
    has_checksums: bool,
}

impl Cache {
    pub(crate) fn new(block_bytes: usize, has_checksums: bool) -> Self {
        let limit = CACHE_BYTES / block_bytes;
        Self { blocks: HashMap::new(), limit, evict_at: limit, tick: 0, has_checksums }
    }

    /// How many blocks are kept before clean ones are dropped.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn set_limit(&mut self, blocks: usize) {
        (self.limit, self.evict_at) = (blocks, blocks);
    }

    pub(crate) fn get(&mut self, number: u64) -> Option<&mut CachedBlock> {
        self.tick += 1;
        let block = self.blocks.get_mut(&number)?;
        block.used = self.tick;
        Some(block)
    }

    /// Adds a block as it was read; `false` if its checksum is wrong.
    pub(crate) fn add_read(&mut self, number: u64, bytes: Arc<[u8]>, seal: Seal) -> bool {
        if self.has_checksums && !seal.is_whole(&bytes) {
            return false;
        }
        self.insert(number, bytes, seal);
        true
    }

    /// Adds a clean block.
    pub(crate) fn insert(&mut self, number: u64, bytes: Arc<[u8]>, seal: Seal) -> &mut CachedBlock {
        if self.blocks.len() >= self.evict_at {
            self.evict();
        }
        self.tick += 1;
        let used = self.tick;
        let block =
            CachedBlock { bytes, seal, is_dirty: false, is_logged: false, saved_by: 0, verified: 0, used };
        match self.blocks.entry(number) {
            hashbrown::hash_map::Entry::Occupied(mut entry) => {
                entry.insert(block);
                entry.into_mut()
            }
            hashbrown::hash_map::Entry::Vacant(entry) => entry.insert(block),
        }
    }

    /// Puts a block back as it was, or away.
    pub(crate) fn restore(&mut self, number: u64, before: Option<CachedBlock>) {
        match before {
            Some(block) => drop(self.blocks.insert(number, block)),
            None => drop(self.blocks.remove(&number)),
        }
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<CachedBlock> {
        self.blocks.remove(&number)
    }

    /// Computes a block's checksum before it is written.
    pub(crate) fn seal(&mut self, number: u64) {
        if let Some(block) = self.blocks.get_mut(&number)
            && self.has_checksums
            && block.seal.needs_applying()
        {
            let seal = block.seal;
            seal.apply(Arc::make_mut(&mut block.bytes));
        }
    }

    /// Drops the clean blocks that were not used for longest: a quarter of the limit, so that the search pays.
    fn evict(&mut self) {
        let is_clean = |block: &CachedBlock| !block.is_dirty && !block.is_logged;
        let clean = self.blocks.iter().filter(|(_, block)| is_clean(block));
        let mut ages: Vec<(u64, u64)> = clean.map(|(number, block)| (block.used, *number)).collect();
        let count = (self.limit / 4).max(1).min(ages.len());
        if count > 0 && count < ages.len() {
            ages.select_nth_unstable(count);
        }
        for (_, number) in &ages[..count] {
            self.blocks.remove(number);
        }
        self.evict_at = self.limit.max(self.blocks.len() + self.limit / 8 + 1);
    }
}
