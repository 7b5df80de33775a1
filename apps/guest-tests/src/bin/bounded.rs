//! Calls whose arguments name much more than there is: each takes as long as what there is, not as what is named.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{
    Advice, FallocateFlags, MemfdFlags, SeekFrom, fadvise, fallocate, ftruncate, memfd_create, seek,
};
use rustix::io::Errno;

/// Far more than any of these takes, and far less than a loop over what is named.
const LONGEST: Duration = Duration::from_secs(10);
const HUGE: u64 = 1 << 62;

/// True on this kernel.
fn is_booted() -> bool {
    fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| release.contains("unikernel"))
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let outcome = work();
    let took = started.elapsed();
    println!("{what}: {took:?}");
    assert!(took < LONGEST, "{what} took {took:?}");
    outcome
}

/// Three pages of data in 4 EiB of holes.
fn sparse_memory_file() {
    let file = File::from(memfd_create("sparse", MemfdFlags::empty()).unwrap());
    ftruncate(&file, HUGE).unwrap();
    for place in [1 << 20, 1 << 40, HUGE - 1] {
        file.write_all_at(b"x", place).unwrap();
    }
    let find = |from| timed("seek", || seek(&file, from));
    assert_eq!(find(SeekFrom::Data(0)), Ok(1 << 20));
    assert_eq!(find(SeekFrom::Data((1 << 20) + 4096)), Ok(1 << 40));
    assert_eq!(find(SeekFrom::Hole(1 << 40)), Ok((1 << 40) + 4096));
    assert_eq!(find(SeekFrom::Data((1 << 40) + 4096)), Ok(HUGE - 4096));
    assert_eq!(find(SeekFrom::Hole(HUGE - 1)), Ok(HUGE));
    assert_eq!(find(SeekFrom::Data(HUGE)), Err(Errno::NXIO));
    assert_eq!(find(SeekFrom::Hole(0)), Ok(0));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    timed("punch", || fallocate(&file, punch, 100, HUGE - 200)).unwrap();
    let mut byte = [1];
    for place in [1 << 20, 1 << 40] {
        file.read_exact_at(&mut byte, place).unwrap();
        assert_eq!(byte, [0]);
    }
    file.read_exact_at(&mut byte, HUGE - 1).unwrap();
    assert_eq!(byte, *b"x");
    // There is no room for it, and none is taken. Linux would take all the machine's memory first.
    if is_booted() {
        let zero = timed("zero", || fallocate(&file, FallocateFlags::ZERO_RANGE, 0, HUGE));
        assert_eq!(zero, Err(Errno::NOSPC));
        let reserved = timed("reserve", || fallocate(&file, FallocateFlags::empty(), 0, HUGE));
        assert_eq!(reserved, Err(Errno::NOSPC));
    }
    timed("truncate", || ftruncate(&file, 1)).unwrap();
}

/// A file of 2 TiB that holds nothing.
fn sparse_disk_file(folder: &std::path::Path) {
    let path = folder.join(format!("bounded-{}", std::process::id()));
    let file = File::create_new(&path).unwrap();
    ftruncate(&file, 2 << 40).unwrap();
    for advice in [Advice::WillNeed, Advice::DontNeed] {
        timed("advise", || fadvise(&file, 0, std::num::NonZeroU64::new(2 << 40), advice)).unwrap();
        timed("advise to the end", || fadvise(&file, 0, None, advice)).unwrap();
    }
    timed("seek", || seek(&file, SeekFrom::Hole(0))).unwrap();
    timed("seek", || seek(&file, SeekFrom::Data(0))).unwrap_err();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    timed("punch", || fallocate(&file, punch, 0, 2 << 40)).unwrap();
    timed("sync", || file.sync_all()).unwrap();
    fs::remove_file(&path).unwrap();
}

fn record_lock(file: &File, command: i32, kind: i32, start: i64, len: i64) -> bool {
    let (l_type, l_whence) = (kind as i16, libc::SEEK_SET as i16);
    let wanted = libc::flock { l_type, l_whence, l_start: start, l_len: len, l_pid: 0 };
    // SAFETY: the call reads the structure.
    unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const wanted) == 0 }
}

