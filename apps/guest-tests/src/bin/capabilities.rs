//! What asks for a capability asks neither root nor anybody else (capabilities(7)): root who has given one up is refused, and
//! somebody else who has kept it is not.

use std::ffi::CStr;
use std::thread;

use guest_tests::{check, check_eq, raw_syscall};

const KEEP: u64 = u32::MAX as u64;
const SOMEBODY: u64 = 1000;
const EPERM: i64 = -(libc::EPERM as i64);

// linux/capability.h
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SETPCAP: u64 = 1 << 8;
const NET_BIND_SERVICE: u64 = 1 << 10;
const IPC_LOCK: u64 = 1 << 14;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_RESOURCE: u64 = 1 << 24;

/// Something that needs a capability, which leaves everything as it was.
struct Deed {
    name: &'static str,
    capability: u64,
    /// 0 or a descriptor, or the negative error number.
    attempt: fn() -> i64,
    /// What it answers without.
    refusal: i32,
}

const DEEDS: [Deed; 10] = [
    Deed { name: "setresuid", capability: SETUID, attempt: user, refusal: libc::EPERM },
    Deed { name: "setreuid", capability: SETUID, attempt: user_pair, refusal: libc::EPERM },
    Deed { name: "setresgid", capability: SETGID, attempt: group, refusal: libc::EPERM },
    Deed { name: "setregid", capability: SETGID, attempt: group_pair, refusal: libc::EPERM },
    Deed { name: "setgid", capability: SETGID, attempt: one_group, refusal: libc::EPERM },
    Deed { name: "setgroups", capability: SETGID, attempt: groups, refusal: libc::EPERM },
    Deed { name: "setrlimit", capability: SYS_RESOURCE, attempt: hard_limit, refusal: libc::EPERM },
    Deed { name: "mlock", capability: IPC_LOCK, attempt: locked_memory, refusal: libc::EPERM },
    Deed { name: "mq_open", capability: SYS_RESOURCE, attempt: long_queue, refusal: libc::EINVAL },
    Deed { name: "TIOCEXCL", capability: SYS_ADMIN, attempt: exclusive_terminal, refusal: libc::EBUSY },
];

fn main() {
    let held = permitted();
    // A container's root may lack some; what is needed to go through this is needed.
    let needed = SETGID | SETUID | SETPCAP | NET_BIND_SERVICE;
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 || held & needed != needed {
        println!("who has no capabilities has nothing to try");
        return;
    }
    call(libc::SYS_setgroups, [0; 3]);
    set_limit(libc::RLIMIT_MEMLOCK as u64, 0, 0);
    DEEDS.iter().for_each(|deed| try_with_and_without(deed, held));
    // Root may have as many threads as there can be.
    check_eq!(threads(), Ok(()));

    // SAFETY: values only.
    check_eq!(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }, 0);
    set_effective(held, held);
    check_eq!(call(libc::SYS_setresuid, [SOMEBODY; 3]), 0);
    DEEDS.iter().for_each(|deed| try_with_and_without(deed, held));
    check_eq!(threads(), Err(libc::EAGAIN));
    for capability in [SYS_ADMIN, SYS_RESOURCE] {
        if held & capability != 0 {
            set_effective(capability, held);
            check_eq!(threads(), Ok(()));
        }
    }
    one_id(held);
    inheritable(held);
}

fn try_with_and_without(deed: &Deed, held: u64) {
    let Deed { name, capability, attempt, refusal } = deed;
    set_effective(held & !capability, held);
    check_eq!((name, attempt()), (name, -i64::from(*refusal)));
    if held & capability != 0 {
        set_effective(*capability, held);
        check_eq!((name, attempt() >= 0), (name, true));
    }
    set_effective(0, held);
}

