//! A disk whose blocks are checked (`verity=`): what is on it is read, what was changed is not, and nothing is written.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use unikernel_hal::sim::disk::{Disk, Faults};
use unikernel_verity::Algorithm;

use super::app::calls::{Room, sys};
use super::app::{Machine, Outcome};
use super::files::{open, read_file, write_file};

const DATA_BYTES: usize = 8 << 20;
const DISK_BYTES: usize = DATA_BYTES + (1 << 20);
/// Of data: the filesystem's, so that pages of files begin with one. Of hashes: twice and twice again as many.
const BLOCK: usize = 1024;
const HASH_BLOCK: usize = 4096;
const PAGE: usize = 4096;
const DIGEST: usize = 32;
const SALT: &[u8] = b"salt";
const PAGES: usize = 300;

/// No page is like another.
fn large() -> Vec<u8> {
    (0..PAGES * PAGE).map(|at| (at / BLOCK * 7 + at) as u8 ^ ((at / BLOCK) >> 5) as u8).collect()
}

fn hash(block: &[u8]) -> Vec<u8> {
    Algorithm::Sha256.digest(SALT, block).bytes().to_vec()
}

/// The hashes of the blocks of a level, in blocks.
fn level_above(level: &[u8], block_bytes: usize) -> Vec<u8> {
    let mut hashes: Vec<u8> = level.chunks(block_bytes).flat_map(hash).collect();
    hashes.resize(hashes.len().next_multiple_of(HASH_BLOCK), 0);
    hashes
}

