//! What files are: modes, owners, times, statx(2), statfs(2), extended attributes.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_on_each_filesystem};
use super::{Stat, open, write_file};

#[test]
fn modes_are_changed() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"");
        assert_eq!(sys!(chmod, "/tmp/file", 0o4711), Ok(0));
        assert_eq!(Stat::of("/tmp/file").mode(), S_IFREG | 0o4711);
        let file = open("/tmp/file", O_RDONLY);
        assert_eq!(sys!(fchmod, file, 0o600), Ok(0));
        assert_eq!(Stat::of("/tmp/file").mode(), S_IFREG | 0o600);
        assert_eq!(sys!(fchmodat, AT_FDCWD, "/tmp/file", 0o640), Ok(0));
        assert_eq!(Stat::of("/tmp/file").mode(), S_IFREG | 0o640);
        assert_eq!(sys!(chmod, "/tmp/none", 0o600), Err(ENOENT));
        assert_eq!(sys!(fchmod, 99, 0o600), Err(EBADF));
        assert_eq!(sys!(fchmod, open("/tmp/file", O_PATH), 0o600), Err(EBADF));
    });
}

#[test]
fn fchmodat2_has_flags() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"");
        sys!(symlink, "file", "/tmp/link").unwrap();
        assert_eq!(sys!(fchmodat2, AT_FDCWD, "/tmp/link", 0o611, 0), Ok(0));
        assert_eq!(Stat::of("/tmp/file").mode(), S_IFREG | 0o611);
        let flags = AT_SYMLINK_NOFOLLOW;
        assert_eq!(sys!(fchmodat2, AT_FDCWD, "/tmp/link", 0o600, flags), Err(EOPNOTSUPP));
        assert_eq!(sys!(fchmodat2, AT_FDCWD, "/tmp/file", 0o600, 1), Err(EINVAL));
        let path_only = open("/tmp/file", O_PATH);
        assert_eq!(sys!(fchmodat2, path_only, "", 0o622, AT_EMPTY_PATH), Ok(0));
        assert_eq!(Stat::of("/tmp/file").mode(), S_IFREG | 0o622);
    });
}

#[test]
fn owners_are_changed() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"");
        assert_eq!(sys!(chown, "/tmp/file", 12, -1), Ok(0));
        assert_eq!(Stat::of("/tmp/file").owner(), (12, 0));
        assert_eq!(sys!(fchown, open("/tmp/file", O_RDONLY), -1, 34), Ok(0));
        assert_eq!(Stat::of("/tmp/file").owner(), (12, 34));
        sys!(symlink, "file", "/tmp/link").unwrap();
        assert_eq!(sys!(lchown, "/tmp/link", 5, 6), Ok(0));
        assert_eq!(Stat::of("/tmp/file").owner(), (12, 34));
        assert_eq!(sys!(fchownat, AT_FDCWD, "/tmp/link", 7, 8, 0), Ok(0));
        assert_eq!(Stat::of("/tmp/file").owner(), (7, 8));
        assert_eq!(sys!(fchownat, AT_FDCWD, "/tmp/link", 7, 8, 1), Err(EINVAL));
        assert_eq!(sys!(chown, "/tmp/none", 0, 0), Err(ENOENT));
    });
}

#[test]
fn times_are_set_to_the_nanosecond() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"");
        let times = Room::of_longs(&[1_000_000, 123_456_789, 2_000_000, 987_654_321]);
        assert_eq!(sys!(utimensat, AT_FDCWD, "/tmp/file", &times, 0), Ok(0));
        let stat = Stat::of("/tmp/file");
        assert_eq!((stat.accessed(), stat.modified()), ((1_000_000, 123_456_789), (2_000_000, 987_654_321)));
        let times = Room::of_longs(&[5, UTIME_OMIT.into(), 7, 8]);
        assert_eq!(sys!(utimensat, AT_FDCWD, "/tmp/file", &times, 0), Ok(0));
        let stat = Stat::of("/tmp/file");
        assert_eq!((stat.accessed(), stat.modified()), ((1_000_000, 123_456_789), (7, 8)));
        let times = Room::of_longs(&[5, 1_000_000_000, 7, 8]);
        assert_eq!(sys!(utimensat, AT_FDCWD, "/tmp/file", &times, 0), Err(EINVAL));
        assert_eq!(sys!(utimensat, AT_FDCWD, "/tmp/none", 0, 0), Err(ENOENT));
        // Without a path it is the descriptor's own file.
        let file = open("/tmp/file", O_RDONLY);
        let times = Room::of_longs(&[1, 2, 3, 4]);
        assert_eq!(sys!(utimensat, file, 0, &times, 0), Ok(0));
        assert_eq!(Stat::of("/tmp/file").modified(), (3, 4));
    });
}

