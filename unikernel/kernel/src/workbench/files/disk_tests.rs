//! What only a filesystem on a disk has: extended attributes, direct i/o, ranges that are written back, sticky groups. The tests
//! that hold for memory and disks alike are with the others.

use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::net::{self, STREAM};
use super::super::app::run::{Answer, run_on_ext4};
use super::{Stat, open, read_file, write_file};

const PAGE: usize = 4096;

fn attribute(path: &str, name: &str) -> Answer<Vec<u8>> {
    let room = Room::new(256);
    let len = sys!(getxattr, path, name, &room, 256)?;
    Ok(room.bytes(0, len as usize))
}

#[test]
fn extended_attributes_are_set_listed_and_removed() {
    run_on_ext4(|| {
        write_file("/tmp/file", b"");
        let set = |name: &str, value: &[u8], flags: u32| {
            sys!(setxattr, "/tmp/file", name, &Room::of(value), value.len(), flags)
        };
        assert_eq!(set("user.a", b"first", XATTR_REPLACE), Err(ENODATA));
        assert_eq!(set("user.a", b"first", XATTR_CREATE), Ok(0));
        assert_eq!(set("user.a", b"other", XATTR_CREATE), Err(EEXIST));
        assert_eq!(set("user.a", b"second", XATTR_REPLACE), Ok(0));
        assert_eq!(set("user.b", b"", 0), Ok(0));
        assert_eq!((attribute("/tmp/file", "user.a"), attribute("/tmp/file", "user.b")), {
            (Ok(b"second".to_vec()), Ok(Vec::new()))
        });
        let room = Room::new(64);
        assert_eq!(sys!(listxattr, "/tmp/file", &room, 64), Ok(14));
        assert_eq!(room.bytes(0, 14), b"user.a\0user.b\0");
        // Without room the length is told; with too little, nothing.
        assert_eq!(sys!(listxattr, "/tmp/file", 0, 0), Ok(14));
        assert_eq!(sys!(listxattr, "/tmp/file", &room, 13), Err(ERANGE));
        assert_eq!(sys!(getxattr, "/tmp/file", "user.a", 0, 0), Ok(6));
        assert_eq!(sys!(getxattr, "/tmp/file", "user.a", &room, 5), Err(ERANGE));
        assert_eq!(sys!(getxattr, "/tmp/file", "user.a", 1, 6), Err(EFAULT));
        let file = open("/tmp/file", O_RDONLY);
        assert_eq!(sys!(fremovexattr, file, "user.a"), Ok(0));
        assert_eq!(sys!(fgetxattr, file, "user.a", &room, 64), Err(ENODATA));
        assert_eq!(sys!(removexattr, "/tmp/file", "user.a"), Err(ENODATA));
        assert_eq!(sys!(flistxattr, file, &room, 64), Ok(7));
    });
}

#[test]
fn users_attributes_are_for_files_and_directories() {
    run_on_ext4(|| {
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        sys!(symlink, "d", "/tmp/link").unwrap();
        let value = Room::of(b"v");
        assert_eq!(sys!(setxattr, "/tmp/link", "user.a", &value, 1, 0), Ok(0));
        assert_eq!(attribute("/tmp/d", "user.a"), Ok(b"v".to_vec()));
        assert_eq!(sys!(lsetxattr, "/tmp/link", "user.a", &value, 1, 0), Err(EPERM));
        assert_eq!(sys!(lgetxattr, "/tmp/link", "user.a", &value, 1), Err(ENODATA));
        assert_eq!(sys!(lremovexattr, "/tmp/link", "user.a"), Err(EPERM));
        assert_eq!(sys!(llistxattr, "/tmp/link", &value, 0), Ok(0));
        assert_eq!(sys!(lsetxattr, "/tmp/link", "trusted.a", &value, 1, 0), Ok(0));
        assert_eq!(sys!(setxattr, "/tmp/d", "nobodys.a", &value, 1, 0), Err(EOPNOTSUPP));
    });
}

#[test]
fn statfs_tells_of_the_disk() {
    run_on_ext4(|| {
        let room = Room::new(120);
        assert_eq!(sys!(statfs, "/tmp", &room), Ok(0));
        let (magic, block_bytes, blocks, free) = (room.long(0), room.long(8), room.long(16), room.long(24));
        assert_eq!((magic, block_bytes), (0xef53, 1024));
        assert!(blocks * 1024 <= 32 << 20 && free < blocks, "{blocks} blocks, {free} free");
        let file = open("/tmp/file", O_RDWR | O_CREAT);
        assert_eq!(sys!(fallocate, file, 0, 0, 1 << 20), Ok(0));
        assert_eq!(sys!(fstatfs, file, &room), Ok(0));
        assert!(room.long(24) <= free - 1024, "{free} blocks were free, now {}", room.long(24));
        assert_eq!(room.long(16), blocks);
    });
}

