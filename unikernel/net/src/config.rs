//! What the stack is told at its start, and what it learns from DHCP.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::time::Duration;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr, Ipv6Cidr};

use crate::filter::Filter;
use crate::shard::Shard;

/// How the machine gets its IPv4 address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Addressing {
    /// Loopback only.
    None,
    /// Ask a DHCP server (RFC 2131).
    Dhcp,
    /// Use this.
    Static(Ipv4Config),
}

/// Which listeners on the loopback address are reached from outside, too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenLoopback {
    /// Those on these ports.
    Ports(Vec<u16>),
    /// All.
    All,
}

impl OpenLoopback {
    /// True if `port` is open.
    pub fn has(&self, port: u16) -> bool {
        match self {
            Self::Ports(ports) => ports.contains(&port),
            Self::All => true,
        }
    }
}

/// An IPv4 address with what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ipv4Config {
    /// The address and its network.
    pub address: Ipv4Cidr,
    /// The default router.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Routes that came with the lease.
    pub routes: Vec<RouteEntry>,
    /// Time servers that came with the lease.
    pub time_servers: Vec<Ipv4Addr>,
}

/// How the machine gets its IPv6 addresses, beside the link-local one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ipv6Config {
    /// Given addresses and their networks.
    pub addresses: Vec<Ipv6Cidr>,
    /// A given default router.
    pub gateway: Option<Ipv6Addr>,
    /// Whether routers are asked and believed (RFC 4862).
    pub accepts_advertisements: bool,
    /// Whether the link is asked for other stations with our addresses.
    pub detects_duplicates: bool,
}

impl Default for Ipv6Config {
    fn default() -> Self {
        Self { addresses: Vec::new(), gateway: None, accepts_advertisements: true, detects_duplicates: true }
    }
}

/// One entry of the route table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteEntry {
    /// The destinations.
    pub network: IpCidr,
    /// The router that leads there; none if they are neighbours.
    pub gateway: Option<IpAddr>,
    /// Among routes to the same network, the least goes first.
    pub metric: u32,
}

/// An IPv6 address of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Address {
    /// The address and its network.
    pub address: Ipv6Cidr,
    /// Connections go on, new ones use another.
    pub is_deprecated: bool,
}

/// Bounds and sizes; every table of the stack is bounded by a number here.
#[derive(Clone, Debug)]
pub struct Config {
    /// The NIC's address.
    pub mac: EthernetAddress,
    /// How to get an IPv4 address.
    pub addressing: Addressing,
    /// How to get IPv6 addresses.
    pub ipv6: Ipv6Config,
    /// Routes beside those that follow from the addresses.
    pub routes: Vec<RouteEntry>,
    /// The window that a TCP connection announces at first, in bytes. Its receive buffer begins small and
    /// grows so far when data comes.
    pub tcp_rx_window: usize,
    /// How far the window grows with use, in bytes.
    pub tcp_rx_limit: usize,
    /// How far the send buffer of a TCP connection grows with use, in bytes.
    pub tcp_tx_limit: usize,
    /// Bytes in the buffers of all TCP connections at most.
    pub buffer_bytes: usize,
    /// How long a connection is idle before it gives its buffers back.
    pub idle_after: Duration,
    /// Connections at most, half-open and lingering ones included.
    pub max_flows: usize,
    /// Half-open connections at most; the oldest goes first.
    pub max_half_open: usize,
    /// The largest backlog a listener may ask for (Linux: `somaxconn`).
    pub max_backlog: usize,
    /// Closed connections kept with their buffers for the next ones.
    pub spare_flows: usize,
    /// Records in TIME-WAIT at most; the oldest goes first.
    pub time_wait_slots: usize,
    /// How long a record stays in TIME-WAIT.
    pub time_wait: Duration,
    /// How long a half-open connection may take.
    pub half_open_timeout: Duration,
    /// How long a connection attempt from here may take.
    pub connect_timeout: Duration,
    /// How long unacknowledged data may stay unanswered.
    pub retransmit_timeout: Duration,
    /// How long a connection that the app has closed may take to finish (Linux: `tcp_fin_timeout`).
    pub linger_timeout: Duration,
    /// How long an acknowledgement waits for data to travel with.
    pub ack_delay: Duration,
    /// Neighbours remembered at most.
    pub max_neighbors: usize,
    /// Receive queue of a UDP socket, in bytes.
    pub udp_rx_bytes: usize,
    /// Says whether there is memory for so many bytes more; asked before each new connection.
    pub has_memory: fn(bytes: usize) -> bool,
    /// Whose packets are taken in.
    pub filter: Filter,
    /// Connections from outside to a port that only loopback listens on.
    pub open_loopback: OpenLoopback,
    /// What DHCP servers are told of this machine (RFC 2132, option 12); empty for nothing.
    pub host_name: Vec<u8>,
    /// Which part of the machine's flows this stack has.
    pub shard: Shard,
    /// Packets that may wait in the loopback queue, and frames that may wait for the NIC.
    pub queue_packets: usize,
}

impl Config {
    /// Sizes for a machine with plenty of memory.
    pub fn new(mac: EthernetAddress, addressing: Addressing) -> Self {
        Self {
            mac,
            addressing,
            ipv6: Ipv6Config::default(),
            routes: Vec::new(),
            tcp_rx_window: 64 * 1024,
            tcp_rx_limit: 1024 * 1024,
            tcp_tx_limit: 256 * 1024,
            buffer_bytes: 256 << 20,
            idle_after: Duration::from_secs(2),
            max_flows: 65_536,
            max_half_open: 1024,
            max_backlog: 4096,
            spare_flows: 64,
            time_wait_slots: 4096,
            time_wait: Duration::from_secs(60),
            half_open_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(127),
            retransmit_timeout: Duration::from_secs(300),
            linger_timeout: Duration::from_secs(60),
            ack_delay: Duration::from_millis(10),
            max_neighbors: 256,
            udp_rx_bytes: 128 * 1024,
            has_memory: |_| true,
            filter: Filter::default(),
            open_loopback: OpenLoopback::Ports(Vec::new()),
            host_name: Vec::new(),
            shard: Shard::WHOLE,
            queue_packets: 256,
        }
    }
}

/// The addresses in force now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetConfig {
    /// IPv4, from the command line or from a lease.
    pub ipv4: Option<Ipv4Config>,
    /// IPv6, the link-local address among them.
    pub ipv6: Vec<Ipv6Address>,
    /// The route table, the most specific first.
    pub routes: Vec<RouteEntry>,
}
