//! Physical memory: blocks of a page and more from a [`Buddy`], with a stack of single free frames in front, because
//! most traffic is single frames: so they are not joined and cut again all the time.
//!
//! The last [`reserve_pages`] are for the kernel: the app's faults and mappings get
//! "out of memory" before the network and the threads' stacks do. What stays free beyond them for promises that were made
//! to the app is [`set_aside`]. [`can_app_take`] is the one line that both stand in; [`can_objects_take`] the one for kernel objects, half a reserve below. A quarter of the reserve is one piece,
//! the *last resort*, which serves what the kernel cannot do without when no other block is large enough: an app that
//! gives back every second page must not leave the kernel without blocks.

use core::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use unikernel_mm::{Buddy, PageEntry};
use x86_64::PhysAddr;

use super::layout::{PAGE_BYTES, phys_to_virt};
use crate::arch::memory;
use crate::sync::SpinLock;

/// Frames kept at hand, and how many move at a time when the stack runs empty or full.
const STACK_FRAMES: usize = 128;
const BATCH_FRAMES: usize = 32;

struct Frames {
    buddy: Buddy<'static>,
    stack: ArrayVec<u64, STACK_FRAMES>,
}

/// The last resort, with pages numbered from its first.
static LAST_RESORT: SpinLock<Buddy<'static>> = SpinLock::new(Buddy::empty());
static LAST_RESORT_FIRST: AtomicUsize = AtomicUsize::new(0);
static LAST_RESORT_PAGES: AtomicUsize = AtomicUsize::new(0);
static LAST_RESORT_FREE: AtomicUsize = AtomicUsize::new(0);
static FRAMES: SpinLock<Frames> =
    SpinLock::new(Frames { buddy: Buddy::empty(), stack: ArrayVec::new_const() });
static TOTAL_PAGES: AtomicUsize = AtomicUsize::new(0);
static FREE_PAGES: AtomicUsize = AtomicUsize::new(0);
static SET_ASIDE: AtomicUsize = AtomicUsize::new(0);

/// How much memory the table takes that [`init`] needs, in bytes, for RAM that ends at `end`.
pub fn table_bytes(end: u64) -> u64 {
    (end / PAGE_BYTES as u64 * size_of::<PageEntry>() as u64).next_multiple_of(PAGE_BYTES as u64)
}

/// Begins without any frame, for RAM that ends at `end`.
///
/// # Safety
///
/// [`table_bytes`] from `table` on must be RAM, page-aligned, used by nobody, and mapped in the direct map.
pub unsafe fn init(table: PhysAddr, end: u64) {
    let entries = (end / PAGE_BYTES as u64) as usize;
    let first: *mut PageEntry = phys_to_virt(table).as_mut_ptr();
    // SAFETY: the caller hands over this memory, which is large enough and aligned; zeros are entries.
    let table = unsafe {
        core::ptr::write_bytes(first, 0, entries);
        core::slice::from_raw_parts_mut(first, entries)
    };
    FRAMES.lock().buddy = Buddy::new(table);
}

/// Gives RAM to the allocator.
///
/// # Safety
///
/// `[start, end)` must be RAM, page-aligned, used by nobody, mapped in the direct map, below the end that [`init`] was
/// told, and not have been added before.
pub unsafe fn add(start: PhysAddr, end: PhysAddr) {
    let (start, end) = (page_of(start), page_of(end));
    FRAMES.lock().buddy.add(start, end);
    TOTAL_PAGES.fetch_add(end - start, Ordering::Relaxed);
    FREE_PAGES.fetch_add(end - start, Ordering::Relaxed);
}

/// Puts the last resort aside, once all RAM is known.
pub fn set_last_resort_aside() {
    let pages = (reserve_pages() / 4 + 1).next_power_of_two() / 2;
    let table_pages = (pages * size_of::<PageEntry>()).div_ceil(PAGE_BYTES);
    let (Some(block), Some(table)) = (alloc_block(pages), alloc_block(table_pages)) else { return };
    zero(table, table_pages);
    // SAFETY: these frames are ours for ever, aligned, and zeros are entries.
    let table = unsafe { core::slice::from_raw_parts_mut(phys_to_virt(table).as_mut_ptr(), pages) };
    LAST_RESORT_FIRST.store(page_of(block), Ordering::Relaxed);
    LAST_RESORT_PAGES.store(pages, Ordering::Relaxed);
    let mut buddy = Buddy::new(table);
    buddy.add(0, pages);
    *LAST_RESORT.lock() = buddy;
    LAST_RESORT_FREE.store(pages, Ordering::Relaxed);
    FREE_PAGES.fetch_add(pages, Ordering::Relaxed);
}

/// A page's number in the last resort, if it is there.
fn in_last_resort(page: usize) -> Option<usize> {
    let number = page.wrapping_sub(LAST_RESORT_FIRST.load(Ordering::Relaxed));
    (number < LAST_RESORT_PAGES.load(Ordering::Relaxed)).then_some(number)
}

