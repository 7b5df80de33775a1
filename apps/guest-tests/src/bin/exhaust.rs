//! Makes kernel objects of each kind until there is no memory for more: the call must say so, and the kernel
//! live; after they are gone there must be as much memory as before.
//!
//! The first argument says how: `pipes` and `eventfds` have all of memory; `scarce` is for all kinds, when the app has taken
//! most of it; `pieces` as well, when the app has also given back every second page, so that there is no block of two.
//!
//! Not for Linux, where the test would take the memory of the machine that it runs on.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

use guest_tests::{check, raw_syscall};

type Args = [u64; 6];

/// A descriptor, or what a call answers.
fn call(number: i64, args: Args) -> Result<u64, i32> {
    let result = raw_syscall(number, args);
    u64::try_from(result).map_err(|_| -result as i32)
}

fn two(number: i64, args: Args, at: usize) -> Result<[u64; 2], i32> {
    let mut pair = [0_i32; 2];
    let mut args = args;
    args[at] = pair.as_mut_ptr() as u64;
    call(number, args)?;
    Ok(pair.map(|descriptor| descriptor as u64))
}

fn close_all() {
    check!(call(libc::SYS_close_range, [3, u32::MAX.into(), 0, 0, 0, 0]).is_ok());
}

/// Reads without taking memory, of which there may be none.
fn meminfo_kib(name: &str) -> u64 {
    let mut bytes = [0; 2048];
    let count =
        File::open("/proc/meminfo").and_then(|mut file| file.read(&mut bytes)).expect("/proc/meminfo");
    let text = std::str::from_utf8(&bytes[..count]).expect("text");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a line of this name");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

fn free_kib() -> u64 {
    meminfo_kib("MemFree:")
}

fn total_kib() -> u64 {
    meminfo_kib("MemTotal:")
}

/// Errors that say that there is no more, of memory or of what else is counted.
const REFUSALS: &[i32] = &[
    libc::ENOMEM,
    libc::ENFILE,
    libc::EMFILE,
    libc::EAGAIN,
    libc::ENOBUFS,
    libc::ENOSPC,
    libc::ENOLCK,
    libc::ETOOMANYREFS,
];
/// What the test's own memory and the kernel's caches may differ by.
const SLACK_KIB: u64 = 1536;
/// How many of each kind are made at most. A few at first: then the test has the memory that it needs itself.
static MOST: AtomicU64 = AtomicU64::new(u64::MAX);
const FEW: u64 = 8;

/// Makes objects until one is refused, and has them freed; twice, as what was left behind would tell.
fn exhaust(name: &str, mut make: impl FnMut(u64) -> Result<(), i32>, mut free: impl FnMut(u64)) {
    let mut counts = [0; 2];
    for count in &mut counts {
        let before = free_kib();
        let refusal = loop {
            if *count == MOST.load(Ordering::Relaxed) {
                break 0;
            }
            match make(*count) {
                Ok(()) => *count += 1,
                Err(error) => break error,
            }
        };
        free(*count);
        let after = free_kib();
        println!("{name}: {count}, then error {refusal}; {before} KiB free before, {after} after");
        check!(refusal == 0 || REFUSALS.contains(&refusal));
        check!(after + SLACK_KIB >= before);
    }
    check!(counts[1] * 10 + 100 >= counts[0] * 9);
}

/// Objects that are closed with their descriptors.
fn exhaust_descriptors(name: &str, make: impl FnMut(u64) -> Result<(), i32>) {
    exhaust(name, make, |_| close_all());
}

const EVENTFD: Args = [0; 6];
const UNIX: u64 = libc::AF_UNIX as u64;

fn pipes() {
    exhaust_descriptors("pipes", |_| two(libc::SYS_pipe2, [0; 6], 0).map(drop));
    exhaust_descriptors("full pipes", |_| {
        let [_, write] = two(libc::SYS_pipe2, [0, libc::O_NONBLOCK as u64, 0, 0, 0, 0], 0)?;
        let page = [1_u8; 4096];
        call(libc::SYS_write, [write, page.as_ptr() as u64, 4096, 0, 0, 0]).map(drop)
    });
}

fn eventfds() {
    exhaust_descriptors("eventfds", |_| call(libc::SYS_eventfd2, EVENTFD).map(drop));
}

fn counters() {
    exhaust_descriptors("timerfds", |_| {
        let timer = call(libc::SYS_timerfd_create, [libc::CLOCK_MONOTONIC as u64, 0, 0, 0, 0, 0])?;
        let setting = [0_u64, 0, 100_000, 0];
        call(libc::SYS_timerfd_settime, [timer, 0, setting.as_ptr() as u64, 0, 0, 0]).map(drop)
    });
    let set = 1_u64 << (libc::SIGUSR1 - 1);
    let new = u64::from(u32::MAX);
    exhaust_descriptors("signalfds", |_| {
        call(libc::SYS_signalfd4, [new, &raw const set as u64, 8, 0, 0, 0]).map(drop)
    });
    exhaust_descriptors("memfds", |_| {
        let file = call(libc::SYS_memfd_create, [c"m".as_ptr() as u64, 0, 0, 0, 0, 0])?;
        call(libc::SYS_write, [file, [7_u8; 64].as_ptr() as u64, 64, 0, 0, 0]).map(drop)
    });
    exhaust_descriptors("descriptors", |_| call(libc::SYS_dup, [1, 0, 0, 0, 0, 0]).map(drop));
}

fn epolls() {
    exhaust_descriptors("epoll instances", |_| call(libc::SYS_epoll_create1, [0; 6]).map(drop));
    let event = [1_u32, 0, 0];
    let watch = |epoll, file| {
        let add = libc::EPOLL_CTL_ADD as u64;
        call(libc::SYS_epoll_ctl, [epoll, add, file, event.as_ptr() as u64, 0, 0]).map(drop)
    };
    let mut epoll = 0;
    exhaust_descriptors("epoll watches", |index| {
        if index == 0 {
            epoll = call(libc::SYS_epoll_create1, [0; 6])?;
        }
        watch(epoll, call(libc::SYS_eventfd2, EVENTFD)?)
    });
    let mut file = 0;
    exhaust_descriptors("watches on one file", |index| {
        if index == 0 {
            file = call(libc::SYS_eventfd2, EVENTFD)?;
        }
        watch(call(libc::SYS_epoll_create1, [0; 6])?, file)
    });
}

/// Sends a descriptor to a socket.
fn send(socket: u64, descriptor: u64) -> Result<(), i32> {
    let control = [20_u64, 1 | 1 << 32, descriptor];
    let byte = [1_u8];
    let buffer = [byte.as_ptr() as u64, 1];
    let header = [0, 0, buffer.as_ptr() as u64, 1, control.as_ptr() as u64, 24, 0];
    call(libc::SYS_sendmsg, [socket, header.as_ptr() as u64, libc::MSG_DONTWAIT as u64, 0, 0, 0]).map(drop)
}

fn sockets() {
    let pair = || two(libc::SYS_socketpair, [UNIX, libc::SOCK_STREAM as u64, 0, 0, 0, 0], 3);
    exhaust_descriptors("socket pairs", |_| pair().map(drop));
    exhaust_descriptors("descriptors in flight", |_| {
        let [near, far] = pair()?;
        let made = send(near, call(libc::SYS_eventfd2, EVENTFD)?);
        made.and_then(|()| send(far, near))
    });
    exhaust_descriptors("full socket pairs", |_| {
        let [near, _] = pair()?;
        let page = [1_u8; 4096];
        call(libc::SYS_sendto, [near, page.as_ptr() as u64, 4096, libc::MSG_DONTWAIT as u64, 0, 0]).map(drop)
    });
    exhaust_descriptors("names of sockets", |_| {
        let socket = call(libc::SYS_socket, [UNIX, libc::SOCK_DGRAM as u64, 0, 0, 0, 0])?;
        let family = UNIX as u16;
        call(libc::SYS_bind, [socket, &raw const family as u64, 2, 0, 0, 0]).map(drop)
    });
    for (name, kind) in [("TCP sockets", libc::SOCK_STREAM), ("UDP sockets", libc::SOCK_DGRAM)] {
        exhaust_descriptors(name, |_| {
            call(libc::SYS_socket, [libc::AF_INET as u64, kind as u64, 0, 0, 0, 0]).map(drop)
        });
    }
    exhaust_descriptors("netlink sockets", |_| {
        call(libc::SYS_socket, [libc::AF_NETLINK as u64, libc::SOCK_RAW as u64, 0, 0, 0, 0]).map(drop)
    });
}

fn files() {
    let path = |index: u64| format!("/tmp/e{index}\0");
    exhaust(
        "directories",
        |index| call(libc::SYS_mkdir, [path(index).as_ptr() as u64, 0o755, 0, 0, 0, 0]).map(drop),
        |count| {
            for index in 0..count {
                check!(call(libc::SYS_rmdir, [path(index).as_ptr() as u64, 0, 0, 0, 0, 0]).is_ok());
            }
        },
    );
    exhaust(
        "files",
        |index| {
            let flags = (libc::O_CREAT | libc::O_RDWR) as u64;
            let file = call(libc::SYS_open, [path(index).as_ptr() as u64, flags, 0o644, 0, 0, 0])?;
            let written = call(libc::SYS_write, [file, [7_u8; 64].as_ptr() as u64, 64, 0, 0, 0]);
            check!(call(libc::SYS_close, [file, 0, 0, 0, 0, 0]).is_ok());
            written.map(drop)
        },
        |count| {
            for index in 0..=count {
                let removed = call(libc::SYS_unlink, [path(index).as_ptr() as u64, 0, 0, 0, 0, 0]);
                check!(removed.is_ok() || index == count);
            }
        },
    );
}

fn rings() {
    exhaust_descriptors("rings", |_| {
        let mut params = [0_u64; 15];
        call(libc::SYS_io_uring_setup, [8, params.as_mut_ptr() as u64, 0, 0, 0, 0]).map(drop)
    });
}

fn mappings() {
    let first = Cell::new(0);
    exhaust(
        "mappings",
        |index| {
            let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
            // Each other page has other rights, so that no two are one region.
            let protection = if index % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE } as u64;
            let place = if index == 0 { 0 } else { first.get() + index * 4096 };
            let fixed = if index == 0 { 0 } else { libc::MAP_FIXED as u64 };
            let length = if index == 0 { 4096 * 1_000_000 } else { 4096 };
            let at = call(libc::SYS_mmap, [place, length, protection, flags | fixed, u64::MAX, 0])?;
            if index == 0 {
                first.set(at);
            }
            Ok(())
        },
        |_| check!(call(libc::SYS_munmap, [first.get(), 4096 * 1_000_000, 0, 0, 0, 0]).is_ok()),
    );
}

