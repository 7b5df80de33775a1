//! io_uring_setup(2) and io_uring_enter(2): sizes, flags, waiting, and entries that are none.

use linux_raw_sys::io_uring::{
    IORING_ENTER_GETEVENTS, IORING_ENTER_SQ_WAKEUP, IORING_SETUP_CLAMP, IORING_SETUP_CQSIZE,
    IORING_SETUP_IOPOLL, IORING_SETUP_R_DISABLED, IORING_SETUP_SQPOLL, IORING_SQ_CQ_OVERFLOW,
    IORING_SQ_NEED_WAKEUP, io_uring_op, io_uring_register_op,
};
use linux_raw_sys::{errno, general as linux};

use crate::workbench::app::files::{Buffer, close, now_ms, pipe, sleep_ms, timespec, write};
use crate::workbench::app::ring::{PARAMS_BYTES, Ring, Sqe};
use crate::workbench::app::run::{run, run_seeds, sys};
use crate::workbench::app::wait::poll;
use crate::workbench::app::{join, spawn};

const NOP: io_uring_op = io_uring_op::IORING_OP_NOP;

#[test]
fn sizes_are_rounded_up() {
    run(|| {
        let ring = Ring::new(5);
        assert_eq!((ring.sq_entries, ring.cq_entries), (8, 16));
        let ring = Ring::with(8, IORING_SETUP_CQSIZE, 50, 0).unwrap();
        assert_eq!((ring.sq_entries, ring.cq_entries), (8, 64));
        // IORING_FEAT_NODROP and IORING_FEAT_EXT_ARG.
        assert_eq!(ring.features & 0x102, 0x102);
    });
}

#[test]
fn bad_sizes_and_flags_are_refused() {
    run(|| {
        for (entries, flags, cq) in [
            (0, 0, 0),
            (40_000, 0, 0),
            (8, IORING_SETUP_CQSIZE, 0),
            (8, IORING_SETUP_CQSIZE, 4),
            (8, 1 << 31, 0),
            (8, IORING_SETUP_IOPOLL, 0),
        ] {
            let outcome = Ring::with(entries, flags, cq, 0).map(|_| ());
            assert_eq!(outcome, Err(errno::EINVAL), "{entries} {flags} {cq}");
        }
        assert_eq!(Ring::with(40_000, IORING_SETUP_CLAMP, 0, 0).unwrap().sq_entries, 32_768);
        assert_eq!(sys(linux::__NR_io_uring_setup, &[8, 8]), Err(errno::EFAULT));
        let dirty = Buffer::new(&[0xff; PARAMS_BYTES]);
        assert_eq!(sys(linux::__NR_io_uring_setup, &[8, dirty.address]), Err(errno::EINVAL));
    });
}

#[test]
fn data_comes_back() {
    run(|| {
        let ring = Ring::new(4);
        for data in 1..=3 {
            ring.push(Sqe::new(NOP).data(data));
        }
        assert_eq!(ring.submit(), Ok(3));
        assert_eq!(ring.results(3), [(1, 0), (2, 0), (3, 0)]);
        assert_eq!(ring.next(), None);
    });
}

#[test]
fn only_as_many_as_asked_for_are_submitted() {
    run(|| {
        let ring = Ring::new(4);
        (0..3).for_each(|data| ring.push(Sqe::new(NOP).data(data)));
        assert_eq!(ring.enter(2, 0, 0), Ok(2));
        assert_eq!(ring.waiting(), 1);
        assert_eq!(ring.enter(9, 0, 0), Ok(1));
        assert_eq!(ring.results(3).len(), 3);
    });
}

#[test]
fn unknown_operations_fail_one_by_one() {
    run(|| {
        let ring = Ring::new(4);
        ring.push(Sqe { opcode: 200, ..Sqe::default() }.data(1));
        assert_eq!(ring.complete(1)[0].result, -(errno::EINVAL as i32));
        assert_eq!(ring.one(Sqe { flags: 0x80, ..Sqe::new(NOP) }), -(errno::EINVAL as i32));
        assert_eq!(ring.one(Sqe::new(NOP)), 0);
    });
}

#[test]
fn index_outside_is_dropped() {
    run(|| {
        let ring = Ring::new(4);
        ring.push_index(99);
        ring.enter(1, 0, 0).unwrap();
        assert_eq!((ring.dropped(), ring.next()), (1, None));
    });
}

#[test]
fn completions_beyond_the_ring_are_kept() {
    run(|| {
        let ring = Ring::new(2);
        for _ in 0..4 {
            (0..2).for_each(|data| ring.push(Sqe::new(NOP).data(data)));
            ring.submit().unwrap();
        }
        assert_ne!(ring.sq_flags() & IORING_SQ_CQ_OVERFLOW, 0);
        assert_eq!(core::iter::from_fn(|| ring.next()).count(), 4);
        ring.enter(0, 0, IORING_ENTER_GETEVENTS).unwrap();
        assert_eq!(core::iter::from_fn(|| ring.next()).count(), 4);
        assert_eq!(ring.sq_flags() & IORING_SQ_CQ_OVERFLOW, 0);
        assert_eq!(ring.overflow(), 0);
    });
}

