//! When stores to mapped files change the files' times. On a disk each store does to which a page was clean: it was not
//! written to before, or it was written back since. In memory no page is ever clean, so only stores do for which a page had
//! to be mapped.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use guest_tests::mapping::{Mapping, PAGE, READ, READ_WRITE, new_file};
use guest_tests::{check, check_eq, data_folder};

/// Linux notes times by the tick, which may be 10 ms long.
const TICK: Duration = Duration::from_millis(25);
/// How often something is looked at that need not be so once: what writes back in time may come between.
const ROUNDS: usize = 5;

fn main() {
    let data = data_folder();
    let folder = data.join("mapped_times");
    fs::create_dir_all(&folder).unwrap();
    first_stores(&folder);
    not_by_others(&folder);
    by_calls(&folder);
    set_after_a_store(&folder);
    let is_on_disk = !is_in_memory(&data);
    if is_on_disk {
        stores_after_loads(&folder);
        stores_to_what_was_written_back(&folder);
        stores_after_other_rights(&folder);
        stores_to_holes(&folder);
    }
    fs::remove_dir_all(&folder).unwrap();
    println!("mapped_times: all well {}", if is_on_disk { "on a disk" } else { "in memory" });
}

/// True if files there have no disk.
fn is_in_memory(folder: &Path) -> bool {
    let path = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    // SAFETY: a zeroed structure is one of numbers; the call fills it.
    let magic = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        check_eq!(libc::statfs(path.as_ptr(), &mut found), 0);
        found.f_type
    };
    [libc::TMPFS_MAGIC, 0x8584_58f6 /* RAMFS_MAGIC */].contains(&(magic as i64))
}

/// When a file was modified and changed.
fn times(file: &File) -> [i128; 2] {
    let found = file.metadata().unwrap();
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    [nanos(found.mtime(), found.mtime_nsec()), nanos(found.ctime(), found.ctime_nsec())]
}

/// True if both times of a file are newer after `act`; one alone is an error.
fn changes(file: &File, act: impl FnOnce()) -> bool {
    let before = times(file);
    thread::sleep(TICK);
    act();
    let after = times(file);
    let [is_modified, is_changed] = [after[0] > before[0], after[1] > before[1]];
    check_eq!(is_modified, is_changed);
    check!(is_modified || after == before);
    is_modified
}

/// True if `act` leaves the times alone, at least now and then.
fn changes_nothing(file: &File, mut act: impl FnMut()) -> bool {
    (0..ROUNDS).any(|_| !changes(file, &mut act))
}

fn store(mapping: &Mapping, page: usize) {
    check!(mapping.store(page * PAGE, b'!'));
}

fn sync(mapping: &Mapping, flags: i32) {
    // SAFETY: no content changes.
    check_eq!(unsafe { libc::msync(mapping.start.cast(), mapping.len, flags) }, 0);
}

/// A file that is written page by page: what Linux has got at once it keeps together (large folios), and notices one store
/// to all of it.
fn file_of_pages(folder: &Path, pages: usize) -> File {
    let file = new_file(folder, "file", b"");
    for page in 0..pages {
        file.write_all_at(&[b'f'; PAGE], (page * PAGE) as u64).unwrap();
    }
    file.sync_all().unwrap();
    file
}

fn first_stores(folder: &Path) {
    let file = file_of_pages(folder, 8);
    let mapping = Mapping::shared(&file, 8);
    check!(changes(&file, || store(&mapping, 1)));
    check!(changes_nothing(&file, || store(&mapping, 1)));
    check!(changes(&file, || store(&mapping, 5)));
    check!(changes_nothing(&file, || {
        check_eq!(mapping.load(5 * PAGE), Some(b'!'));
        store(&mapping, 5);
        sync(&mapping, libc::MS_ASYNC);
    }));
    // Another mapping has no page yet.
    let other = Mapping::shared(&file, 8);
    check!(changes(&file, || store(&other, 5)));
}

/// What is no store to the file leaves its times alone.
fn not_by_others(folder: &Path) {
    let file = file_of_pages(folder, 8);
    check!(!changes(&file, || {
        let mapping = Mapping::shared(&file, 8);
        check_eq!(mapping.load(0), Some(b'f'));
        sync(&mapping, libc::MS_SYNC);
    }));
    check!(!changes(&file, || store(&Mapping::private(&file, 8), 3)));
    check!(!changes(&file, || {
        drop(Mapping::new(&file, 8, READ_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE));
    }));
    let mapping = Mapping::shared(&file, 8);
    store(&mapping, 2);
    check!(changes_nothing(&file, || file.sync_all().unwrap()));
    check!(!changes(&file, || drop(mapping)));
    check_eq!(fs::read(folder.join("file")).unwrap()[2 * PAGE], b'!');
}

