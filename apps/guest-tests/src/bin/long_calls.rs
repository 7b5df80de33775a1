//! Calls whose work is as long as a program likes hold up nobody else: while one runs, another thread goes on waking up in
//! time, and its pages come. On one processor that is about timers and turns, on two about locks. With DATA, also files of a disk.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr;

use guest_tests::held_up::Other;
use guest_tests::mapping::{Mapping, PAGE, READ, READ_WRITE, new_file};
use guest_tests::{check, check_eq};

const SHARED: i32 = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
const SPARSE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
const MIB: usize = 1 << 20;
const LONG: usize = 64 * MIB;

fn main() {
    let other = Other::start(touch_a_page);
    match std::env::var_os("DATA") {
        None => {
            mappings(&other);
            sparse_mappings(&other);
            many_mappings(&other);
            files_in_memory(&other);
            copies(&other);
            let limit = raise_descriptor_limit();
            polls(&other, limit);
            watches(&other, limit);
        }
        Some(data) => files_on_disk(&other, data.as_ref()),
    }
    println!("long_calls: all well");
}

/// One memory page goes and comes in each round.
fn touch_a_page() -> impl FnMut() {
    let page = map(PAGE, SPARSE);
    move || {
        // SAFETY: nobody has a reference to the page.
        check_eq!(unsafe { libc::madvise(page.start.cast(), PAGE, libc::MADV_DONTNEED) }, 0);
        check!(page.store(0, 1));
    }
}

fn map(len: usize, flags: i32) -> Mapping {
    map_at(ptr::null_mut(), len, READ_WRITE, flags)
}

fn map_at(at: *mut u8, len: usize, protection: i32, flags: i32) -> Mapping {
    // SAFETY: the kernel picks the place, or the test has made it free.
    let start = unsafe { libc::mmap(at.cast(), len, protection, flags, -1, 0) };
    check!(start != libc::MAP_FAILED);
    Mapping { start: start.cast(), len }
}

/// A mapping of small pages that are all there.
fn touched() -> Mapping {
    let mapping = map(LONG, SHARED);
    touch(&mapping);
    mapping
}

fn touch(mapping: &Mapping) {
    (0..mapping.len).step_by(PAGE).for_each(|at| check!(mapping.store(at, 1)));
}

fn advise(mapping: &Mapping, advice: i32) {
    // SAFETY: nobody has a reference to it.
    check_eq!(unsafe { libc::madvise(mapping.start.cast(), mapping.len, advice) }, 0);
}

fn protect(mapping: &Mapping, protection: i32) {
    // SAFETY: nobody has a reference to it.
    check_eq!(unsafe { libc::mprotect(mapping.start.cast(), mapping.len, protection) }, 0);
}

/// Moves a mapping to the place of another.
fn move_to(mut mapping: Mapping, place: Mapping) -> Mapping {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both are the test's own, and nobody has a reference to them.
    let start = unsafe { libc::mremap(mapping.start.cast(), mapping.len, mapping.len, flags, place.start) };
    check_eq!(start.cast(), place.start);
    std::mem::forget(place);
    mapping.start = start.cast();
    mapping
}

fn mappings(other: &Other) {
    other.is_not_held_up("munmap", touched, drop);
    let mapping = touched();
    other.is_not_held_up("madvise", || touch(&mapping), |()| advise(&mapping, libc::MADV_DONTNEED));
    other.is_not_held_up(
        "mprotect",
        || {
            protect(&mapping, READ_WRITE);
            touch(&mapping);
        },
        |()| protect(&mapping, READ),
    );
    protect(&mapping, READ_WRITE);
    other.is_not_held_up(
        "madvise(MADV_POPULATE_WRITE)",
        || advise(&mapping, libc::MADV_DONTNEED),
        |()| {
            advise(&mapping, 23);
        },
    );
    drop(mapping);
    let moved = RefCell::new(None);
    let prepare = || {
        drop(moved.take());
        (touched(), map(LONG, SPARSE))
    };
    other.is_not_held_up("mremap", prepare, |(mapping, place)| {
        moved.replace(Some(move_to(mapping, place)));
    });
    let moved = moved.into_inner().unwrap();
    check!((0..moved.len).step_by(PAGE).all(|at| moved.load(at) == Some(1)));
    drop(moved);
    moved_as_they_are();
    other.is_not_held_up("mremap to less", touched, |mut mapping| {
        // SAFETY: nobody has a reference to it.
        let start = unsafe { libc::mremap(mapping.start.cast(), mapping.len, PAGE, 0) };
        check_eq!(start.cast(), mapping.start);
        mapping.len = PAGE;
    });
    other.is_not_held_up("mmap in the place of another", touched, |mapping| {
        let new = map_at(mapping.start, mapping.len, READ, SPARSE | libc::MAP_FIXED);
        std::mem::forget(mapping);
        check_eq!(new.load(LONG / 2), Some(0));
    });
    other.is_not_held_up(
        "mlock",
        || map(LONG, SHARED),
        |mapping| {
            // SAFETY: no content changes.
            check_eq!(unsafe { libc::mlock(mapping.start.cast(), mapping.len) }, 0);
        },
    );
}

