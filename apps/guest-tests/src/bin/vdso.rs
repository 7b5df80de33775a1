//! The clock without a system call: it agrees with the calls, never goes back, and is really none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use guest_tests::{check, check_eq, raw_syscall};

fn main() {
    // SAFETY: looks a value up.
    check!(unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } != 0);
    agrees_with_the_call();
    never_goes_back();
    makes_no_call();
    knows_the_core();
    cannot_be_changed();
}

fn by_call(clock: i32) -> i128 {
    let mut time = [0i64; 2];
    check_eq!(raw_syscall(libc::SYS_clock_gettime, [clock as u64, time.as_mut_ptr() as u64, 0, 0, 0, 0]), 0);
    i128::from(time[0]) * 1_000_000_000 + i128::from(time[1])
}

fn by_library(clock: i32) -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a whole structure.
    check_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

fn agrees_with_the_call() {
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME] {
        let (before, shown, after) = (by_call(clock), by_library(clock), by_call(clock));
        check!(before <= shown && shown <= after);
    }
    // This one the call alone knows.
    check!(by_library(libc::CLOCK_THREAD_CPUTIME_ID) <= by_call(libc::CLOCK_THREAD_CPUTIME_ID));
    let mut now = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: a whole structure; no time zone is asked for.
    check_eq!(unsafe { libc::gettimeofday(&mut now, std::ptr::null_mut()) }, 0);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    check!(seconds.abs_diff(now.tv_sec as u64) <= 1 && (0..1_000_000).contains(&now.tv_usec));
}

/// What one thread has read, no other reads less than.
fn never_goes_back() {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    let start = Instant::now();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..20_000 {
                    let before = LATEST.load(Ordering::SeqCst);
                    let now = start.elapsed().as_nanos() as u64;
                    check!(now >= before);
                    LATEST.fetch_max(now, Ordering::SeqCst);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// System calls so far; `None` where the kernel does not count them.
fn calls() -> Option<u64> {
    let metrics = fs::read_to_string("/proc/unikernel/metrics").ok()?;
    let line = metrics.lines().find(|line| line.starts_with("unikernel_system_calls_total "))?;
    line.split_once(' ')?.1.parse().ok()
}

fn makes_no_call() {
    let before = calls();
    for _ in 0..10_000 {
        std::hint::black_box((Instant::now(), SystemTime::now()));
    }
    if let (Some(before), Some(after)) = (before, calls()) {
        check!(after - before < 100);
    }
}

fn knows_the_core() {
    // SAFETY: the set is whole and only read; the other call takes nothing.
    let core = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        check_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set), 0);
        libc::sched_getcpu()
    };
    check_eq!(core, 0);
}

fn cannot_be_changed() {
    // SAFETY: asks for more than is given; if it were given, nothing would be written all the same.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let writable = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let is_appliance = calls().is_some();
    if is_appliance {
        for page in [start, start - 4096] {
            check_eq!(
                raw_syscall(libc::SYS_mprotect, [page, 4096, writable, 0, 0, 0]),
                -i64::from(libc::EACCES)
            );
            let moved = raw_syscall(libc::SYS_mremap, [page, 4096, 8192, libc::MREMAP_MAYMOVE as u64, 0, 0]);
            check_eq!(moved, -i64::from(libc::EACCES));
        }
    }
}