#[test]
fn full_disk_takes_no_more_and_gives_again() {
    run_on_ext4(|| {
        let file = open("/tmp/file", O_RDWR | O_CREAT);
        assert_eq!(sys!(fallocate, file, 0, 0, 64 << 20), Err(ENOSPC));
        let bytes = Room::new(1 << 20);
        let mut written = 0;
        let error = loop {
            match sys!(write, file, &bytes, 1 << 20) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error, ENOSPC);
        assert_eq!((Stat::of_file(file).len(), sys!(fsync, file)), (written, Ok(0)));
        assert_eq!(sys!(ftruncate, file, 0), Ok(0));
        assert_eq!(sys!(pwrite64, file, &bytes, 1 << 20, 0), Ok(1 << 20));
    });
}

#[test]
fn direct_io_goes_in_whole_sectors() {
    run_on_ext4(|| {
        let file = open("/tmp/file", O_RDWR | O_CREAT | O_DIRECT);
        let room = Room::new(2 * PAGE);
        room.put(0, &[7; PAGE]);
        assert_eq!(sys!(pwrite64, file, &room, PAGE, 0), Ok(PAGE as u64));
        assert_eq!(sys!(pwrite64, file, &room, 100, 0), Err(EINVAL));
        assert_eq!(sys!(pwrite64, file, &room, 512, 100), Err(EINVAL));
        assert_eq!(sys!(pwrite64, file, room.at(1), 512, 0), Err(EINVAL));
        assert_eq!(sys!(pread64, file, room.at(1), 512, 0), Err(EINVAL));
        assert_eq!(sys!(pread64, file, room.at(PAGE), 512, 512), Ok(512));
        assert_eq!(room.bytes(PAGE, 513), [&[7; 512][..], &[0]].concat());
        assert_eq!(sys!(pread64, file, room.at(1), 0, 0), Ok(0));
    });
}

#[test]
fn writes_wait_for_the_disk_if_asked_to() {
    run_on_ext4(|| {
        for flags in [O_SYNC, O_DSYNC] {
            let file = open("/tmp/file", O_RDWR | O_CREAT | flags);
            assert_eq!(sys!(write, file, &Room::of(b"durable"), 7), Ok(7));
            assert_eq!(read_file("/tmp/file"), b"durable");
            sys!(close, file).unwrap();
        }
        let file = open("/tmp/file", O_RDWR);
        assert_eq!((sys!(fdatasync, file), sys!(syncfs, file), sys!(sync)), (Ok(0), Ok(0), Ok(0)));
        let folder = open("/tmp", O_RDONLY | O_DIRECTORY);
        assert_eq!((sys!(fsync, folder), sys!(syncfs, folder)), (Ok(0), Ok(0)));
        assert_eq!(sys!(syncfs, 99), Err(EBADF));
    });
}

#[test]
fn ranges_are_written_back_and_forgotten() {
    run_on_ext4(|| {
        let bytes: Vec<u8> = (0..16 * PAGE).map(|at| (at / PAGE) as u8 + 1).collect();
        write_file("/tmp/file", &bytes);
        let file = open("/tmp/file", O_RDWR);
        let all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
        assert_eq!(sys!(sync_file_range, file, 0, 4 * PAGE, all), Ok(0));
        assert_eq!(sys!(sync_file_range, file, PAGE, 0, SYNC_FILE_RANGE_WRITE), Ok(0));
        assert_eq!(sys!(sync_file_range, file, -1, 1, all), Err(EINVAL));
        assert_eq!(sys!(sync_file_range, file, 0, 1, 8), Err(EINVAL));
        // What is forgotten is read again.
        assert_eq!(sys!(fadvise64, file, 0, 0, POSIX_FADV_DONTNEED), Ok(0));
        assert_eq!(sys!(fadvise64, file, PAGE, 4 * PAGE, POSIX_FADV_WILLNEED), Ok(0));
        assert_eq!(sys!(fadvise64, file, 0, 0, POSIX_FADV_RANDOM), Ok(0));
        let room = Room::new(PAGE);
        for page in [9, 2, 15, 0] {
            assert_eq!(sys!(pread64, file, &room, PAGE, page * PAGE), Ok(PAGE as u64));
            assert_eq!(room.bytes(0, PAGE), bytes[page * PAGE..][..PAGE]);
        }
        assert_eq!(sys!(fadvise64, file, 0, 0, POSIX_FADV_SEQUENTIAL), Ok(0));
        assert_eq!(sys!(readahead, file, 0, 16 * PAGE), Ok(0));
        assert_eq!(read_file("/tmp/file"), bytes);
    });
}

