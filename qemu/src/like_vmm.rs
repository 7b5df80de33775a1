//! Machines as near to those of other hypervisors as QEMU has them, with the words that these append.

use std::path::Path;

use crate::machine::{Kind, Machine, Nic};

/// No ACPI, no clock, devices named on the command line (one of which is not there); Firecracker's own words, and
/// Linux's form of a static address.
pub(crate) fn firecracker(image: &Path) -> Machine {
    let mut machine = Machine::new(Kind::Microvm, image);
    machine.append =
        "reboot=k panic=1 pci=off nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd \
                      console=ttyS0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off root=/dev/vda rw \
                      virtio_mmio.device=4K@0xd0000000:5"
            .into();
    machine.extra = ["-machine", "acpi=off,rtc=off"].map(str::to_owned).into();
    machine
}

/// PCI, a virtio console in place of a serial port, no timer and no keyboard of a PC's.
pub(crate) fn cloud_hypervisor(image: &Path) -> Machine {
    let mut machine = Machine::new(Kind::Q35, image);
    machine.append = "console=hvc0 root=/dev/vda rw".into();
    machine.nic = Nic::Modern;
    machine.has_serial_port = false;
    machine.extra = [
        "-machine",
        "pit=off,hpet=off,sata=off,smbus=off,usb=off,i8042=off",
        "-device",
        "virtio-balloon-pci-non-transitional",
        "-device",
        "virtio-rng-pci-non-transitional",
    ]
    .map(str::to_owned)
    .into();
    machine
}
