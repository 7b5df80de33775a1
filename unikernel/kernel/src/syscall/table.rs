//! The table itself. One line a call: `number: name(arg: Kind, ...) => handler, Support, "what is missing"`.

#![expect(non_upper_case_globals, reason = "the numbers have their Linux names")]

use linux_raw_sys::general::*;

use super::{FromRegister, unknown};
use super::{
    admission, attributes, copy, credentials, descriptor, epoll, event, exec, futex, identity, inotify, io,
    landlock, lock, memory, message, message_queue, module, names, open, path, pidfd, polling, prctl,
    protection_keys, restart, scheduling, seccomp, signal, socket, sockopt, splice, stat, thread, time,
    timer, uring, xattr,
};
use crate::abi::SysResult;
use crate::ops;

/// How the tracer prints an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ArgKind {
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
enum Support {
    /// As Linux.
    Full,
    /// The sentence of the entry says what is missing.
    Partial,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The x86-64 number.
    pub number: u32,
    /// The Linux name.
    pub name: &'static str,
    /// Argument names and kinds, in register order.
    pub args: &'static [(&'static str, ArgKind)],
}

macro_rules! syscalls {
    ($($number:ident: $name:ident($($arg:ident: $kind:ident),*) => $handler:path, $support:ident, $missing:literal;)*) => {
        /// Every call there is, in the order written below.
        pub(crate) static TABLE: &[Entry] = &[$(Entry {
            number: $number,
            name: stringify!($name),
            args: &[$((stringify!($arg), ArgKind::$kind)),*],
        }),*];

        // How much is there, and a sentence on what is missing, which is empty when nothing is: for `docs/syscalls.md`, which is
        // made from this source. The kernel has no use for it.
        const _: &[(Support, &str)] = &[$((Support::$support, $missing)),*];

        /// Calls the handler of `number` with the raw registers `args`.
        pub(crate) fn dispatch(number: u64, args: &[u64; 6]) -> SysResult {
            // The register's upper half does not count: Linux compares `eax`.
            match number as u32 {
                $($number => {
                    if const { !admission::is_always_admitted($number) } {
                        admission::ask()?;
                    }
                    let mut registers = args.iter().copied();
                    // A call without arguments takes none.
                    let _ = registers.by_ref();
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
    __NR_mmap: mmap(addr: Ptr, length: Size, prot: Flags, flags: Flags, fd: Fd, offset: Size) => memory::sys_mmap, Partial, "memory is writable and executable at once only with `wx=on`";
    __NR_munmap: munmap(addr: Ptr, length: Size) => memory::sys_munmap, Full, "";
    __NR_mprotect: mprotect(addr: Ptr, len: Size, prot: Flags) => memory::sys_mprotect, Partial, "memory is writable and executable at once only with `wx=on`";
    __NR_pkey_mprotect: pkey_mprotect(addr: Ptr, len: Size, prot: Flags, pkey: Int) => protection_keys::sys_pkey_mprotect, Full, "";
    __NR_pkey_alloc: pkey_alloc(flags: Flags, access_rights: Flags) => protection_keys::sys_pkey_alloc, Full, "";
    __NR_pkey_free: pkey_free(pkey: Int) => protection_keys::sys_pkey_free, Full, "";
    __NR_mremap: mremap(old_address: Ptr, old_size: Size, new_size: Size, flags: Flags, new_address: Ptr) => memory::sys_mremap, Full, "";
    __NR_madvise: madvise(addr: Ptr, length: Size, advice: Int) => ops::memory::madvise, Partial, "hints that only tune are accepted and have no effect; no MADV_REMOVE, COLLAPSE or GUARD_INSTALL";
    __NR_brk: brk(addr: Ptr) => memory::sys_brk, Full, "";
    __NR_mlock: mlock(addr: Ptr, len: Size) => memory::sys_mlock, Full, "";
    __NR_munlock: munlock(addr: Ptr, len: Size) => memory::sys_munlock, Full, "";
    __NR_mlock2: mlock2(addr: Ptr, len: Size, flags: Flags) => memory::sys_mlock2, Full, "";
    __NR_mlockall: mlockall(flags: Flags) => memory::sys_mlockall, Full, "";
    __NR_munlockall: munlockall() => memory::sys_munlockall, Full, "";
    __NR_mincore: mincore(addr: Ptr, length: Size, vec: Ptr) => memory::sys_mincore, Full, "";
    __NR_msync: msync(addr: Ptr, length: Size, flags: Flags) => memory::sys_msync, Full, "";
    __NR_membarrier: membarrier(cmd: Int, flags: Flags) => memory::sys_membarrier, Partial, "no SYNC_CORE or RSEQ commands";

    // Threads
    __NR_clone: clone(clone_flags: Flags, stack: Ptr, parent_tid: Ptr, child_tid: Ptr, tls: Ptr) => thread::sys_clone, Partial, "threads only: there is one process";
    __NR_clone3: clone3(cl_args: Ptr, size: Size) => thread::sys_clone3, Partial, "threads only: there is one process";
    __NR_fork: fork() => thread::sys_fork, Partial, "always ENOSYS: there is one process";
    __NR_vfork: vfork() => thread::sys_fork, Partial, "always ENOSYS: there is one process";
    __NR_execve: execve(filename: Str, argv: Ptr, envp: Ptr) => exec::sys_execve, Partial, "not of the program that the image holds itself (ETXTBSY); all descriptors of io_uring are closed";
    __NR_execveat: execveat(dfd: Fd, filename: Str, argv: Ptr, envp: Ptr, flags: Flags) => exec::sys_execveat, Partial, "as execve";
    __NR_wait4: wait4(pid: Int, wstatus: Ptr, options: Flags, rusage: Ptr) => thread::sys_wait4, Partial, "always ECHILD: there are no children";
    __NR_waitid: waitid(idtype: Int, id: Int, infop: Ptr, options: Flags, rusage: Ptr) => thread::sys_waitid, Partial, "always ECHILD: there are no children";
    __NR_exit: exit(status: Int) => thread::sys_exit, Full, "";
    __NR_exit_group: exit_group(status: Int) => thread::sys_exit_group, Full, "";
    __NR_gettid: gettid() => thread::sys_gettid, Full, "";
    __NR_set_tid_address: set_tid_address(tidptr: Ptr) => thread::sys_set_tid_address, Full, "";
    __NR_set_robust_list: set_robust_list(head: Ptr, len: Size) => thread::sys_set_robust_list, Full, "";
    __NR_get_robust_list: get_robust_list(pid: Int, head: Ptr, len: Ptr) => thread::sys_get_robust_list, Full, "";
    __NR_rseq: rseq() => thread::sys_rseq, Partial, "always ENOSYS: libraries do without";
    __NR_sched_yield: sched_yield() => scheduling::sys_sched_yield, Full, "";
    __NR_sched_getaffinity: sched_getaffinity(pid: Int, size: Size, mask: Ptr) => scheduling::sys_sched_getaffinity, Full, "";
    __NR_sched_setaffinity: sched_setaffinity(pid: Int, size: Size, mask: Ptr) => scheduling::sys_sched_setaffinity, Full, "";
    __NR_getcpu: getcpu(cpu: Ptr, node: Ptr) => scheduling::sys_getcpu, Full, "";
    __NR_sched_getscheduler: sched_getscheduler(pid: Int) => scheduling::sys_sched_getscheduler, Full, "";
    __NR_sched_setscheduler: sched_setscheduler(pid: Int, policy: Int, param: Ptr) => scheduling::sys_sched_setscheduler, Partial, "one policy: real time is EPERM";
    __NR_sched_getparam: sched_getparam(pid: Int, param: Ptr) => scheduling::sys_sched_getparam, Full, "";
    __NR_sched_setparam: sched_setparam(pid: Int, param: Ptr) => scheduling::sys_sched_setparam, Partial, "no priorities in real time";
    __NR_sched_get_priority_max: sched_get_priority_max(policy: Int) => scheduling::sys_sched_get_priority_max, Full, "";
    __NR_sched_get_priority_min: sched_get_priority_min(policy: Int) => scheduling::sys_sched_get_priority_min, Full, "";
    __NR_sched_rr_get_interval: sched_rr_get_interval(pid: Int, tp: Ptr) => scheduling::sys_sched_rr_get_interval, Full, "";
    __NR_getpriority: getpriority(which: Int, who: Int) => scheduling::sys_getpriority, Full, "";
    __NR_setpriority: setpriority(which: Int, who: Int, prio: Int) => scheduling::sys_setpriority, Partial, "accepted: all threads weigh the same";
    __NR_futex_waitv: futex_waitv(waiters: Ptr, nr_futexes: Int, flags: Flags, timeout: Ptr, clockid: Int) => futex::sys_futex_waitv, Full, "";
    __NR_futex: futex(uaddr: Ptr, op: Flags, val: Int, timeout: Ptr, uaddr2: Ptr, val3: Int) => futex::sys_futex, Partial, "locks with priority inheritance are served in the order of coming: all threads have one priority";

    // Signals
    __NR_rt_sigaction: rt_sigaction(signum: Signal, act: Ptr, oldact: Ptr, size: Size) => signal::sys_rt_sigaction, Full, "";
    __NR_rt_sigprocmask: rt_sigprocmask(how: Int, set: Ptr, oldset: Ptr, size: Size) => signal::sys_rt_sigprocmask, Full, "";
    __NR_rt_sigpending: rt_sigpending(set: Ptr, size: Size) => signal::sys_rt_sigpending, Full, "";
    __NR_rt_sigsuspend: rt_sigsuspend(mask: Ptr, size: Size) => signal::sys_rt_sigsuspend, Full, "";
    __NR_rt_sigtimedwait: rt_sigtimedwait(set: Ptr, info: Ptr, timeout: Timespec, size: Size) => signal::sys_rt_sigtimedwait, Full, "";
    __NR_pause: pause() => signal::sys_pause, Full, "";
    __NR_sigaltstack: sigaltstack(ss: Ptr, old_ss: Ptr) => signal::sys_sigaltstack, Full, "";
    __NR_rt_sigqueueinfo: rt_sigqueueinfo(tgid: Int, sig: Signal, info: Ptr) => signal::sys_rt_sigqueueinfo, Full, "";
    __NR_rt_tgsigqueueinfo: rt_tgsigqueueinfo(tgid: Int, tid: Int, sig: Signal, info: Ptr) => signal::sys_rt_tgsigqueueinfo, Full, "";
    __NR_kill: kill(pid: Int, sig: Signal) => signal::sys_kill, Full, "";
    __NR_tkill: tkill(tid: Int, sig: Signal) => signal::sys_tkill, Full, "";
    __NR_tgkill: tgkill(tgid: Int, tid: Int, sig: Signal) => signal::sys_tgkill, Full, "";

    __NR_pidfd_open: pidfd_open(pid: Int, flags: Flags) => pidfd::sys_pidfd_open, Full, "";
    __NR_pidfd_send_signal: pidfd_send_signal(pidfd: Fd, sig: Signal, info: Ptr, flags: Flags) => pidfd::sys_pidfd_send_signal, Full, "";
    __NR_pidfd_getfd: pidfd_getfd(pidfd: Fd, targetfd: Fd, flags: Flags) => pidfd::sys_pidfd_getfd, Full, "";

    // Time
    __NR_clock_gettime: clock_gettime(clockid: Clock, tp: Ptr) => time::sys_clock_gettime, Full, "";
    __NR_clock_getres: clock_getres(clockid: Clock, res: Ptr) => time::sys_clock_getres, Full, "";
    __NR_restart_syscall: restart_syscall() => restart::sys_restart_syscall, Full, "";
    __NR_clock_nanosleep: clock_nanosleep(clockid: Clock, flags: Flags, request: Timespec, remain: Ptr) => time::sys_clock_nanosleep, Full, "";
    __NR_nanosleep: nanosleep(request: Timespec, remain: Ptr) => time::sys_nanosleep, Full, "";
    __NR_gettimeofday: gettimeofday(tv: Ptr, tz: Ptr) => time::sys_gettimeofday, Full, "";
    __NR_timer_create: timer_create(clockid: Clock, sevp: Ptr, timerid: Ptr) => timer::sys_timer_create, Full, "";
    __NR_timer_settime: timer_settime(timerid: Int, flags: Flags, new_value: Ptr, old_value: Ptr) => timer::sys_timer_settime, Full, "";
    __NR_timer_gettime: timer_gettime(timerid: Int, curr_value: Ptr) => timer::sys_timer_gettime, Full, "";
    __NR_timer_getoverrun: timer_getoverrun(timerid: Int) => timer::sys_timer_getoverrun, Full, "";
    __NR_timer_delete: timer_delete(timerid: Int) => timer::sys_timer_delete, Full, "";
    __NR_setitimer: setitimer(which: Int, new_value: Ptr, old_value: Ptr) => timer::sys_setitimer, Partial, "ITIMER_VIRTUAL counts time in calls, too";
    __NR_getitimer: getitimer(which: Int, curr_value: Ptr) => timer::sys_getitimer, Full, "";
    __NR_alarm: alarm(seconds: Int) => timer::sys_alarm, Full, "";
    __NR_times: times(buf: Ptr) => time::sys_times, Partial, "user time only";
    __NR_time: time(tloc: Ptr) => time::sys_time, Full, "";

    // Sockets
    __NR_socket: socket(domain: Int, type_: Int, protocol: Int) => socket::sys_socket, Partial, "TCP and UDP over IPv4 and IPv6, AF_UNIX, AF_VSOCK streams, and AF_NETLINK for what links, addresses and routes there are";
    __NR_socketpair: socketpair(domain: Int, type_: Int, protocol: Int, sv: Ptr) => socket::sys_socketpair, Full, "";
    __NR_bind: bind(fd: Fd, addr: SockAddr, addrlen: Size) => socket::sys_bind, Full, "";
    __NR_listen: listen(fd: Fd, backlog: Int) => socket::sys_listen, Full, "";
    __NR_accept: accept(fd: Fd, addr: Ptr, addrlen: Ptr) => socket::sys_accept, Full, "";
    __NR_accept4: accept4(fd: Fd, addr: Ptr, addrlen: Ptr, flags: Flags) => socket::sys_accept4, Full, "";
    __NR_connect: connect(fd: Fd, addr: SockAddr, addrlen: Size) => socket::sys_connect, Full, "";
    __NR_shutdown: shutdown(fd: Fd, how: Int) => socket::sys_shutdown, Full, "";
    __NR_getsockname: getsockname(fd: Fd, addr: Ptr, addrlen: Ptr) => socket::sys_getsockname, Full, "";
    __NR_getpeername: getpeername(fd: Fd, addr: Ptr, addrlen: Ptr) => socket::sys_getpeername, Full, "";
    __NR_sendto: sendto(fd: Fd, buf: InBuf, len: Size, flags: Flags, dest_addr: SockAddr, addrlen: Size) => message::sys_sendto, Partial, "urgent data of TCP alone";
    __NR_recvfrom: recvfrom(fd: Fd, buf: OutBuf, len: Size, flags: Flags, src_addr: Ptr, addrlen: Ptr) => message::sys_recvfrom, Partial, "urgent data of TCP alone";
    __NR_sendmsg: sendmsg(fd: Fd, msg: Ptr, flags: Flags) => message::sys_sendmsg, Partial, "control messages: open files, credentials, what UDP has";
    __NR_recvmsg: recvmsg(fd: Fd, msg: Ptr, flags: Flags) => message::sys_recvmsg, Partial, "control messages: open files, credentials, what UDP has";
    __NR_sendmmsg: sendmmsg(fd: Fd, msgvec: Ptr, vlen: Int, flags: Flags) => message::sys_sendmmsg, Partial, "control messages: open files, credentials, what UDP has";
    __NR_recvmmsg: recvmmsg(fd: Fd, msgvec: Ptr, vlen: Int, flags: Flags, timeout: Timespec) => message::sys_recvmmsg, Partial, "control messages: open files, credentials, what UDP has";
    __NR_setsockopt: setsockopt(fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Size) => sockopt::sys_setsockopt, Partial, "buffer sizes are wishes";
    __NR_getsockopt: getsockopt(fd: Fd, level: Int, optname: Int, optval: Ptr, optlen: Ptr) => sockopt::sys_getsockopt, Partial, "TCP_INFO has what the kernel keeps, zero for the rest";

    // Bytes in and out
    __NR_read: read(fd: Fd, buf: OutBuf, count: Size) => io::sys_read, Full, "";
    __NR_write: write(fd: Fd, buf: InBuf, count: Size) => io::sys_write, Full, "";
    __NR_readv: readv(fd: Fd, iov: Ptr, iovcnt: Size) => io::sys_readv, Full, "";
    __NR_writev: writev(fd: Fd, iov: Ptr, iovcnt: Size) => io::sys_writev, Full, "";
    __NR_pread64: pread64(fd: Fd, buf: OutBuf, count: Size, offset: Int) => io::sys_pread64, Full, "";
    __NR_pwrite64: pwrite64(fd: Fd, buf: InBuf, count: Size, offset: Int) => io::sys_pwrite64, Full, "";
    __NR_preadv: preadv(fd: Fd, iov: Ptr, iovcnt: Size, offset: Int) => io::sys_preadv, Full, "";
    __NR_pwritev: pwritev(fd: Fd, iov: Ptr, iovcnt: Size, offset: Int) => io::sys_pwritev, Full, "";
    __NR_preadv2: preadv2(fd: Fd, iov: Ptr, iovcnt: Size, offset: Int, offset_high: Int, flags: Flags) => io::sys_preadv2, Partial, "hints only: RWF_HIPRI, RWF_NOWAIT";
    __NR_pwritev2: pwritev2(fd: Fd, iov: Ptr, iovcnt: Size, offset: Int, offset_high: Int, flags: Flags) => io::sys_pwritev2, Partial, "hints, and RWF_DSYNC and RWF_SYNC; no RWF_APPEND";
    __NR_sendfile: sendfile(out_fd: Fd, in_fd: Fd, offset: Ptr, count: Size) => copy::sys_sendfile, Full, "";
    __NR_copy_file_range: copy_file_range(fd_in: Fd, off_in: Ptr, fd_out: Fd, off_out: Ptr, len: Size, flags: Flags) => copy::sys_copy_file_range, Full, "";

    __NR_splice: splice(fd_in: Fd, off_in: Ptr, fd_out: Fd, off_out: Ptr, len: Size, flags: Flags) => splice::sys_splice, Full, "";
    __NR_tee: tee(fd_in: Fd, fd_out: Fd, len: Size, flags: Flags) => splice::sys_tee, Full, "";
    __NR_vmsplice: vmsplice(fd: Fd, iov: Ptr, nr_segs: Size, flags: Flags) => splice::sys_vmsplice, Partial, "bytes are copied: pages are neither given nor mapped";

    // Rings
    __NR_io_uring_setup: io_uring_setup(entries: Int, params: Ptr) => uring::sys_io_uring_setup, Partial, "no IOPOLL";
    __NR_io_uring_enter: io_uring_enter(fd: Fd, to_submit: Int, min_complete: Int, flags: Flags, arg: Ptr, size: Size) => uring::sys_io_uring_enter, Partial, "no pipe, xattr, futex, waitid or epoll_wait operations, no zero-copy receive";
    __NR_io_uring_register: io_uring_register(fd: Fd, opcode: Int, arg: Ptr, nr_args: Int) => uring::sys_io_uring_register, Partial, "files, buffers, buffer rings, eventfd, probe, synchronous cancel; no resource tags, personalities, restrictions, registered rings or cloned buffers";
    __NR_lseek: lseek(fd: Fd, offset: Int, whence: Int) => io::sys_lseek, Full, "";

    // Descriptors
    __NR_close: close(fd: Fd) => descriptor::sys_close, Full, "";
    __NR_close_range: close_range(first: Size, last: Size, flags: Flags) => descriptor::sys_close_range, Full, "";
    __NR_dup: dup(oldfd: Fd) => descriptor::sys_dup, Full, "";
    __NR_dup2: dup2(oldfd: Fd, newfd: Fd) => descriptor::sys_dup2, Full, "";
    __NR_dup3: dup3(oldfd: Fd, newfd: Fd, flags: Flags) => descriptor::sys_dup3, Full, "";
    __NR_fcntl: fcntl(fd: Fd, cmd: Int, arg: Int) => descriptor::sys_fcntl, Partial, "duplicates, flags, pipe sizes, locks, seals, who gets SIGURG; no leases, no F_SETSIG";
    __NR_flock: flock(fd: Fd, operation: Flags) => lock::sys_flock, Full, "";
    __NR_ioctl: ioctl(fd: Fd, request: Flags, argp: Ptr) => descriptor::sys_ioctl, Partial, "FIONBIO, FIOCLEX, FIONREAD, FITRIM; sockets: queues, SIGURG, what interfaces there are; terminals: all but TCGETA and relatives, TIOCSTI, TIOCCONS";
    __NR_fsync: fsync(fd: Fd) => descriptor::sys_fsync, Full, "";
    __NR_fdatasync: fdatasync(fd: Fd) => descriptor::sys_fdatasync, Full, "";
    __NR_sync: sync() => descriptor::sys_sync, Full, "";
    __NR_syncfs: syncfs(fd: Fd) => descriptor::sys_syncfs, Full, "";
    __NR_sync_file_range: sync_file_range(fd: Fd, offset: Int, nbytes: Int, flags: Flags) => descriptor::sys_sync_file_range, Full, "";
    __NR_readahead: readahead(fd: Fd, offset: Int, count: Size) => descriptor::sys_readahead, Full, "";
    __NR_fadvise64: fadvise64(fd: Fd, offset: Int, len: Int, advice: Flags) => descriptor::sys_fadvise64, Full, "";

    // Waiting for files
    __NR_poll: poll(fds: Ptr, nfds: Size, timeout: Int) => polling::sys_poll, Full, "";
    __NR_ppoll: ppoll(fds: Ptr, nfds: Size, timeout: Timespec, sigmask: Ptr, size: Size) => polling::sys_ppoll, Full, "";
    __NR_select: select(nfds: Int, readfds: Ptr, writefds: Ptr, exceptfds: Ptr, timeout: Ptr) => polling::sys_select, Full, "";
    __NR_pselect6: pselect6(nfds: Int, readfds: Ptr, writefds: Ptr, exceptfds: Ptr, timeout: Timespec, sigmask: Ptr) => polling::sys_pselect6, Full, "";
    __NR_epoll_create: epoll_create(size: Int) => epoll::sys_epoll_create, Full, "";
    __NR_epoll_create1: epoll_create1(flags: Flags) => epoll::sys_epoll_create1, Full, "";
    __NR_epoll_ctl: epoll_ctl(epfd: Fd, op: Int, fd: Fd, event: Ptr) => ops::epoll::epoll_ctl, Partial, "an instance may watch instances, but no deeper";
    __NR_epoll_wait: epoll_wait(epfd: Fd, events: Ptr, maxevents: Int, timeout: Int) => epoll::sys_epoll_wait, Full, "";
    __NR_epoll_pwait: epoll_pwait(epfd: Fd, events: Ptr, maxevents: Int, timeout: Int, sigmask: Ptr, size: Size) => epoll::sys_epoll_pwait, Full, "";
    __NR_epoll_pwait2: epoll_pwait2(epfd: Fd, events: Ptr, maxevents: Int, timeout: Timespec, sigmask: Ptr, size: Size) => epoll::sys_epoll_pwait2, Full, "";

    // Files that are made, not opened
    __NR_pipe: pipe(pipefd: Ptr) => event::sys_pipe, Full, "";
    __NR_pipe2: pipe2(pipefd: Ptr, flags: Flags) => event::sys_pipe2, Partial, "no O_DIRECT";
    __NR_eventfd: eventfd(initval: Int) => event::sys_eventfd, Full, "";
    __NR_inotify_init: inotify_init() => inotify::sys_inotify_init, Full, "";
    __NR_inotify_init1: inotify_init1(flags: Flags) => inotify::sys_inotify_init1, Full, "";
    __NR_inotify_add_watch: inotify_add_watch(fd: Fd, pathname: Str, mask: Flags) => inotify::sys_inotify_add_watch, Partial, "a file that is unlinked while open is reported as deleted at once";
    __NR_inotify_rm_watch: inotify_rm_watch(fd: Fd, wd: Int) => inotify::sys_inotify_rm_watch, Full, "";
    __NR_mq_open: mq_open(name: Str, oflag: Flags, mode: Flags, attr: Ptr) => message_queue::sys_mq_open, Full, "";
    __NR_mq_unlink: mq_unlink(name: Str) => message_queue::sys_mq_unlink, Full, "";
    __NR_mq_timedsend: mq_timedsend(mqdes: Fd, msg_ptr: InBuf, msg_len: Size, msg_prio: Int, abs_timeout: Timespec) => message_queue::sys_mq_timedsend, Full, "";
    __NR_mq_timedreceive: mq_timedreceive(mqdes: Fd, msg_ptr: OutBuf, msg_len: Size, msg_prio: Ptr, abs_timeout: Timespec) => message_queue::sys_mq_timedreceive, Full, "";
    __NR_mq_notify: mq_notify(mqdes: Fd, sevp: Ptr) => message_queue::sys_mq_notify, Full, "";
    __NR_mq_getsetattr: mq_getsetattr(mqdes: Fd, newattr: Ptr, oldattr: Ptr) => message_queue::sys_mq_getsetattr, Full, "";
    __NR_eventfd2: eventfd2(initval: Int, flags: Flags) => event::sys_eventfd2, Full, "";
    __NR_signalfd: signalfd(fd: Fd, mask: Ptr, size: Size) => event::sys_signalfd, Full, "";
    __NR_signalfd4: signalfd4(fd: Fd, mask: Ptr, size: Size, flags: Flags) => event::sys_signalfd4, Full, "";
    __NR_timerfd_create: timerfd_create(clockid: Clock, flags: Flags) => event::sys_timerfd_create, Full, "";
    __NR_timerfd_settime: timerfd_settime(fd: Fd, flags: Flags, new_value: Ptr, old_value: Ptr) => event::sys_timerfd_settime, Partial, "TFD_TIMER_CANCEL_ON_SET has no effect";
    __NR_timerfd_gettime: timerfd_gettime(fd: Fd, curr_value: Ptr) => event::sys_timerfd_gettime, Full, "";

    // Paths
    __NR_open: open(pathname: Str, flags: Flags, mode: Flags) => open::sys_open, Full, "";
    __NR_creat: creat(pathname: Str, mode: Flags) => open::sys_creat, Full, "";
    __NR_openat: openat(dirfd: Fd, pathname: Str, flags: Flags, mode: Flags) => open::sys_openat, Full, "";
    __NR_openat2: openat2(dirfd: Fd, pathname: Str, how: Ptr, size: Size) => open::sys_openat2, Full, "";
    __NR_access: access(pathname: Str, mode: Flags) => path::sys_access, Full, "";
    __NR_faccessat: faccessat(dirfd: Fd, pathname: Str, mode: Flags) => path::sys_faccessat, Full, "";
    __NR_faccessat2: faccessat2(dirfd: Fd, pathname: Str, mode: Flags, flags: Flags) => path::sys_faccessat2, Full, "";
    __NR_readlink: readlink(pathname: Str, buf: OutBuf, bufsiz: Size) => path::sys_readlink, Full, "";
    __NR_readlinkat: readlinkat(dirfd: Fd, pathname: Str, buf: OutBuf, bufsiz: Size) => path::sys_readlinkat, Full, "";
    __NR_getcwd: getcwd(buf: OutBuf, size: Size) => path::sys_getcwd, Full, "";
    __NR_chdir: chdir(path: Str) => path::sys_chdir, Full, "";
    __NR_fchdir: fchdir(fd: Fd) => path::sys_fchdir, Full, "";
    __NR_umask: umask(mask: Flags) => path::sys_umask, Full, "";

    // Names
    __NR_mkdir: mkdir(pathname: Str, mode: Flags) => names::sys_mkdir, Full, "";
    __NR_mkdirat: mkdirat(dirfd: Fd, pathname: Str, mode: Flags) => ops::names::mkdirat, Full, "";
    __NR_mknod: mknod(pathname: Str, mode: Flags) => names::sys_mknod, Partial, "regular files and named pipes";
    __NR_mknodat: mknodat(dirfd: Fd, pathname: Str, mode: Flags) => ops::names::mknodat, Partial, "regular files and named pipes";
    __NR_symlink: symlink(target: Str, linkpath: Str) => names::sys_symlink, Full, "";
    __NR_symlinkat: symlinkat(target: Str, newdirfd: Fd, linkpath: Str) => ops::names::symlinkat, Full, "";
    __NR_link: link(oldpath: Str, newpath: Str) => names::sys_link, Full, "";
    __NR_linkat: linkat(olddirfd: Fd, oldpath: Str, newdirfd: Fd, newpath: Str, flags: Flags) => ops::names::linkat, Full, "";
    __NR_unlink: unlink(pathname: Str) => names::sys_unlink, Full, "";
    __NR_unlinkat: unlinkat(dirfd: Fd, pathname: Str, flags: Flags) => ops::names::unlinkat, Full, "";
    __NR_rmdir: rmdir(pathname: Str) => names::sys_rmdir, Full, "";
    __NR_rename: rename(oldpath: Str, newpath: Str) => names::sys_rename, Full, "";
    __NR_renameat: renameat(olddirfd: Fd, oldpath: Str, newdirfd: Fd, newpath: Str) => names::sys_renameat, Full, "";
    __NR_renameat2: renameat2(olddirfd: Fd, oldpath: Str, newdirfd: Fd, newpath: Str, flags: Flags) => ops::rename::renameat2, Partial, "no RENAME_WHITEOUT";
    __NR_memfd_create: memfd_create(name: Str, flags: Flags) => open::sys_memfd_create, Partial, "no huge pages";

    // Attributes
    __NR_chmod: chmod(pathname: Str, mode: Flags) => attributes::sys_chmod, Full, "";
    __NR_fchmod: fchmod(fd: Fd, mode: Flags) => attributes::sys_fchmod, Full, "";
    __NR_fchmodat: fchmodat(dirfd: Fd, pathname: Str, mode: Flags) => attributes::sys_fchmodat, Full, "";
    __NR_fchmodat2: fchmodat2(dirfd: Fd, pathname: Str, mode: Flags, flags: Flags) => attributes::sys_fchmodat2, Full, "";
    __NR_chown: chown(pathname: Str, owner: Int, group: Int) => attributes::sys_chown, Full, "";
    __NR_lchown: lchown(pathname: Str, owner: Int, group: Int) => attributes::sys_lchown, Full, "";
    __NR_fchown: fchown(fd: Fd, owner: Int, group: Int) => attributes::sys_fchown, Full, "";
    __NR_fchownat: fchownat(dirfd: Fd, pathname: Str, owner: Int, group: Int, flags: Flags) => attributes::sys_fchownat, Full, "";
    __NR_utime: utime(filename: Str, times: Ptr) => attributes::sys_utime, Full, "";
    __NR_utimes: utimes(filename: Str, times: Ptr) => attributes::sys_utimes, Full, "";
    __NR_futimesat: futimesat(dirfd: Fd, pathname: Str, times: Ptr) => attributes::sys_futimesat, Full, "";
    __NR_utimensat: utimensat(dirfd: Fd, pathname: Str, times: Ptr, flags: Flags) => attributes::sys_utimensat, Full, "";
    __NR_truncate: truncate(path: Str, length: Int) => attributes::sys_truncate, Full, "";
    __NR_ftruncate: ftruncate(fd: Fd, length: Int) => attributes::sys_ftruncate, Full, "";
    __NR_fallocate: fallocate(fd: Fd, mode: Flags, offset: Int, len: Int) => attributes::sys_fallocate, Partial, "no collapsing, inserting or unsharing of ranges";

    // Extended attributes
    __NR_setxattr: setxattr(path: Str, name: Str, value: InBuf, size: Size, flags: Flags) => xattr::sys_setxattr, Partial, "files on disks only";
    __NR_getxattr: getxattr(path: Str, name: Str, value: OutBuf, size: Size) => xattr::sys_getxattr, Partial, "files on disks only";
    __NR_listxattr: listxattr(path: Str, list: OutBuf, size: Size) => xattr::sys_listxattr, Partial, "files on disks only";
    __NR_removexattr: removexattr(path: Str, name: Str) => xattr::sys_removexattr, Partial, "files on disks only";
    __NR_lsetxattr: lsetxattr(path: Str, name: Str, value: InBuf, size: Size, flags: Flags) => xattr::sys_lsetxattr, Partial, "files on disks only";
    __NR_lgetxattr: lgetxattr(path: Str, name: Str, value: OutBuf, size: Size) => xattr::sys_lgetxattr, Partial, "files on disks only";
    __NR_llistxattr: llistxattr(path: Str, list: OutBuf, size: Size) => xattr::sys_llistxattr, Partial, "files on disks only";
    __NR_lremovexattr: lremovexattr(path: Str, name: Str) => xattr::sys_lremovexattr, Partial, "files on disks only";
    __NR_fsetxattr: fsetxattr(fd: Fd, name: Str, value: InBuf, size: Size, flags: Flags) => xattr::sys_fsetxattr, Partial, "files on disks only";
    __NR_fgetxattr: fgetxattr(fd: Fd, name: Str, value: OutBuf, size: Size) => xattr::sys_fgetxattr, Partial, "files on disks only";
    __NR_flistxattr: flistxattr(fd: Fd, list: OutBuf, size: Size) => xattr::sys_flistxattr, Partial, "files on disks only";
    __NR_fremovexattr: fremovexattr(fd: Fd, name: Str) => xattr::sys_fremovexattr, Partial, "files on disks only";

    // What files are
    __NR_stat: stat(pathname: Str, statbuf: Ptr) => stat::sys_stat, Full, "";
    __NR_lstat: lstat(pathname: Str, statbuf: Ptr) => stat::sys_lstat, Full, "";
    __NR_fstat: fstat(fd: Fd, statbuf: Ptr) => stat::sys_fstat, Full, "";
    __NR_newfstatat: newfstatat(dirfd: Fd, pathname: Str, statbuf: Ptr, flags: Flags) => stat::sys_newfstatat, Full, "";
    __NR_statx: statx(dirfd: Fd, pathname: Str, flags: Flags, mask: Flags, statxbuf: Ptr) => ops::stat::statx, Partial, "no attributes";
    __NR_statfs: statfs(path: Str, buf: Ptr) => stat::sys_statfs, Full, "";
    __NR_fstatfs: fstatfs(fd: Fd, buf: Ptr) => stat::sys_fstatfs, Full, "";
    __NR_getdents64: getdents64(fd: Fd, dirp: Ptr, count: Size) => stat::sys_getdents64, Full, "";

    // Identity and limits
    __NR_getpid: getpid() => identity::sys_getpid, Full, "";
    __NR_getppid: getppid() => identity::sys_zero, Full, "";
    __NR_getuid: getuid() => credentials::sys_getuid, Full, "";
    __NR_geteuid: geteuid() => credentials::sys_geteuid, Full, "";
    __NR_getgid: getgid() => credentials::sys_getgid, Full, "";
    __NR_getegid: getegid() => credentials::sys_getegid, Full, "";
    __NR_setuid: setuid(uid: Int) => credentials::sys_setuid, Full, "";
    __NR_setgid: setgid(gid: Int) => credentials::sys_setgid, Full, "";
    __NR_setreuid: setreuid(ruid: Int, euid: Int) => credentials::sys_setreuid, Full, "";
    __NR_setregid: setregid(rgid: Int, egid: Int) => credentials::sys_setregid, Full, "";
    __NR_setresuid: setresuid(ruid: Int, euid: Int, suid: Int) => credentials::sys_setresuid, Full, "";
    __NR_setresgid: setresgid(rgid: Int, egid: Int, sgid: Int) => credentials::sys_setresgid, Full, "";
    __NR_setfsuid: setfsuid(fsuid: Int) => credentials::sys_setfsuid, Full, "";
    __NR_setfsgid: setfsgid(fsgid: Int) => credentials::sys_setfsgid, Full, "";
    __NR_getresuid: getresuid(ruid: Ptr, euid: Ptr, suid: Ptr) => credentials::sys_getresuid, Full, "";
    __NR_getresgid: getresgid(rgid: Ptr, egid: Ptr, sgid: Ptr) => credentials::sys_getresgid, Full, "";
    __NR_getgroups: getgroups(count: Int, list: Ptr) => credentials::sys_getgroups, Full, "";
    __NR_setgroups: setgroups(count: Size, list: Ptr) => credentials::sys_setgroups, Full, "";
    __NR_capget: capget(header: Ptr, data: Ptr) => credentials::sys_capget, Full, "";
    __NR_capset: capset(header: Ptr, data: Ptr) => credentials::sys_capset, Full, "";
    __NR_getpgrp: getpgrp() => identity::sys_getpid, Full, "";
    __NR_getpgid: getpgid(pid: Int) => identity::sys_getpgid, Full, "";
    __NR_getsid: getsid(pid: Int) => identity::sys_getpgid, Full, "";
    __NR_setsid: setsid() => identity::sys_setsid, Full, "";
    __NR_setpgid: setpgid(pid: Int, pgid: Int) => identity::sys_setpgid, Full, "";
    __NR_init_module: init_module(module_image: Ptr, len: Size, param_values: Str) => module::sys_init_module, Partial, "modules of this kernel (docs/modules.md), until they are sealed: unless `modules=open`, when the app starts";
    __NR_finit_module: finit_module(fd: Fd, param_values: Str, flags: Flags) => module::sys_finit_module, Partial, "as init_module; versions are never ignored (ENOEXEC), and no file is compressed (EOPNOTSUPP)";
    __NR_delete_module: delete_module(name: Str, flags: Flags) => module::sys_delete_module, Partial, "as init_module; a module in use is EBUSY, by force, too";
    __NR_uname: uname(buf: Ptr) => identity::sys_uname, Full, "";
    __NR_sysinfo: sysinfo(info: Ptr) => identity::sys_sysinfo, Partial, "load averages, buffers and swap are zero";
    __NR_getrandom: getrandom(buf: Ptr, buflen: Size, flags: Flags) => identity::sys_getrandom, Full, "";
    __NR_prlimit64: prlimit64(pid: Int, resource: Int, new_limit: Ptr, old_limit: Ptr) => identity::sys_prlimit64, Partial, "no core dumps; see setrlimit in docs/boundary.md";
    __NR_getrlimit: getrlimit(resource: Int, rlim: Ptr) => identity::sys_getrlimit, Full, "";
    __NR_setrlimit: setrlimit(resource: Int, rlim: Ptr) => identity::sys_setrlimit, Partial, "no core dumps; see setrlimit in docs/boundary.md";
    __NR_getrusage: getrusage(who: Int, usage: Ptr) => identity::sys_getrusage, Partial, "user time only";
    __NR_personality: personality(persona: Int) => identity::sys_personality, Partial, "remembered, without effect";
    __NR_prctl: prctl(option: Int, arg2: Ptr, arg3: Size, arg4: Size, arg5: Size) => prctl::sys_prctl, Partial, "names; most other options are kept and have no effect, or are refused";
    __NR_landlock_create_ruleset: landlock_create_ruleset(attr: Ptr, size: Size, flags: Flags) => landlock::sys_landlock_create_ruleset, Partial, "version 4: files and TCP ports";
    __NR_landlock_add_rule: landlock_add_rule(ruleset_fd: Fd, rule_type: Int, rule_attr: Ptr, flags: Flags) => landlock::sys_landlock_add_rule, Partial, "4,096 rules of a kind at most";
    __NR_landlock_restrict_self: landlock_restrict_self(ruleset_fd: Fd, flags: Flags) => landlock::sys_landlock_restrict_self, Full, "";
    __NR_seccomp: seccomp(operation: Int, flags: Flags, args: Ptr) => seccomp::sys_seccomp, Partial, "no supervisors: SECCOMP_FILTER_FLAG_NEW_LISTENER is EINVAL, SECCOMP_RET_USER_NOTIF answers ENOSYS; there are no tracers";
    __NR_arch_prctl: arch_prctl(code: Int, addr: Ptr) => identity::sys_arch_prctl, Partial, "FS base only: ring 3 sets GS with wrgsbase";
}
