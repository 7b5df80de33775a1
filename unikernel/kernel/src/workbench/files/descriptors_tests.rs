//! Descriptors: copies of them, their flags, ranges of them, what ioctl(2) has for all.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::{FIOCLEX, FIONBIO, FIONCLEX, FIONREAD};

use super::super::app::calls::{Room, sys};
use super::super::app::run::run_on_each_filesystem;
use super::{open, write_file};

const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

fn new_file() -> u64 {
    open("/tmp/file", O_RDWR | O_CREAT)
}

#[test]
fn lowest_free_descriptor_is_taken() {
    run_on_each_filesystem(|| {
        let first = new_file();
        let second = new_file();
        assert_eq!(second, first + 1);
        sys!(close, first).unwrap();
        assert_eq!(sys!(close, first), Err(EBADF));
        assert_eq!(new_file(), first);
        assert_eq!(sys!(dup, second), Ok(second + 1));
    });
}

#[test]
fn copies_share_offset_and_status() {
    run_on_each_filesystem(|| {
        let file = new_file();
        let copy = sys!(dup, file).unwrap();
        sys!(write, file, &Room::of(b"abc"), 3).unwrap();
        assert_eq!(sys!(lseek, copy, 0, SEEK_CUR), Ok(3));
        sys!(fcntl, copy, F_SETFL, O_APPEND).unwrap();
        assert_eq!(sys!(fcntl, file, F_GETFL).unwrap() as u32 & O_APPEND, O_APPEND);
        sys!(close, file).unwrap();
        assert_eq!(sys!(write, copy, &Room::of(b"d"), 1), Ok(1));
    });
}

#[test]
fn dup2_and_dup3_replace() {
    run_on_each_filesystem(|| {
        let file = new_file();
        assert_eq!(sys!(dup2, file, 40), Ok(40));
        assert_eq!(sys!(dup2, file, file), Ok(file));
        assert_eq!(sys!(dup2, 99, 99), Err(EBADF));
        assert_eq!(sys!(dup2, file, -1), Err(EBADF));
        assert_eq!(sys!(dup3, file, file, 0), Err(EINVAL));
        assert_eq!(sys!(dup3, file, 41, O_CLOEXEC), Ok(41));
        assert_eq!(sys!(fcntl, 41, F_GETFD), Ok(FD_CLOEXEC.into()));
        assert_eq!(sys!(fcntl, 40, F_GETFD), Ok(0));
        assert_eq!(sys!(dup3, file, 42, 1), Err(EINVAL));
        let pipe = Room::new(8);
        sys!(pipe, &pipe).unwrap();
        // The last descriptor of the writer goes, and the reader sees the end.
        sys!(dup2, file, pipe.word(4)).unwrap();
        assert_eq!(sys!(read, pipe.word(0), &Room::new(1), 1), Ok(0));
    });
}

#[test]
fn fcntl_duplicates_from_a_number_on() {
    run_on_each_filesystem(|| {
        let file = new_file();
        assert_eq!(sys!(fcntl, file, F_DUPFD, 50), Ok(50));
        assert_eq!(sys!(fcntl, file, F_DUPFD, 50), Ok(51));
        assert_eq!(sys!(fcntl, file, F_DUPFD_CLOEXEC, 50), Ok(52));
        assert_eq!(sys!(fcntl, 52, F_GETFD), Ok(FD_CLOEXEC.into()));
        assert_eq!(sys!(fcntl, file, F_DUPFD, -1), Err(EINVAL));
        assert_eq!(sys!(fcntl, 99, F_DUPFD, 0), Err(EBADF));
        assert_eq!(sys!(fcntl, file, 9999, 0), Err(EINVAL));
    });
}

#[test]
fn flags_that_are_told() {
    run_on_each_filesystem(|| {
        for flags in [O_SYNC, O_DSYNC, O_NOATIME, O_NOFOLLOW, O_APPEND] {
            let file = open("/tmp/file", O_RDWR | O_CREAT | flags);
            assert_eq!(sys!(fcntl, file, F_GETFL).unwrap() as u32 & flags, flags, "{flags:#x}");
        }
        let file = open("/tmp/file", O_RDONLY | O_CLOEXEC);
        assert_eq!(sys!(fcntl, file, F_GETFD), Ok(1));
        assert_eq!(sys!(fcntl, file, F_SETFD, 0), Ok(0));
        assert_eq!(sys!(fcntl, file, F_GETFD), Ok(0));
        // What is for open(2) alone is not changed afterwards.
        assert_eq!(sys!(fcntl, file, F_SETFL, O_RDWR | O_CREAT | O_NONBLOCK), Ok(0));
        let told = sys!(fcntl, file, F_GETFL).unwrap() as u32;
        assert_eq!((told & O_ACCMODE, told & O_NONBLOCK), (O_RDONLY, O_NONBLOCK));
    });
}

