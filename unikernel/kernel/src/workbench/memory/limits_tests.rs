//! Machines with little memory, and limits of setrlimit(2).

use alloc::string::String;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::Machine;
use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_on};
use super::{PAGE, READ, WRITE, file_of, map};

const MIB: usize = 1 << 20;

fn limit(resource: u32, soft: u64) {
    sys!(setrlimit, resource, &Room::of_longs(&[soft, u64::MAX])).unwrap();
}

fn small() -> Machine {
    Machine { ram_bytes: 16 * MIB, ..Machine::default() }
}

#[test]
fn more_memory_than_there_is_is_refused() {
    run_on(small(), || {
        assert_eq!(map(0, 64 * MIB, WRITE, 0), Err(ENOMEM));
        let place = Room(map(0, MIB, WRITE, 0).unwrap());
        place.put(MIB - 1, b"x");
    });
}

#[test]
fn memory_that_is_given_back_is_given_out_again() {
    run_on(small(), || {
        let bytes = [7; 64 * 1024];
        for _ in 0..20 {
            let place = Room(map(0, MIB, WRITE, 0).unwrap());
            for offset in (0..MIB).step_by(bytes.len()) {
                place.put(offset, &bytes);
            }
            sys!(munmap, place.0, MIB).unwrap();
        }
    });
}

#[test]
fn file_in_memory_ends_where_the_memory_does() {
    run_on(small(), || {
        let file = file_of(b"x");
        let bytes = Room::of(&[7; 64 * 1024]);
        let mut written = 0;
        let error = loop {
            match sys!(pwrite64, file, &bytes, 64 * 1024, written) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
            assert!(written < 16 * MIB as u64);
        };
        assert_eq!(error, ENOSPC);
        assert!(written > MIB as u64);
        // What was emptied can be filled again.
        sys!(ftruncate, file, 0).unwrap();
        assert_eq!(sys!(pwrite64, file, &bytes, 64 * 1024, 0), Ok(64 * 1024));
    });
}

#[test]
fn address_space_is_limited() {
    run(|| {
        let (file, text) = (sys!(open, "/proc/self/statm", O_RDONLY, 0).unwrap(), Room::new(64));
        let len = sys!(read, file, &text, 64).unwrap() as usize;
        let text = String::from_utf8(text.bytes(0, len)).unwrap();
        let used: usize = text.split(' ').next().unwrap().parse().unwrap();
        limit(RLIMIT_AS, (used * PAGE + 8 * MIB) as u64);
        assert_eq!(map(0, 16 * MIB, READ, 0), Err(ENOMEM));
        assert_eq!(map(0, 16 * MIB, PROT_NONE, MAP_NORESERVE), Err(ENOMEM));
        let place = map(0, MIB, WRITE, 0).unwrap();
        assert_eq!(sys!(mremap, place, MIB, 16 * MIB, MREMAP_MAYMOVE, 0), Err(ENOMEM));
        let end = sys!(brk, 0).unwrap();
        assert_eq!(sys!(brk, end + 16 * MIB as u64), Ok(end));
        // In the place of something else it is no more than before.
        assert_eq!(map(place, MIB, READ, MAP_FIXED), Ok(place));
    });
}

#[test]
fn data_is_limited() {
    run(|| {
        limit(RLIMIT_DATA, 2 * MIB as u64);
        assert_eq!(map(0, 4 * MIB, WRITE, 0), Err(ENOMEM));
        assert!(map(0, 4 * MIB, READ, 0).is_ok());
        let end = sys!(brk, 0).unwrap();
        assert_eq!(sys!(brk, end + 4 * MIB as u64), Ok(end));
    });
}

#[test]
fn files_are_limited() {
    run(|| {
        let ignore = Room::of_longs(&[1, 0, 0, 0]);
        sys!(rt_sigaction, SIGXFSZ, &ignore, 0, 8).unwrap();
        limit(RLIMIT_FSIZE, 10_000);
        let file = sys!(open, "/tmp/file", O_RDWR | O_CREAT, 0o600).unwrap();
        let bytes = Room::of(&[1; 8000]);
        assert_eq!(sys!(write, file, &bytes, 8000), Ok(8000));
        assert_eq!(sys!(write, file, &bytes, 8000), Ok(2000));
        assert_eq!(sys!(write, file, &bytes, 8000), Err(EFBIG));
        assert_eq!(sys!(write, file, &bytes, 0), Ok(0));
        assert_eq!(sys!(pwrite64, file, &bytes, 10, 9_999), Ok(1));
        assert_eq!(sys!(ftruncate, file, 10_001), Err(EFBIG));
        assert_eq!(sys!(fallocate, file, 0, 0, 10_001), Err(EFBIG));
        assert_eq!(sys!(ftruncate, file, 10_000), Ok(0));
    });
}

#[test]
fn locked_memory_is_limited_for_who_is_not_root() {
    run(|| {
        let place = map(0, 64 * PAGE, WRITE, 0).unwrap();
        sys!(setrlimit, RLIMIT_MEMLOCK, &Room::of_longs(&[8 * PAGE as u64, 8 * PAGE as u64])).unwrap();
        assert_eq!(sys!(mlock, place, 64 * PAGE), Ok(0));
        assert_eq!(sys!(munlock, place, 64 * PAGE), Ok(0));
        sys!(setuid, 65_534).unwrap();
        assert_eq!(sys!(mlock, place, 8 * PAGE), Ok(0));
        assert_eq!(sys!(mlock, place, 64 * PAGE), Err(ENOMEM));
        sys!(munlock, place, 64 * PAGE).unwrap();
        sys!(setrlimit, RLIMIT_MEMLOCK, &Room::of_longs(&[0, 0])).unwrap();
        assert_eq!(sys!(mlock, place, PAGE), Err(EPERM));
    });
}
