//! The one set of page tables. The app's half is changed by `space` and `fault` under the space
//! lock, the kernel's by `kernel_map` under its own. The mapping of the kernel's image does not change
//! after [`init`].
//!
//! [`prune`] takes tables out that are empty.
//!
//! What was absent needs no flush when it appears (SDM Vol. 3, 4.10.4.3). Who takes a page or a
//! permission away calls [`tlb::flush`](crate::arch::tlb::flush).

mod app;
mod prune;
mod taken;

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags as Flags};
use x86_64::{PhysAddr, VirtAddr};

pub(crate) use app::map_app;
pub use app::{Entry, for_each_entry, map_image, map_shared, map_vdso, move_page};
pub use prune::prune;
pub use taken::{Gone, TakenPages};

use super::layout;
use super::layout::USER_END;
use super::layout::{DIRECT_MAP_BASE, LARGE_PAGE_BYTES, PAGE_BYTES, phys_to_virt};
use super::{frames, kernel_map};
use crate::arch::{memory, paging};

/// No frame could be had for a table or page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfFrames;

/// Supervisor data: the direct map, stacks.
pub const KERNEL_DATA: Flags =
    Flags::PRESENT.union(Flags::WRITABLE).union(Flags::NO_EXECUTE).union(Flags::GLOBAL);
const TABLE: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::USER_ACCESSIBLE);

/// Marks the entry of a page that an object owns, too (the bit is the system's to use): its frame is not given back with it.
pub const SHARED: Flags = Flags::BIT_9;
/// Marks the entry of a page that a charged region has of its own.
pub const CHARGED: Flags = Flags::BIT_11;

/// What is mapped at an address.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// First byte of the page or large page.
    pub frame: PhysAddr,
    /// Its permissions.
    pub flags: Flags,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Frames that are page tables.
static TABLES: AtomicUsize = AtomicUsize::new(0);

/// How many frames are page tables.
pub fn count() -> usize {
    TABLES.load(Ordering::Relaxed)
}

fn new_table() -> Result<PhysAddr, OutOfFrames> {
    let frame = if memory::is_refused() { None } else { frames::alloc_zeroed() }.ok_or(OutOfFrames)?;
    TABLES.fetch_add(1, Ordering::Relaxed);
    Ok(frame)
}

fn root() -> &'static mut PageTable {
    table(paging::root())
}

fn table(frame: PhysAddr) -> &'static mut PageTable {
    // SAFETY: page-table frames come from `frames` (or the boot tables) and are never freed while
    // they are linked; the direct map shows them. Callers hold the lock of their half, so no two
    // references to one table are used at a time.
    unsafe { &mut *phys_to_virt(frame).as_mut_ptr() }
}

/// The table below `entry`, made if it is missing.
pub(crate) fn descend(entry: &mut PageTableEntry) -> Result<&'static mut PageTable, OutOfFrames> {
    if entry.is_unused() {
        entry.set_addr(new_table()?, TABLE);
    }
    Ok(table(entry.addr()))
}

/// The same on the way to `virt`. A spare table serves the app only: what an idle core finds in one that it remembers, it must be
/// able to forget with the app's translations.
#[inline]
fn descend_to(virt: VirtAddr, entry: &mut PageTableEntry) -> Result<&'static mut PageTable, OutOfFrames> {
    if entry.is_unused() { link_table(virt, entry) } else { Ok(table(entry.addr())) }
}

#[cold]
fn link_table(virt: VirtAddr, entry: &mut PageTableEntry) -> Result<&'static mut PageTable, OutOfFrames> {
    if virt.as_u64() < USER_END
        && let Some(spare) = prune::take_spare()
    {
        TABLES.fetch_add(1, Ordering::Relaxed);
        entry.set_addr(spare, TABLE);
    }
    descend(entry)
}

/// The entry for `virt` in its page directory.
fn directory_entry(virt: VirtAddr) -> Result<&'static mut PageTableEntry, OutOfFrames> {
    let pointers = descend_to(virt, &mut root()[virt.p4_index()])?;
    let directory = descend_to(virt, &mut pointers[virt.p3_index()])?;
    Ok(&mut directory[virt.p2_index()])
}

/// Maps one small page where none is.
pub(crate) fn map(virt: VirtAddr, frame: PhysAddr, flags: Flags) -> Result<(), OutOfFrames> {
    small_pages(virt)?[virt.p1_index()].set_addr(frame, flags);
    Ok(())
}

/// Makes what is missing for small pages around `virt`: [`map`] there cannot fail after this.
pub fn prepare(virt: VirtAddr) -> Result<(), OutOfFrames> {
    small_pages(virt).map(|_| ())
}

/// The same for a whole range.
pub fn prepare_range(start: u64, end: u64) -> Result<(), OutOfFrames> {
    let first = start & !(LARGE_PAGE_BYTES - 1);
    (first..end).step_by(LARGE_PAGE_BYTES as usize).try_for_each(|at| prepare(VirtAddr::new(at)))
}

