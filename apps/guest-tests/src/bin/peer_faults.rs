//! What brought down other kernels of this field: the inputs of their public reports, one line of output for each, which must be
//! Linux's. `peer_faults CASE` does one that ends the program. The table of classes is in `SECURITY.md`.

use guest_tests::raw_syscall;
use libc::*;

/// An address of the kernel's half.
const KERNEL: u64 = 0xffff_ffff_8010_0000;
/// Nothing is mapped here.
const NOWHERE: u64 = 0x7000;
const PAGE: u64 = 4096;
/// The longest range that is still a multiple of pages.
const HUGE: u64 = 0xffff_ffff_ffff_f000;

fn call(number: c_long, args: &[u64]) -> i64 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    raw_syscall(number, all)
}

/// A page with a hole behind it, which ends what a length of any size would reach.
fn page_before_hole() -> u64 {
    let flags = (MAP_PRIVATE | MAP_ANONYMOUS) as u64;
    let at = call(SYS_mmap, &[0, 2 * PAGE, (PROT_READ | PROT_WRITE) as u64, flags, u64::MAX, 0]) as u64;
    call(SYS_munmap, &[at + PAGE, PAGE]);
    at
}

fn open(path: &std::ffi::CStr) -> u64 {
    call(SYS_openat, &[AT_FDCWD as u64, path.as_ptr() as u64, O_RDONLY as u64, 0]) as u64
}

fn pipe() -> [u64; 2] {
    let mut ends = [0i32; 2];
    call(SYS_pipe2, &[&raw mut ends as u64, 0]);
    ends.map(|end| end as u64)
}

fn socket(family: i32, kind: i32) -> u64 {
    call(SYS_socket, &[family as u64, kind as u64, 0]) as u64
}

/// Prints an answer: an error with its number, any success as such.
fn row(report: &str, what: &str, answer: i64) {
    match answer {
        -4095..=-1 => println!("| {report} | {what} | error {}", -answer),
        0 => println!("| {report} | {what} | 0"),
        _ => println!("| {report} | {what} | success"),
    }
}

fn memory() {
    let page = page_before_hole();
    let [read_write, advice] = [(PROT_READ | PROT_WRITE) as u64, MADV_DONTNEED as u64];
    let private = (MAP_PRIVATE | MAP_ANONYMOUS) as u64;
    let asterinas = "asterinas#1213";
    row(asterinas, "mmap of all", call(SYS_mmap, &[0, HUGE, read_write, private, u64::MAX, 0]));
    row(asterinas, "mmap that wraps", call(SYS_mmap, &[0, u64::MAX, read_write, private, u64::MAX, 0]));
    row(asterinas, "munmap of all", call(SYS_munmap, &[page, HUGE]));
    row(asterinas, "munmap that wraps", call(SYS_munmap, &[page, u64::MAX - 1]));
    row(asterinas, "mprotect of all", call(SYS_mprotect, &[page, HUGE, read_write]));
    row(asterinas, "mprotect that wraps", call(SYS_mprotect, &[page, u64::MAX, read_write]));
    row(asterinas, "madvise of all", call(SYS_madvise, &[page, HUGE, advice]));
    row(asterinas, "msync of all", call(SYS_msync, &[page, HUGE, MS_SYNC as u64]));
    row(asterinas, "mremap to all", call(SYS_mremap, &[page, PAGE, HUGE, MREMAP_MAYMOVE as u64]));
    row(asterinas, "mremap from all", call(SYS_mremap, &[page, HUGE, PAGE, MREMAP_MAYMOVE as u64]));
    row("arceos#325", "munmap of nothing", call(SYS_munmap, &[page, 0]));
    row("arceos#325", "munmap within a page", call(SYS_munmap, &[page + 0x234, PAGE]));
    row("nanos#1154", "mincore into the kernel", call(SYS_mincore, &[page, PAGE, KERNEL]));
    row("gvisor CVE-2018-20168", "munmap at the end", call(SYS_munmap, &[0x7fff_ffff_f000, PAGE]));
}

