//! Threads that forbid themselves system calls (seccomp(2), prctl(2)): what is refused, what each answer of a filter does, who has
//! the filter, and what cannot be undone.
//!
//! With an argument, the app ends itself in one of the ways that filters have; the runner judges by the exit code.

use std::sync::mpsc::channel;
use std::thread;

use guest_tests::{check, check_eq, raw_syscall};
use unikernel_policy::bpf::code::{JEQ_K, LD_W_ABS, RET_K};
use unikernel_policy::bpf::{Instruction, code};

const STRICT: u64 = 0;
const FILTER: u64 = 1;
const ACTION_AVAILABLE: u64 = 2;
const NOTIFICATION_SIZES: u64 = 3;

const FOR_ALL: u64 = 1;
const LOG: u64 = 2;
const NEW_LISTENER: u64 = 8;
const ESRCH: u64 = 16;

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOGGED: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

fn failure(number: i32) -> i64 {
    -i64::from(number)
}

fn seccomp(operation: u64, flags: u64, args: u64) -> i64 {
    raw_syscall(libc::SYS_seccomp, [operation, flags, args, 0, 0, 0])
}

fn add(program: &[Instruction], flags: u64) -> i64 {
    let bytes: Vec<u8> = program.iter().flat_map(|one| bytes_of(*one)).collect();
    let head = [program.len() as u64, bytes.as_ptr() as u64];
    seccomp(FILTER, flags, head.as_ptr() as u64)
}

fn bytes_of(instruction: Instruction) -> [u8; 8] {
    let Instruction { code, jump_true, jump_false, k } = instruction;
    let ([a, b], [e, f, g, h]) = (code.to_le_bytes(), k.to_le_bytes());
    [a, b, jump_true, jump_false, e, f, g, h]
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction::plain(code, k)
}

/// A program with this answer for one call, allowing others.
fn for_call(number: i64, answer: u32) -> Vec<Instruction> {
    vec![
        plain(LD_W_ABS, 0),
        Instruction { code: JEQ_K, jump_true: 0, jump_false: 1, k: number as u32 },
        plain(RET_K, answer),
        plain(RET_K, ALLOW),
    ]
}

fn call(number: i64) -> i64 {
    raw_syscall(number, [0; 6])
}

fn prctl(option: i32, second: u64, third: u64) -> i64 {
    raw_syscall(libc::SYS_prctl, [option as u64, second, third, 0, 0, 0])
}

/// In a thread of its own, so that what it forbids itself binds no other.
fn apart(work: impl FnOnce() + Send + 'static) {
    check!(thread::spawn(work).join().is_ok());
}

fn main() {
    let word = std::env::args().nth(1);
    prepare();
    match word.as_deref() {
        Some("kill") => {
            check_eq!(add(&for_call(libc::SYS_getppid, KILL_PROCESS), 0), 0);
            call(libc::SYS_getppid);
        }
        Some("unknown") => {
            check_eq!(add(&for_call(libc::SYS_getppid, 0x1234_0000), LOG), 0);
            call(libc::SYS_getppid);
        }
        Some("strict") => {
            check_eq!(seccomp(STRICT, 0, 0), 0);
            call(libc::SYS_getppid);
        }
        Some("trapped") => {
            check_eq!(add(&for_call(libc::SYS_getppid, TRAP), 0), 0);
            call(libc::SYS_getppid);
        }
        Some(_) => std::process::exit(2),
        None => everything(),
    }
    std::process::exit(3);
}

/// Who has no privilege may do it only if no program could gain one by it.
fn prepare() {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        check_eq!(add(&for_call(libc::SYS_getppid, ALLOW), 0), failure(libc::EACCES));
    }
    check_eq!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0), 0);
}

fn everything() {
    refused();
    asked();
    apart(answers);
    apart(by_arguments);
    apart(handled);
    apart(strictest);
    apart(execve_and_prctl);
    apart(numbers_of_others);
    threads_have_it();
    ended_thread();
    for_all();
    long_chain();
    std::process::exit(0);
}

fn refused() {
    check_eq!(seccomp(9, 0, 0), failure(libc::EINVAL));
    check_eq!(seccomp(STRICT, 1, 0), failure(libc::EINVAL));
    check_eq!(seccomp(STRICT, 0, 1), failure(libc::EINVAL));
    check_eq!(seccomp(FILTER, 1 << 20, 0), failure(libc::EINVAL));
    check_eq!(seccomp(FILTER, 0, 0), failure(libc::EFAULT));
    check_eq!(add(&[], 0), failure(libc::EINVAL));
    check_eq!(add(&vec![plain(RET_K, ALLOW); 4097], 0), failure(libc::EINVAL));
    check_eq!(seccomp(FILTER, 0, [1_u64, 0].as_ptr() as u64), failure(libc::EINVAL));
    check_eq!(seccomp(FILTER, 0, [1_u64, 8].as_ptr() as u64), failure(libc::EFAULT));
    check_eq!(add(&[plain(code::LD_IMM, 0)], 0), failure(libc::EINVAL));
    check_eq!(prctl(libc::PR_SET_SECCOMP, 0, 0), failure(libc::EINVAL));
    check_eq!(prctl(libc::PR_SET_SECCOMP, 3, 0), failure(libc::EINVAL));
    check_eq!(prctl(libc::PR_SET_SECCOMP, 2, 0), failure(libc::EFAULT));
    check_eq!(prctl(libc::PR_GET_SECCOMP, 0, 0), 0);
    check_eq!(seccomp(FILTER, FOR_ALL | NEW_LISTENER, 0), failure(libc::EINVAL));
}

