//! mmap(2) and what follows it.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run_on_each_filesystem, run_seeds};
use super::super::app::{join, spawn};
use super::{PAGE, PRIVATE, READ, WRITE, byte_of, file_of, map, map_file};

#[test]
fn new_memory_is_zero_and_writable() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, 3 * PAGE, WRITE, 0).unwrap());
        assert_eq!(place.0 % PAGE as u64, 0);
        assert_eq!(place.bytes(PAGE - 2, 4), [0; 4]);
        place.put(PAGE - 2, b"abcd");
        assert_eq!(place.bytes(PAGE - 2, 4), b"abcd");
    });
}

#[test]
fn arguments_of_mmap_are_checked() {
    run_on_each_filesystem(|| {
        assert_eq!(map(0, 0, WRITE, 0), Err(EINVAL));
        assert_eq!(sys!(mmap, 0, PAGE, WRITE, MAP_ANONYMOUS, -1, 0), Err(EINVAL));
        assert_eq!(sys!(mmap, 0, PAGE, WRITE, PRIVATE, -1, 1), Err(EINVAL));
        assert_eq!(sys!(mmap, 0, PAGE, WRITE, MAP_PRIVATE, 99, 0), Err(EBADF));
        assert_eq!(sys!(mmap, 1, PAGE, WRITE, PRIVATE | MAP_FIXED, -1, 0), Err(EINVAL));
        assert_eq!(sys!(mmap, 1_u64 << 47, PAGE, WRITE, PRIVATE | MAP_FIXED, -1, 0), Err(ENOMEM));
        assert_eq!(map(0, 1 << 47, READ, 0), Err(ENOMEM));
        assert_eq!(
            sys!(mmap, 0, PAGE, READ, MAP_SHARED_VALIDATE | 1 << 25, file_of(b"x"), 0),
            Err(EOPNOTSUPP)
        );
    });
}

#[test]
fn access_of_the_file_bounds_the_mapping() {
    run_on_each_filesystem(|| {
        let path = "/tmp/file";
        let writer = sys!(open, path, O_WRONLY | O_CREAT, 0o600).unwrap();
        let reader = sys!(open, path, O_RDONLY, 0).unwrap();
        assert_eq!(map_file(writer, PAGE, READ, MAP_SHARED), Err(EACCES));
        assert_eq!(map_file(reader, PAGE, WRITE, MAP_SHARED), Err(EACCES));
        assert!(map_file(reader, PAGE, WRITE, MAP_PRIVATE).is_ok());
        let place = map_file(reader, PAGE, READ, MAP_SHARED).unwrap();
        assert_eq!(sys!(mprotect, place, PAGE, WRITE), Err(EACCES));
        let pipe = Room::new(8);
        sys!(pipe, &pipe).unwrap();
        assert_eq!(map_file(pipe.word(0).into(), PAGE, READ, MAP_PRIVATE), Err(ENODEV));
    });
}

#[test]
fn fixed_place_replaces_what_is_there() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, 3 * PAGE, WRITE, 0).unwrap());
        place.put(0, &[7; 3 * PAGE]);
        assert_eq!(map(place.at(PAGE), PAGE, WRITE, MAP_FIXED), Ok(place.at(PAGE)));
        assert_eq!((place.byte(PAGE - 1), place.byte(PAGE), place.byte(2 * PAGE)), (7, 0, 7));
        assert_eq!(map(place.at(PAGE), PAGE, WRITE, MAP_FIXED_NOREPLACE), Err(EEXIST));
        sys!(munmap, place.at(PAGE), PAGE).unwrap();
        assert_eq!(map(place.at(PAGE), PAGE, WRITE, MAP_FIXED_NOREPLACE), Ok(place.at(PAGE)));
    });
}

#[test]
fn munmap_takes_the_middle_out() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, 3 * PAGE, WRITE, 0).unwrap());
        place.put(0, &[7; 3 * PAGE]);
        assert_eq!(sys!(munmap, place.at(PAGE), PAGE), Ok(0));
        // What is gone already is no error.
        assert_eq!(sys!(munmap, place.at(PAGE), PAGE), Ok(0));
        assert_eq!((place.byte(PAGE - 1), place.byte(2 * PAGE)), (7, 7));
        assert_eq!(sys!(write, 1, place.at(PAGE), 1), Err(EFAULT));
        assert_eq!(sys!(munmap, place.at(1), PAGE), Err(EINVAL));
        assert_eq!(sys!(munmap, place.0, 0), Err(EINVAL));
    });
}