#[test]
fn old_calls_set_times_too() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"");
        assert_eq!(sys!(utime, "/tmp/file", &Room::of_longs(&[11, 22])), Ok(0));
        let stat = Stat::of("/tmp/file");
        assert_eq!((stat.accessed(), stat.modified()), ((11, 0), (22, 0)));
        assert_eq!(sys!(utimes, "/tmp/file", &Room::of_longs(&[1, 2, 3, 4])), Ok(0));
        assert_eq!(Stat::of("/tmp/file").modified(), (3, 4000));
        let late = Room::of_longs(&[1, 2, 3, 1_000_000]);
        assert_eq!(sys!(utimes, "/tmp/file", &late), Err(EINVAL));
        assert_eq!(sys!(futimesat, AT_FDCWD, "/tmp/file", &Room::of_longs(&[5, 6, 7, 8])), Ok(0));
        let stat = Stat::of("/tmp/file");
        assert_eq!((stat.accessed(), stat.modified()), ((5, 6000), (7, 8000)));
        assert_eq!(sys!(utime, "/tmp/file", 0), Ok(0));
        assert!(Stat::of("/tmp/file").modified() > (22, 0));
    });
}

#[test]
fn writing_changes_the_time() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"");
        sys!(utime, "/tmp/file", &Room::of_longs(&[11, 22])).unwrap();
        let file = open("/tmp/file", O_RDWR);
        sys!(write, file, &Room::of(b"x"), 1).unwrap();
        let stat = Stat::of("/tmp/file");
        assert_eq!(stat.accessed(), (11, 0));
        assert!(stat.modified() > (22, 0));
    });
}

#[test]
fn stat_calls_agree() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"12345");
        sys!(symlink, "file", "/tmp/link").unwrap();
        let (by_path, by_file, at, by_link) = (
            Stat::of("/tmp/file"),
            Stat::of_file(open("/tmp/file", O_RDONLY)),
            Room::new(144),
            Room::new(144),
        );
        sys!(newfstatat, AT_FDCWD, "/tmp/link", &at, 0).unwrap();
        assert_eq!(by_path.0.bytes(0, 144), by_file.0.bytes(0, 144));
        assert_eq!(by_path.0.bytes(0, 144), at.bytes(0, 144));
        sys!(lstat, "/tmp/link", &by_link).unwrap();
        assert_eq!((by_link.word(24), by_link.long(48)), (S_IFLNK | 0o777, 4));
        sys!(newfstatat, AT_FDCWD, "/tmp/link", &at, AT_SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(by_link.bytes(0, 72), at.bytes(0, 72));
        assert_eq!(sys!(stat, "/tmp/none", &at), Err(ENOENT));
        assert_eq!(sys!(stat, "/tmp/file", 1), Err(EFAULT));
        assert_eq!(sys!(fstat, 99, &at), Err(EBADF));
        assert_eq!(sys!(newfstatat, AT_FDCWD, "", &at, 0), Err(ENOENT));
        assert_eq!(sys!(newfstatat, AT_FDCWD, "/tmp/file", &at, 1), Err(EINVAL));
        assert_eq!(sys!(newfstatat, 1, "", &at, AT_EMPTY_PATH), Ok(0));
    });
}

