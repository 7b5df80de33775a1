//! The kernel's network stack as a host of a test: at one end of a wire, with an address and nothing else.

use std::net::Ipv4Addr;

use smoltcp::phy::DeviceCapabilities;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Ipv4Cidr};
use unikernel_net::{Addressing, Config, Ipv4Config, Ipv6Config, Stack};

use crate::random::Random;

/// A stack with such a card in a network of 24 bits, whose random numbers depend on `seed`.
pub(crate) fn new(mac: EthernetAddress, address: Ipv4Addr, card: DeviceCapabilities, seed: u64) -> Stack {
    let ipv4 = Ipv4Config {
        address: Ipv4Cidr::new(address, 24),
        gateway: None,
        dns: Vec::new(),
        routes: Vec::new(),
        time_servers: Vec::new(),
    };
    let ipv6 =
        Ipv6Config { accepts_advertisements: false, detects_duplicates: false, ..Ipv6Config::default() };
    let config = Config { ipv6, ..Config::new(mac, Addressing::Static(ipv4)) };
    let mut random = Random::new(seed);
    let random = Box::new(move || random.below(1 << 32) << 32 | random.below(1 << 32));
    Stack::new(config, Some(card), random, Instant::ZERO)
}
