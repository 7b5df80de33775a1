//! The battery-backed clock of the PC (Motorola MC146818): wall time in whole seconds.

use unikernel_machine::calendar::{Registers, seconds_since_1970};

use super::acpi;
use super::io::IoPort;
use super::time::NS_PER_SECOND;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// An update takes 2 ms at most; a clock that claims longer is not there.
const UPDATE_TRIES: usize = 10_000;

/// Reads the clock as nanoseconds since 1970; `None` if there is none.
pub(super) fn read_ns() -> Option<u64> {
    let mut registers = read()?;
    loop {
        // The clock may have ticked between two registers: twice the same means that it has not.
        let again = read()?;
        if again == registers {
            return seconds_since_1970(registers).map(|seconds| seconds * NS_PER_SECOND);
        }
        registers = again;
    }
}

fn register(index: u8) -> u8 {
    const HIDES_NMIS: u8 = 1 << 7;
    // SAFETY: the clock's registers cannot break memory safety. Bit 7 of the index port masks
    // NMIs; it stays clear.
    let (select, data) = unsafe { (IoPort::<u8>::new(0x70), IoPort::<u8>::new(0x71)) };
    select.write(index & !HIDES_NMIS);
    data.read()
}

fn read() -> Option<Registers> {
    (0..UPDATE_TRIES).find(|_| register(STATUS_A) & UPDATE_IN_PROGRESS == 0)?;
    Some(Registers {
        time: [SECONDS, MINUTES, HOURS].map(register),
        date: [DAY, MONTH, YEAR].map(register),
        century: acpi::machine().century_register.map(register),
        status: register(STATUS_B),
    })
}
