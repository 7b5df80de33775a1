//! A disk whose blocks are checked: the hash areas that `veritysetup` made, with any bytes changed, for data that is changed as well. What is found good is
//! what was there.

use std::cell::RefCell;
use std::collections::BTreeMap;

use unikernel_verity::{Cache, Digest, Hashes, ReadError, SUPERBLOCK_BYTES, Superblock, Tree};

use crate::input::Input;

/// Hashes, root, bytes of a block of data, blocks of data (`unikernel/verity/fixtures/make.sh`).
const AREAS: [(&[u8], &str, usize, usize); 2] = [
    (
        include_bytes!("../../../verity/fixtures/small-blocks.hashes"),
        include_str!("../../../verity/fixtures/small-blocks.root"),
        512,
        300,
    ),
    (
        include_bytes!("../../../verity/fixtures/sha512.hashes"),
        include_str!("../../../verity/fixtures/sha512.root"),
        1024,
        100,
    ),
];
/// More levels than any tree has.
const MOST_READS: usize = 22;

struct Area {
    bytes: Vec<u8>,
    cache: RefCell<Cache>,
    reads: RefCell<usize>,
}

impl Hashes for Area {
    fn read(&self, block: u64, into: &mut [u8]) -> Result<(), ReadError> {
        *self.reads.borrow_mut() += 1;
        let start =
            usize::try_from(block).ok().and_then(|block| block.checked_mul(into.len())).ok_or(ReadError)?;
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

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (hashes, root, block_bytes, blocks) = AREAS[input.below(AREAS.len())];
    let (mut bytes, most_blocks) = (hashes.to_vec(), input.below(8));
    let root: Vec<u8> = (0..root.len() / 2)
        .map(|at| u8::from_str_radix(&root[2 * at..2 * at + 2], 16).expect("the fixture has digits"))
        .collect();
    for _ in 0..input.below(6) {
        // More often within the superblock.
        let at = if input.flag() { input.half() as usize } else { input.byte().into() };
        let change = input.array::<4>();
        if let Some(place) = bytes.get_mut(at..at + change.len()) {
            place.iter_mut().zip(change).for_each(|(byte, change)| *byte ^= change);
        }
    }
    let superblock: &[u8; SUPERBLOCK_BYTES] = bytes[..SUPERBLOCK_BYTES].try_into().expect("it is longer");
    let Ok(superblock) = Superblock::parse(superblock) else { return };
    let data_bytes = (block_bytes * blocks) as u64;
    let Ok(tree) = Tree::new(superblock, &root, 0, bytes.len() as u64, data_bytes) else { return };
    assert!(tree.data_bytes() <= data_bytes);
    let area = Area { bytes, cache: RefCell::new(Cache::new(most_blocks)), reads: RefCell::default() };
    let mut known = BTreeMap::new();
    while !input.is_over() && known.len() < 64 {
        let (number, change) = (u64::from(input.half()), input.byte());
        let len = tree.superblock().data_block_bytes as usize;
        let start = usize::try_from(number).map_or(0, |number| number.saturating_mul(len));
        let original: Vec<u8> = (start..start + len).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut block = original.clone();
        block[usize::from(change) % len] ^= change;
        *area.reads.borrow_mut() = 0;
        let is_good = tree.check(&area, number, &block).is_ok();
        assert!(!is_good || block == original, "block {number} was changed");
        assert!(*area.reads.borrow() <= MOST_READS && area.cache.borrow().len() <= most_blocks);
        known.insert(number, is_good);
    }
}
