//! Sending datagrams.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;

use crate::error::SendError;
use crate::flow::Path;
use crate::groups::GroupLink;
use crate::id::UdpId;
use crate::phy::HEADER_LEN;
use crate::route::here_if_unspecified;
use crate::stack::Stack;
use crate::wire;

/// What the length field of an IPv4 packet allows; that of IPv6 does not count the header.
const MAX_PACKET: usize = 65_535;

impl Stack {
    /// Sends `len` bytes, which `fill` writes, to `to` or else to the peer.
    pub fn udp_send<E: From<SendError>>(
        &mut self,
        id: UdpId,
        to: Option<SocketAddr>,
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
        let (bound, hop_limit, may_broadcast) = (socket.local, socket.hop_limit, socket.may_broadcast);
        let (is_unsplit, multicast) = (socket.is_unsplit, socket.multicast);
        let is_group = to.ip().is_multicast();
        let hop_limit = if is_group { multicast.hop_limit } else { hop_limit };
        if self.addresses.is_broadcast(to.ip()) && !may_broadcast {
            return Err(SendError::Broadcast.into());
        }
        if self.outbox.len() >= self.config.queue_packets {
            self.udp_blocked.push(id);
            return Err(SendError::WouldBlock.into());
        }
        let group_link = if is_group { self.group_link(multicast.link).ok() } else { None };
        let is_inside = group_link == Some(GroupLink::Loopback);
        let source = if is_inside && bound.ip().is_unspecified() {
            if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
        } else if bound.ip().is_unspecified() || bound.is_ipv4() != to.is_ipv4() {
            self.addresses.source_for(to.ip()).ok_or(SendError::NoRoute)?
        } else {
            bound.ip()
        };
        let (path, hop) = match is_inside {
            true => (Path::Loopback, None),
            false => self.path_to(to.ip()).ok_or(SendError::NoRoute)?,
        };
        let is_whole = self.check_length(len, to, path, is_unsplit)?;
        let from = SocketAddr::new(source, bound.port());
        // No device completes the checksum of a datagram in pieces.
        let in_software = ChecksumCapabilities::default();
        let checksums = if is_whole { &self.checksums } else { &in_software };
        let frame = wire::datagram(from, to, (len, hop_limit), checksums, fill)?;
        if group_link == Some(GroupLink::Nic) && multicast.is_looped && self.groups.has(to.ip()) {
            self.loopback.push(frame[HEADER_LEN..].to_vec());
        }
        match (path, hop) {
            (Path::Loopback, _) => {
                let has_room = self.loopback.push(frame[HEADER_LEN..].to_vec());
                self.counters.queue_full += u64::from(!has_room);
            }
            (Path::Link(header), _) => self.send_frame(frame, header),
            (Path::Resolving, hop) => {
                let is_parked = hop.is_some_and(|hop| self.neighbors.park_frame(hop, frame));
                self.counters.neighbor_dropped += u64::from(!is_parked);
            }
        }
        Ok(())
    }

    /// True if the datagram travels whole.
    fn check_length(
        &self,
        len: usize,
        to: SocketAddr,
        path: Path,
        is_unsplit: bool,
    ) -> Result<bool, SendError> {
        let headers = if to.is_ipv4() { 20 + 8 } else { 40 + 8 };
        let most = if to.is_ipv4() { MAX_PACKET } else { MAX_PACKET + 40 };
        let is_whole = path == Path::Loopback || len + headers <= self.path_mtu(to.ip());
        if len + headers > most || (is_unsplit && !is_whole) { Err(SendError::TooLong) } else { Ok(is_whole) }
    }
}
