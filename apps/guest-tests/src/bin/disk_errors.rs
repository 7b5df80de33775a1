//! Disks that do not do what they are asked: `read-only`, or with one sector that cannot be read or written
//! (`apps/guest-tests/faults`). The error reaches the one who asked, once, and all the rest goes on.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const EIO: i32 = 5;
const EROFS: i32 = 30;
/// A piece is written and read at a time; the file covers nearly all of the disk, its bad sector included.
const PIECE_BYTES: usize = 1 << 20;
const PIECES: usize = 52;

fn main() {
    let data = PathBuf::from(std::env::var("DATA").expect("DATA names a folder"));
    match std::env::args().nth(1).as_deref() {
        Some("read-only") => read_only(&data),
        Some("bad-write") => bad_write(&data),
        Some("bad-batch") => bad_batch(&data),
        Some("bad-sectors") => bad_sectors(&data),
        Some("bad-read") => bad_read(&data),
        other => panic!("what is {other:?}?"),
    }
}

fn code<T>(outcome: io::Result<T>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}

fn read_only(data: &Path) {
    assert!(data.join("lost+found").metadata().unwrap().is_dir());
    assert_eq!(code(File::create(data.join("new"))), Some(EROFS));
    assert_eq!(code(fs::create_dir(data.join("new"))), Some(EROFS));
    assert_eq!(code(fs::remove_dir(data.join("lost+found"))), Some(EROFS));
    assert_eq!(code(fs::rename(data.join("lost+found"), data.join("new"))), Some(EROFS));
    let status = rustix::fs::statvfs(data).unwrap();
    assert!(status.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    assert_eq!(fs::read_dir(data).unwrap().count(), 1);
}

fn piece(number: usize) -> Vec<u8> {
    (0..PIECE_BYTES).map(|at| (number * 31 + at / 512) as u8).collect()
}

fn bad_write(data: &Path) {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(data.join("file")).unwrap();
    let failed: Vec<usize> = (0..PIECES).filter(|&number| !writes(&file, number)).collect();
    // Who is given blocks in place of the failed ones may get the bad one once more.
    assert!(matches!(failed.len(), 1 | 2), "one piece holds the sector: {failed:?}");
    // It was told, once.
    file.sync_data().unwrap();
    for number in (0..PIECES).filter(|number| !failed.contains(number)) {
        assert!(reads(&file, number).unwrap() == piece(number), "piece {number}");
    }
    // The disk is not given up.
    fs::write(data.join("other"), "fine").unwrap();
    File::open(data.join("other")).unwrap().sync_all().unwrap();
}

/// All pieces are dirty at once: what cannot be written costs its own page, not its neighbours. Each description of
/// the file is told once, whichever call asks.
fn bad_batch(data: &Path) {
    const PAGE_BYTES: usize = 4096;
    let path = data.join("file");
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
    let [file, early, mapped, ranged] = [open(), open(), open(), open()];
    for number in 0..PIECES {
        file.write_all_at(&piece(number), (number * PIECE_BYTES) as u64).unwrap();
    }
    let mapping = Mapping::new(&mapped);
    assert_eq!(code(file.sync_data()), Some(EIO));
    file.sync_data().unwrap();
    // Who opens it now has nothing to do with it; who had it open before has.
    open().sync_all().unwrap();
    assert_eq!(code(early.sync_all()), Some(EIO));
    early.try_clone().unwrap().sync_all().unwrap();
    assert_eq!(code(mapping.sync()), Some(EIO));
    mapping.sync().unwrap();
    mapped.sync_all().unwrap();
    assert_eq!(code(sync_range(&ranged)), Some(EIO));
    sync_range(&ranged).unwrap();
    // The filesystem keeps a record of its own.
    assert_eq!(code(sync_filesystem(&early)), Some(EIO));
    sync_filesystem(&early).unwrap();
    sync_filesystem(&open()).unwrap();

    // SAFETY: the call takes a descriptor and numbers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let mut lost = Vec::new();
    for number in 0..PIECES {
        let (found, wanted) = (reads(&file, number).unwrap(), piece(number));
        let pages = found.chunks(PAGE_BYTES).zip(wanted.chunks(PAGE_BYTES)).enumerate();
        let differing = pages.filter(|(_, (found, wanted))| found != wanted);
        lost.extend(differing.map(|(page, _)| number * PIECE_BYTES + page * PAGE_BYTES));
    }
    assert_eq!(lost.len(), 1, "{lost:?}");
    unheard(&file, lost[0] as u64, open);
    empty_direct_write(data);
}

/// A disk that is bad in many places loses those pages, and no others (`bad_sectors` of `tests.toml`).
fn bad_sectors(data: &Path) {
    const BAD: usize = 400;
    const PAGE_BYTES: usize = 4096;
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(data.join("file")).unwrap();
    for number in 0..PIECES {
        file.write_all_at(&piece(number), (number * PIECE_BYTES) as u64).unwrap();
    }
    assert_eq!(code(file.sync_data()), Some(EIO));
    // SAFETY: the call takes a descriptor and numbers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let lost: usize = (0..PIECES)
        .map(|number| {
            let (found, wanted) = (reads(&file, number).unwrap(), piece(number));
            found
                .chunks(PAGE_BYTES)
                .zip(wanted.chunks(PAGE_BYTES))
                .filter(|(found, wanted)| found != wanted)
                .count()
        })
        .sum();
    // Some lie where the filesystem has its own.
    assert!((BAD * 9 / 10..=BAD).contains(&lost), "{lost} pages");
    fs::write(data.join("other"), "fine").unwrap();
    File::open(data.join("other")).unwrap().sync_all().unwrap();
}

/// A failure that nobody was told of is also for who opens the file later.
fn unheard(file: &File, bad: u64, open: impl Fn() -> File) {
    file.write_all_at(&[3], bad).unwrap();
    // SAFETY: no arguments.
    unsafe { libc::sync() };
    let late = open();
    assert_eq!(code(late.sync_all()), Some(EIO));
    late.sync_all().unwrap();
    open().sync_all().unwrap();
    assert_eq!(code(file.sync_all()), Some(EIO));
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn sync_filesystem(file: &File) -> io::Result<()> {
    // SAFETY: a descriptor that is open.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

fn sync_range(file: &File) -> io::Result<()> {
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: a descriptor that is open, and numbers.
    check(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 4096, flags) })
}

/// The first page of a file, mapped and not touched.
struct Mapping(*mut libc::c_void);

impl Mapping {
    fn new(file: &File) -> Self {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping of an open file, anywhere.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Self(at)
    }

    fn sync(&self) -> io::Result<()> {
        // SAFETY: the mapping is there until the end.
        check(unsafe { libc::msync(self.0, 4096, libc::MS_SYNC) })
    }
}

/// A write of no bytes, and one of a page with dirty pages behind it, through `O_DIRECT`.
fn empty_direct_write(data: &Path) {
    use std::os::unix::fs::OpenOptionsExt;
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let page = Page([7; 4096]);
    let path = data.join("direct");
    fs::write(&path, [1; 4 * 4096]).unwrap();
    let direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    assert_eq!(direct.write_at(&[], 4096).unwrap(), 0);
    assert_eq!(direct.write_at(&page.0, 4096).unwrap(), 4096);
    assert_eq!(fs::read(&path).unwrap()[4095..4097], [1, 7]);
}

/// Writes a piece durably; false if the disk could not.
fn writes(file: &File, number: usize) -> bool {
    file.write_all_at(&piece(number), (number * PIECE_BYTES) as u64).unwrap();
    let failure = code(file.sync_data());
    assert!(matches!(failure, None | Some(EIO)), "{failure:?}");
    failure.is_none()
}

fn reads(file: &File, number: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; PIECE_BYTES];
    file.read_exact_at(&mut bytes, (number * PIECE_BYTES) as u64)?;
    Ok(bytes)
}

fn bad_read(data: &Path) {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(data.join("file")).unwrap();
    (0..PIECES).for_each(|number| assert!(writes(&file, number)));
    // SAFETY: plain numbers.
    let advised = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(advised, 0);
    let mut failed = 0;
    for number in 0..PIECES {
        match reads(&file, number) {
            Ok(bytes) => assert!(bytes == piece(number), "piece {number}"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(EIO));
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 1);
    // Not everything around it is lost: byte after byte, only the page with the sector fails.
    let pages = PIECES * PIECE_BYTES / 4096;
    let mut byte = [0];
    let bad = (0..pages as u64).filter(|page| file.read_exact_at(&mut byte, page * 4096).is_err()).count();
    assert_eq!(bad, 1);
}