#[test]
fn protection_is_kept_by_calls_too() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, 2 * PAGE, WRITE, 0).unwrap());
        let zero = sys!(open, "/dev/zero", O_RDONLY, 0).unwrap();
        assert_eq!(sys!(mprotect, place.0, PAGE, READ), Ok(0));
        assert_eq!(sys!(read, zero, place.0, 8), Err(EFAULT));
        assert_eq!(sys!(read, zero, place.at(PAGE), 8), Ok(8));
        assert_eq!(sys!(mprotect, place.0, PAGE, PROT_NONE), Ok(0));
        let null = sys!(open, "/tmp/sink", O_WRONLY | O_CREAT, 0o600).unwrap();
        assert_eq!(sys!(write, null, place.0, 8), Err(EFAULT));
        assert_eq!(sys!(mprotect, place.0, 2 * PAGE, WRITE), Ok(0));
        assert_eq!(sys!(read, zero, place.0, 8), Ok(8));
    });
}

#[test]
fn arguments_of_mprotect_are_checked() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, 2 * PAGE, WRITE, 0).unwrap());
        assert_eq!(sys!(mprotect, place.at(1), PAGE, READ), Err(EINVAL));
        assert_eq!(sys!(mprotect, place.0, PAGE, 1 << 20), Err(EINVAL));
        assert_eq!(sys!(mprotect, place.0, 0, READ), Ok(0));
        sys!(munmap, place.at(PAGE), PAGE).unwrap();
        assert_eq!(sys!(mprotect, place.0, 2 * PAGE, READ), Err(ENOMEM));
    });
}

#[test]
fn memory_is_not_writable_and_executable_at_once() {
    run_on_each_filesystem(|| {
        assert!(map(0, PAGE, PROT_READ | PROT_EXEC, 0).is_ok());
        let both = map(0, PAGE, WRITE | PROT_EXEC, 0);
        assert!(matches!(both, Err(EACCES | EPERM)), "{both:?}");
        let place = map(0, PAGE, WRITE, 0).unwrap();
        let both = sys!(mprotect, place, PAGE, WRITE | PROT_EXEC);
        assert!(matches!(both, Err(EACCES | EPERM)), "{both:?}");
    });
}

#[test]
fn mremap_grows_shrinks_and_moves() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, 4 * PAGE, WRITE, 0).unwrap());
        place.put(0, b"content");
        assert_eq!(sys!(mremap, place.0, 4 * PAGE, 2 * PAGE, 0, 0), Ok(place.0));
        assert_eq!(map(place.at(2 * PAGE), PAGE, WRITE, MAP_FIXED_NOREPLACE), Ok(place.at(2 * PAGE)));
        assert_eq!(sys!(mremap, place.0, 2 * PAGE, 4 * PAGE, 0, 0), Err(ENOMEM));
        let moved = Room(sys!(mremap, place.0, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE, 0).unwrap());
        assert_ne!(moved.0, place.0);
        assert_eq!((moved.bytes(0, 7), moved.byte(3 * PAGE)), (b"content".to_vec(), 0));
        assert_eq!(sys!(write, 1, place.0, 1), Err(EFAULT));
    });
}

#[test]
fn mremap_goes_where_it_is_told() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, PAGE, WRITE, 0).unwrap());
        let target = map(0, PAGE, WRITE, 0).unwrap();
        place.put(0, b"moved");
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
        assert_eq!(sys!(mremap, place.0, PAGE, PAGE, MREMAP_FIXED, target), Err(EINVAL));
        assert_eq!(sys!(mremap, place.0, PAGE, PAGE, flags, target + 1), Err(EINVAL));
        assert_eq!(sys!(mremap, place.0, PAGE, 0, flags, target), Err(EINVAL));
        assert_eq!(sys!(mremap, place.0, PAGE, PAGE, flags, target), Ok(target));
        assert_eq!(Room(target).bytes(0, 5), b"moved");
        assert_eq!(sys!(mremap, place.0, PAGE, PAGE, MREMAP_MAYMOVE, 0), Err(EFAULT));
        // What is moved may leave an empty mapping behind.
        let flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
        let moved = Room(sys!(mremap, target, PAGE, PAGE, flags, 0).unwrap());
        assert_eq!((moved.byte(0), Room(target).byte(0)), (b'm', 0));
    });
}

#[test]
fn madvise_gives_pages_back() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, 2 * PAGE, WRITE, 0).unwrap());
        place.put(0, &[7; 2 * PAGE]);
        assert_eq!(sys!(madvise, place.0, PAGE, MADV_DONTNEED), Ok(0));
        assert_eq!((place.byte(0), place.byte(PAGE)), (0, 7));
        let file = file_of(&[1; PAGE]);
        let shared = Room(map_file(file, PAGE, WRITE, MAP_SHARED).unwrap());
        shared.put(0, b"s");
        assert_eq!(sys!(madvise, shared.0, PAGE, MADV_DONTNEED), Ok(0));
        assert_eq!(shared.byte(0), b's');
        let copy = Room(map_file(file, PAGE, WRITE, MAP_PRIVATE).unwrap());
        copy.put(0, b"c");
        assert_eq!(sys!(madvise, copy.0, PAGE, MADV_DONTNEED), Ok(0));
        assert_eq!(copy.byte(0), b's');
        assert_eq!(sys!(madvise, place.at(1), PAGE, MADV_DONTNEED), Err(EINVAL));
        assert_eq!(sys!(madvise, place.0, PAGE, 9999), Err(EINVAL));
        assert_eq!(sys!(madvise, place.0, PAGE, MADV_WILLNEED), Ok(0));
        sys!(munmap, place.0, PAGE).unwrap();
        assert_eq!(sys!(madvise, place.0, 2 * PAGE, MADV_DONTNEED), Err(ENOMEM));
    });
}

