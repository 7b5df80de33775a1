//! What the kernel keeps for the app beside descriptors: record locks, timers; terminals, whose queues are filled; and what watches
//! other things.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, Ordering};

use guest_tests::check;
use guest_tests::objects::{EVENTFD, call};

use crate::{close_all, exhaust, exhaust_descriptors};

/// Timers that the test can keep the numbers of: of more it would not know.
const MOST_TIMERS: usize = 8192;

/// Their numbers. Not from the heap, which cannot grow when memory is short.
static NUMBERS: [AtomicI32; MOST_TIMERS] = [const { AtomicI32::new(0) }; MOST_TIMERS];

/// Locks of every second byte, so that no two are one; and, with a second file, locks of the open file's own.
pub(crate) fn locks() {
    for (name, command, path) in [
        ("record locks", libc::F_SETLK, c"/tmp/locks"),
        ("locks of an open file", libc::F_OFD_SETLK, c"/tmp/more_locks"),
    ] {
        let file = Cell::new(0);
        let lock = |index: u64| {
            if index == 0 {
                let flags = (libc::O_CREAT | libc::O_RDWR) as u64;
                file.set(call(libc::SYS_open, [path.as_ptr() as u64, flags, 0o644, 0, 0, 0])?);
            }
            let lock = libc::flock {
                l_type: libc::F_WRLCK as i16,
                l_whence: libc::SEEK_SET as i16,
                l_start: 2 * index as i64,
                l_len: 1,
                l_pid: 0,
            };
            call(libc::SYS_fcntl, [file.get(), command as u64, &raw const lock as u64, 0, 0, 0]).map(drop)
        };
        exhaust(name, lock, |_| close_all());
        check!(call(libc::SYS_unlink, [path.as_ptr() as u64, 0, 0, 0, 0, 0]).is_ok());
    }
}

/// Timers that nobody is told of and that send signals, each set for a time that does not come.
pub(crate) fn timers() {
    for (name, notify) in [("silent timers", libc::SIGEV_NONE), ("timers", libc::SIGEV_SIGNAL)] {
        // The list is touched before memory is short.
        NUMBERS.iter().for_each(|number| number.store(1, Ordering::Relaxed));
        let make = |index| {
            check!((index as usize) < MOST_TIMERS);
            let event = [0_u32, 0, libc::SIGUSR1 as u32, notify as u32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let mut number = 0_i32;
            let place = &raw mut number as u64;
            let clock = libc::CLOCK_MONOTONIC as u64;
            call(libc::SYS_timer_create, [clock, event.as_ptr() as u64, place, 0, 0, 0])?;
            NUMBERS[index as usize].store(number, Ordering::Relaxed);
            let far = [0_u64, 0, 1_000_000, 0];
            call(libc::SYS_timer_settime, [number as u64, 0, far.as_ptr() as u64, 0, 0, 0]).map(drop)
        };
        exhaust(name, make, |count| {
            for number in NUMBERS[..count as usize].iter().map(|number| number.load(Ordering::Relaxed)) {
                check!(call(libc::SYS_timer_delete, [number as u64, 0, 0, 0, 0, 0]).is_ok());
            }
        });
    }
}

/// Pseudo-terminals whose slaves nobody reads.
pub(crate) fn terminals() {
    exhaust_descriptors("terminals", |_| {
        let flags = (libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK) as u64;
        let master = call(libc::SYS_open, [c"/dev/ptmx".as_ptr() as u64, flags, 0, 0, 0, 0])?;
        let keys = [b'k'; 4096];
        call(libc::SYS_write, [master, keys.as_ptr() as u64, keys.len() as u64, 0, 0, 0]).map(drop)
    });
}

/// Descriptors of the process itself; instances of inotify(7), their watches, and events that nobody reads; instances of epoll(7)
/// that watch each other.
pub(crate) fn watchers() {
    exhaust_descriptors("pidfds", |_| {
        let process = u64::from(std::process::id());
        call(libc::SYS_pidfd_open, [process, 0, 0, 0, 0, 0]).map(drop)
    });
    let instance = || call(libc::SYS_inotify_init1, [libc::IN_NONBLOCK as u64, 0, 0, 0, 0, 0]);
    exhaust_descriptors("inotify instances", |_| instance().map(drop));
    let watcher = Cell::new(0);
    let watch = |path: &str, mask: u32| {
        let (path, mask) = (path.as_ptr() as u64, mask.into());
        call(libc::SYS_inotify_add_watch, [watcher.get(), path, mask, 0, 0, 0]).map(drop)
    };
    let path = |index: u64| format!("/tmp/w{index}\0");
    let make = |index| {
        if index == 0 {
            watcher.set(instance()?);
        }
        call(libc::SYS_mkdir, [path(index).as_ptr() as u64, 0o755, 0, 0, 0, 0])?;
        watch(&path(index), libc::IN_ALL_EVENTS)
    };
    exhaust("inotify watches", make, |count| {
        close_all();
        for index in 0..=count {
            let removed = call(libc::SYS_rmdir, [path(index).as_ptr() as u64, 0, 0, 0, 0, 0]);
            check!(removed.is_ok() || index == count);
        }
    });
    // They are lost in the end, which is no error of whoever makes them.
    let long = format!("/tmp/{}\0", "e".repeat(250));
    exhaust_descriptors("events", |index| {
        if index == 0 {
            watcher.set(instance()?);
            watch("/tmp\0", libc::IN_ALL_EVENTS)?;
        }
        let flags = (libc::O_CREAT | libc::O_RDWR) as u64;
        let file = call(libc::SYS_open, [long.as_ptr() as u64, flags, 0o644, 0, 0, 0])?;
        check!(call(libc::SYS_close, [file, 0, 0, 0, 0, 0]).is_ok());
        check!(call(libc::SYS_unlink, [long.as_ptr() as u64, 0, 0, 0, 0, 0]).is_ok());
        if index == 10_000 { Err(libc::EAGAIN) } else { Ok(()) }
    });
    nested();
}

/// Chains of instances, of which each tells the next of one counter.
fn nested() {
    let last = Cell::new(0);
    exhaust_descriptors("nested instances", |index| {
        if index % 5 == 0 {
            last.set(call(libc::SYS_eventfd2, EVENTFD)?);
        }
        let next = call(libc::SYS_epoll_create1, [0; 6])?;
        let event = [1_u32, 0, 0];
        let add = libc::EPOLL_CTL_ADD as u64;
        call(libc::SYS_epoll_ctl, [next, add, last.replace(next), event.as_ptr() as u64, 0, 0]).map(drop)
    });
}