/// 300,000 locks of every byte, in turn of the process and of an open file: taken, met by a third's, changed, given up, and left to be
/// freed when the file is closed. Linux has a list, which takes minutes for them.
fn record_locks(folder: &std::path::Path) {
    use libc::{F_OFD_SETLK, F_RDLCK, F_SETLK, F_UNLCK, F_WRLCK};
    let path = folder.join(format!("locks-{}", std::process::id()));
    let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
    let (file, other, third) = (open(), open(), open());
    let count = if is_booted() { 150_000 } else { 1000 };
    timed("lock", || {
        for at in 0..count {
            assert!(record_lock(&file, F_SETLK, F_WRLCK, 2 * at, 1));
            assert!(record_lock(&other, F_OFD_SETLK, F_WRLCK, 2 * at + 1, 1));
        }
    });
    assert!(!record_lock(&third, F_OFD_SETLK, F_WRLCK, 2 * count - 2, 1));
    assert!(!record_lock(&third, F_OFD_SETLK, F_RDLCK, 2 * count - 1, 0));
    timed("unlock", || {
        (0..count / 2).for_each(|at| assert!(record_lock(&file, F_SETLK, F_UNLCK, 2 * at, 1)));
    });
    timed("unlock the rest", || assert!(record_lock(&file, F_SETLK, F_UNLCK, 0, 0)));
    // One lock takes the place of all: nobody gets between.
    timed("share all", || assert!(record_lock(&other, F_OFD_SETLK, F_RDLCK, 0, 0)));
    assert!(!record_lock(&third, F_OFD_SETLK, F_WRLCK, 2 * count, 1));
    assert!(record_lock(&third, F_OFD_SETLK, F_RDLCK, 0, 1));
    drop(third);
    timed("leave holes", || {
        (0..count).for_each(|at| assert!(record_lock(&other, F_OFD_SETLK, F_UNLCK, 2 * at, 1)));
    });
    timed("close", || drop(other));
    assert!(record_lock(&file, F_SETLK, F_WRLCK, 0, 0));
    fs::remove_file(&path).unwrap();
}

/// As much address space as there is, hardly any of it in memory.
fn residency() {
    const LEN: usize = 1 << 43;
    // SAFETY: a new mapping, which nobody but this function uses.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            LEN,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if place == libc::MAP_FAILED {
        return println!("2^43 bytes cannot be mapped here");
    }
    let mut vector = vec![0_u8; 1 << 20];
    // SAFETY: the vector has a byte for each page that is asked about, or the call says where it ends.
    let some = timed("mincore", || unsafe { libc::mincore(place, vector.len() << 12, vector.as_mut_ptr()) });
    assert_eq!(some, 0);
    assert!(vector.iter().all(|&byte| byte == 0));
    // SAFETY: what is behind the vector is not mapped, or the app's own; the answer is an error or takes its time.
    timed("mincore without room", || unsafe { libc::mincore(place, LEN, 4096 as *mut u8) });
    // SAFETY: the mapping of above, which is used no more.
    timed("munmap", || assert_eq!(unsafe { libc::munmap(place, LEN) }, 0));
}

/// One file in very many rings' requests: closing the rings takes each request off it.
fn ring_requests() {
    let Some(counters) = (0..2).map(|_| io_uring::IoUring::new(4096).ok()).collect::<Option<Vec<_>>>() else {
        return println!("no io_uring here");
    };
    let counter = eventfd(0, EventfdFlags::empty()).unwrap();
    let mut rings = counters;
    let entry =
        io_uring::opcode::PollAdd::new(io_uring::types::Fd(counter.as_raw_fd()), libc::POLLIN as u32).build();
    for ring in &mut rings {
        for _ in 0..15 {
            for _ in 0..4096 {
                // SAFETY: the request has no buffer.
                unsafe { ring.submission().push(&entry).unwrap() };
            }
            timed("submit", || ring.submit()).unwrap();
        }
    }
    timed("close the rings", || drop(rings));
    drop(counter);
}

fn main() {
    let folder = std::env::var_os("DATA").map_or_else(std::env::temp_dir, PathBuf::from);
    if std::env::var_os("DATA").is_some() {
        return sparse_disk_file(&folder);
    }
    sparse_memory_file();
    record_locks(&folder);
    residency();
    ring_requests();
}
