//! Words for Linux, which hypervisors append on their own account (Firecracker: `pci=off`, `reboot=k`, `root=/dev/vda ro`
//! and more) and users by habit. They say nothing to this kernel, so they are kept for a line in the log and nothing
//! else; but `root=/dev/vda` names a disk, and that we understand.

use core::str;

use crate::mounts::{MountPoint, TAGS};

/// Keys, with or without a value (Linux, admin-guide/kernel-parameters).
const KEYS: &[&str] = &[
    "acpi",
    "apic",
    "audit",
    "BOOT_IMAGE",
    "clocksource",
    "console",
    "debug",
    "earlycon",
    "earlyprintk",
    "idle",
    "ignore_loglevel",
    "initrd",
    "iommu",
    "lapic",
    "loglevel",
    "lpj",
    "mitigations",
    "nmi_watchdog",
    "no_timer_check",
    "noacpi",
    "noapic",
    "nokaslr",
    "nolapic",
    "nomodeset",
    "nomodule",
    "nomodules",
    "noreplace-smp",
    "nosmp",
    "nosmt",
    "nowatchdog",
    "panic",
    "pci",
    "pti",
    "quiet",
    "rdinit",
    "reboot",
    "ro",
    "rootdelay",
    "rootflags",
    "rootfstype",
    "rootwait",
    "rw",
    "selinux",
    "swiotlb",
    "systemd.show_status",
    "tsc",
    "tsc_early_khz",
];
/// Modules of Linux, whose parameters are `module.parameter`.
const MODULES: &[&str] = &[
    "8250",
    "i8042",
    "ipv6",
    "kvm",
    "net",
    "nvme_core",
    "printk",
    "random",
    "rcupdate",
    "rcutree",
    "systemd",
    "virtio_mmio",
    "virtio_net",
    "virtio_pci",
];

/// True if it is a word for Linux that may be ignored.
pub(crate) fn is_for_linux(word: &str) -> bool {
    let key = word.split_once('=').map_or(word, |(key, _)| key);
    let is_parameter = |(module, parameter): (&str, &str)| MODULES.contains(&module) && !parameter.is_empty();
    // `virtio_mmio.device` is ours.
    KEYS.contains(&key) || key.split_once('.').is_some_and(is_parameter) && key != crate::mmio::KEY
}

/// What `root=` means in Linux's form.
pub(crate) enum LinuxRoot {
    /// A virtio disk or a partition of one: ours of the same number; an NVMe disk; or one that is named by a tag.
    Disk(MountPoint),
    /// A disk of another kind: nothing of ours.
    Other,
}

impl LinuxRoot {
    /// Reads the value; `None` if it has not Linux's form.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let Some(device) = value.strip_prefix("/dev/") else {
            // `LABEL=x:ext4:ro` is our form.
            let has_tag = value.split_once('=').is_some_and(|(tag, _)| TAGS.contains(&tag));
            return if has_tag { MountPoint::root(value).ok().map(Self::Disk) } else { None };
        };
        // Ours have the same names.
        if device.starts_with("nvme") {
            return Some(MountPoint::root(device).map_or(Self::Other, Self::Disk));
        }
        let (disk, partition) = match device.strip_prefix("vd").unwrap_or_default().as_bytes() {
            [letter @ b'a'..=b'z', partition @ ..] => (letter - b'a', partition),
            _ => return Some(Self::Other),
        };
        let disk = match str::from_utf8(partition) {
            Ok("") => alloc::format!("blk{disk}"),
            Ok(partition) => alloc::format!("blk{disk}p{partition}"),
            Err(_) => return Some(Self::Other),
        };
        Some(MountPoint::root(&disk).map_or(Self::Other, Self::Disk))
    }
}
