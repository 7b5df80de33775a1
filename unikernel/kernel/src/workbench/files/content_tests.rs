//! What files hold: reads and writes, offsets, lengths, holes.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run_on_each_filesystem, run_seeds};
use super::super::app::{join, spawn};
use super::{Stat, open, read_file, read_rest, write_file};

const PAGE: u64 = 4096;

fn new_file(path: &str) -> u64 {
    open(path, O_RDWR | O_CREAT | O_TRUNC)
}

#[test]
fn read_and_write_move_the_offset() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        assert_eq!(sys!(write, file, &Room::of(b"hello"), 5), Ok(5));
        assert_eq!(sys!(lseek, file, 0, SEEK_CUR), Ok(5));
        assert_eq!(sys!(lseek, file, 1, SEEK_SET), Ok(1));
        let room = Room::new(8);
        assert_eq!(sys!(read, file, &room, 2), Ok(2));
        assert_eq!(room.bytes(0, 3), b"el\0");
        assert_eq!(sys!(read, file, &room, 8), Ok(2));
        assert_eq!(sys!(read, file, &room, 8), Ok(0));
    });
}

#[test]
fn positioned_calls_leave_the_offset() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        assert_eq!(sys!(pwrite64, file, &Room::of(b"abc"), 3, 2), Ok(3));
        let room = Room::new(8);
        assert_eq!(sys!(pread64, file, &room, 8, 1), Ok(4));
        assert_eq!(room.bytes(0, 4), b"\0abc");
        assert_eq!(sys!(lseek, file, 0, SEEK_CUR), Ok(0));
        assert_eq!(sys!(pread64, file, &room, 8, -1), Err(EINVAL));
        assert_eq!(sys!(pwrite64, file, &room, 8, -1), Err(EINVAL));
    });
}

#[test]
fn transfers_end_before_the_last_offset() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        let room = Room::new(8);
        assert_eq!(sys!(pread64, file, &room, 4, i64::MAX - 3), Err(EINVAL));
        assert_eq!(sys!(pread64, file, &room, 3, i64::MAX - 3), Ok(0));
        assert_eq!(sys!(pwrite64, file, &room, 1, i64::MAX), Err(EINVAL));
    });
}

#[test]
fn vectors_are_one_transfer() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        let (one, two) = (Room::of(b"one"), Room::of(b"second"));
        let vector = Room::of_longs(&[one.0, 3, 0, 0, two.0, 6]);
        assert_eq!(sys!(writev, file, &vector, 3), Ok(9));
        assert_eq!(read_file("/tmp/file"), b"onesecond");
        let (left, right) = (Room::new(4), Room::new(16));
        let vector = Room::of_longs(&[left.0, 4, right.0, 16]);
        assert_eq!(sys!(lseek, file, 0, SEEK_SET), Ok(0));
        assert_eq!(sys!(readv, file, &vector, 2), Ok(9));
        assert_eq!((left.bytes(0, 4), right.bytes(0, 6)), (b"ones".to_vec(), b"econd\0".to_vec()));
        assert_eq!(sys!(preadv, file, &vector, 2, 5), Ok(4));
        assert_eq!(left.bytes(0, 4), b"cond");
        assert_eq!(sys!(pwritev, file, &vector, 1, 0), Ok(4));
        assert_eq!(read_file("/tmp/file"), b"condecond");
    });
}

#[test]
fn bad_vectors_are_refused() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        let room = Room::new(8);
        let vector = Room::of_longs(&[room.0, 8]);
        assert_eq!(sys!(writev, file, &vector, 1025), Err(EINVAL));
        assert_eq!(sys!(writev, file, &vector, -1), Err(EINVAL));
        assert_eq!(sys!(writev, file, 1, 1), Err(EFAULT));
        assert_eq!(sys!(readv, file, &vector, 0), Ok(0));
        let too_long = Room::of_longs(&[room.0, u64::MAX]);
        assert_eq!(sys!(writev, file, &too_long, 1), Err(EINVAL));
        assert_eq!(Stat::of_file(file).len(), 0);
    });
}

