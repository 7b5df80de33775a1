//! Signals: handlers, masks, the alternate stack, faults that are caught.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{hint, mem, ptr, thread};

use guest_tests::{check, check_eq, errno};

static LAST: AtomicI32 = AtomicI32::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);

fn main() {
    handler_runs_and_returns();
    blocked_signal_waits();
    handler_runs_on_the_alternate_stack();
    fault_is_caught_and_repaired();
    fault_tells_its_address();
    registers_survive_a_handler();
    sleep_is_interrupted();
    signal_reaches_one_thread();
    ignored_signal_does_nothing();
    traps_tell_their_cause();
    what_is_queued_arrives();
    unknown_flags_are_not_kept();
    stop_and_go_on_take_each_other_back();
    alternate_stacks_have_one_mode();
    one_shot_handler_runs_once();
}

/// An app learns from their absence that the kernel does not know them.
fn unknown_flags_are_not_kept() {
    handle(libc::SIGUSR2, note as *const () as usize, !libc::SA_SIGINFO);
    // SAFETY: the place is whole.
    let flags = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        check_eq!(libc::sigaction(libc::SIGUSR2, ptr::null(), &mut action), 0);
        action.sa_flags
    };
    check_eq!(flags & 0x3_f7f8, 0);
    check_eq!(flags & libc::SA_NODEFER, libc::SA_NODEFER);
    handle(libc::SIGUSR2, libc::SIG_DFL, 0);
}

fn stop_and_go_on_take_each_other_back() {
    let is_pending = |signal| {
        // SAFETY: the set is whole.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            check_eq!(libc::sigpending(&mut set), 0);
            libc::sigismember(&set, signal) == 1
        }
    };
    for stop in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        mask(libc::SIG_BLOCK, stop);
        mask(libc::SIG_BLOCK, libc::SIGCONT);
        for (first, second) in [(stop, libc::SIGCONT), (libc::SIGCONT, stop)] {
            raise(first);
            check!(is_pending(first));
            // SAFETY: sends a signal to this process.
            check_eq!(unsafe { libc::kill(libc::getpid(), second) }, 0);
            check!(is_pending(second) && !is_pending(first));
        }
        handle(stop, libc::SIG_IGN, 0);
        mask(libc::SIG_UNBLOCK, stop);
        handle(stop, libc::SIG_DFL, 0);
    }
    mask(libc::SIG_UNBLOCK, libc::SIGCONT);
}

fn alternate_stacks_have_one_mode() {
    let stack = vec![0u8; 64 * 1024].leak();
    let both = libc::SS_DISABLE | libc::SS_ONSTACK;
    let with = |ss_flags| {
        let new = libc::stack_t { ss_sp: stack.as_ptr().cast_mut().cast(), ss_flags, ss_size: stack.len() };
        // SAFETY: the stack lives for ever.
        if unsafe { libc::sigaltstack(&new, ptr::null_mut()) } == 0 { 0 } else { errno() }
    };
    check_eq!(with(both), libc::EINVAL);
    check_eq!(with(4), libc::EINVAL);
    check_eq!(with(libc::SS_DISABLE), 0);
}

/// Two threads that let the same signal in at the same time run a handler of `SA_RESETHAND` once. The signal's default
/// is to be ignored, so the other thread notices nothing.
fn one_shot_handler_runs_once() {
    let (start, gate, is_over) = (Instant::now(), Gate(AtomicUsize::new(0)), AtomicBool::new(false));
    let rounds = |is_first: bool| {
        for round in 0.. {
            if is_first {
                handle(libc::SIGWINCH, note as *const () as usize, libc::SA_RESETHAND);
                COUNT.store(0, Ordering::SeqCst);
            }
            gate.pass(3 * round + 1);
            // SAFETY: sends a signal to this thread, which takes it before the call is back.
            check_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGWINCH) }, 0);
            gate.pass(3 * round + 2);
            check_eq!(COUNT.load(Ordering::SeqCst), 1);
            if is_first {
                is_over.store(start.elapsed() > Duration::from_millis(500), Ordering::SeqCst);
            }
            gate.pass(3 * round + 3);
            if is_over.load(Ordering::SeqCst) {
                break;
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| rounds(true));
        scope.spawn(|| rounds(false));
    });
}

/// Lets two threads go on at the same instant: a barrier that spins, and gives way where there is one processor.
struct Gate(AtomicUsize);

impl Gate {
    fn pass(&self, count: usize) {
        self.0.fetch_add(1, Ordering::SeqCst);
        for spins in 0.. {
            if self.0.load(Ordering::SeqCst) >= 2 * count {
                break;
            }
            if spins % 1000 == 999 {
                thread::yield_now();
            } else {
                hint::spin_loop();
            }
        }
    }
}

