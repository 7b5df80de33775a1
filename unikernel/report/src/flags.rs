//! Names for the numbers in system-call arguments: bits that are combined, and choices of which
//! one is taken, by call and argument as the dispatcher's table names them.

use core::fmt::{Result, Write};

use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::{FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, TCGETS, TIOCGWINSZ};
use linux_raw_sys::net::*;
use linux_raw_sys::prctl::{PR_GET_NAME, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_VMA};

type Names = &'static [(u32, &'static str)];

/// The bits of an argument that together choose one of several names, and the bits with a name each.
#[derive(Clone, Copy)]
struct Meaning {
    choice_mask: u32,
    choices: Names,
    bits: Names,
}

macro_rules! names {
    ($($name:ident)*) => { &[$(($name as u32, stringify!($name))),*] };
}

/// An argument whose value is one of these.
const fn one_of(choices: Names) -> Meaning {
    Meaning { choice_mask: u32::MAX, choices, bits: &[] }
}

/// An argument that combines these.
const fn any_of(bits: Names) -> Meaning {
    Meaning { choice_mask: 0, choices: &[], bits }
}

const PROTECTION: Meaning =
    Meaning { choice_mask: 0, choices: names!(PROT_NONE), bits: names!(PROT_READ PROT_WRITE PROT_EXEC) };
const MAPPING: Meaning = Meaning {
    choice_mask: MAP_TYPE,
    choices: names!(MAP_SHARED MAP_PRIVATE MAP_SHARED_VALIDATE),
    bits: names!(MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_STACK MAP_HUGETLB MAP_FIXED_NOREPLACE),
};
const REMAPPING: Meaning = any_of(names!(MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP));
const ADVICE: Meaning = one_of(
    names!(MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_HUGEPAGE MADV_NOHUGEPAGE),
);
const SYNC: Meaning = any_of(names!(MS_ASYNC MS_INVALIDATE MS_SYNC));
const CLONE: Meaning = any_of(names!(
    CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_VFORK CLONE_THREAD CLONE_SYSVSEM CLONE_SETTLS
    CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_DETACHED CLONE_CHILD_SETTID
));
const FUTEX: Meaning = Meaning {
    choice_mask: !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME),
    choices: names!(FUTEX_WAIT FUTEX_WAKE FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET),
    bits: names!(FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME),
};
const MASKING: Meaning = one_of(names!(SIG_BLOCK SIG_UNBLOCK SIG_SETMASK));
const CLOCK: Meaning = one_of(names!(
    CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW
    CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME
));
const SLEEPING: Meaning = any_of(names!(TIMER_ABSTIME));
const DOMAIN: Meaning = one_of(names!(AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET));
const SOCKET: Meaning = Meaning {
    choice_mask: 0xf,
    choices: names!(SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET),
    bits: SOCKET_BITS,
};
/// `SOCK_NONBLOCK` and `SOCK_CLOEXEC` are the bits of `open` (socket(2)).
const SOCKET_BITS: Names = &[(O_NONBLOCK, "SOCK_NONBLOCK"), (O_CLOEXEC, "SOCK_CLOEXEC")];
const PROTOCOL: Meaning = one_of(names!(IPPROTO_IP IPPROTO_ICMP IPPROTO_TCP IPPROTO_UDP IPPROTO_ICMPV6));
const SHUTDOWN: Meaning = one_of(names!(SHUT_RD SHUT_WR SHUT_RDWR));
const MESSAGE: Meaning = any_of(names!(
    MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_TRUNC MSG_DONTWAIT MSG_WAITALL MSG_ERRQUEUE MSG_NOSIGNAL MSG_MORE MSG_CMSG_CLOEXEC
));
const OPTION_LEVEL: Meaning = one_of(&[
    (SOL_SOCKET, "SOL_SOCKET"),
    (IPPROTO_IP as u32, "IPPROTO_IP"),
    (IPPROTO_TCP as u32, "IPPROTO_TCP"),
    (IPPROTO_UDP as u32, "IPPROTO_UDP"),
    (IPPROTO_IPV6 as u32, "IPPROTO_IPV6"),
]);
const SOCKET_OPTION: Meaning = one_of(names!(
    SO_REUSEADDR SO_TYPE SO_ERROR SO_BROADCAST SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_LINGER SO_REUSEPORT
    SO_RCVLOWAT SO_RCVTIMEO SO_SNDTIMEO SO_ACCEPTCONN SO_PROTOCOL SO_DOMAIN SO_BINDTODEVICE SO_PRIORITY SO_MARK
));
const TCP_OPTION: Meaning = one_of(names!(
    TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2 TCP_DEFER_ACCEPT
    TCP_WINDOW_CLAMP TCP_INFO TCP_QUICKACK TCP_CONGESTION TCP_USER_TIMEOUT TCP_FASTOPEN TCP_NOTSENT_LOWAT
));
const IP_OPTION: Meaning = one_of(names!(
    IP_TOS IP_TTL IP_PKTINFO IP_MTU_DISCOVER IP_RECVERR IP_RECVTOS IP_MULTICAST_IF IP_MULTICAST_TTL IP_MULTICAST_LOOP
    IP_ADD_MEMBERSHIP IP_DROP_MEMBERSHIP
));
const IPV6_OPTION: Meaning = one_of(
    names!(IPV6_V6ONLY IPV6_UNICAST_HOPS IPV6_MULTICAST_HOPS IPV6_MULTICAST_LOOP IPV6_RECVPKTINFO IPV6_RECVTCLASS),
);
const WHENCE: Meaning = one_of(names!(SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE));
const CONTROL: Meaning = one_of(
    names!(F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ),
);
const DEVICE_CONTROL: Meaning = one_of(names!(FIONBIO FIONREAD FIOCLEX FIONCLEX TCGETS TIOCGWINSZ));
const OPEN: Meaning = Meaning {
    choice_mask: O_ACCMODE,
    choices: names!(O_RDONLY O_WRONLY O_RDWR),
    bits: names!(
        O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_DSYNC O_DIRECT O_LARGEFILE O_DIRECTORY O_NOFOLLOW
        O_NOATIME O_CLOEXEC O_PATH
    ),
};
const CREATED: Meaning = any_of(names!(O_CLOEXEC O_NONBLOCK O_DIRECT));
const COUNTER: Meaning = any_of(names!(EFD_SEMAPHORE EFD_CLOEXEC EFD_NONBLOCK));
const TIMER: Meaning = any_of(names!(TFD_CLOEXEC TFD_NONBLOCK));
const TIMER_SETTING: Meaning = any_of(names!(TFD_TIMER_ABSTIME TFD_TIMER_CANCEL_ON_SET));
const WATCHING: Meaning = any_of(names!(EPOLL_CLOEXEC));
const WATCH: Meaning = one_of(names!(EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD));
const ACCESS: Meaning = Meaning { choice_mask: 0, choices: names!(F_OK), bits: names!(R_OK W_OK X_OK) };
const PATH: Meaning = any_of(
    names!(AT_SYMLINK_NOFOLLOW AT_EACCESS AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH AT_STATX_FORCE_SYNC AT_STATX_DONT_SYNC),
);
const RANDOM: Meaning = any_of(names!(GRND_NONBLOCK GRND_RANDOM GRND_INSECURE));
const LIMIT: Meaning = one_of(names!(
    RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK RLIMIT_AS
));
const PROCESS_CONTROL: Meaning = one_of(names!(PR_SET_NAME PR_GET_NAME PR_SET_DUMPABLE PR_SET_VMA));
const POLL_EVENTS: Meaning = any_of(names!(POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDHUP));
const EPOLL_EVENTS: Meaning = any_of(names!(
    EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLEXCLUSIVE EPOLLWAKEUP EPOLLONESHOT EPOLLET
));

