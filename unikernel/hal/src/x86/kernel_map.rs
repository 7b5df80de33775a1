//! What the kernel maps for itself beyond its image and the direct map: stacks between guard
//! pages, device registers, and memory that devices read and write.

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags as Flags};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::tlb;
use crate::kmem::frames;
use crate::kmem::layout::{self, LARGE_PAGE_BYTES, MMIO_BASE, PAGE_BYTES, STACKS_BASE, virt_to_phys};
use crate::kmem::page_table::{self, KERNEL_DATA, OutOfFrames, descend};
use crate::sync::SpinLock;

/// Fills the kernel's half of new page tables: the direct map up to `ram_end`, and the image with exact permissions.
pub(crate) fn fill(root: &mut PageTable, ram_end: PhysAddr) -> Result<(), OutOfFrames> {
    let has_gib_pages = raw_cpuid::CpuId::new()
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|features| features.has_1gib_pages());
    direct_map(&mut root[256], ram_end, has_gib_pages)?;
    map_kernel_image(root)
}

fn direct_map(slot: &mut PageTableEntry, ram_end: PhysAddr, has_gib_pages: bool) -> Result<(), OutOfFrames> {
    let pointers = descend(slot)?;
    for gib in 0..ram_end.as_u64().div_ceil(1 << 30) {
        let start = PhysAddr::new(gib << 30);
        let entry = &mut pointers[gib as usize];
        if has_gib_pages {
            entry.set_addr(start, KERNEL_DATA | Flags::HUGE_PAGE);
            continue;
        }
        let directory = descend(entry)?;
        for (index, large) in directory.iter_mut().enumerate() {
            large.set_addr(start + index as u64 * LARGE_PAGE_BYTES, KERNEL_DATA | Flags::HUGE_PAGE);
        }
    }
    Ok(())
}

fn map_kernel_image(root: &mut PageTable) -> Result<(), OutOfFrames> {
    let mut at = layout::page_down(layout::kernel_start());
    while at < layout::kernel_bss_end() {
        let virt = VirtAddr::new(at);
        let flags = layout::kernel_page_flags(at) | Flags::GLOBAL;
        let pointers = descend(&mut root[virt.p4_index()])?;
        let directory = descend(&mut pointers[virt.p3_index()])?;
        descend(&mut directory[virt.p2_index()])?[virt.p1_index()].set_addr(virt_to_phys(virt), flags);
        at += PAGE_BYTES as u64;
    }
    Ok(())
}

/// Usable bytes of a kernel stack.
pub const STACK_BYTES: usize = 4 * PAGE_BYTES;
/// Distance between stacks: the stack and, below it, a page that is never mapped.
const STACK_STRIDE: u64 = (STACK_BYTES + PAGE_BYTES) as u64;

const STACK_PAGES: usize = STACK_BYTES / PAGE_BYTES;
/// A core that idles forgets such pages with all that are not global ([`tlb::flush`]).
const STACK_PAGE: Flags = KERNEL_DATA.difference(Flags::GLOBAL);
/// Stacks unmapped at a time.
const TRIM_STACKS: usize = 8;

/// Both lists have room for all stacks, so that giving one back needs no memory.
struct Stacks {
    /// Tops of mapped stacks that nobody uses.
    free: Vec<VirtAddr>,
    /// Tops of stacks that were unmapped.
    unmapped: Vec<VirtAddr>,
    next: u64,
}

static STACKS: SpinLock<Stacks> =
    SpinLock::new(Stacks { free: Vec::new(), unmapped: Vec::new(), next: STACKS_BASE });

impl Stacks {
    /// How many places for stacks there are.
    fn count(&self) -> usize {
        ((self.next - STACKS_BASE) / STACK_STRIDE) as usize
    }

    /// A place where no stack is mapped.
    fn place(&mut self) -> Result<VirtAddr, OutOfFrames> {
        if let Some(top) = self.unmapped.pop() {
            return Ok(top);
        }
        let count = self.count() + 1;
        for list in [&mut self.free, &mut self.unmapped] {
            list.try_reserve(count - list.len()).map_err(|_| OutOfFrames)?;
        }
        self.next += STACK_STRIDE;
        Ok(VirtAddr::new(self.next))
    }
}

