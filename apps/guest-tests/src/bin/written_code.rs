//! Code that the program writes at run time, as just-in-time compilers do, with memory that is writable and executable at
//! once. With the argument `refused`: the same without `wx=on`, where no call makes such memory.

use std::fs;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use guest_tests::{check, check_eq, errno, raw_syscall};

const PAGE: usize = 4096;
const ALL: i32 = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
const READ_EXECUTE: i32 = libc::PROT_READ | libc::PROT_EXEC;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
const ROUNDS: u32 = 2000;

fn main() {
    if std::env::args().nth(1).is_some_and(|word| word == "refused") {
        return refused();
    }
    functions_are_written_where_they_run();
    protection_comes_and_goes();
    shared_memory_too();
    changed_while_it_runs();
    keys_of_pages();
    println!("written_code: all well");
}

fn map(protection: i32, flags: i32) -> Result<*mut u8, i32> {
    // SAFETY: the kernel picks the place.
    let start = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED { Err(errno()) } else { Ok(start.cast()) }
}

fn protect(at: *mut u8, protection: i32) -> Result<(), i32> {
    // SAFETY: a page of the test's own, which nobody refers to.
    if unsafe { libc::mprotect(at.cast(), PAGE, protection) } == 0 { Ok(()) } else { Err(errno()) }
}

/// `mov eax, number; ret`, in eight bytes.
fn function(number: u32) -> u64 {
    let mut code = [0xb8, 0, 0, 0, 0, 0xc3, 0x90, 0x90];
    code[1..5].copy_from_slice(&number.to_le_bytes());
    u64::from_le_bytes(code)
}

fn write(at: *mut u8, number: u32) {
    // SAFETY: the page is writable, and its start aligned; who runs the code sees the old or the new eight bytes.
    unsafe { AtomicU64::from_ptr(at.cast()) }.store(function(number), Ordering::Release);
}

fn call(at: *mut u8) -> u32 {
    // SAFETY: there is a whole function of this kind at the page's start.
    let function = unsafe { std::mem::transmute::<*mut u8, extern "C" fn() -> u32>(at) };
    function()
}

fn functions_are_written_where_they_run() {
    let at = map(ALL, PRIVATE).unwrap();
    for number in 0..ROUNDS {
        write(at, number);
        check_eq!(call(at), number);
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let begins = format!("{:x}-", at as usize);
    let line = maps.lines().find(|line| line.trim_start_matches('0').starts_with(&begins));
    check!(line.is_some_and(|line| line.contains(" rwxp ")));
}

fn protection_comes_and_goes() {
    let at = map(libc::PROT_READ | libc::PROT_WRITE, PRIVATE).unwrap();
    for number in 0..50 {
        write(at, number);
        check_eq!(protect(at, READ_EXECUTE), Ok(()));
        check_eq!(call(at), number);
        check_eq!(protect(at, ALL), Ok(()));
        write(at, number + 1);
        check_eq!(call(at), number + 1);
    }
}

fn shared_memory_too() {
    let at = map(ALL, libc::MAP_SHARED | libc::MAP_ANONYMOUS).unwrap();
    write(at, 7);
    check_eq!(call(at), 7);
}

/// Another thread runs the function meanwhile, and sees each change in the end.
fn changed_while_it_runs() {
    let at = map(ALL, PRIVATE).unwrap() as usize;
    write(at as *mut u8, 0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while !is_over.load(Ordering::Acquire) {
                let number = call(at as *mut u8);
                check!(number >= last && number <= ROUNDS);
                last = number;
            }
            check_eq!(call(at as *mut u8), ROUNDS);
        });
        for number in 1..=ROUNDS {
            write(at as *mut u8, number);
            if number % 100 == 0 {
                thread::yield_now();
            }
        }
        is_over.store(true, Ordering::Release);
    });
}

/// What programs ask before they guard their code by a key (pkeys(7)): here they go on without.
fn keys_of_pages() {
    let has_keys = fs::read_to_string("/proc/cpuinfo").unwrap().contains(" ospke");
    let at = map(libc::PROT_READ | libc::PROT_WRITE, PRIVATE).unwrap() as u64;
    let page = PAGE as u64;
    let call = |number, args: [u64; 4]| raw_syscall(number, [args[0], args[1], args[2], args[3], 0, 0]);
    let refused = |errno: i32| i64::from(-errno);
    check_eq!(call(libc::SYS_pkey_mprotect, [at, page, libc::PROT_READ as u64, u64::MAX]), 0);
    check_eq!(call(libc::SYS_pkey_mprotect, [at, page, libc::PROT_READ as u64, 16]), refused(libc::EINVAL));
    check_eq!(call(libc::SYS_pkey_mprotect, [at, 0, libc::PROT_READ as u64, 16]), 0);
    check_eq!(call(libc::SYS_pkey_mprotect, [at + 1, page, 0, u64::MAX]), refused(libc::EINVAL));
    check_eq!(call(libc::SYS_pkey_alloc, [1, 0, 0, 0]), refused(libc::EINVAL));
    check_eq!(call(libc::SYS_pkey_alloc, [0, 4, 0, 0]), refused(libc::EINVAL));
    check_eq!(call(libc::SYS_pkey_free, [16, 0, 0, 0]), refused(libc::EINVAL));
    if !has_keys {
        // Linux answers EINVAL to the first who asks there, and ENOSPC to the second.
        call(libc::SYS_pkey_alloc, [0, 0, 0, 0]);
        check_eq!(call(libc::SYS_pkey_alloc, [0, 0, 0, 0]), refused(libc::ENOSPC));
    }
}

fn refused() {
    check_eq!(map(ALL, PRIVATE), Err(libc::EACCES));
    check_eq!(map(ALL, libc::MAP_SHARED | libc::MAP_ANONYMOUS), Err(libc::EACCES));
    for first in [libc::PROT_READ | libc::PROT_WRITE, READ_EXECUTE] {
        let at = map(first, PRIVATE).unwrap();
        check_eq!(protect(at, ALL), Err(libc::EACCES));
    }
}
