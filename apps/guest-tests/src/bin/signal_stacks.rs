//! Signals that find no room for their frame: what lies below an alternate stack stays as it is, and SIGSEGV's handler, which
//! has a stack, is told.

use std::mem::zeroed;
use std::process::exit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use guest_tests::check_eq;

/// Room for a few frames, with or without AVX-512.
const STACK_BYTES: usize = 32 << 10;

static STACK: AtomicUsize = AtomicUsize::new(0);

fn handle(signal: i32, handler: extern "C" fn(i32), flags: i32) {
    // SAFETY: all zeros is a valid value, and the handlers below do what a handler may.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        (action.sa_sigaction, action.sa_flags) = (handler as *const () as usize, flags);
        check_eq!(libc::sigaction(signal, &raw const action, null_mut()), 0);
    }
}

/// An alternate stack with as much memory of the program's below it.
fn prepare_stack() {
    let memory = vec![0_u8; 2 * STACK_BYTES].leak();
    let place = memory[STACK_BYTES..].as_mut_ptr();
    STACK.store(place.addr(), Relaxed);
    let stack = libc::stack_t { ss_sp: place.cast(), ss_flags: 0, ss_size: STACK_BYTES };
    // SAFETY: the memory is this stack's alone, for ever.
    check_eq!(unsafe { libc::sigaltstack(&raw const stack, null_mut()) }, 0);
}

/// Comes again and again, each time with a frame below the last.
extern "C" fn nest(signal: i32) {
    if (&raw const signal).addr() < STACK.load(Relaxed) {
        exit(1);
    }
    // SAFETY: sends a signal to this thread.
    unsafe { libc::raise(signal) };
}

extern "C" fn rescue(_: i32) {
    exit(0);
}

extern "C" fn never(_: i32) {
    exit(2);
}

/// Sends itself a signal while the stack pointer leads nowhere.
fn raise_without_a_stack() {
    // SAFETY: the handler of SIGSEGV ends the program; nothing comes back here.
    unsafe {
        let (process, thread) = (libc::getpid(), libc::gettid());
        std::arch::asm!(
            "mov rsp, 0x2000",
            "syscall",
            "ud2",
            in("rax") libc::SYS_tgkill,
            in("rdi") process,
            in("rsi") thread,
            in("rdx") libc::SIGUSR1,
            options(noreturn),
        );
    }
}

fn main() {
    prepare_stack();
    match std::env::args().nth(1).as_deref() {
        Some("overflow") => {
            handle(libc::SIGUSR1, nest, libc::SA_ONSTACK | libc::SA_NODEFER);
            // It cannot have a frame there either.
            handle(libc::SIGSEGV, rescue, libc::SA_ONSTACK);
            // SAFETY: sends a signal to this thread.
            unsafe { libc::raise(libc::SIGUSR1) };
        }
        _ => {
            handle(libc::SIGUSR1, never, 0);
            handle(libc::SIGSEGV, rescue, libc::SA_ONSTACK);
            raise_without_a_stack();
        }
    }
    exit(3);
}
