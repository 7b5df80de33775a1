//! Waiting for signals, and calls that signals interrupt.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_seeds};
use super::super::app::{join, spawn};
use super::{bit, change_mask, count, handle, handled, kill, now_ns, pending, timespec};

const MS: u64 = 1_000_000;

/// Sends the first thread a signal after a while.
fn send_later(signal: u32, ns: u64) -> (u64, u64) {
    let thread = spawn(move || {
        sys!(nanosleep, &timespec(ns), 0).unwrap();
        sys!(tgkill, 1, 1, signal).unwrap();
    });
    thread.unwrap()
}

#[test]
fn sigtimedwait_takes_what_is_pending() {
    run(|| {
        change_mask(SIG_BLOCK, bit(SIGUSR1) | bit(SIGUSR2));
        kill(SIGUSR1);
        let (set, info) = (Room::of_longs(&[bit(SIGUSR1) | bit(SIGUSR2)]), Room::new(128));
        assert_eq!(sys!(rt_sigtimedwait, &set, &info, 0, 8), Ok(SIGUSR1.into()));
        // Sent by kill(2), from the process itself.
        assert_eq!((info.word(0), info.word(8), info.word(16)), (SIGUSR1, 0, 1));
        assert_eq!(pending(), 0);
        let before = now_ns(CLOCK_MONOTONIC);
        assert_eq!(sys!(rt_sigtimedwait, &set, 0, &timespec(10 * MS), 8), Err(EAGAIN));
        assert!(now_ns(CLOCK_MONOTONIC) - before >= 10 * MS);
    });
}

#[test]
fn sigtimedwait_is_woken_by_a_signal() {
    run_seeds(6, || {
        change_mask(SIG_BLOCK, bit(SIGUSR1));
        let thread = send_later(SIGUSR1, MS);
        let set = Room::of_longs(&[bit(SIGUSR1)]);
        assert_eq!(sys!(rt_sigtimedwait, &set, 0, 0, 8), Ok(SIGUSR1.into()));
        join(thread);
    });
}

#[test]
fn sigtimedwait_is_interrupted_by_another_signal() {
    run(|| {
        change_mask(SIG_BLOCK, bit(SIGUSR1));
        handle(SIGUSR2, SA_RESTART, count);
        let thread = send_later(SIGUSR2, MS);
        let set = Room::of_longs(&[bit(SIGUSR1)]);
        assert_eq!(sys!(rt_sigtimedwait, &set, 0, 0, 8), Err(EINTR));
        assert_eq!(handled(SIGUSR2), 1);
        join(thread);
        assert_eq!(sys!(rt_sigtimedwait, &set, 0, 0, 4), Err(EINVAL));
        assert_eq!(sys!(rt_sigtimedwait, 1, 0, 0, 8), Err(EFAULT));
        assert_eq!(sys!(rt_sigtimedwait, &set, 0, &Room::of_longs(&[0, 1_000_000_000]), 8), Err(EINVAL));
    });
}

#[test]
fn queued_value_arrives() {
    run(|| {
        change_mask(SIG_BLOCK, bit(SIGRTMIN));
        let info = Room::new(128);
        info.put_word(8, (-1_i32) as u32);
        info.put_long(24, 0x1234_5678_9abc);
        assert_eq!(sys!(rt_sigqueueinfo, 1, SIGRTMIN, &info), Ok(0));
        let told = Room::new(128);
        let set = Room::of_longs(&[bit(SIGRTMIN)]);
        assert_eq!(sys!(rt_sigtimedwait, &set, &told, 0, 8), Ok(SIGRTMIN.into()));
        assert_eq!((told.word(0), told.word(8), told.long(24)), (SIGRTMIN, u32::MAX, 0x1234_5678_9abc));
    });
}

#[test]
fn sigsuspend_and_pause_wait_for_a_handler() {
    run_seeds(6, || {
        handle(SIGUSR1, SA_RESTART, count);
        change_mask(SIG_BLOCK, bit(SIGUSR1));
        let thread = send_later(SIGUSR1, MS);
        assert_eq!(sys!(rt_sigsuspend, &Room::of_longs(&[0]), 8), Err(EINTR));
        assert_eq!(handled(SIGUSR1), 1);
        join(thread);
        // The old mask is back.
        kill(SIGUSR1);
        assert_eq!((handled(SIGUSR1), pending()), (1, bit(SIGUSR1)));
        change_mask(SIG_UNBLOCK, bit(SIGUSR1));
        let thread = send_later(SIGUSR1, MS);
        assert_eq!(sys!(pause), Err(EINTR));
        assert_eq!(handled(SIGUSR1), 3);
        join(thread);
        assert_eq!(sys!(rt_sigsuspend, 1, 8), Err(EFAULT));
        assert_eq!(sys!(rt_sigsuspend, &Room::new(8), 4), Err(EINVAL));
    });
}

