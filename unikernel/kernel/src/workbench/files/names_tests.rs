//! Names: directories, links, renames, lists.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run_on_each_filesystem, run_seeds};
use super::super::app::{join, spawn};
use super::{Stat, list, open, read_file, write_file};

fn names(path: &str) -> Vec<String> {
    list(path).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn directories_are_made_and_removed() {
    run_on_each_filesystem(|| {
        assert_eq!(sys!(mkdir, "/tmp/a", 0o700), Ok(0));
        assert_eq!(sys!(mkdirat, AT_FDCWD, "/tmp/a/b/", 0o700), Ok(0));
        assert_eq!(sys!(mkdir, "/tmp/a", 0o700), Err(EEXIST));
        assert_eq!(sys!(mkdir, "/tmp/none/x", 0o700), Err(ENOENT));
        assert_eq!(sys!(rmdir, "/tmp/a"), Err(ENOTEMPTY));
        assert_eq!(sys!(rmdir, "/tmp/a/b/."), Err(EINVAL));
        assert_eq!(sys!(rmdir, "/tmp/a/b/.."), Err(ENOTEMPTY));
        assert_eq!(Stat::of("/tmp/a").links(), 3);
        assert_eq!(sys!(unlinkat, AT_FDCWD, "/tmp/a/b", AT_REMOVEDIR), Ok(0));
        assert_eq!(Stat::of("/tmp/a").links(), 2);
        assert_eq!(sys!(rmdir, "/tmp/a"), Ok(0));
        assert_eq!(sys!(rmdir, "/tmp/a"), Err(ENOENT));
        assert_eq!(sys!(rmdir, "/proc"), Err(EBUSY));
    });
}

#[test]
fn unlink_is_for_files_and_rmdir_for_directories() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        write_file("/tmp/file", b"");
        assert_eq!(sys!(unlink, "/tmp/d"), Err(EISDIR));
        assert_eq!(sys!(rmdir, "/tmp/file"), Err(ENOTDIR));
        assert_eq!(sys!(unlink, "/tmp/file/"), Err(ENOTDIR));
        assert_eq!(sys!(unlinkat, AT_FDCWD, "/tmp/file", 1), Err(EINVAL));
        assert_eq!(sys!(unlinkat, AT_FDCWD, "/tmp/file", 0), Ok(0));
        assert_eq!(sys!(unlink, "/tmp/file"), Err(ENOENT));
    });
}

#[test]
fn hard_links_are_one_file() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"1");
        assert_eq!(sys!(link, "/tmp/file", "/tmp/second"), Ok(0));
        assert_eq!((Stat::of("/tmp/file").links(), Stat::of("/tmp/second").links()), (2, 2));
        assert_eq!(Stat::of("/tmp/file").inode(), Stat::of("/tmp/second").inode());
        write_file("/tmp/second", b"changed");
        assert_eq!(read_file("/tmp/file"), b"changed");
        assert_eq!(sys!(link, "/tmp/file", "/tmp/second"), Err(EEXIST));
        assert_eq!(sys!(link, "/tmp/none", "/tmp/third"), Err(ENOENT));
        assert_eq!(sys!(link, "/tmp", "/tmp/third"), Err(EPERM));
        assert_eq!(sys!(link, "/tmp/file", "/proc/x"), Err(ENOENT));
        sys!(unlink, "/tmp/file").unwrap();
        assert_eq!((read_file("/tmp/second"), Stat::of("/tmp/second").links()), (b"changed".to_vec(), 1));
    });
}

#[test]
fn linkat_follows_links_only_if_asked() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"1");
        sys!(symlink, "file", "/tmp/link").unwrap();
        assert_eq!(sys!(linkat, AT_FDCWD, "/tmp/link", AT_FDCWD, "/tmp/of-link", 0), Ok(0));
        let room = Room::new(144);
        sys!(lstat, "/tmp/of-link", &room).unwrap();
        assert_eq!(room.word(24) & S_IFMT, S_IFLNK);
        let flags = AT_SYMLINK_FOLLOW;
        assert_eq!(sys!(linkat, AT_FDCWD, "/tmp/link", AT_FDCWD, "/tmp/of-file", flags), Ok(0));
        assert_eq!(Stat::of("/tmp/of-file").inode(), Stat::of("/tmp/file").inode());
        assert_eq!(sys!(linkat, AT_FDCWD, "/tmp/link", AT_FDCWD, "/tmp/x", 1), Err(EINVAL));
    });
}