/// What the app has taken for itself.
struct Ballast {
    first: *mut u8,
    taken: usize,
}

impl Ballast {
    /// Leaves so much above the kernel's reserve.
    fn take(left_kib: u64) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let mut len = 1 << 30;
        let first = loop {
            // SAFETY: a fresh mapping.
            let first = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
            if first != libc::MAP_FAILED {
                break first.cast::<u8>();
            }
            // Where promises are kept, there is no more than there is memory.
            len -= 1 << 20;
        };
        let (mut taken, reserve_kib) = (0, total_kib() / 16);
        while taken < len && free_kib() > reserve_kib + left_kib {
            for _ in 0..16 {
                // SAFETY: within the mapping.
                unsafe { first.add(taken).write(1) };
                taken += 4096;
            }
        }
        println!("took {} KiB; {} KiB free", taken / 1024, free_kib());
        Self { first, taken }
    }

    /// Gives every second page of so many bytes back.
    fn give_back(&self, bytes: usize) {
        for page in (0..self.taken.min(bytes)).step_by(8192) {
            // SAFETY: within the mapping, which nobody else uses.
            unsafe { libc::madvise(self.first.add(page).cast(), 4096, libc::MADV_DONTNEED) };
        }
        println!("in pieces; {} KiB free", free_kib());
    }
}

fn sections() {
    pipes();
    eventfds();
    counters();
    epolls();
    sockets();
    files();
    rings();
    mappings();
}

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    match how.as_str() {
        "pipes" => pipes(),
        "eventfds" => eventfds(),
        _ => {
            MOST.store(FEW, Ordering::Relaxed);
            sections();
            MOST.store(u64::MAX, Ordering::Relaxed);
            let is_in_pieces = how == "pieces";
            let ballast = Ballast::take(if is_in_pieces { 512 } else { 3 << 10 });
            if is_in_pieces {
                ballast.give_back(8 << 20);
            }
            sections();
        }
    }
    println!("done");
}
