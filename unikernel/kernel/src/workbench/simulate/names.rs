//! Threads that make, link, rename and remove the same few names of a disk.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use unikernel_hal::sim::disk::{Disk, Faults};
use unikernel_hal::sim::engine::Random;

use super::disk::with_disk;
use super::judge;
use crate::workbench::app::{call, get, join, map, put, spawn, text};

const DISK_BYTES: usize = 8 << 20;
const NAMES: usize = 3;
const THREADS: u64 = 3;
const STEPS: usize = 40;

/// Free blocks and free inodes.
pub(super) fn free_space() -> (u64, u64) {
    let into = map(120);
    call(linux::__NR_statfs, &[text("/data"), into]).expect("statfs");
    let bytes = get(into, 120);
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (word(24), word(48))
}

/// Checks that so much is free again once all is written and closed.
pub(super) fn assert_free_space(before: (u64, u64)) {
    // The flusher may have some files in hand for a while.
    let wait = put(&[1u64, 0].map(u64::to_le_bytes).concat());
    for _ in 0..60 {
        call(linux::__NR_sync, &[]).expect("a sync");
        if free_space() == before {
            return;
        }
        call(linux::__NR_nanosleep, &[wait, 0]).expect("a sleep");
    }
    assert_eq!(free_space(), before, "free blocks and inodes");
}

/// Inode and number of links of what has a name.
fn stat(path: u64) -> Option<(u64, u64)> {
    let into = map(144);
    let outcome = call(linux::__NR_lstat, &[path, into]);
    let bytes = get(into, 24);
    call(linux::__NR_munmap, &[into, 144]).expect("the buffer goes");
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    outcome.ok().map(|_| (word(8), word(16)))
}

/// Another thread may be faster each time: any outcome is right that there is a name or that there is none.
fn step(paths: &[u64], random: &mut Random) {
    let mut path = || paths[random.below(paths.len() as u64) as usize];
    let (one, other) = (path(), path());
    let outcome = match random.below(10) {
        0..3 => call(linux::__NR_open, &[one, (linux::O_CREAT | linux::O_RDWR).into(), 0o600]).map(|file| {
            call(linux::__NR_write, &[file, one, 2]).expect("a write");
            call(linux::__NR_close, &[file]).expect("a file is closed")
        }),
        3..5 => call(linux::__NR_link, &[one, other]),
        5..7 => call(linux::__NR_rename, &[one, other]),
        7 => {
            let here = linux::AT_FDCWD as u64;
            call(linux::__NR_renameat2, &[here, one, here, other, linux::RENAME_EXCHANGE.into()])
        }
        8 => call(linux::__NR_symlink, &[other, one]),
        _ => call(linux::__NR_unlink, &[one]),
    };
    let expected = [linux_raw_sys::errno::ENOENT, linux_raw_sys::errno::EEXIST, linux_raw_sys::errno::ELOOP];
    if let Err(error) = outcome {
        assert!(expected.contains(&(error as u32)), "error {error}");
    }
}

/// Every name counts as one link, and nothing is left of those that are gone.
pub(super) fn fight(seed: u64) -> Result<(), String> {
    let disk = Disk::new(DISK_BYTES);
    judge(&with_disk(seed, true).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let before = free_space();
            let paths: Vec<u64> = (0..NAMES).map(|name| text(&format!("/data/{name}"))).collect();
            let start = |id| {
                let (paths, mut random) = (paths.clone(), Random::new(seed ^ id << 32));
                spawn(move || (0..STEPS).for_each(|_| step(&paths, &mut random))).expect("a thread")
            };
            let threads: Vec<_> = (1..=THREADS).map(start).collect();
            threads.into_iter().for_each(join);
            let found: Vec<_> = paths.iter().filter_map(|path| stat(*path)).collect();
            for (inode, links) in &found {
                let names = found.iter().filter(|(other, _)| other == inode).count();
                assert_eq!(*links, names as u64, "links of inode {inode}");
            }
            for path in paths {
                let _ = call(linux::__NR_unlink, &[path]);
            }
            assert_free_space(before);
            0
        },
    ))
}