/// Real-time signals queue up to a limit, and from there on the sender is told: what a call took is delivered.
fn what_is_queued_arrives() {
    // On Linux the limit is the user's, and others may have used some of it.
    const MOST: usize = 1_000_000;
    let signal = libc::SIGRTMIN() + 3;
    handle(signal, note as *const () as usize, 0);
    mask(libc::SIG_BLOCK, signal);
    COUNT.store(0, Ordering::SeqCst);
    let value = libc::sigval { sival_ptr: ptr::null_mut() };
    // SAFETY: sends a signal to this process.
    let send = || unsafe { libc::sigqueue(libc::getpid(), signal, value) };
    let sent = (0..MOST).take_while(|_| send() == 0).count();
    check_eq!(errno(), libc::EAGAIN);
    check!(sent >= 32);
    mask(libc::SIG_UNBLOCK, signal);
    check_eq!(COUNT.load(Ordering::SeqCst), sent);
    check_eq!(send(), 0);
    check_eq!(COUNT.load(Ordering::SeqCst), sent + 1);
}

extern "C" fn note(signal: i32) {
    LAST.store(signal, Ordering::SeqCst);
    COUNT.fetch_add(1, Ordering::SeqCst);
}

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

fn handle(signal: i32, handler: usize, flags: i32) {
    // SAFETY: the action is whole; handlers only touch atomics or what their test gives them.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        check_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

fn raise(signal: i32) {
    // SAFETY: sends a signal to this thread.
    check_eq!(unsafe { libc::raise(signal) }, 0);
}

fn mask(how: i32, signal: i32) {
    // SAFETY: the set is whole.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigaddset(&mut set, signal);
        check_eq!(libc::pthread_sigmask(how, &set, ptr::null_mut()), 0);
    }
}

fn handler_runs_and_returns() {
    handle(libc::SIGUSR1, note as *const () as usize, 0);
    for round in 1..=100 {
        raise(libc::SIGUSR1);
        check_eq!(COUNT.load(Ordering::SeqCst), round);
    }
    check_eq!(LAST.load(Ordering::SeqCst), libc::SIGUSR1);
}

fn blocked_signal_waits() {
    let before = COUNT.load(Ordering::SeqCst);
    mask(libc::SIG_BLOCK, libc::SIGUSR1);
    raise(libc::SIGUSR1);
    raise(libc::SIGUSR1);
    check_eq!(COUNT.load(Ordering::SeqCst), before);
    mask(libc::SIG_UNBLOCK, libc::SIGUSR1);
    check_eq!(COUNT.load(Ordering::SeqCst), before + 1);
}

extern "C" fn note_stack(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let local = 0u8;
    ADDRESS.store((&raw const local).addr(), Ordering::SeqCst);
}