#[test]
fn flags_of_pwritev2_and_preadv2_are_checked() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        let room = Room::of(b"abcd");
        let vector = Room::of_longs(&[room.0, 4]);
        assert_eq!(sys!(pwritev2, file, &vector, 1, 0, 0, RWF_DSYNC), Ok(4));
        assert_eq!(sys!(pwritev2, file, &vector, 1, 0, 0, RWF_SYNC), Ok(4));
        assert_eq!(sys!(pwritev2, file, &vector, 1, 0, 0, 1 << 30), Err(EOPNOTSUPP));
        // Minus one is the file's own offset.
        assert_eq!(sys!(preadv2, file, &vector, 1, -1, 0, RWF_HIPRI), Ok(4));
        assert_eq!(sys!(lseek, file, 0, SEEK_CUR), Ok(4));
        assert_eq!(sys!(preadv2, file, &vector, 1, 1, 0, 0), Ok(3));
        assert_eq!(sys!(preadv2, file, &vector, 1, -2, 0, 0), Err(EINVAL));
    });
}

#[test]
fn bad_addresses_are_refused() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        assert_eq!(sys!(write, file, 1, 5), Err(EFAULT));
        assert_eq!(sys!(write, file, 0xffff_8000_0000_0000_u64, 5), Err(EFAULT));
        assert_eq!(Stat::of_file(file).len(), 0);
        write_file("/tmp/other", b"x");
        assert_eq!(sys!(read, open("/tmp/other", O_RDONLY), 1, 5), Err(EFAULT));
        assert_eq!(sys!(read, 99, 1, 5), Err(EBADF));
        assert_eq!(sys!(write, -1, 1, 5), Err(EBADF));
    });
}

#[test]
fn transfer_that_meets_a_bad_page_is_short() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        let room = Room::new(2 * PAGE as usize);
        sys!(munmap, room.at(4096), 4096).unwrap();
        let outcome = sys!(write, file, room.at(4000), 200);
        assert_eq!(outcome, Ok(96));
        sys!(ftruncate, file, 500).unwrap();
        assert_eq!(sys!(pread64, file, room.at(4000), 200, 0), Ok(96));
    });
}

#[test]
fn append_writes_at_the_end() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"begin");
        let file = open("/tmp/file", O_RDWR | O_APPEND);
        assert_eq!(sys!(write, file, &Room::of(b"+end"), 4), Ok(4));
        assert_eq!(sys!(lseek, file, 0, SEEK_CUR), Ok(9));
        // As Linux has it, and POSIX has not.
        assert_eq!(sys!(pwrite64, file, &Room::of(b"!"), 1, 0), Ok(1));
        assert_eq!(read_file("/tmp/file"), b"begin+end!");
    });
}

#[test]
fn appends_of_two_threads_do_not_mix() {
    fn write_lines(byte: u8) {
        let file = open("/tmp/log", O_WRONLY | O_CREAT | O_APPEND);
        let line = Room::of(&[byte; 7]);
        for _ in 0..20 {
            assert_eq!(sys!(write, file, &line, 7), Ok(7));
        }
    }
    run_seeds(6, || {
        let other = spawn(|| write_lines(b'b')).unwrap();
        write_lines(b'a');
        join(other);
        let bytes = read_file("/tmp/log");
        assert_eq!(bytes.len(), 280);
        assert!(bytes.chunks(7).all(|line| line.iter().all(|byte| *byte == line[0])));
    });
}

#[test]
fn threads_share_the_offset_of_an_open_file() {
    run_seeds(6, || {
        let file = new_file("/tmp/file");
        let write = move || {
            for _ in 0..20 {
                sys!(write, file, &Room::of(b"12345"), 5).unwrap();
            }
        };
        let other = spawn(write).unwrap();
        write();
        join(other);
        assert_eq!(sys!(lseek, file, 0, SEEK_CUR), Ok(200));
        assert_eq!(Stat::of_file(file).len(), 200);
    });
}