#[test]
fn symbolic_links_are_read() {
    run_on_each_filesystem(|| {
        assert_eq!(sys!(symlink, "some/target", "/tmp/link"), Ok(0));
        assert_eq!(sys!(symlinkat, "other", AT_FDCWD, "/tmp/second"), Ok(0));
        let room = Room::new(64);
        assert_eq!(sys!(readlink, "/tmp/link", &room, 64), Ok(11));
        assert_eq!(room.bytes(0, 12), b"some/target\0");
        assert_eq!(sys!(readlink, "/tmp/link", &room, 4), Ok(4));
        assert_eq!(sys!(readlink, "/tmp/link", &room, 0), Err(EINVAL));
        assert_eq!(sys!(readlink, "/tmp", &room, 64), Err(EINVAL));
        assert_eq!(sys!(readlink, "/tmp/none", &room, 64), Err(ENOENT));
        assert_eq!(sys!(symlink, "x", "/tmp/link"), Err(EEXIST));
        assert_eq!(sys!(symlink, "", "/tmp/empty"), Err(ENOENT));
        let link = open("/tmp/link", O_PATH | O_NOFOLLOW);
        assert_eq!(sys!(readlinkat, link, "", &room, 64), Ok(11));
    });
}

#[test]
fn rename_replaces_what_has_the_name() {
    run_on_each_filesystem(|| {
        write_file("/tmp/one", b"1");
        write_file("/tmp/two", b"2");
        assert_eq!(sys!(rename, "/tmp/one", "/tmp/two"), Ok(0));
        assert_eq!(read_file("/tmp/two"), b"1");
        assert_eq!(sys!(rename, "/tmp/one", "/tmp/x"), Err(ENOENT));
        sys!(link, "/tmp/two", "/tmp/same").unwrap();
        // Two names of one file: nothing happens.
        assert_eq!(sys!(renameat, AT_FDCWD, "/tmp/two", AT_FDCWD, "/tmp/same"), Ok(0));
        assert_eq!(Stat::of("/tmp/two").links(), 2);
        assert_eq!(sys!(rename, "/tmp/two", "/proc/x"), Err(EXDEV));
    });
}

#[test]
fn rename_knows_files_from_directories() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        sys!(mkdir, "/tmp/d/inner", 0o700).unwrap();
        sys!(mkdir, "/tmp/empty", 0o700).unwrap();
        write_file("/tmp/file", b"f");
        assert_eq!(sys!(rename, "/tmp/d", "/tmp/d/inner/x"), Err(EINVAL));
        assert_eq!(sys!(rename, "/tmp/d/inner", "/tmp/d"), Err(ENOTEMPTY));
        assert_eq!(sys!(rename, "/tmp/file", "/tmp/d"), Err(EISDIR));
        assert_eq!(sys!(rename, "/tmp/d", "/tmp/file"), Err(ENOTDIR));
        assert_eq!(sys!(rename, "/tmp/d", "/tmp/empty"), Ok(0));
        assert_eq!(names("/tmp/empty"), [".", "..", "inner"]);
        assert_eq!(sys!(rename, "/tmp/empty/.", "/tmp/x"), Err(EBUSY));
    });
}

#[test]
fn renameat2_exchanges_and_refuses_to_replace() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        write_file("/tmp/file", b"f");
        let with = |to: &str, flags: u32| sys!(renameat2, AT_FDCWD, "/tmp/file", AT_FDCWD, to, flags);
        assert_eq!(with("/tmp/d", RENAME_NOREPLACE), Err(EEXIST));
        assert_eq!(with("/tmp/d", RENAME_EXCHANGE | RENAME_NOREPLACE), Err(EINVAL));
        assert_eq!(with("/tmp/none", RENAME_EXCHANGE), Err(ENOENT));
        assert_eq!(with("/tmp/d", 1 << 8), Err(EINVAL));
        assert_eq!(with("/tmp/d", RENAME_EXCHANGE), Ok(0));
        assert_eq!(read_file("/tmp/d"), b"f");
        assert_eq!(Stat::of("/tmp/file").mode() & S_IFMT, S_IFDIR);
        assert_eq!(with("/tmp/new", RENAME_NOREPLACE), Ok(0));
    });
}

#[test]
fn lists_tell_names_and_kinds() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/l", 0o700).unwrap();
        sys!(mkdir, "/tmp/l/d", 0o700).unwrap();
        write_file("/tmp/l/file", b"");
        sys!(symlink, "x", "/tmp/l/link").unwrap();
        sys!(mknod, "/tmp/l/pipe", S_IFIFO | 0o600, 0).unwrap();
        let kinds = [
            (".", DT_DIR),
            ("..", DT_DIR),
            ("d", DT_DIR),
            ("file", DT_REG),
            ("link", DT_LNK),
            ("pipe", DT_FIFO),
        ];
        let wanted: Vec<_> = kinds.map(|(name, kind)| (name.to_string(), kind as u8)).into();
        assert_eq!(list("/tmp/l"), wanted);
    });
}

