//! A network namespace of the benchmark's own: a tap device with the host's address, and nothing
//! else. The whole benchmark runs inside, so no packet can go elsewhere.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The tap device inside.
pub(super) const TAP: &str = "tap0";
/// The guest's address, and the app's port.
pub(super) const GUEST: ([u8; 4], u16) = ([10, 0, 2, 15], 8080);
/// QEMU's first default MAC address.
const GUEST_MAC: &str = "52:54:00:12:34:56";
/// Set while we run inside.
const VARIABLE: &str = "UNIKERNEL_BENCH_NAMESPACE";

/// Where the guest's server is.
pub(super) fn guest_address() -> SocketAddr {
    SocketAddr::from(GUEST)
}

/// True in the process that runs inside the namespace.
pub(super) fn is_inside() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Replaces this process by one that does the same inside a new namespace, which vanishes with it.
pub(super) fn enter() -> Result<()> {
    let this_program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let error =
        command.arg("--net").arg(this_program).args(std::env::args_os().skip(1)).env(VARIABLE, "1").exec();
    Err(error).context("cannot run `unshare` (package util-linux)")
}

/// Makes the tap device and gives the host its address.
pub(super) fn set_up() -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    ip(&["tuntap", "add", "dev", TAP, "mode", "tap"])
        .context("the benchmark needs /dev/net/tun, and root or user namespaces")?;
    ip(&["addr", "add", "10.0.2.1/24", "dev", TAP])?;
    ip(&["link", "set", TAP, "up"])?;
    // A permanent neighbour: else the host's own ARP back-off would be measured as boot time.
    let address = std::net::Ipv4Addr::from(GUEST.0).to_string();
    ip(&["neigh", "add", &address, "lladdr", GUEST_MAC, "dev", TAP, "nud", "permanent"])?;
    // 20,000 connections one after another leave as many ports in TIME_WAIT on the host's side.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")
        .context("cannot widen the range of ports")
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output().context("cannot run `ip` (package iproute2)")?;
    if !output.status.success() {
        bail!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
