//! Physical memory: blocks of a page and more from `buddy_system_allocator`, with a stack of
//! single free frames in front, because the buddy's free walks a list (9 µs on a fragmented heap)
//! and most traffic is single frames.
//!
//! The last [`reserve_pages`] are for the kernel: the app's faults and mappings get
//! "out of memory" before the network and the threads' stacks do.

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use buddy_system_allocator::Heap;
use x86_64::{PhysAddr, VirtAddr};

use super::layout::{PAGE_BYTES, phys_to_virt, virt_to_phys};
use crate::sync::SpinLock;

/// Blocks up to 2^(ORDER - 1) bytes, which is more RAM than a guest has.
const ORDER: usize = 44;
/// Frames kept at hand, and how many move at a time when the stack runs empty or full.
const STACK_FRAMES: usize = 128;
const BATCH_FRAMES: usize = 32;

struct Frames {
    buddy: Heap<ORDER>,
    stack: ArrayVec<u64, STACK_FRAMES>,
}

static FRAMES: SpinLock<Frames> = SpinLock::new(Frames { buddy: Heap::new(), stack: ArrayVec::new_const() });
static TOTAL_PAGES: AtomicUsize = AtomicUsize::new(0);
static FREE_PAGES: AtomicUsize = AtomicUsize::new(0);

const PAGE_LAYOUT: Layout = match Layout::from_size_align(PAGE_BYTES, PAGE_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a page is its own alignment"),
};

/// Gives RAM to the allocator.
///
/// # Safety
///
/// `[start, end)` must be RAM, page-aligned, used by nobody, mapped in the direct map, and not
/// have been added before.
pub unsafe fn add(start: PhysAddr, end: PhysAddr) {
    let pages = ((end - start) as usize) / PAGE_BYTES;
    // SAFETY: the caller hands over memory that is valid, unused and not yet managed.
    unsafe {
        FRAMES
            .lock()
            .buddy
            .add_to_heap(phys_to_virt(start).as_u64() as usize, phys_to_virt(end).as_u64() as usize);
    }
    TOTAL_PAGES.fetch_add(pages, Ordering::Relaxed);
    FREE_PAGES.fetch_add(pages, Ordering::Relaxed);
}

/// All pages ever added.
pub fn total_pages() -> usize {
    TOTAL_PAGES.load(Ordering::Relaxed)
}

/// Pages that nobody uses.
pub fn free_pages() -> usize {
    FREE_PAGES.load(Ordering::Relaxed)
}

/// Pages that the app cannot have: 1/16 of RAM, at most 16 MiB.
pub fn reserve_pages() -> usize {
    (total_pages() / 16).min(4096)
}

/// True if the app may take `pages` more.
pub fn can_app_take(pages: usize) -> bool {
    free_pages() >= reserve_pages() + pages
}

/// Takes one frame with whatever content it has.
pub fn alloc() -> Option<PhysAddr> {
    let mut frames = FRAMES.lock();
    if frames.stack.is_empty() {
        refill(&mut frames);
    }
    let frame = frames.stack.pop()?;
    FREE_PAGES.fetch_sub(1, Ordering::Relaxed);
    Some(PhysAddr::new(frame))
}

/// Takes one frame of zeros.
pub fn alloc_zeroed() -> Option<PhysAddr> {
    let frame = alloc()?;
    zero(frame, 1);
    Some(frame)
}

/// Gives a frame back.
///
/// # Safety
///
/// The frame must come from [`alloc`] or [`alloc_zeroed`], and nothing may use it any more.
pub unsafe fn free(frame: PhysAddr) {
    let mut frames = FRAMES.lock();
    if frames.stack.is_full() {
        drain(&mut frames);
    }
    frames.stack.push(frame.as_u64());
    FREE_PAGES.fetch_add(1, Ordering::Relaxed);
}

/// Takes `pages` contiguous frames (rounded up to a power of two), aligned to their size.
pub fn alloc_block(pages: usize) -> Option<PhysAddr> {
    let layout = block_layout(pages)?;
    let mut frames = FRAMES.lock();
    let block = match frames.buddy.alloc(layout) {
        Ok(block) => block,
        Err(()) => {
            // The missing buddies may lie in the stack.
            while !frames.stack.is_empty() {
                drain(&mut frames);
            }
            frames.buddy.alloc(layout).ok()?
        }
    };
    FREE_PAGES.fetch_sub(layout.size() / PAGE_BYTES, Ordering::Relaxed);
    Some(virt_to_phys(VirtAddr::from_ptr(block.as_ptr())))
}

/// Gives a block back.
///
/// # Safety
///
/// The block must come from [`alloc_block`] with the same `pages`, and nothing may use it.
pub unsafe fn free_block(block: PhysAddr, pages: usize) {
    let Some(layout) = block_layout(pages) else { return };
    // SAFETY: by the caller, it was allocated with this layout.
    unsafe { FRAMES.lock().buddy.dealloc(pointer(block.as_u64()), layout) };
    FREE_PAGES.fetch_add(layout.size() / PAGE_BYTES, Ordering::Relaxed);
}

/// Fills `pages` frames from `frame` on with zeros.
pub fn zero(frame: PhysAddr, pages: usize) {
    // SAFETY: the caller has just been given these frames, so nobody else looks at them; the
    // direct map covers all RAM.
    unsafe { core::ptr::write_bytes(phys_to_virt(frame).as_mut_ptr::<u8>(), 0, pages * PAGE_BYTES) }
}

fn block_layout(pages: usize) -> Option<Layout> {
    let bytes = pages.checked_next_power_of_two()?.checked_mul(PAGE_BYTES)?;
    Layout::from_size_align(bytes, bytes).ok()
}

fn pointer(frame: u64) -> NonNull<u8> {
    NonNull::new(phys_to_virt(PhysAddr::new(frame)).as_mut_ptr()).expect("the direct map is not at zero")
}

fn refill(frames: &mut Frames) {
    for _ in 0..BATCH_FRAMES {
        let Ok(page) = frames.buddy.alloc(PAGE_LAYOUT) else { return };
        frames.stack.push(virt_to_phys(VirtAddr::from_ptr(page.as_ptr())).as_u64());
    }
}

fn drain(frames: &mut Frames) {
    for _ in 0..BATCH_FRAMES {
        let Some(frame) = frames.stack.pop() else { return };
        // SAFETY: frames on the stack came from the buddy as single pages and are free.
        unsafe { frames.buddy.dealloc(pointer(frame), PAGE_LAYOUT) };
    }
}

/// [`alloc_block`], with single frames from the stack.
pub fn alloc_block_or_frame(pages: usize) -> Option<PhysAddr> {
    if pages == 1 { alloc() } else { alloc_block(pages) }
}

/// Undoes [`alloc_block_or_frame`].
///
/// # Safety
///
/// As [`free_block`].
pub unsafe fn free_block_or_frame(block: PhysAddr, pages: usize) {
    // SAFETY: by the caller.
    unsafe { if pages == 1 { free(block) } else { free_block(block, pages) } }
}
