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
const BUFFER: u8 = 0x11;
const PACKAGE: u8 = 0x12;
const RETURN: u8 = 0xa4;
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
/// Resource descriptors: 32-bit fixed memory, extended interrupt, address spaces with fields of 16, 32 and 64 bits.
const MEMORY32_FIXED: [u8; 3] = [0x86, 0x09, 0x00];
const EXTENDED_INTERRUPT: u8 = 0x89;
const WORD_SPACE: u8 = 0x88;
const DWORD_SPACE: u8 = 0x87;
const QWORD_SPACE: u8 = 0x8a;
/// What such a space holds: memory, bus numbers.
const SPACE_MEMORY: u8 = 0;
const SPACE_BUSES: u8 = 2;
/// The descriptor that ends a list of them.
const END_TAG: u8 = 0x79;

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
        // Cloud Hypervisor has it in a device of its own, before this one.
        let (register, _) = integer(after(code, region)?)?;
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

/// A PCI Express host bridge that the table describes alone, without an MCFG table: QEMU's `microvm,pcie=on`
/// (`hw/pci-host/gpex-acpi.c`), on which no firmware has numbered buses or given addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostBridge {
    /// The physical address of the first bus's configuration space.
    pub ecam: u64,
    /// The numbers that buses can have.
    pub first_bus: u8,
    /// The last of them.
    pub last_bus: u8,
    /// The first address that devices' registers may have, below 4 GiB.
    pub window_start: u64,
    /// One past the last.
    pub window_end: u64,
}

/// The PCI Express host bridge (`PNP0A08`) that says where its configuration space is.
pub fn host_bridge(code: &[u8]) -> Option<HostBridge> {
    let body = after(code, b"PNP0A08")?;
    // A method without arguments that returns a constant, or a name for one.
    let base = after(body, b"_CBA")?;
    let (ecam, _) = integer(base.strip_prefix(&[0, RETURN]).unwrap_or(base))?;
    let mut rest = body;
    while let Some(list) = after(rest, b"_CRS") {
        let mut bridge = HostBridge { ecam, first_bus: 0, last_bus: 0, window_start: 0, window_end: 0 };
        for (tag, space) in descriptors(list) {
            bridge.add(tag, space);
        }
        if ecam != 0 && bridge.window_start < bridge.window_end {
            return Some(bridge);
        }
        rest = list;
    }
    None
}

impl HostBridge {
    /// Takes an address space descriptor (ACPI 6.5, section 6.4.3.5): its kind, two bytes of flags, granularity, least, most.
    fn add(&mut self, tag: u8, space: &[u8]) -> Option<()> {
        match (tag, *space.first()?) {
            (DWORD_SPACE, SPACE_MEMORY) if self.window_end == 0 => {
                self.window_start = dword(space.get(7..)?)?.into();
                self.window_end = u64::from(dword(space.get(11..)?)?) + 1;
            }
            (WORD_SPACE, SPACE_BUSES) => {
                (self.first_bus, self.last_bus) = (*space.get(5)?, *space.get(7)?);
            }
            _ => {}
        }
        Some(())
    }
}

/// The large resource descriptors of the buffer that begins here, each with its tag.
fn descriptors(code: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = buffer(code).unwrap_or_default();
    core::iter::from_fn(move || {
        loop {
            let (&tag, after_tag) = rest.split_first()?;
            if tag == END_TAG {
                return None;
            }
            // Small descriptors have their length in the tag.
            let (len, body) = if tag & 0x80 == 0 {
                (usize::from(tag & 7), after_tag)
            } else {
                (usize::from(u16::from_le_bytes(*after_tag.first_chunk()?)), &after_tag[2..])
            };
            let descriptor = body.get(..len)?;
            rest = &body[len..];
            if tag & 0x80 != 0 {
                return Some((tag, descriptor));
            }
        }
    })
}

/// The bytes of a buffer: its opcode, the length of the package, the number of bytes, the bytes.
fn buffer(code: &[u8]) -> Option<&[u8]> {
    let package = code.strip_prefix(&[BUFFER])?;
    let length_bytes = usize::from(package.first()? >> 6) + 1;
    let (len, bytes) = integer(package.get(length_bytes..)?)?;
    bytes.get(..usize::try_from(len).ok()?)
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
    // The specification's identifier and object; Firecracker: `Name (ADDR, Package (2) { low, high })`.
    let package = after(after(code, b"VM_Gen_Counter\0")?, b"\x08ADDR")?.strip_prefix(&[PACKAGE])?;
    let length_bytes = usize::from(package.first()? >> 6) + 1;
    let (low, rest) = integer(package.get(length_bytes + 1..)?)?;
    let (high, _) = integer(rest)?;
    let address = high.checked_shl(32)? | low;
    (address != 0).then_some(address)
}

/// The physical address of a `vmclock` device's page ([`crate::vmclock`]), which is its only resource.
pub fn clock_page(code: &[u8]) -> Option<u64> {
    let body = after(code, b"VMCLOCK\0")?;
    let mut spaces = descriptors(after(body, b"_CRS")?);
    let (_, space) =
        spaces.find(|(tag, space)| *tag == QWORD_SPACE && space.first() == Some(&SPACE_MEMORY))?;
    space.get(11..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).filter(|&address| address != 0)
}

/// The lines of a generic event device without a register, which has one for each kind of event: Firecracker's.
pub fn event_lines(code: &[u8]) -> impl Iterator<Item = Line> {
    let list = devices(code, b"ACPI0013").next().and_then(|body| after(body, b"_CRS")).unwrap_or_default();
    descriptors(list).filter(|(tag, _)| *tag == EXTENDED_INTERRUPT).filter_map(|(_, words)| line_of(words))
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
    line_of(&body[at + 3..])
}

/// The line of an extended interrupt descriptor: flags, count, the first number.
fn line_of(words: &[u8]) -> Option<Line> {
    let flags = *words.first()?;
    Some(Line {
        gsi: dword(words.get(2..)?)?,
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
