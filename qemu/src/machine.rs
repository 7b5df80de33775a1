//! QEMU's arguments for the machines that images boot on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail, ensure};

use crate::disk::Disk;
use crate::share::{self, Share};

/// The program.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// Where the kernel writes its exit code (`isa-debug-exit`).
const DEBUG_EXIT: &str = "isa-debug-exit,iobase=0xf4,iosize=4";

/// A path as the value of one of QEMU's options: a comma ends a value, and two are one.
pub(crate) fn option_value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// A machine type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// PCI Express and ACPI.
    Q35,
    /// virtio-mmio only: the quickest to start.
    Microvm,
    /// The old PC.
    Pc,
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "q35" => Ok(Self::Q35),
            "microvm" => Ok(Self::Microvm),
            "pc" => Ok(Self::Pc),
            _ => bail!("no such machine; there are q35, microvm and pc"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q35 => "q35",
            Self::Microvm => "microvm",
            Self::Pc => "pc",
        })
    }
}

/// How the guest's instructions are executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accelerator {
    /// KVM where it really works, else TCG.
    Auto,
    /// By translation.
    Tcg,
    /// By the processor.
    Kvm,
}

impl FromStr for Accelerator {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "tcg" => Ok(Self::Tcg),
            "kvm" => Ok(Self::Kvm),
            _ => bail!("no such accelerator; there are auto, tcg and kvm"),
        }
    }
}

impl Accelerator {
    /// KVM needs the processor's extension *and* the device: a `/dev/kvm` without `vmx` or `svm` may
    /// be an emulation that is slower than TCG.
    fn uses_kvm(self) -> bool {
        match self {
            Self::Tcg => false,
            Self::Kvm => true,
            Self::Auto => {
                let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
                let has_extension =
                    cpuinfo.split_ascii_whitespace().any(|word| word == "vmx" || word == "svm");
                has_extension && std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
            }
        }
    }
}

/// Where a guest sees the host on QEMU's own network.
const HOST: &str = "10.0.2.2";

/// What the guest's network device is connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Net {
    /// No device.
    None,
    /// QEMU's own network, with a forwarded port of TCP and UDP (host, guest).
    User(u16, u16),
    /// The same without a port, as a network 10.0.N.0/24 of its own.
    Apart(u8),
    /// The first, and on the same wire a UDP socket of the host (QEMU's port, ours) that carries raw
    /// Ethernet frames in both directions: how tests put onto the wire what no host stack would send.
    UserAndFrames { ports: (u16, u16), wire: (u16, u16) },
    /// A UDP socket of the host (QEMU's port, ours) that carries raw Ethernet frames, and nothing else.
    Frames { wire: (u16, u16) },
    /// A tap device, with so many pairs of queues.
    Tap { name: String, queues: u32 },
}

impl Net {
    /// QEMU's back ends, of which the one called `id` is for the device.
    fn backends(&self, id: &str) -> Vec<String> {
        let frames = |(qemu, ours): (u16, u16), id| {
            format!("socket,id={id},udp=127.0.0.1:{ours},localaddr=127.0.0.1:{qemu}")
        };
        let user = |(host, guest): (u16, u16), id| {
            let forward = |protocol| format!("hostfwd={protocol}:127.0.0.1:{host}-:{guest}");
            format!("user,id={id},{},{}", forward("tcp"), forward("udp"))
        };
        match self {
            Self::None => Vec::new(),
            Self::User(host, guest) => vec![user((*host, *guest), id)],
            Self::Apart(number) => vec![format!("user,id={id},net=10.0.{number}.0/24")],
            Self::Tap { name, queues } => {
                vec![format!("tap,id={id},ifname={name},queues={queues},script=no,downscript=no")]
            }
            Self::Frames { wire } => vec![frames(*wire, id)],
            Self::UserAndFrames { ports, wire } => vec![
                user(*ports, "user0"),
                frames(*wire, "wire0"),
                "hubport,id=hub0,hubid=0,netdev=user0".into(),
                "hubport,id=hub1,hubid=0,netdev=wire0".into(),
                format!("hubport,id={id},hubid=0"),
            ],
        }
    }
}

/// Which generation of virtio the network device speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nic {
    /// QEMU's own choice: transitional on PCI, legacy on MMIO.
    Usual,
    /// Virtio 1.x and nothing else.
    Modern,
    /// The same, with several pairs of queues.
    ManyQueues,
}

/// What is started first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Boot {
    /// The ELF, by QEMU.
    Kernel,
    /// What SeaBIOS finds on the first disk.
    Bios,
    /// What UEFI (EDK2's OVMF) finds there.
    Uefi,
}

