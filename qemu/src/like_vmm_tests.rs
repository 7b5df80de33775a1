//! Machines as near to those of other hypervisors as QEMU has them, with the words that these append: an app serves there,
//! from a disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::disk::{self, Disk};
use crate::guest_tests::free_port;
use crate::machine::{Kind, Machine, Net, Nic};
use crate::vm::{Console, Vm};
use crate::{http, project};

/// A name and what it does.
type NamedTest = (String, Box<dyn Fn() -> Result<()>>);

const TIME_OUT: Duration = Duration::from_secs(60);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("boot_like_firecracker".to_owned(), Box::new(firecracker)),
        ("boot_like_cloud_hypervisor".to_owned(), Box::new(cloud_hypervisor)),
    ]
}

/// No ACPI, no clock, devices named on the command line (one of which is not there); Firecracker's own words, and
/// Linux's form of a static address.
fn firecracker() -> Result<()> {
    let words = "reboot=k panic=1 pci=off nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd \
                 console=ttyS0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off root=/dev/vda rw \
                 virtio_mmio.device=4K@0xd0000000:5";
    let mut machine = Machine::new(Kind::Microvm, &project::built("http")?);
    machine.extra = ["-machine", "acpi=off,rtc=off"].map(str::to_owned).into();
    let console = serve(machine, words, "firecracker")?;
    ensure!(console.contains("`pci=off`: a word for Linux, not used"), "{console}");
    Ok(())
}

/// PCI, a virtio console in place of a serial port, no timer and no keyboard of a PC's.
fn cloud_hypervisor() -> Result<()> {
    let mut machine = Machine::new(Kind::Q35, &project::built("http")?);
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
    serve(machine, "console=hvc0 root=/dev/vda rw", "cloud-hypervisor").map(drop)
}

/// Serves from a disk as the root; answers what is on the console.
fn serve(mut machine: Machine, words: &str, name: &str) -> Result<String> {
    let path = project::work_dir("disks")?.join(format!("like-{name}-{}.img", std::process::id()));
    disk::make(&path, None, "32M", &[])?;
    let port = free_port()?;
    machine.has_debug_exit = false;
    machine.append = words.to_owned();
    machine.net = Net::User(port, 8080);
    machine.disks = vec![Disk::new(&path)];
    let guest = Vm::start(&machine, Console::Recorded)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let outcome = guest.wait_until(TIME_OUT, || http::answers(address));
    std::fs::remove_file(&path)?;
    outcome?;
    let response = http::get(address, "/")?;
    ensure!(response.body == "Hello, World!", "it answers {response:?}");
    let console = guest.console();
    ensure!(console.contains("blk0: ext4 at /"), "its root is not the disk: {console}");
    Ok(console)
}
