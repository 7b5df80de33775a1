//! Trees of `veritysetup`, trees of every shape, and everything that can be changed in them.

extern crate std;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use proptest::prelude::*;

use super::*;

/// Content that `fixtures/make.sh` makes as well.
fn data(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// A hash area in memory, and what was read of it.
struct Area {
    bytes: Vec<u8>,
    block_bytes: usize,
    cache: RefCell<Cache>,
    reads: Cell<usize>,
}

impl Area {
    fn new(bytes: &[u8], block_bytes: u32, most_blocks: usize) -> Self {
        let cache = RefCell::new(Cache::new(most_blocks));
        Self { bytes: bytes.to_vec(), block_bytes: block_bytes as usize, cache, reads: Cell::new(0) }
    }
}

impl Hashes for Area {
    fn read(&self, block: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.reads.set(self.reads.get() + 1);
        let start = usize::try_from(block)
            .ok()
            .and_then(|block| block.checked_mul(self.block_bytes))
            .ok_or(ReadError)?;
        let end = start.checked_add(into.len()).ok_or(ReadError)?;
        into.copy_from_slice(self.bytes.get(start..end).ok_or(ReadError)?);
        Ok(())
    }

    fn known(&self, block: u64, at: usize, len: usize) -> Option<Digest> {
        self.cache.borrow_mut().find(block, at, len)
    }

    fn remember(&self, block: u64, bytes: Vec<u8>) {
        self.cache.borrow_mut().insert(block, bytes);
    }
}

fn superblock_at(area: &[u8], offset: usize) -> Result<Superblock, FormatError> {
    Superblock::parse(area[offset..][..SUPERBLOCK_BYTES].try_into().unwrap())
}

struct Fixture {
    hashes: &'static [u8],
    root: &'static str,
    data_block: usize,
    blocks: usize,
}

const FIXTURES: [Fixture; 4] = [
    Fixture {
        hashes: include_bytes!("../fixtures/small-blocks.hashes"),
        root: include_str!("../fixtures/small-blocks.root"),
        data_block: 512,
        blocks: 300,
    },
    Fixture {
        hashes: include_bytes!("../fixtures/usual.hashes"),
        root: include_str!("../fixtures/usual.root"),
        data_block: 4096,
        blocks: 200,
    },
    Fixture {
        hashes: include_bytes!("../fixtures/sha512.hashes"),
        root: include_str!("../fixtures/sha512.root"),
        data_block: 1024,
        blocks: 100,
    },
    Fixture {
        hashes: include_bytes!("../fixtures/one-block.hashes"),
        root: include_str!("../fixtures/one-block.root"),
        data_block: 4096,
        blocks: 1,
    },
];

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

impl Fixture {
    fn data(&self) -> Vec<u8> {
        data(self.data_block * self.blocks)
    }

    fn root(&self) -> Vec<u8> {
        from_hex(self.root)
    }

    fn tree(&self) -> Tree {
        let superblock = superblock_at(self.hashes, 0).unwrap();
        let data_bytes = (self.data_block * self.blocks) as u64;
        Tree::new(superblock, &self.root(), 0, self.hashes.len() as u64, data_bytes).unwrap()
    }
}

#[test]
fn what_veritysetup_made_is_found_good() {
    for fixture in &FIXTURES {
        let (tree, data) = (fixture.tree(), fixture.data());
        assert_eq!(tree.data_bytes(), data.len() as u64);
        for most_blocks in [0, 1, 1000] {
            let area = Area::new(fixture.hashes, tree.superblock().hash_block_bytes, most_blocks);
            for (number, block) in (0..).zip(data.chunks(fixture.data_block)) {
                assert_eq!(tree.check(&area, number, block), Ok(()), "{number}");
            }
            assert_eq!(
                tree.check(&area, fixture.blocks as u64, &data[..fixture.data_block]),
                Err(CheckError::Beyond)
            );
        }
    }
}

#[test]
fn other_roots_find_nothing_good() {
    for fixture in &FIXTURES {
        let (tree, data) = (fixture.tree(), fixture.data());
        let mut root = fixture.root();
        root[7] ^= 1;
        let tree =
            Tree::new(tree.superblock().clone(), &root, 0, fixture.hashes.len() as u64, u64::MAX).unwrap();
        let area = Area::new(fixture.hashes, tree.superblock().hash_block_bytes, 10);
        for (number, block) in (0..).zip(data.chunks(fixture.data_block)) {
            assert!(tree.check(&area, number, block).is_err());
        }
        assert!(area.cache.borrow().is_empty());
    }
}

#[test]
fn kept_hashes_save_reads_and_are_bounded() {
    let fixture = &FIXTURES[0];
    let (tree, data) = (fixture.tree(), fixture.data());
    let read_all = |most_blocks| {
        let area = Area::new(fixture.hashes, 512, most_blocks);
        for (number, block) in (0..).zip(data.chunks(512)) {
            tree.check(&area, number, block).unwrap();
            assert!(area.cache.borrow().len() <= most_blocks);
        }
        area.reads.get()
    };
    // 300 blocks: 19 blocks of hashes, two above them, one at the top.
    assert_eq!(read_all(100), 22);
    assert_eq!(read_all(0), 300 * 3);
    assert!(read_all(3) < 3 * 22);
}

#[test]
fn hashes_that_cannot_be_read_are_told() {
    let fixture = &FIXTURES[0];
    let tree = fixture.tree();
    let area = Area::new(&fixture.hashes[..1024], 512, 10);
    assert_eq!(tree.check(&area, 0, &data(512)), Err(CheckError::Read(2)));
}

#[test]
fn what_a_superblock_cannot_say_is_refused() {
    let good = &FIXTURES[0].hashes[..SUPERBLOCK_BYTES];
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        superblock_at(&changed, 0).map(|_| ())
    };
    assert_eq!(with(0, b"v"), Ok(()));
    assert_eq!(with(0, b"V"), Err(FormatError::NoSuperblock));
    assert_eq!(with(8, &[2]), Err(FormatError::Version(2)));
    assert_eq!(with(12, &[0]), Err(FormatError::HashType(0)));
    assert_eq!(with(32, b"sha1\0\0"), Err(FormatError::Algorithm));
    assert_eq!(with(32, &[b'a'; 32]), Err(FormatError::Algorithm));
    for bytes in [0_u32, 1, 256, 513, 8192, 1 << 31] {
        assert_eq!(with(64, &bytes.to_le_bytes()), Err(FormatError::BlockBytes(bytes)));
    }
    assert_eq!(with(68, &131_072_u32.to_le_bytes()), Err(FormatError::BlockBytes(131_072)));
    assert_eq!(with(80, &257_u16.to_le_bytes()), Err(FormatError::Salt));
    for error in
        [FormatError::NoSuperblock, FormatError::Root, FormatError::ShortHashes, FormatError::BlockBytes(0)]
    {
        assert!(!std::format!("{error}").is_empty());
    }
}