/// setuid(2) and setgid(2): with the capability all three ids, else the effective one, which becomes the real or the saved
/// one. Ends as root.
fn one_id(held: u64) {
    for (set_all, set_one, get, capability) in [
        (libc::SYS_setresgid, libc::SYS_setgid, libc::SYS_getresgid, SETGID),
        (libc::SYS_setresuid, libc::SYS_setuid, libc::SYS_getresuid, SETUID),
    ] {
        set_effective(capability, held);
        check_eq!(call(set_all, [SOMEBODY, 500, 600]), 0);
        set_effective(0, held);
        for (id, outcome) in [(500, EPERM), (0, EPERM), (600, 0), (500, EPERM), (SOMEBODY, 0)] {
            check_eq!(call(set_one, [id, 0, 0]), outcome);
        }
        check_eq!(ids(get), [SOMEBODY as u32, SOMEBODY as u32, 600]);
        set_effective(capability, held);
        for id in [7, 0] {
            check_eq!(call(set_one, [id, 0, 0]), 0);
            check_eq!(ids(get), [id as u32; 3]);
        }
    }
    // "If the effective user ID is changed from nonzero to 0, then the permitted set is copied to the effective set."
    check_eq!(capabilities().map(|sets| sets[0]), set_words(held));
}

/// Any capability may be passed on with `CAP_SETPCAP`, else the own ones (capset(2)).
fn inheritable(held: u64) {
    let left = held & !NET_BIND_SERVICE;
    // What counts is what is in force before the call.
    let passes = || set(left, left, NET_BIND_SERVICE);
    set_effective(left & !SETPCAP, left);
    check_eq!(passes(), EPERM);
    set_effective(left, left);
    check_eq!(passes(), 0);
    check_eq!(permitted(), left);
    // What is there already may stay.
    check_eq!(set(0, left, NET_BIND_SERVICE), 0);
    check_eq!(passes(), 0);
}

fn user() -> i64 {
    let own = ids(libc::SYS_getresuid)[1].into();
    and_back(call(libc::SYS_setresuid, [KEEP, KEEP, 1234]), libc::SYS_setresuid, [KEEP, KEEP, own])
}

fn user_pair() -> i64 {
    let [real, effective, _] = ids(libc::SYS_getresuid).map(u64::from);
    and_back(call(libc::SYS_setreuid, [1234, KEEP, 0]), libc::SYS_setreuid, [real, effective, 0])
}

fn group() -> i64 {
    and_back(call(libc::SYS_setresgid, [KEEP, KEEP, 1234]), libc::SYS_setresgid, [0; 3])
}

fn group_pair() -> i64 {
    and_back(call(libc::SYS_setregid, [1234, 1234, 0]), libc::SYS_setregid, [0; 3])
}

fn one_group() -> i64 {
    and_back(call(libc::SYS_setgid, [1234, 0, 0]), libc::SYS_setgid, [0; 3])
}

fn groups() -> i64 {
    let list = [5_u32];
    and_back(call(libc::SYS_setgroups, [1, list.as_ptr() as u64, 0]), libc::SYS_setgroups, [0; 3])
}

/// The outcome; if something was changed, that is undone.
fn and_back(outcome: i64, number: i64, arguments: [u64; 3]) -> i64 {
    if outcome == 0 {
        check_eq!(call(number, arguments), 0);
    }
    outcome
}

/// Raises a limit that has no effect, once it is lowered.
fn hard_limit() -> i64 {
    let locks = libc::RLIMIT_LOCKS as u64;
    let lower = limit(locks)[1] - 1;
    check_eq!(set_limit(locks, 0, lower), 0);
    set_limit(locks, 0, lower + 1)
}

fn locked_memory() -> i64 {
    static PLACE: u8 = 0;
    let place = &raw const PLACE as u64;
    let outcome = call(libc::SYS_mlock, [place, 1, 0]);
    check_eq!(call(libc::SYS_munlock, [place, 1, 0]), 0);
    outcome
}

/// More messages than everybody may ask for (mq_overview(7)).
fn long_queue() -> i64 {
    let name = format!("capabilities-{}\0", std::process::id());
    let attributes = [0_i64, 11, 8, 0, 0, 0, 0, 0];
    let flags = (libc::O_CREAT | libc::O_EXCL | libc::O_RDWR) as u64;
    let arguments = [name.as_ptr() as u64, flags, 0o600, attributes.as_ptr() as u64, 0, 0];
    let fd = raw_syscall(libc::SYS_mq_open, arguments);
    if fd >= 0 {
        check_eq!(call(libc::SYS_mq_unlink, [name.as_ptr() as u64, 0, 0]), 0);
        check_eq!(call(libc::SYS_close, [fd as u64, 0, 0]), 0);
    }
    fd
}

