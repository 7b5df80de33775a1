//! Images that no honest tool would write: each lie is an error, and costs no more than its part.

use alloc::vec;
use alloc::vec::Vec;

use unikernel_vfs::{ByteStorage, Error, FileSystem, InodeNumber};

use super::image::{DIRECTORY, END_32, Image, long, slot, utf16};
use super::layout::{mount, root};
use super::{find, list};
use crate::{Fat, MountError};

#[test]
fn a_file_longer_than_its_chain_ends_in_an_error() {
    let mut image = root(&[
        slot(b"SHORT      ", 0, 3, 1025),
        slot(b"NOTHING    ", 0, 0, 1),
        slot(b"OUTSIDE    ", 0, 500, 1),
        slot(b"CYCLE      ", 0, 5, u32::MAX),
        slot(b"BAD        ", 0, 8, 600),
        slot(b"FREE       ", 0, 9, 600),
        slot(b"LAST       ", 0, 201, 512),
        slot(b"BEHIND     ", 0, 202, 512),
    ]);
    image.chain(&[3, 4]);
    image.chain(&[201]);
    image.set(5, 6);
    image.set(6, 5);
    image.set(8, 0x0fff_fff7);
    let mut fat = mount(image);
    let mut read = |name: &str, offset: u64, len: usize| {
        let inode = find(&mut fat, name).unwrap();
        fat.read(inode, offset, &mut vec![0; len])
    };
    let is_corrupt = |result: Result<usize, Error>| matches!(result, Err(Error::Corrupt(_)));
    assert_eq!(read("short", 0, 1024), Ok(1024));
    assert!(is_corrupt(read("short", 0, 1025)) && is_corrupt(read("short", 1024, 1)));
    for name in ["nothing", "outside", "behind"] {
        assert!(is_corrupt(read(name, 0, 1)), "{name}");
    }
    for name in ["bad", "free"] {
        assert_eq!(read(name, 0, 512), Ok(512), "{name}");
        assert!(is_corrupt(read(name, 0, 513)), "{name}");
    }
    assert_eq!(read("last", 0, 512), Ok(512));
    assert_eq!(read("cycle", 0, 5000), Ok(5000));
    assert!(is_corrupt(read("cycle", 1 << 30, 4096)) && is_corrupt(read("cycle", 201 * 512, 1)));
    assert_eq!(read("short", u64::MAX, 10), Ok(0));
}

#[test]
fn files_that_share_clusters_are_both_read() {
    let mut image = root(&[slot(b"ONE        ", 0, 3, 1024), slot(b"TWO        ", 0, 4, 512)]);
    image.chain(&[3, 4]);
    image.put(4, &[9; 512]);
    let mut fat = mount(image);
    for (name, offset) in [("one", 512), ("two", 0)] {
        let inode = find(&mut fat, name).unwrap();
        let mut bytes = [0; 512];
        assert_eq!(fat.read(inode, offset, &mut bytes), Ok(512));
        assert_eq!(bytes, [9; 512]);
    }
}

#[test]
fn directories_in_circles_end() {
    let mut image = root(&[
        slot(b"UP         ", DIRECTORY, 3, 0),
        slot(b"SELF       ", DIRECTORY, 2, 0),
        slot(b"LOOP       ", DIRECTORY, 4, 0),
    ]);
    image.directory(3, 0, &slot(b"DOWN       ", DIRECTORY, 3, 0));
    // A chain that is a circle, full of entries.
    image.directory(4, 0, &slot(b"FILE       ", 0, 0, 0).repeat(14));
    image.set(4, 4);
    let mut fat = mount(image);
    let root = fat.root();
    assert_eq!(find(&mut fat, "up/down/down/down/down"), find(&mut fat, "up/down"));
    assert_eq!(find(&mut fat, "self/self/self/up"), find(&mut fat, "up"));
    assert_eq!(find(&mut fat, "self/self/.."), Ok(root));
    let looped = find(&mut fat, "loop").unwrap();
    assert!(matches!(list(&mut fat, looped, usize::MAX), Err(Error::Corrupt(_))));
    assert!(matches!(fat.lookup(looped, b"nobody"), Err(Error::Corrupt(_))));
    assert!(matches!(fat.attributes(looped), Err(Error::Corrupt(_))));
    assert_eq!(fat.lookup(looped, b".."), Ok(root));
}

