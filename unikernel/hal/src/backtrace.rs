//! What a walk over the kernel's stack may read.

use core::arch::asm;

use x86_64::VirtAddr;

use crate::kmem::layout::{self, MMIO_BASE, STACKS_BASE};
use crate::kmem::page_table;

/// Where the kernel is.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// Of the instruction.
    pub instruction: u64,
    /// Of the stack.
    pub stack: u64,
    /// Of the frame, if code keeps one.
    pub frame_pointer: u64,
}

/// The registers of whoever calls this.
#[inline(always)]
pub fn here() -> Registers {
    let (instruction, stack, frame_pointer): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        asm!(
            "lea {}, [rip]", "mov {}, rsp", "mov {}, rbp",
            out(reg) instruction, out(reg) stack, out(reg) frame_pointer,
            options(nomem, nostack),
        );
    }
    Registers { instruction, stack, frame_pointer }
}

/// An aligned word of the kernel's stacks or its data; `None` for any other address.
///
/// It cannot be misused: the address is checked, and what is there is a number, old or new if its owner writes it just then.
pub fn stack_word(address: u64) -> Option<u64> {
    let last = address.checked_add(7)?;
    let on_boot_stack = layout::is_kernel_writable(address) && layout::is_kernel_writable(last);
    let on_thread_stack = (STACKS_BASE..MMIO_BASE).contains(&address)
        && page_table::lookup(VirtAddr::new_truncate(address)).is_some();
    if !address.is_multiple_of(8) || !(on_boot_stack || on_thread_stack) {
        return None;
    }
    // SAFETY: the aligned word lies in the kernel's data or on a mapped kernel stack. Volatile, as it may be any thread's.
    Some(unsafe { (address as *const u64).read_volatile() })
}

/// Bytes of the kernel's code, or of a module's; `None` if they are not all that.
///
/// It cannot be misused: the address is checked.
pub fn code<const N: usize>(address: u64) -> Option<[u8; N]> {
    let end = address.checked_add(N as u64)?;
    let is_kernel = address >= layout::kernel_text_start() && end <= layout::kernel_text_end();
    let is_known = is_kernel || is_module_code(address) && is_module_code(end.saturating_sub(1));
    if !is_known {
        return None;
    }
    // SAFETY: the bytes lie in the kernel's code, which is mapped and never written, or in a module's: whoever reads a stack that leads there is in
    // it, or stops the machine, so it stays.
    Some(unsafe { (address as *const [u8; N]).read() })
}

/// True for an address in code of the kernel's half beside the kernel itself.
fn is_module_code(address: u64) -> bool {
    use x86_64::structures::paging::PageTableFlags as Flags;
    let mapping = VirtAddr::try_new(address).ok().filter(|_| address >= layout::KERNEL_OFFSET);
    let flags = mapping.and_then(page_table::lookup).map(|mapping| mapping.flags);
    flags.is_some_and(|flags| flags.contains(Flags::PRESENT) && !flags.contains(Flags::NO_EXECUTE))
}
