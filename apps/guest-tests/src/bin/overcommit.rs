//! Promises of memory, and what becomes of them: the first argument names the case. Those that use up the machine's memory
//! are not for a host.

use std::ptr;
use std::sync::{Arc, Barrier};

use guest_tests::{check, check_eq, errno};

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn main() {
    let case = std::env::args().nth(1).expect("the name of a case");
    match case.as_str() {
        "promises" => promises(),
        "threads" => threads(),
        "touch" => touch(),
        "handlers" => touch_with_handlers(),
        "pieces" => touch_on_two_threads(),
        "read" => read_into_the_last_page(),
        "page-tables" => touch_far_apart(),
        "lent" => lent(),
        "strict" => strict(),
        "strict-pieces" => strict_pieces(),
        "strict-call" => strict_call(),
        _ => panic!("no case {case}"),
    }
}

/// What mmap(2) answers.
fn try_map(len: usize, protection: i32, flags: i32) -> Option<*mut u8> {
    // SAFETY: a fresh mapping.
    let at = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
    check!(at != libc::MAP_FAILED || errno() == libc::ENOMEM);
    (at != libc::MAP_FAILED).then_some(at.cast())
}

fn unmap(at: *mut u8, len: usize) {
    // SAFETY: the tests unmap what they mapped.
    check_eq!(unsafe { libc::munmap(at.cast(), len) }, 0);
}

fn write_each_page(at: *mut u8, len: usize) {
    for offset in (0..len).step_by(PAGE) {
        // SAFETY: inside the mapping, and volatile: the compiler may not leave it out.
        unsafe { at.add(offset).write_volatile(1) };
    }
}

fn meminfo(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let row = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    row.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Waits until the host has borrowed most of the machine's memory, and then uses more than is left.
fn lent() {
    const LEFT: usize = 64 * MIB;
    println!("lent: waiting");
    while meminfo("MemFree") > LEFT {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let len = 2 * LEFT;
    let at = try_map(len, READ_WRITE, ANONYMOUS).unwrap();
    write_each_page(at, len);
    for offset in (0..len).step_by(PAGE) {
        // SAFETY: inside the mapping.
        check_eq!(unsafe { at.add(offset).read_volatile() }, 1);
    }
}

/// More than there is can be promised bit by bit, but not at once (unless the app says that it needs no reserve).
fn promises() {
    let total = meminfo("MemTotal").next_multiple_of(PAGE);
    let whole: Vec<_> = (0..4).map(|_| try_map(total / 2, READ_WRITE, ANONYMOUS).unwrap()).collect();
    whole.into_iter().for_each(|at| unmap(at, total / 2));
    let too_much = total * 2 + meminfo("SwapTotal");
    check!(try_map(too_much, READ_WRITE, ANONYMOUS).is_none());
    for (protection, flags) in [(libc::PROT_NONE, 0), (libc::PROT_READ, 0), (READ_WRITE, libc::MAP_NORESERVE)]
    {
        let at = try_map(too_much, protection, ANONYMOUS | flags).unwrap();
        unmap(at, too_much);
    }
    let reserved = try_map(too_much, libc::PROT_NONE, ANONYMOUS | libc::MAP_NORESERVE).unwrap();
    // SAFETY: what was mapped just now.
    unsafe {
        check_eq!(libc::mprotect(reserved.cast(), too_much, READ_WRITE), 0);
        reserved.add(too_much - 1).write_volatile(1);
    }
    unmap(reserved, too_much);
    let plain = try_map(too_much, libc::PROT_NONE, ANONYMOUS).unwrap();
    // SAFETY: what was mapped just now.
    unsafe {
        check_eq!((libc::mprotect(plain.cast(), too_much, READ_WRITE), errno()), (-1, libc::ENOMEM));
        check_eq!(libc::mprotect(plain.cast(), total / 2, READ_WRITE), 0);
    }
    unmap(plain, too_much);
}

/// Stacks are promised in full, and hardly used.
fn threads() {
    const COUNT: usize = 1000;
    let gate = Arc::new(Barrier::new(COUNT + 1));
    let threads: Vec<_> = (0..COUNT)
        .map(|n| {
            let gate = Arc::clone(&gate);
            let thread = std::thread::Builder::new().spawn(move || {
                gate.wait();
                n
            });
            thread.unwrap_or_else(|error| panic!("thread {n}: {error}"))
        })
        .collect();
    gate.wait();
    check_eq!(
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(),
        COUNT * (COUNT - 1) / 2
    );
    c_threads();
}

/// The same with the C library's own default: 8 MiB in the GNU C library.
fn c_threads() {
    extern "C" fn wait(gate: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: the barrier outlives the threads, which are joined.
        unsafe { (*gate.cast::<Barrier>()).wait() };
        ptr::null_mut()
    }
    const COUNT: usize = 1000;
    let gate = Barrier::new(COUNT + 1);
    let at = (&raw const gate).cast_mut().cast();
    let threads: Vec<_> = (0..COUNT)
        .map(|_| {
            let mut thread = std::mem::MaybeUninit::uninit();
            // SAFETY: the thread takes a barrier that outlives it.
            check_eq!(unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), wait, at) }, 0);
            // SAFETY: made just now.
            unsafe { thread.assume_init() }
        })
        .collect();
    gate.wait();
    for thread in threads {
        // SAFETY: joined once.
        check_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
    }
}

