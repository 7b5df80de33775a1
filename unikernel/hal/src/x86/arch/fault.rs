//! What the processor says of a page fault beside its frame.

use x86_64::registers::control::Cr2;

/// The address whose access has raised the page fault that is being handled.
pub fn address() -> u64 {
    Cr2::read_raw()
}