#[test]
fn trees_that_have_no_room_are_refused() {
    let fixture = &FIXTURES[0];
    let (superblock, root) = (superblock_at(fixture.hashes, 0).unwrap(), fixture.root());
    let new = |blocks: u64, offset: u64, hash_bytes: u64, data_bytes: u64| {
        let mut superblock = superblock.clone();
        superblock.data_blocks = blocks;
        Tree::new(superblock, &root, offset, hash_bytes, data_bytes).map(|_| ())
    };
    let (hashes, data) = (fixture.hashes.len() as u64, 300 * 512);
    assert_eq!(new(300, 0, hashes, data), Ok(()));
    assert_eq!(new(300, 0, hashes - 1, data), Err(FormatError::ShortHashes));
    assert_eq!(new(300, 512, hashes, data), Err(FormatError::ShortHashes));
    assert_eq!(new(300, u64::MAX, hashes, data), Err(FormatError::ShortHashes));
    assert_eq!(new(300, 0, hashes, data - 1), Err(FormatError::ShortData));
    assert_eq!(new(0, 0, hashes, data), Err(FormatError::Blocks(0)));
    assert_eq!(new(u64::MAX, 0, u64::MAX, u64::MAX), Err(FormatError::Blocks(u64::MAX)));
    assert_eq!(new(u64::MAX / 512, 0, u64::MAX, u64::MAX), Ok(()));
    assert!(matches!(Tree::new(superblock, &root[1..], 0, hashes, data), Err(FormatError::Root)));
}

/// A disk with data and its hash area behind it, by code of the tests' own: levels are made from the data upwards, and written from the top.
struct Made {
    image: Vec<u8>,
    root: Digest,
    hash_offset: usize,
    data: Vec<u8>,
}

fn make(
    algorithm: Algorithm,
    data_block: usize,
    hash_block: usize,
    blocks: usize,
    salt: &[u8],
    gap: usize,
) -> Made {
    let content = data(data_block * blocks);
    let digest_bytes = algorithm.digest_bytes();
    let mut digests: Vec<Digest> =
        content.chunks(data_block).map(|block| algorithm.digest(salt, block)).collect();
    let mut levels = Vec::new();
    while digests.len() > 1 {
        let level: Vec<Vec<u8>> = digests
            .chunks(hash_block / digest_bytes)
            .map(|digests| {
                let mut block = vec![0; hash_block];
                for (place, digest) in block.chunks_mut(digest_bytes).zip(digests) {
                    place.copy_from_slice(digest.bytes());
                }
                block
            })
            .collect();
        digests = level.iter().map(|block| algorithm.digest(salt, block)).collect();
        levels.push(level);
    }
    let mut image = content.clone();
    image.resize(image.len() + gap, 0xaa);
    let hash_offset = image.len();
    image.extend_from_slice(b"verity\0\0");
    image.extend_from_slice(&1_u32.to_le_bytes());
    image.extend_from_slice(&1_u32.to_le_bytes());
    image.extend_from_slice(&[7; 16]);
    image.extend_from_slice(algorithm.name().as_bytes());
    image.resize(hash_offset + 64, 0);
    image.extend_from_slice(&(data_block as u32).to_le_bytes());
    image.extend_from_slice(&(hash_block as u32).to_le_bytes());
    image.extend_from_slice(&(blocks as u64).to_le_bytes());
    image.extend_from_slice(&(salt.len() as u64).to_le_bytes());
    image.extend_from_slice(salt);
    image.resize(hash_offset + SUPERBLOCK_BYTES, 0);
    image.resize(image.len().next_multiple_of(hash_block), 0);
    levels.iter().rev().flatten().for_each(|block| image.extend_from_slice(block));
    Made { image, root: digests[0], hash_offset, data: content }
}

