//! A network namespace of our own: a tap device with the host's address, and nothing else. The benchmark, and tests
//! that need more than QEMU's user network, run inside, so no packet can go elsewhere.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The tap device inside.
pub(crate) const TAP: &str = "tap0";
/// The guest's address, and the app's port.
pub(crate) const GUEST: ([u8; 4], u16) = ([10, 0, 2, 15], 8080);
/// QEMU's first default MAC address.
const GUEST_MAC: &str = "52:54:00:12:34:56";
/// Set while we run inside.
const VARIABLE: &str = "UNIKERNEL_NAMESPACE";

/// Where the guest's server is.
pub(crate) fn guest_address() -> SocketAddr {
    SocketAddr::from(GUEST)
}

/// True in the process that runs inside the namespace.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Runs this program with other arguments inside a new namespace, which vanishes with it.
pub(crate) fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<Command> {
    let this_program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--net").arg(this_program).args(arguments).env(VARIABLE, "1");
    Ok(command)
}

/// Replaces this process by one that does the same inside a new namespace.
pub(crate) fn enter() -> Result<()> {
    let error = command(std::env::args_os().skip(1))?.exec();
    Err(error).context("cannot run `unshare` (package util-linux)")
}

/// Whether there can be tap devices on this host.
pub(crate) fn is_possible() -> bool {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok()
}

/// Makes a tap device, which may have several pairs of queues, and gives the host its address.
pub(crate) fn set_up(queues: Queues) -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    // 20,000 connections one after another leave as many ports in TIME_WAIT on the host's side.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")
        .context("cannot widen the range of ports")?;
    add_host_tap(queues)
}

/// Makes the tap device anew. It remembers what offloads the last QEMU asked for: whoever opens it then without headers
/// for them gets frames without checksums. It keeps its kind, too.
pub(crate) fn renew_tap(queues: Queues) -> Result<()> {
    ip(&["link", "delete", TAP])?;
    add_host_tap(queues)
}

fn add_host_tap(queues: Queues) -> Result<()> {
    add_tap(TAP, queues, &["10.0.2.1/24"])?;
    // A permanent neighbour: else the host's own ARP back-off would be measured as boot time.
    let address = std::net::Ipv4Addr::from(GUEST.0).to_string();
    ip(&["neigh", "replace", &address, "lladdr", GUEST_MAC, "dev", TAP, "nud", "permanent"])
}

/// What the tap device queues by default.
const QUEUE_PACKETS: usize = 1000;

/// Lets so many clients begin at once without a packet lost on the host's side: each may have three under way.
pub(crate) fn lengthen_queue(clients: usize) -> Result<()> {
    ip(&["link", "set", TAP, "txqueuelen", &(3 * clients).to_string()])
}

/// Undoes [`lengthen_queue`].
pub(crate) fn shorten_queue() -> Result<()> {
    ip(&["link", "set", TAP, "txqueuelen", &QUEUE_PACKETS.to_string()])
}

/// Makes a further tap device with the host's addresses.
pub(crate) fn add_tap(name: &str, queues: Queues, addresses: &[&str]) -> Result<()> {
    let mut words = vec!["tuntap", "add", "dev", name, "mode", "tap"];
    words.extend((queues == Queues::Several).then_some("multi_queue"));
    ip(&words).context("a tap device needs /dev/net/tun, and root or user namespaces")?;
    for address in addresses {
        add_address(address, name)?;
    }
    ip(&["link", "set", name, "up"])
}

/// Gives the host an address, at once: nobody else is there who could have it, so nobody is asked.
pub(crate) fn add_address(address: &str, device: &str) -> Result<()> {
    let mut words = vec!["addr", "add", address, "dev", device];
    words.extend(address.contains(':').then_some("nodad"));
    ip(&words)
}

/// Pairs of queues that a tap device has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queues {
    One,
    Several,
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output().context("cannot run `ip` (package iproute2)")?;
    if !output.status.success() {
        bail!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