/// What a mapping has moves with it, small pages and large ones.
fn moved_as_they_are() {
    for flags in [SHARED, SPARSE] {
        let mapping = map(16 * MIB, flags);
        (0..mapping.len).step_by(3 * PAGE).for_each(|at| check!(mapping.store(at, (at / PAGE % 251) as u8)));
        let moved = move_to(mapping, map(16 * MIB, SPARSE));
        let is_there = |at: &usize| moved.load(*at) == Some((at / PAGE % 251) as u8);
        check!((0..moved.len).step_by(3 * PAGE).all(|at| is_there(&at)));
        check!((PAGE..moved.len).step_by(3 * PAGE).all(|at| moved.load(at) == Some(0)));
    }
}

/// Little is there, but it goes over a terabyte.
fn sparse_mappings(other: &Other) {
    const HUGE: usize = 1 << 40;
    let sparse = || {
        let mapping = map(HUGE, SPARSE);
        (0..HUGE).step_by(HUGE / 64).for_each(|at| check!(mapping.store(at, 7)));
        mapping
    };
    other.is_not_held_up("munmap of 1 TiB", sparse, drop);
    other.is_not_held_up(
        "mremap of 1 TiB",
        || (sparse(), map(HUGE, SPARSE)),
        |(mapping, place)| {
            let moved = move_to(mapping, place);
            check!((0..HUGE).step_by(HUGE / 64).all(|at| moved.load(at) == Some(7)));
            check_eq!(moved.load(PAGE * 99), Some(0));
        },
    );
    let mapping = sparse();
    other.is_not_held_up("mprotect of 1 TiB", || protect(&mapping, READ_WRITE), |()| protect(&mapping, READ));
    other.is_not_held_up("madvise of 1 TiB", || (), |()| advise(&mapping, libc::MADV_DONTNEED));
}

/// One mapping beside the other, each different from the next.
fn many_mappings(other: &Other) {
    const COUNT: usize = 30_000;
    let many = || {
        let mapping = map(COUNT * PAGE, SPARSE);
        for page in (0..COUNT).step_by(2) {
            check_eq!(mapping.protect(page * PAGE, READ), 0);
        }
        mapping
    };
    other.is_not_held_up("munmap of many mappings", many, drop);
    other.is_not_held_up("mprotect of many mappings", many, |mapping| protect(&mapping, READ_WRITE));
    other.is_not_held_up("mlock2 of many mappings", many, |mapping| {
        // SAFETY: no content changes. The flag is MLOCK_ONFAULT.
        check_eq!(unsafe { libc::syscall(libc::SYS_mlock2, mapping.start, mapping.len, 1) }, 0);
    });
}

fn memory_file(len: usize) -> File {
    // SAFETY: the descriptor is new, and nobody else's.
    let file = unsafe { File::from(OwnedFd::from_raw_fd(libc::memfd_create(c"long".as_ptr(), 0))) };
    let bytes = vec![b'm'; MIB];
    (0..len / MIB).for_each(|at| file.write_all_at(&bytes, (at * MIB) as u64).unwrap());
    file
}

fn files_in_memory(other: &Other) {
    other.is_not_held_up("close of a file in memory", || memory_file(LONG), drop);
    other.is_not_held_up(
        "ftruncate of a mapped file in memory",
        || {
            let file = memory_file(LONG);
            let mapping = Mapping::shared(&file, LONG / PAGE);
            touch(&mapping);
            (file, mapping)
        },
        |(file, _mapping)| file.set_len(0).unwrap(),
    );
    let file = memory_file(LONG);
    other.is_not_held_up(
        "fallocate(FALLOC_FL_PUNCH_HOLE)",
        || (),
        |()| {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            // SAFETY: only the descriptor is used.
            check_eq!(unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, LONG as i64) }, 0);
        },
    );
    drop(file);
    other.is_not_held_up(
        "fallocate",
        || memory_file(MIB),
        |file| {
            // SAFETY: only the descriptor is used.
            check_eq!(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, LONG as i64) }, 0);
        },
    );
}

