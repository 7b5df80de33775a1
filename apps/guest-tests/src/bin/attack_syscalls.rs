//! Every system call number with wild values in every argument. The kernel must survive all of them
//! and answer errors; which error is checked for the calls where Linux's answer is plain.

use guest_tests::{check, check_eq, raw_syscall};

/// Values that break things: null, all ones, kernel addresses, the non-canonical hole, the edge of
/// user space, nearly null, odd.
const WILD: [u64; 10] = [
    0,
    u64::MAX,
    0xffff_8000_0000_0000,
    0xffff_c000_0000_1000,
    0x0000_8000_0000_0000,
    0x0000_7fff_ffff_f000,
    1,
    0x1001,
    1 << 62,
    0x7fff_ffff,
];

/// Beyond every limit, so nothing real is written to, replaced or closed.
const NO_DESCRIPTOR: u64 = 1 << 24;

/// Calls that end the program, end its thread, or wait for ever, by their nature; and those that could
/// take the test's own stack or code away.
const SKIPPED: [i64; 25] = [
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_pause,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_clone,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_arch_prctl,
    libc::SYS_close_range,
    libc::SYS_rt_sigprocmask,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_madvise,
    libc::SYS_reboot,
    libc::SYS_set_tid_address,
    libc::SYS_seccomp,
];

/// Calls that wait when their pointer arguments are null: they are given wild pointers only.
const WAITING: [i64; 12] = [
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_futex,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_accept,
];

fn main() {
    known_answers();
    let stdout = libc::STDOUT_FILENO as u64;
    for number in (0..470).filter(|number| !SKIPPED.contains(number) && !WAITING.contains(number)) {
        for position in 0..6 {
            for wild in WILD {
                let mut args = [NO_DESCRIPTOR, 0, 0, 0, 0, 0];
                args[position] = wild;
                if number == libc::SYS_close && args[0] <= stdout + 1 {
                    continue;
                }
                raw_syscall(number, args);
            }
        }
        for wild in WILD {
            if number != libc::SYS_close {
                raw_syscall(number, [wild; 6]);
            }
        }
    }
    println!("the kernel is still there");
}

/// Errors as Linux answers them.
fn known_answers() {
    const EFAULT: i64 = -(libc::EFAULT as i64);
    const EBADF: i64 = -(libc::EBADF as i64);
    const EINVAL: i64 = -(libc::EINVAL as i64);
    let kernel = 0xffff_8000_0000_0000u64;
    let mut ends = [0i32; 2];
    let pipe = |flags| raw_syscall(libc::SYS_pipe2, [(&raw const ends) as u64, flags, 0, 0, 0, 0]);
    check_eq!(pipe(0), 0);
    // SAFETY: the kernel has written the two numbers.
    let [reader, writer] = unsafe { (&raw mut ends).read_volatile() }.map(|end| end as u64);
    check_eq!(raw_syscall(libc::SYS_write, [writer, b"x".as_ptr() as u64, 1, 0, 0, 0]), 1);
    for bad in [kernel, 0x8000_0000_0000, 0, 8, u64::MAX - 4] {
        check_eq!(raw_syscall(libc::SYS_read, [reader, bad, 1, 0, 0, 0]), EFAULT);
        check_eq!(raw_syscall(libc::SYS_write, [writer, bad, 64, 0, 0, 0]), EFAULT);
        check_eq!(raw_syscall(libc::SYS_pipe2, [bad, 0, 0, 0, 0, 0]), EFAULT);
        check_eq!(raw_syscall(libc::SYS_uname, [bad, 0, 0, 0, 0, 0]), EFAULT);
        check_eq!(raw_syscall(libc::SYS_clock_gettime, [1, bad, 0, 0, 0, 0]), EFAULT);
        check_eq!(raw_syscall(libc::SYS_getrandom, [bad, 64, 0, 0, 0, 0]), EFAULT);
        check_eq!(raw_syscall(libc::SYS_openat, [99, bad, 0, 0, 0, 0]), EFAULT);
        check_eq!(raw_syscall(libc::SYS_nanosleep, [bad, 0, 0, 0, 0, 0]), EFAULT);
    }
    for number in
        [libc::SYS_read, libc::SYS_write, libc::SYS_fstat, libc::SYS_close, libc::SYS_dup, libc::SYS_listen]
    {
        check_eq!(raw_syscall(number, [99, kernel, 1, 0, 0, 0]), EBADF);
    }
    check_eq!(raw_syscall(libc::SYS_pipe2, [(&raw mut ends) as u64, u64::MAX, 0, 0, 0, 0]), EINVAL);
    check_eq!(raw_syscall(libc::SYS_munmap, [1, 4096, 0, 0, 0, 0]), EINVAL);
    check_eq!(raw_syscall(libc::SYS_clock_gettime, [999, 0, 0, 0, 0, 0]), EINVAL);
    // A buffer that begins well and ends beyond its mapping.
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let page = raw_syscall(libc::SYS_mmap, [0, 8192, 3, flags, u64::MAX, 0]) as u64;
    check_eq!(raw_syscall(libc::SYS_munmap, [page + 4096, 4096, 0, 0, 0, 0]), 0);
    check_eq!(raw_syscall(libc::SYS_uname, [page + 4000, 0, 0, 0, 0, 0]), EFAULT);
    check!(raw_syscall(libc::SYS_getpid, [u64::MAX; 6]) > 0);
}
