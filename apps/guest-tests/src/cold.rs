//! A mapped file of which nothing is in memory, given out place by place, to be the arguments and results of calls.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// So far apart that reading one place in does not bring the next along.
const STRIDE: usize = 64 * PAGE;

/// A mapped file of which nothing is in memory, given out place by place.
pub struct Cold {
    /// The file.
    pub file: File,
    /// Where it is mapped.
    pub start: usize,
    /// Its length.
    pub len: usize,
    next: AtomicUsize,
}

static COLD: OnceLock<Cold> = OnceLock::new();

impl Cold {
    fn new(len: usize) -> Self {
        let path = PathBuf::from(std::env::var("DATA").expect("DATA names a folder")).join("cold");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        let piece = vec![0; 1 << 20];
        (0..len).step_by(piece.len()).for_each(|_| file.write_all(&piece).unwrap());
        file.sync_all().unwrap();
        let (read_write, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: a new mapping of a file of this length.
        let start = unsafe {
            assert_eq!(libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED), 0);
            libc::mmap(null_mut(), len, read_write, libc::MAP_SHARED, fd, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        Self { file, start: start.addr(), len, next: AtomicUsize::new(STRIDE) }
    }
}

/// A place in a page that nobody has touched, `before` bytes before the next such page.
pub fn cold_before<T>(before: usize) -> *mut T {
    let cold = mapping();
    let at = cold.next.fetch_add(STRIDE, Ordering::Relaxed);
    assert!(at + STRIDE < cold.len, "the file is too small");
    (cold.start + at - before) as *mut T
}

/// A place at the start of such a page.
pub fn cold<T>() -> *mut T {
    cold_before(0)
}

/// The result of a call that must not fail.
pub fn check(result: isize) -> isize {
    assert!(result >= 0, "{}", io::Error::last_os_error());
    result
}

/// Makes the file, in the folder that `DATA` names.
pub fn prepare(len: usize) {
    COLD.get_or_init(|| Cold::new(len));
}

/// All of it.
pub fn mapping() -> &'static Cold {
    COLD.get().expect("it was prepared")
}

/// Reads up to `len` bytes into untouched pages.
pub fn read_cold(fd: i32, len: usize) -> Vec<u8> {
    let place = cold_before::<u8>(3);
    // SAFETY: the place and the page after it are mapped.
    unsafe { std::slice::from_raw_parts(place, check(libc::read(fd, place.cast(), len)) as usize).to_vec() }
}

/// The descriptor that a call has just made.
pub fn owned(fd: i32) -> OwnedFd {
    check(fd as isize);
    // SAFETY: the call that answered it has just made it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