fn asked() {
    let is_there = |action: u32| seccomp(ACTION_AVAILABLE, 0, (&raw const action) as u64);
    for action in [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOGGED, ALLOW] {
        check_eq!(is_there(action), 0);
    }
    check_eq!(is_there(0x1234_0000), failure(libc::EOPNOTSUPP));
    check_eq!(is_there(ERRNO | 1), failure(libc::EOPNOTSUPP));
    check_eq!(seccomp(ACTION_AVAILABLE, 1, 0), failure(libc::EINVAL));
    check_eq!(seccomp(ACTION_AVAILABLE, 0, 0), failure(libc::EFAULT));
    let mut sizes = [0_u16; 3];
    check_eq!(seccomp(NOTIFICATION_SIZES, 0, sizes.as_mut_ptr() as u64), 0);
    check_eq!(sizes, [80, 24, 64]);
}

fn status(name: &str) -> String {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().to_owned()
}

fn answers() {
    check_eq!(status("Seccomp:"), "0");
    check_eq!(add(&for_call(libc::SYS_getppid, ERRNO | 7), 0), 0);
    check_eq!(call(libc::SYS_getppid), -7);
    check_eq!(add(&for_call(libc::SYS_getuid, ERRNO), 0), 0);
    check_eq!(call(libc::SYS_getuid), 0);
    check_eq!(add(&for_call(libc::SYS_getgid, ERRNO | 0xffff), 0), 0);
    check_eq!(call(libc::SYS_getgid), -4095);
    check_eq!(add(&for_call(libc::SYS_getegid, TRACE | 5), 0), 0);
    check_eq!(call(libc::SYS_getegid), failure(libc::ENOSYS));
    check_eq!(add(&for_call(libc::SYS_getpgrp, NOTIFY), 0), 0);
    check_eq!(call(libc::SYS_getpgrp), failure(libc::ENOSYS));
    check_eq!(add(&for_call(libc::SYS_gettid, LOGGED), 0), 0);
    check!(call(libc::SYS_gettid) > 0);
    check_eq!((status("Seccomp:").as_str(), status("Seccomp_filters:").as_str()), ("2", "6"));
    check_eq!(prctl(libc::PR_GET_SECCOMP, 0, 0), 2);
    check_eq!(seccomp(STRICT, 0, 0), failure(libc::EINVAL));
    check_eq!(prctl(libc::PR_SET_SECCOMP, 1, 0), failure(libc::EINVAL));
}

/// A filter that looks at an argument, and one that looks at where the call is made.
fn by_arguments() {
    let program = [
        plain(LD_W_ABS, 0),
        Instruction { code: JEQ_K, jump_true: 0, jump_false: 3, k: libc::SYS_dup as u32 },
        plain(LD_W_ABS, 16),
        Instruction { code: JEQ_K, jump_true: 0, jump_false: 1, k: 77 },
        plain(RET_K, ERRNO | 99),
        plain(RET_K, ALLOW),
    ];
    check_eq!(add(&program, 0), 0);
    check_eq!(raw_syscall(libc::SYS_dup, [77, 0, 0, 0, 0, 0]), -99);
    check_eq!(raw_syscall(libc::SYS_dup, [78, 0, 0, 0, 0, 0]), failure(libc::EBADF));
}

thread_local! {
    static TOLD: std::cell::Cell<[u64; 6]> = const { std::cell::Cell::new([0; 6]) };
}

/// Notes what it is told, and has the call answer 4711.
extern "C" fn handler(_: i32, info: *const [u64; 4], context: *mut libc::ucontext_t) {
    // SAFETY: the kernel's own structures, which live as long as the handler runs.
    let (info, registers) = unsafe { (&*info, &mut (*context).uc_mcontext.gregs) };
    let (rip, rax) = (registers[libc::REG_RIP as usize] as u64, registers[libc::REG_RAX as usize] as u64);
    TOLD.set([info[0], info[1] & 0xffff_ffff, info[2], info[3], rip, rax]);
    registers[libc::REG_RAX as usize] = 4711;
}