#[test]
fn lseek_checks_where_it_goes() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        sys!(ftruncate, file, 100).unwrap();
        assert_eq!(sys!(lseek, file, -1, SEEK_SET), Err(EINVAL));
        assert_eq!(sys!(lseek, file, -10, SEEK_END), Ok(90));
        assert_eq!(sys!(lseek, file, 20, SEEK_CUR), Ok(110));
        assert_eq!(sys!(lseek, file, -111, SEEK_CUR), Err(EINVAL));
        assert_eq!(sys!(lseek, file, 0, 9), Err(EINVAL));
        assert_eq!(sys!(lseek, file, 0, SEEK_CUR), Ok(110));
        let pipe = Room::new(8);
        sys!(pipe, &pipe).unwrap();
        assert_eq!(sys!(lseek, pipe.word(0), 0, SEEK_CUR), Err(ESPIPE));
    });
}

#[test]
fn holes_are_found() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        sys!(pwrite64, file, &Room::of(b"end"), 3, 10 * PAGE).unwrap();
        assert_eq!(Stat::of_file(file).len(), 10 * PAGE + 3);
        assert!(Stat::of_file(file).blocks() <= 16);
        assert_eq!(sys!(lseek, file, 0, SEEK_DATA), Ok(10 * PAGE));
        assert_eq!(sys!(lseek, file, 0, SEEK_HOLE), Ok(0));
        assert_eq!(sys!(lseek, file, 10 * PAGE, SEEK_HOLE), Ok(10 * PAGE + 3));
        assert_eq!(sys!(lseek, file, 11 * PAGE, SEEK_DATA), Err(ENXIO));
    });
}

#[test]
fn truncation_shortens_and_lengthens() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"help me");
        assert_eq!(sys!(truncate, "/tmp/file", 4), Ok(0));
        assert_eq!(read_file("/tmp/file"), b"help");
        assert_eq!(sys!(truncate, "/tmp/file", 6), Ok(0));
        assert_eq!(read_file("/tmp/file"), b"help\0\0");
        assert_eq!(sys!(truncate, "/tmp/file", -1), Err(EINVAL));
        assert_eq!(sys!(truncate, "/tmp", 0), Err(EISDIR));
        assert_eq!(sys!(truncate, "/tmp/none", 0), Err(ENOENT));
        let file = open("/tmp/file", O_RDWR);
        assert_eq!(sys!(ftruncate, file, 2), Ok(0));
        assert_eq!(sys!(ftruncate, file, -1), Err(EINVAL));
        assert_eq!(read_file("/tmp/file"), b"he");
    });
}

#[test]
fn bytes_behind_a_shortened_end_are_gone() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", &[7; 5000]);
        sys!(truncate, "/tmp/file", 4500).unwrap();
        sys!(truncate, "/tmp/file", 5000).unwrap();
        let bytes = read_file("/tmp/file");
        assert!(bytes[..4500].iter().all(|byte| *byte == 7));
        assert!(bytes[4500..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn fallocate_lengthens_and_keeps_size() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        assert_eq!(sys!(fallocate, file, 0, 0, 2 * PAGE), Ok(0));
        assert_eq!(Stat::of_file(file).len(), 2 * PAGE);
        assert_eq!(sys!(fallocate, file, FALLOC_FL_KEEP_SIZE, 0, 4 * PAGE), Ok(0));
        assert_eq!(Stat::of_file(file).len(), 2 * PAGE);
        assert_eq!(Stat::of_file(file).blocks(), 4 * PAGE / 512);
        assert_eq!(sys!(fallocate, file, 0, 0, 0), Err(EINVAL));
        assert_eq!(sys!(fallocate, file, 0, -1, 5), Err(EINVAL));
        assert_eq!(sys!(fallocate, file, FALLOC_FL_PUNCH_HOLE, 0, 5), Err(EOPNOTSUPP));
        assert_eq!(sys!(fallocate, file, FALLOC_FL_COLLAPSE_RANGE, 0, PAGE), Err(EOPNOTSUPP));
        assert_eq!(sys!(fallocate, file, 0, i64::MAX - 10, 20), Err(EFBIG));
        assert_eq!(sys!(fallocate, open("/tmp/file", O_RDONLY), 0, 0, 5), Err(EBADF));
    });
}

