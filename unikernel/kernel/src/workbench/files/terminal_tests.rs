//! Terminals: pairs of them, the line discipline, the console.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::*;
use unikernel_hal::sim::app;

use super::super::app::calls::{Room, sys};
use super::super::app::run::run;
use super::super::app::{join, spawn};
use super::{Stat, open};

const ICANON: u32 = 2;
const ECHO: u32 = 8;
const ISIG: u32 = 1;
const OPOST: u32 = 1;
const VTIME: usize = 5;
const VMIN: usize = 6;
const NEW: u32 = O_RDWR | O_NOCTTY | O_NONBLOCK;

/// A pair of terminals, which do not wait.
pub(super) struct Pair {
    pub(super) master: u64,
    pub(super) slave: u64,
    pub(super) path: std::string::String,
}

pub(super) fn pair() -> Pair {
    let master = open("/dev/ptmx", NEW);
    let room = Room::new(8);
    assert_eq!(sys!(ioctl, master, TIOCSPTLCK, &room), Ok(0));
    assert_eq!(sys!(ioctl, master, TIOCGPTN, &room), Ok(0));
    let path = std::format!("/dev/pts/{}", room.word(0));
    Pair { master, slave: open(&path, NEW), path }
}

pub(super) fn put(file: u64, bytes: &[u8]) {
    assert_eq!(sys!(write, file, &Room::of(bytes), bytes.len()), Ok(bytes.len() as u64));
}

pub(super) fn take(file: u64) -> core::result::Result<Vec<u8>, u32> {
    let room = Room::new(4096);
    sys!(read, file, &room, 4096).map(|count| room.bytes(0, count as usize))
}

/// Changes the settings: offsets as in `struct termios`.
pub(super) fn change(file: u64, change: impl FnOnce(&Room)) {
    let settings = Room::new(64);
    sys!(ioctl, file, TCGETS, &settings).unwrap();
    change(&settings);
    sys!(ioctl, file, TCSETS, &settings).unwrap();
}

fn local_flags(file: u64, clear: u32) {
    change(file, |settings| settings.put_word(12, settings.word(12) & !clear));
}

fn make_raw(file: u64, least: u8, tenths: u8) {
    change(file, |settings| {
        settings.put_word(0, 0);
        settings.put_word(4, 0);
        settings.put_word(12, 0);
        settings.put(17 + VMIN, &[least]);
        settings.put(17 + VTIME, &[tenths]);
    });
}

#[test]
fn slave_is_locked_until_it_is_freed() {
    run(|| {
        let master = open("/dev/ptmx", NEW);
        let room = Room::new(8);
        sys!(ioctl, master, TIOCGPTN, &room).unwrap();
        let path = std::format!("/dev/pts/{}", room.word(0));
        assert_eq!(sys!(open, &*path, NEW, 0), Err(EIO));
        assert_eq!(sys!(ioctl, master, TIOCGPTLCK, &room), Ok(0));
        assert_eq!(room.word(0), 1);
        room.put_word(0, 0);
        assert_eq!(sys!(ioctl, master, TIOCSPTLCK, &room), Ok(0));
        let slave = open(&path, NEW);
        assert_eq!(sys!(ioctl, slave, TIOCGPTN, &room), Err(ENOTTY));
        assert_eq!((Stat::of(&path).mode() & S_IFMT, Stat::of(&path).device() >> 8), (S_IFCHR, 136));
        assert!(sys!(ioctl, master, TIOCGPTPEER, NEW).is_ok());
        sys!(close, master).unwrap();
        assert_eq!(sys!(open, &*path, NEW, 0), Err(ENOENT));
    });
}

#[test]
fn lines_are_edited_and_echoed() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        put(master, b"ab\x7fc");
        assert_eq!(take(slave), Err(EAGAIN));
        put(master, b"\nnext");
        assert_eq!(take(slave), Ok(b"ac\n".to_vec()));
        assert_eq!(take(slave), Err(EAGAIN));
        assert_eq!(take(master), Ok(b"ab\x08 \x08c\r\nnext".to_vec()));
        // ^U takes the line, ^D ends it without a character.
        put(master, b"\x15x\x04");
        assert_eq!(take(slave), Ok(b"x".to_vec()));
        put(master, b"\x04");
        assert_eq!(take(slave), Ok(Vec::new()));
    });
}

#[test]
fn echo_can_be_turned_off() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        local_flags(slave, ECHO);
        put(master, b"secret\n");
        assert_eq!(take(master), Err(EAGAIN));
        assert_eq!(take(slave), Ok(b"secret\n".to_vec()));
    });
}

#[test]
fn output_is_processed_unless_turned_off() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        put(slave, b"a\nb");
        assert_eq!(take(master), Ok(b"a\r\nb".to_vec()));
        change(slave, |settings| settings.put_word(4, settings.word(4) & !OPOST));
        put(slave, b"a\nb");
        assert_eq!(take(master), Ok(b"a\nb".to_vec()));
    });
}

