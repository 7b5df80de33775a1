//! The name of a flow: its two addresses and ports, and the seeded hash over them. The seed is
//! random, so that nobody outside can choose addresses that meet in one bucket.

use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};

/// The 4-tuple. IPv4 addresses are kept in their IPv6-mapped form, so that one table serves both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowKey {
    remote: [u64; 2],
    local: [u64; 2],
    ports: u32,
}

fn halves(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(v4) => [0, 0xffff_0000_0000 | u64::from(v4.to_bits())],
        IpAddr::V6(v6) => [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64],
    }
}

impl FlowKey {
    #[inline]
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            remote: halves(remote.ip()),
            local: halves(local.ip()),
            ports: u32::from(local.port()) << 16 | u32::from(remote.port()),
        }
    }

    /// The same for IPv4, from numbers as they stand in the headers of what the remote end has sent; its port comes first
    /// of the two.
    #[inline]
    pub(crate) fn from_v4(remote: u32, local: u32, ports: u32) -> Self {
        let mapped = |address: u32| [0, 0xffff_0000_0000 | u64::from(address)];
        Self { remote: mapped(remote), local: mapped(local), ports: ports.rotate_left(16) }
    }
}

impl FlowKey {
    /// Gives every bit to a hasher.
    pub(crate) fn feed(&self, hasher: &mut impl Hasher) {
        for word in [self.remote[0], self.remote[1], self.local[0], self.local[1], u64::from(self.ports)] {
            hasher.write_u64(word);
        }
    }
}

/// The secret of the hash.
#[derive(Clone, Copy)]
pub(crate) struct Seed([u64; 3]);

impl Seed {
    pub(crate) fn new(random: &mut dyn FnMut() -> u64) -> Self {
        Self([random(), random(), random()])
    }

    /// Two rounds of multiply-and-fold, as wyhash does: a dozen instructions.
    #[inline]
    pub(crate) fn hash(&self, key: &FlowKey) -> u64 {
        let remote = fold(key.remote[0] ^ self.0[0], key.remote[1] ^ self.0[1]);
        fold(remote ^ u64::from(key.ports) ^ key.local[0], key.local[1] ^ self.0[2])
    }
}

#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}
