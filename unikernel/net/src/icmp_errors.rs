//! ICMP errors (RFC 792, RFC 4443): something that we sent has not arrived. An error ends a connection attempt and
//! is reported by the UDP socket whose datagram it was; an established connection goes on (RFC 1122 section
//! 4.2.3.9). An error that no socket of ours can have caused does nothing (RFC 5927).

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpProtocol, TcpSeqNumber};

use crate::error::SocketError;
use crate::flow::Flow;
use crate::key::FlowKey;
use crate::stack::Stack;
use crate::udp_control::{ErrorOrigin, PathDiscovery, QueuedError};

/// How long a path is taken to be as narrow as a router said (RFC 1191 section 6.3).
const NARROW_TIME: Duration = Duration::from_secs(600);
/// Narrow paths remembered at most; the oldest goes first.
const NARROW_PATHS: usize = 128;
/// The least that a path carries whole (RFC 1191 section 3; RFC 8200 section 5).
const LEAST_MTU_V4: usize = 576;
const LEAST_MTU_V6: usize = 1280;
/// Where the packet that an error is about begins in the message.
const QUOTE: usize = 8;

/// What an error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Complaint<'m> {
    pub(crate) protocol: IpProtocol,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) error: SocketError,
    /// Type and code of the message, and who sent it.
    pub(crate) origin: ErrorOrigin,
    /// What follows the ports, and what goes with them, in the packet that came back.
    pub(crate) data: &'m [u8],
    /// It will not pass by itself: a connected UDP socket is told unasked.
    pub(crate) is_hard: bool,
    /// What fits instead of a packet that was too big.
    pub(crate) mtu: Option<usize>,
    /// The number of the segment, if it was one; routers quote as little as eight bytes of it.
    pub(crate) sequence: Option<TcpSeqNumber>,
}

impl<'m> Complaint<'m> {
    /// Reads an ICMP message; none if it is no error that a socket could have caused.
    pub(crate) fn parse_v4(from: IpAddr, message: &'m [u8]) -> Option<Self> {
        let head = message.first_chunk::<QUOTE>()?;
        // As Linux has it (`icmp_err_convert`).
        let (error, is_hard) = match (head[0], head[1]) {
            (3, 2) => (SocketError::NoProtocol, true),
            (3, 3) => (SocketError::Refused, true),
            (3, 4) => (SocketError::TooLong, false),
            // The network is not reached or does not serve this type of service; is unknown, or forbidden.
            (3, 0 | 11) => (SocketError::NetworkUnreachable, false),
            (3, 6 | 9) => (SocketError::NetworkUnreachable, true),
            (3, 1 | 5 | 12) | (11, 0) => (SocketError::HostUnreachable, false),
            (3, 7 | 8 | 10 | 13..=15) => (SocketError::HostUnreachable, true),
            _ => return None,
        };
        let quote = &message[QUOTE..];
        let ip = quote.first_chunk::<20>()?;
        let header_len = usize::from(ip[0] & 0xf) * 4;
        // Only the first fragment has ports.
        if ip[0] >> 4 != 4 || header_len < 20 || u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff != 0 {
            return None;
        }
        let address = |at: usize| IpAddr::V4(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
        let transport = quote.get(header_len..)?;
        let (local, remote) = endpoints(address(12), address(16), transport)?;
        let named = usize::from(u16::from_be_bytes([head[6], head[7]]));
        let mtu = (error == SocketError::TooLong).then(|| named.max(LEAST_MTU_V4));
        let sequence = sequence(transport);
        let (origin, data) = (ErrorOrigin::Icmp(head[0], head[1], from), data_of(transport));
        let protocol = ip[9].into();
        Some(Self { protocol, local, remote, error, origin, data, is_hard, mtu, sequence })
    }

    /// The same for ICMPv6.
    pub(crate) fn parse_v6(from: IpAddr, message: &'m [u8]) -> Option<Self> {
        let head = message.first_chunk::<QUOTE>()?;
        let (error, is_hard) = match (head[0], head[1]) {
            // As Linux has it (`icmpv6_err_convert`).
            (1, 0) => (SocketError::NetworkUnreachable, false),
            (1, 1 | 5 | 6) => (SocketError::Forbidden, true),
            (1, 4) => (SocketError::Refused, true),
            (2, 0) => (SocketError::TooLong, false),
            (1, _) | (3, 0) => (SocketError::HostUnreachable, false),
            _ => return None,
        };
        let quote = &message[QUOTE..];
        let ip = quote.first_chunk::<40>()?;
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = ip[at..at + 16].try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        };
        // A fragment of ours has its header in front, and is the first one if the offset is 0.
        let (protocol, at) = match (ip[6], quote.get(40..48)) {
            (44, Some(fragment)) if u16::from_be_bytes([fragment[2], fragment[3]]) & !7 == 0 => {
                (fragment[0], 48)
            }
            (44, _) => return None,
            (protocol, _) => (protocol, 40),
        };
        let transport = quote.get(at..)?;
        let (local, remote) = endpoints(address(8)?, address(24)?, transport)?;
        let named = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let mtu = (error == SocketError::TooLong).then(|| named.max(LEAST_MTU_V6));
        let sequence = sequence(transport);
        let (origin, data) = (ErrorOrigin::Icmp(head[0], head[1], from), data_of(transport));
        let protocol = protocol.into();
        Some(Self { protocol, local, remote, error, origin, data, is_hard, mtu, sequence })
    }
}

