//! Stacks of the host's: for kernel threads, the app's threads, and a core's first steps.

use core::arch::global_asm;
use core::ptr;

/// Usable bytes. Code without optimisation takes several times what a kernel's stack has.
pub const STACK_BYTES: usize = 512 << 10;
const GUARD_BYTES: usize = 4096;

unsafe extern "C" {
    /// Saves the caller's registers and stack pointer to `*save`, and goes on where the stack `next` was left.
    #[link_name = "simulated_switch_stacks"]
    pub fn switch_stacks(save: *mut u64, next: u64);
    /// Calls `function(argument)` on the stack that ends at `top`, a multiple of 16.
    #[link_name = "simulated_call_on_stack"]
    pub(super) fn call_on_stack(top: u64, function: u64, argument: u64);
}

global_asm!(
    r#"
    .text
    .global simulated_switch_stacks, simulated_call_on_stack
simulated_switch_stacks:
    pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
    ret
simulated_call_on_stack:
    pushq %rbp
    movq %rsp, %rbp
    movq %rdi, %rsp
    movq %rdx, %rdi
    callq *%rsi
    movq %rbp, %rsp
    popq %rbp
    ret
    "#,
    options(att_syntax)
);

/// A stack, with a page below it that nobody may touch.
pub struct HostStack {
    base: *mut u8,
}

// SAFETY: it is memory that this value owns alone.
unsafe impl Send for HostStack {}
// SAFETY: as above; nothing is reached through a shared reference but its address.
unsafe impl Sync for HostStack {}

impl HostStack {
    /// Takes one from the host.
    pub fn new() -> Option<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of the host's choice.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), STACK_BYTES + GUARD_BYTES, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: its lowest page, which nobody uses.
        unsafe { libc::mprotect(base, GUARD_BYTES, libc::PROT_NONE) };
        Some(Self { base: base.cast() })
    }

    /// One past its highest byte.
    pub fn top(&self) -> u64 {
        (self.base.addr() + STACK_BYTES + GUARD_BYTES) as u64
    }

    /// Prepares it to run `main` at the first switch to it; answers the stack pointer for that.
    pub fn prepare(&self, main: extern "C" fn() -> !) -> u64 {
        self.prepare_at(self.top() - 16, main)
    }

    /// The same, with all above `top` left alone.
    pub fn prepare_at(&self, top: u64, main: extern "C" fn() -> !) -> u64 {
        let mut words = [0u64; 8];
        words[6] = main as *const () as u64;
        // A function expects its return address on a stack that was aligned to 16 bytes before it.
        let stack_pointer = (top & !15) - size_of_val(&words) as u64;
        // SAFETY: below the stack's top by the caller's word, and nobody runs on it.
        unsafe { ptr::with_exposed_provenance_mut::<[u64; 8]>(stack_pointer as usize).write(words) };
        stack_pointer
    }
}

impl Drop for HostStack {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody runs on it any more, by whoever owned it.
        unsafe { libc::munmap(self.base.cast(), STACK_BYTES + GUARD_BYTES) };
    }
}
