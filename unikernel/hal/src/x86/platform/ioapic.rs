//! The IO-APICs: they turn a device's line into a vector on a core (Intel 82093AA data sheet).

use alloc::vec::Vec;

use spin::Once;
use unikernel_machine::line::{Line, Polarity, Trigger};

use super::acpi::IoApicInfo;
use super::io::Mmio;
use crate::sync::SpinLock;

const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
const VERSION: u32 = 1;
const FIRST_ENTRY: u32 = 0x10;

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

struct IoApic {
    /// The register pair is an index and a window, so two accesses belong together.
    registers: SpinLock<Mmio>,
    first_gsi: u32,
    lines: u32,
}

static IO_APICS: Once<Vec<IoApic>> = Once::new();

/// Takes over the controllers. Their lines come up masked from a reset.
pub fn init(found: &[IoApicInfo]) {
    IO_APICS.call_once(|| found.iter().map(IoApic::new).collect());
}

/// Leads `line` to `vector` on the core `apic_id` and opens it.
pub fn route(line: Line, vector: u8, apic_id: u32) {
    let owner = IO_APICS.get().and_then(|all| all.iter().find(|one| one.has(line.gsi)));
    let Some(owner) = owner else {
        log::warn!("no IO-APIC has line {}; its interrupts will not come", line.gsi);
        return;
    };
    let mut low = u32::from(vector);
    if line.trigger == Trigger::Level {
        low |= LEVEL;
    }
    if line.polarity == Polarity::Low {
        low |= ACTIVE_LOW;
    }
    owner.set_entry(line.gsi - owner.first_gsi, low, apic_id);
}

impl IoApic {
    fn new(info: &IoApicInfo) -> Self {
        // SAFETY: the firmware's table says that an IO-APIC is there; it does no DMA.
        let registers = unsafe { Mmio::map(info.address, 0x20) };
        registers.write(SELECT, VERSION);
        let lines = (registers.read::<u32>(WINDOW) >> 16 & 0xff) + 1;
        Self { registers: SpinLock::new(registers), first_gsi: info.first_gsi, lines }
    }

    fn has(&self, gsi: u32) -> bool {
        gsi.checked_sub(self.first_gsi).is_some_and(|line| line < self.lines)
    }

    fn set_entry(&self, line: u32, low: u32, apic_id: u32) {
        let registers = self.registers.lock();
        let write = |register: u32, value: u32| {
            registers.write(SELECT, register);
            registers.write(WINDOW, value);
        };
        // Masked while the two halves disagree.
        let entry = FIRST_ENTRY + 2 * line;
        write(entry, MASKED);
        write(entry + 1, apic_id << 24);
        write(entry, low);
    }
}