/// True if half of the last resort is taken: then nothing should be made that may need more of it.
pub fn is_last_resort_short() -> bool {
    LAST_RESORT_FREE.load(Ordering::Relaxed) < LAST_RESORT_PAGES.load(Ordering::Relaxed) / 2
}

/// A block for what the kernel cannot do without, when there is no other.
#[cold]
pub fn alloc_from_last_resort(pages: usize) -> Option<PhysAddr> {
    let order = Buddy::order_of(pages);
    let page = LAST_RESORT.lock().alloc(order)? + LAST_RESORT_FIRST.load(Ordering::Relaxed);
    LAST_RESORT_FREE.fetch_sub(1 << order, Ordering::Relaxed);
    FREE_PAGES.fetch_sub(1 << order, Ordering::Relaxed);
    Some(PhysAddr::new((page * PAGE_BYTES) as u64))
}

#[cold]
fn free_to_last_resort(number: usize, order: usize) {
    LAST_RESORT.lock().free(number, order);
    LAST_RESORT_FREE.fetch_add(1 << order, Ordering::Relaxed);
    FREE_PAGES.fetch_add(1 << order, Ordering::Relaxed);
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

/// Sets how many free pages are kept for promises (`overcommit=strict`).
pub fn set_aside(pages: usize) {
    SET_ASIDE.store(pages, Ordering::Relaxed);
}

/// True if the app, or a cache for it, may take `pages` more that it was not promised.
pub fn can_app_take(pages: usize) -> bool {
    let kept = reserve_pages() + SET_ASIDE.load(Ordering::Relaxed);
    free_pages() >= kept.saturating_add(pages)
}

/// True if the kernel may take `pages` for objects that the app causes: they end at half of the reserve, and leave
/// promises alone.
pub fn can_objects_take(pages: usize) -> bool {
    let kept = reserve_pages() / 2 + SET_ASIDE.load(Ordering::Relaxed);
    free_pages() >= kept.saturating_add(pages)
}

/// True if a device may have `pages` for its queues: they end at a quarter of RAM, or many devices would leave nothing for
/// the cores' stacks, the network's tables and the app.
pub fn can_devices_take(pages: usize) -> bool {
    free_pages() >= (total_pages() / 4).saturating_add(pages)
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
    memory::forget(phys_to_virt(frame).as_mut_ptr(), PAGE_BYTES);
    if let Some(number) = in_last_resort(page_of(frame)) {
        return free_to_last_resort(number, 0);
    }
    let mut frames = FRAMES.lock();
    if frames.stack.is_full() {
        drain(&mut frames);
    }
    frames.stack.push(frame.as_u64());
    FREE_PAGES.fetch_add(1, Ordering::Relaxed);
}

/// Takes `pages` contiguous frames (rounded up to a power of two), aligned to their size.
pub fn alloc_block(pages: usize) -> Option<PhysAddr> {
    let order = Buddy::order_of(pages);
    let mut frames = FRAMES.lock();
    let block = match frames.buddy.alloc(order) {
        Some(block) => block,
        None => {
            // The missing buddies may lie in the stack.
            while !frames.stack.is_empty() {
                drain(&mut frames);
            }
            frames.buddy.alloc(order)?
        }
    };
    FREE_PAGES.fetch_sub(1 << order, Ordering::Relaxed);
    Some(PhysAddr::new((block * PAGE_BYTES) as u64))
}

/// Gives a block back.
///
/// # Safety
///
/// The block must come from [`alloc_block`] with the same `pages`, and nothing may use it.
pub unsafe fn free_block(block: PhysAddr, pages: usize) {
    let order = Buddy::order_of(pages);
    memory::forget(phys_to_virt(block).as_mut_ptr(), PAGE_BYTES << order);
    if let Some(number) = in_last_resort(page_of(block)) {
        return free_to_last_resort(number, order);
    }
    FRAMES.lock().buddy.free(page_of(block), order);
    FREE_PAGES.fetch_add(1 << order, Ordering::Relaxed);
}

/// Fills `pages` frames from `frame` on with zeros.
pub(crate) fn zero(frame: PhysAddr, pages: usize) {
    // SAFETY: the caller has just been given these frames, so nobody else looks at them; the
    // direct map covers all RAM.
    unsafe { core::ptr::write_bytes(phys_to_virt(frame).as_mut_ptr::<u8>(), 0, pages * PAGE_BYTES) }
}

fn page_of(address: PhysAddr) -> usize {
    address.as_u64() as usize / PAGE_BYTES
}

fn refill(frames: &mut Frames) {
    for _ in 0..BATCH_FRAMES {
        let Some(page) = frames.buddy.alloc(0) else { return };
        frames.stack.push((page * PAGE_BYTES) as u64);
    }
}

fn drain(frames: &mut Frames) {
    for _ in 0..BATCH_FRAMES {
        let Some(frame) = frames.stack.pop() else { return };
        frames.buddy.free(page_of(PhysAddr::new(frame)), 0);
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
