//! The copy between kernel and app that survives a fault: the page tables are walked as the processor does it (SDM Vol. 3,
//! 4.5), and what is missing raises a page fault in the kernel, at an address for which [`landing`] has an answer.

use x86_64::structures::paging::{PageTable, PageTableFlags as Flags};
use x86_64::{PhysAddr, VirtAddr};

use super::trap::TrapFrame;
use super::{fault, paging};
use crate::sim::{engine, memory, poison};

/// Where the kernel's copy is thought to be, and where it goes on after a fault that cannot be mended.
const COPY: u64 = 0xffff_ffff_8000_1000;
const LANDING: u64 = COPY + 1;

/// Bits of a page fault's error code.
pub(in crate::sim) const PRESENT: u64 = 1 << 0;
pub(in crate::sim) const WRITE: u64 = 1 << 1;
pub(in crate::sim) const USER: u64 = 1 << 2;

/// Where a fault at `rip` continues, if it is one that this module expects.
pub fn landing(rip: u64) -> Option<u64> {
    (rip == COPY).then_some(LANDING)
}

/// The place in RAM behind an address of the app's, or the error code of the fault that the access raises.
pub(in crate::sim) fn translate(address: u64, is_write: bool) -> Result<PhysAddr, u64> {
    let write = if is_write { WRITE } else { 0 };
    let virt = VirtAddr::try_new(address).map_err(|_| write)?;
    let mut table = paging::root();
    let indices = [virt.p4_index(), virt.p3_index(), virt.p2_index(), virt.p1_index()];
    for (level, index) in indices.into_iter().enumerate() {
        let shown = memory::at(table, size_of::<PageTable>()).ok_or(write)?.cast::<PageTable>();
        // SAFETY: page tables are in RAM, where `kmem::page_table` has made them; nobody else runs while this looks.
        let entry = &mut unsafe { &mut *shown }[index];
        let flags = entry.flags();
        if !flags.contains(Flags::PRESENT) {
            return Err(write);
        }
        let is_page = level == 3 || flags.contains(Flags::HUGE_PAGE);
        if !flags.contains(Flags::USER_ACCESSIBLE) || is_write && !flags.contains(Flags::WRITABLE) {
            return Err(write | PRESENT);
        }
        if is_page {
            let noted = if is_write { Flags::ACCESSED | Flags::DIRTY } else { Flags::ACCESSED };
            entry.set_flags(flags | noted);
            let bytes = 1u64 << (12 + 9 * (3 - level));
            return Ok(PhysAddr::new(entry.addr().as_u64() & !(bytes - 1) | address & (bytes - 1)));
        }
        table = entry.addr();
    }
    Err(write)
}

unsafe extern "C" {
    safe fn kernel_trap(frame: &mut TrapFrame);
}

/// The place on the host behind an address of the app's, after the faults that the kernel's access raises.
fn reach(address: u64, is_write: bool) -> Option<*mut u8> {
    loop {
        match translate(address, is_write) {
            Ok(physical) => return memory::at(physical, 1),
            Err(error_code) => {
                fault::set_address(address);
                let mut frame = TrapFrame { vector: 14, error_code, rip: COPY, ..TrapFrame::default() };
                kernel_trap(&mut frame);
                if frame.rip == LANDING {
                    return None;
                }
            }
        }
    }
}

/// Copies `len` bytes out of the app. Answers 0, or nonzero if a byte could not be read.
///
/// # Safety
///
/// `destination` must be valid for writes of `len` bytes.
pub unsafe fn from_user(destination: *mut u8, source: u64, len: usize) -> usize {
    engine::point();
    for (at, piece) in memory::pieces(source, len) {
        let Some(place) = reach(at, false) else { return len - piece.start };
        // SAFETY: the piece lies in one page of RAM, and in the caller's destination.
        unsafe { core::ptr::copy(place, destination.add(piece.start), piece.len()) };
    }
    0
}

/// Copies `len` bytes to the app. Answers 0, or nonzero if a byte could not be written.
///
/// # Safety
///
/// `source` must be valid for reads of `len` bytes.
pub unsafe fn to_user(destination: u64, source: *const u8, len: usize) -> usize {
    engine::point();
    // SAFETY: by the caller.
    poison::check(unsafe { core::slice::from_raw_parts(source, len) });
    for (at, piece) in memory::pieces(destination, len) {
        let Some(place) = reach(at, true) else { return len - piece.start };
        // SAFETY: as above, the other way round.
        unsafe { core::ptr::copy(source.add(piece.start), place, piece.len()) };
    }
    0
}

/// Makes a word of the app's `new` if it is `expected`, in one step for all cores. Answers what it was,
/// or `None` if it could not be reached.
///
/// # Safety
///
/// None here; on a machine the word must not overlap kernel memory.
pub unsafe fn compare_exchange(word: u64, expected: u32, new: u32) -> Option<u32> {
    engine::point();
    let place = reach(word, true)?.cast::<u32>();
    // SAFETY: the word lies in one page of RAM, for the kernel takes aligned ones only; one core runs at a time.
    let found = unsafe { place.read_unaligned() };
    if found == expected {
        // SAFETY: as above.
        unsafe { place.write_unaligned(new) };
    }
    Some(found)
}