#[test]
fn lists_skip_nothing_while_files_go() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/l", 0o700).unwrap();
        for number in 0..100 {
            write_file(&std::format!("/tmp/l/file-with-a-long-name-{number}"), b"");
        }
        let folder = open("/tmp/l", O_RDONLY | O_DIRECTORY);
        let room = Room::new(256);
        let mut removed = 0;
        loop {
            let count = sys!(getdents64, folder, &room, 256).unwrap() as usize;
            if count == 0 {
                break;
            }
            let mut at = 0;
            while at < count {
                let len = usize::from(room.byte(at + 16));
                let name = room.at(at + 19);
                if room.byte(at + 19) != b'.' {
                    assert_eq!(sys!(unlinkat, folder, name, 0), Ok(0));
                    removed += 1;
                }
                at += len;
            }
        }
        assert_eq!((removed, names("/tmp/l").len()), (100, 2));
    });
}

#[test]
fn getdents64_needs_room_and_a_directory() {
    run_on_each_filesystem(|| {
        let folder = open("/tmp", O_RDONLY | O_DIRECTORY);
        let room = Room::new(64);
        assert_eq!(sys!(getdents64, folder, &room, 8), Err(EINVAL));
        assert_eq!(sys!(getdents64, open("/dev/null", O_RDONLY), &room, 64), Err(ENOTDIR));
        assert_eq!(sys!(getdents64, 99, &room, 64), Err(EBADF));
        assert_eq!(sys!(getdents64, folder, 1, 64), Err(EFAULT));
    });
}

#[test]
fn list_begins_anew_after_a_seek() {
    run_on_each_filesystem(|| {
        let folder = open("/dev", O_RDONLY | O_DIRECTORY);
        let room = Room::new(4096);
        let first = sys!(getdents64, folder, &room, 4096).unwrap();
        assert_eq!(sys!(lseek, folder, 0, SEEK_SET), Ok(0));
        assert_eq!(sys!(getdents64, folder, &room, 4096), Ok(first));
    });
}

#[test]
fn mknod_makes_files_and_pipes() {
    run_on_each_filesystem(|| {
        assert_eq!(sys!(mknod, "/tmp/file", S_IFREG | 0o600, 0), Ok(0));
        assert_eq!(Stat::of("/tmp/file").mode(), S_IFREG | 0o600);
        assert_eq!(sys!(mknodat, AT_FDCWD, "/tmp/pipe", S_IFIFO | 0o600, 0), Ok(0));
        assert_eq!(Stat::of("/tmp/pipe").mode(), S_IFIFO | 0o600);
        assert_eq!(sys!(mknod, "/tmp/file", S_IFREG | 0o600, 0), Err(EEXIST));
        assert_eq!(sys!(mknod, "/tmp/d", S_IFDIR | 0o600, 0), Err(EPERM));
        assert_eq!(sys!(mknod, "/tmp/x", 0o170_000, 0), Err(EINVAL));
        // Nobody writes yet: reading without waiting finds the end.
        let reader = open("/tmp/pipe", O_RDONLY | O_NONBLOCK);
        assert_eq!(sys!(read, reader, &Room::new(1), 1), Ok(0));
        let writer = open("/tmp/pipe", O_WRONLY | O_NONBLOCK);
        assert_eq!(sys!(write, writer, &Room::of(b"x"), 1), Ok(1));
        assert_eq!(sys!(read, reader, &Room::new(1), 1), Ok(1));
        sys!(close, reader).unwrap();
        assert_eq!(sys!(open, "/tmp/pipe", O_WRONLY | O_NONBLOCK, 0), Err(ENXIO));
    });
}

#[test]
fn threads_make_the_same_file_once() {
    fn make() {
        for number in 0..10 {
            let file = open(&std::format!("/tmp/{number}"), O_WRONLY | O_CREAT | O_APPEND);
            sys!(write, file, &Room::of(b"x"), 1).unwrap();
            sys!(close, file).unwrap();
        }
    }
    run_seeds(6, || {
        let other = spawn(make).unwrap();
        make();
        join(other);
        for number in 0..10 {
            assert_eq!(read_file(&std::format!("/tmp/{number}")), b"xx");
        }
    });
}

#[test]
fn threads_that_rename_in_a_circle_lose_nothing() {
    fn turn(steps: [(&str, &str); 2]) {
        for _ in 0..10 {
            for (from, to) in steps {
                let _ = sys!(renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
            }
        }
    }
    run_seeds(6, || {
        sys!(mkdir, "/tmp/a", 0o700).unwrap();
        sys!(mkdir, "/tmp/b", 0o700).unwrap();
        write_file("/tmp/a/x", b"1");
        let other = spawn(|| turn([("/tmp/a/x", "/tmp/b/x"), ("/tmp/b", "/tmp/a/b")])).unwrap();
        turn([("/tmp/b/x", "/tmp/a/x"), ("/tmp/a/b", "/tmp/b")]);
        join(other);
        let places = ["/tmp/a/x", "/tmp/b/x", "/tmp/a/b/x"];
        let found = places.iter().filter(|path| sys!(stat, **path, &Room::new(144)).is_ok()).count();
        assert_eq!(found, 1);
    });
}
