//! Making the processor forget translations, on every core that may remember them.
//!
//! One address space serves all cores. Whoever takes a page away calls [`flush`] before the frame
//! goes to somebody else; it returns when no core can reach the page any more.
//!
//! A core that is asked forgets at once if the app runs on it (an interrupt comes), and else at the
//! next of its waits: the kernel runs with interrupts masked, so a core that spins for a lock calls
//! [`serve`] meanwhile. Without that, the asker, who holds the address space's lock, and a core that
//! spins for it would wait for each other. An idle core is not disturbed: it notes that it has to
//! forget everything before it runs the app again.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use x86_64::VirtAddr;
use x86_64::instructions::tlb;

use super::cpu::{self, this_cpu};
use super::per_core::PerCore;
use crate::kmem::PAGE_BYTES;
use crate::per_core;
use crate::platform::interrupts;

/// Longer ranges are forgotten with everything else (Linux: `tlb_single_page_flush_ceiling`).
const MOST_SINGLE_PAGES: u64 = 33;

/// What is to be forgotten now. Written by the holder of the address space's lock only.
static START: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);
/// True while a core has been asked and has not forgotten yet.
static IS_ASKED: PerCore<AtomicBool> = per_core!(AtomicBool::new(false));
/// Cores that do not run the app now.
static LAZY: AtomicU64 = AtomicU64::new(0);
/// True if a lazy core has missed something.
static IS_STALE: PerCore<AtomicBool> = per_core!(AtomicBool::new(false));

/// Forgets the translations of `[start, end)` on all cores. The caller has changed the entries, and
/// holds the address space's lock, so there is one caller at a time.
pub fn flush(start: u64, end: u64) {
    ask(start, end, leave_for_later);
}

/// Forgets the app's translations on all cores, and where its page tables are; idle ones do so at once, too, as they may
/// look into tables that they remember. The caller is as [`flush`]'s.
pub fn flush_everywhere() {
    ask(0, u64::MAX, |_| false);
}

/// Has all cores forget `[start, end)` but those that are spared.
fn ask(start: u64, end: u64, is_spared: impl Fn(usize) -> bool) {
    flush_here(start, end);
    if cpu::online() == 1 {
        return;
    }
    START.store(start, Ordering::Relaxed);
    END.store(end, Ordering::Relaxed);
    let here = this_cpu().index();
    let others = (0..cpu::online()).filter(|&core| core != here);
    let mut asked = 0u64;
    for core in others.filter(|&core| !is_spared(core)) {
        IS_ASKED.of(core).store(true, Ordering::SeqCst);
        interrupts::send(core, interrupts::FLUSH_VECTOR);
        asked |= 1 << core;
    }
    for core in 0..cpu::online() {
        while asked & 1 << core != 0 && IS_ASKED.of(core).load(Ordering::Acquire) {
            spin_loop();
        }
    }
}

/// True if the core is idle and will forget everything before it goes on.
fn leave_for_later(core: usize) -> bool {
    let is_lazy = || LAZY.load(Ordering::SeqCst) & 1 << core != 0;
    if !is_lazy() {
        return false;
    }
    IS_STALE.of(core).store(true, Ordering::SeqCst);
    // It may have become busy before it could see the note.
    is_lazy()
}

fn flush_here(start: u64, end: u64) {
    if end.saturating_sub(start) > MOST_SINGLE_PAGES * PAGE_BYTES as u64 {
        return tlb::flush_all();
    }
    for page in (start..end).step_by(PAGE_BYTES) {
        tlb::flush(VirtAddr::new_truncate(page));
    }
}

/// Forgets what this core has been asked to forget, if anything.
#[inline]
pub fn serve() {
    if IS_ASKED.load(Ordering::Acquire) {
        flush_here(START.load(Ordering::Relaxed), END.load(Ordering::Relaxed));
        IS_ASKED.store(false, Ordering::Release);
    }
}

/// This core stops to use the app's pages.
pub fn begin_lazy() {
    LAZY.fetch_or(1 << this_cpu().index(), Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

/// This core will use the app's pages again.
pub fn end_lazy() {
    LAZY.fetch_and(!(1 << this_cpu().index()), Ordering::SeqCst);
    fence(Ordering::SeqCst);
    if IS_STALE.swap(false, Ordering::SeqCst) {
        tlb::flush_all();
    }
}
