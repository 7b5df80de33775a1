//! Kernel stacks and the switch between them. A thread that does not run is a stack whose top
//! holds its callee-saved registers and where it goes on.

use core::arch::global_asm;

use x86_64::VirtAddr;

use super::trap::TrapFrame;
use crate::backtrace::{self, Registers};
use crate::kmem::kernel_map::{self, STACK_BYTES};
use crate::kmem::page_table::OutOfFrames;

unsafe extern "C" {
    /// Saves the caller's registers and stack pointer to `*save`, and goes on where the stack
    /// `next` was left.
    pub fn switch_stacks(save: *mut u64, next: u64);
    /// Where a new thread comes out of its first switch: a part of `entry`.
    fn first_return();
}

global_asm!(
    r#"
    .section .text.switch_stacks, "ax", @progbits
    .global switch_stacks
switch_stacks:
    pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
    ret
    "#,
    options(att_syntax)
);

/// A kernel stack with a guard page below it.
pub struct KernelStack {
    top: VirtAddr,
}

impl KernelStack {
    /// Maps a stack.
    pub fn new() -> Result<Self, OutOfFrames> {
        Ok(Self { top: kernel_map::alloc_stack()? })
    }

    /// One past its highest byte.
    pub fn top(&self) -> u64 {
        self.top.as_u64()
    }

    /// Where the trap frame of the last entry from ring 3 lies: at the very top.
    pub fn user_frame(&self) -> *mut TrapFrame {
        (self.top() - core::mem::size_of::<TrapFrame>() as u64) as *mut TrapFrame
    }

    /// Leaves `word` at the top and answers the 16-byte aligned address just below which a stack
    /// may start, so that the first thing above the frames is the word.
    pub fn top_with_word(&self, word: u64) -> u64 {
        let top = self.top() - 16;
        // SAFETY: the stack is mapped and nobody uses it yet.
        unsafe { (top as *mut u64).write(word) };
        top
    }

    /// Prepares a stack that goes to ring 3 with `frame` at the first switch to it, and answers
    /// the stack pointer for that switch.
    pub fn prepare(&self, frame: &TrapFrame) -> u64 {
        const _: () = assert!(core::mem::size_of::<TrapFrame>() + SWITCH_WORDS * 8 < STACK_BYTES);
        let user_frame = self.user_frame();
        // SAFETY: the stack is mapped, large enough by the assertion above, and nobody uses it.
        unsafe {
            user_frame.write(*frame);
            leave_at(user_frame as u64, first_return as *const () as u64)
        }
    }

    /// Prepares a stack that runs `main` at the first switch to it, and answers the stack pointer
    /// for that switch.
    pub fn prepare_kernel(&self, main: extern "C" fn() -> !) -> u64 {
        // A function expects its return address on a stack that was 16-byte aligned before it.
        let top = self.top_with_word(0) + 8;
        // SAFETY: the stack is mapped, large enough, and nobody uses it.
        unsafe { leave_at(top, main as *const () as u64) }
    }
}

/// What [`switch_stacks`] pops: six callee-saved registers and the return address.
const SWITCH_WORDS: usize = 7;
/// Which of them is `rbp`, and which the return address.
const SAVED_FRAME_POINTER: u64 = 4;
const SAVED_RETURN: u64 = 6;

/// Where a stack goes on that [`switch_stacks`] has left at `stack_pointer`. If it goes on meanwhile, the words are others.
pub fn left_at(stack_pointer: u64) -> Option<Registers> {
    let word = |index: u64| backtrace::stack_word(stack_pointer.checked_add(index * 8)?);
    Some(Registers {
        instruction: word(SAVED_RETURN)?,
        stack: stack_pointer.checked_add(SWITCH_WORDS as u64 * 8)?,
        frame_pointer: word(SAVED_FRAME_POINTER)?,
    })
}

/// Writes what [`switch_stacks`] pops just below `top`, so that it goes on at `entry` with the stack
/// at `top`. Answers the stack pointer.
///
/// # Safety
///
/// [`SWITCH_WORDS`] words below `top` must be mapped and unused.
unsafe fn leave_at(top: u64, entry: u64) -> u64 {
    let stack = top - SWITCH_WORDS as u64 * 8;
    // SAFETY: by the caller.
    unsafe {
        let words = stack as *mut u64;
        for register in 0..SWITCH_WORDS - 1 {
            words.add(register).write(0);
        }
        words.add(SWITCH_WORDS - 1).write(entry);
    }
    stack
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        kernel_map::free_stack(self.top);
    }
}
