//! Becoming somebody else, asking the scheduler, locking memory: what servers do at their start, and what
//! libraries ask. Ends a listener while somebody waits for it, as servers do at their end.

use std::io::Error;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;
use std::{fs, thread};

use guest_tests::{check, check_eq, errno, raw_syscall};

/// `CAP_NET_BIND_SERVICE`.
const BIND_LOW_PORTS: u32 = 1 << 10;

fn main() {
    scheduling();
    memory();
    queued_signals();
    vectored_at_an_offset();
    barriers();
    listener_ends();
    connection_is_taken_back();
    // Last, for there is no way back.
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } == 0 {
        identity(std::env::args().any(|word| word == "keep"));
    }
}

fn scheduling() {
    // SAFETY: the arguments are values, and places of our own.
    unsafe {
        check_eq!(raw_syscall(libc::SYS_sched_getscheduler, [0; 6]), 0);
        check_eq!(libc::sched_get_priority_max(libc::SCHED_FIFO), 99);
        check_eq!(libc::sched_get_priority_min(libc::SCHED_FIFO), 1);
        check_eq!(libc::sched_get_priority_max(libc::SCHED_OTHER), 0);
        // Nobody has changed it, but this may run below `nice`.
        let nice = fs::read_to_string("/proc/self/stat").unwrap();
        let nice = nice.rsplit(')').next().unwrap().split(' ').nth(17).unwrap().parse().unwrap();
        check_eq!(libc::getpriority(libc::PRIO_PROCESS, 0), nice);
        let mut interval: libc::timespec = std::mem::zeroed();
        check_eq!(libc::sched_rr_get_interval(0, &raw mut interval), 0);
        // Newer Linux answers 0 to who is not real-time.
        check!(interval.tv_sec == 0 && (0..1_000_000_000).contains(&interval.tv_nsec));
        let mut times: libc::tms = std::mem::zeroed();
        check!(libc::times(&raw mut times) > 0);
    }
}

fn memory() {
    const PAGE: usize = 4096;
    // SAFETY: the mapping is our own.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let pages = libc::mmap(std::ptr::null_mut(), 64 * PAGE, libc::PROT_READ, flags, -1, 0);
        let mut present = [0xff_u8; 64];
        check_eq!(libc::mincore(pages, 64 * PAGE, present.as_mut_ptr()), 0);
        check!(present.iter().all(|page| page & 1 == 0));
        pages.cast::<u8>().read_volatile();
        check_eq!(libc::mincore(pages, 64 * PAGE, present.as_mut_ptr()), 0);
        check!(present[0] & 1 == 1);
        check_eq!(libc::munmap(pages, 64 * PAGE), 0);
        check_eq!(libc::mincore(pages, PAGE, present.as_mut_ptr()), -1);
        check_eq!(errno(), libc::ENOMEM);
    }
}

fn queued_signals() {
    // SAFETY: the set and the information are our own.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        check_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()), 0);
        let value = libc::sigval { sival_ptr: 0x1234_5678_9abc as *mut libc::c_void };
        check_eq!(libc::sigqueue(libc::getpid(), libc::SIGUSR1, value), 0);
        let mut info: libc::siginfo_t = std::mem::zeroed();
        check_eq!(libc::sigwaitinfo(&raw const set, &raw mut info), libc::SIGUSR1);
        check_eq!(info.si_code, libc::SI_QUEUE);
        check_eq!(info.si_value().sival_ptr as usize, 0x1234_5678_9abc);
    }
}

fn vectored_at_an_offset() {
    let path = std::env::temp_dir().join(format!("privileges-{}", std::process::id()));
    let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    let file = file.expect("there is a folder for such files");
    let parts = [b"one ".as_slice(), b"two"];
    let vector = parts.map(|part| [part.as_ptr() as u64, part.len() as u64]);
    let descriptor = file.as_raw_fd() as u64;
    let own_offset = u64::MAX;
    let arguments = [descriptor, vector.as_ptr() as u64, 2, own_offset, 0, libc::RWF_DSYNC as u64];
    check_eq!(raw_syscall(libc::SYS_pwritev2, arguments), 7);
    check_eq!(raw_syscall(libc::SYS_pwritev2, [descriptor, vector.as_ptr() as u64, 1, 7, 0, 0]), 4);
    let mut bytes = [0_u8; 16];
    let vector = [bytes.as_mut_ptr() as u64, 16];
    check_eq!(raw_syscall(libc::SYS_preadv2, [descriptor, vector.as_ptr() as u64, 1, 0, 0, 0]), 11);
    check_eq!(&bytes[..11], b"one twoone ");
    std::fs::remove_file(path).expect("it is ours");
}

fn barriers() {
    const PRIVATE_EXPEDITED: u64 = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: u64 = 1 << 4;
    let offered = raw_syscall(libc::SYS_membarrier, [0; 6]);
    check!(offered >= 0 && offered as u64 & PRIVATE_EXPEDITED != 0);
    let barrier = |command| raw_syscall(libc::SYS_membarrier, [command, 0, 0, 0, 0, 0]);
    check_eq!(barrier(PRIVATE_EXPEDITED), -i64::from(libc::EPERM));
    check_eq!(barrier(REGISTER_PRIVATE_EXPEDITED), 0);
    let others = [(); 2].map(|()| thread::spawn(|| (0..1000).for_each(|_| std::hint::spin_loop())));
    for _ in 0..100 {
        check_eq!(barrier(PRIVATE_EXPEDITED), 0);
    }
    others.into_iter().for_each(|thread| thread.join().expect("it only spins"));
}

