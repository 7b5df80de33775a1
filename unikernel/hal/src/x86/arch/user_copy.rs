//! The copy between kernel and app that survives a fault. It is the only code in ring 0 that
//! touches user pages; `mem::user` checks ranges before it calls here.
//!
//! The exception table of this kernel has one line: a fault inside `user_copy_loop` continues at
//! `user_copy_landing`, which answers that there was one.
//!
//! Two loops, because no single one serves: `rep movsb` is fastest on silicon with ERMS, and is
//! interpreted byte by byte under TCG, where eight-byte moves are several times faster.

use core::arch::{asm, global_asm};

use super::cpu;
use super::memory::copy_up;

/// From so many bytes on, a string instruction is worth its start.
const STRING_BYTES: usize = 64;

unsafe extern "C" {
    fn user_copy_loop(destination: u64, source: u64, len: usize) -> usize;
    fn user_copy_string(destination: u64, source: u64, len: usize) -> usize;
    fn user_compare_exchange(word: u64, expected: u32, new: u32, found: *mut u32) -> usize;
    static user_copy_begin: u8;
    static user_copy_landing: u8;
}

global_asm!(
    r#"
    .section .text.user_copy, "ax", @progbits
    .global user_copy_begin, user_copy_loop, user_copy_string, user_compare_exchange, user_copy_landing
    // rdi: destination, rsi: source, rdx: bytes.
user_copy_begin:
user_copy_loop:
    "#,
    copy_up!(many: "", end: "
    xorl %eax, %eax
    ret
    "),
    r#"
user_copy_string:
    movq %rdx, %rcx
    rep movsb
    xorl %eax, %eax
    ret
    // rdi: the word, esi: what it should be, edx: what it becomes, rcx: where to leave what it was.
user_compare_exchange:
    movl %esi, %eax
    lock cmpxchgl %edx, (%rdi)
    movl %eax, (%rcx)
    xorl %eax, %eax
    ret
user_copy_landing:
    movl $1, %eax
    ret
    "#,
    options(att_syntax)
);

/// Where a fault at `rip` continues, if it is one that this module expects.
pub fn landing(rip: u64) -> Option<u64> {
    let (begin, landing) = ((&raw const user_copy_begin) as u64, (&raw const user_copy_landing) as u64);
    (begin..landing).contains(&rip).then_some(landing)
}

/// Copies `len` bytes out of the app. Answers 0, or nonzero if a byte could not be read.
///
/// # Safety
///
/// `[source, source + len)` must not overlap kernel memory; `destination` must be valid for
/// writes of `len` bytes.
#[inline]
pub unsafe fn from_user(destination: *mut u8, source: u64, len: usize) -> usize {
    // SAFETY: the caller's obligations are `copy`'s.
    unsafe { copy(destination as u64, source, len) }
}

/// Copies `len` bytes to the app. Answers 0, or nonzero if a byte could not be written.
///
/// # Safety
///
/// `[destination, destination + len)` must not overlap kernel memory; `source` must be valid for
/// reads of `len` bytes.
#[inline]
pub unsafe fn to_user(destination: u64, source: *const u8, len: usize) -> usize {
    // SAFETY: the caller's obligations are `copy`'s.
    unsafe { copy(destination, source as u64, len) }
}

/// Makes a word of the app's `new` if it is `expected`, in one step for all cores. Answers what it was,
/// or `None` if it could not be reached.
///
/// # Safety
///
/// The four bytes at `word` must not overlap kernel memory.
pub unsafe fn compare_exchange(word: u64, expected: u32, new: u32) -> Option<u32> {
    let mut found = 0;
    let open = cpu::has_smap();
    if open {
        // SAFETY: the CPU has SMAP; AC is cleared again below, on success and on a fault alike.
        unsafe { asm!("stac", options(nostack)) };
    }
    // SAFETY: by the caller; a fault on the word lands at `user_copy_landing`.
    let failed = unsafe { user_compare_exchange(word, expected, new, &raw mut found) };
    if open {
        // SAFETY: as above.
        unsafe { asm!("clac", options(nostack)) };
    }
    (failed == 0).then_some(found)
}

/// # Safety
///
/// One side is user memory, which may fault; the other is valid kernel memory.
#[inline]
unsafe fn copy(destination: u64, source: u64, len: usize) -> usize {
    let open = cpu::has_smap();
    if open {
        // SAFETY: the CPU has SMAP; AC is cleared again below, on success and on a fault alike.
        unsafe { asm!("stac", options(nostack)) };
    }
    // SAFETY: by the caller; a fault on the user side lands at `user_copy_landing`.
    let left = unsafe {
        if len >= STRING_BYTES && cpu::has_fast_string() {
            user_copy_string(destination, source, len)
        } else {
            user_copy_loop(destination, source, len)
        }
    };
    if open {
        // SAFETY: as above.
        unsafe { asm!("clac", options(nostack)) };
    }
    left
}