/// The firmware for [`Boot::Uefi`], as Debian's package `ovmf` has it.
const UEFI: &str = "/usr/share/ovmf/OVMF.fd";

/// A machine to boot.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) kind: Kind,
    pub(crate) accelerator: Accelerator,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u32,
    pub(crate) boot: Boot,
    pub(crate) kernel: PathBuf,
    pub(crate) append: String,
    pub(crate) initrd: Option<PathBuf>,
    pub(crate) net: Net,
    /// What further network devices are connected to.
    pub(crate) more_nets: Vec<Net>,
    /// Where the host reaches the owner's channel of the guest's, over QEMU's own network.
    pub(crate) observed_at: Option<u16>,
    pub(crate) nic: Nic,
    /// Further properties of the network devices, as QEMU has them: `name=value`, separated by commas.
    pub(crate) nic_properties: String,
    /// `blk0`, `blk1` and so on.
    pub(crate) disks: Vec<Disk>,
    /// `share0`, `share1` and so on.
    pub(crate) shares: Vec<Share>,
    /// Whether it has the port for the guest's exit code.
    pub(crate) has_debug_exit: bool,
    /// Whether it has a serial port; if not, its console is a virtio device.
    pub(crate) has_serial_port: bool,
    /// QEMU's character device behind the console.
    pub(crate) console: String,
    /// Further arguments.
    pub(crate) extra: Vec<String>,
}

impl Machine {
    /// A machine with nothing but an image.
    pub(crate) fn new(kind: Kind, kernel: &Path) -> Self {
        Self {
            kind,
            accelerator: Accelerator::Auto,
            memory_mib: 256,
            cpus: 1,
            boot: Boot::Kernel,
            kernel: kernel.to_owned(),
            append: String::new(),
            initrd: None,
            net: Net::None,
            more_nets: Vec::new(),
            observed_at: None,
            nic: Nic::Usual,
            nic_properties: String::new(),
            disks: Vec::new(),
            shares: Vec::new(),
            has_debug_exit: true,
            has_serial_port: true,
            console: "stdio".to_owned(),
            extra: Vec::new(),
        }
    }

