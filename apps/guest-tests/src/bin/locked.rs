//! Memory that is locked (mlock(2) and its relatives): what is there then, what may be done with it, and that `msync` tells
//! of it.

use std::fs;
use std::ptr;

use guest_tests::mapping::{Mapping, PAGE, READ, READ_WRITE, new_file};
use guest_tests::{check, check_eq, errno};

const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
const SYNC: i32 = libc::MS_SYNC;
const ASYNC: i32 = libc::MS_ASYNC;
const INVALIDATE: i32 = libc::MS_INVALIDATE;
const DONTNEED_LOCKED: i32 = 24;
const MLOCK_ONFAULT: u32 = 1;
const MCL_ONFAULT: i32 = 4;

fn main() {
    syncing_says_what_is_wrong();
    synced_behind_a_hole();
    discarded_only_if_asked();
    present_once_locked();
    new_memory_is_locked();
    locks_move_with_their_pages();
    counted();
    println!("locked: all well");
}

fn map(pages: usize, protection: i32, flags: i32) -> Mapping {
    // SAFETY: the kernel picks the place.
    let start = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, protection, flags, -1, 0) };
    check!(start != libc::MAP_FAILED);
    Mapping { start: start.cast(), len: pages * PAGE }
}

fn outcome(result: i32) -> i32 {
    if result == 0 { 0 } else { errno() }
}

fn sync(at: *mut u8, pages: usize, flags: i32) -> i32 {
    // SAFETY: nothing but the pages' safety changes.
    outcome(unsafe { libc::msync(at.cast(), pages * PAGE, flags) })
}

fn lock(at: *mut u8, pages: usize) -> i32 {
    // SAFETY: no content changes.
    outcome(unsafe { libc::mlock(at.cast(), pages * PAGE) })
}

fn lock_on_touch(at: *mut u8, pages: usize) -> i32 {
    // SAFETY: no content changes.
    let result = unsafe { libc::syscall(libc::SYS_mlock2, at, pages * PAGE, MLOCK_ONFAULT) };
    outcome(result as i32)
}

fn unlock(at: *mut u8, pages: usize) -> i32 {
    // SAFETY: no content changes.
    outcome(unsafe { libc::munlock(at.cast(), pages * PAGE) })
}

fn lock_all(flags: i32) -> i32 {
    // SAFETY: no content changes.
    outcome(unsafe { libc::mlockall(flags) })
}

fn unlock_all() -> i32 {
    // SAFETY: no content changes.
    outcome(unsafe { libc::munlockall() })
}

fn advise(at: *mut u8, pages: usize, advice: i32) -> i32 {
    // SAFETY: the tests' own mappings, of which nobody has a reference.
    outcome(unsafe { libc::madvise(at.cast(), pages * PAGE, advice) })
}

fn unmap(at: *mut u8, pages: usize) {
    // SAFETY: as above.
    check_eq!(unsafe { libc::munmap(at.cast(), pages * PAGE) }, 0);
}

/// Which pages of a mapping are in memory.
fn present(mapping: &Mapping) -> Vec<bool> {
    let mut pages = vec![0; mapping.len / PAGE];
    // SAFETY: the vector has a byte for each page.
    check_eq!(unsafe { libc::mincore(mapping.start.cast(), mapping.len, pages.as_mut_ptr()) }, 0);
    pages.into_iter().map(|page| page & 1 != 0).collect()
}

/// `msync` that is to have others see what they may not, as the pages are locked.
fn is_locked(at: *mut u8) -> bool {
    sync(at, 1, INVALIDATE) == libc::EBUSY
}