/// The hash area of these bytes (`unikernel_verity`), and the root hash.
fn hash_area(data: &[u8]) -> (Vec<u8>, String) {
    let mut levels = alloc::vec![level_above(data, BLOCK)];
    while let Some(highest) = levels.last().filter(|highest| highest.len() > HASH_BLOCK) {
        levels.push(level_above(highest, HASH_BLOCK));
    }
    let mut area = alloc::vec![0; HASH_BLOCK];
    for (at, bytes) in [
        (0, &b"verity\0\0"[..]),
        (8, &1_u32.to_le_bytes()),
        (12, &1_u32.to_le_bytes()),
        (32, b"sha256"),
        (64, &(BLOCK as u32).to_le_bytes()),
        (68, &(HASH_BLOCK as u32).to_le_bytes()),
        (72, &((data.len() / BLOCK) as u64).to_le_bytes()),
        (80, &(SALT.len() as u16).to_le_bytes()),
        (88, SALT),
    ] {
        area[at..at + bytes.len()].copy_from_slice(bytes);
    }
    levels.iter().rev().for_each(|level| area.extend_from_slice(level));
    let root = levels.last().map(|highest| hash(highest)).unwrap_or_default();
    assert_eq!(root.len(), DIGEST);
    (area, root.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A disk with two files and the hashes behind them, and the root hash.
fn made() -> (Disk, String) {
    let plain = Disk::new(DATA_BYTES);
    let machine = Machine { command_line: "mount=/data:blk0 format=blk0".into(), ..Machine::default() };
    let outcome = machine.run_with(
        || plain.plug_in(Faults::default()),
        || {
            write_file("/data/small", b"small");
            write_file("/data/large", &large());
            0
        },
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    let data = plain.content();
    let (area, root) = hash_area(&data);
    let disk = Disk::new(DISK_BYTES);
    disk.write(0, &data);
    disk.write(DATA_BYTES, &area);
    (disk, root)
}

fn boot(disk: &Disk, words: &str, app: impl FnOnce() + 'static) -> Outcome {
    let machine = Machine { command_line: words.into(), ..Machine::default() };
    machine.run_with(
        || disk.plug_in(Faults::default()),
        || {
            app();
            0
        },
    )
}

fn mount(root: &str) -> String {
    format!("mount=/data:blk0:verity={root}@8M")
}

/// Where a page of the large file is on the disk.
fn place_of(disk: &Disk, page: usize) -> usize {
    let (content, large) = (disk.content(), large());
    let expected = &large[page * PAGE..][..BLOCK];
    content.chunks(BLOCK).position(|block| block == expected).expect("the page is on the disk") * BLOCK
}

fn flip(disk: &Disk, at: usize) {
    let byte = disk.content()[at];
    disk.write(at, &[byte ^ 0x10]);
}

#[test]
fn checked_disks_are_read_and_never_written() {
    let (disk, root) = made();
    let before = disk.content();
    let outcome = boot(&disk, &mount(&root), || {
        assert_eq!(read_file("/data/small"), b"small");
        assert!(read_file("/data/large") == large());
        assert_eq!(sys!(open, "/data/new", O_WRONLY | O_CREAT, 0o600), Err(EROFS));
        assert_eq!(sys!(open, "/data/small", O_WRONLY, 0), Err(EROFS));
        assert_eq!(sys!(unlink, "/data/small"), Err(EROFS));
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    assert!(disk.content() == before);
}

#[test]
fn changed_blocks_are_an_error_for_who_reads_them_alone() {
    let (disk, root) = made();
    let places = [3, 40, PAGES - 1].map(|page| place_of(&disk, page));
    places.iter().for_each(|place| flip(&disk, place + 77));
    let outcome = boot(&disk, &mount(&root), || {
        let (file, expected, room) = (open("/data/large", O_RDONLY), large(), Room::new(PAGE));
        for page in (0..PAGES).chain((0..PAGES).rev()) {
            let outcome = sys!(pread64, file, &room, PAGE, page * PAGE);
            if [3, 40, PAGES - 1].contains(&page) {
                assert_eq!(outcome, Err(EIO), "{page}");
            } else {
                assert_eq!(outcome, Ok(PAGE as u64), "{page}");
                assert!(room.bytes(0, PAGE) == expected[page * PAGE..][..PAGE], "{page}");
            }
        }
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    for place in places {
        let line = format!("verity: block {} is not what it was when the hashes were made", place / BLOCK);
        assert!(outcome.console.contains(&line), "{line}: {}", outcome.console);
    }
}

#[test]
fn changed_hashes_and_other_roots_are_no_disk() {
    let (disk, root) = made();
    let other: String = root.chars().rev().collect();
    for (words, reason) in [
        (mount(&other), "verity: block 1 cannot be checked: block 2049 of the hashes is not what it was"),
        (mount(&root[..62]), "bad command line"),
        (mount(&root).replace("8M", "4M"), "there is no hash area of `veritysetup format` at that place"),
        (mount(&root).replace("8M", "99G"), "there is no hash area of `veritysetup format` at that place"),
    ] {
        let outcome = boot(&disk, &words, || unreachable!("it must not start"));
        assert_eq!(outcome.code, Some(125), "{words}: {}", outcome.console);
        assert!(outcome.console.contains(reason), "{words}: {}", outcome.console);
    }
    // A byte of the highest block of hashes, and one of the superblock, which nobody has signed: the number of blocks.
    for at in [DATA_BYTES + HASH_BLOCK + 5, DATA_BYTES + 73] {
        flip(&disk, at);
        let outcome = boot(&disk, &mount(&root), || unreachable!("it must not start"));
        assert_eq!(outcome.code, Some(125), "{}", outcome.console);
        flip(&disk, at);
    }
    assert_eq!(boot(&disk, &mount(&root), || {}).code, Some(0));
}

#[test]
fn changed_blocks_end_a_machine_that_asks_for_it() {
    let (disk, root) = made();
    flip(&disk, place_of(&disk, 3));
    let outcome = boot(&disk, &format!("{},panic", mount(&root)), || {
        let _ = sys!(pread64, open("/data/large", O_RDONLY), &Room::new(PAGE), PAGE, 3 * PAGE);
    });
    let is_told = outcome.console.contains("is not what it was when the hashes were made");
    assert!(is_told && outcome.code != Some(0), "{:?}: {}", outcome.code, outcome.console);
}
