//! Words for Linux, which hypervisors append on their own account (Firecracker: `pci=off`, `reboot=k`, `root=/dev/vda ro`
//! and more) and users by habit. They say nothing to this kernel, so they are kept for a line in the log and nothing
//! else; but `root=/dev/vda` names a disk, and that we understand.

use alloc::string::String;

use crate::mounts::MountPoint;

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
    "init",
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
    /// A whole virtio disk: ours of the same number.
    Disk(MountPoint),
    /// A partition, a label, a disk of another kind: nothing of ours.
    Other,
}

impl LinuxRoot {
    /// Reads the value; `None` if it has not Linux's form.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        const TAGS: [&str; 4] = ["PARTUUID=", "PARTLABEL=", "UUID=", "LABEL="];
        let Some(device) = value.strip_prefix("/dev/") else {
            return TAGS.iter().any(|tag| value.starts_with(tag)).then_some(Self::Other);
        };
        let number = match device.strip_prefix("vd").unwrap_or_default().as_bytes() {
            [letter @ b'a'..=b'z'] => letter - b'a',
            _ => return Some(Self::Other),
        };
        let disk = alloc::format!("blk{number}");
        Some(Self::Disk(MountPoint { path: String::from("/"), disk, is_read_only: false }))
    }
}
