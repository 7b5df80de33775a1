//! The tables as text, in the formats of Linux's `/proc/net` (proc_net(5)), for tools that read them.
//!
//! A file there may tell of several stacks: the caller writes the heading once and has each stack add its lines.

use alloc::string::String;
use core::fmt::{self, Write};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpCidr, Ipv6Cidr};

use crate::counters::Counters;
use crate::id::SocketId;
use crate::stack::Stack;

/// The line of loopback in `if_inet6`.
pub const LOOPBACK_IPV6: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";

/// Headings of the files.
pub mod heading {
    /// `tcp`.
    pub const TCP: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    /// `tcp6`.
    pub const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    /// `udp`.
    pub const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
    /// `udp6`.
    pub const UDP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
    /// `dev`.
    pub const DEV: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";
    /// `route`.
    pub const ROUTE: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
    /// `arp`.
    pub const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device\n";
}

/// Linux's numbers of states; a UDP socket is "established" or "closed".
const ESTABLISHED: u8 = 1;
const CLOSED: u8 = 7;
const LISTEN: u8 = 10;
/// Flags of a route: it is up; it goes through a router (`RTF_UP`, `RTF_GATEWAY`).
const UP: u16 = 1;
const GATEWAY: u16 = 2;

/// Writes to a string cannot fail.
macro_rules! put {
    ($out:expr, $($format:tt)*) => {
        let _ = write!($out, $($format)*);
    };
}

/// Linux's number for a state (`enum` in `net/tcp_states.h`), as `/proc/net/tcp` and `TCP_INFO` tell it.
pub fn state_number(state: State) -> u8 {
    match state {
        State::Established => ESTABLISHED,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => CLOSED,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Listen => LISTEN,
        State::Closing => 11,
    }
}

/// Words as they lie in a little-endian machine's memory.
fn hex(address: IpAddr) -> String {
    let mut text = String::new();
    let mut word = |bytes: [u8; 4]| {
        put!(text, "{:08X}", u32::from_le_bytes(bytes));
    };
    match address {
        IpAddr::V4(v4) => word(v4.octets()),
        IpAddr::V6(v6) => v6.octets().as_chunks::<4>().0.iter().for_each(|bytes| word(*bytes)),
    }
    text
}

/// A socket's line.
struct Line {
    slot: usize,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    state: u8,
    queues: (usize, usize),
    inode: u64,
}

impl Line {
    fn write(&self, out: &mut impl Write, rest: &str) -> fmt::Result {
        let nobody = match self.local {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let remote = self.remote.unwrap_or(nobody);
        let (local, (sending, receiving)) = (self.local, self.queues);
        writeln!(
            out,
            "{:4}: {}:{:04X} {}:{:04X} {:02X} {sending:08X}:{receiving:08X} 00:00000000 00000000     0        0 {} {rest}",
            self.slot,
            hex(local.ip()),
            local.port(),
            hex(remote.ip()),
            remote.port(),
            self.state,
            self.inode,
        )
    }
}

/// Which half of the sockets a file lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    fn has(self, address: SocketAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

impl Stack {
    /// Adds the lines of TCP listeners. They are the same on every shard. `inode` numbers the app's sockets. An error is
    /// that of `out`.
    pub fn list_listeners(
        &self,
        out: &mut impl Write,
        version: IpVersion,
        inode: impl Fn(SocketId) -> u64,
    ) -> fmt::Result {
        for (id, local, waiting) in self.listeners.listening() {
            if version.has(local) {
                let (slot, inode) = (id.slot(), inode(SocketId::Listener(id)));
                let line = Line { slot, local, remote: None, state: LISTEN, queues: (0, waiting), inode };
                line.write(out, "1 0000000000000000 100 0 0 10 0")?;
            }
        }
        Ok(())
    }

    /// Adds the lines of TCP connections.
    pub fn list_connections(
        &self,
        out: &mut impl Write,
        version: IpVersion,
        inode: impl Fn(SocketId) -> u64,
    ) -> fmt::Result {
        for (id, flow) in self.flows.all() {
            let (local, remote, state) = (flow.local, flow.remote, flow.state());
            if version.has(local) && state != State::Closed {
                let queues = (flow.send_queue(), flow.recv_queue());
                let (slot, inode) = (id.slot(), inode(SocketId::Tcp(id)));
                let line =
                    Line { slot, local, remote: Some(remote), state: state_number(state), queues, inode };
                line.write(out, "1 0000000000000000 20 4 30 10 -1")?;
            }
        }
        Ok(())
    }