/// Blocks as an allocator takes them, until the end.
fn touch() {
    loop {
        let block = std::hint::black_box(Vec::<u8>::with_capacity(MIB));
        write_each_page(block.as_ptr().cast_mut(), MIB);
        std::mem::forget(block);
    }
}

/// The end is not a signal that the app may take for a wild pointer.
fn touch_with_handlers() {
    extern "C" fn mistake(_signal: i32) {
        // SAFETY: ends the process.
        unsafe { libc::_exit(1) };
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGTERM] {
        // SAFETY: the handler only ends the process.
        unsafe { libc::signal(signal, mistake as *const () as usize) };
    }
    touch();
}

fn touch_on_two_threads() {
    let other = std::thread::spawn(touch);
    touch();
    let _ = other.join();
}

/// A call that has to write to a page of the app's ends it as well, and neither hangs nor answers.
fn read_into_the_last_page() {
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    loop {
        let at = try_map(16 * MIB, READ_WRITE, ANONYMOUS).unwrap();
        for offset in (0..16 * MIB).step_by(PAGE) {
            use std::os::fd::AsRawFd;
            // SAFETY: inside the mapping.
            check_eq!(unsafe { libc::read(zeros.as_raw_fd(), at.add(offset).cast(), 1) }, 1);
        }
    }
}

/// Pages of which each needs a table of its own.
fn touch_far_apart() {
    let len = 1 << 40;
    let at = try_map(len, READ_WRITE, ANONYMOUS | libc::MAP_NORESERVE).unwrap();
    for offset in (0..len).step_by(2 * MIB) {
        // SAFETY: inside the mapping.
        unsafe { at.add(offset).write_volatile(1) };
    }
}

/// The largest mapping that is granted, and its length in bytes.
fn largest_mapping() -> (*mut u8, usize) {
    let (mut good, mut bad) = (0, meminfo("MemTotal") * 2 / PAGE);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match try_map(middle * PAGE, READ_WRITE, ANONYMOUS) {
            Some(at) => {
                unmap(at, middle * PAGE);
                good = middle;
            }
            None => bad = middle,
        }
    }
    (try_map(good * PAGE, READ_WRITE, ANONYMOUS).unwrap(), good * PAGE)
}

/// What is granted is there, to the last page, and it is nearly all; files do not get it meanwhile.
fn strict() {
    check_eq!(std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap(), "2\n");
    let bytes = vec![1; 4 * MIB];
    for _ in 0..3 {
        let (at, len) = largest_mapping();
        check!(len > meminfo("MemTotal") / 10 * 7);
        check!(std::fs::write("/tmp/file", &bytes).is_err());
        check!(std::thread::Builder::new().stack_size(64 * MIB).spawn(|| ()).is_err());
        write_each_page(at, len);
        unmap(at, len);
        std::fs::write("/tmp/file", &bytes).unwrap();
        std::fs::remove_file("/tmp/file").unwrap();
    }
}

/// Pieces far apart, which change their protection, move and grow: page tables count, too.
fn strict_pieces() {
    let (at, len) = largest_mapping();
    unmap(at, len);
    let bytes = vec![1; 4 * MIB];
    let mut pieces = Vec::with_capacity(len / MIB);
    while let Some(at) = try_map(MIB, libc::PROT_NONE, ANONYMOUS) {
        // SAFETY: what was mapped just now.
        if unsafe { libc::mprotect(at.add(PAGE).cast(), MIB - PAGE, READ_WRITE) } != 0 {
            check_eq!(errno(), libc::ENOMEM);
            unmap(at, MIB);
            break;
        }
        pieces.push(at);
    }
    check!(pieces.len() * MIB > len / 10 * 9);
    // Room for one to grow by what another had.
    unmap(pieces.pop().unwrap(), MIB);
    write_each_page(pieces[0].wrapping_add(PAGE), MIB - PAGE);
    // SAFETY: the piece is ours; where it lies then is not asked again.
    let moved =
        unsafe { libc::mremap(pieces[0].add(PAGE).cast(), MIB - PAGE, MIB + MIB / 2, libc::MREMAP_MAYMOVE) };
    check!(moved != libc::MAP_FAILED);
    write_each_page(moved.cast(), MIB + MIB / 2);
    pieces[1..].iter().for_each(|at| write_each_page(at.wrapping_add(PAGE), MIB - PAGE));
    // What is given back and touched again was not given to others.
    for at in &pieces[1..] {
        let start = at.wrapping_add(PAGE);
        // SAFETY: inside the mapping.
        check_eq!(unsafe { libc::madvise(start.cast(), MIB - PAGE, libc::MADV_DONTNEED) }, 0);
    }
    check!(std::fs::write("/tmp/file", &bytes).is_err());
    pieces[1..].iter().for_each(|at| write_each_page(at.wrapping_add(PAGE), MIB - PAGE));
}

/// Calls touch what was promised, too.
fn strict_call() {
    use std::io::Read;
    let mut zeros = std::fs::File::open("/dev/zero").unwrap();
    let (at, len) = largest_mapping();
    // SAFETY: mapped above, with this length.
    let bytes = unsafe { std::slice::from_raw_parts_mut(at, len) };
    zeros.read_exact(bytes).unwrap();
    check!(try_map(64 * MIB, READ_WRITE, ANONYMOUS).is_none());
}