#[test]
fn statx_tells_the_same() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"12345");
        let room = Room::new(256);
        assert_eq!(sys!(statx, AT_FDCWD, "/tmp/file", 0, STATX_BASIC_STATS, &room), Ok(0));
        let stat = Stat::of("/tmp/file");
        assert_eq!(room.word(0) & STATX_BASIC_STATS, STATX_BASIC_STATS);
        assert_eq!((room.long(32), room.long(40)), (stat.inode(), 5));
        assert_eq!(u32::from(room.byte(29)) << 8 | u32::from(room.byte(28)), stat.mode());
        assert_eq!(sys!(statx, AT_FDCWD, "/dev/null", 0, STATX_BASIC_STATS, &room), Ok(0));
        assert_eq!((room.word(128), room.word(132)), (1, 3));
        assert_eq!(sys!(statx, AT_FDCWD, "/tmp/file", 0, 1 << 31, &room), Err(EINVAL));
        assert_eq!(sys!(statx, AT_FDCWD, "/tmp/file", 0x6000, 0, &room), Err(EINVAL));
        assert_eq!(sys!(statx, AT_FDCWD, "/tmp/none", 0, 0, &room), Err(ENOENT));
        assert_eq!(sys!(statx, AT_FDCWD, "/tmp/file", 0, 0, 1), Err(EFAULT));
    });
}

#[test]
fn statfs_tells_the_kind_of_file_system() {
    run(|| {
        const TMPFS: u64 = 0x0102_1994;
        const PROC: u64 = 0x9fa0;
        let room = Room::new(120);
        assert_eq!(sys!(statfs, "/tmp", &room), Ok(0));
        assert_eq!((room.long(0), room.long(8)), (TMPFS, 4096));
        assert!(room.long(24) <= room.long(16));
        assert_eq!(sys!(fstatfs, open("/proc/stat", O_RDONLY), &room), Ok(0));
        assert_eq!(room.long(0), PROC);
        assert_eq!(sys!(statfs, "/none", &room), Err(ENOENT));
        assert_eq!(sys!(fstatfs, 99, &room), Err(EBADF));
        assert_eq!(sys!(statfs, "/tmp", 1), Err(EFAULT));
    });
}

#[test]
fn files_in_memory_have_no_extended_attributes() {
    run(|| {
        write_file("/tmp/file", b"");
        let file = open("/tmp/file", O_RDWR);
        let value = Room::of(b"value");
        assert_eq!(sys!(setxattr, "/tmp/file", "user.a", &value, 5, 0), Err(EOPNOTSUPP));
        assert_eq!(sys!(lsetxattr, "/tmp/file", "user.a", &value, 5, 0), Err(EOPNOTSUPP));
        assert_eq!(sys!(fsetxattr, file, "user.a", &value, 5, 0), Err(EOPNOTSUPP));
        assert_eq!(sys!(getxattr, "/tmp/file", "user.a", &value, 5), Err(EOPNOTSUPP));
        assert_eq!(sys!(lgetxattr, "/tmp/file", "user.a", &value, 5), Err(EOPNOTSUPP));
        assert_eq!(sys!(fgetxattr, file, "user.a", &value, 5), Err(EOPNOTSUPP));
        assert_eq!(sys!(removexattr, "/tmp/file", "user.a"), Err(EOPNOTSUPP));
        assert_eq!(sys!(lremovexattr, "/tmp/file", "user.a"), Err(EOPNOTSUPP));
        assert_eq!(sys!(fremovexattr, file, "user.a"), Err(EOPNOTSUPP));
        assert_eq!(sys!(listxattr, "/tmp/file", &value, 5), Ok(0));
        assert_eq!(sys!(llistxattr, "/tmp/file", &value, 5), Ok(0));
        assert_eq!(sys!(flistxattr, file, &value, 5), Ok(0));
    });
}

#[test]
fn extended_attributes_are_checked_before_the_file_is_asked() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"");
        let value = Room::of(b"value");
        assert_eq!(sys!(setxattr, "/tmp/file", "", &value, 5, 0), Err(ERANGE));
        assert_eq!(sys!(setxattr, "/tmp/file", "user.a", &value, 5, 4), Err(EINVAL));
        assert_eq!(sys!(setxattr, "/tmp/file", "user.a", &value, 65_537, 0), Err(E2BIG));
        assert_eq!(sys!(setxattr, "/tmp/none", "user.a", &value, 5, 0), Err(ENOENT));
        assert_eq!(sys!(fsetxattr, 99, "user.a", &value, 5, 0), Err(EBADF));
        assert_eq!(sys!(flistxattr, 99, &value, 5), Err(EBADF));
    });
}
