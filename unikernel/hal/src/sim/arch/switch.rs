//! Kernel stacks and the switch between them. A thread has two of the host's: one for the kernel, one for the app's code.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use x86_64::PhysAddr;

use super::cpu::this_cpu;
use super::trap::TrapFrame;
use crate::backtrace::Registers;
use crate::kmem::frames;
use crate::kmem::page_table::OutOfFrames;
use crate::sim::heap::HostScope;
use crate::sim::kernel_map::STACKS;
use crate::sim::stack::HostStack;
pub use crate::sim::stack::switch_stacks;
use crate::sim::{app, stack};

/// Frames that a kernel stack takes on a machine, and is accounted here.
const STACK_PAGES: usize = 4;
/// What the top of a kernel stack keeps: the frame, and the stack of the app's code.
const TOP_BYTES: u64 = 16;

/// A kernel stack.
pub struct KernelStack {
    kernel: HostStack,
    /// Held by the top of `kernel`, too.
    user: HostStack,
    accounted: ArrayVec<PhysAddr, STACK_PAGES>,
}

impl KernelStack {
    /// Makes a stack.
    pub fn new() -> Result<Self, OutOfFrames> {
        if super::memory::is_refused() {
            return Err(OutOfFrames);
        }
        let mut accounted = ArrayVec::new();
        while !accounted.is_full() {
            let Some(frame) = frames::alloc() else {
                // SAFETY: they have just been taken, and nobody knows them.
                accounted.into_iter().for_each(|frame| unsafe { frames::free(frame) });
                return Err(OutOfFrames);
            };
            accounted.push(frame);
        }
        let _host = HostScope::enter();
        let kernel = HostStack::new().ok_or(OutOfFrames)?;
        let user = HostStack::new().ok_or(OutOfFrames)?;
        STACKS.fetch_add(1, Ordering::Relaxed);
        let made = Self { kernel, user, accounted };
        // SAFETY: the top of the stack is ours, and the frame lies below.
        unsafe { core::ptr::with_exposed_provenance_mut::<u64>(made.top() as usize).write(made.user.top()) };
        Ok(made)
    }

    /// One past its highest byte that a thread may use.
    pub fn top(&self) -> u64 {
        self.kernel.top() - TOP_BYTES
    }

    /// Where the trap frame of the last entry from ring 3 lies: at the very top.
    pub fn user_frame(&self) -> *mut TrapFrame {
        frame_below(self.top())
    }

    /// Prepares a stack that goes to ring 3 with `frame` at the first switch to it, and answers
    /// the stack pointer for that switch.
    pub fn prepare(&self, frame: &TrapFrame) -> u64 {
        // SAFETY: the top of the stack is mapped, and nobody uses it.
        unsafe { self.user_frame().write(*frame) };
        self.kernel.prepare_at(self.user_frame().addr() as u64, first_return)
    }

    /// Prepares a stack that runs `main` at the first switch to it, and answers the stack pointer
    /// for that switch.
    pub fn prepare_kernel(&self, main: extern "C" fn() -> !) -> u64 {
        self.kernel.prepare_at(self.top(), main)
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        STACKS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: taken in `new`, for nothing else than to be counted.
        self.accounted.drain(..).for_each(|frame| unsafe { frames::free(frame) });
    }
}

fn frame_below(top: u64) -> *mut TrapFrame {
    core::ptr::with_exposed_provenance_mut(top as usize - size_of::<TrapFrame>())
}

/// The frame of the running thread, and the top of the stack for the app's code.
pub(in crate::sim) fn running() -> (*mut TrapFrame, u64) {
    let top = this_cpu().kernel_stack_top();
    // SAFETY: `KernelStack::new` has written it, and the thread that runs has its stack.
    let user_top = unsafe { core::ptr::with_exposed_provenance::<u64>(top as usize).read() };
    (frame_below(top), user_top)
}

/// Where a stack goes on: what is saved there is the host's business.
pub fn left_at(_stack_pointer: u64) -> Option<Registers> {
    None
}

unsafe extern "C" {
    safe fn kernel_switched();
    safe fn kernel_first_exit(frame: &mut TrapFrame);
}

/// Where a new thread comes out of its first switch.
extern "C" fn first_return() -> ! {
    kernel_switched();
    let (frame, user_top) = running();
    // SAFETY: the frame was written by `prepare`, and is the running thread's alone.
    kernel_first_exit(unsafe { &mut *frame });
    // SAFETY: the app's stack is this thread's alone, and empty. The call never returns: threads end in a system call.
    unsafe { stack::call_on_stack(user_top, app::thread_main as *const () as u64, 0) };
    unreachable!("a thread of the app came back")
}
