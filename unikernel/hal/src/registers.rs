//! Registers of devices that the kernel drives.

use x86_64::PhysAddr;

use crate::kmem;
use crate::platform::io::Mmio;

/// Maps `len` bytes of a device's registers, for ever; `None` if the machine has RAM there.
///
/// It cannot be misused to reach memory: what is RAM by the loader's map is refused. Registers that are there make a device do
/// things, and one with DMA reads and writes where its driver says (`dma`). The machine's own devices (interrupt controllers, timers) are not kept out.
pub fn map(physical: PhysAddr, len: usize) -> Option<Mmio> {
    let end = physical.as_u64().checked_add(len as u64)?;
    if kmem::has_ram_in(physical.as_u64(), end) {
        return None;
    }
    // SAFETY: it is no RAM, so no access can change what Rust knows of.
    Some(unsafe { Mmio::map(physical, len) })
}
