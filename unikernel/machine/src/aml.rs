//! Constant objects in AML, found by their bytes. Interpreting AML takes an interpreter; what a
//! hypervisor's DSDT says about the things here is always a constant, so a look at the encoding
//! (ACPI 6.5, sections 20.2 and 6.4) is enough. What does not look as expected is ignored.

use crate::line::{Line, Polarity, Trigger};

/// Opcodes of small integers.
const ZERO: u8 = 0x00;
const ONE: u8 = 0x01;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DWORD_PREFIX: u8 = 0x0c;
const QWORD_PREFIX: u8 = 0x0e;
const PACKAGE: u8 = 0x12;
/// `Device (`, the two bytes that begin one.
const DEVICE: [u8; 2] = [0x5b, 0x82];
/// The event registers of generic event devices that we know, as `OperationRegion (NAME, SystemMemory, `: their
/// bytes, and the bit for the power button, which only a method in AML says.
const EVENT_REGIONS: [(&[u8], u8, u32); 2] = [
    // QEMU (`hw/acpi/generic_event_device.c`).
    (b"\x5b\x80EREG\0", 4, 1 << 1),
    // Cloud Hypervisor (`devices/src/acpi.rs`).
    (b"\x5b\x80GDST\0", 1, 1 << 3),
];
/// Resource descriptors: 32-bit fixed memory, extended interrupt.
const MEMORY32_FIXED: [u8; 3] = [0x86, 0x09, 0x00];
const EXTENDED_INTERRUPT: u8 = 0x89;

/// The generic event device of a hardware-reduced machine (ACPI 6.5, section 5.6.9), as hypervisors lay
/// it out: a register whose bits say what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventDevice {
    /// The register's physical address; reading it clears it.
    pub register: u64,
    /// Its bytes, 4 or 1.
    pub register_bytes: u8,
    /// The bit that says that the power button was pressed.
    pub power_button: u32,
    /// Its interrupt.
    pub line: Line,
}

/// A virtio device behind registers in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VirtioDevice {
    /// Its registers' physical address.
    pub address: u64,
    /// Bytes of registers.
    pub len: u32,
    /// Its interrupt.
    pub line: Line,
}

/// The sleep types for switching off: the first two elements of the package `_S5`.
pub fn s5_sleep_types(code: &[u8]) -> Option<[u8; 2]> {
    let after_name = after(code, b"_S5_")?;
    let package = after_name.strip_prefix(&[PACKAGE])?;
    let length_bytes = usize::from(package.first()? >> 6) + 1;
    // The length, then the number of elements, then the elements.
    let (first, rest) = integer(package.get(length_bytes + 1..)?)?;
    let second = integer(rest).map_or(first, |(second, _)| second);
    Some([first as u8, second as u8])
}

/// The virtio devices: `Device`s whose hardware id is `LNRO0005`, with their registers and line.
pub fn virtio_devices(code: &[u8]) -> impl Iterator<Item = VirtioDevice> {
    devices(code, b"LNRO0005").filter_map(|body| {
        let memory = after(body, &MEMORY32_FIXED)?;
        Some(VirtioDevice {
            address: u64::from(dword(memory.get(1..)?)?),
            len: dword(memory.get(5..)?)?,
            line: interrupt(body)?,
        })
    })
}

/// The generic event device (`ACPI0013`).
pub fn event_device(code: &[u8]) -> Option<EventDevice> {
    let body = devices(code, b"ACPI0013").next()?;
    EVENT_REGIONS.iter().find_map(|&(region, register_bytes, power_button)| {
        let (register, _) = integer(after(body, region)?)?;
        Some(EventDevice { register, register_bytes, power_button, line: interrupt(body)? })
    })
}

/// The first buses of further PCI roots: `Name (_BBN, number)`, as QEMU's `pxb-pcie` has it.
pub fn root_buses(code: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = code;
    core::iter::from_fn(move || {
        rest = after(rest, b"\x08_BBN")?;
        Some(integer(rest).and_then(|(number, _)| u8::try_from(number).ok()))
    })
    .flatten()
}

/// The physical address of the virtual machine's generation, in a table with such a device.
pub fn generation(code: &[u8]) -> Option<u64> {
    /// QEMU leaves room in front of it (`include/hw/acpi/vmgenid.h`).
    const OFFSET: u64 = 40;
    if find(code, b"QEMUVGID").is_some() {
        // `Name (VGIA, address)`, 0 until it is placed; methods use the name, too.
        let (base, _) = integer(after(code, b"\x08VGIA")?)?;
        return (base != 0).then(|| base.saturating_add(OFFSET));
    }
    // Firecracker: `Name (ADDR, Package (2) { low, high })`.
    let package = after(after(code, b"FCVMGID")?, b"ADDR")?.strip_prefix(&[PACKAGE])?;
    let length_bytes = usize::from(package.first()? >> 6) + 1;
    let (low, rest) = integer(package.get(length_bytes + 1..)?)?;
    let (high, _) = integer(rest)?;
    let address = high.checked_shl(32)? | low;
    (address != 0).then_some(address)
}

/// What follows each occurrence of the hardware id, up to the next device.
fn devices<'a>(code: &'a [u8], hardware_id: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = code;
    core::iter::from_fn(move || {
        rest = after(rest, hardware_id)?;
        let end = find(rest, &DEVICE).unwrap_or(rest.len());
        Some(&rest[..end])
    })
}

/// The first extended interrupt descriptor: tag, length, flags, count, numbers.
fn interrupt(body: &[u8]) -> Option<Line> {
    let at =
        (0..body.len()).find(|&at| body[at] == EXTENDED_INTERRUPT && body[at + 1..].starts_with(&[6, 0]))?;
    let flags = *body.get(at + 3)?;
    Some(Line {
        gsi: dword(body.get(at + 5..)?)?,
        trigger: if flags & 1 << 1 != 0 { Trigger::Edge } else { Trigger::Level },
        polarity: if flags & 1 << 2 != 0 { Polarity::Low } else { Polarity::High },
    })
}

/// Reads an integer constant and answers what follows it.
fn integer(code: &[u8]) -> Option<(u64, &[u8])> {
    let (&opcode, rest) = code.split_first()?;
    let bytes = match opcode {
        ZERO | ONE => return Some((u64::from(opcode), rest)),
        BYTE_PREFIX => 1,
        WORD_PREFIX => 2,
        DWORD_PREFIX => 4,
        QWORD_PREFIX => 8,
        _ => return None,
    };
    let value = rest.get(..bytes)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
    Some((value, &rest[bytes..]))
}

fn dword(code: &[u8]) -> Option<u32> {
    code.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn find(code: &[u8], pattern: &[u8]) -> Option<usize> {
    let (&first, _) = pattern.split_first()?;
    // Compare whole patterns only where the first byte fits: the table is searched several times.
    (0..(code.len() + 1).saturating_sub(pattern.len()))
        .find(|&at| code[at] == first && code[at..].starts_with(pattern))
}

fn after<'a>(code: &'a [u8], pattern: &[u8]) -> Option<&'a [u8]> {
    find(code, pattern).map(|at| &code[at + pattern.len()..])
}

#[cfg(test)]
mod tests;
