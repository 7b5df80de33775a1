//! io_uring_register(2): files, buffers, an event counter, what there is.

use alloc::vec::Vec;

use linux_raw_sys::errno;
use linux_raw_sys::general as linux;
use linux_raw_sys::io_uring::{io_uring_op, io_uring_register_op, io_uring_sqe_flags_bit};

use crate::workbench::app::files::{Buffer, int, pipe, read, words, write};
use crate::workbench::app::ring::{Ring, Sqe};
use crate::workbench::app::run::{Answer, run, sys};
use crate::workbench::app::{get, map, put, text};

use io_uring_op::*;
use io_uring_register_op::*;

const FIXED: io_uring_sqe_flags_bit = io_uring_sqe_flags_bit::IOSQE_FIXED_FILE_BIT;

fn ints(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| (*value as i32).to_ne_bytes()).collect()
}

fn register_files(ring: &Ring, files: &[i64]) -> Answer {
    ring.register(IORING_REGISTER_FILES as u32, &ints(files), files.len() as u32)
}

#[test]
fn registered_file_outlives_its_descriptor() {
    run(|| {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        assert_eq!(register_files(&ring, &[reader as i64, -1, writer as i64]), Ok(0));
        crate::workbench::app::files::close(writer);
        assert_eq!(ring.one(Sqe::on(IORING_OP_WRITE, 2, put(b"fixed"), 5).off(u64::MAX).flag(FIXED)), 5);
        let into = map(16);
        assert_eq!(ring.one(Sqe::on(IORING_OP_READ, 0, into, 16).off(u64::MAX).flag(FIXED)), 5);
        assert_eq!(get(into, 5), b"fixed");
        for hole in [1, 3] {
            let sqe = Sqe::on(IORING_OP_READ, hole, into, 16).flag(FIXED);
            assert_eq!(ring.one(sqe), -(errno::EBADF as i32));
        }
    });
}

#[test]
fn files_are_registered_once() {
    run(|| {
        let (ring, (reader, _)) = (Ring::new(4), pipe(0));
        let unregister = || ring.register(IORING_UNREGISTER_FILES as u32, &[], 0);
        assert_eq!(unregister(), Err(errno::ENXIO));
        assert_eq!(register_files(&ring, &[99]), Err(errno::EBADF));
        assert_eq!(register_files(&ring, &[reader as i64]), Ok(0));
        assert_eq!(register_files(&ring, &[reader as i64]), Err(errno::EBUSY));
        assert_eq!(unregister(), Ok(0));
        assert_eq!(register_files(&ring, &[reader as i64]), Ok(0));
    });
}

#[test]
fn registered_files_are_updated() {
    run(|| {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        register_files(&ring, &[-1, -1]).unwrap();
        let update =
            Sqe { addr: put(&ints(&[writer as i64])), len: 1, off: 1, ..Sqe::new(IORING_OP_FILES_UPDATE) };
        assert_eq!(ring.one(update), 1);
        assert_eq!(ring.one(Sqe::on(IORING_OP_WRITE, 1, put(b"x"), 1).off(u64::MAX).flag(FIXED)), 1);
        assert_eq!(read(reader, 9), Ok(b"x".to_vec()));
        assert_eq!(ring.one(update.off(2)), -(errno::EINVAL as i32));
    });
}

#[test]
fn file_is_opened_into_a_slot_and_installed() {
    run(|| {
        let ring = Ring::new(4);
        register_files(&ring, &[-1]).unwrap();
        let flags = linux::O_RDWR | linux::O_CREAT;
        let path = text("/tmp/slot");
        let open = Sqe { fd: linux::AT_FDCWD, addr: path, len: 0o600, ..Sqe::new(IORING_OP_OPENAT) };
        assert_eq!(ring.one(open.op_flags(flags).file_index(1)), 0);
        assert_eq!(ring.one(Sqe::on(IORING_OP_WRITE, 0, put(b"slot"), 4).flag(FIXED)), 4);
        let fd = ring.one(Sqe::on(IORING_OP_FIXED_FD_INSTALL, 0, 0, 0).flag(FIXED));
        assert_eq!(read(fd as u64, 9), Ok(b"slot".to_vec()));
        let close = Sqe::new(IORING_OP_CLOSE).file_index(1);
        assert_eq!((ring.one(close), ring.one(close)), (0, -(errno::EBADF as i32)));
    });
}

#[test]
fn registered_buffers_bound_what_is_touched() {
    run(|| {
        let (ring, (reader, writer), memory) = (Ring::new(4), pipe(0), map(8192));
        let buffers = words(&[memory, 4096]);
        assert_eq!(ring.register(IORING_REGISTER_BUFFERS as u32, &buffers, 1), Ok(0));
        assert_eq!(ring.register(IORING_REGISTER_BUFFERS as u32, &buffers, 1), Err(errno::EBUSY));
        write(writer, b"bytes").unwrap();
        let fixed = |at, len| Sqe::on(IORING_OP_READ_FIXED, reader, memory + at, len).off(u64::MAX);
        assert_eq!(ring.one(fixed(4000, 200)), -(errno::EFAULT as i32));
        assert_eq!(ring.one(fixed(0, 9).group(1)), -(errno::EFAULT as i32));
        assert_eq!(ring.one(fixed(8, 9)), 5);
        assert_eq!(get(memory + 8, 5), b"bytes");
        assert_eq!(ring.one(Sqe::on(IORING_OP_WRITE_FIXED, writer, memory + 8, 3).off(u64::MAX)), 3);
        assert_eq!(read(reader, 9), Ok(b"byt".to_vec()));
        assert_eq!(ring.register(IORING_UNREGISTER_BUFFERS as u32, &[], 0), Ok(0));
        assert_eq!(ring.register(IORING_UNREGISTER_BUFFERS as u32, &[], 0), Err(errno::ENXIO));
    });
}

