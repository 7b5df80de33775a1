//! A server that is taken over: whoever has it tries everything that would be worth something, under
//! `allow-calls=net-server allow-paths=r:/etc,r:/proc allow-net=bind:*:8080`. Each attempt is a line of the table below, with the
//! verdict that it must get. Only what a server needs is done.

use guest_tests::{check, raw_syscall};
use unikernel_report::calls;

/// What must come of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// `EPERM`.
    Refused,
    /// This error, which only who is let through gets.
    Fails(i32),
    /// It is done.
    Done,
}

use Verdict::{Done, Fails, Refused};

/// Calls that no server needs, by what they are good for. Arguments do not matter: the call is refused before they are looked at.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "other programs",
        &[
            "execve",
            "execveat",
            "fork",
            "vfork",
            "uselib",
            "wait4",
            "waitid",
            "personality",
            "setns",
            "unshare",
        ],
    ),
    (
        "other processes",
        &[
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "process_madvise",
            "process_mrelease",
            "kcmp",
            "pidfd_open",
            "pidfd_getfd",
            "pidfd_send_signal",
            "kill",
            "rt_sigqueueinfo",
            "rt_tgsigqueueinfo",
            "get_mempolicy",
            "migrate_pages",
            "move_pages",
        ],
    ),
    (
        "the kernel",
        &[
            "init_module",
            "finit_module",
            "delete_module",
            "kexec_load",
            "kexec_file_load",
            "reboot",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "syslog",
            "iopl",
            "ioperm",
            "modify_ldt",
            "lookup_dcookie",
            "acct",
            "quotactl",
            "swapon",
            "swapoff",
            "vhangup",
            "sysfs",
            "ustat",
            "nfsservctl",
            "fanotify_init",
            "fanotify_mark",
        ],
    ),
    (
        "who it is",
        &[
            "setuid",
            "setgid",
            "setreuid",
            "setregid",
            "setresuid",
            "setresgid",
            "setgroups",
            "setfsuid",
            "setfsgid",
            "capset",
            "capget",
            "setsid",
            "setpgid",
            "sethostname",
            "setdomainname",
        ],
    ),
    (
        "names",
        &[
            "unlink",
            "unlinkat",
            "rename",
            "renameat",
            "renameat2",
            "mkdir",
            "mkdirat",
            "rmdir",
            "link",
            "linkat",
            "symlink",
            "symlinkat",
            "mknod",
            "mknodat",
            "creat",
            "chmod",
            "fchmod",
            "fchmodat",
            "fchmodat2",
            "chown",
            "fchown",
            "lchown",
            "fchownat",
            "utime",
            "utimes",
            "utimensat",
            "futimesat",
            "truncate",
            "ftruncate",
            "fallocate",
            "chdir",
            "fchdir",
            "chroot",
            "umask",
            "copy_file_range",
            "inotify_init",
            "inotify_init1",
            "inotify_add_watch",
            "name_to_handle_at",
            "open_by_handle_at",
        ],
    ),
    (
        "attributes",
        &[
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "getxattr",
            "lgetxattr",
            "fgetxattr",
            "listxattr",
            "removexattr",
            "lremovexattr",
            "fremovexattr",
        ],
    ),
    (
        "mounts",
        &[
            "mount",
            "umount2",
            "pivot_root",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "open_tree",
            "move_mount",
            "mount_setattr",
        ],
    ),
    (
        "ways around",
        &[
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "io_setup",
            "io_submit",
            "io_getevents",
            "io_destroy",
        ],
    ),
    (
        "code of its own",
        &[
            "memfd_create",
            "memfd_secret",
            "pkey_mprotect",
            "pkey_alloc",
            "pkey_free",
            "remap_file_pages",
            "mlockall",
            "munlockall",
        ],
    ),
    ("connections", &["connect"]),
    ("clocks", &["clock_settime", "settimeofday", "adjtimex", "clock_adjtime", "timer_create"]),
    (
        "what others have",
        &[
            "shmget",
            "shmat",
            "shmctl",
            "shmdt",
            "semget",
            "semop",
            "semctl",
            "msgget",
            "msgsnd",
            "msgrcv",
            "msgctl",
            "mq_open",
            "mq_unlink",
            "add_key",
            "request_key",
            "keyctl",
        ],
    ),
    (
        "more than its share",
        &[
            "setrlimit",
            "setpriority",
            "ioprio_set",
            "sched_setscheduler",
            "sched_setparam",
            "sched_setattr",
            "mbind",
            "set_mempolicy",
        ],
    ),
    ("what disks keep", &["sync", "syncfs", "fsync", "fdatasync", "sync_file_range", "flock"]),
];

const NOWHERE: u64 = u64::MAX;

fn text(text: &'static core::ffi::CStr) -> u64 {
    text.as_ptr() as u64
}

/// An address of IPv4, as `struct sockaddr_in`.
fn address(ip: [u8; 4], port: u16) -> u64 {
    let [high, low] = port.to_be_bytes();
    let [a, b, c, d] = ip;
    Box::leak(Box::new([2, 0, high, low, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0])).as_ptr() as u64
}

