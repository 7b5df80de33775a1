//! Lies under right checksums: fields of one structure after the other are changed and its checksum is made
//! right again, as somebody would who means harm. Whatever the disk then says, each call returns, and soon.
//!
//! `FUZZ_SECONDS=600 cargo test --release -p unikernel-ext4 resealed` goes on for so long, from a seed that is told.

use std::time::{Duration, Instant};
use std::vec::Vec;

use super::damage::exercise_in_time;
use super::workload::{Random, Workload};
use super::*;
use crate::BlockDevice;
use crate::cache::Seal;
use crate::checksum::crc32c;
use crate::geometry::Geometry;
use crate::inode::seal_bytes;
use crate::layout::inode::InodeFlags;
use crate::layout::le32;
use crate::layout::superblock::{SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET};

/// Rounds for each image where no time is asked for.
const ROUNDS: u64 = 400;

/// One structure on the disk.
#[derive(Clone, Copy, Debug)]
enum Target {
    Superblock,
    Descriptor(u32),
    Inode(u32),
    Block(u64, Seal),
    BlockBitmap(u32),
    InodeBitmap(u32),
}

/// A whole image, unmounted, and what there is to change in it.
struct Subject {
    image: Vec<u8>,
    geometry: Geometry,
    /// Where each group's bitmaps and inode table lie.
    places: Vec<[u64; 3]>,
    targets: Vec<Target>,
}

/// An image with some of everything: index nodes, extent trees with several levels, attributes in blocks.
fn rich(block_bytes: u32) -> Vec<u8> {
    let device = formatted(if block_bytes == 4096 { 12 << 10 } else { 8 << 10 }, block_bytes);
    let mut fs = mounted(&device);
    let mut workload = Workload::new(23);
    for _ in 0..200 {
        workload.step(&mut fs);
    }
    let many = fs.create(ROOT, b"many", directory(), at(2)).expect("mkdir");
    let linked = fs.create(ROOT, b"linked", file(), at(2)).expect("create");
    for number in 0..2200 {
        fs.link(linked, many, std::format!("some-name-{number}").as_bytes(), at(2)).expect("link");
    }
    let torn = fs.create(ROOT, b"torn", file(), at(2)).expect("create");
    for number in 0..400 {
        fs.write_at(torn, number * 2 * u64::from(block_bytes), b"x", at(2)).expect("write");
    }
    for inode in [torn, many, ROOT] {
        fs.set_attribute(inode, b"user.small", b"s", at(2)).expect("set");
        fs.set_attribute(inode, b"user.large", &[5; 600], at(2)).expect("set");
    }
    fs.unmount(at(3)).expect("unmount");
    device.image()
}

impl Subject {
    fn new(image: Vec<u8>) -> Self {
        let device = MemoryDevice::of(image.clone());
        let mut fs = mounted(&device);
        let mut targets = std::vec![Target::Superblock; 40];
        for group in 0..fs.geometry.groups {
            targets.extend([Target::Descriptor(group); 12]);
            targets.extend([Target::BlockBitmap(group), Target::InodeBitmap(group)]);
        }
        for number in 1..=fs.geometry.inodes {
            let Ok(inode) = fs.inode(number) else { continue };
            if inode.raw.links.get() == 0 && number > 11 {
                continue;
            }
            // The first few are the journal's, the root's and what else the filesystem stands on.
            targets.extend(std::iter::repeat_n(Target::Inode(number), if number < 20 { 4 } else { 1 }));
            add_blocks(&mut fs, &inode, &mut targets);
        }
        let place = |group: &crate::layout::group::Group| {
            [group.block_bitmap(), group.inode_bitmap(), group.inode_table()]
        };
        let places = fs.groups.iter().map(place).collect();
        Self { image, geometry: fs.geometry.clone(), places, targets }
    }

