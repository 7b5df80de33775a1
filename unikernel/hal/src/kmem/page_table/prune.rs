//! Taking empty tables out, so that an app that maps and unmaps here and there for ever does not keep one for every place.
//!
//! A processor may remember where a table was. So nobody else uses the table's frame before all cores that run the app have
//! forgotten it. Idle cores forget later, before they run the app again; until then they may walk through a table that
//! they remember. It must be a table until all of them have forgotten it, too: it becomes a spare one first. Only when there
//! are many of those, idle cores are disturbed and the frames go back.

use core::ops::Range;
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use x86_64::structures::paging::PageTable;
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::{PhysAddr, VirtAddr};

use super::{Flags, LARGE_PAGE_BYTES, PAGE_BYTES, TABLES, root, table};
use crate::arch::tlb;
use crate::kmem::frames;
use crate::sync::SpinLock;

/// Spare tables that there may be.
const MOST_SPARE: usize = 64;

/// Empty tables that no entry leads to; idle cores may remember that one did.
static SPARE: SpinLock<ArrayVec<PhysAddr, MOST_SPARE>> = SpinLock::new(ArrayVec::new_const());

/// A table of zeros, if there is a spare one.
pub(super) fn take_spare() -> Option<PhysAddr> {
    SPARE.lock().pop()
}

/// Takes the tables for `[start, end)` out that are empty, and that only serve addresses of which `is_free` says that nothing is
/// mapped there. The caller holds the address space's lock, and all pages of the range are gone from all cores.
pub fn prune(start: u64, end: u64, is_free: impl Fn(Range<u64>) -> bool) {
    let mut pruner = Pruner { range: start..end, is_free, unlinked: ArrayVec::new() };
    for at in slots(&pruner.range, TOP_SPAN) {
        let entry = &mut root()[VirtAddr::new(at).p4_index()];
        pruner.prune(entry, at, TOP_SPAN);
    }
    pruner.let_go();
}

/// What an entry of the root spans.
const TOP_SPAN: u64 = 1 << 39;

/// The slots of a size that a range touches, by their starts.
fn slots(range: &Range<u64>, span: u64) -> impl Iterator<Item = u64> + use<> {
    (range.start & !(span - 1)..range.end).step_by(span as usize)
}

struct Pruner<F> {
    range: Range<u64>,
    is_free: F,
    /// Tables that were taken out since the cores were last asked to forget.
    unlinked: ArrayVec<PhysAddr, MOST_SPARE>,
}

impl<F: Fn(Range<u64>) -> bool> Pruner<F> {
    /// Takes the table out that `entry` leads to, which spans `span` bytes from `start` on, or what is below it.
    fn prune(&mut self, entry: &mut PageTableEntry, start: u64, span: u64) {
        if entry.is_unused() || entry.flags().contains(Flags::HUGE_PAGE) {
            return;
        }
        let below = span / ENTRIES;
        if below > PAGE_BYTES as u64 {
            let part = self.range.start.max(start)..self.range.end.min(start + span);
            for at in slots(&part, below) {
                // The table is taken anew each time: no reference to it is held while those below are changed.
                let index = (at - start) / below;
                self.prune(&mut table(entry.addr())[index as usize], at, below);
            }
        }
        if (self.is_free)(start..start + span) && is_empty(table(entry.addr())) {
            self.unlinked.push(entry.addr());
            entry.set_unused();
            if self.unlinked.is_full() {
                self.let_go();
            }
        }
    }

    /// Has the cores forget the tables, which are spare then.
    fn let_go(&mut self) {
        if self.unlinked.is_empty() {
            return;
        }
        // To forget one page is to forget all tables (SDM Vol. 3, 4.10.4.1; APM Vol. 2, 5.5.2).
        tlb::flush(self.range.start, self.range.start + PAGE_BYTES as u64);
        TABLES.fetch_sub(self.unlinked.len(), Ordering::Relaxed);
        if SPARE.lock().remaining_capacity() < self.unlinked.len() {
            self.free_spares();
        }
        let mut spare = SPARE.lock();
        for frame in self.unlinked.drain(..) {
            // There is room: others only take spares, and who adds them holds the address space's lock.
            spare.push(frame);
        }
    }

    /// Gives the spare tables' frames back.
    fn free_spares(&self) {
        let spares = core::mem::take(&mut *SPARE.lock());
        tlb::flush_everywhere();
        for frame in spares {
            // SAFETY: it came from `frames`, no entry leads to it, and no core remembers that one did.
            unsafe { frames::free(frame) };
        }
    }
}

/// Entries of a table.
const ENTRIES: u64 = 512;
const _: () = assert!(TOP_SPAN / ENTRIES / ENTRIES == LARGE_PAGE_BYTES);

fn is_empty(table: &PageTable) -> bool {
    table.iter().all(PageTableEntry::is_unused)
}
