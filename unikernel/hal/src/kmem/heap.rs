//! The kernel's `alloc`: size classes in front of the frames.
//!
//! Requests are rounded up to a power of two. Those below a page are objects of a [`slab`], which gives pages
//! back as they become empty. Those of a page and more are blocks of frames; each class keeps some, so that
//! freeing is two stores, where the buddy's own free walks a list.
//!
//! Requests that have a class are served while there is a frame: that there is, [`room`] sees to. Who asks for
//! more says `try_reserve`, and may be refused.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use x86_64::{PhysAddr, VirtAddr};

use super::layout::{PAGE_BYTES, phys_to_virt, virt_to_phys};
use super::{frames, room, slab};
use crate::arch::memory;
use crate::sync::SpinLock;

/// The smallest class: room for the free-list link, and the alignment that XSAVE and friends ask
/// of bigger ones.
const SMALLEST_LOG2: u32 = 4;
/// The largest class; beyond it, requests are whole blocks of frames.
const LARGEST_LOG2: u32 = 16;
/// Larger requests are refused before the kernel's reserve is touched.
const SURE_BYTES: usize = 256 * 1024;
/// The first class whose objects are blocks of frames.
const PAGE_LOG2: u32 = PAGE_BYTES.trailing_zeros();
const SMALL_CLASSES: usize = (PAGE_LOG2 - SMALLEST_LOG2) as usize;
const BLOCK_CLASSES: usize = (LARGEST_LOG2 - PAGE_LOG2 + 1) as usize;
/// Bytes that a class of blocks keeps before it gives some back.
const KEEP_BYTES: usize = 512 * 1024;

/// A free block holds the address of the next.
struct FreeBlock {
    next: Option<NonNull<FreeBlock>>,
}

/// Free blocks of one size.
struct Blocks {
    free: Option<NonNull<FreeBlock>>,
    count: usize,
}

// SAFETY: the blocks on the list are free memory that only the lock's holder touches.
unsafe impl Send for Blocks {}

/// The allocator behind `alloc`.
pub struct KernelHeap {
    small: [SpinLock<slab::Class>; SMALL_CLASSES],
    blocks: [SpinLock<Blocks>; BLOCK_CLASSES],
    used_bytes: AtomicUsize,
}

const fn small_classes() -> [SpinLock<slab::Class>; SMALL_CLASSES] {
    let mut classes = [const { SpinLock::new(slab::Class::new(SMALLEST_LOG2)) }; SMALL_CLASSES];
    let mut index = 1;
    while index < SMALL_CLASSES {
        classes[index] = SpinLock::new(slab::Class::new(SMALLEST_LOG2 + index as u32));
        index += 1;
    }
    classes
}

#[cfg_attr(target_os = "none", global_allocator)]
pub(crate) static HEAP: KernelHeap = KernelHeap {
    small: small_classes(),
    blocks: [const { SpinLock::new(Blocks { free: None, count: 0 }) }; BLOCK_CLASSES],
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

/// How [`HEAP`] serves a request.
enum Source<'h> {
    Small(&'h SpinLock<slab::Class>),
    Blocks(&'h SpinLock<Blocks>),
}

impl KernelHeap {
    fn source(&self, log2: u32) -> Source<'_> {
        match log2.checked_sub(PAGE_LOG2) {
            None => Source::Small(&self.small[(log2 - SMALLEST_LOG2) as usize]),
            Some(order) => Source::Blocks(&self.blocks[order as usize]),
        }
    }
}

impl Blocks {
    fn push(&mut self, block: NonNull<FreeBlock>) {
        // SAFETY: the block is free memory of at least a link's size, aligned to its class.
        unsafe { block.write(FreeBlock { next: self.free }) };
        self.free = Some(block);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<NonNull<FreeBlock>> {
        let block = self.free?;
        // SAFETY: blocks on the list hold a link, written by `push`.
        self.free = unsafe { block.read() }.next;
        self.count -= 1;
        Some(block)
    }

    /// A block from the list, or a fresh one.
    fn alloc(&mut self, log2: u32) -> Option<NonNull<u8>> {
        if let Some(block) = self.pop() {
            return Some(block.cast());
        }
        let pages = 1 << (log2 - PAGE_LOG2);
        let block = frames::alloc_block_or_frame(pages).or_else(|| frames::alloc_from_last_resort(pages))?;
        NonNull::new(phys_to_virt(block).as_mut_ptr())
    }
}

// SAFETY: objects come from frames that nobody else has, each is on no list while it is handed
// out, and classes are powers of two, so every object is aligned to its size.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(log2) = class_log2(layout) else {
            // Who asks for so much can do without, and takes nothing from those who cannot.
            let has_room = if layout.size() <= SURE_BYTES {
                !memory::is_refused()
            } else {
                room::is_left_for(layout.size())
            };
            let block = if has_room { frames::alloc_block(block_pages(layout)) } else { None };
            let Some(block) = block else { return ptr::null_mut() };
            self.used_bytes.fetch_add(block_pages(layout) * PAGE_BYTES, Ordering::Relaxed);
            return phys_to_virt(block).as_mut_ptr();
        };
        let object = match self.source(log2) {
            Source::Small(class) => class.lock().alloc(),
            Source::Blocks(blocks) => blocks.lock().alloc(log2),
        };
        let Some(object) = object else { return ptr::null_mut() };
        self.used_bytes.fetch_add(1 << log2, Ordering::Relaxed);
        object.as_ptr()
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(pointer) = NonNull::new(pointer) else { return };
        let physical = || virt_to_phys(VirtAddr::from_ptr(pointer.as_ptr()));
        let Some(log2) = class_log2(layout) else {
            self.used_bytes.fetch_sub(block_pages(layout) * PAGE_BYTES, Ordering::Relaxed);
            // SAFETY: allocated above as this many frames; the caller is done with it.
            return unsafe { frames::free_block(physical(), block_pages(layout)) };
        };
        self.used_bytes.fetch_sub(1 << log2, Ordering::Relaxed);
        let mut blocks = match self.source(log2) {
            // SAFETY: allocated above from this class; the caller is done with it.
            Source::Small(class) => return unsafe { class.lock().free(pointer) },
            Source::Blocks(blocks) => blocks.lock(),
        };
        if blocks.count << log2 >= KEEP_BYTES {
            // SAFETY: allocated above as a block of this many frames; the caller is done.
            return unsafe { frames::free_block_or_frame(physical(), (1 << log2) / PAGE_BYTES) };
        }
        blocks.push(pointer.cast());
    }
}

/// Gives what classes keep back to the frames, when those run short.
pub fn trim() {
    for class in &HEAP.small {
        class.lock().empty_magazine();
    }
    for (order, blocks) in HEAP.blocks.iter().enumerate() {
        let mut blocks = blocks.lock();
        while let Some(block) = blocks.pop() {
            let physical: PhysAddr = virt_to_phys(VirtAddr::from_ptr(block.as_ptr()));
            // SAFETY: as in `dealloc`; the block was free.
            unsafe { frames::free_block_or_frame(physical, 1 << order) };
        }
    }
}