/// Tables that small pages in a range need at most.
pub fn most_tables(start: u64, end: u64) -> u64 {
    let spans = |bits: u32| ((end - 1) >> bits) - (start >> bits) + 1;
    spans(21) + spans(30) + spans(39)
}

/// The table of the small pages around `virt`, made if it is missing.
fn small_pages(virt: VirtAddr) -> Result<&'static mut PageTable, OutOfFrames> {
    let entry = directory_entry(virt)?;
    split(virt, entry)?;
    descend_to(virt, entry)
}

/// Maps one large page where no table is; false if small pages are there already.
pub(crate) fn map_large(virt: VirtAddr, frame: PhysAddr, flags: Flags) -> Result<bool, OutOfFrames> {
    let entry = directory_entry(virt)?;
    if !entry.is_unused() {
        return Ok(false);
    }
    entry.set_addr(frame, flags | Flags::HUGE_PAGE);
    Ok(true)
}

/// True if the 2 MiB around `virt` have neither pages nor a table.
pub fn is_directory_slot_empty(virt: VirtAddr) -> bool {
    let pointers = &root()[virt.p4_index()];
    if pointers.is_unused() {
        return true;
    }
    let directory = &table(pointers.addr())[virt.p3_index()];
    directory.is_unused() || table(directory.addr())[virt.p2_index()].is_unused()
}

/// Turns a large page into 512 small ones.
fn split(virt: VirtAddr, entry: &mut PageTableEntry) -> Result<(), OutOfFrames> {
    if !entry.flags().contains(Flags::HUGE_PAGE) {
        return Ok(());
    }
    let (first, flags) = (entry.addr(), entry.flags() - Flags::HUGE_PAGE);
    let frame = new_table()?;
    for (index, small) in table(frame).iter_mut().enumerate() {
        small.set_addr(first + (index * PAGE_BYTES) as u64, flags);
    }
    // The translations stay what they were, so other cores may keep theirs until the caller changes one.
    entry.set_addr(frame, TABLE);
    paging::forget(virt);
    Ok(())
}

/// Finds what is mapped at `virt`, be it accessible or not.
pub fn lookup(virt: VirtAddr) -> Option<Mapping> {
    let mut entry = &root()[virt.p4_index()];
    for (index, bytes) in
        [(virt.p3_index(), 1 << 30), (virt.p2_index(), LARGE_PAGE_BYTES), (virt.p1_index(), 4096)]
    {
        if entry.is_unused() {
            return None;
        }
        entry = &table(entry.addr())[index];
        if bytes == 4096 || entry.flags().contains(Flags::HUGE_PAGE) {
            return (!entry.is_unused()).then(|| Mapping {
                frame: entry.addr(),
                flags: entry.flags(),
                bytes,
            });
        }
    }
    None
}

/// Calls `visit` with each small page's address and entry in `[start, end)` until it breaks, splitting large pages
/// that reach over its edges; a large page inside is visited once, with its size. Absent pages are
/// skipped a table at a time, so sparse ranges are cheap. The caller flushes what it changed.
pub(crate) fn for_each_mapped(
    start: u64,
    end: u64,
    mut visit: impl FnMut(VirtAddr, &mut PageTableEntry, u64) -> ControlFlow<()>,
) -> Result<(), OutOfFrames> {
    let mut at = start;
    while at < end {
        let virt = VirtAddr::new(at);
        let span = missing_span(virt);
        let next = end_of_span(at, span.unwrap_or(LARGE_PAGE_BYTES));
        if span.is_none() {
            let entry = directory_entry(virt)?;
            let is_whole = at.is_multiple_of(LARGE_PAGE_BYTES) && end - at >= LARGE_PAGE_BYTES;
            let is_done = if entry.flags().contains(Flags::HUGE_PAGE) && is_whole {
                visit(virt, entry, LARGE_PAGE_BYTES)
            } else {
                split(virt, entry)?;
                visit_small(table(entry.addr()), at, next.min(end), &mut visit)
            };
            if is_done.is_break() {
                break;
            }
        }
        at = next;
    }
    Ok(())
}

/// [`for_each_mapped`] within the span of one table.
#[inline]
fn visit_small(
    pages: &mut PageTable,
    start: u64,
    end: u64,
    visit: &mut impl FnMut(VirtAddr, &mut PageTableEntry, u64) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let addresses = (start..end).step_by(PAGE_BYTES);
    for (entry, at) in pages.iter_mut().skip(VirtAddr::new(start).p1_index().into()).zip(addresses) {
        if !entry.is_unused() {
            visit(VirtAddr::new(at), entry, PAGE_BYTES as u64)?;
        }
    }
    ControlFlow::Continue(())
}

/// An entry, as processors see it that set its accessed and dirty bits at any moment: what they note must not be
/// overwritten.
pub(crate) fn shared_word(entry: &mut PageTableEntry) -> &AtomicU64 {
    // SAFETY: an entry is one aligned word; the kernel changes it under the address space's lock alone, which whoever
    // has the exclusive borrow holds, and processors change it as atomically as the result is changed.
    unsafe { AtomicU64::from_ptr(core::ptr::from_mut(entry).cast()) }
}