fn lengths() {
    let page = page_before_hole();
    let [reader, writer] = pipe();
    row("asterinas#1338", "getrandom of all", call(SYS_getrandom, &[page, u64::MAX, 0]));
    let root = open(c"/");
    row("asterinas#1326", "getdents64 of all", call(SYS_getdents64, &[root, page, 0xffff_ffff]));
    row("asterinas#1860", "getdents64 of 2 GiB", call(SYS_getdents64, &[root, page, 0x7fff_efff]));
    let sequence = socket(AF_UNIX, SOCK_SEQPACKET);
    row("asterinas#1326", "recvfrom of -7", call(SYS_recvfrom, &[sequence, page, -7i64 as u64, 0, 0, 0]));
    let line = open(c"/proc/self/cmdline");
    let vector = [page, 1024];
    let far = 0x4000_00a7_3771_c48a;
    row("asterinas#1245", "preadv far out", call(SYS_preadv, &[line, &raw const vector as u64, 1, far, 0]));
    row("starry#1731", "write of half of all", call(SYS_write, &[writer, page, 1 << 63]));
    row("starry#1731", "read of half of all", call(SYS_read, &[line, page, i64::MAX as u64]));
    let vector = [page, u64::MAX];
    row("starry#1731", "writev of all", call(SYS_writev, &[writer, &raw const vector as u64, 1]));
    let vector = [page, 16, page, i64::MAX as u64, page, 1];
    row("starry#1731", "writev that sums up", call(SYS_writev, &[writer, &raw const vector as u64, 4]));
    row("starry#1731", "readv of 1,025", call(SYS_readv, &[reader, page, 1025]));
    row("starry#1731", "readv of -1", call(SYS_readv, &[reader, page, u64::MAX]));
    environment();
}

/// execve with more than it takes.
fn environment() {
    let word = std::ffi::CString::new(vec![b'x'; 1000]).expect("no zero in it");
    let mut pointers = vec![word.as_ptr() as u64; 40_000];
    pointers.push(0);
    let argv = [c"true".as_ptr() as u64, 0];
    let args = [c"/proc/self/exe".as_ptr() as u64, &raw const argv as u64, pointers.as_ptr() as u64];
    row("asterinas#2862", "execve with 40 MB", call(SYS_execve, &args));
}

fn pointers() {
    let nanos = "nanos#2141";
    let word = 0u32;
    let word = &raw const word as u64;
    for (name, time) in [("nowhere", NOWHERE), ("in the kernel", KERNEL), ("at the edge", 0x7fff_ffff_fff8)] {
        row(nanos, &format!("futex, time {name}"), call(SYS_futex, &[word, 0, 0, time, 0, 0]));
        row(nanos, &format!("select, time {name}"), call(SYS_select, &[0, 0, 0, 0, time]));
        row(nanos, &format!("pselect6, time {name}"), call(SYS_pselect6, &[0, 0, 0, 0, time, 0]));
        row(nanos, &format!("ppoll, time {name}"), call(SYS_ppoll, &[0, 0, time, 0, 8]));
        row(nanos, &format!("nanosleep {name}"), call(SYS_nanosleep, &[time, 0]));
        row("quark#1251", &format!("clock_gettime {name}"), call(SYS_clock_gettime, &[1, time]));
        row("nanos#1154", &format!("getrlimit {name}"), call(SYS_getrlimit, &[7, time]));
        row("nanos#1154", &format!("uname {name}"), call(SYS_uname, &[time]));
    }
    let zero = [0u64; 2];
    let zero = &raw const zero as u64;
    row(nanos, "select of -1", call(SYS_select, &[u64::MAX, 0, 0, 0, zero]));
    row(nanos, "poll of 2^32 - 1", call(SYS_poll, &[0, u64::from(u32::MAX), 0]));
    row("nuttx#1359", "FIONREAD into the kernel", call(SYS_ioctl, &[pipe()[0], FIONREAD as u64, KERNEL]));
    let stream = socket(AF_INET, SOCK_STREAM);
    let [level, name] = [SOL_SOCKET as u64, SO_ERROR as u64];
    row(
        "nuttx#1359",
        "getsockopt into the kernel",
        call(SYS_getsockopt, &[stream, level, name, KERNEL, KERNEL]),
    );
    row(
        "nuttx#1359",
        "setsockopt of -1",
        call(SYS_setsockopt, &[stream, level, SO_LINGER as u64, zero, u64::MAX]),
    );
    row("asterinas#2780", "ARCH_GET_FS into the kernel", call(SYS_arch_prctl, &[0x1003, KERNEL]));
    row("asterinas#2780", "ARCH_SET_FS into the kernel", call(SYS_arch_prctl, &[0x1002, KERNEL]));
    row("asterinas#2780", "arch_prctl of nonsense", call(SYS_arch_prctl, &[0x1234_5678, 0]));
}

