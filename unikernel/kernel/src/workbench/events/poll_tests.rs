//! poll(2), ppoll(2), select(2), pselect6(2).

use alloc::vec::Vec;

use linux_raw_sys::{errno, general as linux};
use unikernel_hal::sim::app;

use crate::workbench::app::files::{Buffer, close, now_ms, pipe, sleep_ms, timespec, words, write};
use crate::workbench::app::run::{Answer, run, run_seeds, sys};
use crate::workbench::app::wait::{poll, poll_all};
use crate::workbench::app::{join, spawn, text};

const IN: u32 = linux::POLLIN;
const OUT: u32 = linux::POLLOUT;

/// Handles a signal by doing nothing: a call that sleeps ends.
fn handle(signal: u32) {
    let handler = app::handler(|_| {});
    let action = Buffer::new(&words(&[handler, linux::SA_RESTORER.into(), app::RESTORER, 0]));
    assert_eq!(sys(linux::__NR_rt_sigaction, &[signal.into(), action.address, 0, 8]), Ok(0));
}

fn block(signal: u32) {
    let set = Buffer::new(&words(&[1 << (signal - 1)]));
    assert_eq!(sys(linux::__NR_rt_sigprocmask, &[0, set.address, 0, 8]), Ok(0));
}

fn raise(signal: u32) {
    let process = sys(linux::__NR_getpid, &[]).unwrap();
    assert_eq!(sys(linux::__NR_kill, &[process, signal.into()]), Ok(0));
}

#[test]
fn each_entry_has_its_own() {
    run(|| {
        let (reader, writer) = pipe(0);
        assert_eq!(poll_all(&[(reader, IN), (writer, OUT)], 0), Ok([0, OUT].to_vec()));
        write(writer, b"x").unwrap();
        assert_eq!(poll_all(&[(reader, IN), (writer, OUT)], -1), Ok([IN, OUT].to_vec()));
    });
}

#[test]
fn ends_and_errors_are_told_unasked() {
    run(|| {
        let (reader, writer) = pipe(0);
        close(writer);
        assert_eq!(poll(reader, 0, -1), linux::POLLHUP);
        let (reader, writer) = pipe(0);
        close(reader);
        assert_eq!(poll(writer, 0, -1), linux::POLLERR);
    });
}

#[test]
fn bad_and_negative_descriptors() {
    run(|| {
        assert_eq!(poll_all(&[(99, IN), (u64::MAX, IN)], 0), Ok([linux::POLLNVAL, 0].to_vec()));
    });
}

#[test]
fn files_are_always_ready() {
    run(|| {
        let flags = linux::O_RDWR | linux::O_CREAT;
        let file = sys(linux::__NR_open, &[text("/tmp/file"), flags.into(), 0o600]).unwrap();
        assert_eq!(poll(file, IN | OUT, 0), IN | OUT);
    });
}

#[test]
fn poll_times_out() {
    run(|| {
        let (reader, _writer) = pipe(0);
        let begin = now_ms();
        assert_eq!(poll(reader, IN, 700), 0);
        assert!((700..710).contains(&(now_ms() - begin)));
    });
}

#[test]
fn entries_are_minded() {
    run(|| {
        assert_eq!(sys(linux::__NR_poll, &[8, 1 << 30, 0]), Err(errno::EINVAL));
        assert_eq!(sys(linux::__NR_poll, &[8, 1, 0]), Err(errno::EFAULT));
        assert_eq!(sys(linux::__NR_poll, &[0, 0, 1]), Ok(0));
    });
}

#[test]
fn sleeper_is_woken_by_another_core() {
    run_seeds(20, || {
        let (reader, writer) = pipe(0);
        let sleeper = spawn(move || assert_eq!(poll(reader, IN, -1), IN)).unwrap();
        sleep_ms(2);
        write(writer, b"x").unwrap();
        join(sleeper);
    });
}