/// What a reader of the image gets, block by block, as far as the tree can be used.
fn read_all(made: &Made, most_blocks: usize) -> Option<BTreeMap<u64, Vec<u8>>> {
    let superblock = superblock_at(&made.image, made.hash_offset).ok()?;
    let (hash_block, data_block) = (superblock.hash_block_bytes, superblock.data_block_bytes as usize);
    let len = made.image.len() as u64;
    let tree = Tree::new(superblock, made.root.bytes(), made.hash_offset as u64, len, len).ok()?;
    let area = Area::new(&made.image, hash_block, most_blocks);
    let blocks = (0..tree.superblock().data_blocks).zip(made.image.chunks_exact(data_block));
    let good = blocks.filter(|(number, block)| tree.check(&area, *number, block) == Ok(()));
    Some(good.map(|(number, block)| (number * data_block as u64, block.to_vec())).collect())
}

/// What a tree is made of.
type Shape = (Algorithm, u32, u32, usize, usize, usize);

fn shapes() -> impl Strategy<Value = Shape> {
    let algorithm = prop::sample::select(vec![Algorithm::Sha256, Algorithm::Sha512]);
    (algorithm, 9_u32..=12, 9_u32..=13, 1_usize..120, 0_usize..=256, 0_usize..3)
}

fn of_shape((algorithm, data_bits, hash_bits, blocks, salt, gap): Shape) -> Made {
    let blocks = if data_bits > 10 { blocks.div_ceil(4) } else { blocks };
    make(algorithm, 1 << data_bits, 1 << hash_bits, blocks, &data(salt + 3)[3..], gap * 4096)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn trees_of_every_shape_are_found_good(shape in shapes(), most_blocks in 0_usize..20) {
        let made = of_shape(shape);
        let read = read_all(&made, most_blocks).unwrap();
        let read: Vec<u8> = read.into_values().flatten().collect();
        prop_assert_eq!(read, made.data);
    }

    /// Whatever bytes are changed, nothing is found good but the data as it was, or a block of the tree as it was: that takes a superblock that says that
    /// there is less of a tree.
    #[test]
    fn no_wrong_data_is_found_good(
        shape in shapes(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        in_superblock: bool,
        most_blocks in 0_usize..20,
    ) {
        let mut made = of_shape(shape);
        let original = made.image.clone();
        for (at, bits) in changes {
            let at = if in_superblock { made.hash_offset + at.index(340) } else { at.index(original.len()) };
            made.image[at] ^= bits;
        }
        for (at, block) in read_all(&made, most_blocks).unwrap_or_default() {
            let at = at as usize;
            prop_assert_eq!(&block[..], &original[at..at + block.len()], "at {}", at);
        }
    }

    #[test]
    fn any_superblock_does_no_harm(
        fields in prop::collection::vec(any::<(u8, u32)>(), 0..6),
        root in prop::collection::vec(any::<u8>(), 0..70),
        sizes: (u64, u64, u64),
        block: u64,
    ) {
        let mut bytes: [u8; SUPERBLOCK_BYTES] = FIXTURES[0].hashes[..SUPERBLOCK_BYTES].try_into().unwrap();
        for (at, value) in fields {
            bytes[usize::from(at)..][..4].copy_from_slice(&value.to_le_bytes());
        }
        let Ok(superblock) = Superblock::parse(&bytes) else { return Ok(()) };
        let (offset, hash_bytes, data_bytes) = sizes;
        let (data_block, hash_block) = (superblock.data_block_bytes, superblock.hash_block_bytes);
        for root in [&root[..], &[0; 32], &[0; 64]] {
            if let Ok(tree) = Tree::new(superblock.clone(), root, offset, hash_bytes, data_bytes) {
                prop_assert!(tree.data_bytes() <= data_bytes);
                let area = Area::new(FIXTURES[0].hashes, hash_block, 4);
                let block = block % tree.superblock().data_blocks;
                prop_assert!(tree.check(&area, block, &vec![0; data_block as usize]).is_err());
                prop_assert!(area.reads.get() <= 22);
            }
        }
    }
}
