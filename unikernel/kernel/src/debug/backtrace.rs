//! Who called whom, by the chain of frame pointers: each frame holds the caller's frame pointer
//! and, above it, the return address. The kernel and the app are compiled with frame pointers;
//! code that is not (parts of the prebuilt standard library) shortens the trace, never breaks it.

use core::arch::asm;
use core::fmt::{Result, Write};

use super::symbols;
use crate::arch::trap::TrapFrame;
use crate::mem::layout::{self, STACKS_BASE};
use crate::mem::user::UserPtr;

/// Deeper stacks are cut.
const MAX_FRAMES: usize = 48;

fn write_line(out: &mut impl Write, index: usize, address: u64) -> Result {
    // A return address belongs to the call before it, which may be a function's last instruction.
    let looked_up = if index == 0 { address } else { address.saturating_sub(1) };
    match symbols::find(looked_up) {
        Some(symbol) => writeln!(out, "  {index:2}: {address:#014x} {}+{:#x}", symbol.name, symbol.offset),
        None => writeln!(out, "  {index:2}: {address:#014x}"),
    }
}

/// Writes frames from `address` and `frame_pointer` on; `read` fetches the pair at an address.
fn write_chain(
    out: &mut impl Write,
    address: u64,
    mut frame_pointer: u64,
    read: impl Fn(u64) -> Option<[u64; 2]>,
) -> Result {
    write_line(out, 0, address)?;
    for index in 1..MAX_FRAMES {
        let Some([caller_frame, return_address]) = read(frame_pointer) else { break };
        if return_address == 0 {
            break;
        }
        write_line(out, index, return_address)?;
        // Stacks grow down, so callers lie above; anything else is not a chain.
        if caller_frame <= frame_pointer {
            break;
        }
        frame_pointer = caller_frame;
    }
    Ok(())
}

/// Writes the kernel's stack from a fault's registers.
pub fn write_kernel(out: &mut impl Write, address: u64, frame_pointer: u64) -> Result {
    writeln!(out, "kernel backtrace:")?;
    write_chain(out, address, frame_pointer, read_kernel)
}

/// Writes the kernel's stack from here.
pub fn write_here(out: &mut impl Write) -> Result {
    let (address, frame_pointer): (u64, u64);
    // SAFETY: reads two registers.
    unsafe { asm!("lea {}, [rip]", "mov {}, rbp", out(reg) address, out(reg) frame_pointer, options(nomem, nostack)) };
    write_kernel(out, address, frame_pointer)
}

fn read_kernel(frame_pointer: u64) -> Option<[u64; 2]> {
    let on_boot_stack = layout::is_kernel_writable(frame_pointer) && layout::is_kernel_writable(frame_pointer + 15);
    let on_thread_stack = (STACKS_BASE..layout::MMIO_BASE).contains(&frame_pointer)
        && crate::mem::page_table::lookup(x86_64::VirtAddr::new_truncate(frame_pointer + 15)).is_some();
    if !frame_pointer.is_multiple_of(8) || !(on_boot_stack || on_thread_stack) {
        return None;
    }
    // SAFETY: the two words lie in the kernel's data or on a mapped kernel stack.
    Some(unsafe { (frame_pointer as *const [u64; 2]).read() })
}

/// Writes the app's stack.
pub fn write_user(out: &mut impl Write, frame: &TrapFrame) -> Result {
    writeln!(out, "backtrace:")?;
    write_chain(out, frame.rip, frame.rbp, |at| UserPtr::<[u64; 2]>::new(at).read().ok())
}