#[test]
fn directory_with_a_sticky_group_gives_it_on() {
    run_on_ext4(|| {
        sys!(mkdir, "/tmp/d", 0o755).unwrap();
        sys!(chown, "/tmp/d", 0, 50).unwrap();
        sys!(chmod, "/tmp/d", S_ISGID | 0o755).unwrap();
        write_file("/tmp/d/file", b"");
        sys!(mkdir, "/tmp/d/inner", 0o755).unwrap();
        assert_eq!((Stat::of("/tmp/d/file").owner(), Stat::of("/tmp/d/inner").owner()), ((0, 50), (0, 50)));
        assert_eq!(Stat::of("/tmp/d/file").mode() & S_ISGID, 0);
        assert_eq!(Stat::of("/tmp/d/inner").mode() & S_ISGID, S_ISGID);
    });
}

#[test]
fn socket_has_its_name_on_the_disk() {
    run_on_ext4(|| {
        let listener = net::socket(linux_raw_sys::net::AF_UNIX, STREAM);
        let name = net::unix(b"/tmp/socket\0");
        assert_eq!(net::bind(listener, &name), Ok(0));
        assert_eq!(Stat::of("/tmp/socket").mode() & S_IFMT, S_IFSOCK);
        let client = net::socket(linux_raw_sys::net::AF_UNIX, STREAM);
        assert_eq!(net::connect(client, &name), Err(ECONNREFUSED));
        assert_eq!(net::listen(listener, 1), Ok(0));
        assert_eq!(net::connect(client, &name), Ok(0));
        assert_eq!(sys!(open, "/tmp/socket", O_RDWR, 0), Err(ENXIO));
        let second = net::socket(linux_raw_sys::net::AF_UNIX, STREAM);
        assert_eq!(net::bind(second, &name), Err(EADDRINUSE));
        // The name stays behind, and then leads to nobody.
        sys!(close, listener).unwrap();
        let late = net::socket(linux_raw_sys::net::AF_UNIX, STREAM);
        assert_eq!(net::connect(late, &name), Err(ECONNREFUSED));
        write_file("/tmp/file", b"");
        assert_eq!(net::connect(late, &net::unix(b"/tmp/file\0")), Err(ECONNREFUSED));
    });
}

#[test]
fn file_without_a_name_lives_as_long_as_it_is_open() {
    run_on_ext4(|| {
        write_file("/tmp/file", b"still here");
        let file = open("/tmp/file", O_RDONLY);
        sys!(unlink, "/tmp/file").unwrap();
        let (room, path) = (Room::new(64), std::format!("/proc/self/fd/{file}"));
        let len = sys!(readlink, &*path, &room, 64).unwrap() as usize;
        assert_eq!(room.bytes(0, len), b"/tmp/file (deleted)");
        assert_eq!(Stat::of_file(file).links(), 0);
        assert_eq!((sys!(read, file, &room, 64), room.bytes(0, 10)), (Ok(10), b"still here".to_vec()));
        let lost = sys!(linkat, file, "", AT_FDCWD, "/tmp/again", AT_EMPTY_PATH);
        assert_eq!(lost, Err(ENOENT));
        let folder = open("/tmp", O_RDONLY | O_DIRECTORY);
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        let gone = open("/tmp/d", O_RDONLY | O_DIRECTORY);
        sys!(rmdir, "/tmp/d").unwrap();
        assert_eq!(sys!(openat, gone, "x", O_WRONLY | O_CREAT, 0o600), Err(ENOENT));
        assert_eq!(sys!(fsync, folder), Ok(0));
    });
}

