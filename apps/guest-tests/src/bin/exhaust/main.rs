//! Makes kernel objects of each kind until there is no memory for more: the call must say so, and the kernel
//! live; after they are gone there must be as much memory as before.
//!
//! The first argument says how: `pipes` and `eventfds` have all of memory, `kept` a part; `scarce` is for all kinds, when the app has taken
//! most of it; `pieces` as well, when the app has also given back every second page, so that there is no block of two.
//!
//! Not for Linux, where the test would take the memory of the machine that it runs on.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use guest_tests::objects::{Ballast, EVENTFD, INET, UNIX, bound, call, free_kib, send, two};
use guest_tests::{check, raw_syscall};

mod kept;

fn close_all() {
    check!(call(libc::SYS_close_range, [3, u32::MAX.into(), 0, 0, 0, 0]).is_ok());
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
    libc::EADDRINUSE,
];
/// What the test's own memory and the kernel's caches may differ by.
const SLACK_KIB: u64 = 1536;
/// How many of each kind are made at most. A few at first: then the test has the memory that it needs itself.
static MOST: AtomicU64 = AtomicU64::new(u64::MAX);
const FEW: u64 = 8;
static IS_IN_PIECES: AtomicBool = AtomicBool::new(false);

/// Makes objects until one is refused, and has them freed; twice: what is kept for the next is kept once.
fn exhaust(name: &str, mut make: impl FnMut(u64) -> Result<(), i32>, mut free: impl FnMut(u64)) {
    let mut round = || {
        let (before, mut count) = (free_kib(), 0);
        let refusal = loop {
            if count == MOST.load(Ordering::Relaxed) {
                break 0;
            }
            match make(count) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        free(count);
        let after = free_kib();
        println!("{name}: {count}, then error {refusal}; {before} KiB free before, {after} after");
        check!(refusal == 0 || REFUSALS.contains(&refusal));
        (count, before, after)
    };
    let (first, ..) = round();
    let (second, before, after) = round();
    check!(after + SLACK_KIB >= before);
    // Memory in pieces serves a table that grows as long as it finds a block: that differs.
    check!(IS_IN_PIECES.load(Ordering::Relaxed) || second * 10 + 100 >= first * 9);
}

/// Objects that are closed with their descriptors.
fn exhaust_descriptors(name: &str, make: impl FnMut(u64) -> Result<(), i32>) {
    exhaust(name, make, |_| close_all());
}

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

fn sockets() {
    let listener = Cell::new((0, [0; 16]));
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
    exhaust_descriptors("bound UDP sockets", |_| bound(libc::SOCK_DGRAM).map(drop));
    exhaust_descriptors("full UDP sockets", |_| {
        let (socket, address) = bound(libc::SOCK_DGRAM)?;
        let bytes = [1_u8; 16 << 10];
        for _ in 0..4 {
            // What there is no memory for is lost on its way.
            let _ = call(
                libc::SYS_sendto,
                [
                    socket,
                    bytes.as_ptr() as u64,
                    bytes.len() as u64,
                    libc::MSG_DONTWAIT as u64,
                    &raw const address as u64,
                    16,
                ],
            );
        }
        Ok(())
    });
    exhaust_descriptors("listeners", |_| {
        let (socket, _) = bound(libc::SOCK_STREAM)?;
        call(libc::SYS_listen, [socket, 16, 0, 0, 0, 0]).map(drop)
    });
    let connect = |index| {
        if index == 0 {
            let (socket, address) = bound(libc::SOCK_STREAM)?;
            call(libc::SYS_listen, [socket, 16, 0, 0, 0, 0])?;
            listener.set((socket, address));
        }
        let (listener, address) = listener.get();
        let near = call(libc::SYS_socket, [INET, libc::SOCK_STREAM as u64, 0, 0, 0, 0])?;
        call(libc::SYS_connect, [near, &raw const address as u64, 16, 0, 0, 0])?;
        call(libc::SYS_accept4, [listener, 0, 0, 0, 0, 0])?;
        let bytes = [1_u8; 4096];
        call(libc::SYS_sendto, [near, bytes.as_ptr() as u64, 4096, libc::MSG_DONTWAIT as u64, 0, 0]).map(drop)
    };
    exhaust("connections", connect, |_| {
        close_all();
        // They end when their peers have heard of it.
        std::thread::sleep(Duration::from_millis(100));
    });
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

/// The word that idle threads wait at.
static GATE: AtomicI32 = AtomicI32::new(0);
const STACK_BYTES: usize = 4096;
const MOST_THREADS: usize = 256;

#[repr(align(4096))]
struct Stacks([u8; STACK_BYTES * MOST_THREADS]);

/// The app has touched them before memory is short: a touch has nobody to tell that there is none.
static STACKS: Mutex<Stacks> = Mutex::new(Stacks([0; STACK_BYTES * MOST_THREADS]));

/// A thread that waits. It has no storage of its own, so it may only use what needs none.
extern "C" fn idle() -> ! {
    while GATE.load(Ordering::Acquire) == 0 {
        raw_syscall(libc::SYS_futex, [GATE.as_ptr() as u64, libc::FUTEX_WAIT as u64, 0, 0, 0, 0]);
    }
    loop {
        raw_syscall(libc::SYS_exit, [0; 6]);
    }
}

/// Starts [`idle`] on a stack that ends at `top`. The C library starts no thread without storage.
///
/// # Safety
///
/// The stack must be a page's end, and nobody else's until the thread is gone.
unsafe fn start_idle(top: *mut u8) -> i64 {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    let result;
    // SAFETY: the new thread leaves this code at once, for a function that never returns, on a stack that the caller
    // vouches for, aligned as at a function's start.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "call {idle}",
            "ud2",
            "2:",
            idle = sym idle,
            inlateout("rax") libc::SYS_clone => result,
            in("rdi") flags, in("rsi") top, in("rdx") 0, in("r10") 0, in("r8") 0,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

fn is_alone() -> bool {
    let mut bytes = [0; 4096];
    // While there are so many, there may be no memory for one more open file.
    let count = File::open("/proc/self/status").and_then(|mut file| file.read(&mut bytes)).unwrap_or(0);
    std::str::from_utf8(&bytes[..count]).is_ok_and(|text| text.contains("Threads:\t1\n"))
}

fn threads() {
    let mut stacks = STACKS.lock().expect("no other thread");
    stacks.0.fill(1);
    let first = stacks.0.as_mut_ptr();
    let start = |index: u64| {
        if index == MOST_THREADS as u64 {
            return Err(libc::EAGAIN);
        }
        GATE.store(0, Ordering::Release);
        // SAFETY: each thread has a page of its own, of those that are there until all threads are gone.
        let id = unsafe { start_idle(first.add((index as usize + 1) * STACK_BYTES)) };
        i32::try_from(id).map_err(|_| libc::EIO).and_then(|id| if id < 0 { Err(-id) } else { Ok(()) })
    };
    exhaust("threads", start, |_| {
        GATE.store(1, Ordering::Release);
        raw_syscall(
            libc::SYS_futex,
            [GATE.as_ptr() as u64, libc::FUTEX_WAKE as u64, i32::MAX as u64, 0, 0, 0],
        );
        while !is_alone() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Their stacks stay for other threads, until something else needs the memory.
        while two(libc::SYS_pipe2, [0; 6], 0).is_ok() {}
        close_all();
    });
    drop(stacks);
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
    threads();
    kept();
}

fn kept() {
    kept::locks();
    kept::timers();
    kept::terminals();
    kept::watchers();
}

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    match how.as_str() {
        "pipes" => pipes(),
        "eventfds" => eventfds(),
        "kept" => {
            // So that it takes seconds.
            let _ballast = Ballast::take(8 << 10);
            kept();
        }
        _ => {
            MOST.store(FEW, Ordering::Relaxed);
            sections();
            MOST.store(u64::MAX, Ordering::Relaxed);
            let is_in_pieces = how == "pieces";
            let ballast = Ballast::take(if is_in_pieces { 512 } else { 3 << 10 });
            if is_in_pieces {
                ballast.give_back(8 << 20);
                IS_IN_PIECES.store(true, Ordering::Relaxed);
            }
            sections();
        }
    }
    println!("done");
}