/// Maps a kernel stack and answers its top. Below it is a guard page: an overflow raises a double
/// fault (on a stack of its own) instead of eating what lies there.
pub fn alloc_stack() -> Result<VirtAddr, OutOfFrames> {
    let mut stacks = STACKS.lock();
    if let Some(top) = stacks.free.pop() {
        return Ok(top);
    }
    let top = stacks.place()?;
    map_stack(top).inspect_err(|_| stacks.unmapped.push(top))?;
    Ok(top)
}

fn bottom(top: VirtAddr) -> u64 {
    top.as_u64() - STACK_BYTES as u64
}

/// Maps a whole stack or nothing. All memory is taken before the first page is mapped: a page that was mapped, even if
/// nobody used it, would have to be forgotten by all cores before its frame may go to somebody else.
fn map_stack(top: VirtAddr) -> Result<(), OutOfFrames> {
    page_table::prepare_range(bottom(top), top.as_u64())?;
    let frames = stack_frames()?;
    for (page, frame) in (bottom(top)..top.as_u64()).step_by(PAGE_BYTES).zip(frames) {
        page_table::map(VirtAddr::new(page), frame, STACK_PAGE)?;
    }
    Ok(())
}

fn stack_frames() -> Result<ArrayVec<PhysAddr, STACK_PAGES>, OutOfFrames> {
    let mut taken = ArrayVec::new();
    while !taken.is_full() {
        let Some(frame) = frames::alloc_zeroed() else {
            // SAFETY: they have just been allocated, and were never mapped.
            taken.into_iter().for_each(|frame| unsafe { frames::free(frame) });
            return Err(OutOfFrames);
        };
        taken.push(frame);
    }
    Ok(taken)
}

/// Unmaps a stack; answers its frames, which a core may remember until it is told.
fn take_frames(top: VirtAddr) -> ArrayVec<PhysAddr, STACK_PAGES> {
    let mut taken = ArrayVec::new();
    // These are small pages, so none is split and nothing can fail.
    let _ = page_table::for_each_mapped(bottom(top), top.as_u64(), |_, entry, _| {
        taken.push(page_table::take(entry).0);
        ControlFlow::Continue(())
    });
    taken
}

/// Bytes of all kernel stacks that are mapped.
pub fn stack_bytes() -> usize {
    let stacks = STACKS.lock();
    (stacks.count() - stacks.unmapped.len()) * STACK_BYTES
}

/// Gives a stack back for the next thread. It stays mapped until memory is short ([`trim_stacks`]).
pub fn free_stack(top: VirtAddr) {
    STACKS.lock().free.push(top);
}

/// Unmaps some stacks that nobody uses; true if there were any. The caller holds the address space's lock, as
/// [`tlb::flush`] asks.
pub fn trim_stacks() -> bool {
    let mut tops = ArrayVec::<VirtAddr, TRIM_STACKS>::new();
    let mut taken = ArrayVec::<PhysAddr, { TRIM_STACKS * STACK_PAGES }>::new();
    {
        let mut stacks = STACKS.lock();
        while !tops.is_full()
            && let Some(top) = stacks.free.pop()
        {
            taken.extend(take_frames(top));
            tops.push(top);
        }
    }
    let Some(lowest) = tops.iter().min() else { return false };
    let highest = tops.iter().max().unwrap_or(lowest);
    tlb::flush(bottom(*lowest), highest.as_u64());
    // SAFETY: the stacks were nobody's, and no core remembers their pages.
    taken.into_iter().for_each(|frame| unsafe { frames::free(frame) });
    STACKS.lock().unmapped.extend(tops);
    true
}

static NEXT_MMIO: AtomicU64 = AtomicU64::new(MMIO_BASE);

/// Maps `len` bytes of device registers, uncached. Mappings are for ever.
///
/// # Panics
///
/// If no frame is left for a page table, which at boot means that the guest has no memory at all.
pub fn map_mmio(physical: PhysAddr, len: usize) -> VirtAddr {
    let offset = physical.as_u64() & (PAGE_BYTES as u64 - 1);
    let pages = (offset + len as u64).div_ceil(PAGE_BYTES as u64);
    let base = NEXT_MMIO.fetch_add(pages * PAGE_BYTES as u64, Ordering::Relaxed);
    for page in 0..pages {
        let at = page * PAGE_BYTES as u64;
        page_table::map(VirtAddr::new(base + at), physical - offset + at, KERNEL_DATA | Flags::NO_CACHE)
            .expect("memory for the page tables of device registers");
    }
    VirtAddr::new(base + offset)
}
