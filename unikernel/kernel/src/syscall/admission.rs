//! Which calls are refused when the kernel has no room for another object of the app's ([`room`]).
//!
//! All are, with `ENOMEM`, but those below: calls that free, wait, tell, or work on what is there
//! already, so that an app can always find its way back. They make nothing that outlives them, and
//! take no list of the app's choice into the kernel; what they write into (a pipe, a file in memory)
//! asks for room by itself.

use linux_raw_sys::general::*;

use crate::abi::Errno;
use crate::kmem::room;

/// Calls that work however little memory there is.
const ALWAYS: &[u32] = &[
    // Freeing.
    __NR_close,
    __NR_close_range,
    __NR_munmap,
    __NR_madvise,
    __NR_exit,
    __NR_exit_group,
    __NR_shutdown,
    __NR_unlink,
    __NR_unlinkat,
    __NR_rmdir,
    __NR_ftruncate,
    __NR_timer_delete,
    __NR_mq_unlink,
    __NR_mq_timedreceive,
    __NR_inotify_rm_watch,
    __NR_munlock,
    __NR_munlockall,
    __NR_msync,
    __NR_fsync,
    __NR_fdatasync,
    __NR_sync,
    __NR_syncfs,
    // Bytes in or out, with what is open; of many buffers the list asks for room.
    __NR_read,
    __NR_write,
    __NR_pread64,
    __NR_pwrite64,
    __NR_readv,
    __NR_writev,
    __NR_sendto,
    __NR_recvfrom,
    __NR_lseek,
    // They ask where they make something, as a lock that there is no room for is told by ENOLCK.
    __NR_fcntl,
    __NR_flock,
    __NR_ioctl,
    __NR_io_uring_enter,
    // Waiting.
    __NR_futex,
    __NR_futex_waitv,
    __NR_epoll_wait,
    __NR_epoll_pwait,
    __NR_epoll_pwait2,
    __NR_nanosleep,
    __NR_clock_nanosleep,
    __NR_pause,
    __NR_restart_syscall,
    __NR_wait4,
    __NR_waitid,
    __NR_sched_yield,
    __NR_rt_sigsuspend,
    __NR_rt_sigtimedwait,
    // Signals and threads that there are.
    __NR_rt_sigaction,
    __NR_rt_sigprocmask,
    __NR_rt_sigpending,
    __NR_sigaltstack,
    __NR_kill,
    __NR_tkill,
    __NR_tgkill,
    __NR_set_tid_address,
    __NR_set_robust_list,
    __NR_get_robust_list,
    __NR_rseq,
    __NR_sched_getaffinity,
    __NR_sched_setaffinity,
    __NR_getcpu,
    __NR_membarrier,
    __NR_arch_prctl,
    __NR_prctl,
    __NR_gettid,
    // Clocks.
    __NR_clock_gettime,
    __NR_clock_getres,
    __NR_gettimeofday,
    __NR_time,
    __NR_times,
    __NR_timer_settime,
    __NR_timer_gettime,
    __NR_timer_getoverrun,
    __NR_timerfd_settime,
    __NR_timerfd_gettime,
    __NR_setitimer,
    __NR_getitimer,
    __NR_alarm,
    // What is, and who is asking.
    __NR_fstat,
    __NR_getsockname,
    __NR_getpeername,
    __NR_getsockopt,
    __NR_getpid,
    __NR_getppid,
    __NR_getuid,
    __NR_geteuid,
    __NR_getgid,
    __NR_getegid,
    __NR_uname,
    __NR_sysinfo,
    __NR_getrandom,
    __NR_prlimit64,
    __NR_getrlimit,
    __NR_getrusage,
];

/// True if a call is never refused for lack of room.
pub(super) const fn is_always_admitted(number: u32) -> bool {
    let mut index = 0;
    while index < ALWAYS.len() {
        if ALWAYS[index] == number {
            return true;
        }
        index += 1;
    }
    false
}

/// Admits a call that may make something, if there is room for it.
#[inline]
pub(super) fn ask() -> Result<(), Errno> {
    Ok(room::ask()?)
}