#[test]
fn mincore_tells_which_pages_are_there() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, 64 * PAGE, READ, 0).unwrap());
        let present = Room::of(&[0xff; 64]);
        assert_eq!(sys!(mincore, place.0, 64 * PAGE, &present), Ok(0));
        assert!(present.bytes(0, 64).iter().all(|byte| byte & 1 == 0));
        assert_eq!(place.byte(2 * PAGE), 0);
        assert_eq!(sys!(mincore, place.0, 64 * PAGE, &present), Ok(0));
        // Its neighbours may have come with it.
        assert_eq!((present.byte(2) & 1, present.byte(63) & 1), (1, 0));
        assert_eq!(sys!(mincore, place.at(1), PAGE, &present), Err(EINVAL));
        assert_eq!(sys!(mincore, place.0, PAGE, 1), Err(EFAULT));
        sys!(munmap, place.0, PAGE).unwrap();
        assert_eq!(sys!(mincore, place.0, PAGE, &present), Err(ENOMEM));
    });
}

#[test]
fn locked_memory_is_there() {
    run_on_each_filesystem(|| {
        let place = Room(map(0, 2 * PAGE, WRITE, 0).unwrap());
        let present = Room::new(2);
        assert_eq!(sys!(mlock, place.0, 2 * PAGE), Ok(0));
        sys!(mincore, place.0, 2 * PAGE, &present).unwrap();
        assert_eq!(present.bytes(0, 2), [1, 1]);
        assert_eq!(sys!(madvise, place.0, PAGE, MADV_DONTNEED), Err(EINVAL));
        assert_eq!(sys!(munlock, place.0, 2 * PAGE), Ok(0));
        assert_eq!(sys!(madvise, place.0, PAGE, MADV_DONTNEED), Ok(0));
        assert_eq!(sys!(mlock2, place.0, PAGE, 1), Ok(0));
        assert_eq!(sys!(mlock2, place.0, PAGE, 2), Err(EINVAL));
        assert_eq!(sys!(mlockall, 0), Err(EINVAL));
        assert_eq!(sys!(mlockall, MCL_CURRENT), Ok(0));
        assert_eq!(sys!(munlockall), Ok(0));
        sys!(munmap, place.0, PAGE).unwrap();
        assert_eq!(sys!(mlock, place.0, 2 * PAGE), Err(ENOMEM));
    });
}

#[test]
fn shared_mappings_are_the_file() {
    run_on_each_filesystem(|| {
        let file = file_of(b"0123456789");
        let shared = Room(map_file(file, PAGE, WRITE, MAP_SHARED).unwrap());
        let second = Room(map_file(file, PAGE, READ, MAP_SHARED).unwrap());
        shared.put(2, b"xy");
        assert_eq!((byte_of(file, 2), second.bytes(0, 5)), (b'x', b"01xy4".to_vec()));
        sys!(pwrite64, file, &Room::of(b"w"), 1, 0).unwrap();
        assert_eq!(shared.byte(0), b'w');
        let copy = Room(map_file(file, PAGE, WRITE, MAP_PRIVATE).unwrap());
        copy.put(0, b"p");
        assert_eq!((byte_of(file, 0), shared.byte(0), copy.byte(0)), (b'w', b'w', b'p'));
        // The mapping lives on without its descriptor.
        sys!(close, file).unwrap();
        shared.put(0, b"q");
        assert_eq!(second.byte(0), b'q');
    });
}

#[test]
fn msync_checks_what_it_is_given() {
    run_on_each_filesystem(|| {
        let file = file_of(&[0; 2 * PAGE]);
        let place = map_file(file, 2 * PAGE, WRITE, MAP_SHARED).unwrap();
        assert_eq!(sys!(msync, place, 2 * PAGE, MS_SYNC), Ok(0));
        assert_eq!(sys!(msync, place, PAGE, MS_ASYNC | MS_INVALIDATE), Ok(0));
        assert_eq!(sys!(msync, place, PAGE, MS_ASYNC | MS_SYNC), Err(EINVAL));
        assert_eq!(sys!(msync, place, PAGE, 8), Err(EINVAL));
        assert_eq!(sys!(msync, place + 1, PAGE, MS_SYNC), Err(EINVAL));
        sys!(munmap, place + PAGE as u64, PAGE).unwrap();
        assert_eq!(sys!(msync, place, 2 * PAGE, MS_SYNC), Err(ENOMEM));
    });
}