/// A call that writes to the mapping is as good as a store.
fn by_calls(folder: &Path) {
    let file = file_of_pages(folder, 4);
    let mapping = Mapping::shared(&file, 4);
    let (mut from, mut to) = std::io::pipe().unwrap();
    to.write_all(b"abc").unwrap();
    check!(changes(&file, || {
        // SAFETY: the range is the mapping's, of which nobody has a reference.
        let into = unsafe { std::slice::from_raw_parts_mut(mapping.at(2 * PAGE), 3) };
        from.read_exact(into).unwrap();
    }));
    check_eq!(mapping.load(2 * PAGE + 2), Some(b'c'));
}

/// Times that are set count, and so does what comes after them.
fn set_after_a_store(folder: &Path) {
    let file = file_of_pages(folder, 4);
    let mapping = Mapping::shared(&file, 4);
    store(&mapping, 0);
    let second = |seconds| libc::timespec { tv_sec: seconds, tv_nsec: 5 };
    // SAFETY: the call reads two times.
    check_eq!(unsafe { libc::futimens(file.as_raw_fd(), [second(1_000), second(2_000)].as_ptr()) }, 0);
    check_eq!(times(&file)[0], 2_000_000_000_005);
    file.sync_all().unwrap();
    check_eq!(times(&file)[0], 2_000_000_000_005);
    check!(changes(&file, || store(&mapping, 2)));
    check!(times(&file)[0] > 1_000_000_000_000_000_000);
    check!(changes(&file, || file.write_all_at(b"x", 1).unwrap()));
    // Another mode, or another owner, says nothing about the content.
    let before = times(&file);
    thread::sleep(TICK);
    // SAFETY: only the descriptor is used.
    check_eq!(unsafe { libc::fchmod(file.as_raw_fd(), 0o600) }, 0);
    let after = times(&file);
    check_eq!(after[0], before[0]);
    check!(after[1] > before[1]);
}

fn stores_after_loads(folder: &Path) {
    let file = file_of_pages(folder, 8);
    let mapping = Mapping::shared(&file, 8);
    check!(!changes(&file, || check_eq!(mapping.load(3 * PAGE), Some(b'f'))));
    check!(changes(&file, || store(&mapping, 3)));
    check!(changes_nothing(&file, || store(&mapping, 3)));
}

fn stores_to_what_was_written_back(folder: &Path) {
    let file = file_of_pages(folder, 8);
    let mapping = Mapping::shared(&file, 8);
    let other = Mapping::shared(&file, 8);
    store(&mapping, 3);
    store(&mapping, 4);
    store(&other, 4);
    check!(changes_nothing(&file, || sync(&mapping, libc::MS_SYNC)));
    check!(changes(&file, || store(&mapping, 3)));
    check!(changes(&file, || store(&mapping, 4)));
    check!(changes(&file, || store(&other, 4)));
    check!(changes_nothing(&file, || store(&mapping, 4)));
    check!(changes_nothing(&file, || file.sync_all().unwrap()));
    check!(changes(&file, || store(&mapping, 4)));
    let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: only the descriptor is used.
    check_eq!(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) }, 0);
    check!(changes(&file, || store(&mapping, 4)));
    check_eq!((mapping.load(3 * PAGE), other.load(4 * PAGE)), (Some(b'!'), Some(b'!')));
    drop((mapping, other));
    check_eq!(fs::read(folder.join("file")).unwrap()[4 * PAGE], b'!');
}

fn stores_after_other_rights(folder: &Path) {
    let file = file_of_pages(folder, 4);
    let mapping = Mapping::new(&file, 4, READ, libc::MAP_SHARED);
    check_eq!(mapping.load(PAGE), Some(b'f'));
    check!(!changes(&file, || check_eq!(mapping.protect(PAGE, READ_WRITE), 0)));
    check!(changes(&file, || store(&mapping, 1)));
    // SAFETY: discards what the file has, too.
    check_eq!(unsafe { libc::madvise(mapping.start.cast(), mapping.len, libc::MADV_DONTNEED) }, 0);
    check!(changes(&file, || store(&mapping, 1)));
}

fn stores_to_holes(folder: &Path) {
    let file = file_of_pages(folder, 1);
    file.set_len(16 * PAGE as u64).unwrap();
    let mapping = Mapping::shared(&file, 16);
    check!(!changes(&file, || check_eq!(mapping.load(9 * PAGE), Some(0))));
    check!(changes(&file, || store(&mapping, 9)));
    check!(changes(&file, || store(&mapping, 12)));
    check!(changes_nothing(&file, || store(&mapping, 12)));
}