#[test]
fn enter_minds_file_and_flags() {
    run(|| {
        let (ring, (reader, _)) = (Ring::new(2), pipe(0));
        let enter = |fd: u64, flags: u64| sys(linux::__NR_io_uring_enter, &[fd, 0, 0, flags, 0, 0]);
        assert_eq!(enter(reader, 0), Err(errno::EOPNOTSUPP));
        assert_eq!(enter(99, 0), Err(errno::EBADF));
        assert_eq!(enter(ring.fd, 1 << 20), Err(errno::EINVAL));
    });
}

#[test]
fn ring_is_readable_when_it_has_completions() {
    run(|| {
        let ring = Ring::new(2);
        assert_eq!(poll(ring.fd, linux::POLLIN, 0), 0);
        ring.push(Sqe::new(NOP));
        ring.submit().unwrap();
        assert_eq!(poll(ring.fd, linux::POLLIN, 0), linux::POLLIN);
    });
}

#[test]
fn waiting_ends_with_its_time() {
    run(|| {
        let (ring, time) = (Ring::new(2), Buffer::new(&timespec(30_000_000)));
        let argument = Buffer::new(&crate::workbench::app::files::words(&[0, 8, time.address]));
        let begin = now_ms();
        // IORING_ENTER_GETEVENTS and IORING_ENTER_EXT_ARG.
        let arguments = [ring.fd, 0, 1, 9, argument.address, 24];
        assert_eq!(sys(linux::__NR_io_uring_enter, &arguments), Err(errno::ETIME));
        assert!((30..40).contains(&(now_ms() - begin)));
    });
}

#[test]
fn disabled_ring_submits_when_it_is_enabled() {
    run(|| {
        let ring = Ring::with(2, IORING_SETUP_R_DISABLED, 0, 0).unwrap();
        ring.push(Sqe::new(NOP));
        assert_eq!(ring.enter(1, 0, 0), Err(errno::EBADFD));
        let enable = io_uring_register_op::IORING_REGISTER_ENABLE_RINGS as u32;
        assert_eq!(ring.register(enable, &[], 0), Ok(0));
        assert_eq!(ring.register(enable, &[], 0), Err(errno::EBADFD));
        assert_eq!(ring.complete(1)[0].result, 0);
    });
}

#[test]
fn poller_takes_entries_without_a_call() {
    run_seeds(6, || {
        let ring = Ring::with(8, IORING_SETUP_SQPOLL, 0, 1000).unwrap();
        for data in 0..5 {
            ring.push(Sqe::new(NOP).data(data));
        }
        while ring.waiting() > 0 {
            sleep_ms(1);
        }
        sleep_ms(1);
        assert_eq!(core::iter::from_fn(|| ring.next()).count(), 5);
    });
}

#[test]
fn idle_poller_sleeps_until_it_is_woken() {
    run_seeds(6, || {
        let ring = Ring::with(8, IORING_SETUP_SQPOLL, 0, 5).unwrap();
        sleep_ms(100);
        assert_ne!(ring.sq_flags() & IORING_SQ_NEED_WAKEUP, 0);
        ring.push(Sqe::new(NOP).data(7));
        sleep_ms(10);
        assert_eq!((ring.waiting(), ring.next()), (1, None));
        ring.enter(1, 1, IORING_ENTER_SQ_WAKEUP | IORING_ENTER_GETEVENTS).unwrap();
        assert_eq!(ring.next().map(|cqe| cqe.data), Some(7));
    });
}

#[test]
fn sleeper_at_a_ring_is_woken_by_another_core() {
    run_seeds(20, || {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        let into = crate::workbench::app::map(16);
        ring.push(Sqe::on(io_uring_op::IORING_OP_READ, reader, into, 16).off(u64::MAX));
        let sleeper = spawn(move || assert_eq!(ring.complete(1)[0].result, 5)).unwrap();
        sleep_ms(2);
        write(writer, b"bytes").unwrap();
        join(sleeper);
    });
}

#[test]
fn closing_a_ring_ends_what_it_waits_for() {
    run(|| {
        let (ring, (reader, writer)) = (Ring::new(4), pipe(0));
        let into = crate::workbench::app::map(16);
        ring.push(Sqe::on(io_uring_op::IORING_OP_READ, reader, into, 16).off(u64::MAX));
        ring.submit().unwrap();
        close(ring.fd);
        sleep_ms(10);
        write(writer, b"mine").unwrap();
        assert_eq!(crate::workbench::app::files::read(reader, 9), Ok(b"mine".to_vec()));
    });
}
