//! The allocator of a program with a machine in it: the kernel's own heap for the kernel, the host's for the rest. Whose turn it is
//! says a flag; who is to get something back says its address.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, Ordering};
use std::alloc::System;

use super::{memory, poison};
use crate::kmem::heap::HEAP as KERNEL_HEAP;

struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// True while the kernel's code runs.
static IS_KERNEL: AtomicBool = AtomicBool::new(false);

// SAFETY: both allocators keep what `GlobalAlloc` asks, and what one has given goes back to it: the kernel's heap gives
// addresses in RAM, where the host has nothing.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_KERNEL.load(Ordering::Relaxed) {
            // SAFETY: by the caller.
            let object = unsafe { KERNEL_HEAP.alloc(layout) };
            if !object.is_null() {
                // SAFETY: so many bytes are the new object's, which has no value yet.
                unsafe { poison::fill(object, layout.size()) };
            }
            object
        } else {
            // SAFETY: by the caller.
            unsafe { System.alloc(layout) }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if memory::contains(pointer) {
            // SAFETY: by the caller; the address says that it is the kernel's.
            unsafe { KERNEL_HEAP.dealloc(pointer, layout) }
        } else {
            // SAFETY: by the caller; the address says that it is the host's.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

/// Code of the host's runs until this is dropped.
pub struct HostScope(bool);

impl HostScope {
    /// Begins it.
    pub fn enter() -> Self {
        Self(IS_KERNEL.swap(false, Ordering::Relaxed))
    }
}

impl Drop for HostScope {
    fn drop(&mut self) {
        IS_KERNEL.store(self.0, Ordering::Relaxed);
    }
}

/// The kernel's code runs from here on, or does not.
pub(super) fn set_kernel(is_kernel: bool) {
    IS_KERNEL.store(is_kernel, Ordering::Relaxed);
}
