//! Damaged images: whatever is on the disk, each call returns, and soon.

use std::time::{Duration, Instant};
use std::vec::Vec;

use super::workload::{Random, Workload};
use super::*;
use crate::{BlockDevice, RenameMode};

/// The longest that one damaged image may take. A whole one takes a few milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// An image with some of everything in it, and something in its journal.
fn lively(block_bytes: u32, has_checksums: bool) -> Vec<u8> {
    let device = formatted(if block_bytes == 4096 { 9 << 10 } else { 4 << 10 }, block_bytes);
    let device = if has_checksums { device } else { without_checksums() };
    let mut fs = mounted(&device);
    let mut workload = Workload::new(11);
    for _ in 0..300 {
        workload.step(&mut fs);
    }
    let many = fs.create(ROOT, b"many", directory(), at(2)).expect("mkdir");
    for number in 0..150 {
        fs.create(many, std::format!("some-name-{number}").as_bytes(), file(), at(2)).expect("create");
    }
    fs.commit(at(3)).expect("commit");
    device.image()
}

/// What nothing protects: any lie of the disk is believed until it is looked at.
fn without_checksums() -> MemoryDevice {
    let path = TempPath::new("plain");
    let text = path.text();
    let arguments = ["-q", "-F", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum", text.as_str(), "4M"];
    assert_eq!(run("mke2fs", &arguments).0, 0);
    MemoryDevice::of(std::fs::read(&path.0).expect("the image can be read"))
}

/// Uses everything; what the calls answer does not matter.
fn exercise<D: BlockDevice>(device: D) {
    let Ok(mut fs) = Ext4::mount(device, MountMode::ReadWrite, at(5)) else { return };
    let mut todo = std::vec![ROOT];
    let mut seen = 0;
    while let Some(inode) = todo.pop() {
        seen += 1;
        if seen > 400 {
            break;
        }
        let mut below = Vec::new();
        let _ = fs.entries(inode, 0, &mut |entry| {
            below.push(entry.inode);
            if below.len() > 300 {
                core::ops::ControlFlow::Break(())
            } else {
                core::ops::ControlFlow::Continue(())
            }
        });
        todo.extend(below.iter().skip(2));
        let _ = fs.attributes(inode);
        let _ = fs.read_link(inode);
        let _ = fs.attribute_names(inode);
        let _ = fs.read_at(inode, 0, &mut [0; 5000]);
        let _ = fs.next_hole(inode, 0);
        let _ = fs.lookup(inode, b"some-name-77");
        let _ = fs.create(inode, b"new", file(), at(6));
        let _ = fs.write_at(inode, 3000, &[7; 5000], at(6));
        let _ = fs.punch(inode, 1000, 3000, at(6));
        let _ = fs.set_attribute(inode, b"user.x", &[1; 300], at(6));
        let _ = fs.rename(inode, b"new", ROOT, b"moved", RenameMode::Replace, at(6));
        if seen % 3 == 0 {
            let _ = fs.set_size(inode, 10, at(6));
            let _ = fs.unlink(inode, b"some-name-5", at(6));
            let _ = fs.commit(at(6));
        }
    }
    let _ = fs.unmount(at(7));
}

pub(super) fn exercise_in_time(image: Vec<u8>, label: &str) {
    let start = Instant::now();
    exercise(MemoryDevice::of(image));
    assert!(start.elapsed() < LIMIT, "{label} took {:?}", start.elapsed());
}

/// Blocks that hold metadata, where damage matters: those that are not all zeros, and few of the data.
fn interesting(image: &[u8]) -> Vec<usize> {
    let is_used = |block: &&usize| image[**block * 1024..(**block + 1) * 1024].iter().any(|byte| *byte != 0);
    let blocks: Vec<usize> = (0..image.len() / 1024).collect();
    blocks.iter().filter(is_used).copied().collect()
}

#[test]
fn flipped_bits_give_errors() {
    for (block_bytes, has_checksums, rounds) in [(1024, true, 120), (4096, true, 50), (1024, false, 300)] {
        let whole = lively(block_bytes, has_checksums);
        let blocks = interesting(&whole);
        let mut random = Random::new(u64::from(block_bytes));
        for round in 0..rounds {
            let mut image = whole.clone();
            for _ in 0..1 + random.below(20) {
                let block = blocks[random.below(blocks.len() as u64) as usize];
                let at = block * 1024 + random.below(1024) as usize;
                image[at] = match random.below(4) {
                    0 => 0,
                    1 => 0xff,
                    _ => image[at] ^ 1 << random.below(8),
                };
            }
            exercise_in_time(image, &std::format!("round {round}"));
        }
    }
}

#[test]
fn blocks_in_the_wrong_place_give_errors() {
    let whole = lively(1024, false);
    let blocks = interesting(&whole);
    let mut random = Random::new(3);
    for round in 0..250 {
        let mut image = whole.clone();
        for _ in 0..1 + random.below(4) {
            let mut pick = || blocks[random.below(blocks.len() as u64) as usize] * 1024;
            let (from, to) = (pick(), pick());
            // Not over the superblock: then there would be nothing to test.
            if to >= 4096 {
                image.copy_within(from..from + 1024, to);
            }
        }
        exercise_in_time(image, &std::format!("round {round}"));
    }
}

#[test]
fn truncated_images_give_errors() {
    let whole = lively(1024, true);
    for kib in [0, 1, 2, 3, 100, 1000, 4000] {
        let device = MemoryDevice::of(whole[..kib * 1024].to_vec());
        assert!(Ext4::mount(&device, MountMode::ReadWrite, at(5)).is_err());
    }
}

#[test]
fn superblock_of_random_numbers_gives_errors() {
    let whole = lively(1024, false);
    let mut random = Random::new(17);
    for round in 0..400 {
        let mut image = whole.clone();
        for _ in 0..1 + random.below(3) {
            let at = 1024 + random.below(0x180) as usize / 4 * 4;
            let value =
                [0, 1, u32::MAX, random.next() as u32, 1 << random.below(32)][random.below(5) as usize];
            image[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        exercise_in_time(image, &std::format!("round {round}"));
    }
}

/// Found by fuzzing: a listing told such names.
#[test]
fn names_that_are_none_are_not_listed() {
    let device = without_checksums();
    let mut fs = mounted(&device);
    fs.create(ROOT, b"some-name", file(), at(2)).expect("create");
    fs.unmount(at(3)).expect("unmount");
    let image = device.image();
    // In its directory, and in the journal, which is not read again.
    let starts = image.windows(9).enumerate().filter(|(_, bytes)| *bytes == b"some-name");
    let places: Vec<usize> = starts.map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    // A slash, a zero, no name at all: its length lies in front of its kind.
    for (change, value) in [(4, b'/'), (4, 0), (-2, 0)] {
        let mut image = image.clone();
        for place in &places {
            image[place.wrapping_add_signed(change)] = value;
        }
        let mut fs = mounted(MemoryDevice::of(image));
        let mut listed = Vec::new();
        let result = fs.entries(ROOT, 0, &mut |entry| {
            listed.push(entry.name.to_vec());
            core::ops::ControlFlow::Continue(())
        });
        assert_eq!(result, Err(crate::Error::Corrupt("name in a directory")), "{listed:?}");
    }
}
