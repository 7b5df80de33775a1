//! Operations on files, pipes and paths.

use linux_raw_sys::io_uring::{
    IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_MORE, IORING_FSYNC_DATASYNC, IORING_POLL_ADD_MULTI, io_uring_op,
    io_uring_sqe_flags_bit,
};
use linux_raw_sys::{errno, general as linux};

use crate::workbench::app::files::{Buffer, close, pipe, read, words, write};
use crate::workbench::app::ring::{Ring, Sqe};
use crate::workbench::app::run::{run, sys};
use crate::workbench::app::{get, map, put, text};

use io_uring_op::*;

const HERE: i32 = linux::AT_FDCWD;

fn file() -> u64 {
    let flags = linux::O_RDWR | linux::O_CREAT;
    sys(linux::__NR_open, &[text("/tmp/file"), flags.into(), 0o600]).unwrap()
}

fn at_path(operation: io_uring_op, path: u64) -> Sqe {
    Sqe { fd: HERE, addr: path, ..Sqe::new(operation) }
}

#[test]
fn files_are_written_and_read() {
    run(|| {
        let (ring, file) = (Ring::new(4), file());
        assert_eq!(ring.one(Sqe::on(IORING_OP_WRITE, file, put(b"hello"), 5)), 5);
        let into = map(16);
        assert_eq!(ring.one(Sqe::on(IORING_OP_READ, file, into, 16).off(1)), 4);
        assert_eq!(get(into, 4), b"ello");
        let nowhere = ring.one(Sqe::on(IORING_OP_READ, file, 8, 16));
        assert_eq!(nowhere, -(errno::EFAULT as i32));
    });
}

#[test]
fn vectors_are_gathered_and_scattered() {
    run(|| {
        let (ring, file) = (Ring::new(4), file());
        let from = Buffer::new(&words(&[put(b"ab"), 2, put(b"cde"), 3]));
        assert_eq!(ring.one(Sqe::on(IORING_OP_WRITEV, file, from.address, 2)), 5);
        let (first, second) = (map(1), map(9));
        let into = Buffer::new(&words(&[first, 1, second, 9]));
        assert_eq!(ring.one(Sqe::on(IORING_OP_READV, file, into.address, 2)), 5);
        assert_eq!((get(first, 1), get(second, 4)), (b"a".to_vec(), b"bcde".to_vec()));
    });
}

#[test]
fn current_position_is_kept() {
    run(|| {
        let (ring, file) = (Ring::new(4), file());
        for part in [b"one", b"two"] {
            assert_eq!(ring.one(Sqe::on(IORING_OP_WRITE, file, put(part), 3).off(u64::MAX)), 3);
        }
        sys(linux::__NR_lseek, &[file, 0, 0]).unwrap();
        assert_eq!(read(file, 9), Ok(b"onetwo".to_vec()));
    });
}

#[test]
fn files_are_synced_sized_and_advised() {
    run(|| {
        let (ring, file) = (Ring::new(4), file());
        assert_eq!(ring.one(Sqe::on(IORING_OP_FSYNC, file, 0, 0)), 0);
        assert_eq!(ring.one(Sqe::on(IORING_OP_FSYNC, file, 0, 0).op_flags(IORING_FSYNC_DATASYNC)), 0);
        assert_eq!(ring.one(Sqe::on(IORING_OP_SYNC_FILE_RANGE, file, 0, 0)), 0);
        assert_eq!(ring.one(Sqe::on(IORING_OP_FADVISE, file, 0, 0)), 0);
        assert_eq!(ring.one(Sqe::on(IORING_OP_FALLOCATE, file, 100, 0)), 0);
        assert_eq!(sys(linux::__NR_lseek, &[file, 0, linux::SEEK_END.into()]), Ok(100));
        assert_eq!(ring.one(Sqe::on(IORING_OP_FTRUNCATE, file, 0, 0).off(7)), 0);
        assert_eq!(sys(linux::__NR_lseek, &[file, 0, linux::SEEK_END.into()]), Ok(7));
    });
}

#[test]
fn memory_is_advised() {
    run(|| {
        let (ring, memory) = (Ring::new(4), put(b"gone"));
        let advice = Sqe { addr: memory, len: 4096, ..Sqe::new(IORING_OP_MADVISE) };
        assert_eq!(ring.one(advice.op_flags(linux::MADV_DONTNEED)), 0);
        assert_eq!(get(memory, 4), [0; 4]);
    });
}