fn syncing_says_what_is_wrong() {
    let pages = map(6, READ_WRITE, PRIVATE);
    check_eq!(lock(pages.at(PAGE), 1), 0);
    for flags in [INVALIDATE, INVALIDATE | SYNC, INVALIDATE | ASYNC] {
        check_eq!(sync(pages.start, 4, flags), libc::EBUSY);
        check_eq!(sync(pages.at(PAGE), 1, flags), libc::EBUSY);
        check_eq!((sync(pages.start, 1, flags), sync(pages.at(2 * PAGE), 2, flags)), (0, 0));
    }
    check_eq!((sync(pages.start, 4, ASYNC), sync(pages.start, 4, SYNC), sync(pages.start, 4, 0)), (0, 0, 0));
    for flags in [SYNC | ASYNC, SYNC | ASYNC | INVALIDATE, 8, 8 | INVALIDATE] {
        check_eq!(sync(pages.start, 1, flags), libc::EINVAL);
    }
    check_eq!(sync(pages.at(1), 1, INVALIDATE), libc::EINVAL);
    check_eq!(sync(pages.at(PAGE), 0, INVALIDATE), 0);
    unmap(pages.at(3 * PAGE), 1);
    // What is locked counts before the hole, and behind it.
    for flags in [INVALIDATE, INVALIDATE | SYNC] {
        check_eq!(sync(pages.start, 6, flags), libc::EBUSY);
        check_eq!(sync(pages.at(2 * PAGE), 4, flags), libc::ENOMEM);
    }
    check_eq!(
        (sync(pages.at(2 * PAGE), 4, SYNC), sync(pages.at(2 * PAGE), 4, ASYNC)),
        (libc::ENOMEM, libc::ENOMEM)
    );
    check_eq!(lock(pages.at(4 * PAGE), 1), 0);
    check_eq!(sync(pages.at(2 * PAGE), 4, INVALIDATE), libc::EBUSY);
    check_eq!(unlock(pages.at(4 * PAGE), 1), 0);
    check_eq!(unlock(pages.start, 3), 0);
    check_eq!(sync(pages.start, 3, INVALIDATE), 0);
    // A range with a hole is locked, and unlocked, up to there.
    check_eq!(lock(pages.start, 6), libc::ENOMEM);
    check_eq!((is_locked(pages.at(2 * PAGE)), is_locked(pages.at(4 * PAGE))), (true, false));
    check_eq!(lock(pages.at(4 * PAGE), 2), 0);
    check_eq!(unlock(pages.start, 6), libc::ENOMEM);
    check_eq!((is_locked(pages.at(2 * PAGE)), is_locked(pages.at(4 * PAGE))), (false, true));
}

/// A hole is told of, and what is behind it is synced all the same.
fn synced_behind_a_hole() {
    let folder = std::env::temp_dir().join("locked");
    fs::create_dir_all(&folder).unwrap();
    let file = new_file(&folder, "file", &[b'f'; 4 * PAGE]);
    let mapping = Mapping::shared(&file, 4);
    unmap(mapping.at(PAGE), 1);
    check!(mapping.store(2 * PAGE, b'!'));
    check_eq!(sync(mapping.start, 4, SYNC), libc::ENOMEM);
    check_eq!(lock(mapping.at(2 * PAGE), 1), 0);
    check_eq!(sync(mapping.start, 4, SYNC | INVALIDATE), libc::EBUSY);
    drop(mapping);
    fs::remove_dir_all(&folder).unwrap();
}

fn discarded_only_if_asked() {
    let pages = map(4, READ_WRITE, PRIVATE);
    for page in 0..4 {
        check!(pages.store(page * PAGE, b'x'));
    }
    check_eq!(lock(pages.at(PAGE), 1), 0);
    for advice in [libc::MADV_DONTNEED, libc::MADV_FREE, libc::MADV_COLD, libc::MADV_PAGEOUT] {
        check_eq!(advise(pages.at(PAGE), 1, advice), libc::EINVAL);
        check_eq!(advise(pages.at(2 * PAGE), 1, libc::MADV_WILLNEED), 0);
    }
    check_eq!((pages.load(0), pages.load(PAGE)), (Some(b'x'), Some(b'x')));
    check_eq!(advise(pages.start, 2, DONTNEED_LOCKED), 0);
    check_eq!((pages.load(0), pages.load(PAGE), pages.load(2 * PAGE)), (Some(0), Some(0), Some(b'x')));
    check!(is_locked(pages.at(PAGE)));
}

