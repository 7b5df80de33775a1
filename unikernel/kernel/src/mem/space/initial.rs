//! What is mapped before the app's first instruction: its half of the image, its stack, and the clock.

use unikernel_mm::{PAGE_BYTES, places};
use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::{PhysAddr, VirtAddr};

use super::{CHARGED_PAGE, NO_ACCESS, Protection, Region, RegionKind, SPACE, SpaceError, flags_of};
use crate::kmem::layout::{USER_END, page_up};
use crate::kmem::page_table;
use crate::platform::random;
use crate::task::limits::MAX_STACK_BYTES;

/// How far the break of a program may grow.
const MOST_BREAK_BYTES: u64 = 1 << 40;
/// Distance between the stack's end and the first mapping, at least.
const STACK_GAP_BYTES: u64 = 1 << 20;

/// Opens part of the image, which is in memory from `physical` on, to the app, at the address `start`.
pub(crate) fn adopt_image(
    start: u64,
    physical: u64,
    len: u64,
    protection: Protection,
) -> Result<(), SpaceError> {
    let end = start.checked_add(len).filter(|&end| end <= USER_END).ok_or(SpaceError::BadRange)?;
    let mut space = SPACE.lock();
    let is_charged = protection.contains(Protection::WRITE);
    space.regions.insert(Region {
        start,
        end,
        protection,
        allowed: Protection::all(),
        kind: RegionKind::Image,
        is_charged,
        is_locked: false,
    })?;
    let mark = if is_charged { CHARGED_PAGE } else { Flags::empty() };
    // Without any access, the pages are kept aside (`mprotect` may change that).
    let flags = flags_of(protection).unwrap_or(NO_ACCESS) | mark;
    for page in (start..end).step_by(PAGE_BYTES as usize) {
        page_table::map_image(VirtAddr::new(page), PhysAddr::new(physical + (page - start)), flags)?;
    }
    space.resident_pages += (end - start) / PAGE_BYTES;
    let charged = if is_charged { (end - start) / PAGE_BYTES } else { 0 };
    space.charged_pages += charged;
    space.kept_pages += charged;
    Ok(())
}

/// Has the break begin at a random place behind the program.
pub(crate) fn set_break_behind(program_end: u64) {
    let start = places::break_start(page_up(program_end).min(USER_END), random::next_u64());
    let mut space = SPACE.lock();
    (space.break_start, space.break_end) = (start, start);
    space.break_limit = (start + MOST_BREAK_BYTES).min(USER_END);
}

/// Makes the first stack; answers its top. Stack and mappings start at places that an attacker
/// cannot foretell.
pub(crate) fn map_first_stack() -> Result<u64, SpaceError> {
    let top = places::stack_end(USER_END - PAGE_BYTES, random::next_u64());
    let protection = Protection::READ | Protection::WRITE;
    let mut space = SPACE.lock();
    space.regions.insert(Region {
        start: top - MAX_STACK_BYTES,
        end: top,
        protection,
        allowed: Protection::all(),
        kind: RegionKind::Stack,
        is_charged: false,
        is_locked: false,
    })?;
    space.mappings_end = places::mappings_end(top - MAX_STACK_BYTES - STACK_GAP_BYTES, random::next_u64());
    Ok(top)
}

/// Shows the app the vDSO and the clock's page before it; answers where the vDSO is.
pub(crate) fn map_vdso() -> Result<u64, SpaceError> {
    let mut space = SPACE.lock();
    let pages = [Protection::READ, Protection::READ | Protection::EXECUTE];
    let len = pages.len() as u64 * PAGE_BYTES;
    let start = places::vdso_end(USER_END - PAGE_BYTES, random::next_u64()) - len;
    for (at, protection) in (start..).step_by(PAGE_BYTES as usize).zip(pages) {
        let kind = RegionKind::Kernel;
        space.regions.insert(Region {
            start: at,
            end: at + PAGE_BYTES,
            protection,
            allowed: protection,
            kind,
            is_charged: false,
            is_locked: false,
        })?;
        space.resident_pages += 1;
    }
    let [clock, code] = pages.map(|protection| flags_of(protection).unwrap_or(NO_ACCESS));
    page_table::map_vdso(VirtAddr::new(start), clock, code)?;
    Ok(start + PAGE_BYTES)
}
