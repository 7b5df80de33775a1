//! The clock without a system call: it agrees with the calls, never goes back, and is really none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use guest_tests::{check, check_eq, raw_syscall};

fn main() {
    // SAFETY: looks a value up.
    check!(unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } != 0);
    has_versions();
    agrees_with_the_call();
    never_goes_back();
    makes_no_call();
    knows_the_core();
    cannot_be_changed();
}

/// What Go's runtime reads before it runs a line of its program: the definition of `LINUX_2.6`, which it
/// assumes to be there, and symbols of that version.
fn has_versions() {
    // SAFETY: looks a value up.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let word = |at: u64| read::<u64>(start + at);
    let segments: Vec<u64> = (0..u64::from(read::<u16>(start + 56))).map(|n| word(32) + n * 56).collect();
    let find = |kind: u32| segments.iter().copied().find(|&at| read::<u32>(start + at) == kind).unwrap();
    let (load, dynamic) = (find(libc::PT_LOAD), find(libc::PT_DYNAMIC));
    let base = start.wrapping_add(word(load + 8)).wrapping_sub(word(load + 16));
    let entries = base.wrapping_add(word(dynamic + 16));
    let tag = |wanted: u64| {
        let mut entries = (0..).map(|n| (read::<u64>(entries + n * 16), read::<u64>(entries + n * 16 + 8)));
        let (found, value) = entries.find(|&(tag, _)| tag == wanted || tag == 0).unwrap();
        check_eq!(found, wanted);
        base.wrapping_add(value)
    };
    let [strings, symbols, versions, mut definition] = [5, 6, 0x6fff_fff0, 0x6fff_fffc].map(tag);
    let index = loop {
        let auxiliary = definition + u64::from(read::<u32>(definition + 12));
        let is_base = read::<u16>(definition + 2) & 1 != 0;
        let is_hash = read::<u32>(definition + 8) == 0x03ae_75f6;
        if !is_base && is_hash && text(strings + u64::from(read::<u32>(auxiliary))) == "LINUX_2.6" {
            break read::<u16>(definition + 4);
        }
        let next = read::<u32>(definition + 16);
        check!(next != 0);
        definition += u64::from(next);
    };
    for name in ["__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu"] {
        let named = |&n: &u64| text(strings + u64::from(read::<u32>(symbols + n * 24))) == name;
        let symbol = (1..16).find(named).unwrap();
        check_eq!(read::<u16>(versions + symbol * 2) & 0x7fff, index);
    }
}

/// A number in the object.
fn read<T: Copy>(address: u64) -> T {
    // SAFETY: the object that the kernel has mapped says that there is a number of this kind.
    unsafe { (address as *const T).read_unaligned() }
}

fn text(address: u64) -> &'static str {
    // SAFETY: the object's strings end with a NUL, and stay mapped.
    unsafe { std::ffi::CStr::from_ptr(address as *const libc::c_char) }.to_str().unwrap()
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
