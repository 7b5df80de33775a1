//! System calls and page faults.

use std::io::{Read, Write};
use std::ptr;

use crate::best_ns;

const PAGE: usize = 4096;

/// A call that does nothing: `getppid`.
pub(crate) fn null() -> f64 {
    best_ns(20_000, |count| {
        for _ in 0..count {
            // SAFETY: the call takes nothing and changes nothing.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
    })
}

/// The clock, as programs read it: through the vDSO where there is one.
pub(crate) fn clock() -> f64 {
    best_ns(20_000, |count| {
        for _ in 0..count {
            std::hint::black_box(std::time::Instant::now());
        }
    })
}

/// The first touch of a page of fresh memory, with the mapping and unmapping of 256.
pub(crate) fn page_fault() -> f64 {
    const PAGES: usize = 256;
    best_ns(PAGES as u32, |_| {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel picks the place, only the mapping itself is touched, and it is given back.
        unsafe {
            let start = libc::mmap(ptr::null_mut(), PAGES * PAGE, protection, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            for page in 0..PAGES {
                start.cast::<u8>().add(page * PAGE).write_volatile(1);
            }
            libc::munmap(start, PAGES * PAGE);
        }
    })
}

/// One byte through a pipe and back, within one thread: four calls.
pub(crate) fn pipe_round_trip() -> f64 {
    let (mut there_out, mut there_in) = std::io::pipe().expect("a pipe");
    let (mut back_out, mut back_in) = std::io::pipe().expect("a pipe");
    best_ns(2_000, |count| {
        let mut byte = [0];
        for _ in 0..count {
            there_in.write_all(&byte).expect("room for a byte");
            there_out.read_exact(&mut byte).expect("the byte");
            back_in.write_all(&byte).expect("room for a byte");
            back_out.read_exact(&mut byte).expect("the byte");
        }
    })
}
