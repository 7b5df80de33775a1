//! Sending datagrams.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

use crate::error::{SendError, SocketError};
use crate::flow::Path;
use crate::groups::GroupLink;
use crate::id::UdpId;
use crate::phy::{HEADER_LEN, LOOPBACK_MTU};
use crate::route::here_if_unspecified;
use crate::stack::Stack;
use crate::udp_control::{ErrorOrigin, HeaderOptions, QueuedError, SendOptions};
use crate::wire;

/// What the length field of an IPv4 packet allows; that of IPv6 does not count the header.
const MAX_PACKET: usize = 65_535;
/// Datagrams that one call is cut into at most (Linux: `UDP_MAX_SEGMENTS`).
const MAX_SEGMENTS: usize = 128;

/// All that is decided about a datagram before it is built.
#[derive(Clone, Copy)]
struct Plan {
    from: SocketAddr,
    to: SocketAddr,
    /// None within the machine.
    way: (Path, Option<IpAddr>),
    hop_limit: u8,
    headers: HeaderOptions,
    /// It goes to a group that somebody here has joined, too.
    is_looped: bool,
}

impl Stack {
    /// Sends `len` bytes, which `fill` writes, to `to` or else to the peer.
    pub fn udp_send<E: From<SendError>>(
        &mut self,
        id: UdpId,
        to: Option<SocketAddr>,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.udp_send_with(id, to, &SendOptions::default(), len, fill)
    }

    /// The same with options for this datagram alone.
    pub fn udp_send_with<E: From<SendError>>(
        &mut self,
        id: UdpId,
        to: Option<SocketAddr>,
        options: &SendOptions,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let socket = self.udp.get_mut(id).ok_or(SendError::BadId)?;
        if let Some(error) = socket.error.take() {
            return Err(SendError::from(error).into());
        }
        let to = to.or(socket.peer).map(here_if_unspecified).ok_or(SendError::NoDestination)?;
        if !self.config.filter.is_open() {
            socket.asked.note(to);
        }
        let plan = self.plan(id, to, options)?;
        let segment = usize::from(options.segment.unwrap_or(0));
        if segment == 0 || len <= segment {
            self.check_room(id, 1)?;
            let is_whole = self.check_length(id, &plan, len, options)?;
            return self.send_planned(&plan, is_whole, len, fill);
        }
        self.check_segments(&plan, len, segment)?;
        self.check_room(id, len.div_ceil(segment))?;
        let mut data = vec![0; len];
        fill(&mut data)?;
        for piece in data.chunks(segment) {
            self.send_planned(&plan, true, piece.len(), |room| {
                room.copy_from_slice(piece);
                Ok::<(), E>(())
            })?;
        }
        Ok(())
    }

    /// Finds the way of a datagram, and what its headers say.
    fn plan(&mut self, id: UdpId, to: SocketAddr, options: &SendOptions) -> Result<Plan, SendError> {
        let socket = self.udp.get(id).ok_or(SendError::BadId)?;
        let (bound, multicast, own_hops) = (socket.local, socket.multicast, socket.hop_limit);
        let mut headers = socket.headers[usize::from(to.is_ipv6())];
        let is_group = to.ip().is_multicast();
        if self.addresses.is_broadcast(to.ip()) && !socket.may_broadcast {
            return Err(SendError::Broadcast);
        }
        let wished_link = options.link.or(multicast.link);
        let group_link = if is_group { self.group_link(wished_link).ok() } else { None };
        let is_inside = group_link == Some(GroupLink::Loopback);
        let source = match options.source.filter(|source| !source.is_unspecified()) {
            Some(source) => self.check_source(source, to, options.is_free)?,
            None if is_inside && bound.ip().is_unspecified() => loopback_like(to),
            None if bound.ip().is_unspecified() || bound.is_ipv4() != to.is_ipv4() => {
                self.addresses.source_for(to.ip()).ok_or(SendError::NoRoute)?
            }
            None => bound.ip(),
        };
        let way = match is_inside {
            true => (Path::Loopback, None),
            false => self.path_to(to.ip()).ok_or(SendError::NoRoute)?,
        };
        if options.is_direct && way.0 != Path::Loopback && !is_group && !self.addresses.is_on_link(to.ip()) {
            return Err(SendError::NoRoute);
        }
        let hop_limit = if is_group { multicast.hop_limit } else { own_hops };
        headers.traffic_class = options.traffic_class.unwrap_or(headers.traffic_class);
        let is_looped = group_link == Some(GroupLink::Nic) && multicast.is_looped && self.groups.has(to.ip());
        let hop_limit = options.hop_limit.unwrap_or(hop_limit);
        Ok(Plan { from: SocketAddr::new(source, bound.port()), to, way, hop_limit, headers, is_looped })
    }

