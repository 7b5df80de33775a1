//! Files in memory that are sealed (memfd_create(2), fcntl(2)): what may not be done any more, and what still may.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, PermissionsExt};

use guest_tests::mapping::{Mapping, PAGE, READ, READ_WRITE, byte_at, catch_bus_errors};
use guest_tests::{check, check_eq, errno};

const SEAL: i32 = libc::F_SEAL_SEAL;
const SHRINK: i32 = libc::F_SEAL_SHRINK;
const GROW: i32 = libc::F_SEAL_GROW;
const WRITE: i32 = libc::F_SEAL_WRITE;
const FUTURE_WRITE: i32 = 0x10;
const EXEC: i32 = 0x20;
const ALLOW_SEALING: u32 = libc::MFD_ALLOW_SEALING;
const NOEXEC_SEAL: u32 = 8;
const EXECUTABLE: u32 = 0x10;
const LEN: u64 = 4 * PAGE as u64;

fn main() {
    catch_bus_errors();
    files_begin_with_seals();
    names_and_flags_are_checked();
    lengths_are_kept();
    growth_ends_where_the_file_does();
    content_is_kept();
    mappings_are_in_the_way();
    permission_to_execute_is_kept();
    a_writer_loses_the_race();
    println!("seals: all well");
}

fn memfd(name: &std::ffi::CStr, flags: u32) -> Result<File, i32> {
    // SAFETY: the name is a string, and the descriptor nobody else's.
    unsafe {
        let descriptor = libc::memfd_create(name.as_ptr(), flags);
        if descriptor < 0 { Err(errno()) } else { Ok(File::from_raw_fd(descriptor)) }
    }
}

fn sealable() -> File {
    let file = memfd(c"sealed", ALLOW_SEALING).unwrap();
    file.set_len(LEN).unwrap();
    file
}

fn add(file: &File, seals: i32) -> i32 {
    // SAFETY: takes numbers.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } == 0 { 0 } else { errno() }
}

fn seals(file: &File) -> i32 {
    // SAFETY: takes numbers.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 { -errno() } else { seals }
}

fn error<T>(outcome: std::io::Result<T>) -> i32 {
    outcome.err().map_or(0, |error| error.raw_os_error().unwrap())
}

fn allocate(file: &File, flags: i32, offset: usize, len: usize) -> i32 {
    // SAFETY: takes numbers.
    let outcome = unsafe { libc::fallocate(file.as_raw_fd(), flags, offset as i64, len as i64) };
    if outcome == 0 { 0 } else { errno() }
}

fn map_error(file: &File, protection: i32, flags: i32) -> i32 {
    // SAFETY: the kernel picks the place.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED { errno() } else { 0 }
}

fn files_begin_with_seals() {
    let plain = memfd(c"plain", 0).unwrap();
    check_eq!((seals(&plain), add(&plain, SHRINK), add(&plain, 0x40)), (SEAL, libc::EPERM, libc::EINVAL));
    let file = sealable();
    check_eq!((seals(&file), add(&file, 0x40), add(&file, i32::MIN | SEAL)), (0, libc::EINVAL, libc::EINVAL));
    let read_only = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    check_eq!((add(&read_only, SHRINK), seals(&read_only)), (libc::EPERM, 0));
    check_eq!((add(&file, SHRINK), seals(&read_only), add(&file, GROW | SEAL)), (0, SHRINK, 0));
    check_eq!((seals(&file), add(&file, WRITE)), (SHRINK | GROW | SEAL, libc::EPERM));
    let device = OpenOptions::new().write(true).open("/dev/null").unwrap();
    check_eq!((seals(&device), add(&device, SHRINK)), (-libc::EINVAL, libc::EINVAL));
}

fn names_and_flags_are_checked() {
    let name = |len| std::ffi::CString::new(vec![b'n'; len]).unwrap();
    check_eq!((memfd(&name(249), 0).err(), memfd(&name(250), 0).err()), (None, Some(libc::EINVAL)));
    for flags in [0x20, 1 << 31, EXECUTABLE | NOEXEC_SEAL] {
        check_eq!(memfd(c"flags", flags).err(), Some(libc::EINVAL));
    }
    let nowhere = |flags| guest_tests::raw_syscall(libc::SYS_memfd_create, [1, flags, 0, 0, 0, 0]);
    check_eq!((nowhere(0), nowhere(0x20)), (-i64::from(libc::EFAULT), -i64::from(libc::EINVAL)));
}

fn lengths_are_kept() {
    let file = sealable();
    check_eq!(add(&file, SHRINK), 0);
    check_eq!((error(file.set_len(LEN - 1)), error(file.set_len(LEN + 1))), (libc::EPERM, 0));
    check_eq!(add(&file, GROW), 0);
    check_eq!((error(file.set_len(LEN + 1)), error(file.set_len(LEN + 2))), (0, libc::EPERM));
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    check_eq!(error(OpenOptions::new().write(true).truncate(true).open(&path)), libc::EPERM);
    check_eq!(error(file.write_at(b"x", LEN)), 0);
    check_eq!((allocate(&file, 0, 0, PAGE), allocate(&file, 0, 0, 8 * PAGE)), (0, libc::EPERM));
    check_eq!(allocate(&file, libc::FALLOC_FL_KEEP_SIZE, 0, 8 * PAGE), libc::EPERM);
    check_eq!(allocate(&file, libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE, 0, PAGE), 0);
}