#[test]
fn close_range_closes_or_marks() {
    run_on_each_filesystem(|| {
        let file = new_file();
        for descriptor in 20..30 {
            sys!(dup2, file, descriptor).unwrap();
        }
        assert_eq!(sys!(close_range, 22, 24, 0), Ok(0));
        let is_open = |descriptor: u32| sys!(fcntl, descriptor, F_GETFD);
        assert_eq!(
            (is_open(21), is_open(22), is_open(24), is_open(25)),
            (Ok(0), Err(EBADF), Err(EBADF), Ok(0))
        );
        assert_eq!(sys!(close_range, 25, 26, CLOSE_RANGE_CLOEXEC), Ok(0));
        assert_eq!((is_open(26), is_open(27)), (Ok(1), Ok(0)));
        assert_eq!(sys!(close_range, 27, u32::MAX, CLOSE_RANGE_UNSHARE), Ok(0));
        assert_eq!((is_open(27), is_open(29)), (Err(EBADF), Err(EBADF)));
        assert_eq!(sys!(close_range, 5, 4, 0), Err(EINVAL));
        assert_eq!(sys!(close_range, 5, 6, 1 << 10), Err(EINVAL));
    });
}

#[test]
fn ioctl_has_what_is_for_all_files() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"0123456789");
        let file = open("/tmp/file", O_RDWR);
        let room = Room::new(8);
        sys!(lseek, file, 4, SEEK_SET).unwrap();
        assert_eq!(sys!(ioctl, file, FIONREAD, &room), Ok(0));
        assert_eq!(room.word(0), 6);
        assert_eq!(sys!(ioctl, file, FIOCLEX, 0), Ok(0));
        assert_eq!(sys!(fcntl, file, F_GETFD), Ok(1));
        assert_eq!(sys!(ioctl, file, FIONCLEX, 0), Ok(0));
        assert_eq!(sys!(fcntl, file, F_GETFD), Ok(0));
        room.put_word(0, 1);
        assert_eq!(sys!(ioctl, file, FIONBIO, &room), Ok(0));
        assert_eq!(sys!(fcntl, file, F_GETFL).unwrap() as u32 & O_NONBLOCK, O_NONBLOCK);
        assert_eq!(sys!(ioctl, file, FIONBIO, 1), Err(EFAULT));
        assert_eq!(sys!(ioctl, file, 0x1234, 0), Err(ENOTTY));
        assert_eq!(sys!(ioctl, 99, FIONREAD, &room), Err(EBADF));
    });
}

#[test]
fn there_is_a_limit_of_descriptors() {
    run_on_each_filesystem(|| {
        let file = new_file();
        let limit = Room::of_longs(&[10, 4096]);
        sys!(setrlimit, RLIMIT_NOFILE, &limit).unwrap();
        let mut last = 0;
        let error = loop {
            match sys!(dup, file) {
                Ok(descriptor) => last = descriptor,
                Err(error) => break error,
            }
        };
        assert_eq!((error, last), (EMFILE, 9));
        assert_eq!(sys!(open, "/tmp/file", O_RDONLY, 0), Err(EMFILE));
        assert_eq!(sys!(pipe, &Room::new(8)), Err(EMFILE));
        assert_eq!(sys!(memfd_create, "x", 0), Err(EMFILE));
        // Who gets no descriptor has made no file, and cut none off.
        assert_eq!(sys!(open, "/tmp/new", O_RDWR | O_CREAT, 0o600), Err(EMFILE));
        assert_eq!(sys!(access, "/tmp/new", 0), Err(ENOENT));
        assert_eq!(sys!(mq_open, "new", O_RDWR | O_CREAT, 0o600, 0), Err(EMFILE));
        assert_eq!(sys!(mq_unlink, "new"), Err(ENOENT));
        assert_eq!(sys!(write, file, "text", 4), Ok(4));
        assert_eq!(sys!(open, "/tmp/file", O_RDWR | O_TRUNC, 0), Err(EMFILE));
        assert_eq!(sys!(lseek, file, 0, SEEK_END), Ok(4));
        assert_eq!(sys!(fcntl, file, F_DUPFD, 10), Err(EINVAL));
        assert_eq!(sys!(dup2, file, 10), Err(EBADF));
        assert_eq!(sys!(dup2, file, 9), Ok(9));
    });
}
