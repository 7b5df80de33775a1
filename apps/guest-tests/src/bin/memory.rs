//! Memory as the app manages it: mapping, protecting, moving, giving back, running out.

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use guest_tests::{check, check_eq, errno};

const PAGE: usize = 4096;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn main() {
    fresh_memory_is_zero();
    sparse_mapping_costs_what_is_touched();
    discarded_memory_is_zero_again();
    protection_holds_in_parts();
    pages_without_access_are_nobodys();
    protecting_untouched_memory_interrupts_nobody();
    copies_of_every_size_are_exact();
    moved_memory_keeps_its_content();
    fixed_mappings_replace();
    break_grows_and_shrinks();
    too_much_is_an_error();
    nonsense_is_refused();
    memory_comes_back();
    stack_grows(0);
}

fn map(len: usize, protection: i32) -> *mut u8 {
    // SAFETY: a fresh private mapping.
    let at = unsafe {
        libc::mmap(ptr::null_mut(), len, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    check!(at != libc::MAP_FAILED);
    at.cast()
}

fn unmap(at: *mut u8, len: usize) {
    // SAFETY: the tests unmap what they mapped.
    check_eq!(unsafe { libc::munmap(at.cast(), len) }, 0);
}

fn fresh_memory_is_zero() {
    let len = 3 * 1024 * 1024 + PAGE;
    let at = map(len, READ_WRITE);
    // SAFETY: mapped above, with this length.
    let bytes = unsafe { std::slice::from_raw_parts_mut(at, len) };
    check!(bytes.iter().all(|&byte| byte == 0));
    bytes.fill(0xa5);
    check!(bytes.iter().all(|&byte| byte == 0xa5));
    unmap(at, len);
}

fn sparse_mapping_costs_what_is_touched() {
    // Less than the smallest machine has that runs this: more is an error there, not a promise.
    let len = 32 << 20;
    let at = map(len, READ_WRITE);
    for offset in (0..len).step_by(4 << 20) {
        // SAFETY: inside the mapping.
        unsafe { at.add(offset).write_volatile(1) };
    }
    unmap(at, len);
}

fn discarded_memory_is_zero_again() {
    let at = map(4 * PAGE, READ_WRITE);
    // SAFETY: inside the mapping.
    unsafe {
        at.write_bytes(1, 4 * PAGE);
        check_eq!(libc::madvise(at.add(PAGE).cast(), 2 * PAGE, libc::MADV_DONTNEED), 0);
        check_eq!((*at, *at.add(PAGE), *at.add(3 * PAGE - 1), *at.add(3 * PAGE)), (1, 0, 0, 1));
    }
    unmap(at, 4 * PAGE);
}

fn protection_holds_in_parts() {
    let at = map(3 * PAGE, READ_WRITE);
    // SAFETY: inside the mapping, and written only where it may be.
    unsafe {
        at.write_bytes(7, 3 * PAGE);
        check_eq!(libc::mprotect(at.add(PAGE).cast(), PAGE, libc::PROT_READ), 0);
        check_eq!(*at.add(PAGE), 7);
        at.write(8);
        at.add(2 * PAGE).write(9);
        check_eq!(libc::mprotect(at.add(PAGE).cast(), PAGE, libc::PROT_NONE), 0);
        // The kernel must not write there for the app either.
        check_eq!(libc::syscall(libc::SYS_getrandom, at.add(PAGE), 16, 0), -1);
        check_eq!(errno(), libc::EFAULT);
        check_eq!(libc::mprotect(at.add(PAGE).cast(), PAGE, READ_WRITE), 0);
        check_eq!(*at.add(PAGE), 7);
    }
    unmap(at, 3 * PAGE);
}

/// What was used before is kept, and no call reads it, in whichever way; large pages and parts of them, too.
fn pages_without_access_are_nobodys() {
    const LARGE: usize = 2 << 20;
    let len = 3 * LARGE;
    let at = map(len, READ_WRITE);
    let mut pipe = [0; 2];
    // SAFETY: inside the mapping, and used only while it may be; the array takes two descriptors.
    unsafe {
        check_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        at.write_bytes(7, len);
        for (offset, len) in [(0, len), (LARGE + PAGE, PAGE), (LARGE - PAGE, 2 * PAGE), (PAGE, 2 * LARGE)] {
            check_eq!(libc::mprotect(at.add(offset).cast(), len, libc::PROT_NONE), 0);
            for probe in [offset, offset + len / 2, offset + len - 8] {
                let word = at.add(probe);
                check_eq!((libc::write(pipe[1], word.cast(), 8), errno()), (-1, libc::EFAULT));
                check_eq!((libc::syscall(libc::SYS_getrandom, word, 8, 0), errno()), (-1, libc::EFAULT));
                let wake_op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
                let time: *const libc::timespec = &libc::timespec { tv_sec: 0, tv_nsec: 1 };
                check_eq!(
                    (libc::syscall(libc::SYS_futex, word, wake_op, 0x707_0707, time), errno()),
                    (-1, libc::EFAULT)
                );
                let mut one = 0_u8;
                check_eq!(libc::mincore(at.add(probe / PAGE * PAGE).cast(), PAGE, &mut one), 0);
                check_eq!(one & 1, 1);
            }
            check_eq!(libc::mprotect(at.add(offset).cast(), len, READ_WRITE), 0);
            check!(std::slice::from_raw_parts(at, 3 * LARGE).iter().all(|&byte| byte == 7));
            check_eq!(libc::write(pipe[1], at.add(offset).cast(), 8), 8);
        }
        // What is moved without access is found again where it went.
        check_eq!(libc::mprotect(at.cast(), len, libc::PROT_NONE), 0);
        let moved: *mut u8 = libc::mremap(at.cast(), len, 2 * len, libc::MREMAP_MAYMOVE).cast();
        check_eq!((libc::write(pipe[1], moved.cast(), 8), errno()), (-1, libc::EFAULT));
        check_eq!(libc::mprotect(moved.cast(), len, libc::PROT_READ), 0);
        check!(std::slice::from_raw_parts(moved, len).iter().all(|&byte| byte == 7));
        libc::close(pipe[0]);
        libc::close(pipe[1]);
        unmap(moved, 2 * len);
    }
}

/// What a thread's stack is made of: no other core can remember pages that are not there, so none is asked to forget
/// them, however busy it is.
fn protecting_untouched_memory_interrupts_nobody() {
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    const ROUNDS: u64 = 1000;
    let others: Vec<_> = (1..std::thread::available_parallelism().unwrap().get())
        .map(|_| {
            std::thread::spawn(|| {
                while !IS_OVER.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let before = shootdowns();
    for _ in 0..ROUNDS {
        let at = map(16 * PAGE, libc::PROT_NONE);
        // SAFETY: inside the mapping.
        check_eq!(unsafe { libc::mprotect(at.add(PAGE).cast(), 15 * PAGE, READ_WRITE) }, 0);
        unmap(at, 16 * PAGE);
    }
    let asked = shootdowns() - before;
    IS_OVER.store(true, Ordering::Relaxed);
    others.into_iter().for_each(|other| other.join().unwrap());
    check!(asked < ROUNDS / 10);
}

/// How often cores have been asked to forget translations since boot.
fn shootdowns() -> u64 {
    let text = std::fs::read_to_string("/proc/interrupts").unwrap();
    let row = text.lines().find_map(|line| line.trim().strip_prefix("TLB:")).unwrap();
    row.split_whitespace().map_while(|word| word.parse::<u64>().ok()).sum()
}

/// What the kernel copies out of the app and back, at either edge of a mapping: not a byte more or less.
fn copies_of_every_size_are_exact() {
    const MOST: usize = 200;
    const UNTOUCHED: u8 = 0xee;
    let guarded = map(3 * PAGE, libc::PROT_NONE);
    let mut pipe = [0; 2];
    // SAFETY: inside the mapping, and of the page that may be used; the array takes two descriptors.
    let page = unsafe {
        check_eq!(libc::mprotect(guarded.add(PAGE).cast(), PAGE, READ_WRITE), 0);
        check_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        std::slice::from_raw_parts_mut(guarded.add(PAGE), PAGE)
    };
    for len in 1..MOST {
        let pattern: Vec<u8> = (0..len).map(|index| (index * 7 + len) as u8).collect();
        for (start, back) in [(0, PAGE - len), (PAGE - len, 0), (len % 8, 1)] {
            page[start..][..len].copy_from_slice(&pattern);
            // SAFETY: both ranges lie in the page.
            unsafe {
                check_eq!(libc::write(pipe[1], page[start..].as_ptr().cast(), len), len as isize);
                page.fill(UNTOUCHED);
                check_eq!(libc::read(pipe[0], page[back..].as_mut_ptr().cast(), len), len as isize);
            }
            check!(page[back..][..len] == pattern[..]);
            check!(page[..back].iter().chain(&page[back + len..]).all(|&byte| byte == UNTOUCHED));
        }
        // SAFETY: the call is to find that not all of the range can be read.
        let beyond = unsafe { libc::write(pipe[1], page[PAGE - len + 1..].as_ptr().cast(), len) };
        check!(beyond == -1 && errno() == libc::EFAULT || beyond as usize == len - 1);
        if beyond > 0 {
            // SAFETY: inside the page.
            check_eq!(unsafe { libc::read(pipe[0], page.as_mut_ptr().cast(), PAGE) }, beyond);
        }
    }
    // SAFETY: opened above.
    pipe.iter().for_each(|&end| check_eq!(unsafe { libc::close(end) }, 0));
    unmap(guarded, 3 * PAGE);
}

fn moved_memory_keeps_its_content() {
    let at = map(2 * PAGE, READ_WRITE);
    let wall = map(PAGE, READ_WRITE);
    // SAFETY: inside the mapping; afterwards only the new place is used.
    unsafe {
        at.write(1);
        at.add(2 * PAGE - 1).write(2);
        let moved = libc::mremap(at.cast(), 2 * PAGE, 512 * PAGE, libc::MREMAP_MAYMOVE).cast::<u8>();
        check!(moved != libc::MAP_FAILED.cast());
        check_eq!((*moved, *moved.add(2 * PAGE - 1), *moved.add(511 * PAGE)), (1, 2, 0));
        let shrunk = libc::mremap(moved.cast(), 512 * PAGE, PAGE, 0);
        check_eq!(shrunk.cast(), moved);
        unmap(moved, PAGE);
    }
    unmap(wall, PAGE);
}

fn fixed_mappings_replace() {
    let at = map(3 * PAGE, READ_WRITE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: replaces a page of our own mapping.
    unsafe {
        at.write_bytes(5, 3 * PAGE);
        let middle = libc::mmap(at.add(PAGE).cast(), PAGE, READ_WRITE, flags | libc::MAP_FIXED, -1, 0);
        check_eq!(middle.cast(), at.add(PAGE));
        check_eq!((*at, *at.add(PAGE), *at.add(2 * PAGE)), (5, 0, 5));
        let refused = libc::mmap(at.cast(), PAGE, READ_WRITE, flags | libc::MAP_FIXED_NOREPLACE, -1, 0);
        check!(refused == libc::MAP_FAILED && errno() == libc::EEXIST);
    }
    unmap(at, 3 * PAGE);
}

fn break_grows_and_shrinks() {
    // SAFETY: the break is used by nobody: musl's malloc maps its memory.
    unsafe {
        let start = libc::syscall(libc::SYS_brk, 0);
        check_eq!(libc::syscall(libc::SYS_brk, start + 100_000), start + 100_000);
        let byte = (start + 99_999) as *mut u8;
        check_eq!(*byte, 0);
        byte.write(1);
        check_eq!(libc::syscall(libc::SYS_brk, start), start);
        check_eq!(libc::syscall(libc::SYS_brk, start + 100_000), start + 100_000);
        check_eq!(*byte, 0);
        check_eq!(libc::syscall(libc::SYS_brk, start), start);
    }
}

fn too_much_is_an_error() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: asks for more than there is, and touches nothing.
    let at = unsafe { libc::mmap(ptr::null_mut(), 1 << 46, READ_WRITE, flags, -1, 0) };
    check!(at == libc::MAP_FAILED && errno() == libc::ENOMEM);
    check!(Vec::<u8>::new().try_reserve_exact(1 << 46).is_err());
}

fn nonsense_is_refused() {
    let at = map(PAGE, READ_WRITE);
    // SAFETY: all of these are refused.
    unsafe {
        check!(
            libc::mmap(ptr::null_mut(), 0, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
                == libc::MAP_FAILED
        );
        check_eq!(errno(), libc::EINVAL);
        let both = libc::MAP_PRIVATE | libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        check!(libc::mmap(ptr::null_mut(), PAGE, READ_WRITE, both, -1, 0) == libc::MAP_FAILED);
        check_eq!(errno(), libc::EINVAL);
        check!(libc::munmap(at.add(1).cast(), PAGE) == -1 && errno() == libc::EINVAL);
        // The library would round the address down, so past it.
        check!(
            libc::syscall(libc::SYS_mprotect, at.add(1), PAGE, READ_WRITE) == -1 && errno() == libc::EINVAL
        );
        check!(libc::madvise(at.cast(), PAGE, 9999) == -1 && errno() == libc::EINVAL);
        check!(libc::mmap(ptr::null_mut(), PAGE, READ_WRITE, libc::MAP_PRIVATE, 9999, 0) == libc::MAP_FAILED);
        check_eq!(errno(), libc::EBADF);
    }
    unmap(at, PAGE);
}

/// Maps and unmaps more, in all, than the machine has.
fn memory_comes_back() {
    for _ in 0..40 {
        let len = 16 << 20;
        let at = map(len, READ_WRITE);
        for offset in (0..len).step_by(PAGE) {
            // SAFETY: inside the mapping.
            unsafe { at.add(offset).write_volatile(1) };
        }
        unmap(at, len);
    }
}

/// About four MiB of stack, a frame at a time.
#[inline(never)]
fn stack_grows(depth: usize) -> u8 {
    let frame = [depth as u8; 4096];
    let frame = std::hint::black_box(&frame);
    if depth < 1000 { frame[depth % 4096].wrapping_add(stack_grows(depth + 1)) } else { frame[0] }
}
