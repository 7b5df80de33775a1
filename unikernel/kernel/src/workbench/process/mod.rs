//! The process: signals, threads, futexes, timers, who it is.

mod clocks_tests;
mod elf;
mod exec_tests;
mod futexes_tests;
mod gaps_tests;
mod identity_tests;
mod message_queues_tests;
mod programs_tests;
mod scheduling_tests;
mod seccomp_tests;
mod signals_tests;
mod threads_tests;
mod timer_files_tests;
mod waiting_tests;

use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::general as linux;
use unikernel_hal::sim::app;

use super::app::calls::{Room, sys};

/// How often each signal was handled.
static HANDLED: [AtomicU32; 65] = [const { AtomicU32::new(0) }; 65];

fn count(signal: i32) {
    HANDLED[signal as usize].fetch_add(1, Ordering::Relaxed);
}

fn handled(signal: u32) -> u32 {
    HANDLED[signal as usize].load(Ordering::Relaxed)
}

/// `struct sigaction`, as the kernel has it.
fn action(handler: u64, flags: u32, mask: u64) -> Room {
    Room::of_longs(&[handler, (flags | linux::SA_RESTORER).into(), app::RESTORER, mask])
}

/// Handles a signal by `handler`.
fn handle(signal: u32, flags: u32, handler: fn(i32)) {
    let action = action(app::handler(handler), flags, 0);
    sys!(rt_sigaction, signal, &action, 0, 8).unwrap();
}

/// The bit of a signal in a set.
fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

fn change_mask(how: u32, set: u64) {
    sys!(rt_sigprocmask, how, &Room::of_longs(&[set]), 0, 8).unwrap();
}

fn pending() -> u64 {
    let set = Room::new(8);
    sys!(rt_sigpending, &set, 8).unwrap();
    set.long(0)
}

/// Sends the process a signal.
fn kill(signal: u32) {
    sys!(kill, 1, signal).unwrap();
}

/// A time, in nanoseconds, as `struct timespec`.
fn timespec(ns: u64) -> Room {
    Room::of_longs(&[ns / 1_000_000_000, ns % 1_000_000_000])
}

/// What a clock shows.
fn now_ns(clock: u32) -> u64 {
    let room = Room::new(16);
    sys!(clock_gettime, clock, &room).unwrap();
    room.long(0) * 1_000_000_000 + room.long(8)
}
