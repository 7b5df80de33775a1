//! `virtio_mmio.device=`: virtio devices that a hypervisor announces on the command line, because
//! nothing else describes them. QEMU's `microvm` without ACPI and Firecracker append one word for
//! each to whatever the user wrote, so the words also turn up behind the app's arguments.

use alloc::string::String;
use alloc::vec::Vec;

/// The word's key, as Linux's virtio_mmio driver has it.
pub(crate) const KEY: &str = "virtio_mmio.device";

/// Every 64-bit processor has at least this much physical address space, and hypervisors
/// put these devices low.
const PHYSICAL_END: u64 = 1 << 36;

/// A virtio device that the hypervisor announces on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmioDevice {
    /// Physical address of its registers.
    pub base: u64,
    /// Bytes of them.
    pub size: u64,
    /// Interrupt line.
    pub irq: u32,
}

impl MmioDevice {
    /// Reads `<size>@<base>:<irq>[:<id>]` (Linux, admin-guide/kernel-parameters).
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (size, rest) = value.split_once('@')?;
        let mut parts = rest.split(':');
        let (base, irq) = (number(parts.next()?)?, parts.next()?.parse().ok()?);
        let has_good_id = parts.next().is_none_or(|id| id.parse::<u32>().is_ok());
        let size = size_with_suffix(size)?;
        // Registers have 32 bits, and stand at multiples of them.
        let is_in_memory =
            base.checked_add(size).is_some_and(|end| end <= PHYSICAL_END) && base.is_multiple_of(4);
        (size > 0 && is_in_memory && has_good_id && parts.next().is_none()).then_some(Self {
            base,
            size,
            irq,
        })
    }

    /// Takes the devices from the end of the app's arguments, where the hypervisor appended them.
    pub(crate) fn take_appended(arguments: &mut Vec<String>) -> Vec<Self> {
        let mut devices = Vec::new();
        while let Some(device) =
            arguments.last().and_then(|word| Self::parse(word.strip_prefix(KEY)?.strip_prefix('=')?))
        {
            devices.insert(0, device);
            arguments.pop();
        }
        devices
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn size_with_suffix(text: &str) -> Option<u64> {
    let units = [('K', 1 << 10), ('k', 1 << 10), ('M', 1 << 20), ('m', 1 << 20)];
    match units.iter().find_map(|&(suffix, unit)| Some((text.strip_suffix(suffix)?, unit))) {
        Some((digits, unit)) => number(digits)?.checked_mul(unit),
        None => number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_devices_are_read() {
        let device = |size, base, irq| Some(MmioDevice { base, size, irq });
        assert_eq!(MmioDevice::parse("512@0xfeb00e00:5"), device(512, 0xfeb0_0e00, 5));
        assert_eq!(MmioDevice::parse("4K@0xd0000000:6:0"), device(4096, 0xd000_0000, 6));
        assert_eq!(MmioDevice::parse("0x1M@4096:7"), device(1 << 20, 4096, 7));
    }

    #[test]
    fn malformed_devices_are_refused() {
        for value in [
            "",
            "512",
            "512@",
            "512@0x1000",
            "@0x1000:5",
            "512@0x1000:",
            "512@0x1000:5:",
            "512@0x1000:5:x",
            "512@0x1000:5:0:0",
            "0@0x1000:5",
            "512@0xffffffffffffffff:5",
            "512@0x10000000000000:5",
            "512@0xfeb00e01:5",
            "18446744073709551615K@0x1000:5",
            "512@0x1000:-1",
            "512@0x1000:4294967296",
            "-1@0x1000:5",
        ] {
            assert_eq!(MmioDevice::parse(value), None, "{value}");
        }
    }
}