#[test]
fn poll_is_interrupted_by_a_handler() {
    run(|| {
        handle(linux::SIGALRM);
        sys(linux::__NR_alarm, &[1]).unwrap();
        let begin = now_ms();
        assert_eq!(poll_all(&[], -1), Err(errno::EINTR));
        assert!((1000..1010).contains(&(now_ms() - begin)));
    });
}

#[test]
fn ppoll_lets_a_signal_in_while_it_waits() {
    run(|| {
        handle(linux::SIGUSR1);
        block(linux::SIGUSR1);
        raise(linux::SIGUSR1);
        assert_eq!(poll_all(&[], 10), Ok(Vec::new()));
        let none = Buffer::new(&words(&[0]));
        assert_eq!(sys(linux::__NR_ppoll, &[0, 0, 0, none.address, 8]), Err(errno::EINTR));
        // The mask is as before: another one waits again.
        raise(linux::SIGUSR1);
        assert_eq!(poll_all(&[], 10), Ok(Vec::new()));
    });
}

#[test]
fn ppoll_minds_time_and_mask() {
    run(|| {
        let (bad, mask) = (Buffer::new(&words(&[0, 1_000_000_000])), Buffer::new(&words(&[0])));
        assert_eq!(sys(linux::__NR_ppoll, &[0, 0, bad.address, 0, 8]), Err(errno::EINVAL));
        let limit = Buffer::new(&timespec(1000));
        assert_eq!(sys(linux::__NR_ppoll, &[0, 0, limit.address, mask.address, 4]), Err(errno::EINVAL));
        assert_eq!(sys(linux::__NR_ppoll, &[0, 0, limit.address, mask.address, 8]), Ok(0));
    });
}

/// select(2) of up to 64 descriptors: how many, and what is left of the sets.
fn select(count: u64, sets: [u64; 3], timeout_us: Option<u64>) -> Answer<(u64, [u64; 3])> {
    let places = sets.map(|set| Buffer::new(&words(&[set])));
    let time = Buffer::new(&words(&[0, timeout_us.unwrap_or(0)]));
    let pointer = if timeout_us.is_some() { time.address } else { 0 };
    let [read, write, except] = [0, 1, 2].map(|index: usize| places[index].address);
    let ready = sys(linux::__NR_select, &[count, read, write, except, pointer])?;
    Ok((ready, places.map(|place| u64::from_ne_bytes(place.bytes(8).try_into().unwrap()))))
}

#[test]
fn select_leaves_what_is_ready() {
    run(|| {
        let (reader, writer) = pipe(0);
        let sets = [1 << reader, 1 << writer, 0];
        assert_eq!(select(writer + 1, sets, Some(0)), Ok((1, [0, 1 << writer, 0])));
        write(writer, b"x").unwrap();
        assert_eq!(select(writer + 1, sets, None), Ok((2, sets)));
    });
}

#[test]
fn select_times_out() {
    run(|| {
        let (reader, _writer) = pipe(0);
        let begin = now_ms();
        assert_eq!(select(reader + 1, [1 << reader, 0, 0], Some(250_000)), Ok((0, [0; 3])));
        assert!((250..260).contains(&(now_ms() - begin)));
    });
}

#[test]
fn select_refuses_bad_descriptors() {
    run(|| {
        assert_eq!(select(64, [1 << 63, 0, 0], Some(0)), Err(errno::EBADF));
        assert_eq!(select(0xffff_ffff, [0; 3], Some(0)), Err(errno::EINVAL));
    });
}

#[test]
fn pselect_lets_a_signal_in_while_it_waits() {
    run(|| {
        handle(linux::SIGUSR1);
        block(linux::SIGUSR1);
        raise(linux::SIGUSR1);
        let none = Buffer::new(&words(&[0]));
        let argument = Buffer::new(&words(&[none.address, 8]));
        assert_eq!(sys(linux::__NR_pselect6, &[0, 0, 0, 0, 0, argument.address]), Err(errno::EINTR));
        let limit = Buffer::new(&timespec(5_000_000));
        assert_eq!(sys(linux::__NR_pselect6, &[0, 0, 0, 0, limit.address, 0]), Ok(0));
    });
}
