//! The structures of an ext4 image, and their checksums (`Documentation/filesystems/ext4` of Linux), by code of its own: what is
//! changed on the disk is believed as far as its checksum goes.

use std::ops::Range;

use crc::{Algorithm, Crc};

/// CRC-32C without inversions: the pieces are chained.
static CRC32C: Crc<u32> = Crc::<u32>::new(&Algorithm {
    width: 32,
    poly: 0x1edc_6f41,
    init: 0,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0,
    residue: 0,
});

fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

fn half(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put(bytes: &mut [u8], at: usize, sum: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

/// A structure with a checksum, of which `u32` is the seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Superblock,
    Descriptor(u32),
    Inode(u32),
    Leaf(u32),
    /// A node of a directory's index, with its count at this offset.
    Index(u32, usize),
    Extent(u32),
    Attributes(u32),
    /// A bitmap: the sum lies in the group's descriptor, at 0x18 or 0x1a, and is of so many bytes.
    Bitmap {
        group: u32,
        at: usize,
        bytes: usize,
    },
    /// A block of the journal, whose own header says what it is.
    Journal(u32),
}

/// A structure and where it lies.
#[derive(Clone, Debug)]
pub(super) struct Structure {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

/// Gives the bytes of a group's descriptor, which lie there, to be changed.
pub(super) type Descriptor<'a> = &'a mut dyn FnMut(Range<usize>, Change<'_>);
/// Changes them.
pub(super) type Change<'a> = &'a mut dyn FnMut(&mut [u8]);

/// What there is in an image.
#[derive(Default)]
pub(super) struct Map {
    pub(super) structures: Vec<Structure>,
    seed: u32,
    block_bytes: usize,
    descriptors: usize,
    descriptor_bytes: usize,
}

impl Map {
    /// Looks through a whole image with checksums.
    pub(super) fn new(image: &[u8]) -> Self {
        let superblock = &image[1024..2048];
        let block_bytes = 1024 << word(superblock, 24);
        let mut map = Self {
            structures: vec![Structure { kind: Kind::Superblock, range: 1024..2048 }; 8],
            seed: crc32c(!0, &superblock[0x68..0x78]),
            block_bytes,
            descriptors: (1024 / block_bytes + 1) * block_bytes,
            descriptor_bytes: half(superblock, 0xfe).max(32),
        };
        let (blocks, per_group) = (word(superblock, 4), word(superblock, 32));
        let inodes_per_group = word(superblock, 40);
        for group in 0..(blocks - word(superblock, 20)).div_ceil(per_group) {
            map.add_group(image, group, per_group as usize, inodes_per_group as usize);
        }
        map.add_journal(image);
        map
    }

    fn block(&self, number: u32) -> Range<usize> {
        let start = number as usize * self.block_bytes;
        start..start + self.block_bytes
    }

    fn descriptor(&self, group: u32) -> Range<usize> {
        let start = self.descriptors + group as usize * self.descriptor_bytes;
        start..start + self.descriptor_bytes
    }

    fn add(&mut self, kind: Kind, range: Range<usize>) {
        self.structures.push(Structure { kind, range });
    }

    fn add_group(&mut self, image: &[u8], group: u32, blocks: usize, inodes: usize) {
        let range = self.descriptor(group);
        let descriptor = &image[range.clone()];
        let [bitmap, inode_bitmap, table] = [0, 4, 8].map(|at| word(descriptor, at));
        self.add(Kind::Descriptor(group), range);
        self.add(Kind::Bitmap { group, at: 0x18, bytes: blocks / 8 }, self.block(bitmap));
        self.add(Kind::Bitmap { group, at: 0x1a, bytes: inodes / 8 }, self.block(inode_bitmap));
        let bytes = half(&image[1024..], 0x58);
        for index in 0..inodes {
            let start = table as usize * self.block_bytes + index * bytes;
            let inode = &image[start..start + bytes];
            let number = group * inodes as u32 + index as u32 + 1;
            if half(inode, 26) != 0 && half(inode, 0) != 0 {
                let seed = crc32c(crc32c(self.seed, &number.to_le_bytes()), &inode[0x64..0x68]);
                self.add(Kind::Inode(seed), start..start + bytes);
                self.add_blocks(image, inode, seed);
            }
        }
    }

    /// The blocks with checksums that an inode has.
    fn add_blocks(&mut self, image: &[u8], inode: &[u8], seed: u32) {
        const EXTENTS: u32 = 0x8_0000;
        const INDEXED: u32 = 0x1000;
        let (attributes, flags) = (word(inode, 0x68), word(inode, 32));
        if attributes != 0 {
            let seed = crc32c(self.seed, &u64::from(attributes).to_le_bytes());
            self.add(Kind::Attributes(seed), self.block(attributes));
        }
        if flags & EXTENTS == 0 {
            return;
        }
        let mut blocks = Vec::new();
        self.add_extents(image, &inode[40..100], seed, &mut blocks);
        let is_directory = half(inode, 0) & 0xf000 == 0x4000;
        for (index, block) in blocks.into_iter().enumerate().filter(|_| is_directory) {
            let range = self.block(block);
            let bytes = &image[range.clone()];
            let kind = match index {
                0 if flags & INDEXED != 0 => Kind::Index(seed, 32),
                // The entry of an index node spans the block.
                _ if half(bytes, 4) == self.block_bytes && flags & INDEXED != 0 => Kind::Index(seed, 8),
                _ => Kind::Leaf(seed),
            };
            self.add(kind, range);
        }
    }

    fn add_extents(&mut self, image: &[u8], node: &[u8], seed: u32, blocks: &mut Vec<u32>) {
        for entry in node[12..].chunks_exact(12).take(half(node, 2)) {
            if half(node, 6) == 0 {
                let first = word(entry, 8);
                blocks.extend(first..first + half(entry, 4) as u32);
            } else {
                let range = self.block(word(entry, 4));
                self.add(Kind::Extent(seed), range.clone());
                self.add_extents(image, &image[range], seed, blocks);
            }
        }
    }

    /// The journal's superblock and the blocks of its log that have a header.
    fn add_journal(&mut self, image: &[u8]) {
        const MAGIC: [u8; 4] = [0xc0, 0x3b, 0x39, 0x98];
        let number = word(&image[1024..], 0xe0);
        let bytes = half(&image[1024..], 0x58);
        let table = word(&image[self.descriptor(0)], 8) as usize * self.block_bytes;
        let inode = &image[table + (number as usize - 1) * bytes..][..bytes];
        let mut blocks = Vec::new();
        self.add_extents(image, &inode[40..100], 0, &mut blocks);
        let first = self.block(blocks[0]);
        let seed = crc32c(!0, &image[first][0x30..0x40]);
        for block in blocks {
            let range = self.block(block);
            if image[range.start..].starts_with(&MAGIC) {
                self.add(Kind::Journal(seed), range);
            }
        }
    }

    /// Makes the checksum of a structure right. `descriptor` changes that of a group.
    pub(super) fn seal(&self, kind: Kind, bytes: &mut [u8], descriptor: Descriptor<'_>) {
        let end = bytes.len();
        match kind {
            Kind::Superblock => put(bytes, end - 4, crc32c(!0, &bytes[..end - 4])),
            Kind::Descriptor(group) => self.seal_descriptor(group, bytes),
            Kind::Inode(seed) => seal_inode(seed, bytes),
            Kind::Leaf(seed) => put(bytes, end - 4, crc32c(seed, &bytes[..end - 12])),
            Kind::Index(seed, at) => seal_index(seed, at, bytes),
            Kind::Extent(seed) => {
                let at = 12 * (1 + half(bytes, 4));
                let sum = crc32c(seed, bytes.get(..at).unwrap_or_default());
                put(bytes, at, sum);
            }
            Kind::Attributes(seed) => {
                put(bytes, 16, 0);
                put(bytes, 16, crc32c(seed, bytes));
            }
            Kind::Bitmap { group, at, bytes: len } => {
                let sum = crc32c(self.seed, &bytes[..len]);
                descriptor(self.descriptor(group), &mut |descriptor| {
                    descriptor[at..at + 2].copy_from_slice(&(sum as u16).to_le_bytes());
                    if let Some(high) = descriptor.get_mut(at + 0x20..at + 0x22) {
                        high.copy_from_slice(&((sum >> 16) as u16).to_le_bytes());
                    }
                    self.seal_descriptor(group, descriptor);
                });
            }
            Kind::Journal(seed) => seal_journal(seed, bytes),
        }
    }

    fn seal_descriptor(&self, group: u32, bytes: &mut [u8]) {
        bytes[0x1e..0x20].fill(0);
        let sum = crc32c(crc32c(self.seed, &group.to_le_bytes()), bytes);
        bytes[0x1e..0x20].copy_from_slice(&(sum as u16).to_le_bytes());
    }
}

/// Half of the sum lies behind the first 128 bytes, if the inode says that it has as many more.
fn seal_inode(seed: u32, bytes: &mut [u8]) {
    const LOW: usize = 0x7c;
    const HIGH: usize = 0x82;
    let has_high = bytes.len() > 128 && half(bytes, 128) >= 4;
    bytes[LOW..LOW + 2].fill(0);
    if has_high {
        bytes[HIGH..HIGH + 2].fill(0);
    }
    let sum = crc32c(seed, bytes).to_le_bytes();
    bytes[LOW..LOW + 2].copy_from_slice(&sum[..2]);
    if has_high {
        bytes[HIGH..HIGH + 2].copy_from_slice(&sum[2..]);
    }
}

fn seal_index(seed: u32, at: usize, bytes: &mut [u8]) {
    let (limit, count) = (half(bytes, at), half(bytes, at + 2));
    let tail = at + limit * 8;
    if count <= limit && tail + 8 <= bytes.len() {
        let sum = crc32c(crc32c(crc32c(seed, &bytes[..at + count * 8]), &bytes[tail..tail + 4]), &[0; 4]);
        put(bytes, tail + 4, sum);
    }
}

/// The journal's numbers are big-endian, and its sums lie where each kind of block has room.
fn seal_journal(seed: u32, bytes: &mut [u8]) {
    let end = bytes.len();
    let (place, all, seed) = match bytes[7] {
        // Descriptors and lists of revoked blocks, the commit, the superblock.
        1 | 5 => (end - 4, end, seed),
        2 => (16, end, seed),
        _ => (0xfc, 1024, !0),
    };
    bytes[place..place + 4].fill(0);
    let sum = crc32c(seed, &bytes[..all]);
    bytes[place..place + 4].copy_from_slice(&sum.to_be_bytes());
}