fn handled() {
    // SAFETY: the handler touches nothing but its thread's own cell.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        check_eq!(libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()), 0);
    }
    check_eq!(add(&for_call(libc::SYS_getppid, TRAP | 0x321), 0), 0);
    check_eq!(call(libc::SYS_getppid), 4711);
    let [head, code, address, what, rip, rax] = TOLD.get();
    check_eq!((head as u32, head >> 32, code), (libc::SIGSYS as u32, 0x321, 1));
    check_eq!((address, rax), (rip, libc::SYS_getppid as u64));
    check_eq!(what, 0xc000_003e_u64 << 32 | libc::SYS_getppid as u64);
}

fn strictest() {
    check_eq!(add(&for_call(libc::SYS_getppid, ERRNO | 1), 0), 0);
    check_eq!(add(&for_call(libc::SYS_getppid, ERRNO | 2), 0), 0);
    check_eq!(call(libc::SYS_getppid), -2);
    check_eq!(add(&for_call(libc::SYS_getppid, TRACE), 0), 0);
    check_eq!(call(libc::SYS_getppid), -2);
    check_eq!(add(&for_call(libc::SYS_getppid, ALLOW), 0), 0);
    check_eq!(call(libc::SYS_getppid), -2);
}

fn execve_and_prctl() {
    check_eq!(add(&for_call(libc::SYS_execve, ERRNO | 13), 0), 0);
    check_eq!(call(libc::SYS_execve), -13);
    let program: Vec<u8> = for_call(libc::SYS_getppid, ERRNO | 44).into_iter().flat_map(bytes_of).collect();
    let head = [4, program.as_ptr() as u64];
    check_eq!(prctl(libc::PR_SET_SECCOMP, 2, head.as_ptr() as u64), 0);
    check_eq!(call(libc::SYS_getppid), -44);
}

/// Numbers beyond those of calls, and the upper half of the register, which does not count.
fn numbers_of_others() {
    check_eq!(add(&for_call(0x4000_0027, ERRNO | 3), 0), 0);
    check_eq!(add(&for_call(1_000_000, ERRNO | 4), 0), 0);
    check_eq!(add(&for_call(libc::SYS_getppid, ERRNO | 5), 0), 0);
    check_eq!((call(0x4000_0027), call(1_000_000)), (-3, -4));
    check_eq!(call(1_000_001), failure(libc::ENOSYS));
    check_eq!(call(1 << 40 | libc::SYS_getppid), -5);
}

fn threads_have_it() {
    apart(|| {
        check_eq!(add(&for_call(libc::SYS_getppid, ERRNO | 5), 0), 0);
        apart(|| check_eq!(call(libc::SYS_getppid), -5));
    });
    check!(call(libc::SYS_getppid) >= 0);
}

/// A thread that a filter ends takes no other with it.
fn ended_thread() {
    let (tell, told) = channel::<()>();
    // Not joined by the library, which would wait for a result.
    let _ = thread::spawn(move || {
        check_eq!(add(&for_call(libc::SYS_getppid, KILL_THREAD), 0), 0);
        tell.send(()).unwrap();
        call(libc::SYS_getppid);
        std::process::exit(4);
    });
    check!(told.recv().is_ok());
    let alone = || std::fs::read_dir("/proc/self/task").unwrap().count() == 1;
    while !alone() {
        thread::yield_now();
    }
}

/// A filter for all threads, unless one has filters of its own.
fn for_all() {
    let (go, wait) = channel::<()>();
    let (tell, told) = channel::<i64>();
    let other = thread::spawn(move || {
        wait.recv().unwrap();
        tell.send(call(libc::SYS_getppid)).unwrap();
        check_eq!(add(&for_call(libc::SYS_getuid, ERRNO | 8), 0), 0);
        tell.send(call(libc::SYS_gettid)).unwrap();
        wait.recv().unwrap();
        tell.send(call(libc::SYS_getgid)).unwrap();
    });
    check_eq!(add(&for_call(libc::SYS_getppid, ERRNO | 21), FOR_ALL), 0);
    go.send(()).unwrap();
    check_eq!(told.recv(), Ok(-21));
    let id = told.recv().unwrap();
    let more = for_call(libc::SYS_getgid, ERRNO | 22);
    check_eq!(add(&more, FOR_ALL), id);
    check_eq!(add(&more, FOR_ALL | ESRCH), failure(libc::ESRCH));
    check!(call(libc::SYS_getgid) >= 0);
    go.send(()).unwrap();
    check!(told.recv().unwrap() >= 0);
    check!(other.join().is_ok());
    // With nobody left who resists.
    check_eq!(add(&more, FOR_ALL), 0);
    check_eq!(call(libc::SYS_getgid), -22);
}

/// As many instructions as a thread may have. Linux counts them once they are its own, which are about twice as many.
fn long_chain() {
    apart(|| {
        let long = vec![plain(RET_K, ALLOW); 4096];
        let mut count = 0;
        while add(&long, 0) == 0 {
            count += 1;
            check!(count < 100);
        }
        check!((3..=8).contains(&count));
        check_eq!(add(&long, 0), failure(libc::ENOMEM));
    });
}
