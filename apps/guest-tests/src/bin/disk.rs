//! Files on a disk, in the folder that `DATA` names: content, names, mappings, and that all of it is there after
//! the next boot (`BOOT` counts them).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn main() {
    let data = PathBuf::from(std::env::var("DATA").expect("DATA names a folder"));
    let boot: u64 = std::env::var("BOOT").map_or(1, |boot| boot.parse().expect("a number"));
    if boot > 1 {
        check_survivors(&data, boot - 1);
    }
    let folder = data.join(format!("boot{boot}"));
    fs::create_dir(&folder).unwrap();
    content(&folder);
    names(&folder);
    attributes(&folder);
    extended_attributes(&folder);
    mappings(&folder);
    crossing(&data);
    many(&folder);
    unlinked_but_open(&folder);
    trim(&data);
    leave_for_next_boot(&folder, boot);
    println!("disk: all well");
}

fn content(folder: &Path) {
    let path = folder.join("content");
    let bytes = pattern(1, 3_000_001);
    fs::write(&path, &bytes).unwrap();
    assert!(fs::read(&path).unwrap() == bytes);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.write_all_at(b"overwritten", 4090).unwrap();
    let mut part = [0; 11];
    file.read_exact_at(&mut part, 4090).unwrap();
    assert_eq!(&part, b"overwritten");
    file.set_len(5000).unwrap();
    file.set_len(9000).unwrap();
    let mut rest = vec![1; 5000];
    assert_eq!(file.read_at(&mut rest, 4995).unwrap(), 4005);
    assert_eq!(rest[..5], bytes[4995..5000]);
    assert!(rest[5..4005].iter().all(|&byte| byte == 0));
    // A hole.
    file.write_all_at(b"far", 10_000_000).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10_000_003);
    assert!(file.metadata().unwrap().blocks() * 512 < 1_000_000);
    let mut far = [9; 6];
    file.read_exact_at(&mut far, 9_999_997).unwrap();
    assert_eq!(&far, b"\0\0\0far");
    let mut log = OpenOptions::new().append(true).create(true).open(folder.join("log")).unwrap();
    (0..500).for_each(|line| writeln!(log, "line {line}").unwrap());
    log.sync_data().unwrap();
    assert_eq!(fs::read_to_string(folder.join("log")).unwrap().lines().count(), 500);
}

fn names(folder: &Path) {
    let at = |name: &str| folder.join(name);
    fs::write(at("one"), "1").unwrap();
    fs::hard_link(at("one"), at("uno")).unwrap();
    assert_eq!(fs::metadata(at("uno")).unwrap().nlink(), 2);
    fs::rename(at("one"), at("two")).unwrap();
    assert!(fs::metadata(at("one")).is_err());
    fs::write(at("three"), "3").unwrap();
    fs::rename(at("three"), at("two")).unwrap();
    assert_eq!(fs::read_to_string(at("two")).unwrap(), "3");
    assert_eq!(fs::metadata(at("uno")).unwrap().nlink(), 1);
    symlink("two", at("link")).unwrap();
    assert_eq!(fs::read_to_string(at("link")).unwrap(), "3");
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("two"));
    symlink("/tmp", at("out")).unwrap();
    assert!(fs::metadata(at("out")).unwrap().is_dir());
    fs::create_dir_all(at("deep/er/est")).unwrap();
    fs::write(at("deep/er/est/../../x"), "x").unwrap();
    assert_eq!(fs::read_to_string(at("deep/x")).unwrap(), "x");
    assert_eq!(fs::remove_dir(at("deep")).unwrap_err().raw_os_error(), Some(39));
    fs::remove_dir_all(at("deep")).unwrap();
    assert_eq!(File::open(at("deep")).unwrap_err().raw_os_error(), Some(2));
    assert_eq!(File::create_new(at("two")).unwrap_err().raw_os_error(), Some(17));
}

fn attributes(folder: &Path) {
    let path = folder.join("attributes");
    let file = File::create(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
    file.set_modified(time).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.modified().unwrap()), (0o640, time));
}

/// Names and values beside the content, short ones and one that needs a block of its own.
fn extended_attributes(folder: &Path) {
    use rustix::fs::{XattrFlags, fgetxattr, getxattr, listxattr, removexattr, setxattr};
    let path = folder.join("with attributes");
    let file = File::create(&path).unwrap();
    if setxattr(&path, "user.kind", b"test", XattrFlags::CREATE) == Err(rustix::io::Errno::OPNOTSUPP) {
        return println!("no extended attributes here");
    }
    let long = pattern(9, 700);
    setxattr(&path, "user.long", &long, XattrFlags::empty()).unwrap();
    let mut value = [0; 1000];
    let len = fgetxattr(&file, "user.long", &mut value).unwrap();
    assert!(value[..len] == long);
    assert_eq!(getxattr(&path, "user.kind", &mut value), Ok(4));
    assert_eq!(getxattr(&path, "user.kind", &mut value[..3]), Err(rustix::io::Errno::RANGE));
    let taken = setxattr(&path, "user.kind", b"other", XattrFlags::CREATE);
    assert_eq!(taken, Err(rustix::io::Errno::EXIST));
    let len = listxattr(&path, &mut value).unwrap();
    let names = value[..len].split(|&byte| byte == 0);
    assert_eq!(names.filter(|name| name.starts_with(b"user.")).count(), 2);
    removexattr(&path, "user.long").unwrap();
    assert_eq!(getxattr(&path, "user.long", &mut value), Err(rustix::io::Errno::NODATA));
}