/// What is let through to the kernel's own answer, and what the rules of paths and addresses say then.
fn judged() -> Vec<(&'static str, &'static str, [u64; 6], Verdict)> {
    let here = libc::AT_FDCWD as u64;
    let stream = raw_syscall(libc::SYS_socket, [2, 1, 0, 0, 0, 0]) as u64;
    let other = raw_syscall(libc::SYS_socket, [2, 1, 0, 0, 0, 0]) as u64;
    let unnamed = raw_syscall(libc::SYS_socket, [2, 1, 0, 0, 0, 0]) as u64;
    let datagrams = raw_syscall(libc::SYS_socket, [2, 2, 0, 0, 0, 0]) as u64;
    let any = [0; 4];
    let victim = address([10, 0, 2, 2], 22);
    let reading = libc::O_RDONLY as u64;
    let writing = libc::O_WRONLY as u64;
    let making = (libc::O_WRONLY | libc::O_CREAT) as u64;
    let cutting = (libc::O_RDONLY | libc::O_TRUNC) as u64;
    vec![
        // What a server does.
        ("serves", "bind", [stream, address(any, 8080), 16, 0, 0, 0], Done),
        ("serves", "listen", [stream, 16, 0, 0, 0, 0], Done),
        ("serves", "accept4", [NOWHERE, 0, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "accept", [NOWHERE, 0, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "recvfrom", [NOWHERE, 0, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "read", [NOWHERE, 0, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "write", [NOWHERE, 0, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "writev", [NOWHERE, 0, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "sendfile", [NOWHERE, NOWHERE, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "shutdown", [NOWHERE, 0, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "close", [NOWHERE, 0, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "fcntl", [NOWHERE, 1, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "epoll_ctl", [NOWHERE, 2, 0, 0, 0, 0], Fails(libc::EBADF)),
        ("serves", "getpid", [0; 6], Done),
        ("serves", "getrandom", [0; 6], Done),
        ("serves", "sched_yield", [0; 6], Done),
        // Reading: below the folders that are named.
        ("reads", "openat", [here, text(c"/etc/hosts"), reading, 0, 0, 0], Done),
        ("reads", "open", [text(c"/etc/passwd"), reading, 0, 0, 0, 0], Done),
        ("reads", "open", [text(c"/proc/self/status"), reading, 0, 0, 0, 0], Done),
        ("reads", "stat", [text(c"/none"), 0, 0, 0, 0, 0], Fails(libc::ENOENT)),
        ("reads what it must not", "open", [text(c"/dev/console"), reading, 0, 0, 0, 0], Refused),
        ("reads what it must not", "open", [text(c"/tmp"), reading, 0, 0, 0, 0], Refused),
        ("reads what it must not", "open", [text(c"/"), reading, 0, 0, 0, 0], Refused),
        ("reads what it must not", "open", [text(c"/etc/../dev/null"), reading, 0, 0, 0, 0], Refused),
        ("reads what it must not", "openat", [here, text(c"/sys"), reading, 0, 0, 0], Refused),
        // Writing: nowhere.
        ("writes", "open", [text(c"/etc/passwd"), writing, 0, 0, 0, 0], Refused),
        ("writes", "open", [text(c"/etc/passwd"), cutting, 0, 0, 0, 0], Refused),
        ("writes", "open", [text(c"/etc/cron.new"), making, 0o644, 0, 0, 0], Refused),
        ("writes", "openat", [here, text(c"/tmp/shell"), making, 0o755, 0, 0], Refused),
        ("writes", "openat", [here, text(c"/tmp/.profile"), making, 0o644, 0, 0], Refused),
        ("writes", "open", [text(c"/dev/null"), writing, 0, 0, 0, 0], Refused),
        ("writes", "open", [text(c"/tmp"), (libc::O_TMPFILE | libc::O_RDWR) as u64, 0o600, 0, 0, 0], Refused),
        // Addresses: its own port alone.
        ("other ports", "bind", [other, address(any, 22), 16, 0, 0, 0], Refused),
        ("other ports", "bind", [other, address(any, 8081), 16, 0, 0, 0], Refused),
        ("other ports", "bind", [other, address(any, 0), 16, 0, 0, 0], Refused),
        ("other ports", "bind", [datagrams, address(any, 53), 16, 0, 0, 0], Refused),
        ("other ports", "listen", [unnamed, 16, 0, 0, 0, 0], Refused),
        ("other machines", "sendto", [datagrams, text(c"x"), 1, 0, victim, 16], Refused),
        ("other machines", "connect", [other, victim, 16, 0, 0, 0], Refused),
        // A process of its own: that is not a matter of rules here.
        ("threads", "clone", [0; 6], Fails(libc::ENOSYS)),
    ]
}

fn number_of(name: &str) -> i64 {
    let number = (0..1024).find(|number| calls::name(*number) == Some(name));
    number.unwrap_or_else(|| panic!("{name}: no such call")).into()
}

fn try_one(what: &str, name: &str, args: [u64; 6], verdict: Verdict) -> bool {
    let result = raw_syscall(number_of(name), args);
    let came = match -result {
        _ if result >= 0 => Done,
        error if error == i64::from(libc::EPERM) => Refused,
        error => Fails(error as i32),
    };
    if came != verdict {
        println!("{what}: {name}{args:x?}: {came:?}, not {verdict:?}");
    }
    came == verdict
}

fn main() {
    let mut attempts = 0;
    let mut is_right = true;
    for (what, names) in REFUSED {
        for name in *names {
            attempts += 1;
            is_right &= try_one(what, name, [NOWHERE, 0, 0, 0, 0, 0], Refused);
        }
    }
    for (what, name, args, verdict) in judged() {
        attempts += 1;
        is_right &= try_one(what, name, args, verdict);
    }
    println!("{attempts} attempts");
    check!(attempts >= 200 && is_right);
}
