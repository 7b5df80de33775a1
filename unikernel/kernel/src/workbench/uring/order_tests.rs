//! Links, drains, time-outs, cancellation.

use alloc::vec::Vec;

use linux_raw_sys::errno;
use linux_raw_sys::io_uring::{
    IORING_ASYNC_CANCEL_ALL, IORING_ASYNC_CANCEL_FD, IORING_TIMEOUT_ABS, IORING_TIMEOUT_MULTISHOT,
    IORING_TIMEOUT_UPDATE, io_uring_op, io_uring_sqe_flags_bit,
};

use crate::workbench::app::files::{Buffer, now_ms, pipe, sleep_ms, timespec, write};
use crate::workbench::app::map;
use crate::workbench::app::ring::{Ring, Sqe};
use crate::workbench::app::run::{run, run_seeds};

use io_uring_op::{
    IORING_OP_ASYNC_CANCEL, IORING_OP_LINK_TIMEOUT, IORING_OP_NOP, IORING_OP_READ, IORING_OP_TIMEOUT,
    IORING_OP_TIMEOUT_REMOVE,
};
use io_uring_sqe_flags_bit::{
    IOSQE_CQE_SKIP_SUCCESS_BIT as SKIP, IOSQE_IO_DRAIN_BIT as DRAIN, IOSQE_IO_HARDLINK_BIT as HARD_LINK,
    IOSQE_IO_LINK_BIT as LINK,
};

const CANCELED: i32 = -(errno::ECANCELED as i32);
const TIME: i32 = -(errno::ETIME as i32);

/// A read that waits for bytes.
fn read(reader: u64, data: u64) -> Sqe {
    Sqe::on(IORING_OP_READ, reader, map(64), 64).off(u64::MAX).data(data)
}

fn bad(data: u64) -> Sqe {
    Sqe::on(IORING_OP_READ, 99, 0, 1).data(data)
}

fn nop(data: u64) -> Sqe {
    Sqe::new(IORING_OP_NOP).data(data)
}

/// A time-out of so many milliseconds; `count` completions end it, too.
fn timeout(ms: u64, count: u64, data: u64) -> Sqe {
    let time = map(16);
    unikernel_hal::sim::app::write(time, &timespec(ms * 1_000_000));
    Sqe { addr: time, len: 1, off: count, user_data: data, ..Sqe::new(IORING_OP_TIMEOUT) }
}

#[test]
fn linked_entries_start_one_after_another() {
    run(|| {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        // Less than asked for would end the chain.
        ring.push(Sqe { len: 3, ..read(reader, 1) }.flag(LINK));
        ring.push(nop(2));
        ring.submit().unwrap();
        assert_eq!(ring.next(), None);
        write(writer, b"abc").unwrap();
        let done: Vec<_> = ring.complete(2).into_iter().map(|cqe| (cqe.data, cqe.result)).collect();
        assert_eq!(done, [(1, 3), (2, 0)]);
    });
}

#[test]
fn failure_ends_a_chain() {
    run(|| {
        let ring = Ring::new(8);
        ring.push(bad(1).flag(LINK));
        ring.push(nop(2).flag(LINK));
        ring.push(nop(3));
        ring.push(nop(4));
        assert_eq!(ring.results(4), [(1, -(errno::EBADF as i32)), (2, CANCELED), (3, CANCELED), (4, 0)]);
    });
}

#[test]
fn failure_does_not_end_a_hard_chain() {
    run(|| {
        let ring = Ring::new(8);
        ring.push(bad(1).flag(HARD_LINK));
        ring.push(nop(2));
        assert_eq!(ring.results(2), [(1, -(errno::EBADF as i32)), (2, 0)]);
    });
}

#[test]
fn drain_waits_for_all_before() {
    run(|| {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        ring.push(read(reader, 1));
        ring.push(nop(2).flag(DRAIN));
        ring.push(nop(3));
        ring.submit().unwrap();
        assert_eq!(ring.next(), None);
        write(writer, b"x").unwrap();
        assert_eq!(ring.complete(3)[0].data, 1);
    });
}

#[test]
fn success_can_be_silent() {
    run(|| {
        let ring = Ring::new(4);
        ring.push(nop(1).flag(SKIP));
        ring.push(bad(2).flag(SKIP));
        ring.push(nop(3));
        assert_eq!(ring.results(2), [(2, -(errno::EBADF as i32)), (3, 0)]);
    });
}

#[test]
fn timeout_goes_off() {
    run(|| {
        let (ring, begin) = (Ring::new(4), now_ms());
        assert_eq!(ring.one(timeout(40, 0, 1)), TIME);
        assert!((40..50).contains(&(now_ms() - begin)));
    });
}

#[test]
fn timeout_at_an_absolute_time() {
    run(|| {
        let ring = Ring::new(4);
        let end = now_ms() + 60;
        assert_eq!(ring.one(timeout(end, 0, 1).op_flags(IORING_TIMEOUT_ABS)), TIME);
        assert!((0..10).contains(&(now_ms() - end)));
    });
}

