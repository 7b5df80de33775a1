//! What is mapped at most: of everything, of data, and of the first stack.

use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, mem, ptr};

use guest_tests::{check, check_eq, errno, raw_syscall};
use libc::{c_int, c_void};

use crate::{PAGE, SIGNALS, came, get, set, under};

pub(crate) fn map(at: usize, len: usize, protection: c_int, flags: c_int) -> Result<usize, c_int> {
    // SAFETY: only what was mapped here is ever replaced.
    let place = unsafe {
        libc::mmap(at as *mut c_void, len, protection, flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if place == libc::MAP_FAILED { Err(errno()) } else { Ok(place as usize) }
}

pub(crate) fn unmap(at: usize, len: usize) {
    // SAFETY: mapped by `map`.
    check_eq!(unsafe { libc::munmap(at as *mut c_void, len) }, 0);
}

/// Tries to make a mapping longer; it may move.
fn grow(at: usize, from: usize, to: usize) -> Result<usize, c_int> {
    // SAFETY: mapped by `map`.
    let place = unsafe { libc::mremap(at as *mut c_void, from, to, libc::MREMAP_MAYMOVE) };
    if place == libc::MAP_FAILED { Err(errno()) } else { Ok(place as usize) }
}

/// Moves the break by 8 MiB; answers whether that went.
fn can_move_break() -> bool {
    let end = raw_syscall(libc::SYS_brk, [0; 6]) as u64;
    let moved = raw_syscall(libc::SYS_brk, [end + (8 << 20), 0, 0, 0, 0, 0]) as u64;
    raw_syscall(libc::SYS_brk, [end, 0, 0, 0, 0, 0]);
    moved == end + (8 << 20)
}

const READ: c_int = libc::PROT_READ;
pub(crate) const WRITE: c_int = libc::PROT_READ | libc::PROT_WRITE;
const MANY: usize = 1024 * PAGE;
const NO_MEMORY: Result<usize, c_int> = Err(libc::ENOMEM);

pub(crate) fn address_space() {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let used: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    check!(can_move_break());
    under(libc::RLIMIT_AS, used * PAGE as u64 + (1 << 20), || {
        check_eq!(map(0, MANY, WRITE, 0), NO_MEMORY);
        check_eq!(map(0, MANY, libc::PROT_NONE, libc::MAP_NORESERVE), NO_MEMORY);
        let place = map(0, 8 * PAGE, WRITE, 0).unwrap();
        check_eq!(grow(place, 8 * PAGE, MANY), NO_MEMORY);
        check!(!can_move_break());
        // In the place of something else it is no more than before.
        let half = map(0, 128 * PAGE, READ, 0).unwrap();
        check_eq!(map(half, 128 * PAGE, WRITE, libc::MAP_FIXED), Ok(half));
        unmap(half, 128 * PAGE);
        unmap(place, 8 * PAGE);
        // Moving takes nothing.
        let place = map(0, 200 * PAGE, WRITE, 0).unwrap();
        let place = grow(place, 200 * PAGE, 201 * PAGE).unwrap();
        unmap(place, 201 * PAGE);
    });
    let place = map(0, MANY, WRITE, 0).unwrap();
    unmap(place, MANY);
}

pub(crate) fn data() {
    let readable = map(0, MANY, READ, 0).unwrap();
    let both = map(0, MANY, WRITE, 0).unwrap();
    let protect = |at: usize, protection| {
        // SAFETY: mapped above.
        if unsafe { libc::mprotect(at as *mut c_void, MANY, protection) } == 0 { 0 } else { errno() }
    };
    under(libc::RLIMIT_DATA, PAGE as u64, || {
        check_eq!(map(0, MANY, WRITE, 0), NO_MEMORY);
        check_eq!(grow(both, MANY, MANY + PAGE), NO_MEMORY);
        check!(!can_move_break());
        unmap(map(0, MANY, READ, 0).unwrap(), MANY);
        unmap(map(0, MANY, libc::PROT_NONE, 0).unwrap(), MANY);
        check_eq!(protect(both, WRITE), 0);
        check_eq!(protect(both, READ), 0);
    });
    check_eq!(protect(readable, WRITE), 0);
    unmap(readable, MANY);
    unmap(both, MANY);
}

/// The first stack grows up to its limit only; who is told may raise that, and goes on.
pub(crate) fn stack() {
    static LIMIT: AtomicU32 = AtomicU32::new(0);
    extern "C" fn raise_limit(signal: c_int) {
        SIGNALS[signal as usize].fetch_add(1, Ordering::Relaxed);
        let limit = get(libc::RLIMIT_STACK);
        set(libc::RLIMIT_STACK, u64::from(LIMIT.load(Ordering::Relaxed)), limit.rlim_max);
    }
    let before = get(libc::RLIMIT_STACK);
    LIMIT.store(before.rlim_cur.min(8 << 20) as u32, Ordering::Relaxed);
    let other = map(0, 16 * PAGE, WRITE, 0).unwrap();
    let alternate = libc::stack_t { ss_sp: other as *mut c_void, ss_flags: 0, ss_size: 16 * PAGE };
    let handler: extern "C" fn(c_int) = raise_limit;
    // SAFETY: the handler makes a system call, and the access is one of the stack, as a deep call would make it.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_ONSTACK;
        let mut usual: libc::sigaction = mem::zeroed();
        let mut usual_stack: libc::stack_t = mem::zeroed();
        check_eq!(libc::sigaltstack(&raw const alternate, &raw mut usual_stack), 0);
        check_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, &raw mut usual), 0);
        check_eq!(set(libc::RLIMIT_STACK, 1 << 20, before.rlim_max), 0);
        let here = (&raw const before).cast::<u8>();
        here.wrapping_sub(512 << 10).read_volatile();
        check_eq!(came(libc::SIGSEGV), 0);
        here.wrapping_sub(2 << 20).read_volatile();
        if SIGNALS[libc::SIGSEGV as usize].load(Ordering::Relaxed) != 1 {
            eprintln!("at {here:p}\n{}", fs::read_to_string("/proc/self/maps").unwrap());
        }
        check_eq!(came(libc::SIGSEGV), 1);
        libc::sigaction(libc::SIGSEGV, &raw const usual, ptr::null_mut());
        libc::sigaltstack(&raw const usual_stack, ptr::null_mut());
    }
    check_eq!(set(libc::RLIMIT_STACK, before.rlim_cur, before.rlim_max), 0);
}
