//! The table itself. One line a call: `number: name(arg: Kind, ...) => handler, Support, "what is missing"`.

#![expect(non_upper_case_globals, reason = "the numbers have their Linux names")]

use linux_raw_sys::general::*;

use core::sync::atomic::{AtomicU64, Ordering};

use super::{Errno, FromRegister, SysResult};
use super::{futex, identity, memory, message, signal, socket, sockopt, thread, time};

/// How the tracer prints an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgKind {
    /// A signed number.
    Int,
    /// An unsigned number or size in bytes.
    Size,
    /// A file descriptor.
    Fd,
    /// An address, printed in hexadecimal.
    Ptr,
    /// A NUL-terminated path or string.
    Str,
    /// Bytes that the call reads; the next argument is their length.
    InBuf,
    /// Bytes that the call fills; the result is their length.
    OutBuf,
    /// Flags or other bits, printed in hexadecimal or by name.
    Flags,
    /// A signal number.
    Signal,
    /// A socket address; the next argument is its length.
    SockAddr,
    /// A clock id.
    Clock,
    /// A `timespec`.
    Timespec,
}

/// How much of the Linux call is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// As Linux.
    Full,
    /// The sentence of the entry says what is missing.
    Partial,
}

/// One line of the table.
#[derive(Debug)]
pub struct Entry {
    /// The x86-64 number.
    pub number: u32,
    /// The Linux name.
    pub name: &'static str,
    /// Argument names and kinds, in register order.
    pub args: &'static [(&'static str, ArgKind)],
    /// How much is there.
    pub support: Support,
    /// One sentence on what is missing; empty when nothing is.
    pub missing: &'static str,
}

macro_rules! syscalls {
    ($($number:ident: $name:ident($($arg:ident: $kind:ident),*) => $handler:path, $support:ident, $missing:literal;)*) => {
        /// Every call there is, in the order written below.
        pub static TABLE: &[Entry] = &[$(Entry {
            number: $number,
            name: stringify!($name),
            args: &[$((stringify!($arg), ArgKind::$kind)),*],
            support: Support::$support,
            missing: $missing,
        }),*];

        /// Calls the handler of `number` with the raw registers `args`.
        pub fn dispatch(number: u64, args: &[u64; 6]) -> SysResult {
            // The register's upper half does not count: Linux compares `eax`.
            match number as u32 {
                $($number => {
                    #[expect(unused_mut, unused_variables, reason = "calls without arguments")]
                    let mut registers = args.iter().copied();
                    $(let $arg = FromRegister::from_register(registers.next().unwrap_or(0));)*
                    $handler($($arg),*)
                })*
                _ => unknown(number),
            }
        }
    };
}