#[test]
fn timeout_ends_with_completions() {
    run(|| {
        let (ring, begin) = (Ring::new(4), now_ms());
        ring.push(timeout(10_000, 1, 1));
        ring.push(nop(2));
        assert_eq!(ring.results(2), [(1, 0), (2, 0)]);
        assert!(now_ms() - begin < 1000);
    });
}

#[test]
fn timeout_goes_off_again_and_again() {
    run(|| {
        let ring = Ring::new(4);
        ring.push(timeout(10, 3, 1).op_flags(IORING_TIMEOUT_MULTISHOT));
        let begin = now_ms();
        assert!(ring.complete(3).iter().all(|cqe| (cqe.data, cqe.result) == (1, TIME)));
        assert!((30..40).contains(&(now_ms() - begin)));
        sleep_ms(30);
        assert_eq!(ring.next(), None);
    });
}

#[test]
fn timeout_is_removed() {
    run(|| {
        let ring = Ring::new(4);
        ring.push(timeout(10_000, 0, 1));
        ring.push(Sqe { addr: 1, ..Sqe::new(IORING_OP_TIMEOUT_REMOVE) }.data(2));
        assert_eq!(ring.results(2), [(1, CANCELED), (2, 0)]);
        let none = Sqe { addr: 1, ..Sqe::new(IORING_OP_TIMEOUT_REMOVE) };
        assert_eq!(ring.one(none), -(errno::ENOENT as i32));
    });
}

#[test]
fn timeout_is_changed() {
    run(|| {
        let (ring, begin) = (Ring::new(4), now_ms());
        let soon = Buffer::new(&timespec(20_000_000));
        ring.push(timeout(10_000, 0, 1));
        let update = Sqe { addr: 1, off: soon.address, ..Sqe::new(IORING_OP_TIMEOUT_REMOVE) };
        ring.push(update.op_flags(IORING_TIMEOUT_UPDATE).data(2));
        assert_eq!(ring.results(2), [(1, TIME), (2, 0)]);
        assert!(now_ms() - begin < 100);
    });
}

#[test]
fn linked_timeout_ends_what_takes_too_long() {
    run(|| {
        let (ring, (reader, _writer)) = (Ring::new(4), pipe(0));
        ring.push(read(reader, 1).flag(LINK));
        ring.push(Sqe { opcode: IORING_OP_LINK_TIMEOUT as u8, ..timeout(30, 0, 2) });
        assert_eq!(ring.results(2), [(1, CANCELED), (2, TIME)]);
    });
}

#[test]
fn linked_timeout_goes_with_its_entry() {
    run(|| {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        write(writer, b"there").unwrap();
        ring.push(read(reader, 1).flag(LINK));
        ring.push(Sqe { opcode: IORING_OP_LINK_TIMEOUT as u8, ..timeout(30, 0, 2) });
        assert_eq!(ring.results(2), [(1, 5), (2, CANCELED)]);
    });
}

#[test]
fn entry_is_cancelled_by_its_data() {
    run(|| {
        let (ring, (reader, _writer)) = (Ring::new(4), pipe(0));
        ring.push(read(reader, 7));
        ring.submit().unwrap();
        ring.push(Sqe { addr: 7, ..Sqe::new(IORING_OP_ASYNC_CANCEL) }.data(8));
        assert_eq!(ring.results(2), [(7, CANCELED), (8, 0)]);
        let again = Sqe { addr: 7, ..Sqe::new(IORING_OP_ASYNC_CANCEL) };
        assert_eq!(ring.one(again), -(errno::ENOENT as i32));
    });
}

#[test]
fn all_entries_of_a_file_are_cancelled() {
    run(|| {
        let (ring, (reader, _writer), (other, other_writer)) = (Ring::new(8), pipe(0), pipe(0));
        (1..=3).for_each(|data| ring.push(read(reader, data)));
        ring.push(read(other, 4));
        ring.submit().unwrap();
        let flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
        ring.push(Sqe::on(IORING_OP_ASYNC_CANCEL, reader, 0, 0).op_flags(flags).data(5));
        assert_eq!(ring.results(4), [(1, CANCELED), (2, CANCELED), (3, CANCELED), (5, 3)]);
        write(other_writer, b"x").unwrap();
        assert_eq!(ring.results(1), [(4, 1)]);
    });
}

#[test]
fn cancellation_races_with_bytes() {
    run_seeds(30, || {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        ring.push(read(reader, 7));
        ring.submit().unwrap();
        let other = crate::workbench::app::spawn(move || _ = write(writer, b"xyz").unwrap()).unwrap();
        ring.push(Sqe { addr: 7, ..Sqe::new(IORING_OP_ASYNC_CANCEL) }.data(8));
        let done = ring.results(2);
        // Each completes once, and the bytes are read or left.
        assert!(done == [(7, CANCELED), (8, 0)] || done[0] == (7, 3), "{done:?}");
        crate::workbench::app::join(other);
    });
}