fn handler_runs_on_the_alternate_stack() {
    let stack = vec![0u8; 64 * 1024].leak();
    let range = stack.as_ptr_range();
    let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack lives for ever.
    check_eq!(unsafe { libc::sigaltstack(&alternate, ptr::null_mut()) }, 0);
    handle(libc::SIGUSR2, note_stack as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
    raise(libc::SIGUSR2);
    let seen = ADDRESS.load(Ordering::SeqCst);
    check!(range.start.addr() <= seen && seen < range.end.addr());
}

/// Opens the page that was touched, so that the access succeeds the second time.
extern "C" fn repair(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a whole `siginfo_t`; the page is the test's.
    unsafe {
        let address = (*info).si_addr().addr();
        ADDRESS.store(address, Ordering::SeqCst);
        libc::mprotect((address & !4095) as *mut _, 4096, libc::PROT_READ | libc::PROT_WRITE);
    }
}

fn fault_is_caught_and_repaired() {
    handle(libc::SIGSEGV, repair as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
    // SAFETY: the page is ours; the handler opens it.
    unsafe {
        let page = libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        let byte = page.cast::<u8>().add(123);
        byte.write_volatile(9);
        check_eq!(byte.read_volatile(), 9);
        check_eq!(ADDRESS.load(Ordering::SeqCst), byte.addr());
    }
}

/// Steps over the two-byte instruction that faulted.
extern "C" fn skip(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes whole structures; changing `rip` is what the test is about.
    unsafe {
        ADDRESS.store((*info).si_addr().addr(), Ordering::SeqCst);
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        registers[libc::REG_RIP as usize] += 2;
    }
}

fn fault_tells_its_address() {
    handle(libc::SIGILL, skip as *const () as usize, libc::SA_SIGINFO);
    // SAFETY: `ud2` has two bytes, which the handler steps over.
    unsafe { std::arch::asm!("ud2") };
    check!(ADDRESS.load(Ordering::SeqCst) != 0);
    let handler: Handler = skip;
    handle(libc::SIGFPE, handler as *const () as usize, libc::SA_SIGINFO);
    // SAFETY: `div ecx` has two bytes; the registers are declared.
    unsafe { std::arch::asm!("div ecx", inout("eax") 1 => _, inout("edx") 0 => _, in("ecx") 0) };
}

/// The code of the last trap's signal.
static CODE: AtomicI32 = AtomicI32::new(-1);

/// Where `ucontext_t` has the pointer to that state, behind the 23 registers.
const FLOATING_POINT_STATE: usize = 40 + 23 * 8;

extern "C" fn note_code(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over whole structures. The x87 and SSE state that the code goes on with masks all
    // exceptions and has none raised.
    unsafe {
        CODE.store((*info).si_code, Ordering::SeqCst);
        let state = context.cast::<u8>().add(FLOATING_POINT_STATE).cast::<*mut u8>().read();
        // Control and status word, and MXCSR, as FXSAVE has them.
        state.cast::<[u16; 2]>().write([0x37f, 0]);
        state.add(24).cast::<u32>().write(0x1f80);
    }
}

/// `si_code` of a breakpoint and of floating-point exceptions, as sigaction(2) and Linux's `traps.c` have them.
fn traps_tell_their_cause() {
    const SI_KERNEL: i32 = 128;
    const FPE_FLTDIV: i32 = 3;
    const FPE_FLTINV: i32 = 7;
    for signal in [libc::SIGTRAP, libc::SIGFPE] {
        handle(signal, note_code as *const () as usize, libc::SA_SIGINFO);
    }
    let code = || CODE.swap(-1, Ordering::SeqCst);
    // SAFETY: the handler lets each go on; the x87 stack is left empty, and SSE masked as it was.
    unsafe {
        std::arch::asm!("int3");
        check_eq!(code(), SI_KERNEL);
        let unmasked = 0x37a_u16;
        std::arch::asm!(
            "fldcw [{0}]", "fld1", "fldz", "fdivp st(1), st", "fwait", "fninit",
            in(reg) &raw const unmasked, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
        check_eq!(code(), FPE_FLTDIV);
        std::arch::asm!(
            "fldcw [{0}]", "fldz", "fldz", "fdivp st(1), st", "fwait", "fninit",
            in(reg) &raw const unmasked, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
        check_eq!(code(), FPE_FLTINV);
    }
}

extern "C" fn trash_registers(_: i32) {
    // SAFETY: the registers are declared.
    unsafe {
        std::arch::asm!(
            "mov r8, -1", "mov r9, -1", "pxor xmm0, xmm0", "pxor xmm7, xmm7", "std", "cld",
            out("r8") _, out("r9") _, out("xmm0") _, out("xmm7") _,
        );
    }
}

fn registers_survive_a_handler() {
    handle(libc::SIGUSR1, trash_registers as *const () as usize, 0);
    let (mut r8, mut xmm7) = (0x1234_5678u64, 2.5f64);
    // SAFETY: a plain system call; musl is not involved, so nothing else changes the registers.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_tkill => _,
            in("rdi") libc::syscall(libc::SYS_gettid),
            in("rsi") libc::SIGUSR1,
            inout("r8") r8,
            inout("xmm7") xmm7,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    check_eq!((r8, xmm7), (0x1234_5678, 2.5));
    handle(libc::SIGUSR1, note as *const () as usize, 0);
}

fn sleep_is_interrupted() {
    // SAFETY: the thread to signal is this one, which lives on.
    let me = unsafe { libc::pthread_self() } as usize;
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        // SAFETY: the main thread lives.
        unsafe { libc::pthread_kill(me as libc::pthread_t, libc::SIGUSR1) };
    });
    let wanted = libc::timespec { tv_sec: 20, tv_nsec: 0 };
    let mut left = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: whole structures.
    check_eq!(unsafe { libc::nanosleep(&wanted, &mut left) }, -1);
    check_eq!(errno(), libc::EINTR);
    check!(left.tv_sec >= 10 && left.tv_sec < 20);
    sender.join().unwrap();
}

fn signal_reaches_one_thread() {
    // The last test's signal may still be on its way.
    thread::sleep(Duration::from_millis(10));
    let before = COUNT.load(Ordering::SeqCst);
    let waiter = thread::spawn(|| thread::sleep(Duration::from_millis(60)));
    thread::sleep(Duration::from_millis(10));
    let id = {
        use std::os::unix::thread::JoinHandleExt;
        waiter.as_pthread_t()
    };
    // SAFETY: the thread has not been joined.
    check_eq!(unsafe { libc::pthread_kill(id as libc::pthread_t, libc::SIGUSR1) }, 0);
    waiter.join().unwrap();
    check_eq!(COUNT.load(Ordering::SeqCst), before + 1);
}

fn ignored_signal_does_nothing() {
    handle(libc::SIGUSR1, libc::SIG_IGN, 0);
    raise(libc::SIGUSR1);
    raise(libc::SIGCHLD);
    // SAFETY: no pointers.
    check!(unsafe { libc::kill(1_000_000, 0) } == -1 && errno() == libc::ESRCH);
    // SAFETY: as above.
    check!(unsafe { libc::kill(libc::getpid(), 999) } == -1 && errno() == libc::EINVAL);
}