/// Opens a terminal that somebody has for himself alone (ioctl_tty(2)).
fn exclusive_terminal() -> i64 {
    let open =
        |path: &CStr| call(libc::SYS_open, [path.as_ptr() as u64, (libc::O_RDWR | libc::O_NOCTTY) as u64, 0]);
    let control =
        |fd: i64, request: u64, argument| check_eq!(call(libc::SYS_ioctl, [fd as u64, request, argument]), 0);
    let close = |fd: i64| check_eq!(call(libc::SYS_close, [fd as u64, 0, 0]), 0);
    let master = open(c"/dev/ptmx");
    check!(master >= 0);
    let (mut number, unlocked) = (0_u32, 0_u32);
    control(master, libc::TIOCGPTN as u64, &raw mut number as u64);
    control(master, libc::TIOCSPTLCK as u64, &raw const unlocked as u64);
    let path = std::ffi::CString::new(format!("/dev/pts/{number}")).expect("it has no zero");
    let first = open(&path);
    check!(first >= 0);
    control(first, libc::TIOCEXCL as u64, 0);
    let second = open(&path);
    if second >= 0 {
        close(second);
    }
    close(first);
    close(master);
    second
}

/// One more thread than the limit allows.
fn threads() -> Result<(), i32> {
    let number = libc::RLIMIT_NPROC as u64;
    let [soft, hard] = limit(number);
    check_eq!(set_limit(number, 1, hard), 0);
    let outcome = thread::Builder::new().spawn(|| ()).map(|thread| thread.join().expect("it does nothing"));
    check_eq!(set_limit(number, soft, hard), 0);
    outcome.map_err(|error| error.raw_os_error().expect("the kernel said no"))
}

fn call(number: i64, [first, second, third]: [u64; 3]) -> i64 {
    raw_syscall(number, [first, second, third, 0, 0, 0])
}

fn ids(number: i64) -> [u32; 3] {
    let mut ids = [9; 3];
    let [real, effective, saved] = &mut ids;
    let places = [real, effective, saved].map(|place| &raw mut *place as u64);
    check_eq!(call(number, places), 0);
    ids
}

/// Soft and hard.
fn limit(number: u64) -> [u64; 2] {
    let mut limit = [0; 2];
    check_eq!(call(libc::SYS_getrlimit, [number, limit.as_mut_ptr() as u64, 0]), 0);
    limit
}

fn set_limit(number: u64, soft: u64, hard: u64) -> i64 {
    call(libc::SYS_setrlimit, [number, [soft, hard].as_ptr() as u64, 0])
}

/// The lower and the upper half.
fn set_words(set: u64) -> [u32; 2] {
    [set as u32, (set >> 32) as u32]
}

const HEADER: [u32; 2] = [0x2008_0522, 0];

/// capget(2): effective, permitted and inheritable, for each half.
fn capabilities() -> [[u32; 3]; 2] {
    let mut words = [[0; 3]; 2];
    check_eq!(call(libc::SYS_capget, [HEADER.as_ptr() as u64, words.as_mut_ptr() as u64, 0]), 0);
    words
}

fn permitted() -> u64 {
    let [low, high] = capabilities().map(|sets| u64::from(sets[1]));
    low | high << 32
}

fn set(effective: u64, permitted: u64, inheritable: u64) -> i64 {
    let [effective, permitted, inheritable] = [effective, permitted, inheritable].map(set_words);
    let words = [0, 1].map(|half| [effective[half], permitted[half], inheritable[half]]);
    call(libc::SYS_capset, [HEADER.as_ptr() as u64, words.as_ptr() as u64, 0])
}

fn set_effective(effective: u64, permitted: u64) {
    check_eq!(set(effective, permitted, 0), 0);
}
