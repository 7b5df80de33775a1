//! Which filesystem a file is in, as every way of asking tells it; and a new file's times, which are all one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guest_tests::{check, check_eq};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Statx, StatxFlags, makedev, mknodat, open,
    renameat_with, rmdir, statfs, statx,
};
use rustix::io::Errno;
use rustix::pipe::pipe;

const PROC_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;
const TMPFS_MAGIC: i64 = 0x0102_1994;
const PIPE_MAGIC: i64 = 0x5049_5045;

fn facts(path: impl AsRef<Path>) -> Statx {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    let facts = statx(CWD, path.as_ref(), AtFlags::SYMLINK_NOFOLLOW, mask).unwrap();
    // `/proc` does not tell when a file was made.
    let told = mask.difference(StatxFlags::BTIME).bits();
    check_eq!(facts.stx_mask & told, told);
    facts
}

fn device_of(path: impl AsRef<Path>) -> u64 {
    let (facts, metadata) = (facts(&path), fs::symlink_metadata(&path).unwrap());
    check_eq!(metadata.dev(), makedev(facts.stx_dev_major, facts.stx_dev_minor));
    metadata.dev()
}

/// Made and never changed: at one time.
fn check_new(path: impl AsRef<Path>) {
    let facts = facts(&path);
    check!(facts.stx_mask & StatxFlags::BTIME.bits() != 0);
    let time = |time: rustix::fs::StatxTimestamp| (time.tv_sec, time.tv_nsec);
    let made = time(facts.stx_btime);
    for other in [facts.stx_atime, facts.stx_mtime, facts.stx_ctime] {
        check_eq!(time(other), made);
    }
}

/// The content of a directory was changed, and with it the directory.
fn check_changed(directory: &Path, before: &Statx) -> Statx {
    let now = facts(directory);
    check_eq!((now.stx_mtime.tv_sec, now.stx_mtime.tv_nsec), (now.stx_ctime.tv_sec, now.stx_ctime.tv_nsec));
    let is_later = |time: rustix::fs::StatxTimestamp| (time.tv_sec, time.tv_nsec);
    check!(is_later(now.stx_mtime) > is_later(before.stx_mtime));
    // Linux counts in ticks.
    std::thread::sleep(Duration::from_millis(12));
    now
}

fn times(parent: &Path) {
    let folder = parent.join(format!("filesystems-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    check_new(&folder);
    let at = |name: &str| folder.join(name);
    let mut state = facts(&folder);
    std::thread::sleep(Duration::from_millis(12));
    // With O_TRUNC, which has nothing to cut off.
    drop(File::create(at("file")).unwrap());
    check_new(at("file"));
    state = check_changed(&folder, &state);
    fs::create_dir(at("directory")).unwrap();
    check_new(at("directory"));
    state = check_changed(&folder, &state);
    std::os::unix::fs::symlink("file", at("link")).unwrap();
    check_new(at("link"));
    state = check_changed(&folder, &state);
    for kind in [FileType::Fifo, FileType::RegularFile] {
        mknodat(CWD, at(&format!("{kind:?}")), kind, Mode::RUSR, 0).unwrap();
        check_new(at(&format!("{kind:?}")));
        state = check_changed(&folder, &state);
    }
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    check_new(at("socket"));
    state = check_changed(&folder, &state);
    let unnamed = open(&folder, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR).unwrap();
    let metadata = File::from(unnamed).metadata().unwrap();
    check_eq!((metadata.mtime(), metadata.mtime_nsec()), (metadata.atime(), metadata.atime_nsec()));
    check_eq!((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()));
    fs::hard_link(at("file"), at("second")).unwrap();
    state = check_changed(&folder, &state);
    let inner = facts(at("directory"));
    fs::rename(at("second"), at("directory/second")).unwrap();
    check_changed(&at("directory"), &inner);
    state = check_changed(&folder, &state);
    fs::remove_file(at("directory/second")).unwrap();
    fs::remove_dir(at("directory")).unwrap();
    state = check_changed(&folder, &state);
    fs::remove_file(at("link")).unwrap();
    check_changed(&folder, &state);
    // A file that is there is changed by the same call.
    let before = facts(at("file"));
    std::thread::sleep(Duration::from_millis(12));
    drop(File::create(at("file")).unwrap());
    let now = facts(at("file"));
    let time = |time: rustix::fs::StatxTimestamp| (time.tv_sec, time.tv_nsec);
    check!(time(now.stx_mtime) > time(now.stx_btime));
    check_eq!(now.stx_ino, before.stx_ino);
    fs::remove_dir_all(&folder).unwrap();
}

/// Device number and id of the mounts, by where they are.
fn mounts() -> HashMap<PathBuf, (u64, u64)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut ids = Vec::new();
    let mounts = text.lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let (major, minor) = fields[2].split_once(':').unwrap();
        ids.push(fields[0].to_owned());
        check!(fields[3].starts_with('/') && matches!(&fields[5][..2], "rw" | "ro"));
        let dash = fields.iter().position(|field| *field == "-").unwrap();
        check_eq!(fields.len(), dash + 4);
        let device = makedev(major.parse().unwrap(), minor.parse().unwrap());
        // A later one covers an earlier one.
        (PathBuf::from(fields[4]), (device, fields[0].parse().unwrap()))
    });
    let mounts = mounts.collect();
    ids.sort_unstable();
    ids.dedup();
    check_eq!(ids.len(), text.lines().count());
    check_eq!(fs::read_to_string("/proc/mounts").unwrap().lines().count(), text.lines().count());
    mounts
}