/// Shutting a listener down wakes who waits to accept (inet_shutdown in Linux).
fn listener_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let descriptor = listener.as_raw_fd();
    let waiting = thread::spawn(move || listener.accept().map(drop).map_err(|error| error.raw_os_error()));
    thread::sleep(Duration::from_millis(50));
    // SAFETY: the descriptor is open until the thread ends.
    check_eq!(unsafe { libc::shutdown(descriptor, libc::SHUT_RD) }, 0);
    check_eq!(waiting.join().expect("it does not panic"), Err(Some(libc::EINVAL)));
    check_eq!(
        TcpStream::connect(address).map(drop).map_err(|e| e.kind()),
        Err(std::io::ErrorKind::ConnectionRefused)
    );
}

/// Connecting to no family takes a connection back (connect(2)).
fn connection_is_taken_back() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let stream = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let nobody = [0_u8; 16];
    let arguments = [stream.as_raw_fd() as u64, nobody.as_ptr() as u64, 16, 0, 0, 0];
    check_eq!(raw_syscall(libc::SYS_connect, arguments), 0);
    check_eq!(stream.peer_addr().map_err(|error| error.kind()), Err(std::io::ErrorKind::NotConnected));
}

fn status() -> String {
    std::fs::read_to_string("/proc/self/status").expect("it is there")
}

/// The sets in `/proc/self/status`: inheritable, permitted, effective, bounding.
fn capabilities() -> [u64; 4] {
    let status = status();
    ["CapInh", "CapPrm", "CapEff", "CapBnd"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is listed");
        u64::from_str_radix(line.trim_start_matches(":\t"), 16).expect("it is a number")
    })
}

/// capset(2), of the lower 32 capabilities.
fn set_capabilities(effective: u32, permitted: u32) -> i64 {
    let (header, words) = ([0x2008_0522_u32, 0], [[effective, permitted, 0], [0; 3]]);
    raw_syscall(libc::SYS_capset, [header.as_ptr() as u64, words.as_ptr() as u64, 0, 0, 0, 0])
}

/// From root to somebody else, who cannot go back. Some servers keep capabilities, for privileged ports later.
fn identity(keeps: bool) {
    // SAFETY: the arguments are values, and places of our own.
    unsafe {
        let (mut real, mut effective, mut saved) = (9, 9, 9);
        check_eq!(libc::setgroups(2, [30, 20].as_ptr()), 0);
        let mut groups = [0; 4];
        check_eq!(libc::getgroups(4, groups.as_mut_ptr()), 2);
        check_eq!(&groups[..2], &[20, 30]);
        check!(status().contains("\nGroups:\t20 30 \n"));
        let many: Vec<u32> = (0..65_536).collect();
        check_eq!(libc::setgroups(many.len() + 1, many.as_ptr()), -1);
        check_eq!(libc::setgroups(many.len(), many.as_ptr()), 0);
        let mut found = vec![0; many.len()];
        check_eq!(libc::getgroups(found.len() as i32, found.as_mut_ptr()), 65_536);
        check!(found == many);
        check!(status().contains(" 65534 65535 \n"));
        let [_, all, at_first, bounding] = capabilities();
        check_eq!(at_first, all);
        check_eq!(libc::setresgid(100, 100, 100), 0);
        check_eq!(libc::setresuid(1000, 1000, 0), 0);
        check_eq!(libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved), 0);
        check_eq!((real, effective, saved), (1000, 1000, 0));
        check_eq!(capabilities(), [0, all, 0, bounding]);
        // The saved id is a way back, until it is given up.
        check_eq!(libc::seteuid(0), 0);
        check_eq!(capabilities(), [0, all, all, bounding]);
        check_eq!(libc::prctl(libc::PR_SET_KEEPCAPS, u64::from(keeps), 0, 0, 0), 0);
        check_eq!(libc::setuid(1000), 0);
        check_eq!(capabilities(), [0, if keeps { all } else { 0 }, 0, bounding]);
        let held = if keeps { BIND_LOW_PORTS } else { 0 };
        check_eq!(set_capabilities(held, held), 0);
        check_eq!(capabilities(), [0, held.into(), held.into(), bounding]);
        check_eq!(set_capabilities(0, 1), -i64::from(libc::EPERM));
        check_eq!(set_capabilities(1, 0), -i64::from(libc::EPERM));
        check_eq!(libc::setuid(0), -1);
        check_eq!(Error::last_os_error().raw_os_error(), Some(libc::EPERM));
        check_eq!((libc::getuid(), libc::geteuid(), libc::getgid()), (1000, 1000, 100));
        check_eq!(libc::setgroups(0, std::ptr::null()), -1);
        let (header, mut words) = ([0x2008_0522_u32, 0], [[9_u32; 3]; 2]);
        let arguments = [header.as_ptr() as u64, words.as_mut_ptr() as u64, 0, 0, 0, 0];
        check_eq!(raw_syscall(libc::SYS_capget, arguments), 0);
        check_eq!(words[0][..2], [held; 2]);
        check_eq!(set_capabilities(0, 0), 0);
        check_eq!(capabilities(), [0, 0, 0, bounding]);
    }
}
