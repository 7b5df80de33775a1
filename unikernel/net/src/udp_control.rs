//! What goes beside a datagram's bytes: what its packet's header said, what one datagram does otherwise than its socket, and the
//! errors that wait in a queue of their own (ip(7), ipv6(7), udp(7)).

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use smoltcp::time::Instant;

use crate::error::SocketError;
use crate::groups::GroupLink;
use crate::id::UdpId;
use crate::stack::Stack;

/// Errors that wait in one socket's queue at most; of those that follow, only the last is told (`SO_ERROR`).
const MAX_ERRORS: usize = 64;

/// What the packet of a received datagram said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Who sent it.
    pub from: SocketAddr,
    /// The address it was sent to.
    pub to: IpAddr,
    /// The address of ours that an answer leaves from: the same, unless that is a group's or everybody's.
    pub local: IpAddr,
    /// Type of service, or traffic class: the low two bits tell of congestion (RFC 3168).
    pub traffic_class: u8,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Where it came in.
    pub link: GroupLink,
    /// When it did.
    pub at: Instant,
    /// Datagrams that the socket had no room for before (`SO_RXQ_OVFL`).
    pub drops: u32,
    /// The bytes of each datagram but the last, if these are several in one (`UDP_GRO`).
    pub segment: Option<u16>,
}

/// How the path's width is minded (ip(7), `IP_MTU_DISCOVER`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PathDiscovery {
    /// Routers may fragment.
    Never,
    /// What does not fit the path is sent in fragments.
    #[default]
    Want,
    /// What does not fit the path is refused.
    Always,
    /// What does not fit our own link is refused; what is known of the path does not count.
    Probe,
    /// The same, but routers may fragment.
    Interface,
    /// What does not fit our own link is sent in fragments, and routers may fragment.
    Omit,
}

impl PathDiscovery {
    /// True if what is known of the path counts.
    pub(crate) fn minds_path(self) -> bool {
        matches!(self, Self::Never | Self::Want | Self::Always)
    }

    /// True if what routers say of the path is noted.
    pub(crate) fn believes_routers(self) -> bool {
        !matches!(self, Self::Interface | Self::Omit)
    }

    /// True if what does not fit is refused.
    pub(crate) fn refuses(self) -> bool {
        matches!(self, Self::Always | Self::Probe | Self::Interface)
    }

    /// True if a packet that fits must not be fragmented on its way.
    pub(crate) fn forbids_fragments(self) -> bool {
        matches!(self, Self::Want | Self::Always | Self::Probe)
    }
}

/// What a socket's datagrams have in common, for each of the two protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeaderOptions {
    /// `IP_TOS` or `IPV6_TCLASS`.
    pub traffic_class: u8,
    /// `IP_MTU_DISCOVER` or `IPV6_MTU_DISCOVER`.
    pub discovery: PathDiscovery,
}

/// What one datagram does otherwise than its socket says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendOptions {
    /// The address that it is sent from (`IP_PKTINFO`).
    pub source: Option<IpAddr>,
    /// The source need not be ours (`IP_FREEBIND`).
    pub is_free: bool,
    /// Where it leaves, if it is for a group (`IP_PKTINFO`).
    pub link: Option<GroupLink>,
    /// `IP_TTL`, `IPV6_HOPLIMIT`.
    pub hop_limit: Option<u8>,
    /// `IP_TOS`, `IPV6_TCLASS`.
    pub traffic_class: Option<u8>,
    /// Refused if the path does not carry it whole (`IPV6_DONTFRAG`).
    pub is_unsplit: bool,
    /// For neighbours only (`SO_DONTROUTE`).
    pub is_direct: bool,
    /// The bytes of each of the datagrams that it is cut into (`UDP_SEGMENT`).
    pub segment: Option<u16>,
}

/// Where an error comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorOrigin {
    /// This machine.
    Local,
    /// An ICMP or ICMPv6 message: type, code and who sent it.
    Icmp(u8, u8, IpAddr),
    /// It is no error, but the news that the datagram was sent.
    Sent(SentNote),
}

/// When a datagram was sent (socket(7), `SO_TIMESTAMPING`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentNote {
    /// The time of day, in nanoseconds, on whatever clock the sender has read.
    pub wall_ns: u64,
    /// Which of the socket's datagrams it is, if they are counted.
    pub key: u32,
    /// It was about to be sent, only.
    pub is_scheduled: bool,
}

/// An error in a socket's queue (`IP_RECVERR`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueuedError {
    /// What it is.
    pub error: SocketError,
    /// Who says so.
    pub origin: ErrorOrigin,
    /// Whom the datagram was for.
    pub to: SocketAddr,
    /// What fits instead of what was too long, or 0.
    pub mtu: u32,
    /// As much of the datagram as came back.
    pub data: Vec<u8>,
}

impl Stack {
    /// Sets what the headers of a socket's datagrams say: of IPv4 and of IPv6.
    pub fn udp_set_headers(&mut self, id: UdpId, v4: HeaderOptions, v6: HeaderOptions) {
        if let Some(socket) = self.udp.get_mut(id) {
            socket.headers = [v4, v6];
        }
    }

    /// Takes several datagrams of one sender as one (`UDP_GRO`).
    pub fn udp_set_coalescing(&mut self, id: UdpId, is_on: bool) {
        if let Some(socket) = self.udp.get_mut(id) {
            socket.coalesces = is_on;
        }
    }

    /// Takes the oldest error out of a socket's queue; the next one is then the one that waits (Linux: `sock_dequeue_err_skb`).
    pub fn udp_take_queued_error(&mut self, id: UdpId) -> Option<QueuedError> {
        let socket = self.udp.get_mut(id)?;
        let queued = socket.errors.pop_front()?;
        let is_from_outside = |next: &&QueuedError| matches!(next.origin, ErrorOrigin::Icmp(..));
        if is_from_outside(&&queued) {
            socket.error = socket.errors.front().filter(is_from_outside).map(|next| next.error);
        }
        Some(queued)
    }

    /// Puts the news into a socket's queue that one of its datagrams was sent.
    pub fn udp_note_sent(&mut self, id: UdpId, to: SocketAddr, note: SentNote, data: Vec<u8>) {
        let Some(socket) = self.udp.get_mut(id).filter(|socket| socket.errors.len() < MAX_ERRORS) else {
            return;
        };
        let (error, origin) = (SocketError::TooLong, ErrorOrigin::Sent(note));
        socket.errors.push_back(QueuedError { error, origin, to, mtu: 0, data });
        self.notify_udp(id);
    }

    /// Puts an error into the queue of a socket that wants to be told.
    pub(crate) fn queue_error(&mut self, id: UdpId, queued: QueuedError) {
        let Some(socket) = self.udp.get_mut(id).filter(|socket| socket.receives_errors) else { return };
        if socket.errors.len() < MAX_ERRORS {
            socket.errors.push_back(queued);
            self.notify_udp(id);
        }
    }
}
