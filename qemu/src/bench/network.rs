//! A network namespace of the benchmark's own: a tap device with the host's address, and nothing
//! else. The whole benchmark runs inside, so no packet can go elsewhere.

use std::net::SocketAddr;
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

/// Deletes the namespace, and with it the device, at the end.
struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

/// Makes the namespace and runs this program again inside; answers its exit code.
pub(super) fn run_inside() -> Result<u8> {
    let namespace = Namespace(format!("unikernel-bench-{}", std::process::id()));
    ip(&["netns", "add", &namespace.0]).context("the benchmark needs root for its network namespace")?;
    let inside = |words: &[&str]| ip(&[&["-n", &namespace.0], words].concat());
    inside(&["link", "set", "lo", "up"])?;
    inside(&["tuntap", "add", "dev", TAP, "mode", "tap"])?;
    inside(&["addr", "add", "10.0.2.1/24", "dev", TAP])?;
    inside(&["link", "set", TAP, "up"])?;
    // A permanent neighbour: else the host's own ARP back-off would be measured as boot time.
    let address = std::net::Ipv4Addr::from(GUEST.0).to_string();
    inside(&["neigh", "add", &address, "lladdr", GUEST_MAC, "dev", TAP, "nud", "permanent"])?;
    let this_program = std::env::current_exe().context("cannot find this program")?;
    // An interrupt reaches the child too, which then ends its guest; the guard cleans up here.
    ctrlc::set_handler(|| {})?;
    let status = Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(this_program)
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, &namespace.0)
        .status()?;
    status.code().map(|code| code as u8).context("the benchmark was interrupted")
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output().context("cannot run `ip` (package iproute2)")?;
    if !output.status.success() {
        bail!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
