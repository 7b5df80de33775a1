//! Files in memory without a name, and their seals.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{Answer, run, run_seeds};
use super::super::app::{join, spawn};
use super::{Stat, open};

const F_SEAL_EXEC: u32 = 0x20;
const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 0x10;
const LEN: u64 = 4 * 4096;

fn sealable() -> u64 {
    let file = sys!(memfd_create, "sealed", MFD_ALLOW_SEALING).unwrap();
    sys!(ftruncate, file, LEN).unwrap();
    file
}

fn add(file: u64, seals: u32) -> Answer {
    sys!(fcntl, file, F_ADD_SEALS, seals)
}

fn seals(file: u64) -> Answer {
    sys!(fcntl, file, F_GET_SEALS)
}

fn map_shared(file: u64, protection: u32) -> Answer {
    sys!(mmap, 0, 4096, protection, MAP_SHARED, file, 0)
}

#[test]
fn names_and_flags_are_checked() {
    run(|| {
        assert!(sys!(memfd_create, &*"n".repeat(249), 0).is_ok());
        assert_eq!(sys!(memfd_create, &*"n".repeat(250), 0), Err(EINVAL));
        for flags in [0x20, 1 << 31, MFD_EXEC | MFD_NOEXEC_SEAL] {
            assert_eq!(sys!(memfd_create, "flags", flags), Err(EINVAL));
        }
        assert_eq!(sys!(memfd_create, 1, 0), Err(EFAULT));
        let file = sys!(memfd_create, "x", MFD_CLOEXEC).unwrap();
        assert_eq!(sys!(fcntl, file, F_GETFD), Ok(1));
        let room = Room::new(64);
        let len = sys!(readlink, &*std::format!("/proc/self/fd/{file}"), &room, 64).unwrap();
        assert_eq!(room.bytes(0, len as usize), b"/memfd:x (deleted)");
    });
}

#[test]
fn files_begin_with_seals() {
    run(|| {
        let plain = sys!(memfd_create, "plain", 0).unwrap();
        assert_eq!((seals(plain), add(plain, F_SEAL_SHRINK)), (Ok(F_SEAL_SEAL.into()), Err(EPERM)));
        assert_eq!(add(plain, 0x40), Err(EINVAL));
        let file = sealable();
        let read_only = open(&std::format!("/proc/self/fd/{file}"), O_RDONLY);
        assert_eq!((add(read_only, F_SEAL_SHRINK), seals(read_only)), (Err(EPERM), Ok(0)));
        assert_eq!((add(file, F_SEAL_SHRINK), seals(read_only)), (Ok(0), Ok(F_SEAL_SHRINK.into())));
        assert_eq!((add(file, F_SEAL_SEAL), add(file, F_SEAL_WRITE)), (Ok(0), Err(EPERM)));
        let device = open("/dev/null", O_WRONLY);
        assert_eq!((seals(device), add(device, F_SEAL_SHRINK)), (Err(EINVAL), Err(EINVAL)));
    });
}

#[test]
fn sealed_lengths_are_kept() {
    run(|| {
        let file = sealable();
        add(file, F_SEAL_SHRINK).unwrap();
        assert_eq!((sys!(ftruncate, file, LEN - 1), sys!(ftruncate, file, LEN + 1)), (Err(EPERM), Ok(0)));
        add(file, F_SEAL_GROW).unwrap();
        assert_eq!((sys!(ftruncate, file, LEN + 1), sys!(ftruncate, file, LEN + 2)), (Ok(0), Err(EPERM)));
        let path = std::format!("/proc/self/fd/{file}");
        assert_eq!(sys!(open, &*path, O_WRONLY | O_TRUNC, 0), Err(EPERM));
        assert_eq!(sys!(fallocate, file, 0, 0, 8 * LEN), Err(EPERM));
        assert_eq!(sys!(fallocate, file, FALLOC_FL_KEEP_SIZE, 0, 8 * LEN), Err(EPERM));
        assert_eq!(sys!(fallocate, file, 0, 0, LEN), Ok(0));
    });
}