#[test]
fn fallocate_punches_holes_and_zeroes() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        sys!(pwrite64, file, &Room::of(&[7; 3 * 4096]), 3 * PAGE, 0).unwrap();
        let punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        assert_eq!(sys!(fallocate, file, punch, PAGE, PAGE), Ok(0));
        let zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        assert_eq!(sys!(fallocate, file, zero, 10, 2), Ok(0));
        let bytes = read_rest(file);
        assert_eq!(&bytes[9..13], [7, 0, 0, 7]);
        assert!(bytes[4096..8192].iter().all(|byte| *byte == 0));
        assert_eq!((bytes.len(), bytes[4095], bytes[8192]), (3 * 4096, 7, 7));
    });
}

#[test]
fn removed_file_lives_until_it_is_closed() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"still there");
        let file = open("/tmp/file", O_RDWR);
        sys!(unlink, "/tmp/file").unwrap();
        assert_eq!(Stat::of_file(file).links(), 0);
        assert_eq!(read_rest(file), b"still there");
        assert_eq!(sys!(write, file, &Room::of(b", longer"), 8), Ok(8));
        assert_eq!(Stat::of_file(file).len(), 19);
        let room = Room::new(64);
        let shown = std::format!("/proc/self/fd/{file}");
        let len = sys!(readlink, &*shown, &room, 64).unwrap();
        assert_eq!(room.bytes(0, len as usize), b"/tmp/file (deleted)");
    });
}

#[test]
fn sync_calls_take_files() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        assert_eq!(sys!(fsync, file), Ok(0));
        assert_eq!(sys!(fdatasync, file), Ok(0));
        assert_eq!(sys!(syncfs, file), Ok(0));
        assert_eq!(sys!(sync), Ok(0));
        assert_eq!(sys!(sync_file_range, file, 0, 0, SYNC_FILE_RANGE_WRITE), Ok(0));
        assert_eq!(sys!(sync_file_range, file, 0, 0, 1 << 9), Err(EINVAL));
        assert_eq!(sys!(sync_file_range, file, -1, 0, SYNC_FILE_RANGE_WRITE), Err(EINVAL));
        assert_eq!(
            (sys!(fsync, 99), sys!(fdatasync, 99), sys!(syncfs, 99)),
            (Err(EBADF), Err(EBADF), Err(EBADF))
        );
        let pipe = Room::new(8);
        sys!(pipe, &pipe).unwrap();
        assert_eq!(sys!(fsync, pipe.word(0)), Err(EINVAL));
    });
}

#[test]
fn advice_is_taken_and_checked() {
    run_on_each_filesystem(|| {
        let file = new_file("/tmp/file");
        assert_eq!(sys!(fadvise64, file, 0, 0, POSIX_FADV_SEQUENTIAL), Ok(0));
        assert_eq!(sys!(fadvise64, file, 0, 0, 99), Err(EINVAL));
        assert_eq!(sys!(fadvise64, 99, 0, 0, POSIX_FADV_NORMAL), Err(EBADF));
        assert_eq!(sys!(readahead, file, 0, 4096), Ok(0));
        assert_eq!(sys!(readahead, open("/tmp/file", O_WRONLY), 0, 4096), Err(EBADF));
        let pipe = Room::new(8);
        sys!(pipe, &pipe).unwrap();
        assert_eq!(sys!(fadvise64, pipe.word(0), 0, 0, POSIX_FADV_NORMAL), Err(ESPIPE));
        assert_eq!(sys!(readahead, pipe.word(0), 0, 4096), Err(EINVAL));
    });
}