#[test]
fn raw_bytes_come_when_there_are_enough() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        make_raw(slave, 1, 0);
        put(master, b"\x03\r\x7f");
        assert_eq!(take(slave), Ok(b"\x03\r\x7f".to_vec()));
        assert_eq!(take(slave), Err(EAGAIN));
        make_raw(slave, 0, 0);
        assert_eq!(take(slave), Ok(Vec::new()));
    });
}

#[test]
fn reader_waits_for_its_line() {
    run(|| {
        let Pair { master, path, .. } = pair();
        let patient = open(&path, O_RDWR | O_NOCTTY);
        let thread = spawn(move || assert_eq!(take(patient), Ok(b"line\n".to_vec()))).unwrap();
        put(master, b"li");
        sys!(sched_yield).unwrap();
        put(master, b"ne\n");
        join(thread);
    });
}

#[test]
fn time_limit_of_raw_reads() {
    run(|| {
        let Pair { path, slave, .. } = pair();
        let patient = open(&path, O_RDWR | O_NOCTTY);
        make_raw(slave, 0, 2);
        let (before, after) = (Room::new(16), Room::new(16));
        sys!(clock_gettime, CLOCK_MONOTONIC, &before).unwrap();
        assert_eq!(take(patient), Ok(Vec::new()));
        sys!(clock_gettime, CLOCK_MONOTONIC, &after).unwrap();
        let ns = |room: &Room| room.long(0) * 1_000_000_000 + room.long(8);
        assert!((200_000_000..300_000_000).contains(&(ns(&after) - ns(&before))));
    });
}

#[test]
fn other_end_that_is_closed_is_the_end() {
    run(|| {
        let Pair { master, slave, path } = pair();
        put(slave, b"last");
        sys!(close, slave).unwrap();
        assert_eq!(take(master), Ok(b"last".to_vec()));
        assert_eq!(take(master), Err(EIO));
        let slave = open(&path, NEW);
        assert_eq!(take(master), Err(EAGAIN));
        sys!(close, master).unwrap();
        assert_eq!(take(slave), Ok(Vec::new()));
        assert_eq!(sys!(write, slave, &Room::of(b"x"), 1), Err(EIO));
    });
}

#[test]
fn stopped_output_waits() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        put(master, b"\x13");
        assert_eq!(sys!(write, slave, &Room::of(b"x"), 1), Err(EAGAIN));
        put(master, b"\x11");
        put(slave, b"x");
        assert_eq!(take(master), Ok(b"x".to_vec()));
    });
}

#[test]
fn window_size_is_kept() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        let size = Room::of(&[24, 0, 80, 0, 1, 0, 2, 0]);
        assert_eq!(sys!(ioctl, master, TIOCSWINSZ, &size), Ok(0));
        let told = Room::new(8);
        assert_eq!(sys!(ioctl, slave, TIOCGWINSZ, &told), Ok(0));
        assert_eq!(told.bytes(0, 8), size.bytes(0, 8));
    });
}

#[test]
fn full_terminal_refuses_more() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        make_raw(slave, 1, 0);
        let bytes = Room::of(&[b'x'; 1000]);
        let mut written = 0;
        let error = loop {
            match sys!(write, slave, &bytes, 1000) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
            assert!(written < 1 << 20);
        };
        assert_eq!(error, EAGAIN);
        let mut read = 0;
        while let Ok(bytes) = take(master) {
            read += bytes.len() as u64;
        }
        assert_eq!(read, written);
        put(slave, b"again");
    });
}

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

#[test]
fn controlling_terminal_sends_signals() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        let handler = app::handler(|_| {
            INTERRUPTS.fetch_add(1, Ordering::Relaxed);
        });
        let action = Room::of_longs(&[handler, SA_RESTORER.into(), app::RESTORER, 0]);
        sys!(rt_sigaction, SIGINT, &action, 0, 8).unwrap();
        put(master, b"\x03");
        assert_eq!(INTERRUPTS.load(Ordering::Relaxed), 0);
        let _ = sys!(setsid);
        assert_eq!(sys!(ioctl, slave, TIOCSCTTY, 0), Ok(0));
        put(master, b"\x03");
        for _ in 0..100 {
            sys!(sched_yield).unwrap();
        }
        assert_eq!(INTERRUPTS.load(Ordering::Relaxed), 1);
        local_flags(slave, ISIG | ICANON);
        put(master, b"\x03");
        assert_eq!(take(slave), Ok(b"\x03".to_vec()));
    });
}

#[test]
fn files_are_no_terminals() {
    run(|| {
        let room = Room::new(64);
        let file = open("/tmp/file", O_RDWR | O_CREAT);
        for request in [TCGETS, TIOCGWINSZ, TIOCGPGRP] {
            assert_eq!(sys!(ioctl, file, request, &room), Err(ENOTTY));
        }
    });
}

#[test]
fn console_reads_what_is_typed() {
    run(|| {
        app::type_in(b"hello\n");
        assert_eq!(take(0), Ok(b"hello\n".to_vec()));
        assert_eq!(sys!(ioctl, 0, TCGETS, &Room::new(64)), Ok(0));
    });
}