#[test]
fn file_is_read_into_its_own_mapping() {
    run_on_each_filesystem(|| {
        let file = file_of(&[b'a'; 2 * PAGE]);
        let place = Room(map_file(file, 2 * PAGE, WRITE, MAP_SHARED).unwrap());
        sys!(pwrite64, file, &Room::of(b"begin"), 5, 0).unwrap();
        assert_eq!(sys!(pread64, file, place.at(PAGE), PAGE, 0), Ok(PAGE as u64));
        assert_eq!(sys!(pwrite64, file, place.0, 5, 10), Ok(5));
        assert_eq!(place.bytes(PAGE, 6), b"begina");
        assert_eq!(place.bytes(10, 5), b"begin");
    });
}

#[test]
fn shared_memory_without_a_file() {
    run_on_each_filesystem(|| {
        let flags = MAP_SHARED | MAP_ANONYMOUS;
        let place = Room(sys!(mmap, 0, PAGE, WRITE, flags, -1, 0).unwrap());
        let thread = spawn(move || place.put(0, b"other"));
        join(thread.unwrap());
        assert_eq!(place.bytes(0, 5), b"other");
    });
}

#[test]
fn break_moves_both_ways() {
    run_on_each_filesystem(|| {
        let start = sys!(brk, 0).unwrap();
        assert_eq!(sys!(brk, start + 10_000), Ok(start + 10_000));
        Room(start).put(9_990, b"x");
        assert_eq!(sys!(brk, start + 100), Ok(start + 100));
        assert_eq!(sys!(brk, start + 10_000), Ok(start + 10_000));
        assert_eq!(Room(start).byte(9_990), 0);
        // What cannot be is answered by where it is.
        assert_eq!(sys!(brk, 1), Ok(start + 10_000));
        assert_eq!(sys!(brk, 1_u64 << 47), Ok(start + 10_000));
    });
}

#[test]
fn membarrier_wants_to_be_announced() {
    run_seeds(6, || {
        const PRIVATE_EXPEDITED: u64 = 1 << 3;
        const REGISTER_PRIVATE_EXPEDITED: u64 = 1 << 4;
        assert_ne!(sys!(membarrier, 0, 0).unwrap() & PRIVATE_EXPEDITED, 0);
        assert_eq!(sys!(membarrier, PRIVATE_EXPEDITED, 0), Err(EPERM));
        assert_eq!(sys!(membarrier, REGISTER_PRIVATE_EXPEDITED, 0), Ok(0));
        let thread = spawn(|| assert_eq!(sys!(sched_yield), Ok(0))).unwrap();
        assert_eq!(sys!(membarrier, PRIVATE_EXPEDITED, 0), Ok(0));
        join(thread);
        assert_eq!(sys!(membarrier, 1_u64 << 30, 0), Err(EINVAL));
        assert_eq!(sys!(membarrier, PRIVATE_EXPEDITED, 9), Err(EINVAL));
    });
}

#[test]
fn protection_keys_need_a_processor_that_has_them() {
    run_on_each_filesystem(|| {
        let place = map(0, PAGE, WRITE, 0).unwrap();
        assert_eq!(sys!(pkey_mprotect, place, PAGE, READ, -1), Ok(0));
        let zero = sys!(open, "/dev/zero", O_RDONLY, 0).unwrap();
        assert_eq!(sys!(read, zero, place, 8), Err(EFAULT));
        assert_eq!(sys!(pkey_alloc, 1, 0), Err(EINVAL));
        assert_eq!(sys!(pkey_free, 9), Err(EINVAL));
        match sys!(pkey_alloc, 0, 0) {
            Ok(key) => {
                assert_eq!(sys!(pkey_mprotect, place, PAGE, READ, key), Ok(0));
                assert_eq!(sys!(pkey_free, key), Ok(0));
            }
            Err(error) => assert_eq!(error, ENOSPC),
        }
    });
}

#[test]
fn threads_map_and_unmap_at_once() {
    fn turn(byte: u8) {
        for _ in 0..10 {
            let place = Room(map(0, 2 * PAGE, WRITE, 0).unwrap());
            place.put(PAGE - 4, &[byte; 8]);
            assert_eq!(place.bytes(PAGE - 4, 8), [byte; 8]);
            assert_eq!(sys!(munmap, place.0, 2 * PAGE), Ok(0));
        }
    }
    run_seeds(6, || {
        let threads = [1, 2].map(|byte| spawn(move || turn(byte)).unwrap());
        turn(3);
        threads.into_iter().for_each(join);
    });
}
