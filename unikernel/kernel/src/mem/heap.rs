//! The kernel's `alloc`: size classes in front of the frames.
//!
//! Small requests are rounded up to a power of two and served from a free list of that class; an
//! empty class takes one block of frames and cuts it up. Objects of a page and more go back to
//! the buddy once their class holds enough; smaller ones stay in their class. Freeing is two
//! stores, where the buddy's own free walks a list.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use x86_64::{PhysAddr, VirtAddr};

use super::layout::{PAGE_BYTES, phys_to_virt, virt_to_phys};
use super::{frames, space};
use crate::fs::disk::cache;
use crate::sync::SpinLock;

/// The smallest class: room for the free-list link, and the alignment that XSAVE and friends ask
/// of bigger ones.
const SMALLEST_LOG2: u32 = 4;
/// The largest class; beyond it, requests are whole blocks of frames.
const LARGEST_LOG2: u32 = 16;
const CLASSES: usize = (LARGEST_LOG2 - SMALLEST_LOG2 + 1) as usize;
/// Bytes that a class of a page and more keeps before it gives blocks back.
const KEEP_BYTES: usize = 512 * 1024;

/// A free object holds the address of the next.
struct FreeObject {
    next: Option<NonNull<FreeObject>>,
}

#[derive(Clone, Copy)]
struct Class {
    free: Option<NonNull<FreeObject>>,
    count: usize,
}

// SAFETY: the objects on the list are free memory that only the lock's holder touches.
unsafe impl Send for Class {}

/// The allocator behind `alloc`.
pub struct KernelHeap {
    classes: [SpinLock<Class>; CLASSES],
    used_bytes: AtomicUsize,
}

#[global_allocator]
static HEAP: KernelHeap = KernelHeap {
    classes: [const { SpinLock::new(Class { free: None, count: 0 }) }; CLASSES],
    used_bytes: AtomicUsize::new(0),
};

/// Bytes handed out, rounded up to their classes.
pub fn used_bytes() -> usize {
    HEAP.used_bytes.load(Ordering::Relaxed)
}

/// The class for `layout`, as its log2, or `None` for whole blocks of frames.
fn class_log2(layout: Layout) -> Option<u32> {
    let bytes = layout.size().max(layout.align()).max(1 << SMALLEST_LOG2);
    let log2 = usize::BITS - (bytes - 1).leading_zeros();
    (log2 <= LARGEST_LOG2).then_some(log2)
}

fn block_pages(layout: Layout) -> usize {
    layout.size().max(layout.align()).div_ceil(PAGE_BYTES).next_power_of_two()
}

impl KernelHeap {
    fn class(&self, log2: u32) -> &SpinLock<Class> {
        &self.classes[(log2 - SMALLEST_LOG2) as usize]
    }
}

impl Class {
    fn push(&mut self, object: NonNull<FreeObject>) {
        // SAFETY: the object is free memory of at least a link's size, aligned to its class.
        unsafe { object.write(FreeObject { next: self.free }) };
        self.free = Some(object);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<NonNull<FreeObject>> {
        let object = self.free?;
        // SAFETY: objects on the list hold a link, written by `push`.
        self.free = unsafe { object.read() }.next;
        self.count -= 1;
        Some(object)
    }

    /// Cuts fresh frames into objects.
    fn refill(&mut self, log2: u32) -> Option<()> {
        let pages = (1usize << log2).div_ceil(PAGE_BYTES);
        let block = phys_to_virt(frames::alloc_block_or_frame(pages)?);
        for offset in (0..pages * PAGE_BYTES).step_by(1 << log2) {
            self.push(NonNull::new((block + offset as u64).as_mut_ptr())?);
        }
        Some(())
    }
}

// SAFETY: objects come from frames that nobody else has, each is on no list while it is handed
// out, and classes are powers of two, so every object is aligned to its size.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(log2) = class_log2(layout) else {
            let Some(block) = frames::alloc_block(block_pages(layout)) else { return ptr::null_mut() };
            self.used_bytes.fetch_add(block_pages(layout) * PAGE_BYTES, Ordering::Relaxed);
            return phys_to_virt(block).as_mut_ptr();
        };
        let mut class = self.class(log2).lock();
        if class.free.is_none() && class.refill(log2).is_none() {
            return ptr::null_mut();
        }
        self.used_bytes.fetch_add(1 << log2, Ordering::Relaxed);
        class.pop().map_or(ptr::null_mut(), |object| object.as_ptr().cast())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let physical = virt_to_phys(VirtAddr::from_ptr(pointer));
        let Some(log2) = class_log2(layout) else {
            self.used_bytes.fetch_sub(block_pages(layout) * PAGE_BYTES, Ordering::Relaxed);
            // SAFETY: allocated above as this many frames; the caller is done with it.
            return unsafe { frames::free_block(physical, block_pages(layout)) };
        };
        self.used_bytes.fetch_sub(1 << log2, Ordering::Relaxed);
        let mut class = self.class(log2).lock();
        if (1usize << log2) >= PAGE_BYTES && class.count << log2 >= KEEP_BYTES {
            // SAFETY: an object of a page and more is a whole block of frames; the caller is done.
            return unsafe { frames::free_block_or_frame(physical, (1 << log2) / PAGE_BYTES) };
        }
        if let Some(object) = NonNull::new(pointer.cast()) {
            class.push(object);
        }
    }
}

/// Gives the blocks that classes keep back to the frames, when those run short.
pub fn trim() {
    for log2 in PAGE_BYTES.trailing_zeros()..=LARGEST_LOG2 {
        let mut class = HEAP.class(log2).lock();
        while let Some(object) = class.pop() {
            let physical: PhysAddr = virt_to_phys(VirtAddr::from_ptr(object.as_ptr()));
            // SAFETY: as in `dealloc`; the object was free.
            unsafe { frames::free_block_or_frame(physical, (1 << log2) / PAGE_BYTES) };
        }
    }
}

/// Makes room for `pages` of the app's, if they are not there: from the classes here, then from the page
/// cache, last from what of it is mapped. Never sleeps.
pub fn make_room(pages: usize) {
    if frames::can_app_take(pages) {
        return;
    }
    trim();
    while !frames::can_app_take(pages) {
        let is_freed = cache::shrink(pages + 64) > 0;
        if !is_freed && space::release_clean() == 0 {
            break;
        }
    }
}