#[test]
fn read_is_interrupted_or_made_once_more() {
    fn pipe() -> (u32, u32) {
        let room = Room::new(8);
        sys!(pipe, &room).unwrap();
        (room.word(0), room.word(4))
    }
    run_seeds(6, || {
        let (reader, writer) = pipe();
        handle(SIGUSR1, 0, count);
        handle(SIGUSR2, SA_RESTART, count);
        let thread = send_later(SIGUSR1, MS);
        assert_eq!(sys!(read, reader, &Room::new(8), 8), Err(EINTR));
        join(thread);
        let thread = spawn(move || {
            sys!(nanosleep, &timespec(MS), 0).unwrap();
            sys!(tgkill, 1, 1, SIGUSR2).unwrap();
            sys!(nanosleep, &timespec(MS), 0).unwrap();
            sys!(write, writer, &Room::of(b"x"), 1).unwrap();
        });
        let thread = thread.unwrap();
        assert_eq!(sys!(read, reader, &Room::new(8), 8), Ok(1));
        assert_eq!((handled(SIGUSR1), handled(SIGUSR2)), (1, 1));
        join(thread);
    });
}

#[test]
fn interrupted_sleep_tells_what_is_left() {
    run_seeds(6, || {
        handle(SIGUSR1, SA_RESTART, count);
        let thread = send_later(SIGUSR1, 10 * MS);
        let left = Room::new(16);
        let before_ns = now_ns(CLOCK_MONOTONIC);
        assert_eq!(sys!(nanosleep, &timespec(1000 * MS), &left), Err(EINTR));
        let slept_ns = now_ns(CLOCK_MONOTONIC) - before_ns;
        join(thread);
        let left_ns = left.long(0) * 1_000_000_000 + left.long(8);
        // When the signal comes is the other thread's matter, whose 10 ms may have begun before this sleep: what was slept and what is left is the whole,
        // and what the calls themselves take.
        assert!((900 * MS..1000 * MS).contains(&left_ns), "{left_ns}");
        let whole_ns = slept_ns + left_ns;
        assert!((1000 * MS..=1001 * MS).contains(&whole_ns), "{slept_ns} and {left_ns}");
    });
}

#[test]
fn broken_pipe_is_a_signal() {
    run(|| {
        let room = Room::new(8);
        sys!(pipe, &room).unwrap();
        sys!(close, room.word(0)).unwrap();
        handle(SIGPIPE, 0, count);
        assert_eq!(sys!(write, room.word(4), &Room::of(b"x"), 1), Err(EPIPE));
        assert_eq!(handled(SIGPIPE), 1);
    });
}

#[test]
fn signalfd_reads_signals() {
    run(|| {
        change_mask(SIG_BLOCK, bit(SIGUSR1) | bit(SIGUSR2));
        let set = Room::of_longs(&[bit(SIGUSR1)]);
        let file = sys!(signalfd4, -1, &set, 8, O_NONBLOCK | O_CLOEXEC).unwrap();
        let info = Room::new(256);
        assert_eq!(sys!(read, file, &info, 256), Err(EAGAIN));
        kill(SIGUSR1);
        kill(SIGUSR2);
        assert_eq!(sys!(read, file, &info, 256), Ok(128));
        assert_eq!((info.word(0), info.word(12), pending()), (SIGUSR1, 1, bit(SIGUSR2)));
        // The set of one that is there can be changed.
        assert_eq!(sys!(signalfd, file, &Room::of_longs(&[bit(SIGUSR2)]), 8), Ok(file));
        assert_eq!(sys!(read, file, &info, 256), Ok(128));
        assert_eq!((info.word(0), pending()), (SIGUSR2, 0));
        assert_eq!(sys!(read, file, &info, 100), Err(EINVAL));
        assert_eq!(sys!(signalfd4, 1, &set, 8, 0), Err(EINVAL));
        assert_eq!(sys!(signalfd4, 99, &set, 8, 0), Err(EBADF));
        assert_eq!(sys!(signalfd4, -1, &set, 4, 0), Err(EINVAL));
        assert_eq!(sys!(signalfd4, -1, &set, 8, 1), Err(EINVAL));
    });
}

#[test]
fn pidfd_sends_signals_and_gives_files() {
    run(|| {
        let process = sys!(pidfd_open, 1, 0).unwrap();
        assert_eq!(sys!(fcntl, process, F_GETFD), Ok(1));
        assert_eq!(sys!(pidfd_open, 77, 0), Err(ESRCH));
        assert_eq!(sys!(pidfd_open, -1, 0), Err(EINVAL));
        assert_eq!(sys!(pidfd_open, 1, 1), Err(EINVAL));
        handle(SIGUSR1, 0, count);
        assert_eq!(sys!(pidfd_send_signal, process, SIGUSR1, 0, 0), Ok(0));
        assert_eq!(handled(SIGUSR1), 1);
        assert_eq!(sys!(pidfd_send_signal, 1, SIGUSR1, 0, 0), Err(EBADF));
        assert_eq!(sys!(pidfd_send_signal, process, 65, 0, 0), Err(EINVAL));
        let file = sys!(memfd_create, "x", 0).unwrap();
        let copy = sys!(pidfd_getfd, process, file, 0).unwrap();
        sys!(ftruncate, copy, 100).unwrap();
        assert_eq!(sys!(lseek, file, 0, SEEK_END), Ok(100));
        assert_eq!(sys!(pidfd_getfd, process, 99, 0), Err(EBADF));
        assert_eq!(sys!(pidfd_getfd, process, file, 1), Err(EINVAL));
    });
}
