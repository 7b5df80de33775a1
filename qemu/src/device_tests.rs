//! Devices in places and of kinds that are not the usual ones: each is used, or named with the reason why not.

use anyhow::{Result, ensure};

use crate::boot_tests::{hello, run};
use crate::disk;
use crate::guest_tests::{NamedTest, free_port};
use crate::http_tests::Server;
use crate::machine::{Kind, Machine};
use crate::project;

/// Where a disk can be: a name, the machine and its options, the devices on the way, the bus.
const PLACES: [(&str, Kind, &str, &[&str], &str); 6] = [
    ("root_port", Kind::Q35, "", &["pcie-root-port,id=port1,chassis=1"], "port1"),
    ("bridge", Kind::Pc, "", &["pci-bridge,id=bridge1,chassis_nr=1"], "bridge1"),
    (
        "second_root",
        Kind::Q35,
        "",
        &["pxb-pcie,id=root1,bus_nr=64", "pcie-root-port,id=port2,bus=root1,chassis=1"],
        "port2",
    ),
    ("second_root", Kind::Pc, "", &["pxb,id=root2,bus_nr=32"], "root2"),
    ("bare_pcie", Kind::Microvm, "pcie=on", &[], "pcie.0"),
    (
        "bare_bridges",
        Kind::Microvm,
        "pcie=on",
        &[
            "pcie-root-port,id=port3,chassis=1",
            "x3130-upstream,id=up,bus=port3",
            "xio3130-downstream,id=down1,bus=up,chassis=2",
            "xio3130-downstream,id=down2,bus=up,chassis=3",
            "virtio-rng-pci,bus=down1",
        ],
        "down2",
    ),
];
/// What is not driven: a name, the machine and its options, the device, what is said of it.
const UNUSABLE: [(&str, Kind, &str, &str, &str); 5] = [
    (
        "legacy_card",
        Kind::Q35,
        "",
        "virtio-net-pci,disable-modern=on,romfile=",
        "network card 1af4:1000: not used: it is a legacy",
    ),
    (
        "legacy_entropy",
        Kind::Pc,
        "",
        "virtio-rng-pci,disable-modern=on",
        "virtio device 1af4:1005: not used: it is a legacy",
    ),
    (
        "strange_card",
        Kind::Q35,
        "",
        "e1000e,romfile=",
        "network card 8086:10d3: not used: there is no driver",
    ),
    (
        "strange_disk",
        Kind::Microvm,
        "pcie=on",
        "virtio-scsi-pci",
        "storage 1af4:1004: not used: there is no driver",
    ),
    (
        "no_line",
        Kind::Microvm,
        "pcie=on",
        "virtio-net-pci,vectors=0,romfile=",
        "not used: it has no interrupt",
    ),
];

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for (name, kind, options, devices, bus) in PLACES {
        let check = move || disk_behind(kind, options, devices, bus);
        tests.push((format!("disk_{name} [{kind}]"), Box::new(check)));
    }
    tests.push(("http_bare_pcie [microvm]".into(), Box::new(serves_on_bare_pcie)));
    for (name, kind, options, device, expected) in UNUSABLE {
        let check = move || named_if_not_used(kind, options, device, expected);
        tests.push((format!("boot_names_{name} [{kind}]"), Box::new(check)));
    }
    tests.push(("boot_many_cards [q35]".into(), Box::new(many_cards)));
    for kind in [Kind::Q35, Kind::Microvm] {
        tests.push((format!("boot_strange_devices [{kind}]"), Box::new(move || strange_devices(kind))));
    }
    tests
}

/// More cards than can be used, and than there is memory for: those that are too many are named, and the rest of the memory
/// is enough for two cores and the app.
fn many_cards() -> Result<()> {
    for (memory_mib, reason) in [(16, "not enough memory"), (64, "8 of its kind")] {
        let mut machine = hello(Kind::Q35, "")?;
        (machine.memory_mib, machine.cpus) = (memory_mib, 2);
        for _ in 0..24 {
            machine.extra.extend(["-device", "virtio-net-pci,romfile="].map(str::to_owned));
        }
        let ending = run(&machine)?;
        let is_said = ending.console.lines().any(|line| line.contains("not used: ") && line.contains(reason));
        ensure!(is_said, "{memory_mib} MiB: {}", ending.console);
        ensure!(ending.code == Some(0), "{memory_mib} MiB: {:?}: {}", ending.code, ending.console);
    }
    Ok(())
}

/// Devices that are not there, or twice, or on no line, or where the RAM is, end nothing.
fn strange_devices(kind: Kind) -> Result<()> {
    let devices = ["512@0x100000:5", "512@0xfeb00e00:4294967295", "65536K@0xfe000000:5", "512@0xfeb02e00:47"];
    let words = devices.map(|device| format!("virtio_mmio.device={device} virtio_mmio.device={device}"));
    let ending = run(&hello(kind, &words.join(" "))?)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    let said = ending.console.contains("`virtio_mmio.device=` at 0x100000: not used");
    ensure!(said, "{}", ending.console);
    Ok(())
}

/// A disk behind `devices`, on their bus `bus`, of a machine that is as `options` say.
fn disk_behind(kind: Kind, options: &str, devices: &[&str], bus: &str) -> Result<()> {
    let path = project::work_dir("disks")?.join(format!("boot-{kind}-{bus}.img"));
    std::fs::File::create(&path)?.set_len(64 << 20)?;
    let mut machine = hello(kind, "format=blk0 mount=/data:blk0")?;
    if !options.is_empty() {
        machine.extra.extend(["-machine", options].map(str::to_owned));
    }
    let drive = format!("if=none,id=far,format=raw,file={}", path.display());
    machine.extra.extend(["-drive".to_owned(), drive]);
    let disk = format!("virtio-blk-pci,drive=far,bus={bus}");
    for device in devices.iter().copied().chain([disk.as_str()]) {
        machine.extra.extend(["-device".to_owned(), device.to_owned()]);
    }
    let ending = run(&machine)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    disk::check(&path)?;
    Ok(std::fs::remove_file(&path)?)
}

/// What is not taken is named, with the reason.
fn named_if_not_used(kind: Kind, options: &str, device: &str, expected: &str) -> Result<()> {
    let mut machine = hello(kind, "")?;
    if !options.is_empty() {
        machine.extra.extend(["-machine", options].map(str::to_owned));
    }
    machine.extra.extend(["-device".to_owned(), device.to_owned()]);
    let ending = run(&machine)?;
    let said = ending.console.lines().any(|line| line.contains("not used: ") && line.contains(expected));
    ensure!(said && ending.code == Some(0), "{device}: not {expected:?}: {}", ending.console);
    Ok(())
}

/// Serves from a card on PCI Express, where no firmware has set up anything.
fn serves_on_bare_pcie() -> Result<()> {
    let port = free_port()?;
    let mut machine = Machine::new(Kind::Microvm, &project::built("http")?);
    machine.extra = ["-machine", "pcie=on", "-netdev"].map(str::to_owned).into();
    machine.extra.push(format!("user,id=far,hostfwd=tcp:127.0.0.1:{port}-:8080"));
    for device in ["pcie-root-port,id=port1,chassis=1", "virtio-net-pci,netdev=far,bus=port1,romfile="] {
        machine.extra.extend(["-device", device].map(str::to_owned));
    }
    let server = Server::start(machine, "http", 128, port)?;
    for _ in 0..20 {
        server.get("/")?;
    }
    server.check_alive()
}
