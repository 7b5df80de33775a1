//! Bytes from file to file: sendfile(2), copy_file_range(2), splice(2), tee(2), vmsplice(2).

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::run_on_each_filesystem;
use super::{open, read_file, write_file};

/// A pipe: its ends for reading and for writing.
fn pipe() -> (u32, u32) {
    let room = Room::new(8);
    sys!(pipe2, &room, O_NONBLOCK).unwrap();
    (room.word(0), room.word(4))
}

fn drain(reader: u32) -> std::vec::Vec<u8> {
    let room = Room::new(4096);
    let count = sys!(read, reader, &room, 4096).unwrap();
    room.bytes(0, count as usize)
}

#[test]
fn sendfile_uses_the_offset_it_is_given() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"0123456789");
        let (reader, writer) = pipe();
        let file = open("/tmp/file", O_RDONLY);
        let offset = Room::of_longs(&[4]);
        assert_eq!(sys!(sendfile, writer, file, &offset, 3), Ok(3));
        assert_eq!((offset.long(0), sys!(lseek, file, 0, SEEK_CUR)), (7, Ok(0)));
        assert_eq!(sys!(sendfile, writer, file, 0, 100), Ok(10));
        assert_eq!(sys!(lseek, file, 0, SEEK_CUR), Ok(10));
        assert_eq!(drain(reader), b"4560123456789");
    });
}

#[test]
fn sendfile_checks_its_files() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"0123456789");
        let (reader, writer) = pipe();
        let file = open("/tmp/file", O_RDONLY);
        assert_eq!(sys!(sendfile, 99, file, 0, 3), Err(EBADF));
        assert_eq!(sys!(sendfile, file, file, 0, 3), Err(EBADF));
        assert_eq!(sys!(sendfile, writer, open("/tmp/file", O_WRONLY), 0, 3), Err(EBADF));
        assert_eq!(sys!(sendfile, writer, file, 1, 3), Err(EFAULT));
        let offset = Room::of_longs(&[u64::MAX]);
        assert_eq!(sys!(sendfile, writer, file, &offset, 3), Err(EINVAL));
        offset.put_long(0, 0);
        assert_eq!(sys!(sendfile, writer, reader, &offset, 3), Err(ESPIPE));
    });
}

#[test]
fn copy_file_range_copies_between_offsets() {
    run_on_each_filesystem(|| {
        write_file("/tmp/from", b"0123456789");
        write_file("/tmp/to", b"--");
        let (from, to) = (open("/tmp/from", O_RDONLY), open("/tmp/to", O_RDWR));
        let (from_offset, to_offset) = (Room::of_longs(&[8]), Room::of_longs(&[2]));
        assert_eq!(sys!(copy_file_range, from, &from_offset, to, &to_offset, 100, 0), Ok(2));
        assert_eq!((from_offset.long(0), to_offset.long(0)), (10, 4));
        assert_eq!(sys!(copy_file_range, from, 0, to, 0, 1, 0), Ok(1));
        assert_eq!(read_file("/tmp/to"), b"0-89");
        assert_eq!(sys!(lseek, from, 0, SEEK_CUR), Ok(1));
    });
}

#[test]
fn copy_file_range_checks_its_files() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"0123456789");
        let file = open("/tmp/file", O_RDWR);
        let offset = Room::of_longs(&[5]);
        assert_eq!(sys!(copy_file_range, file, 0, file, 0, 4, 1), Err(EINVAL));
        assert_eq!(sys!(copy_file_range, file, &offset, file, 0, 9, 0), Ok(5));
        assert_eq!(read_file("/tmp/file"), b"5678956789");
        let overlapping = Room::of_longs(&[2]);
        sys!(lseek, file, 0, SEEK_SET).unwrap();
        assert_eq!(sys!(copy_file_range, file, &overlapping, file, 0, 9, 0), Err(EINVAL));
        let (reader, _) = pipe();
        assert_eq!(sys!(copy_file_range, reader, 0, file, 0, 4, 0), Err(EINVAL));
        assert_eq!(sys!(copy_file_range, open("/tmp", O_RDONLY), 0, file, 0, 4, 0), Err(EISDIR));
        let appending = open("/tmp/file", O_WRONLY | O_APPEND);
        assert_eq!(sys!(copy_file_range, file, 0, appending, 0, 4, 0), Err(EBADF));
        assert_eq!(sys!(copy_file_range, open("/tmp/file", O_WRONLY), 0, file, 0, 4, 0), Err(EBADF));
    });
}

