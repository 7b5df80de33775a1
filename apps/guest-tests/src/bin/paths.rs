//! Files with names: devices, `/proc`, paths, directories.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, fcntl_getfl, fcntl_setfl, openat, statx};
use rustix::io::Errno;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("devices", devices),
        ("what is not there", absent),
        ("texts in /proc", texts),
        ("offsets", offsets),
        ("kinds of files", kinds),
        ("listing", listing),
        ("current directory", current_directory),
        ("flags of open", open_flags),
        ("flags that are told", told_flags),
        ("relative to a descriptor", relative),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
    if is_appliance() {
        println!("metrics");
        metrics();
    }
}

fn is_appliance() -> bool {
    fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| release.contains("unikernel"))
}

fn error<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| Errno::from_io_error(&error))
}

fn devices() {
    assert_eq!(fs::read("/dev/null").unwrap(), b"");
    let mut four = [9; 4];
    File::open("/dev/zero").unwrap().read_exact(&mut four).unwrap();
    assert_eq!(four, [0; 4]);
    let mut full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    assert_eq!(error(full.write(b"x")), Some(Errno::NOSPC));
    full.read_exact(&mut four).unwrap();
    let mut random = [[0; 64]; 2];
    File::open("/dev/urandom").unwrap().read_exact(&mut random[0]).unwrap();
    File::open("/dev/random").unwrap().read_exact(&mut random[1]).unwrap();
    assert!(random[0] != [0; 64] && random[0] != random[1]);
    assert_eq!(OpenOptions::new().write(true).open("/dev/null").unwrap().write(b"abc").unwrap(), 3);
}

fn absent() {
    assert_eq!(error(fs::read("/nowhere/x")), Some(Errno::NOENT));
    assert_eq!(error(fs::read("/dev/null/x")), Some(Errno::NOTDIR));
    assert_eq!(error(fs::read("")), Some(Errno::NOENT));
    assert_eq!(error(fs::read("x".repeat(5000))), Some(Errno::NAMETOOLONG));
    assert_eq!(error(fs::read("x".repeat(300))), Some(Errno::NAMETOOLONG));
    assert_eq!(error(fs::remove_file("/nowhere")), Some(Errno::NOENT));
    assert_eq!(error(fs::create_dir("/proc")), Some(Errno::EXIST));
    assert_eq!(error(fs::read("/proc")), Some(Errno::ISDIR));
}

fn texts() {
    let read = |path| fs::read_to_string(path).unwrap();
    // The fields of proc_pid_stat(5).
    assert_eq!(read("/proc/self/stat").trim().split(' ').count(), 52);
    assert!(read("/proc/self/maps").contains("[stack]"));
    assert!(read("/proc/self/status").contains("Threads:\t1\n"));
    assert!(read("/proc/meminfo").starts_with("MemTotal:"));
    assert!(read("/proc/cpuinfo").contains("processor"));
    assert!(read("/proc/stat").starts_with("cpu "));
    assert_eq!(read("/proc/uptime").split(' ').count(), 2);
    assert_eq!(read("/proc/loadavg").split(' ').count(), 5);
    assert_eq!(read("/proc/sys/kernel/ostype"), "Linux\n");
    assert!(read("/proc/sys/net/core/somaxconn").trim().parse::<u32>().unwrap() >= 128);
    assert!(read("/proc/self/cmdline").ends_with('\0'));
}

fn offsets() {
    let mut file = File::open("/proc/self/status").unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    let mut two = [0; 2];
    file.read_exact(&mut two).unwrap();
    assert_eq!(&two, b":\t");
    assert_eq!(file.stream_position().unwrap(), 6);
    assert_eq!(error(file.seek(SeekFrom::Current(-7))), Some(Errno::INVAL));
}

fn kinds() {
    let null = fs::metadata("/dev/null").unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!(null.rdev(), 0x103);
    assert!(fs::metadata("/proc").unwrap().is_dir());
    assert!(fs::metadata("/proc/self/stat").unwrap().is_file());
    assert!(fs::symlink_metadata("/proc/self/exe").unwrap().is_symlink());
    assert!(std::env::current_exe().unwrap().is_absolute());
    let basic = statx(CWD, "/dev/null", AtFlags::empty(), StatxFlags::BASIC_STATS).unwrap();
    assert_eq!((basic.stx_rdev_major, basic.stx_rdev_minor), (1, 3));
    assert_eq!(basic.stx_ino, null.ino());
}