#[test]
fn growth_ends_where_the_file_does() {
    run(|| {
        let file = sys!(memfd_create, "grown", MFD_ALLOW_SEALING).unwrap();
        sys!(ftruncate, file, 4196).unwrap();
        add(file, F_SEAL_GROW).unwrap();
        let bytes = Room::of(&[7; 3 * 4096]);
        // A page at a time, as on Linux: the one that would end behind the file is refused as a whole.
        assert_eq!(sys!(write, file, &bytes, 3 * 4096), Ok(4096));
        assert_eq!(sys!(pwrite64, file, &bytes, 200, 4096), Err(EPERM));
        assert_eq!(sys!(pwrite64, file, &bytes, 100, 4096), Ok(100));
        assert_eq!(sys!(pwrite64, file, &bytes, 0, 9000), Ok(0));
        assert_eq!(Stat::of_file(file).len(), 4196);
    });
}

#[test]
fn sealed_content_is_kept() {
    run(|| {
        for seal in [F_SEAL_WRITE, F_SEAL_FUTURE_WRITE] {
            let file = sealable();
            sys!(pwrite64, file, &Room::of(b"abc"), 3, 0).unwrap();
            add(file, seal).unwrap();
            assert_eq!(sys!(pwrite64, file, &Room::of(b"x"), 1, 0), Err(EPERM));
            assert_eq!(sys!(pwrite64, file, &Room::of(b"x"), 0, 0), Ok(0));
            let punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
            assert_eq!(sys!(fallocate, file, punch, 0, 4096), Err(EPERM));
            assert_eq!(map_shared(file, PROT_READ | PROT_WRITE), Err(EPERM));
            let place = map_shared(file, PROT_READ).unwrap();
            assert_eq!(Room(place).bytes(0, 3), b"abc");
            assert_eq!(sys!(mprotect, place, 4096, PROT_READ | PROT_WRITE), Err(EACCES));
            assert_eq!(sys!(ftruncate, file, LEN + 5), Ok(0));
        }
    });
}

#[test]
fn writable_mappings_are_in_the_way_of_the_seal() {
    run(|| {
        let file = sealable();
        let place = map_shared(file, PROT_READ | PROT_WRITE).unwrap();
        assert_eq!((add(file, F_SEAL_WRITE), seals(file)), (Err(EBUSY), Ok(0)));
        assert_eq!(add(file, F_SEAL_FUTURE_WRITE), Ok(0));
        Room(place).put(0, b"m");
        sys!(munmap, place, 4096).unwrap();
        assert_eq!(add(file, F_SEAL_WRITE), Ok(0));
        let byte = Room::new(1);
        sys!(pread64, file, &byte, 1, 0).unwrap();
        assert_eq!(byte.byte(0), b'm');
    });
}

#[test]
fn permission_to_execute_is_sealed() {
    run(|| {
        let file = sys!(memfd_create, "data", MFD_NOEXEC_SEAL).unwrap();
        assert_eq!((Stat::of_file(file).mode() & 0o777, seals(file)), (0o666, Ok(F_SEAL_EXEC.into())));
        assert_eq!((sys!(fchmod, file, 0o777), sys!(fchmod, file, 0o600)), (Err(EPERM), Ok(0)));
        let file = sys!(memfd_create, "code", MFD_EXEC | MFD_ALLOW_SEALING).unwrap();
        assert_eq!(Stat::of_file(file).mode() & 0o777, 0o777);
        assert_eq!(add(file, F_SEAL_EXEC), Ok(0));
        assert_eq!(sys!(fchmod, file, 0o666), Err(EPERM));
    });
}

#[test]
fn sealing_wins_over_a_writer() {
    run_seeds(6, || {
        let file = sealable();
        let thread = spawn(move || {
            let room = Room::of(&[1; 64]);
            while sys!(pwrite64, file, &room, 64, 0) != Err(EPERM) {}
        });
        let thread = thread.unwrap();
        while add(file, F_SEAL_WRITE) == Err(EBUSY) {}
        let (before, after) = (Room::new(64), Room::new(64));
        sys!(pread64, file, &before, 64, 0).unwrap();
        sys!(sched_yield).unwrap();
        join(thread);
        sys!(pread64, file, &after, 64, 0).unwrap();
        assert_eq!(before.bytes(0, 64), after.bytes(0, 64));
    });
}