/// Empties an entry; answers what it held at the end.
pub(crate) fn take(entry: &mut PageTableEntry) -> (PhysAddr, Flags) {
    let frame = entry.addr();
    (frame, Flags::from_bits_truncate(shared_word(entry).swap(0, Ordering::AcqRel)))
}

/// Gives an entry other flags; whether the page was written to stays. True if a permission went away. New ones need
/// no flush: a core that remembers the old raises at worst a fault for which nothing has to be done (SDM Vol. 3,
/// 4.10.4.3).
pub(crate) fn replace_flags(entry: &mut PageTableEntry, flags: Flags) -> bool {
    const ALLOW: Flags = Flags::PRESENT.union(Flags::USER_ACCESSIBLE).union(Flags::WRITABLE);
    let address = entry.addr().as_u64();
    let held = entry.flags();
    let change = |held| Some(address | flags.bits() | held & Flags::DIRTY.bits());
    let _ = shared_word(entry).fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    let is_stricter = !flags.contains(held & ALLOW) || !held.contains(flags & Flags::NO_EXECUTE);
    // What no processor could use, none remembers.
    held.contains(Flags::PRESENT) && is_stricter
}

/// Notes that a page is clean, and perhaps that the next store to it is to be noticed.
pub(crate) fn make_clean(entry: &mut PageTableEntry, is_store_noticed: bool) {
    let gone = if is_store_noticed { Flags::DIRTY | Flags::WRITABLE } else { Flags::DIRTY };
    shared_word(entry).fetch_and(!gone.bits(), Ordering::AcqRel);
}

/// The first page in `[start, end)` that is mapped, passing over what is absent a table at a time.
pub fn next_mapped(start: u64, end: u64) -> Option<u64> {
    let mut at = start;
    while at < end {
        let virt = VirtAddr::new_truncate(at);
        let step = match missing_span(virt) {
            Some(step) => step,
            None if lookup(virt).is_some() => return Some(at),
            None => PAGE_BYTES as u64,
        };
        at = end_of_span(at, step);
    }
    None
}

/// How many tables with small pages fit into a piece of a range whose pages are looked at, or changed where they are.
pub const TABLES_TO_VISIT: u32 = 32;
/// The same where there is more to do for each page.
pub const TABLES_TO_WORK_ON: u32 = 2;
/// To pass over what is absent is a step; a table takes several.
const STEPS_OF_A_TABLE: u32 = 8;

/// Where a piece of `[start, end)` ends that has no more than so many tables, and does not take long to pass over.
pub fn piece_end(start: u64, end: u64, tables: u32) -> u64 {
    let (mut at, mut steps) = (start, 0);
    while at < end && steps < tables * STEPS_OF_A_TABLE {
        let span = missing_span(VirtAddr::new_truncate(at));
        steps += if span.is_some() { 1 } else { STEPS_OF_A_TABLE };
        at = end_of_span(at, span.unwrap_or(LARGE_PAGE_BYTES));
    }
    at.min(end)
}

/// Where a next page can be mapped from `start` on, passing over what has no table.
pub fn next_table(start: u64, end: u64) -> u64 {
    let mut at = start;
    while at < end
        && let Some(span) = missing_span(VirtAddr::new_truncate(at))
    {
        at = end_of_span(at, span);
    }
    at.min(end)
}

/// Where the next span of a size begins, which is a power of two.
fn end_of_span(at: u64, bytes: u64) -> u64 {
    (at & !(bytes - 1)).saturating_add(bytes)
}

/// The size of the empty span around `virt` if a level above the pages is missing.
fn missing_span(virt: VirtAddr) -> Option<u64> {
    let pointers = &root()[virt.p4_index()];
    if pointers.is_unused() {
        return Some(1 << 39);
    }
    let directories = &table(pointers.addr())[virt.p3_index()];
    if directories.is_unused() {
        return Some(1 << 30);
    }
    table(directories.addr())[virt.p2_index()].is_unused().then_some(LARGE_PAGE_BYTES)
}

/// Builds the final tables and switches to them: the direct map up to `ram_end`, the kernel's
/// image with exact permissions, nothing else. The app's pages are added by `space`.
pub(crate) fn init(ram_end: PhysAddr) -> Result<(), OutOfFrames> {
    let new_root = new_table()?;
    kernel_map::fill(table(new_root), ram_end)?;
    // SAFETY: the new tables map the running code, its stack (in the image's bss), its data and
    // the direct map, all as before or stricter where nothing relies on more.
    unsafe { paging::set_root(new_root) };
    Ok(())
}

/// How much of physical memory the direct map can show: one root entry's worth.
pub const DIRECT_MAP_BYTES: u64 = 1 << 39;
const _: () = assert!(layout::STACKS_BASE - DIRECT_MAP_BASE >= DIRECT_MAP_BYTES);