#[test]
fn completions_are_counted_by_an_event_counter() {
    run(|| {
        let ring = Ring::new(4);
        let counter = sys(linux::__NR_eventfd2, &[0, linux::O_NONBLOCK.into()]).unwrap();
        assert_eq!(ring.register(IORING_REGISTER_EVENTFD as u32, &ints(&[counter as i64]), 1), Ok(0));
        assert_eq!(read(counter, 8), Err(errno::EAGAIN));
        assert_eq!(ring.one(Sqe::new(IORING_OP_NOP)), 0);
        assert_eq!(read(counter, 8), Ok(1_u64.to_ne_bytes().to_vec()));
        // IORING_CQ_EVENTFD_DISABLED
        ring.set_cq_flags(1);
        assert_eq!(ring.one(Sqe::new(IORING_OP_NOP)), 0);
        assert_eq!(read(counter, 8), Err(errno::EAGAIN));
        assert_eq!(ring.register(IORING_UNREGISTER_EVENTFD as u32, &[], 0), Ok(0));
    });
}

#[test]
fn probe_tells_what_there_is() {
    run(|| {
        let (ring, place) = (Ring::new(4), Buffer::zeroed(16 + 64 * 8));
        let arguments = [ring.fd, IORING_REGISTER_PROBE as u64, place.address, 64];
        assert_eq!(sys(linux::__NR_io_uring_register, &arguments), Ok(0));
        let bytes = place.bytes(16 + 64 * 8);
        let is_there = |operation: io_uring_op| int(&bytes[16 + operation as usize * 8 + 2..]) & 1 == 1;
        assert!(
            [IORING_OP_NOP, IORING_OP_READ, IORING_OP_SEND_ZC, IORING_OP_LISTEN].map(is_there) == [true; 4]
        );
        assert!(![IORING_OP_GETXATTR, IORING_OP_WAITID, IORING_OP_RECV_ZC].map(is_there).contains(&true));
    });
}

#[test]
fn buffers_of_a_ring_are_taken_in_order() {
    run(|| {
        let (ring, (reader, writer), memory) = (Ring::new(4), pipe(0), map(4096));
        // Two entries: address, length, number; the tail lies in the first one's last two bytes.
        let entry = |index: u64| [memory + index * 64, 64 | (10 + index) << 32];
        let table = put(&words(&[entry(0), entry(1)].concat()));
        let argument = words(&[table, 2 | 5 << 32, 0, 0, 0]);
        assert_eq!(ring.register(IORING_REGISTER_PBUF_RING as u32, &argument, 1), Ok(0));
        unikernel_hal::sim::app::write(table + 14, &2_u16.to_ne_bytes());
        let select = io_uring_sqe_flags_bit::IOSQE_BUFFER_SELECT_BIT;
        let take = Sqe::on(IORING_OP_READ, reader, 0, 64).off(u64::MAX).group(5).flag(select);
        for (index, bytes) in [&b"one"[..], b"three"].iter().enumerate() {
            write(writer, bytes).unwrap();
            ring.push(take);
            let cqe = ring.complete(1)[0];
            assert_eq!((cqe.result as usize, cqe.flags >> 16), (bytes.len(), 10 + index as u32));
            assert_eq!(get(memory + index as u64 * 64, bytes.len()), *bytes);
        }
        assert_eq!(ring.one(take), -(errno::ENOBUFS as i32));
        assert_eq!(ring.register(IORING_UNREGISTER_PBUF_RING as u32, &argument, 1), Ok(0));
    });
}

#[test]
fn requests_are_cancelled_by_a_call() {
    run(|| {
        let (ring, (reader, _writer)) = (Ring::new(4), pipe(0));
        ring.push(Sqe::on(IORING_OP_READ, reader, map(16), 16).off(u64::MAX).data(7));
        ring.submit().unwrap();
        let cancel = |data: u64| {
            let argument = words(&[data, 0, u64::MAX, u64::MAX, 0, 0, 0, 0]);
            ring.register(IORING_REGISTER_SYNC_CANCEL as u32, &argument, 1)
        };
        assert_eq!(cancel(7), Ok(0));
        assert_eq!(ring.results(1), [(7, -(errno::ECANCELED as i32))]);
        assert_eq!(cancel(7), Err(errno::ENOENT));
    });
}

#[test]
fn unknown_registrations_are_refused() {
    run(|| {
        let ring = Ring::new(4);
        assert_eq!(ring.register(99, &[], 0), Err(errno::EINVAL));
        assert_eq!(ring.register(IORING_REGISTER_FILES as u32, &[], 0), Err(errno::EINVAL));
        let (reader, _writer) = pipe(0);
        let arguments = [reader, 0, 0, 0];
        assert_eq!(sys(linux::__NR_io_uring_register, &arguments), Err(errno::EOPNOTSUPP));
    });
}