syscalls! {
    // Memory
    __NR_mmap: mmap(addr: Ptr, length: Size, prot: Flags, flags: Flags, fd: Fd, offset: Size) => memory::sys_mmap, Partial, "a file mapping is a private copy; shared writable file mappings and writable executable memory are refused";
    __NR_munmap: munmap(addr: Ptr, length: Size) => memory::sys_munmap, Full, "";
    __NR_mprotect: mprotect(addr: Ptr, len: Size, prot: Flags) => memory::sys_mprotect, Partial, "memory is never writable and executable at once";
    __NR_mremap: mremap(old_address: Ptr, old_size: Size, new_size: Size, flags: Flags, new_address: Ptr) => memory::sys_mremap, Partial, "no MREMAP_DONTUNMAP";
    __NR_madvise: madvise(addr: Ptr, length: Size, advice: Int) => memory::sys_madvise, Partial, "hints that only tune are accepted and have no effect";
    __NR_brk: brk(addr: Ptr) => memory::sys_brk, Full, "";
    __NR_mlock: mlock(addr: Ptr, len: Size) => memory::sys_mlock, Full, "";
    __NR_munlock: munlock(addr: Ptr, len: Size) => memory::sys_mlock, Full, "";
    __NR_msync: msync(addr: Ptr, length: Size, flags: Flags) => memory::sys_msync, Full, "";
    __NR_membarrier: membarrier(cmd: Int) => memory::sys_membarrier, Partial, "no command is offered";

    // Threads
    __NR_clone: clone(clone_flags: Flags, stack: Ptr, parent_tid: Ptr, child_tid: Ptr, tls: Ptr) => thread::sys_clone, Partial, "threads only: there is one process";
    __NR_clone3: clone3(cl_args: Ptr, size: Size) => thread::sys_clone3, Partial, "threads only: there is one process";
    __NR_fork: fork() => thread::sys_fork, Partial, "always ENOSYS: there is one process";
    __NR_vfork: vfork() => thread::sys_fork, Partial, "always ENOSYS: there is one process";
    __NR_execve: execve() => thread::sys_fork, Partial, "always ENOSYS: there is one process";
    __NR_execveat: execveat() => thread::sys_fork, Partial, "always ENOSYS: there is one process";
    __NR_wait4: wait4() => thread::sys_wait4, Partial, "always ECHILD: there are no children";
    __NR_waitid: waitid() => thread::sys_wait4, Partial, "always ECHILD: there are no children";
    __NR_exit: exit(status: Int) => thread::sys_exit, Full, "";
    __NR_exit_group: exit_group(status: Int) => thread::sys_exit_group, Full, "";
    __NR_gettid: gettid() => thread::sys_gettid, Full, "";
    __NR_set_tid_address: set_tid_address(tidptr: Ptr) => thread::sys_set_tid_address, Full, "";
    __NR_set_robust_list: set_robust_list(head: Ptr, len: Size) => thread::sys_set_robust_list, Full, "";
    __NR_get_robust_list: get_robust_list(pid: Int, head: Ptr, len: Ptr) => thread::sys_get_robust_list, Full, "";
    __NR_sched_yield: sched_yield() => thread::sys_sched_yield, Full, "";
    __NR_sched_getaffinity: sched_getaffinity(pid: Int, size: Size, mask: Ptr) => thread::sys_sched_getaffinity, Full, "";
    __NR_sched_setaffinity: sched_setaffinity(pid: Int, size: Size, mask: Ptr) => thread::sys_sched_setaffinity, Full, "";
    __NR_getcpu: getcpu(cpu: Ptr, node: Ptr) => thread::sys_getcpu, Full, "";
    __NR_futex: futex(uaddr: Ptr, op: Flags, val: Int, timeout: Ptr, uaddr2: Ptr, val3: Int) => futex::sys_futex, Partial, "no priority inheritance";

    // Signals
    __NR_rt_sigaction: rt_sigaction(signum: Signal, act: Ptr, oldact: Ptr, size: Size) => signal::sys_rt_sigaction, Full, "";
    __NR_rt_sigprocmask: rt_sigprocmask(how: Int, set: Ptr, oldset: Ptr, size: Size) => signal::sys_rt_sigprocmask, Full, "";
    __NR_rt_sigpending: rt_sigpending(set: Ptr, size: Size) => signal::sys_rt_sigpending, Full, "";
    __NR_rt_sigsuspend: rt_sigsuspend(mask: Ptr, size: Size) => signal::sys_rt_sigsuspend, Full, "";
    __NR_rt_sigtimedwait: rt_sigtimedwait(set: Ptr, info: Ptr, timeout: Timespec, size: Size) => signal::sys_rt_sigtimedwait, Full, "";
    __NR_pause: pause() => signal::sys_pause, Full, "";
    __NR_sigaltstack: sigaltstack(ss: Ptr, old_ss: Ptr) => signal::sys_sigaltstack, Full, "";
    __NR_kill: kill(pid: Int, sig: Signal) => signal::sys_kill, Full, "";
    __NR_tkill: tkill(tid: Int, sig: Signal) => signal::sys_tkill, Full, "";
    __NR_tgkill: tgkill(tgid: Int, tid: Int, sig: Signal) => signal::sys_tgkill, Full, "";

    // Time
    __NR_clock_gettime: clock_gettime(clockid: Clock, tp: Ptr) => time::sys_clock_gettime, Full, "";
    __NR_clock_getres: clock_getres(clockid: Clock, res: Ptr) => time::sys_clock_getres, Full, "";
    __NR_clock_nanosleep: clock_nanosleep(clockid: Clock, flags: Flags, request: Timespec, remain: Ptr) => time::sys_clock_nanosleep, Full, "";
    __NR_nanosleep: nanosleep(request: Timespec, remain: Ptr) => time::sys_nanosleep, Full, "";
    __NR_gettimeofday: gettimeofday(tv: Ptr, tz: Ptr) => time::sys_gettimeofday, Full, "";
    __NR_time: time(tloc: Ptr) => time::sys_time, Full, "";

    // Sockets
    __NR_socket: socket(domain: Int, type_: Int, protocol: Int) => socket::sys_socket, Partial, "TCP and UDP over IPv4 and IPv6";
    __NR_socketpair: socketpair(domain: Int, type_: Int, protocol: Int, sv: Ptr) => socket::sys_socketpair, Partial, "streams of AF_UNIX";
    __NR_bind: bind(fd: Fd, addr: SockAddr, addrlen: Size) => socket::sys_bind, Full, "";
    __NR_listen: listen(fd: Fd, backlog: Int) => socket::sys_listen, Full, "";
    __NR_accept: accept(fd: Fd, addr: Ptr, addrlen: Ptr) => socket::sys_accept, Full, "";
    __NR_accept4: accept4(fd: Fd, addr: Ptr, addrlen: Ptr, flags: Flags) => socket::sys_accept4, Full, "";
    __NR_connect: connect(fd: Fd, addr: SockAddr, addrlen: Size) => socket::sys_connect, Full, "";
    __NR_shutdown: shutdown(fd: Fd, how: Int) => socket::sys_shutdown, Full, "";
    __NR_getsockname: getsockname(fd: Fd, addr: Ptr, addrlen: Ptr) => socket::sys_getsockname, Full, "";
    __NR_getpeername: getpeername(fd: Fd, addr: Ptr, addrlen: Ptr) => socket::sys_getpeername, Full, "";
    __NR_sendto: sendto(fd: Fd, buf: InBuf, len: Size, flags: Flags, dest_addr: SockAddr, addrlen: Size) => message::sys_sendto, Partial, "no urgent data";
    __NR_recvfrom: recvfrom(fd: Fd, buf: OutBuf, len: Size, flags: Flags, src_addr: Ptr, addrlen: Ptr) => message::sys_recvfrom, Partial, "no urgent data and no error queue";
    __NR_sendmsg: sendmsg(fd: Fd, msg: Ptr, flags: Flags) => message::sys_sendmsg, Partial, "no control messages";
    __NR_recvmsg: recvmsg(fd: Fd, msg: Ptr, flags: Flags) => message::sys_recvmsg, Partial, "no control messages";
    __NR_sendmmsg: sendmmsg(fd: Fd, msgvec: Ptr, vlen: Int, flags: Flags) => message::sys_sendmmsg, Partial, "no control messages";
    __NR_recvmmsg: recvmmsg(fd: Fd, msgvec: Ptr, vlen: Int, flags: Flags, timeout: Timespec) => message::sys_recvmmsg, Partial, "no control messages";
    __NR_setsockopt: setsockopt(fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Size) => sockopt::sys_setsockopt, Partial, "buffer sizes are wishes; no multicast membership";
    __NR_getsockopt: getsockopt(fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Ptr) => sockopt::sys_getsockopt, Partial, "no TCP_INFO";

    // Identity and limits
    __NR_getpid: getpid() => identity::sys_getpid, Full, "";
    __NR_getppid: getppid() => identity::sys_zero, Full, "";
    __NR_getuid: getuid() => identity::sys_zero, Full, "";
    __NR_geteuid: geteuid() => identity::sys_zero, Full, "";
    __NR_getgid: getgid() => identity::sys_zero, Full, "";
    __NR_getegid: getegid() => identity::sys_zero, Full, "";
    __NR_getpgrp: getpgrp() => identity::sys_getpid, Full, "";
    __NR_getpgid: getpgid(pid: Int) => identity::sys_getpgid, Full, "";
    __NR_getsid: getsid(pid: Int) => identity::sys_getpgid, Full, "";
    __NR_uname: uname(buf: Ptr) => identity::sys_uname, Full, "";
    __NR_sysinfo: sysinfo(info: Ptr) => identity::sys_sysinfo, Partial, "load averages and swap are zero";
    __NR_getrandom: getrandom(buf: Ptr, buflen: Size, flags: Flags) => identity::sys_getrandom, Full, "";
    __NR_prlimit64: prlimit64(pid: Int, resource: Int, new_limit: Ptr, old_limit: Ptr) => identity::sys_prlimit64, Partial, "limits do not change";
    __NR_getrlimit: getrlimit(resource: Int, rlim: Ptr) => identity::sys_getrlimit, Full, "";
    __NR_setrlimit: setrlimit(resource: Int, rlim: Ptr) => identity::sys_setrlimit, Partial, "limits do not change";
    __NR_getrusage: getrusage(who: Int, usage: Ptr) => identity::sys_getrusage, Partial, "user time only";
    __NR_prctl: prctl(option: Int, arg2: Ptr) => identity::sys_prctl, Partial, "names; the other options are refused or have no effect";
    __NR_arch_prctl: arch_prctl(code: Int, addr: Ptr) => identity::sys_arch_prctl, Partial, "FS base only: ring 3 sets GS with wrgsbase";
}

/// An unknown call is logged once by name, so that a port shows what it lacks, and refused.
fn unknown(number: u64) -> SysResult {
    /// One bit for each number that was said.
    static SAID: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
    let number = number as u32;
    let bit = 1 << (number % 64);
    let is_new = SAID.get(number as usize / 64).is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0);
    if is_new {
        log::warn!("system call {number} is not there: answering ENOSYS");
    }
    Err(Errno::ENOSYS)
}
