//! The limits of ext4, each answered at the call: the largest file, the first and the last time that an inode can
//! hold, and disks whose sectors are as large as the filesystem's blocks.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// `f_type` of ext4 (statfs(2)).
const EXT4: i64 = 0xef53;

fn main() {
    let data = PathBuf::from(std::env::var("DATA").expect("DATA names a folder"));
    match std::env::args().nth(1).as_deref() {
        Some("sizes") => sizes(&data),
        Some("times") => times(&data, (1 << 34) - (1 << 31) - 1, 5),
        Some("old-times") => times(&data, (1 << 31) - 1, 0),
        Some("sectors") => sectors(&data),
        other => panic!("what is {other:?}?"),
    }
}

fn code<T>(outcome: io::Result<T>) -> i32 {
    outcome.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The largest file, or `None` if the folder is not on ext4.
fn largest(data: &Path) -> Option<u64> {
    let status = rustix::fs::statfs(data).unwrap();
    // `ext4_max_size`: the last block that 32 bits can number is never used.
    (status.f_type == EXT4).then_some(u64::from(u32::MAX) * status.f_bsize as u64)
}

fn sizes(data: &Path) {
    let Some(most) = largest(data) else { return };
    let path = data.join("file");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    assert_eq!(code(file.set_len(most + 1)), libc::EFBIG);
    file.set_len(most).unwrap();
    assert_eq!(file.write_at(b"ab", most - 1).unwrap(), 1);
    assert_eq!(code(file.write_at(b"ab", most)), libc::EFBIG);
    assert_eq!(code(file.write_at(b"ab", most + 4096)), libc::EFBIG);
    assert_eq!(file.write_at(b"", most).unwrap(), 0);
    file.sync_all().unwrap();
    let mut last = [0; 2];
    assert_eq!(file.read_at(&mut last, most - 1).unwrap(), 1);
    assert_eq!(last, *b"a\0");
    assert_eq!(file.seek(SeekFrom::Start(most)).unwrap(), most);
    assert_eq!(code(file.seek(SeekFrom::Start(most + 1))), libc::EINVAL);
    let at_end = OpenOptions::new().append(true).open(&path).unwrap();
    assert_eq!(code(at_end.write_at(b"x", 0)), libc::EFBIG);
    ranges(&file, most);
    direct(&path, most);
    file.set_len(3).unwrap();
}

fn ranges(file: &File, most: u64) {
    let change = |mode: i32, offset: u64, len: u64| {
        // SAFETY: a descriptor that is open, and numbers.
        code(check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) }))
    };
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    for mode in [0, libc::FALLOC_FL_KEEP_SIZE, punch, libc::FALLOC_FL_ZERO_RANGE] {
        assert_eq!(change(mode, most - 4096, 4097), libc::EFBIG, "{mode}");
        assert_eq!(change(mode, most - 8192, 8192), 0, "{mode}");
    }
}

fn direct(path: &Path, most: u64) {
    #[repr(align(4096))]
    struct Pages([u8; 8192]);
    let pages = Pages([7; 8192]);
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    assert_eq!(code(file.write_at(&pages.0, most)), libc::EFBIG);
    assert_eq!(file.write_at(&pages.0, most - 4096).unwrap(), 4096);
}

/// Times from 1901 to `last` are kept, with `nanos`; what lies outside becomes the nearest.
fn times(data: &Path, last: i64, nanos: i64) {
    if largest(data).is_none() {
        return;
    }
    let file = File::create(data.join("file")).unwrap();
    let first = i64::from(i32::MIN);
    let moment = |seconds: i64, nanos: i64| libc::timespec { tv_sec: seconds, tv_nsec: nanos };
    for (wanted, kept) in [
        (-1, (-1, nanos)),
        (0, (0, nanos)),
        (first + 1, (first + 1, nanos)),
        (first - 1, (first, 0)),
        (i64::MIN, (first, 0)),
        (last - 1, (last - 1, nanos)),
        (last + 1, (last, 0)),
        (i64::MAX, (last, 0)),
    ] {
        let pair = [moment(wanted, 5), moment(wanted, 5)];
        // SAFETY: a descriptor that is open, and two times.
        check(unsafe { libc::futimens(file.as_raw_fd(), pair.as_ptr()) }).unwrap();
        let found = file.metadata().unwrap();
        assert_eq!((found.mtime(), found.mtime_nsec()), kept, "{wanted}");
        assert_eq!((found.atime(), found.atime_nsec()), kept, "{wanted}");
    }
    let wrong = [moment(0, 1_000_000_000), moment(0, 0)];
    // SAFETY: as above.
    assert_eq!(code(check(unsafe { libc::futimens(file.as_raw_fd(), wrong.as_ptr()) })), libc::EINVAL);
    let before = UNIX_EPOCH - Duration::from_millis(1500);
    file.set_times(FileTimes::new().set_modified(before)).unwrap();
    let wanted = if nanos == 0 { UNIX_EPOCH - Duration::from_secs(2) } else { before };
    assert_eq!(file.metadata().unwrap().modified().unwrap(), wanted);
}

/// Content and names survive on a disk that reads and writes 4,096 bytes at once.
fn sectors(data: &Path) {
    let content = |number: u32| vec![number as u8; 3000 * number as usize];
    if std::env::var("BOOT").is_ok_and(|boot| boot == "1") {
        for number in 0..20 {
            fs::write(data.join(number.to_string()), content(number)).unwrap();
        }
        return;
    }
    for number in 0..20 {
        assert!(fs::read(data.join(number.to_string())).unwrap() == content(number));
    }
}
