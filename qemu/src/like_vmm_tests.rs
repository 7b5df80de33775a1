//! Machines as near to those of other hypervisors as QEMU has them ([`like_vmm`]): an app serves there, from a disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::disk::{self, Disk};
use crate::guest_tests::{NamedTest, free_port};
use crate::machine::{Machine, Net};
use crate::vm::{Console, Vm};
use crate::{http, like_vmm, project};

const TIME_OUT: Duration = Duration::from_secs(60);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("boot_like_firecracker".to_owned(), Box::new(firecracker)),
        ("boot_like_cloud_hypervisor".to_owned(), Box::new(cloud_hypervisor)),
    ]
}

fn firecracker() -> Result<()> {
    let console = serve(like_vmm::firecracker(&project::built("http")?), "firecracker")?;
    ensure!(console.contains("`pci=off`: a word for Linux, not used"), "{console}");
    Ok(())
}

fn cloud_hypervisor() -> Result<()> {
    serve(like_vmm::cloud_hypervisor(&project::built("http")?), "cloud-hypervisor").map(drop)
}

/// Serves from a disk as the root; answers what is on the console.
fn serve(mut machine: Machine, name: &str) -> Result<String> {
    let path = project::work_dir("disks")?.join(format!("like-{name}-{}.img", std::process::id()));
    disk::make(&path, None, "32M", &[])?;
    let port = free_port()?;
    machine.has_debug_exit = false;
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