/// What an argument of a call means, if its values have names.
fn meaning(call: &str, argument: &str) -> Option<Meaning> {
    Some(match (call, argument) {
        ("mmap" | "mprotect", "prot") => PROTECTION,
        ("mmap", "flags") => MAPPING,
        ("mremap", "flags") => REMAPPING,
        ("madvise", "advice") => ADVICE,
        ("msync", "flags") => SYNC,
        ("clone", "clone_flags") => CLONE,
        ("futex", "op") => FUTEX,
        ("rt_sigprocmask", "how") => MASKING,
        (_, "clockid") => CLOCK,
        ("clock_nanosleep", "flags") => SLEEPING,
        ("socket" | "socketpair", "domain") => DOMAIN,
        ("socket" | "socketpair", "type_") => SOCKET,
        ("socket" | "socketpair", "protocol") => PROTOCOL,
        ("accept4", "flags") => any_of(SOCKET_BITS),
        ("shutdown", "how") => SHUTDOWN,
        ("sendto" | "recvfrom" | "sendmsg" | "recvmsg" | "sendmmsg" | "recvmmsg", "flags") => MESSAGE,
        ("setsockopt" | "getsockopt", "level") => OPTION_LEVEL,
        ("lseek", "whence") => WHENCE,
        ("fcntl", "cmd") => CONTROL,
        ("ioctl", "request") => DEVICE_CONTROL,
        ("open" | "openat", "flags") => OPEN,
        ("dup3" | "pipe2", "flags") => CREATED,
        ("eventfd2", "flags") => COUNTER,
        ("timerfd_create", "flags") => TIMER,
        ("timerfd_settime", "flags") => TIMER_SETTING,
        ("epoll_create1", "flags") => WATCHING,
        ("epoll_ctl", "op") => WATCH,
        ("access" | "faccessat" | "faccessat2", "mode") => ACCESS,
        ("newfstatat" | "statx" | "faccessat2" | "unlinkat", "flags") => PATH,
        ("getrandom", "flags") => RANDOM,
        ("prlimit64" | "getrlimit" | "setrlimit", "resource") => LIMIT,
        ("prctl", "option") => PROCESS_CONTROL,
        _ => return None,
    })
}