    /// Adds the lines of UDP sockets.
    pub fn list_udp(
        &self,
        out: &mut impl Write,
        version: IpVersion,
        inode: impl Fn(SocketId) -> u64,
    ) -> fmt::Result {
        for (id, socket) in self.udp.iter().filter(|(_, socket)| version.has(socket.local)) {
            let state = if socket.peer.is_some() { ESTABLISHED } else { CLOSED };
            let queues = (0, socket.queued_bytes());
            let (slot, inode) = (id.slot(), inode(SocketId::Udp(id)));
            let (local, remote) = (socket.local, socket.peer);
            let line = Line { slot, local, remote, state, queues, inode };
            line.write(out, "2 0000000000000000 0")?;
        }
        Ok(())
    }

    /// Adds the lines of `route`, those of IPv4, for the card called `name`.
    pub fn list_routes(&self, out: &mut String, name: &str) {
        for route in &self.addresses.net.routes {
            let IpCidr::Ipv4(network) = route.network else { continue };
            let gateway = route.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let flags = if route.gateway.is_some() { UP | GATEWAY } else { UP };
            let (to, mask) = (hex(network.address().into()), hex(network.netmask().into()));
            put!(
                out,
                "{name}\t{to}\t{}\t{flags:04X}\t0\t0\t{}\t{mask}\t0\t0\t0\n",
                hex(gateway),
                route.metric
            );
        }
    }

    /// Adds the lines of `arp`, neighbours of IPv4, for the card called `name`.
    pub fn list_neighbors(&self, out: &mut String, name: &str) {
        for (address, mac) in self.neighbors.known() {
            let IpAddr::V4(v4) = address else { continue };
            let [a, b, c, d, e, f] = mac.0;
            // Hardware type 1 is Ethernet; flag 2 says that the entry is complete.
            put!(out, "{:<16} 0x1         0x2         ", alloc::format!("{v4}"));
            put!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}     *        {name}\n");
        }
    }

    /// Adds the lines of `if_inet6` for the card called `name`, which is the interface `number`.
    pub fn list_ipv6_addresses(&self, out: &mut String, name: &str, number: u32) {
        for (own, flags) in self.ipv6_addresses() {
            let (address, len) = (own.address(), own.prefix_len());
            let scope = if address.is_unicast_link_local() { 0x20 } else { 0 };
            put!(
                out,
                "{:032x} {number:02x} {len:02x} {scope:02x} {flags:02x} {name:>8}\n",
                address.to_bits()
            );
        }
    }

    /// Our IPv6 addresses as the card shows them: each with Linux's flags.
    pub fn ipv6_addresses(&self) -> impl Iterator<Item = (Ipv6Cidr, u8)> {
        self.addresses.net.ipv6.iter().map(|own| {
            let address = own.address.address();
            let autoconf = self.autoconf.as_ref();
            let is_optimistic = autoconf.is_some_and(|autoconf| autoconf.is_optimistic(address));
            // IFA_F_DEPRECATED, IFA_F_OPTIMISTIC, IFA_F_PERMANENT.
            let flags = if own.is_deprecated { 0x20 } else { 0 } | if is_optimistic { 4 } else { 0x80 };
            (own.address, flags)
        })
    }

    /// How many TCP listeners and UDP sockets there are, and how many bytes of fragments wait.
    pub fn socket_counts(&self) -> (usize, usize, usize) {
        (self.listeners.listening().count(), self.udp.iter().count(), self.reassembly.bytes())
    }
}

/// `snmp`, as far as it is counted.
pub fn snmp(counters: &Counters) -> String {
    let c = counters;
    let mut out = String::new();
    let malformed = c.malformed + c.bad_checksum;
    let out_packets = c.tx_packets;
    put!(
        out,
        "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors InUnknownProtos OutRequests ReasmReqds ReasmOKs ReasmFails FragCreates\n"
    );
    put!(
        out,
        "Ip: 2 64 {} {malformed} {} {} {out_packets} {} {} {} {}\n",
        c.rx_packets,
        c.not_for_us,
        c.unknown_protocol,
        c.fragments,
        c.reassembled,
        c.reassembly_failed + c.reassembly_timeouts,
        c.fragments_sent,
    );
    put!(out, "Icmp: InDestUnreachs\nIcmp: {}\n", c.icmp_errors);
    put!(out, "Tcp: ActiveOpens PassiveOpens EstabResets CurrEstab RetransSegs\n");
    let established = c.active.saturating_sub(c.half_open);
    put!(out, "Tcp: {} {} {} {established} {}\n", c.connects, c.accepted, c.resets_received, c.retransmits);
    put!(out, "Udp: NoPorts RcvbufErrors\nUdp: {} {}\n", c.udp_no_port, c.udp_full);
    out
}

/// `netstat`, as far as it is counted.
pub fn netstat(counters: &Counters) -> String {
    let c = counters;
    alloc::format!(
        "TcpExt: TW TWRecycled ListenOverflows ListenDrops TCPTimeouts TCPAbortOnTimeout\nTcpExt: {} {} {} {} {} {}\n",
        c.time_wait,
        c.time_wait_recycled,
        c.backlog_full,
        c.backlog_full + c.no_memory,
        c.retransmits,
        c.timeouts,
    )
}
