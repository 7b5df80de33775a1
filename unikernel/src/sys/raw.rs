//! The `syscall` instruction.

use core::arch::asm;

use crate::Error;

/// Runs a system call with six arguments; unused ones are 0.
///
/// # Safety
///
/// The arguments must be such that the call, as its manual page describes it, touches only memory
/// that the caller may lend for it.
#[inline]
pub(super) unsafe fn syscall(number: u32, args: [usize; 6]) -> Result<usize, Error> {
    let result: isize;
    // SAFETY: the kernel changes rax, rcx and r11 and no other register (x86-64 psABI, A.2.1); what
    // happens to memory is the caller's obligation.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if (-4095..0).contains(&result) { Err(Error::from_number(-result as u16)) } else { Ok(result as usize) }
}

/// [`syscall`] with fewer arguments.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {{
        let mut args = [0usize; 6];
        let given: &[usize] = &[$($argument as usize),*];
        args[..given.len()].copy_from_slice(given);
        $crate::sys::raw::syscall($number, args)
    }};
}
pub(super) use call;
