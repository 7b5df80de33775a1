//! What the hypervisor says of the machine in its SMBIOS table (`unikernel_machine::smbios`).

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use unikernel_machine::smbios::{self, AREA};
use x86_64::PhysAddr;

use super::io::Mmio;

/// The end of what is looked at.
const MAX_ADDRESS: u64 = 1 << 32;

/// The system's serial number, if it has one.
pub fn system_serial() -> Option<String> {
    let area = read(AREA.start, (AREA.end - AREA.start) as usize)?;
    let (address, len) = smbios::entry(&area)?;
    smbios::system_serial(&read(address, len)?).map(str::to_owned)
}

/// Reads memory of the firmware's; none if there can be none, or there is no memory for a copy.
fn read(address: u64, len: usize) -> Option<Vec<u8>> {
    const WORD_BYTES: usize = 4;
    // The table may begin anywhere.
    let start = PhysAddr::try_new(address & !(WORD_BYTES as u64 - 1)).ok()?;
    let skipped = (address - start.as_u64()) as usize;
    let words = (skipped + len).div_ceil(WORD_BYTES);
    // Firmware has its tables there, and every processor can address it.
    let end = start.as_u64().checked_add((words * WORD_BYTES) as u64).filter(|end| *end <= MAX_ADDRESS);
    end?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(words * WORD_BYTES).ok()?;
    // SAFETY: the area of old is RAM or ROM on every PC, and the firmware says that the table is there; both are only read.
    let shown = unsafe { Mmio::map(start, words * WORD_BYTES) };
    (0..words).for_each(|word| bytes.extend(shown.read::<u32>(word * WORD_BYTES).to_le_bytes()));
    Some(bytes.split_off(skipped.min(bytes.len()))).map(|mut bytes| {
        bytes.truncate(len);
        bytes
    })
}