fn listing() {
    let type_of = |wanted: &str| -> Option<FileType> {
        let mut entries = fs::read_dir("/dev").unwrap().map(Result::unwrap);
        entries.find(|entry| entry.file_name() == wanted).map(|entry| entry.file_type().unwrap())
    };
    assert!(type_of("null").unwrap().is_char_device());
    assert!(type_of("urandom").is_some() && type_of("nothing").is_none());
    assert_eq!(error(fs::read_dir("/dev/null")), Some(Errno::NOTDIR));
}

fn current_directory() {
    std::env::set_current_dir("/proc/sys").unwrap();
    assert_eq!(std::env::current_dir().unwrap().to_str(), Some("/proc/sys"));
    assert_eq!(fs::read_to_string("kernel/ostype").unwrap(), "Linux\n");
    assert_eq!(fs::canonicalize("../sys/./kernel").unwrap().to_str(), Some("/proc/sys/kernel"));
    assert_eq!(error(std::env::set_current_dir("/dev/null")), Some(Errno::NOTDIR));
    std::env::set_current_dir("/").unwrap();
}

fn open_flags() {
    let open = |path, flags| openat(CWD, path, flags, Mode::empty()).map(drop);
    assert_eq!(open("/dev/null", OFlags::DIRECTORY), Err(Errno::NOTDIR));
    assert_eq!(open("/proc", OFlags::WRONLY), Err(Errno::ISDIR));
    assert_eq!(open("/dev/null", OFlags::CREATE | OFlags::EXCL), Err(Errno::EXIST));
    assert_eq!(open("/dev/null", OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC), Ok(()));
    assert_eq!(open("/proc/self/exe", OFlags::NOFOLLOW), Err(Errno::LOOP));
}

fn told_flags() {
    let path = std::env::temp_dir().join("told-flags");
    let file =
        |flags| openat(CWD, &path, OFlags::CREATE | OFlags::RDWR | flags, Mode::RUSR | Mode::WUSR).unwrap();
    for flags in [OFlags::SYNC, OFlags::DSYNC, OFlags::NOATIME, OFlags::NOFOLLOW, OFlags::APPEND] {
        assert!(fcntl_getfl(file(flags)).unwrap().contains(flags), "{flags:?}");
    }
    let file = file(OFlags::empty());
    fcntl_setfl(&file, OFlags::NOATIME).unwrap();
    assert!(fcntl_getfl(&file).unwrap().contains(OFlags::NOATIME));
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
    assert_eq!(fcntl_setfl(&event, OFlags::DIRECT), Err(Errno::INVAL));
    // No transfer ends behind the last offset.
    let end = i64::MAX as u64;
    assert_eq!(rustix::io::pread(&file, &mut [0; 4][..], end - 3), Err(Errno::INVAL));
    assert_eq!(rustix::io::pread(&file, &mut [0; 3][..], end - 3), Ok(0));
    assert_eq!(rustix::io::pwrite(&file, b"x", end), Err(Errno::INVAL));
    fs::remove_file(path).unwrap();
}

fn relative() {
    let devices = openat(CWD, "/dev", OFlags::DIRECTORY | OFlags::PATH, Mode::empty()).unwrap();
    let null = openat(&devices, "null", OFlags::WRONLY, Mode::empty()).unwrap();
    assert_eq!(rustix::io::write(&null, b"abc"), Ok(3));
    assert_eq!(openat(&null, "x", OFlags::RDONLY, Mode::empty()).map(drop), Err(Errno::NOTDIR));
    assert_eq!(rustix::io::read(&devices, &mut [0; 4][..]), Err(Errno::BADF));
}

fn metrics() {
    let metrics = fs::read_to_string("/proc/unikernel/metrics").unwrap();
    assert!(metrics.contains("\nunikernel_system_calls_total "));
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once(' ').unwrap();
        assert!(name.starts_with("unikernel_") && value.parse::<u64>().is_ok(), "{line}");
    }
}