#[test]
fn a_directory_without_a_parent_is_damaged() {
    let mut image = root(&[slot(b"ONE        ", DIRECTORY, 3, 0), slot(b"TWO        ", DIRECTORY, 4, 0)]);
    image.chain(&[3]);
    image.chain(&[4]);
    image.put(3, &slot(b"FILE       ", 0, 0, 0));
    // Its parent is in no directory.
    image.directory(4, 5, &[]);
    image.chain(&[5]);
    image.directory(5, 0, &[]);
    let mut fat = mount(image);
    for name in ["one", "two"] {
        let inode = find(&mut fat, name).unwrap();
        assert!(matches!(fat.lookup(inode, b".."), Err(Error::Corrupt(_))), "{name}");
    }
    assert!(find(&mut fat, "one/file").is_ok());
}

#[test]
fn a_directory_has_at_most_65_536_slots() {
    let clusters = 5000;
    let mut image = Image::fat32(clusters);
    image.put(2, &slot(b"BIG        ", DIRECTORY, 3, 0));
    let chain: Vec<u32> = (3..3 + 4096).collect();
    image.chain(&chain);
    let name = |number: u32| -> [u8; 11] { std::format!("{number:08}   ").into_bytes().try_into().unwrap() };
    let slots: Vec<u8> = (2..65_536).flat_map(|number| slot(&name(number), 0, 0, 0)).collect();
    image.directory(3, 0, &slots);
    let last = "00065535";
    let mut fat = Fat::mount(image.bytes.clone()).unwrap();
    let big = find(&mut fat, "big").unwrap();
    let listed = list(&mut fat, big, 1000).unwrap();
    assert_eq!(listed.len(), 65_536);
    assert_eq!(fat.lookup(big, last.as_bytes()), Ok(listed[65_535].1));
    assert_eq!(fat.lookup(big, b"nobody"), Err(Error::NotFound));
    assert_eq!(fat.attributes(big).unwrap().size, 2 << 20);
    for cookie in [65_538, 1 << 20, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(fat.entries(big, cookie, &mut |_| panic!("nothing is there")), Ok(()));
    }

    let longer: Vec<u32> = (3..3 + 4097).collect();
    image.chain(&longer);
    let mut fat = Fat::mount(image.bytes).unwrap();
    assert_eq!(fat.lookup(big, last.as_bytes()), Ok(listed[65_535].1));
    let error = Error::Corrupt("a directory with more than 65,536 slots");
    assert_eq!(fat.lookup(big, b"nobody"), Err(error));
    assert_eq!(list(&mut fat, big, usize::MAX), Err(error));
}

#[test]
fn only_entries_are_inodes() {
    let mut image = root(&[long(&utf16("long"), b"FILE       "), slot(b"FILE       ", 0, 3, 64)]);
    image.chain(&[3]);
    let root_slot = image.at(2) as u64 / 32;
    let end = image.bytes.len() as u64 / 32;
    let mut fat = mount(image);
    assert!(fat.attributes(InodeNumber(root_slot + 1)).is_ok());
    for number in [0, 2, 15, root_slot - 1, root_slot, root_slot + 2, end, end + 1, 1 << 59, u64::MAX] {
        assert_eq!(fat.attributes(InodeNumber(number)), Err(Error::NotFound), "{number}");
    }
}

#[test]
fn a_boot_sector_that_lies_is_refused() {
    let image = Image::fat32(200);
    assert!(Fat::mount(image.bytes.clone()).is_ok());
    let with = |at: usize, bytes: &[u8]| {
        let mut disk = image.bytes.clone();
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        Fat::mount(disk).err()
    };
    let not_fat: [(usize, &[u8]); 9] = [
        (510, &[0, 0]),
        (11, &[0, 3]),
        (13, &[3]),
        (13, &[0]),
        (14, &[0, 0]),
        (16, &[0]),
        (16, &[9]),
        (21, &[1]),
        (36, &[0; 4]),
    ];
    for (at, bytes) in not_fat {
        assert_eq!(with(at, bytes), Some(MountError::NotFat), "{at}");
    }
    let corrupt: [(usize, &[u8]); 6] = [
        (32, &[0xff; 4]),
        (36, &[0xff; 4]),
        (42, &[1]),
        (44, &[0; 4]),
        (44, &[202, 0, 0, 0]),
        (32, &[10, 0, 0, 0]),
    ];
    for (at, bytes) in corrupt {
        assert!(matches!(with(at, bytes), Some(MountError::Corrupt(_))), "{at}");
    }
    assert!(matches!(with(44, &END_32.to_le_bytes()), Some(MountError::Corrupt(_))));
    let half = image.bytes[..image.bytes.len() / 2].to_vec();
    assert!(matches!(Fat::mount(half), Err(MountError::Corrupt(_))));
}