    /// Where a target lies in the image.
    fn range(&self, target: Target) -> core::ops::Range<usize> {
        let block_bytes = self.geometry.block_bytes;
        let (start, len) = match target {
            Target::Superblock => (SUPERBLOCK_OFFSET as usize, SUPERBLOCK_BYTES),
            Target::Descriptor(group) => {
                let per_block = self.geometry.descriptors_per_block();
                let block = self.geometry.descriptor_block(group / per_block) as usize * block_bytes;
                let bytes = self.geometry.descriptor_bytes;
                (block + (group % per_block) as usize * bytes, bytes)
            }
            Target::Inode(number) => {
                let (group, index) = self.geometry.place_of_inode(number);
                let table = self.places[group as usize][2] as usize * block_bytes;
                (table + index as usize * self.geometry.inode_bytes, self.geometry.inode_bytes)
            }
            Target::Block(block, _) => (block as usize * block_bytes, block_bytes),
            Target::BlockBitmap(group) => {
                (self.places[group as usize][0] as usize * block_bytes, block_bytes)
            }
            Target::InodeBitmap(group) => {
                (self.places[group as usize][1] as usize * block_bytes, block_bytes)
            }
        };
        start..start + len
    }

    /// Changes a few fields of some targets, and makes their checksums right.
    fn damaged(&self, random: &mut Random) -> (Vec<u8>, Vec<Target>) {
        let mut image = self.image.clone();
        let count = 1 + random.below(3);
        let pick = |random: &mut Random| self.targets[random.below(self.targets.len() as u64) as usize];
        let chosen: Vec<Target> = (0..count).map(|_| pick(random)).collect();
        for &target in &chosen {
            let range = self.range(target);
            for _ in 0..1 + random.below(4) {
                change_field(&mut image[range.clone()], random, &self.geometry);
            }
            self.seal(&mut image, target);
        }
        (image, chosen)
    }

    fn seal(&self, image: &mut [u8], target: Target) {
        let range = self.range(target);
        let seed = self.geometry.checksum_seed.expect("the image has checksums");
        match target {
            Target::Superblock => {
                let end = range.end - 4;
                let sum = crc32c(!0, &image[range.start..end]);
                image[end..range.end].copy_from_slice(&sum.to_le_bytes());
            }
            Target::Descriptor(group) => self.seal_descriptor(image, group),
            Target::Inode(number) => {
                let generation = le32(&image[range.clone()], 0x64);
                let seed = self.geometry.inode_seed(number, generation);
                seal_bytes(&mut image[range], seed);
            }
            Target::Block(_, seal) => seal.apply(&mut image[range]),
            Target::BlockBitmap(group) => {
                let bytes = self.geometry.blocks_per_group as usize / 8;
                self.note_bitmap(image, group, 0x18, crc32c(seed, &image[range][..bytes]));
            }
            Target::InodeBitmap(group) => {
                let bytes = self.geometry.inodes_per_group as usize / 8;
                self.note_bitmap(image, group, 0x1a, crc32c(seed, &image[range][..bytes]));
            }
        }
    }

    fn seal_descriptor(&self, image: &mut [u8], group: u32) {
        let range = self.range(Target::Descriptor(group));
        let sum = self.geometry.descriptor_checksum(group, &image[range.clone()]);
        let at = range.start + crate::layout::group::CHECKSUM_AT;
        image[at..at + 2].copy_from_slice(&sum.expect("the image has checksums").to_le_bytes());
    }

    /// Writes a bitmap's checksum into its descriptor: the lower half at `at`, the upper half 0x20 bytes on.
    fn note_bitmap(&self, image: &mut [u8], group: u32, at: usize, sum: u32) {
        let start = self.range(Target::Descriptor(group)).start;
        image[start + at..start + at + 2].copy_from_slice(&(sum as u16).to_le_bytes());
        if self.geometry.descriptor_bytes >= 64 {
            let high = start + at + 0x20;
            image[high..high + 2].copy_from_slice(&((sum >> 16) as u16).to_le_bytes());
        }
        self.seal_descriptor(image, group);
    }
}