fn values() {
    let pair = [0u32; 2];
    let [first, second] = [&raw const pair[0] as u64, &raw const pair[1] as u64];
    let time = [0u64, 1];
    let time = &raw const time as u64;
    row(
        "asterinas#1179",
        "futex requeue nowhere",
        call(SYS_futex, &[NOWHERE, 12, 0x7fff_ffff, time, NOWHERE + 64, 0]),
    );
    row("asterinas#1179", "futex operation 99", call(SYS_futex, &[first, 99, 1, time, second, 0]));
    let wake = |operation| call(SYS_futex, &[first, 5, 32, 0, second, operation]);
    row("asterinas#2188", "futex wake with shift", wake(0xb086_793a));
    row("asterinas#2188", "futex wake and add", wake(0x1fff_f000));
    row("asterinas#2188", "futex wake and do nonsense", wake(0x7fff_ffff));
    row("asterinas#1197", "waitid of nonsense", call(SYS_waitid, &[0x3114_2aad_0bc9_3209, 15, 0, 4, 0]));
    row("asterinas#1216", "waitid with nonsense", call(SYS_waitid, &[0, 15, 0, 10_474, 0]));
    row("asterinas#1199", "timer_create of -3", call(SYS_timer_create, &[-3i64 as u64, 0, first]));
    // Of a process that is not there.
    let clock = (!0x1f_ffffi64 << 3 | 2) as u64;
    row("asterinas#1199", "timer_create of nobody", call(SYS_timer_create, &[clock, 0, first]));
    row("asterinas#1179", "rt_sigprocmask of 77", call(SYS_rt_sigprocmask, &[77, first, 0, 8]));
    row("asterinas#1179", "rt_sigprocmask of 9 bytes", call(SYS_rt_sigprocmask, &[0, first, 0, 9]));
    let [reader, _] = pipe();
    row("mentos#191", "ftruncate to -1", call(SYS_ftruncate, &[reader, u64::MAX]));
    row("mentos#191", "lseek of a pipe", call(SYS_lseek, &[reader, u64::MAX, 0]));
    row("mentos#191", "dup2 to -1", call(SYS_dup2, &[reader, u64::from(u32::MAX)]));
    row("mentos#191", "epoll_create of -1", call(SYS_epoll_create, &[u64::MAX]));
    row("mentos#191", "kill of the least number", call(SYS_kill, &[i32::MIN as u64, 0]));
}

/// Threads that end with lists of robust futexes that are none.
fn robust_lists() {
    #[repr(C)]
    struct Head {
        next: u64,
        offset: i64,
        pending: u64,
    }
    for (report, next, offset, pending) in [
        ("asterinas#1329", 0x7fff_ffff_ffff_ffff, 16, 0),
        ("asterinas#1329", u64::MAX, i64::MAX, u64::MAX),
        ("asterinas#1391", NOWHERE, 0xffff, NOWHERE),
        ("asterinas#1391", KERNEL, i64::MIN, KERNEL),
    ] {
        let thread = std::thread::spawn(move || {
            let head = Box::leak(Box::new(Head { next, offset, pending }));
            call(SYS_set_robust_list, &[&raw const *head as u64, size_of::<Head>() as u64])
        });
        row(report, "a thread ended", thread.join().expect("it does not panic"));
    }
    // One that never ends: its entry is the next one of itself.
    let thread = std::thread::spawn(|| {
        let entry = Box::leak(Box::new(0u64));
        *entry = &raw const *entry as u64;
        let head = Box::leak(Box::new(Head { next: *entry, offset: 1 << 20, pending: 0 }));
        call(SYS_set_robust_list, &[&raw const *head as u64, size_of::<Head>() as u64])
    });
    row("asterinas#1391", "a thread with a circle ended", thread.join().expect("it does not panic"));
}

extern "C" fn unreachable_handler(_: c_int) {
    println!("the handler ran");
}

/// A handler that is to run on a stack which is none: the signal ends the program.
fn handle_on(stack: u64, len: u64) {
    let stack = [stack, 0, len];
    row("asterinas#1392", "sigaltstack", call(SYS_sigaltstack, &[&raw const stack as u64, 0]));
    // SAFETY: the handler does not return to what raised the signal; the program ends.
    unsafe {
        let mut action: sigaction = std::mem::zeroed();
        action.sa_sigaction = unreachable_handler as *const () as usize;
        action.sa_flags = SA_ONSTACK;
        libc::sigaction(SIGUSR1, &action, std::ptr::null_mut());
    }
    call(SYS_tgkill, &[u64::from(std::process::id()), u64::from(std::process::id()), SIGUSR1 as u64]);
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => {
            memory();
            lengths();
            pointers();
            values();
            robust_lists();
        }
        Some("stack-that-wraps") => handle_on(0x6d6d_6d6d_6d6d_6d6d, 0xffff_8000_0000_0002),
        Some("stack-without-access") => {
            let flags = (MAP_PRIVATE | MAP_ANONYMOUS) as u64;
            let at = call(SYS_mmap, &[0, 16 * PAGE, PROT_NONE as u64, flags, u64::MAX, 0]);
            handle_on(at as u64, 16 * PAGE);
        }
        Some("unmap-all") => {
            let at = page_before_hole();
            row("asterinas#1194", "munmap of 4 GiB", call(SYS_munmap, &[at - (1 << 31), 1 << 32]));
        }
        Some(case) => panic!("no case {case}"),
    }
}