#[test]
fn files_are_opened_and_closed() {
    run(|| {
        let ring = Ring::new(4);
        let flags = linux::O_RDWR | linux::O_CREAT;
        let open = Sqe { len: 0o600, ..at_path(IORING_OP_OPENAT, text("/tmp/new")) };
        let file = ring.one(open.op_flags(flags));
        assert!(file > 0, "{file}");
        assert_eq!(write(file as u64, b"x"), Ok(1));
        assert_eq!(ring.one(Sqe::on(IORING_OP_CLOSE, file as u64, 0, 0)), 0);
        assert_eq!(write(file as u64, b"x"), Err(errno::EBADF));
        let how = put(&words(&[0, 0, 0]));
        let open = Sqe { len: 24, off: how, ..at_path(IORING_OP_OPENAT2, text("/tmp/new")) };
        assert_eq!(read(ring.one(open) as u64, 9), Ok(b"x".to_vec()));
        let missing = at_path(IORING_OP_OPENAT, text("/tmp/missing"));
        assert_eq!(ring.one(missing), -(errno::ENOENT as i32));
    });
}

#[test]
fn attributes_are_told() {
    run(|| {
        let (ring, file, place) = (Ring::new(4), file(), map(256));
        write(file, b"12345").unwrap();
        let mask = linux::STATX_BASIC_STATS;
        let statx = Sqe { len: mask, off: place, ..at_path(IORING_OP_STATX, text("/tmp/file")) };
        assert_eq!(ring.one(statx), 0);
        assert_eq!(get(place + 40, 8), 5_u64.to_ne_bytes());
    });
}

#[test]
fn names_are_made_moved_and_removed() {
    run(|| {
        let (ring, _file) = (Ring::new(4), file());
        let here = HERE as u32;
        assert_eq!(ring.one(Sqe { len: 0o700, ..at_path(IORING_OP_MKDIRAT, text("/tmp/d")) }), 0);
        let link =
            Sqe { len: here, off: text("/tmp/d/hard"), ..at_path(IORING_OP_LINKAT, text("/tmp/file")) };
        assert_eq!(ring.one(link), 0);
        let soft = Sqe { off: text("/tmp/d/soft"), ..at_path(IORING_OP_SYMLINKAT, text("hard")) };
        assert_eq!(ring.one(soft), 0);
        let moved =
            Sqe { len: here, off: text("/tmp/moved"), ..at_path(IORING_OP_RENAMEAT, text("/tmp/d/hard")) };
        assert_eq!(ring.one(moved), 0);
        let into = map(16);
        assert_eq!(sys(linux::__NR_readlink, &[text("/tmp/d/soft"), into, 16]), Ok(4));
        let unlink = |path| at_path(IORING_OP_UNLINKAT, text(path));
        let rmdir = unlink("/tmp/d").op_flags(linux::AT_REMOVEDIR);
        assert_eq!(ring.one(rmdir), -(errno::ENOTEMPTY as i32));
        assert_eq!((ring.one(unlink("/tmp/d/soft")), ring.one(unlink("/tmp/moved"))), (0, 0));
        assert_eq!((ring.one(rmdir), ring.one(rmdir)), (0, -(errno::ENOENT as i32)));
    });
}

#[test]
fn pipes_are_spliced_and_copied() {
    run(|| {
        let (ring, (first, fill), (last, other)) = (Ring::new(4), pipe(0), pipe(0));
        let splice = |len| {
            let sqe = Sqe { addr: u64::MAX, ..Sqe::on(IORING_OP_SPLICE, other, 0, len) };
            sqe.off(u64::MAX).file_index(first as u32)
        };
        ring.push(splice(64));
        ring.submit().unwrap();
        assert_eq!(ring.next(), None);
        write(fill, b"bytes").unwrap();
        assert_eq!(ring.complete(1)[0].result, 5);
        write(fill, b"again").unwrap();
        let tee = Sqe::on(IORING_OP_TEE, other, 0, 3).file_index(first as u32);
        assert_eq!(ring.one(tee), 3);
        assert_eq!(read(last, 16), Ok(b"bytesaga".to_vec()));
        let placed = splice(9).off(3);
        assert_eq!(ring.one(placed), -(errno::ESPIPE as i32));
    });
}

#[test]
fn readiness_is_told_once_or_many_times() {
    run(|| {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        let poll = Sqe::on(IORING_OP_POLL_ADD, reader, 0, 0).op_flags(linux::POLLIN).data(1);
        ring.push(poll);
        ring.submit().unwrap();
        assert_eq!(ring.next(), None);
        write(writer, b"x").unwrap();
        assert_eq!(ring.complete(1)[0].result, linux::POLLIN as i32);
        read(reader, 1).unwrap();
        ring.push(Sqe { len: IORING_POLL_ADD_MULTI, ..poll });
        ring.submit().unwrap();
        for _ in 0..2 {
            write(writer, b"x").unwrap();
            let cqe = ring.complete(1)[0];
            assert_eq!(
                (cqe.result, cqe.flags & IORING_CQE_F_MORE),
                (linux::POLLIN as i32, IORING_CQE_F_MORE)
            );
            read(reader, 1).unwrap();
        }
        ring.push(Sqe { addr: 1, ..Sqe::new(IORING_OP_POLL_REMOVE) }.data(2));
        assert_eq!(ring.results(2), [(1, -(errno::ECANCELED as i32)), (2, 0)]);
    });
}

