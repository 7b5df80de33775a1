//! Choosing local ports.

use core::net::{IpAddr, SocketAddr};

use crate::key::FlowKey;
use crate::stack::Stack;

/// The ports chosen when the app names none (Linux: `ip_local_port_range`).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32768..=60999;

/// The ephemeral ports, each once, from a random one on (RFC 6056 section 3.3.1).
fn ephemeral(random: u64) -> impl Iterator<Item = u16> {
    let count = u64::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
    (0..count).map(move |step| EPHEMERAL.start() + ((random % count + step) % count) as u16)
}

impl Stack {
    /// `local` with a port for binding TCP, if it names none.
    pub(crate) fn with_tcp_port(&mut self, local: SocketAddr) -> Option<SocketAddr> {
        let random = (self.random)();
        choose(local, random, |port| self.listeners.is_port_bound(port))
    }

    /// `local` with a port for binding UDP, if it names none.
    pub(crate) fn with_udp_port(&mut self, local: SocketAddr) -> Option<SocketAddr> {
        let random = (self.random)();
        choose(local, random, |port| self.udp.is_port_bound(port))
    }

    /// A local address whose pair with `remote` is free, TIME-WAIT included.
    pub(crate) fn free_pair(&mut self, address: IpAddr, remote: SocketAddr) -> Option<SocketAddr> {
        let random = (self.random)();
        ephemeral(random).map(|port| SocketAddr::new(address, port)).find(|local| {
            self.owns_flow(*local, remote)
                && !self.listeners.is_port_bound(local.port())
                && !self.is_pair_used(*local, remote)
        })
    }

    /// True if the pair names a connection, or did so a moment ago.
    pub(crate) fn is_pair_used(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let key = FlowKey::new(local, remote);
        let hash = self.seed.hash(&key);
        self.flows.find(hash, &key).is_some() || self.time_wait.find(hash, &key).is_some()
    }
}

fn choose(local: SocketAddr, random: u64, is_taken: impl Fn(u16) -> bool) -> Option<SocketAddr> {
    if local.port() != 0 {
        return Some(local);
    }
    let port = ephemeral(random).find(|port| !is_taken(*port))?;
    Some(SocketAddr::new(local.ip(), port))
}