    /// A source that the app names must be one that we have; for one that somebody else could have, Linux finds no way.
    fn check_source(&self, source: IpAddr, to: SocketAddr, is_free: bool) -> Result<IpAddr, SendError> {
        let is_nobodys = source.is_multicast() || self.addresses.is_broadcast(source);
        if is_nobodys || source.is_ipv4() != to.is_ipv4() {
            return Err(SendError::Invalid);
        }
        match is_free || self.addresses.owns(source) {
            true => Ok(source),
            false if source.is_ipv4() => Err(SendError::NoRoute),
            false => Err(SendError::Invalid),
        }
    }

    /// Whether so many packets can be queued; if not, the socket is told when they can.
    fn check_room(&mut self, id: UdpId, count: usize) -> Result<(), SendError> {
        let queued = self.outbox.len();
        if queued >= self.config.queue_packets || (queued > 0 && queued + count > self.config.queue_packets) {
            self.udp_blocked.push(id);
            return Err(SendError::WouldBlock);
        }
        Ok(())
    }

    /// The largest packet that a datagram may become without being cut.
    fn width(&self, plan: &Plan) -> usize {
        match plan.way.0 {
            Path::Loopback => LOOPBACK_MTU + 8,
            _ if plan.headers.discovery.minds_path() => self.path_mtu(plan.to.ip()),
            _ => self.ip_mtu,
        }
    }

    /// True if the datagram travels whole.
    fn check_length(
        &mut self,
        id: UdpId,
        plan: &Plan,
        len: usize,
        options: &SendOptions,
    ) -> Result<bool, SendError> {
        let headers = headers_len(plan.to);
        let most = if plan.to.is_ipv4() { MAX_PACKET } else { MAX_PACKET + 40 };
        let width = self.width(plan);
        let is_whole = plan.way.0 == Path::Loopback || len + headers <= width;
        let is_refused = !is_whole && (options.is_unsplit || plan.headers.discovery.refuses());
        if len + headers <= most && !is_refused {
            return Ok(is_whole);
        }
        let (error, origin) = (SocketError::TooLong, ErrorOrigin::Local);
        let mtu = width.min(MAX_PACKET) as u32;
        self.queue_error(id, QueuedError { error, origin, to: plan.to, mtu, data: Vec::new() });
        Err(SendError::TooLong)
    }

    /// Whether `len` bytes can be sent in pieces of `segment` (Linux: `udp_send_skb`).
    fn check_segments(&self, plan: &Plan, len: usize, segment: usize) -> Result<(), SendError> {
        if len > MAX_PACKET - headers_len(plan.to) || segment + headers_len(plan.to) > self.width(plan) {
            return Err(SendError::TooLong);
        }
        if len.div_ceil(segment) > MAX_SEGMENTS { Err(SendError::Invalid) } else { Ok(()) }
    }

    fn send_planned<E>(
        &mut self,
        plan: &Plan,
        is_whole: bool,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // No device completes the checksum of a datagram in pieces.
        let in_software = ChecksumCapabilities::default();
        let checksums = if is_whole { &self.checksums } else { &in_software };
        let mut frame = wire::datagram(plan.from, plan.to, (len, plan.hop_limit), checksums, fill)?;
        let may_be_cut = !is_whole || !plan.headers.discovery.forbids_fragments();
        // Whoever cuts the packet needs a number for its pieces (RFC 791 section 3.2).
        let ident = if may_be_cut { Some((self.random)() as u16) } else { None };
        write_marks(&mut frame[HEADER_LEN..], plan.headers.traffic_class, ident, checksums);
        if plan.is_looped {
            self.loopback.push(frame[HEADER_LEN..].to_vec());
        }
        match plan.way {
            (Path::Loopback, _) => {
                let has_room = self.loopback.push(frame[HEADER_LEN..].to_vec());
                self.counters.queue_full += u64::from(!has_room);
            }
            (Path::Link(header), _) if is_whole => {
                frame[..HEADER_LEN].copy_from_slice(&header);
                self.push_outbox(frame);
            }
            (Path::Link(header), _) => self.send_frame(frame, header),
            (Path::Resolving, hop) => {
                let is_parked = hop.is_some_and(|hop| self.neighbors.park_frame(hop, frame));
                self.counters.neighbor_dropped += u64::from(!is_parked);
            }
        }
        Ok(())
    }
}

/// Writes what is the same in few packets into the header of one: the traffic class, and for IPv4 whether it may be cut, and
/// then by which number its pieces are known.
fn write_marks(packet: &mut [u8], traffic_class: u8, ident: Option<u16>, checksums: &ChecksumCapabilities) {
    if packet[0] >> 4 == 6 {
        return Ipv6Packet::new_unchecked(packet).set_traffic_class(traffic_class);
    }
    if traffic_class == 0 && ident.is_none() {
        return;
    }
    let mut ip = Ipv4Packet::new_unchecked(packet);
    ip.set_dscp(traffic_class >> 2);
    ip.set_ecn(traffic_class & 3);
    if let Some(ident) = ident {
        ip.set_ident(ident);
        ip.set_dont_frag(false);
    }
    if checksums.ipv4.tx() {
        ip.fill_checksum();
    }
}

fn headers_len(to: SocketAddr) -> usize {
    if to.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

fn loopback_like(to: SocketAddr) -> IpAddr {
    if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}