#[test]
fn one_filesystem_is_not_the_other() {
    run_on_ext4(|| {
        write_file("/tmp/file", b"f");
        write_file("/run/file", b"m");
        assert_eq!(sys!(rename, "/tmp/file", "/run/x"), Err(EXDEV));
        assert_eq!(sys!(rename, "/run/file", "/tmp/x"), Err(EXDEV));
        assert_eq!(sys!(link, "/tmp/file", "/run/x"), Err(EXDEV));
        assert_eq!(sys!(link, "/run/file", "/tmp/x"), Err(EXDEV));
        assert_ne!(Stat::of("/tmp/file").filesystem(), Stat::of("/run/file").filesystem());
        assert_eq!(sys!(rmdir, "/tmp"), Err(EBUSY));
        assert_eq!(sys!(rename, "/tmp", "/other"), Err(EBUSY));
        assert_eq!(sys!(rename, "/home", "/tmp"), Err(EBUSY));
        // Out of it, and in again.
        sys!(symlink, "/run/file", "/tmp/out").unwrap();
        sys!(symlink, "/tmp/file", "/run/in").unwrap();
        assert_eq!((read_file("/tmp/out"), read_file("/run/in")), (b"m".to_vec(), b"f".to_vec()));
        assert_eq!(read_file("/tmp/../run/../tmp/file"), b"f");
        assert_eq!(sys!(chdir, "/tmp"), Ok(0));
        assert_eq!((read_file("file"), read_file("../run/file")), (b"f".to_vec(), b"m".to_vec()));
    });
}

#[test]
fn links_in_a_circle_lead_nowhere() {
    run_on_ext4(|| {
        sys!(symlink, "b", "/tmp/a").unwrap();
        sys!(symlink, "a", "/tmp/b").unwrap();
        assert_eq!(sys!(open, "/tmp/a", O_RDONLY, 0), Err(ELOOP));
        assert_eq!(sys!(stat, "/tmp/a/x", &Room::new(144)), Err(ELOOP));
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        write_file("/tmp/d/file", b"through");
        sys!(symlink, "d", "/tmp/link").unwrap();
        sys!(symlink, "../link/file", "/tmp/d/long").unwrap();
        assert_eq!(read_file("/tmp/link/./long"), b"through");
        assert_eq!(sys!(open, "/tmp/link/", O_RDONLY | O_NOFOLLOW, 0).map(|_| ()), Ok(()));
        assert_eq!(sys!(open, "/tmp/d/file/", O_RDONLY, 0), Err(ENOTDIR));
        assert_eq!(sys!(open, "/tmp/d/file/x", O_RDONLY, 0), Err(ENOTDIR));
        assert_eq!(sys!(open, "/tmp/none/x", O_RDONLY, 0), Err(ENOENT));
        assert_eq!(sys!(open, "/tmp/new/", O_WRONLY | O_CREAT, 0o600), Err(EISDIR));
        assert_eq!(sys!(symlink, "x", "/tmp/new/"), Err(ENOENT));
        assert_eq!(sys!(mknod, "/tmp/new/", S_IFREG | 0o600, 0), Err(ENOENT));
        assert_eq!(sys!(unlink, "/tmp/d/file/"), Err(ENOTDIR));
        assert_eq!(sys!(unlink, "/tmp/d/."), Err(EISDIR));
    });
}

#[test]
fn disk_without_the_feature_cannot_be_trimmed() {
    const FITRIM: u32 = 0xc018_5879;
    run_on_ext4(|| {
        let folder = open("/tmp", O_RDONLY | O_DIRECTORY);
        let range = Room::of_longs(&[0, u64::MAX, 0]);
        assert_eq!(sys!(ioctl, folder, FITRIM, &range), Err(EOPNOTSUPP));
        assert_eq!(sys!(ioctl, folder, FITRIM, 1), Err(EFAULT));
    });
}

#[test]
fn mapping_of_the_disk_is_the_file() {
    run_on_ext4(|| {
        write_file("/tmp/file", &[1; 3 * PAGE]);
        let file = open("/tmp/file", O_RDWR);
        let protection = PROT_READ | PROT_WRITE;
        let view = Room(sys!(mmap, 0, 3 * PAGE, protection, MAP_SHARED, file, 0).unwrap());
        view.put(PAGE + 5, b"mapped");
        let room = Room::new(8);
        assert_eq!(sys!(pread64, file, &room, 8, PAGE + 4), Ok(8));
        assert_eq!(room.bytes(0, 8), b"\x01mapped\x01");
        sys!(pwrite64, file, &Room::of(b"written"), 7, 2 * PAGE).unwrap();
        assert_eq!(view.bytes(2 * PAGE, 7), b"written");
        assert_eq!(sys!(msync, &view, 3 * PAGE, MS_SYNC), Ok(0));
        assert_eq!(sys!(fadvise64, file, 0, 0, POSIX_FADV_DONTNEED), Ok(0));
        assert_eq!(view.bytes(PAGE + 5, 6), b"mapped");
        let maps = read_file("/proc/self/maps");
        assert!(maps.windows(9).any(|part| part == b"/tmp/file"), "no line of the mapping");
    });
}