fn devices(data: &Path) {
    let mounts = mounts();
    for path in ["/", "/proc", "/sys", "/dev", "/dev/shm"].map(Path::new).into_iter().chain([data]) {
        let path = fs::canonicalize(path).unwrap();
        let mount = path.ancestors().find(|path| mounts.contains_key(*path)).unwrap();
        let id = facts(&path).stx_mnt_id;
        check_eq!((device_of(&path), id), mounts[mount]);
    }
    let root = device_of("/");
    for (path, inside) in [("/proc", "/proc/self/status"), ("/sys", "/sys/devices"), ("/dev", "/dev/null")] {
        check!(device_of(path) != root);
        check_eq!(device_of(path), device_of(inside));
    }
    check_eq!(device_of("/proc/self/stat"), device_of("/proc"));
    check!(device_of("/proc") != device_of("/sys") && device_of("/sys") != device_of("/dev"));
    // As `find -xdev` does.
    let entries = fs::read_dir("/").unwrap().map(|entry| entry.unwrap().path());
    let same: Vec<PathBuf> = entries.filter(|path| device_of(path) == root).collect();
    check!(!["/proc", "/sys", "/dev"].iter().any(|path| same.contains(&PathBuf::from(path))));
    for (path, magic) in
        [("/proc/self", PROC_MAGIC), ("/sys/devices", SYSFS_MAGIC), ("/dev/shm", TMPFS_MAGIC)]
    {
        check_eq!(statfs(path).unwrap().f_type, magic);
        check_eq!(rustix::fs::fstatfs(File::open(path).unwrap()).unwrap().f_type, magic);
    }
    check_eq!(rustix::fs::fstatfs(pipe().unwrap().0).unwrap().f_type, PIPE_MAGIC);
    let (proc, sys) = (statfs("/proc").unwrap(), statfs("/sys").unwrap());
    check_eq!((proc.f_blocks, proc.f_bfree, proc.f_files, sys.f_blocks), (0, 0, 0, 0));
}

/// Names do not go from one filesystem to another, and those of the kernel stay.
fn borders(data: &Path) {
    let file = data.join(format!("border-{}", std::process::id()));
    fs::write(&file, "x").unwrap();
    for target in ["/dev/shm/border", "/proc/border", "/sys/border"] {
        for flags in [RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE] {
            check_eq!(renameat_with(CWD, &file, CWD, target, flags), Err(Errno::XDEV));
        }
    }
    check_eq!(fs::hard_link(&file, "/dev/shm/border").unwrap_err().raw_os_error(), Some(libc::EXDEV));
    let is_refused = |error: Errno| matches!(error, Errno::ROFS | Errno::PERM | Errno::ACCESS | Errno::BUSY);
    check!(is_refused(rmdir("/proc").unwrap_err()) && is_refused(rmdir("/sys").unwrap_err()));
    for path in ["/proc/border", "/proc/self/border"] {
        check_eq!(rustix::fs::mkdir(path, Mode::RWXU), Err(Errno::NOENT));
        check_eq!(open(path, OFlags::CREATE | OFlags::RDWR, Mode::RWXU).unwrap_err(), Errno::NOENT);
    }
    check!(is_refused(rustix::fs::mkdir("/sys/border", Mode::RWXU).unwrap_err()));
    check!(is_refused(rustix::fs::unlink("/proc/version").unwrap_err()));
    check!(is_refused(rustix::fs::rename("/proc/version", "/proc/uptime").unwrap_err()));
    let unnamed = open("/proc", OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR).unwrap_err();
    check!(matches!(unnamed, Errno::OPNOTSUPP | Errno::ACCESS));
    fs::remove_file(&file).unwrap();
}

fn main() {
    let data = std::env::var_os("DATA").map_or_else(std::env::temp_dir, PathBuf::from);
    times(Path::new("/dev/shm"));
    times(&data);
    devices(&data);
    borders(&data);
}
