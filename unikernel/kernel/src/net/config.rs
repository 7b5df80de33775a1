//! The stack's sizes for this machine. How far a connection's buffers may grow follows the memory, and what
//! they take together is bounded; the number of connections is what half of it can hold while they are idle.

use unikernel_cmdline::{Address, CardOptions, FilterProtocol, FilterRule, Options, Route};
use unikernel_net::smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr, Ipv6Cidr};
use unikernel_net::{
    Action, Addressing, Config, Filter, Ipv4Config, Ipv6Config, OpenLoopback, Protocol, RouteEntry, Rule,
    Shard,
};

use crate::kmem::{frames, heap};
use crate::mem::space;

const MIB: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;
/// What an idle connection takes, in the stack and for its descriptor and its watch, rounded up.
const FLOW_BYTES: usize = 2048;
/// What a connection takes that has just begun.
const SMALL_FLOW_BYTES: usize = 16 * 1024;
/// Handshakes that take memory. Beyond them cookies do as well, so a flood need not be given more.
const MAX_HALF_OPEN: usize = 512;
/// Connections are refused, and datagrams dropped, rather than taking the last pages.
const LAST_PAGES: usize = 32;

/// A connection's first window, how far that may grow, and how far its send buffer may. One that is fast
/// and far should not be held up by round trips, if there is memory.
fn buffers(ram: usize) -> (usize, usize, usize) {
    const KIB: usize = 1 << 10;
    match ram / MIB {
        0..32 => (16 * KIB, 32 * KIB, 16 * KIB),
        32..192 => (64 * KIB, 256 * KIB, 64 * KIB),
        192..1000 => (64 * KIB, MIB, MIB),
        _ => (64 * KIB, 4 * MIB, 4 * MIB),
    }
}

/// The configuration of a card's stacks: of the machine's `stacks`, each gets an equal share.
pub(super) fn for_card(options: &Options, number: usize, mac: [u8; 6], stacks: usize) -> Config {
    let card = options.card(number);
    let ram = frames::total_pages() * PAGE_BYTES;
    let (tcp_rx_window, tcp_rx_limit, tcp_tx_limit) = buffers(ram);
    Config {
        tcp_rx_window,
        tcp_rx_limit,
        tcp_tx_limit,
        buffer_bytes: ram / 3 / stacks,
        max_flows: ram / 2 / FLOW_BYTES / stacks,
        max_half_open: (ram / 16 / FLOW_BYTES).min(MAX_HALF_OPEN) / stacks,
        spare_flows: (ram / 32 / SMALL_FLOW_BYTES).min(64) / stacks,
        time_wait_slots: (ram / 64 / 128).min(16384) / stacks,
        has_memory,
        filter: filter(options),
        open_loopback: open_loopback(options),
        host_name: options.system.host_name.as_deref().unwrap_or_default().into(),
        ipv6: ipv6(&card),
        routes: card.routes.iter().map(route).collect(),
        ..Config::new(EthernetAddress(mac), addressing(&card))
    }
}

/// One stack's part of a card. Addresses that are learnt, the first learns and the others adopt.
pub(super) fn for_shard(card: &Config, shard: Shard) -> Config {
    let addressing = match &card.addressing {
        Addressing::Dhcp if !shard.is_first() => Addressing::None,
        addressing => addressing.clone(),
    };
    Config { addressing, shard, ..card.clone() }
}

fn addressing(card: &CardOptions) -> Addressing {
    match card.address {
        Address::Dhcp => Addressing::Dhcp,
        Address::None => Addressing::None,
        Address::Static(address, prefix) => Addressing::Static(Ipv4Config {
            address: Ipv4Cidr::new(address, prefix),
            gateway: card.gateway,
            dns: card.dns_servers.clone(),
            routes: alloc::vec::Vec::new(),
            time_servers: alloc::vec::Vec::new(),
        }),
    }
}

fn ipv6(card: &CardOptions) -> Ipv6Config {
    let addresses = card.ipv6_addresses.iter().map(|(address, len)| Ipv6Cidr::new(*address, *len));
    Ipv6Config {
        addresses: addresses.collect(),
        gateway: card.ipv6_gateway,
        accepts_advertisements: !card.ignores_advertisements,
        ..Ipv6Config::default()
    }
}

fn route(route: &Route) -> RouteEntry {
    let (address, len) = route.network;
    let network = IpCidr::new(address.into(), len);
    RouteEntry { network, gateway: Some(route.gateway), metric: route.metric }
}

fn open_loopback(options: &Options) -> OpenLoopback {
    match options.system.opens_loopback {
        true => OpenLoopback::All,
        false => OpenLoopback::Ports(options.system.forwarded_ports.clone()),
    }
}

fn filter(options: &Options) -> Filter {
    let otherwise = if options.denies_by_default { Action::Deny } else { Action::Allow };
    Filter { rules: options.filter_rules.iter().map(rule).collect(), otherwise }
}

fn rule(rule: &FilterRule) -> Rule {
    Rule {
        verdict: if rule.is_allowed { Action::Allow } else { Action::Deny },
        protocol: rule.protocol.map(|protocol| match protocol {
            FilterProtocol::Tcp => Protocol::Tcp,
            FilterProtocol::Udp => Protocol::Udp,
            FilterProtocol::Icmp => Protocol::Icmp,
        }),
        ports: rule.ports.clone(),
        source: rule.source.map(|(address, len)| IpCidr::new(address.into(), len)),
    }
}

/// Beyond the kernel's reserve, connections get what is not promised to the app: a server whose memory is gone ends, one
/// whose peers have to wait does not.
fn has_memory(bytes: usize) -> bool {
    // The last quarter of the reserve is for who cannot be refused.
    let needed = bytes.div_ceil(PAGE_BYTES) + LAST_PAGES.max(frames::reserve_pages() / 4);
    let is_reserve = || heap::used_bytes() / PAGE_BYTES + needed < frames::reserve_pages();
    let free = frames::free_pages();
    free > needed && (free > needed + space::owed_pages() || is_reserve())
}
