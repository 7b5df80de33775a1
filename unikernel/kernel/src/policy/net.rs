//! Which addresses the app may bind and connect to: by `allow-net=`, and by the rules that the calling thread has put upon itself
//! (landlock(7), about ports of TCP).

use alloc::vec::Vec;
use core::net::SocketAddr;

use spin::Once;
use unikernel_policy::access::PortAccess;
use unikernel_policy::net::{NetAction, NetRule};

use super::{access, learn, refusals};
use crate::abi::Errno;
use crate::task::confinement;

/// The rules of the image and of the command line, of which each has to allow.
static RULES: Once<Vec<Vec<NetRule>>> = Once::new();

/// Sets what the words allow.
pub(crate) fn set(rules: Vec<Vec<NetRule>>) {
    RULES.call_once(|| rules);
    access::turn_on();
}

/// Whether an address may be used so.
pub(crate) fn check(action: NetAction, address: SocketAddr, is_tcp: bool) -> Result<(), Errno> {
    if !access::is_on() {
        return Ok(());
    }
    learn::address(action, address);
    let (ip, port) = (address.ip(), address.port());
    let rules = RULES.get().map_or(&[][..], Vec::as_slice);
    let allows = |rules: &Vec<NetRule>| rules.iter().any(|rule| rule.allows(action, ip, port));
    if !rules.iter().all(allows) {
        refusals::tell(format_args!("policy: {action:?} of {address} is not in `allow-net=`: EPERM"));
        return Err(Errno::EPERM);
    }
    let own = confinement::domain().filter(|_| is_tcp);
    let wanted = match action {
        NetAction::Bind => PortAccess::BIND_TCP,
        NetAction::Connect => PortAccess::CONNECT_TCP,
    };
    if own.is_none_or(|own| own.allows_port(port, wanted)) { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether streams to the host may be used: no rule can name them, so not if there are rules.
pub(crate) fn check_vsock() -> Result<(), Errno> {
    if RULES.get().is_none() {
        return Ok(());
    }
    refusals::tell(format_args!("policy: AF_VSOCK is not in `allow-net=`: EPERM"));
    Err(Errno::EPERM)
}