/// Adds the blocks with checksums of their own that an inode has.
fn add_blocks<D: BlockDevice>(fs: &mut Ext4<D>, inode: &crate::inode::Inode, targets: &mut Vec<Target>) {
    let attributes = inode.raw.xattr_block();
    if attributes != 0 {
        let seed = fs.geometry.checksum_seed.map_or(0, |seed| crc32c(seed, &attributes.to_le_bytes()));
        targets.extend([Target::Block(attributes, Seal::Attributes(seed)); 4]);
    }
    if !inode.has(InodeFlags::EXTENTS) {
        return;
    }
    let seed = fs.geometry.inode_seed(inode.number, inode.raw.generation.get());
    let mut block = 0;
    while let Ok(run) = fs.map_inode(inode, block, 1) {
        let Ok(path) = fs.walk(inode, block as u32) else { break };
        let nodes = path.levels.iter().filter_map(|level| level.block);
        targets.extend(nodes.map(|node| Target::Block(node, Seal::Extent(seed))));
        if let (Some(start), true) = (run.start, inode.is_directory()) {
            let bytes = fs.block(start, Seal::Plain).expect("the block can be read");
            // An index node begins with an entry that spans the block, the root with `.` and a `..` that does.
            let first = crate::layout::le16(&bytes, 4);
            let is_node = block > 0 && usize::from(first) == bytes.len();
            let seal = match block {
                0 if fs.is_indexed(inode) => Seal::Index(seed, 32),
                _ if is_node && fs.is_indexed(inode) => Seal::Index(seed, 8),
                _ => Seal::Leaf(seed),
            };
            targets.push(Target::Block(start, seal));
        }
        block += 1;
        if block > 900 || block * fs.geometry.block_bytes as u64 >= inode.raw.size() {
            break;
        }
    }
}

/// Changes one field of one, two, four or eight bytes to what a liar would write there.
fn change_field(bytes: &mut [u8], random: &mut Random, geometry: &Geometry) {
    let width = 1 << random.below(4);
    // The beginning matters most.
    let reach = if random.below(2) == 0 { bytes.len().min(64) } else { bytes.len() };
    let at = random.below((reach / width) as u64) as usize * width;
    let mut old = [0; 8];
    old[..width].copy_from_slice(&bytes[at..at + width]);
    let old = u64::from_le_bytes(old);
    let new = match random.below(10) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => old.wrapping_add(1),
        4 => old.wrapping_sub(1),
        5 => old ^ 1 << random.below(8 * width as u64),
        6 => random.below(geometry.blocks),
        7 => u64::from(u32::MAX) - random.below(4),
        8 => 1 << random.below(8 * width as u64),
        _ => random.next(),
    };
    bytes[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
}

#[test]
fn sealing_a_whole_image_changes_nothing() {
    for block_bytes in [1024, 4096] {
        let subject = Subject::new(rich(block_bytes));
        let mut image = subject.image.clone();
        for target in &subject.targets {
            subject.seal(&mut image, *target);
            let range = subject.range(*target);
            assert!(image[range.clone()] == subject.image[range], "{target:?}");
        }
        assert!(image == subject.image);
    }
}

#[test]
fn resealed_lies_give_errors() {
    let asked = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let end = asked.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    std::println!("FUZZ_SEED={seed}");
    let subjects = [1024, 4096].map(|block_bytes| Subject::new(rich(block_bytes)));
    let mut random = Random::new(seed);
    for round in 0.. {
        let is_over = end.map_or(round >= 2 * ROUNDS, |end| Instant::now() >= end);
        if is_over {
            break;
        }
        let (image, targets) = subjects[(round % 2) as usize].damaged(&mut random);
        std::println!("round {round}: {targets:?}");
        exercise_in_time(image, &std::format!("round {round}, {targets:?}"));
    }
}