/// Writes an argument's value by name; `None` if this argument's values have no names.
pub fn write(out: &mut impl Write, call: &str, argument: &str, value: u32) -> Option<Result> {
    meaning(call, argument).map(|meaning| meaning.write(out, value))
}

/// Writes the name of a socket option of `level`.
pub fn write_socket_option(out: &mut impl Write, level: u32, option: u32) -> Result {
    let names = [
        (SOL_SOCKET, SOCKET_OPTION),
        (IPPROTO_TCP as u32, TCP_OPTION),
        (IPPROTO_IP as u32, IP_OPTION),
        (IPPROTO_IPV6 as u32, IPV6_OPTION),
    ];
    match names.iter().find(|(of_level, _)| *of_level == level) {
        Some((_, meaning)) => meaning.write(out, option),
        None => write!(out, "{option}"),
    }
}

/// Writes the events of `epoll_ctl` and `epoll_wait`.
pub fn write_epoll_events(out: &mut impl Write, events: u32) -> Result {
    EPOLL_EVENTS.write(out, events)
}

/// Writes the events of `poll`.
pub fn write_poll_events(out: &mut impl Write, events: u16) -> Result {
    POLL_EVENTS.write(out, u32::from(events))
}

impl Meaning {
    fn write(self, out: &mut impl Write, value: u32) -> Result {
        let chosen = value & self.choice_mask;
        let choice = self.choices.iter().find(|(choice, _)| *choice == chosen);
        // With no bits of its own, a choice stands for the absence of all others.
        let choice = choice.filter(|_| self.choice_mask != 0 || value == 0);
        let bits = self.bits.iter().filter(|(bit, _)| value & !self.choice_mask & bit == *bit);
        let mut rest = if choice.is_some() { value & !self.choice_mask } else { value };
        let mut separator = "";
        if let Some((_, name)) = choice {
            out.write_str(name)?;
            separator = "|";
        }
        for (bit, name) in bits {
            write!(out, "{separator}{name}")?;
            separator = "|";
            rest &= !bit;
        }
        match (rest, separator) {
            (0, "") => out.write_str("0"),
            (0, _) => Ok(()),
            (rest, _) => write!(out, "{separator}{rest:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    fn text(call: &str, argument: &str, value: u32) -> String {
        let mut text = String::new();
        write(&mut text, call, argument, value).expect("a named argument").expect("strings take everything");
        text
    }

    #[test]
    fn combined_bits_are_joined() {
        assert_eq!(text("mmap", "prot", 3), "PROT_READ|PROT_WRITE");
        assert_eq!(text("mmap", "flags", 0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(text("openat", "flags", 0x80000), "O_RDONLY|O_CLOEXEC");
        assert_eq!(text("socket", "type_", 0x80801), "SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC");
        assert_eq!(text("futex", "op", 0x80), "FUTEX_WAIT|FUTEX_PRIVATE_FLAG");
    }

    #[test]
    fn zero_has_its_own_name_or_none() {
        assert_eq!(text("mprotect", "prot", 0), "PROT_NONE");
        assert_eq!(text("access", "mode", 0), "F_OK");
        assert_eq!(text("openat", "flags", 0), "O_RDONLY");
        assert_eq!(text("recvfrom", "flags", 0), "0");
    }

    #[test]
    fn unknown_values_are_shown_as_numbers() {
        assert_eq!(text("mprotect", "prot", 0x101), "PROT_READ|0x100");
        assert_eq!(text("lseek", "whence", 77), "0x4d");
        assert_eq!(text("socket", "type_", 0x80009), "SOCK_CLOEXEC|0x9");
        assert!(write(&mut String::new(), "read", "count", 1).is_none());
    }

    #[test]
    fn socket_options_are_named_by_level() {
        let option = |level: u32, option| {
            let mut text = String::new();
            write_socket_option(&mut text, level, option).unwrap();
            text
        };
        // socket(7), tcp(7): the same number means different things.
        assert_eq!(option(1, 2), "SO_REUSEADDR");
        assert_eq!(option(6, 1), "TCP_NODELAY");
        assert_eq!(option(6, 2), "TCP_MAXSEG");
        assert_eq!(option(99, 2), "2");
    }

    proptest! {
        #[test]
        fn every_value_has_a_text(value: u32, index in 0usize..6) {
            let arguments =
                [("mmap", "flags"), ("socket", "type_"), ("openat", "flags"), ("futex", "op"), ("mprotect", "prot"), ("fcntl", "cmd")];
            let (call, argument) = arguments[index];
            prop_assert!(!text(call, argument, value).is_empty());
        }
    }
}
