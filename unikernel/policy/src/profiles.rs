//! The profiles of `allow-calls=`: names for sets of system calls. They are data, and this is the one place where they stand.
//!
//! | profile | who needs it |
//! |---|---|
//! | `net-server` | a server that accepts connections, answers, and reads files; it starts no connection, no program and changes no names |
//! | `storage` | a program that keeps files: it writes, syncs, makes, renames and removes them |
//! | `all` | a program from which single calls are taken away |
//!
//! Rings (`io_uring_setup`) are in none: what an operation of a ring does is judged as the call that does the same.

/// The profile of all calls.
pub(crate) const ALL: &str = "all";

/// Calls that are never refused: without them no thread could end, and no handler return.
pub(crate) const ALWAYS: &[&str] = &["exit", "exit_group", "rt_sigreturn", "restart_syscall"];

/// The profiles, and the groups that each is made of.
pub(crate) const PROFILES: &[(&str, &[&[&str]])] = &[
    ("net-server", &[MEMORY, THREADS, SIGNALS, TIME, BYTES, WAITING, SELF, LOOKING, SERVING, NARROWING]),
    ("storage", &[MEMORY, THREADS, SIGNALS, TIME, BYTES, WAITING, SELF, LOOKING, KEEPING, NARROWING]),
];

const MEMORY: &[&str] = &[
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "madvise",
    "brk",
    "mincore",
    "msync",
    "membarrier",
    "mlock",
    "munlock",
];

const THREADS: &[&str] = &[
    "clone",
    "clone3",
    "set_tid_address",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "futex",
    "futex_waitv",
    "gettid",
    "sched_yield",
    "sched_getaffinity",
    "sched_setaffinity",
    "getcpu",
    "arch_prctl",
    "prctl",
];

const SIGNALS: &[&str] = &[
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigpending",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "sigaltstack",
    "pause",
    // To itself: so C libraries end a program that has failed.
    "tgkill",
    "tkill",
    "signalfd",
    "signalfd4",
];

const TIME: &[&str] = &[
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    "times",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "setitimer",
    "getitimer",
    "alarm",
];

/// With descriptors that are open.
const BYTES: &[&str] = &[
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "preadv2",
    "pwritev2",
    "lseek",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "ioctl",
    "sendfile",
    "splice",
    "pipe",
    "pipe2",
];

const WAITING: &[&str] = &[
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd",
    "eventfd2",
];

/// Who the app is, and what it runs on.
const SELF: &[&str] = &[
    "getpid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
    "getpgrp",
    "getpgid",
    "getsid",
    "uname",
    "sysinfo",
    "getrandom",
    "getrlimit",
    "prlimit64",
    "getrusage",
];

/// Opening files and looking at them. What may be opened, and how, `allow-paths=` says.
const LOOKING: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "stat",
    "lstat",
    "fstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getdents64",
    "getcwd",
    "statfs",
    "fstatfs",
    "fadvise64",
    "readahead",
];

const SERVING: &[&str] = &[
    "socket",
    "socketpair",
    "bind",
    "listen",
    "accept",
    "accept4",
    "shutdown",
    "getsockname",
    "getpeername",
    "setsockopt",
    "getsockopt",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    "recvmmsg",
];

const KEEPING: &[&str] = &[
    "creat",
    "ftruncate",
    "truncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "sync",
    "syncfs",
    "sync_file_range",
    "flock",
    "copy_file_range",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "chdir",
    "fchdir",
    "umask",
    "chmod",
    "fchmod",
    "fchmodat",
    "utimensat",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
];

/// Calls that only take rights away from who makes them.
const NARROWING: &[&str] =
    &["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"];
