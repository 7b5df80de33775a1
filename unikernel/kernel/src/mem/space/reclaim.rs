//! Taking mapped pages of files away again, so that a file larger than memory can be mapped.

use core::ops::Bound::{Excluded, Unbounded};
use core::ops::ControlFlow;

use arrayvec::ArrayVec;

use super::{SPACE, Space, page_table};
use crate::arch::tlb;
use crate::kmem::kernel_map;
use crate::kmem::layout::PAGE_BYTES;
use crate::sync::SpinLockGuard;

/// Pages let go at a time.
const AT_ONCE: usize = 128;
/// Pages looked at with the address space locked once.
const LOOKS_AT_ONCE: usize = 4096;

/// Lets go of mapped pages that a cache can give back and that nobody has written to since they were last saved;
/// answers how many. The next touch maps them anew. They go in the order of their addresses, round and round: which
/// of them are worth keeping, the cache knows. Never waits: if the address space is locked, none goes.
pub(crate) fn release_clean() -> usize {
    release_round(|| SPACE.try_lock())
}

/// The same for who can wait, and has not locked the address space.
pub(crate) fn release_clean_in_turn() -> usize {
    release_round(|| Some(SPACE.lock()))
}

/// Looks at pages until some go, at each once; others come to the address space in between.
fn release_round(lock: impl Fn() -> Option<SpinLockGuard<'static, Space>>) -> usize {
    let Some(mut looks) = lock().map(|space| space.shared_pages.len().div_ceil(LOOKS_AT_ONCE) + 1) else {
        return 0;
    };
    while looks > 0 {
        let released = lock().map_or(0, |mut space| space.release_clean());
        if released > 0 {
            return released;
        }
        looks -= 1;
    }
    0
}

/// Unmaps stacks that no thread uses. If the address space is locked, they stay.
pub(crate) fn release_stacks() {
    while SPACE.try_lock().is_some_and(|_turn| kernel_map::trim_stacks()) {}
}

impl Space {
    fn release_clean(&mut self) -> usize {
        let mut pages = ArrayVec::new();
        self.unmap_clean(&mut pages);
        for &page in &pages {
            tlb::flush(page, page + PAGE_BYTES as u64);
        }
        for page in &pages {
            self.shared_pages.remove(page);
        }
        self.resident_pages -= pages.len() as u64;
        pages.len()
    }

    /// Empties the entries of some clean pages, from where the last round ended.
    fn unmap_clean(&mut self, gone: &mut ArrayVec<u64, AT_ONCE>) {
        let behind = self.shared_pages.range((Excluded(self.reclaim_hand), Unbounded));
        let all = behind.chain(self.shared_pages.range(..=self.reclaim_hand));
        let mut hand = self.reclaim_hand;
        for (&page, frame) in all.take(LOOKS_AT_ONCE) {
            hand = page;
            if !frame.is_of_cache() || self.is_locked_page(page) {
                continue;
            }
            // No large page shows an object, so nothing is split and nothing can fail.
            let _ = page_table::for_each_entry(page, page + PAGE_BYTES as u64, |_, mut entry, _| {
                if entry.take_if_clean() {
                    gone.push(page);
                }
                ControlFlow::Continue(())
            });
            if gone.is_full() {
                break;
            }
        }
        self.reclaim_hand = hand;
    }
}
