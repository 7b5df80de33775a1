//! What is not asked, and why; and arguments for which the good value is a special one.

use crate::Bad;

/// How much of a call is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Skip {
    Nothing,
    Value,
    Whole,
}

/// Calls that are not made at all.
const WHOLE: &[&str] = &[
    // They end the program, or a thread of it.
    "exit",
    "exit_group",
    // They take the program's memory away.
    "brk",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    // Linux would make a second program of it, and `ENOSYS` is our answer by design.
    "clone",
    "clone3",
    "fork",
    "vfork",
    "execve",
    "execveat",
    "rseq",
    // They would reach the programs around the test.
    "kill",
    "tkill",
    "tgkill",
    "setrlimit",
    // They would make the test another user, lock memory of the host, or slow the host's other programs down.
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
    "mlockall",
    "setpriority",
    // It would forbid the test its own calls.
    "seccomp",
    // Whether it takes modules is the host's affair.
    "init_module",
    "finit_module",
    "delete_module",
    // Whether there are protection keys is the processor's affair.
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    // They would take the test's own descriptors or its alarm.
    "close_range",
    "setitimer",
    "alarm",
];

/// Values that are zero as an `int`.
const LOW_WORD_ZERO: &[Bad] = &[Bad::Zero, Bad::Kernel, Bad::NonCanonical, Bad::Huge];

/// Single values that are not tried: call, argument, value.
const VALUES: &[(&str, &str, &[Bad])] = &[
    // It would unmap, move or protect what lies behind.
    ("munmap", "length", &[Bad::MaxInt]),
    ("mprotect", "len", &[Bad::MaxInt]),
    ("mremap", "old_size", &[Bad::MaxInt]),
    ("madvise", "length", &[Bad::MaxInt]),
    ("mremap", "old_size", &[Bad::Unmapped, Bad::Boundary]),
    // Memory is not promised beyond what there is (docs/architecture.md), and a guest has little.
    ("mmap", "length", &[Bad::MaxInt]),
    ("mremap", "new_size", &[Bad::MaxInt]),
    ("fallocate", "len", &[Bad::MaxInt]),
    // Write and execute at once, which is refused by design.
    ("mmap", "prot", &[Bad::AllOnes, Bad::MaxInt]),
    // How many descriptors there may be is a setting of the host.
    ("dup2", "newfd", &[Bad::Unmapped, Bad::Boundary]),
    ("dup3", "newfd", &[Bad::Unmapped, Bad::Boundary]),
    ("fcntl", "arg", &[Bad::Unmapped, Bad::Boundary]),
    ("poll", "nfds", &[Bad::Unmapped, Bad::Boundary]),
    ("ppoll", "nfds", &[Bad::Unmapped, Bad::Boundary]),
    // Which numbers timers get is the system's affair.
    ("timer_settime", "timerid", LOW_WORD_ZERO),
    ("timer_gettime", "timerid", LOW_WORD_ZERO),
    ("timer_getoverrun", "timerid", LOW_WORD_ZERO),
    ("timer_delete", "timerid", LOW_WORD_ZERO),
    // Another program of the host, but the appliance itself.
    ("get_robust_list", "pid", &[Bad::One]),
    ("setpgid", "pid", &[Bad::One]),
    // A flag of a later version than ours (LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF), which the host's Linux may have.
    ("landlock_restrict_self", "flags", &[Bad::One]),
    ("rt_sigqueueinfo", "tgid", &[Bad::One]),
];

/// What to leave out of a call, or of an argument's values.
pub(crate) fn skip(call: &str, value: Option<(&str, Bad)>) -> Skip {
    if WHOLE.contains(&call) {
        return Skip::Whole;
    }
    let is_listed = |&&(name, argument, values): &&(&str, &str, &[Bad])| {
        value.is_some_and(|(wanted, bad)| name == call && argument == wanted && values.contains(&bad))
    };
    if VALUES.iter().any(|entry| is_listed(&entry)) { Skip::Value } else { Skip::Nothing }
}

/// Kinds of descriptors that a call is not tried on.
pub(crate) fn skips_descriptor(call: &str, kind: &str) -> bool {
    match (call, kind) {
        // Receiving into mapped memory is not there, and so are its refusals.
        ("mmap", "tcp" | "listener") => true,
        // Sockets have no attribute `system.sockprotoname`.
        ("flistxattr", "tcp" | "listener" | "udp" | "unix") => true,
        // Files in memory are of one file system here.
        ("copy_file_range", "memfd") => true,
        // To write nothing to what cannot be written is refused by Linux, and no work to us.
        ("writev", "timerfd" | "signalfd" | "epoll") | ("readv", "epoll") => true,
        _ => false,
    }
}

/// Good values that the kind of an argument does not tell.
const BASELINE: &[(&str, &str, u64)] = &[
    ("", "size", 8),
    ("", "addrlen", 16),
    ("mmap", "addr", 0),
    ("mmap", "length", 4096),
    ("mmap", "prot", 3),
    ("mmap", "flags", 2),
    ("mmap", "offset", 0),
    ("mprotect", "prot", 3),
    ("mremap", "new_size", 4096),
    ("mremap", "flags", 1),
    ("madvise", "length", 4096),
    ("msync", "flags", 4),
    ("socket", "domain", 2),
    ("socket", "type_", 1),
    ("socketpair", "domain", 1),
    ("socketpair", "type_", 1),
    ("setsockopt", "level", 1),
    ("setsockopt", "optname", 2),
    ("setsockopt", "optlen", 4),
    ("getsockopt", "level", 1),
    ("getsockopt", "optname", 2),
    ("epoll_ctl", "op", 1),
    ("epoll_wait", "maxevents", 4),
    ("epoll_pwait", "maxevents", 4),
    ("epoll_pwait2", "maxevents", 4),
    ("epoll_create", "size", 1),
    ("ioctl", "request", 0x541b),
    ("rt_sigaction", "signum", 10),
    ("prctl", "option", 15),
    ("waitid", "options", 4),
    ("statx", "mask", 0xfff),
    ("futex", "op", 1),
    ("poll", "nfds", 1),
    ("ppoll", "nfds", 1),
    ("select", "nfds", 1),
    ("pselect6", "nfds", 1),
    ("readv", "iovcnt", 1),
    ("writev", "iovcnt", 1),
    ("preadv", "iovcnt", 1),
    ("pwritev", "iovcnt", 1),
    ("sendmmsg", "vlen", 1),
    ("recvmmsg", "vlen", 1),
    ("prlimit64", "new_limit", 0),
    ("io_uring_setup", "entries", 4),
    ("getdents64", "count", 512),
    ("openat2", "size", 24),
];

/// The good value of an argument, where it is a special one.
pub(crate) fn baseline(call: &str, argument: &str) -> Option<u64> {
    let matches = |name: &str, entry: &&(&str, &str, u64)| entry.0 == name && entry.1 == argument;
    let own = BASELINE.iter().find(|entry| matches(call, entry));
    own.or_else(|| BASELINE.iter().find(|entry| matches("", entry))).map(|entry| entry.2)
}
