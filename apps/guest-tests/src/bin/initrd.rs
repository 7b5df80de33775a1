//! What an initrd brings: contents, links, listings, mappings; and that it can be changed. The files are
//! those in `apps/guest-tests/initrd`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// Bytes in a page.
const PAGE_BYTES: usize = 4096;

fn main() {
    contents();
    names();
    mapping();
    changes();
}

/// What `www/numbers.txt` holds.
fn numbers() -> String {
    (0..2500).map(|number| format!("{number}\n")).collect()
}

fn contents() {
    assert_eq!(fs::read_to_string("/www/numbers.txt").unwrap(), numbers());
    assert_eq!(fs::read_to_string("/www/link").unwrap(), "hello");
    assert_eq!(fs::read_to_string("www/../www/./sub//hello.txt").unwrap(), "hello");
    // The initrd's own file wins over the kernel's.
    assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), "192.0.2.1 of-the-initrd\n");
    let file = File::open("/www/numbers.txt").unwrap();
    let (mut part, len) = ([0; 10], numbers().len());
    assert_eq!(file.read_at(&mut part, len as u64 - 5).unwrap(), 5);
    assert_eq!(&part[..5], &numbers().as_bytes()[len - 5..]);
    assert_eq!(file.read_at(&mut part, len as u64 + 5).unwrap(), 0);
}

fn names() {
    let mut names: Vec<_> = fs::read_dir("/www").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["link", "numbers.txt", "sub"]);
    assert_eq!(fs::read_link("/www/link").unwrap().to_str(), Some("sub/hello.txt"));
    let hello = fs::metadata("/www/link").unwrap();
    assert_eq!((hello.len(), hello.nlink(), hello.is_file()), (5, 1, true));
    assert_ne!(hello.ino(), fs::symlink_metadata("/www/link").unwrap().ino());
}

fn mapping() {
    let file = File::open("/www/numbers.txt").unwrap();
    let map = |protection, flags| {
        let len = 2 * PAGE_BYTES;
        // SAFETY: the kernel picks the place, so nothing is mapped over.
        unsafe { mmap(core::ptr::null_mut(), len, protection, flags, &file, PAGE_BYTES as u64) }
    };
    let writable = ProtFlags::READ | ProtFlags::WRITE;
    let start = map(writable, MapFlags::PRIVATE).unwrap().cast::<u8>();
    // SAFETY: the mapping has this length, is readable and writable, and is never unmapped.
    let bytes = unsafe { core::slice::from_raw_parts_mut(start, 2 * PAGE_BYTES) };
    let expected = &numbers().into_bytes()[PAGE_BYTES..];
    assert_eq!(&bytes[..expected.len()], expected);
    assert!(bytes[expected.len()..].iter().all(|&byte| byte == 0));
    // A private mapping is a copy.
    bytes[0] ^= 1;
    assert_eq!(fs::read_to_string("/www/numbers.txt").unwrap(), numbers());
    assert_eq!(map(writable, MapFlags::SHARED), Err(Errno::ACCESS), "opened to read only");
    assert!(map(ProtFlags::READ, MapFlags::SHARED).is_ok());
}

/// The tree is in memory, and the initrd only what it began with.
fn changes() {
    let file = fs::OpenOptions::new().write(true).open("/www/numbers.txt").unwrap();
    file.write_at(b"X", 4999).unwrap();
    let mut expected = numbers().into_bytes();
    expected[4999] = b'X';
    assert_eq!(fs::read("/www/numbers.txt").unwrap(), expected);
    file.set_len(3).unwrap();
    file.set_len(6).unwrap();
    assert_eq!(fs::read("/www/numbers.txt").unwrap(), b"0\n1\0\0\0");
    fs::rename("/www/link", "/www/other").unwrap();
    fs::remove_dir_all("/www/sub").unwrap();
    assert_eq!(fs::read("/www/other").unwrap_err().kind(), ErrorKind::NotFound);
}