/// A mapping and calls see the same bytes.
fn mappings(folder: &Path) {
    let path = folder.join("mapped");
    let bytes = pattern(3, 5 * 4096 + 100);
    fs::write(&path, &bytes).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.sync_all().unwrap();
    let len = 6 * 4096;
    let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping of a file that is long enough but for its last page's end.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, read_write, shared, file.as_raw_fd(), 0) };
    assert_ne!(address, libc::MAP_FAILED);
    // SAFETY: mapped above, unmapped below, and the file changes only between uses.
    let mapped = unsafe { std::slice::from_raw_parts_mut(address.cast::<u8>(), bytes.len()) };
    assert!(*mapped == bytes);
    mapped[8192..8197].copy_from_slice(b"hello");
    let mut seen = [0; 5];
    file.read_exact_at(&mut seen, 8192).unwrap();
    assert_eq!(&seen, b"hello");
    file.write_all_at(b"again", 8192).unwrap();
    assert_eq!(&mapped[8192..8197], b"again");
    mapped[0] = b'm';
    // SAFETY: the mapping is there; nothing refers to it afterwards.
    unsafe {
        assert_eq!(libc::msync(address, len, libc::MS_SYNC), 0);
        mapped[4096] = b'n';
        assert_eq!(libc::munmap(address, len), 0);
    }
    let mut both = [0; 1];
    file.read_exact_at(&mut both, 4096).unwrap();
    assert_eq!(&both, b"n");
}

/// Names lead from one filesystem to the other and back.
fn crossing(data: &Path) {
    let (inside, outside) = (data.join("crossing"), Path::new("/tmp/crossing"));
    fs::write(&inside, "x").unwrap();
    let different = fs::metadata(data).unwrap().dev() != fs::metadata("/tmp").unwrap().dev();
    if different {
        assert_eq!(fs::rename(&inside, outside).unwrap_err().raw_os_error(), Some(18));
        assert_eq!(fs::hard_link(&inside, outside).unwrap_err().raw_os_error(), Some(18));
    }
    assert_eq!(fs::copy(&inside, outside).unwrap(), 1);
    std::env::set_current_dir(data).unwrap();
    assert_eq!(std::env::current_dir().unwrap(), data);
    assert_eq!(fs::read_to_string("crossing").unwrap(), "x");
    let up = fs::metadata("..").unwrap();
    assert_eq!(up.ino(), fs::metadata(data.parent().unwrap()).unwrap().ino());
    std::env::set_current_dir("/").unwrap();
    fs::remove_file(&inside).unwrap();
    fs::remove_file(outside).unwrap();
}

fn many(folder: &Path) {
    let folder = folder.join("many");
    fs::create_dir(&folder).unwrap();
    for number in 0..700 {
        fs::write(folder.join(format!("file-{number:04}")), number.to_string()).unwrap();
    }
    let mut listed: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    listed.sort();
    assert_eq!(listed, (0..700).map(|number| format!("file-{number:04}")).collect::<Vec<_>>());
    for number in (0..700).step_by(2) {
        fs::remove_file(folder.join(format!("file-{number:04}"))).unwrap();
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 350);
}

fn unlinked_but_open(folder: &Path) {
    let path = folder.join("unlinked");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.write_all(&pattern(7, 100_000)).unwrap();
    fs::remove_file(&path).unwrap();
    file.write_all(b"more").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes[..100_000] == pattern(7, 100_000) && &bytes[100_000..] == b"more");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
}

/// What is free can be given back to whatever the disk lies in (fstrim(8)).
fn trim(data: &Path) {
    /// `FITRIM` and its `struct fstrim_range` (linux/fs.h).
    const FITRIM: libc::Ioctl = 0xc018_5879_u32 as libc::Ioctl;
    let mut range = [0, u64::MAX, 0];
    let folder = File::open(data).unwrap();
    // SAFETY: the call reads and writes three numbers.
    let failed = unsafe { libc::ioctl(folder.as_raw_fd(), FITRIM, range.as_mut_ptr()) } != 0;
    match failed.then(std::io::Error::last_os_error) {
        None => assert!(range[1] > 0),
        Some(error) => println!("no trimming here: {error}"),
    }
}

fn leave_for_next_boot(folder: &Path, boot: u64) {
    fs::write(folder.join("survivor"), pattern(boot, 123_456)).unwrap();
}

fn check_survivors(data: &Path, boot: u64) {
    let folder = data.join(format!("boot{boot}"));
    assert!(fs::read(folder.join("survivor")).unwrap() == pattern(boot, 123_456));
    assert_eq!(fs::read_to_string(folder.join("two")).unwrap(), "3");
    assert_eq!(fs::read_dir(folder.join("many")).unwrap().count(), 350);
    let mapped = fs::read(folder.join("mapped")).unwrap();
    assert_eq!((mapped[0], mapped[4096], &mapped[8192..8197]), (b'm', b'n', &b"again"[..]));
    assert!(fs::metadata(folder.join("unlinked")).is_err());
}