fn present_once_locked() {
    let pages = map(16, READ_WRITE, PRIVATE);
    check_eq!(lock(pages.start, 8), 0);
    check!(present(&pages)[..8].iter().all(|is_there| *is_there));
    let pages = map(16, READ_WRITE, PRIVATE);
    check_eq!(lock_on_touch(pages.start, 16), 0);
    check!(present(&pages)[8..].iter().all(|is_there| !*is_there) && is_locked(pages.at(PAGE)));
    check_eq!(lock_all(libc::MCL_CURRENT), 0);
    check!(present(&pages).iter().all(|is_there| *is_there) && is_locked(pages.at(PAGE)));
    check_eq!(unlock_all(), 0);
    check!(!is_locked(pages.at(PAGE)));
    let pages = map(4, READ_WRITE, PRIVATE | libc::MAP_LOCKED);
    check!(present(&pages).iter().all(|is_there| *is_there) && is_locked(pages.at(3 * PAGE)));
    // What nobody may touch is locked, but cannot be there.
    let pages = map(4, libc::PROT_NONE, PRIVATE);
    check_eq!(lock(pages.start, 4), libc::ENOMEM);
    check!(is_locked(pages.start) && present(&pages).iter().all(|is_there| !*is_there));
    let pages = map(4, READ, PRIVATE);
    check_eq!(lock(pages.start, 4), 0);
    check!(present(&pages).iter().all(|is_there| *is_there));
}

fn new_memory_is_locked() {
    let old = map(2, READ_WRITE, PRIVATE);
    check_eq!(lock_all(libc::MCL_FUTURE), 0);
    let new = map(4, READ_WRITE, PRIVATE);
    check!(present(&new).iter().all(|is_there| *is_there) && is_locked(new.start) && !is_locked(old.start));
    check_eq!(lock_all(libc::MCL_FUTURE | MCL_ONFAULT), 0);
    let new = map(16, READ_WRITE, PRIVATE);
    // A touch of what happens to be mapped before it may bring some of its first pages, too.
    check!(present(&new)[8..].iter().all(|is_there| !*is_there) && is_locked(new.start));
    // Who does not ask for it unlocks what is to come.
    check_eq!(lock_all(libc::MCL_CURRENT | MCL_ONFAULT), 0);
    check!(is_locked(old.start) && !is_locked(map(1, READ_WRITE, PRIVATE).start));
    check_eq!(lock_all(libc::MCL_FUTURE), 0);
    check_eq!(unlock_all(), 0);
    check!(!is_locked(new.start) && !is_locked(map(1, READ_WRITE, PRIVATE).start));
}

fn locks_move_with_their_pages() {
    let mut pages = map(4, READ_WRITE, PRIVATE);
    check_eq!(lock(pages.start, 4), 0);
    // SAFETY: nobody has a reference to the mapping, which is known by its new place from here on.
    let to = unsafe { libc::mremap(pages.start.cast(), pages.len, 8 * PAGE, libc::MREMAP_MAYMOVE) };
    check!(to != libc::MAP_FAILED);
    (pages.start, pages.len) = (to.cast(), 8 * PAGE);
    check!(present(&pages).iter().all(|is_there| *is_there));
    check!(is_locked(pages.start) && is_locked(pages.at(7 * PAGE)));
}

fn counted() {
    let locked = || -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    };
    let before = locked();
    let pages = map(8, READ_WRITE, PRIVATE);
    check_eq!((lock(pages.start, 4), lock(pages.at(2 * PAGE), 4)), (0, 0));
    check_eq!(locked() - before, 24);
    drop(pages);
    check_eq!(locked(), before);
}