fn growth_ends_where_the_file_does() {
    let mut file = memfd(c"grown", ALLOW_SEALING).unwrap();
    file.set_len(PAGE as u64 + 100).unwrap();
    check_eq!(add(&file, GROW), 0);
    let bytes = [b'g'; 3 * PAGE];
    check_eq!(file.write(&bytes).unwrap(), PAGE);
    for (len, offset, outcome) in
        [(200, PAGE, libc::EPERM), (100, PAGE, 0), (101, PAGE, libc::EPERM), (1, 2 * PAGE, libc::EPERM)]
    {
        check_eq!(error(file.write_at(&bytes[..len], offset as u64)), outcome);
    }
    check_eq!(file.seek(SeekFrom::End(0)).unwrap(), PAGE as u64 + 100);
    check_eq!((error(file.write(&bytes)), error(file.write(b""))), (libc::EPERM, 0));
}

fn content_is_kept() {
    const PUNCH: i32 = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
    for seal in [WRITE, FUTURE_WRITE] {
        let file = sealable();
        file.write_all_at(b"abc", 0).unwrap();
        check_eq!(add(&file, seal), 0);
        check_eq!(
            (error(file.write_at(b"x", 0)), error(file.write_at(b"x", 2 * LEN))),
            (libc::EPERM, libc::EPERM)
        );
        check_eq!((error(file.write_at(b"", 0)), allocate(&file, PUNCH, 0, PAGE)), (0, libc::EPERM));
        check_eq!((allocate(&file, 0, 0, PAGE), error(file.set_len(LEN + 5))), (0, 0));
        check_eq!(
            (map_error(&file, READ_WRITE, libc::MAP_SHARED), map_error(&file, READ_WRITE, libc::MAP_PRIVATE)),
            (libc::EPERM, 0)
        );
        let mapping = Mapping::new(&file, 1, READ, libc::MAP_SHARED);
        check_eq!((mapping.load(2), mapping.protect(0, READ_WRITE)), (Some(b'c'), libc::EACCES));
        // Such a mapping is not in the way of anything.
        check_eq!((add(&file, WRITE), seals(&file)), (0, seal | WRITE));
        // Whoever opens it again is bound, too.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let again = OpenOptions::new().read(true).write(true).open(path).unwrap();
        check_eq!((error(again.write_at(b"x", 0)), byte_at(&again, 0)), (libc::EPERM, b'a'));
    }
}

fn mappings_are_in_the_way() {
    let file = sealable();
    for protection in [READ_WRITE, READ] {
        let mapping = Mapping::new(&file, 1, protection, libc::MAP_SHARED);
        check_eq!(
            (add(&file, WRITE), add(&file, WRITE | SHRINK), seals(&file)),
            (libc::EBUSY, libc::EBUSY, 0)
        );
        drop(mapping);
    }
    let mapping = Mapping::shared(&file, 2);
    check_eq!((add(&file, FUTURE_WRITE), seals(&file)), (0, FUTURE_WRITE));
    check!(mapping.store(0, b'm'));
    check_eq!((mapping.protect(PAGE, READ), mapping.protect(PAGE, READ_WRITE)), (0, 0));
    check_eq!((add(&file, WRITE), byte_at(&file, 0)), (libc::EBUSY, b'm'));
    drop(mapping);
    let copies = Mapping::private(&file, 1);
    check_eq!((add(&file, WRITE), copies.store(0, b'c'), byte_at(&file, 0)), (0, true, b'm'));
}

fn permission_to_execute_is_kept() {
    let mode = |file: &File| file.metadata().unwrap().permissions().mode() & 0o7777;
    let change = |file: &File, mode| error(file.set_permissions(fs::Permissions::from_mode(mode)));
    let file = memfd(c"data", NOEXEC_SEAL).unwrap();
    check_eq!((mode(&file), seals(&file)), (0o666, EXEC));
    check_eq!((change(&file, 0o777), change(&file, 0o600), change(&file, 0o644)), (libc::EPERM, 0, 0));
    check_eq!((add(&file, SHRINK), seals(&file)), (0, EXEC | SHRINK));
    let file = memfd(c"code", EXECUTABLE | ALLOW_SEALING).unwrap();
    check_eq!((mode(&file), seals(&file), add(&file, EXEC)), (0o777, 0, 0));
    check_eq!(
        (seals(&file), change(&file, 0o666)),
        (EXEC | SHRINK | GROW | WRITE | FUTURE_WRITE, libc::EPERM)
    );
    check_eq!(
        (mode(&memfd(c"code", EXECUTABLE).unwrap()), seals(&memfd(c"code", EXECUTABLE).unwrap())),
        (0o777, SEAL)
    );
}

/// Once a file is sealed, no write that was under way changes it.
fn a_writer_loses_the_race() {
    for _ in 0..50 {
        let file = sealable();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let bytes = [b'w'; 3 * PAGE];
                for round in 0.. {
                    if error(file.write_at(&[round as u8], 0)) == libc::EPERM {
                        break;
                    }
                    let _ = file.write_at(&bytes, PAGE as u64);
                }
            });
            std::thread::yield_now();
            while add(&file, WRITE) == libc::EBUSY {}
            let before = byte_at(&file, 0);
            std::thread::yield_now();
            check_eq!(byte_at(&file, 0), before);
        });
        check_eq!(seals(&file), WRITE);
    }
}
