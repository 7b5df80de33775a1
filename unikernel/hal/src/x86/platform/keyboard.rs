//! Ctrl-Alt-Delete on the keyboard controller (IBM PC AT, Intel 8042): the power button of machines without ACPI's, which
//! is how Firecracker asks a machine to stop (`SendCtrlAltDel`). No other key is looked at.

use core::sync::atomic::{AtomicU32, Ordering};

use super::interrupts;
use super::io::IoPort;
use super::power;

/// The line of the ISA bus.
const IRQ: u8 = 1;
// SAFETY: a keyboard cannot break memory safety.
const DATA: IoPort<u8> = unsafe { IoPort::new(0x60) };
// SAFETY: as above; nothing is written, so no reset either.
const STATUS: IoPort<u8> = unsafe { IoPort::new(0x64) };
/// Of the status: there is a byte to read.
const HAS_DATA: u8 = 1;
/// What a port reads as that nobody answers.
const ABSENT: u8 = 0xff;
/// Bytes that a controller can hold; more is nonsense.
const MOST_BYTES: usize = 16;
/// The keys going down one after the other, by the codes of set 2 (Firecracker) and of set 1 (a PC's firmware has the
/// controller translate).
const CODES: [u32; 2] = [0x1411_e071, 0x1d38_e053];

static LAST_BYTES: AtomicU32 = AtomicU32::new(0);

/// Looks at the keys from now on, if there is a controller.
pub(super) fn enable() {
    if STATUS.read() == ABSENT {
        return;
    }
    if let Some(vector) = interrupts::register(&interrupt) {
        interrupts::route_isa_irq(IRQ, vector);
        // What was typed before holds interrupts back.
        interrupt();
    }
}

fn interrupt() {
    for _ in 0..MOST_BYTES {
        if STATUS.read() & HAS_DATA == 0 {
            return;
        }
        let last = LAST_BYTES.load(Ordering::Relaxed) << 8 | u32::from(DATA.read());
        LAST_BYTES.store(last, Ordering::Relaxed);
        if CODES.contains(&last) {
            power::pressed();
        }
    }
}