fn endpoints(from: IpAddr, to: IpAddr, transport: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let ports = transport.first_chunk::<4>()?;
    let port = |index: usize| u16::from_be_bytes([ports[index], ports[index + 1]]);
    Some((SocketAddr::new(from, port(0)), SocketAddr::new(to, port(2))))
}

/// What was sent, behind the eight bytes of a datagram's header.
fn data_of(transport: &[u8]) -> &[u8] {
    transport.get(8..).unwrap_or_default()
}

/// The number of a segment.
fn sequence(transport: &[u8]) -> Option<TcpSeqNumber> {
    let head = transport.first_chunk::<8>()?;
    Some(TcpSeqNumber(i32::from_be_bytes([head[4], head[5], head[6], head[7]])))
}

impl Stack {
    /// Takes in an error, which may be about a flow of another shard.
    pub(crate) fn icmp_error_rx(&mut self, complaint: &Complaint<'_>, frame: &[u8]) {
        let Complaint { protocol, local, remote, .. } = *complaint;
        match protocol {
            IpProtocol::Tcp if !frame.is_empty() && self.hand_over_segment(frame, local, remote) => {}
            IpProtocol::Tcp => self.tcp_complaint(complaint),
            IpProtocol::Udp => self.udp_complaint(complaint),
            _ => {}
        }
    }

    fn tcp_complaint(&mut self, complaint: &Complaint<'_>) {
        let key = FlowKey::new(complaint.local, complaint.remote);
        let Some(id) = self.flows.find(self.seed.hash(&key), &key) else { return };
        // The message must quote a segment that is under way (RFC 5927 section 4.1).
        let is_under_way = |flow: &Flow| {
            let track = &flow.track;
            complaint.sequence.is_some_and(|number| number >= track.una && number < track.sent)
        };
        match complaint.mtu {
            Some(_) if !self.flows.get(id).is_some_and(is_under_way) => return,
            Some(mtu) => {
                self.pmtu.note(self.now, complaint.remote.ip(), mtu);
                self.path_narrowed(id, mtu);
            }
            None => self.fail_attempt(id, complaint.error),
        }
        self.counters.icmp_errors += 1;
    }

    fn udp_complaint(&mut self, complaint: &Complaint<'_>) {
        let Complaint { local, remote, error, mut is_hard, .. } = *complaint;
        let Some(id) = self.udp.lookup(local, remote) else { return };
        let Some(socket) = self.udp.get_mut(id) else { return };
        self.counters.icmp_errors += 1;
        if let Some(mtu) = complaint.mtu {
            let discovery = socket.headers[usize::from(remote.is_ipv6())].discovery;
            if discovery.believes_routers() {
                self.pmtu.note(self.now, remote.ip(), mtu);
            } else if remote.is_ipv6() {
                return;
            }
            // Who minds the path has to send less at a time (Linux: `__udp4_lib_err`, `__udp6_lib_err`).
            is_hard = discovery != PathDiscovery::Never;
            if !is_hard && remote.is_ipv4() {
                return;
            }
        }
        if socket.receives_errors || (is_hard && socket.peer == Some(remote)) {
            socket.error = Some(error);
            let mtu = complaint.mtu.unwrap_or(0) as u32;
            let data = complaint.data.to_vec();
            self.queue_error(id, QueuedError { error, origin: complaint.origin, to: remote, mtu, data });
            self.notify_udp(id);
        }
    }
}

/// Paths that are narrower than our own link.
#[derive(Default)]
pub(crate) struct PmtuCache(Vec<(IpAddr, usize, Instant)>);

impl PmtuCache {
    /// Takes note of what a path carries.
    pub(crate) fn note(&mut self, now: Instant, to: IpAddr, mtu: usize) {
        self.0.retain(|(address, _, until)| *address != to && *until > now);
        if self.0.len() == NARROW_PATHS {
            self.0.remove(0);
        }
        self.0.push((to, mtu, now + NARROW_TIME));
    }

    /// What the path to `to` carries, if it is known to be narrow.
    pub(crate) fn mtu(&self, now: Instant, to: IpAddr) -> Option<usize> {
        let path = self.0.iter().find(|(address, _, until)| *address == to && *until > now)?;
        Some(path.1)
    }
}