#[test]
fn watches_of_epoll_are_changed() {
    run(|| {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        let epoll = crate::workbench::app::wait::epoll();
        let event = put(&[&linux::EPOLLIN.to_ne_bytes()[..], &9_u64.to_ne_bytes()].concat());
        let add = Sqe::on(IORING_OP_EPOLL_CTL, epoll, event, linux::EPOLL_CTL_ADD.into()).off(reader);
        assert_eq!(ring.one(add), 0);
        assert_eq!(ring.one(add), -(errno::EEXIST as i32));
        write(writer, b"x").unwrap();
        assert_eq!(crate::workbench::app::wait::wait(epoll, 1, 0), Ok([(linux::EPOLLIN, 9)].to_vec()));
    });
}

#[test]
fn provided_buffers_are_taken_and_given_back() {
    run(|| {
        let (ring, (reader, writer), memory) = (Ring::new(4), pipe(0), map(1024));
        let provide = Sqe { fd: 2, addr: memory, len: 512, ..Sqe::new(IORING_OP_PROVIDE_BUFFERS) }.group(7);
        assert_eq!(ring.one(provide), 0);
        let select = io_uring_sqe_flags_bit::IOSQE_BUFFER_SELECT_BIT;
        let take = Sqe::on(IORING_OP_READ, reader, 0, 100).off(u64::MAX).group(7).flag(select);
        write(writer, b"first").unwrap();
        ring.push(take);
        let cqe = ring.complete(1)[0];
        let index = u64::from(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
        assert_eq!((cqe.result, cqe.flags & 1), (5, 1));
        assert_eq!(get(memory + index * 512, 5), b"first");
        let remove = Sqe { fd: 9, ..Sqe::new(IORING_OP_REMOVE_BUFFERS) }.group(7);
        assert_eq!(ring.one(remove), 1);
        assert_eq!(ring.one(take), -(errno::ENOBUFS as i32));
        assert_eq!(ring.one(remove.group(8)), -(errno::ENOENT as i32));
    });
}

#[test]
fn reading_goes_on_with_provided_buffers() {
    run(|| {
        let (ring, (reader, writer), memory) = (Ring::new(4), pipe(0), map(256));
        let provide = Sqe { fd: 2, addr: memory, len: 64, ..Sqe::new(IORING_OP_PROVIDE_BUFFERS) }.group(7);
        assert_eq!(ring.one(provide), 0);
        let select = io_uring_sqe_flags_bit::IOSQE_BUFFER_SELECT_BIT;
        let many = Sqe::on(IORING_OP_READ_MULTISHOT, reader, 0, 0).off(u64::MAX).group(7);
        ring.push(many.flag(select));
        for bytes in [&b"one"[..], b"three"] {
            ring.submit().unwrap();
            write(writer, bytes).unwrap();
            let cqe = ring.complete(1)[0];
            assert_eq!(
                (cqe.result as usize, cqe.flags & IORING_CQE_F_MORE),
                (bytes.len(), IORING_CQE_F_MORE)
            );
        }
        close(writer);
        let last = ring.complete(1)[0];
        assert_eq!(last.flags & IORING_CQE_F_MORE, 0);
    });
}

#[test]
fn attributes_by_name_are_refused() {
    run(|| {
        let ring = Ring::new(4);
        for operation in [IORING_OP_GETXATTR, IORING_OP_FUTEX_WAIT, IORING_OP_WAITID, IORING_OP_PIPE] {
            assert_eq!(ring.one(Sqe::new(operation)), -(errno::EINVAL as i32));
        }
    });
}

#[test]
fn another_ring_gets_a_message() {
    run(|| {
        let (ring, other) = (Ring::new(4), Ring::new(4));
        let message = Sqe { off: 77, ..Sqe::on(IORING_OP_MSG_RING, other.fd, 0, 5) };
        assert_eq!(ring.one(message), 0);
        let cqe = other.next().unwrap();
        assert_eq!((cqe.data, cqe.result), (77, 5));
        let (reader, _writer) = pipe(0);
        assert_eq!(ring.one(Sqe::on(IORING_OP_MSG_RING, reader, 0, 5)), -(errno::EBADFD as i32));
    });
}