#[test]
fn splice_moves_between_a_pipe_and_a_file() {
    run_on_each_filesystem(|| {
        write_file("/tmp/from", b"0123456789");
        let (reader, writer) = pipe();
        let from = open("/tmp/from", O_RDONLY);
        let offset = Room::of_longs(&[3]);
        assert_eq!(sys!(splice, from, &offset, writer, 0, 4, 0), Ok(4));
        assert_eq!(offset.long(0), 7);
        let to = open("/tmp/to", O_RDWR | O_CREAT);
        assert_eq!(sys!(splice, reader, 0, to, 0, 100, 0), Ok(4));
        assert_eq!(read_file("/tmp/to"), b"3456");
        assert_eq!(sys!(splice, reader, 0, to, 0, 100, SPLICE_F_NONBLOCK), Err(EAGAIN));
    });
}

#[test]
fn splice_checks_its_files() {
    run_on_each_filesystem(|| {
        write_file("/tmp/from", b"0123456789");
        let from = open("/tmp/from", O_RDWR);
        let (reader, writer) = pipe();
        assert_eq!(sys!(splice, from, 0, from, 0, 4, 0), Err(EINVAL));
        assert_eq!(sys!(splice, from, 0, writer, 0, 4, 1 << 8), Err(EINVAL));
        assert_eq!(sys!(splice, writer, 0, from, 0, 4, 0), Err(EBADF));
        assert_eq!(sys!(splice, from, 0, writer, &Room::new(8), 4, 0), Err(ESPIPE));
        assert_eq!(sys!(splice, reader, 0, writer, 0, 4, 0), Err(EINVAL));
        assert_eq!(sys!(splice, from, 0, writer, 0, 0, 0), Ok(0));
    });
}

#[test]
fn tee_copies_and_leaves() {
    run_on_each_filesystem(|| {
        let (first_reader, first_writer) = pipe();
        let (second_reader, second_writer) = pipe();
        sys!(write, first_writer, &Room::of(b"twice"), 5).unwrap();
        assert_eq!(sys!(tee, first_reader, second_writer, 4, 0), Ok(4));
        assert_eq!(drain(first_reader), b"twice");
        assert_eq!(drain(second_reader), b"twic");
        assert_eq!(sys!(tee, first_reader, second_writer, 4, SPLICE_F_NONBLOCK), Err(EAGAIN));
        assert_eq!(sys!(tee, first_reader, first_writer, 4, 0), Err(EINVAL));
        let file = open("/tmp/file", O_RDWR | O_CREAT);
        assert_eq!(sys!(tee, file, second_writer, 4, 0), Err(EINVAL));
    });
}

#[test]
fn vmsplice_takes_memory_into_a_pipe_and_out() {
    run_on_each_filesystem(|| {
        let (reader, writer) = pipe();
        let bytes = Room::of(b"memory");
        let vector = Room::of_longs(&[bytes.0, 6]);
        assert_eq!(sys!(vmsplice, writer, &vector, 1, 0), Ok(6));
        let into = Room::new(8);
        assert_eq!(sys!(vmsplice, reader, &Room::of_longs(&[into.0, 8]), 1, 0), Ok(6));
        assert_eq!(into.bytes(0, 6), b"memory");
        assert_eq!(sys!(vmsplice, writer, &vector, 1, 1 << 8), Err(EINVAL));
        let file = open("/tmp/file", O_RDWR | O_CREAT);
        assert_eq!(sys!(vmsplice, file, &vector, 1, 0), Err(EBADF));
    });
}