    /// The arguments for [`QEMU`].
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
        match self.kind {
            Kind::Q35 => add(&["-M", "q35"]),
            Kind::Pc => add(&["-M", "pc"]),
            Kind::Microvm if self.has_serial_port => add(&["-M", "microvm,rtc=on,isa-serial=on"]),
            Kind::Microvm => add(&["-M", "microvm,rtc=on,isa-serial=off"]),
        }
        let cpus = self.cpus.to_string();
        if self.accelerator.uses_kvm() {
            add(&["-accel", "kvm", "-cpu", "host", "-smp", &cpus]);
        } else {
            // With exactly one possible vCPU, QEMU 7.2 leaves the guest's memory barriers out and
            // virtio notifications get lost (fixed in 8.1); a second, absent one avoids that.
            let cpus = if self.cpus == 1 { "1,maxcpus=2" } else { &cpus };
            add(&["-accel", "tcg", "-cpu", "max", "-smp", cpus]);
        }
        add(&["-m", &format!("{}M", self.memory_mib)]);
        match self.boot {
            Boot::Kernel => {
                let line = share::with_mounts(&self.shares, &self.append);
                add(&["-kernel", &self.kernel.to_string_lossy(), "-append", &line]);
            }
            Boot::Bios => {}
            Boot::Uefi => add(&["-bios", UEFI]),
        }
        if let Some(initrd) = &self.initrd {
            add(&["-initrd", &initrd.to_string_lossy()]);
        }
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        add(&["-chardev", &format!("{},id=console0", self.console)]);
        if self.has_serial_port {
            add(&["-serial", "chardev:console0"]);
        } else {
            let bus = if self.kind == Kind::Microvm { "virtio-serial-device" } else { "virtio-serial-pci" };
            add(&["-serial", "none", "-device", bus, "-device", "virtconsole,chardev=console0"]);
        }
        if self.has_debug_exit {
            add(&["-device", DEBUG_EXIT]);
        }
        arguments.extend(self.net_arguments());
        let disks = self.disks.iter().enumerate();
        arguments.extend(disks.flat_map(|(number, disk)| disk.arguments(number, self.kind)));
        let shares = self.shares.iter().enumerate();
        arguments.extend(shares.flat_map(|(number, share)| share.arguments(number, self.kind)));
        arguments.extend(self.extra.iter().cloned());
        arguments
    }

    fn net_arguments(&self) -> Vec<String> {
        let is_modern_mmio = self.kind == Kind::Microvm && self.nic != Nic::Usual;
        let global = if is_modern_mmio { &["-global", "virtio-mmio.force-legacy=false"][..] } else { &[] };
        let mut arguments: Vec<String> = Vec::new();
        for (number, net) in core::iter::once(&self.net).chain(&self.more_nets).enumerate() {
            let id = format!("net{number}");
            let mut backends = net.backends(&id);
            if let (Net::User(..), 0, Some(port)) = (net, number, self.observed_at) {
                backends[0] += &format!(",hostfwd=tcp:127.0.0.1:{port}-:{port}");
            }
            if !backends.is_empty() {
                arguments.extend(backends.into_iter().flat_map(|backend| ["-netdev".to_owned(), backend]));
                arguments.extend(["-device".to_owned(), self.nic_device(&id)]);
            }
        }
        if arguments.is_empty() {
            arguments
        } else {
            [global.iter().map(|&word| word.into()).collect(), arguments].concat()
        }
    }

    fn nic_device(&self, id: &str) -> String {
        // The iPXE ROM would cost 0.1 to 0.4 s of boot.
        let mut device = match (self.kind, self.nic) {
            (Kind::Microvm, Nic::ManyQueues) => format!("virtio-net-device,netdev={id},mq=on"),
            (Kind::Microvm, _) => format!("virtio-net-device,netdev={id}"),
            (_, Nic::Usual) => format!("virtio-net-pci,netdev={id},romfile="),
            (_, Nic::ManyQueues) => {
                format!("virtio-net-pci-non-transitional,netdev={id},romfile=,mq=on,vectors=10")
            }
            (_, Nic::Modern) => format!("virtio-net-pci-non-transitional,netdev={id},romfile="),
        };
        if !self.nic_properties.is_empty() {
            device = format!("{device},{}", self.nic_properties);
        }
        device
    }

    /// Has the guest tell this host, and nobody else, what goes on in it, at a port of the host's.
    ///
    /// # Errors
    ///
    /// If its first network is not QEMU's own, where the host is always the same.
    pub(crate) fn observe_at(&mut self, port: u16) -> Result<()> {
        let message = "--observe goes over QEMU's own network: elsewhere name who may ask, \
                       --append observe=tcp:9100:ADDRESS, and ask the guest itself";
        ensure!(matches!(self.net, Net::User(..)), message);
        self.observed_at = Some(port);
        self.append = format!("observe=tcp:{port}:{HOST} {}", self.append).trim().to_owned();
        Ok(())
    }

    /// Has the guest write every frame of its cards to a file: a port of a console for it, and the word.
    pub(crate) fn capture_to(&mut self, file: &Path) {
        // A comma ends an option of QEMU's; two are one that does not.
        self.capture_into(&format!("file,path={}", option_value(file)));
    }

    /// The same, into a character device of QEMU's.
    pub(crate) fn capture_into(&mut self, device: &str) {
        let bus = if self.kind == Kind::Microvm { "virtio-serial-device" } else { "virtio-serial-pci" };
        let (device, bus) = (format!("{device},id=pcap0"), format!("{bus},max_ports=2"));
        let words = ["-chardev", &device, "-device", &bus, "-device", "virtserialport,nr=1,chardev=pcap0"];
        self.extra.extend(words.map(str::to_owned));
        self.append = format!("pcap=on {}", self.append).trim().to_owned();
    }

    /// A source of randomness for the guest, as a further device.
    pub(crate) fn add_rng(&mut self) {
        let device = if self.kind == Kind::Microvm { "virtio-rng-device" } else { "virtio-rng-pci" };
        self.extra.extend(["-device".to_owned(), device.to_owned()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microvm_gets_no_pci_device() {
        let mut machine = Machine::new(Kind::Microvm, Path::new("image"));
        machine.net = Net::User(1, 2);
        let arguments = machine.arguments().join(" ");
        assert!(arguments.contains("virtio-net-device") && !arguments.contains("pci"));
        assert!(arguments.contains("hostfwd=tcp:127.0.0.1:1-:2"));
    }

    #[test]
    fn each_net_gets_a_device() {
        let mut machine = Machine::new(Kind::Q35, Path::new("image"));
        machine.net = Net::User(1, 2);
        machine.more_nets = vec![Net::Tap { name: "tap1".into(), queues: 1 }];
        let arguments = machine.arguments().join(" ");
        assert!(arguments.contains("tap,id=net1,ifname=tap1") && arguments.contains("pci,netdev=net1"));
        assert!(arguments.contains("user,id=net0") && arguments.contains("pci,netdev=net0"));
    }

    #[test]
    fn tcg_never_gets_exactly_one_possible_cpu() {
        let mut machine = Machine::new(Kind::Q35, Path::new("image"));
        machine.accelerator = Accelerator::Tcg;
        assert!(machine.arguments().contains(&"1,maxcpus=2".to_owned()));
    }
}