fn copies(other: &Other) {
    let file = memory_file(LONG / 2);
    let mut bytes = vec![1; LONG / 2];
    other.is_not_held_up("pread", || (), |()| file.read_exact_at(&mut bytes, 0).unwrap());
    other.is_not_held_up("pwrite", || (), |()| check_eq!(file.write_at(&bytes, 0).unwrap(), bytes.len()));
    let zeros = File::open("/dev/zero").unwrap();
    other.is_not_held_up("read of /dev/zero", || (), |()| zeros.read_exact_at(&mut bytes, 0).unwrap());
    other.is_not_held_up(
        "getrandom",
        || (),
        |()| {
            // SAFETY: the range is the vector's.
            check_eq!(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), 2 * MIB, 0) }, 2 * MIB as isize);
        },
    );
    other.is_not_held_up(
        "copy_file_range",
        || memory_file(0),
        |target| {
            let (from, to) = (file.as_raw_fd(), target.as_raw_fd());
            // SAFETY: only the descriptors are used.
            let copied = unsafe { libc::copy_file_range(from, &mut 0, to, &mut 0, LONG / 2, 0) };
            check_eq!(copied, (LONG / 2) as isize);
        },
    );
    other.is_not_held_up(
        "sendfile",
        || memory_file(0),
        |target| {
            // SAFETY: only the descriptors are used.
            let copied = unsafe { libc::sendfile(target.as_raw_fd(), file.as_raw_fd(), &mut 0, LONG / 2) };
            check_eq!(copied, (LONG / 2) as isize);
        },
    );
}

/// Has the program use as many descriptors as it may; answers how many.
fn raise_descriptor_limit() -> usize {
    // SAFETY: the calls use what they are given here.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        check_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur as usize
    }
}

/// As many descriptors as the limit allows, or a quarter of a million.
fn polls(other: &Other, limit: usize) {
    let count = limit.min(1 << 18);
    let file = memory_file(0);
    let mut entries = vec![libc::pollfd { fd: file.as_raw_fd(), events: 0, revents: 0 }; count];
    other.is_not_held_up(
        "poll of many",
        || (),
        |()| {
            // SAFETY: the array has so many entries.
            check_eq!(unsafe { libc::poll(entries.as_mut_ptr(), count as libc::nfds_t, 0) }, 0);
        },
    );
}

/// Many watches of an epoll instance, on one open file by many descriptors.
fn watches(other: &Other, limit: usize) {
    // Those of two rounds are there at once.
    let count = (limit / 3).min(20_000);
    let watched = || {
        // SAFETY: the descriptors are new, and nobody else's.
        let (event, epoll) = unsafe {
            let event = OwnedFd::from_raw_fd(libc::eventfd(0, 0));
            (event, OwnedFd::from_raw_fd(libc::epoll_create1(0)))
        };
        let mut copies: Vec<OwnedFd> = (1..count).map(|_| event.try_clone().unwrap()).collect();
        copies.push(event);
        for copy in &copies {
            let mut interest = libc::epoll_event { events: libc::EPOLLOUT as u32, u64: 7 };
            // SAFETY: the call reads what it is given here.
            let added = unsafe {
                libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, copy.as_raw_fd(), &mut interest)
            };
            check_eq!(added, 0);
        }
        (epoll, copies)
    };
    let copies = RefCell::new(Vec::new());
    other.is_not_held_up(
        "close of an epoll instance",
        || {
            let (epoll, watched) = watched();
            copies.replace(watched);
            epoll
        },
        drop,
    );
    // With the last descriptor go the watches on all.
    other.is_not_held_up(
        "close of a watched file",
        || {
            let (epoll, mut watched) = watched();
            watched.truncate(1);
            (epoll, watched.remove(0))
        },
        |(epoll, last)| {
            drop(last);
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: the array has one element.
            check_eq!(unsafe { libc::epoll_wait(epoll.as_raw_fd(), &mut event, 1, 0) }, 0);
        },
    );
}

fn files_on_disk(other: &Other, data: &std::path::Path) {
    const LEN: usize = 32 * MIB;
    let folder = data.join("long_calls");
    std::fs::create_dir_all(&folder).unwrap();
    let file = new_file(&folder, "file", &vec![b'd'; LEN]);
    file.sync_all().unwrap();
    let mapping = Mapping::shared(&file, LEN / PAGE);
    other.is_not_held_up("fsync of a mapped file", || touch(&mapping), |()| file.sync_all().unwrap());
    other.is_not_held_up("munmap of a file", || touch(&mapping), |()| advise(&mapping, libc::MADV_DONTNEED));
    let mut bytes = vec![0; LEN];
    other.is_not_held_up("pread of a file", || (), |()| file.read_exact_at(&mut bytes, 0).unwrap());
    other.is_not_held_up("pwrite of a file", || (), |()| file.write_all_at(&bytes, 0).unwrap());
    drop(mapping);
    other.is_not_held_up(
        "posix_fadvise(POSIX_FADV_DONTNEED)",
        || {
            file.sync_all().unwrap();
            file.read_exact_at(&mut bytes, 0).unwrap();
        },
        |()| {
            let advice = libc::POSIX_FADV_DONTNEED;
            // SAFETY: only the descriptor is used.
            check_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, advice) }, 0);
        },
    );
    other.is_not_held_up(
        "ftruncate of a mapped file",
        || {
            file.write_all_at(&vec![b'd'; LEN], 0).unwrap();
            file.sync_all().unwrap();
            let mapping = Mapping::shared(&file, LEN / PAGE);
            touch(&mapping);
            mapping
        },
        |_mapping| file.set_len(0).unwrap(),
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
