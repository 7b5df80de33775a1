//! What DHCP servers say, made fit for smoltcp's client (RFC 2131, RFC 2132): that takes one router only, no lease without a
//! mask, and a lease of no time for one to be renewed at once, again and again. Classless routes (RFC 3442) it does not
//! read.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use smoltcp::wire::{IpAddress, IpCidr, Ipv4Cidr};

use crate::config::{Ipv4Config, RouteEntry};

/// The part of a message in front of the options, the magic number included.
const FIXED: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Where the address is that the client gets.
const YOUR_ADDRESS: usize = 16;

const PAD: u8 = 0;
const MASK: u8 = 1;
const ROUTERS: u8 = 3;
const NAME_SERVERS: u8 = 6;
/// The client's name, which it sends.
pub(crate) const HOST_NAME: u8 = 12;
const TIME_SERVERS: u8 = 42;
const LEASE_TIME: u8 = 51;
const MESSAGE_TYPE: u8 = 53;
const SERVER: u8 = 54;
const RENEWAL_TIME: u8 = 58;
const REBINDING_TIME: u8 = 59;
const CLASSLESS_ROUTES: u8 = 121;
const END: u8 = 255;

/// What a server is asked for. It may leave the routers out if it has classless routes, which come first for that.
pub(crate) const REQUESTED: &[u8] = &[MASK, CLASSLESS_ROUTES, ROUTERS, NAME_SERVERS, TIME_SERVERS];
/// A lease is not taken for shorter, in seconds, nor renewed sooner than after half of it: it would be renewed without a pause.
const LEAST_LEASE: u32 = 16;
/// Routes taken at most.
const MOST_ROUTES: usize = 64;

/// Time servers taken at most.
const MOST_TIME_SERVERS: usize = 8;

/// A refusal (DHCPNAK).
const NAK: u8 = 6;

/// A server's message.
pub(crate) struct Message<'p> {
    fixed: &'p [u8],
    /// One entry for each kind; what is too long for one option comes in several (RFC 3396).
    options: Vec<(u8, Vec<u8>)>,
}

impl<'p> Message<'p> {
    pub(crate) fn parse(payload: &'p [u8]) -> Option<Self> {
        let (fixed, mut rest) = payload.split_at_checked(FIXED)?;
        if fixed[FIXED - MAGIC.len()..] != MAGIC {
            return None;
        }
        let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
        while let [kind, tail @ ..] = rest {
            rest = match (*kind, tail) {
                (PAD, _) => tail,
                (END, _) => break,
                (kind, [len, tail @ ..]) => {
                    let Some((value, tail)) = tail.split_at_checked(usize::from(*len)) else { break };
                    match options.iter_mut().find(|(known, _)| *known == kind) {
                        Some((_, known)) => known.extend_from_slice(value),
                        None => options.push((kind, value.to_vec())),
                    }
                    tail
                }
                (_, []) => break,
            };
        }
        Some(Self { fixed, options })
    }

    fn option(&self, kind: u8) -> Option<&[u8]> {
        self.options.iter().find(|(known, _)| *known == kind).map(|(_, value)| value.as_slice())
    }

    fn addresses(&self, kind: u8) -> impl Iterator<Item = Ipv4Addr> {
        let value = self.option(kind).unwrap_or_default();
        value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from_octets(*octets))
    }

    fn seconds(&self, kind: u8) -> Option<u32> {
        self.option(kind).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes)
    }

    /// True if the server takes a lease back.
    pub(crate) fn is_refusal(&self) -> bool {
        self.option(MESSAGE_TYPE) == Some(&[NAK])
    }

    /// The message as smoltcp's client reads it; what it lacks, the lease in force has, or the address says.
    pub(crate) fn completed(&self, lease: Option<&Ipv4Config>) -> Vec<u8> {
        let mut message = self.fixed.to_vec();
        let mut put = |kind: u8, value: &[u8]| {
            for part in value.chunks(255) {
                message.extend([kind, part.len() as u8]);
                message.extend_from_slice(part);
            }
        };
        for kind in [MESSAGE_TYPE, SERVER, NAME_SERVERS, TIME_SERVERS, CLASSLESS_ROUTES] {
            put(kind, self.option(kind).unwrap_or_default());
        }
        put(MASK, &self.mask(lease).octets());
        if let Some(router) = self.addresses(ROUTERS).find(|router| is_station(*router)) {
            put(ROUTERS, &router.octets());
        }
        if let Some(lease_time) = self.seconds(LEASE_TIME) {
            put(LEASE_TIME, &lease_time.max(LEAST_LEASE).to_be_bytes());
        }
        let times = [RENEWAL_TIME, REBINDING_TIME].map(|kind| (kind, self.seconds(kind)));
        // Without them they follow from the lease.
        if times.iter().all(|(_, time)| time.is_none_or(|time| time >= LEAST_LEASE / 2)) {
            for (kind, time) in times {
                put(kind, time.map(u32::to_be_bytes).as_ref().map_or(&[], |time| time));
            }
        }
        message.push(END);
        message
    }

    fn mask(&self, lease: Option<&Ipv4Config>) -> Ipv4Addr {
        let is_mask = |mask: &Ipv4Addr| IpAddress::Ipv4(*mask).prefix_len().is_some();
        if let Some(mask) = self.addresses(MASK).next().filter(is_mask) {
            return mask;
        }
        let octets: [u8; 4] = core::array::from_fn(|index| self.fixed[YOUR_ADDRESS + index]);
        let address = Ipv4Addr::from_octets(octets);
        match lease {
            Some(lease) if lease.address.address() == address => lease.address.netmask(),
            // As before there were masks (RFC 950).
            _ if octets[0] < 128 => Ipv4Addr::new(255, 0, 0, 0),
            _ if octets[0] < 192 => Ipv4Addr::new(255, 255, 0, 0),
            _ => Ipv4Addr::new(255, 255, 255, 0),
        }
    }

    /// Servers of NTP (RFC 2132, section 8.3).
    pub(crate) fn time_servers(&self) -> Vec<Ipv4Addr> {
        self.addresses(TIME_SERVERS).filter(|server| is_station(*server)).take(MOST_TIME_SERVERS).collect()
    }

    /// The classless routes; none if there are none, or if they are malformed.
    pub(crate) fn routes(&self) -> Option<Vec<RouteEntry>> {
        let mut rest = self.option(CLASSLESS_ROUTES).filter(|value| !value.is_empty())?;
        let mut routes = Vec::new();
        while let [len, tail @ ..] = rest {
            let significant = usize::from(len.div_ceil(8));
            let (network, tail) = tail.split_at_checked(significant).filter(|_| *len <= 32)?;
            let (router, tail) = tail.split_first_chunk::<4>()?;
            let mut octets = [0; 4];
            octets[..significant].copy_from_slice(network);
            // Bits behind the prefix mean nothing.
            let network = Ipv4Cidr::new(Ipv4Addr::from_octets(octets), *len).network();
            let router = Ipv4Addr::from_octets(*router);
            let gateway = (!router.is_unspecified()).then(|| router.into());
            if routes.len() < MOST_ROUTES {
                routes.push(RouteEntry { network: IpCidr::Ipv4(network), gateway, metric: 0 });
            }
            rest = tail;
        }
        Some(routes)
    }
}

/// True for an address that one station can have.
fn is_station(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
}

/// A frame from a server, with `payload` for its message and no UDP checksum; `source` and `destination` are those of the
/// packet.
pub(crate) fn frame(front: &[u8], ends: (Ipv4Addr, Ipv4Addr), payload: &[u8]) -> Option<Vec<u8>> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IPV4_HEADER_LEN, IpProtocol, Ipv4Packet, Ipv4Repr, UDP_HEADER_LEN, UdpPacket};
    let udp_len = u16::try_from(UDP_HEADER_LEN + payload.len()).ok()?;
    let mut frame = front.to_vec();
    let start = frame.len();
    frame.resize(start + IPV4_HEADER_LEN + UDP_HEADER_LEN, 0);
    let header = Ipv4Repr {
        src_addr: ends.0,
        dst_addr: ends.1,
        next_header: IpProtocol::Udp,
        payload_len: udp_len.into(),
        hop_limit: 64,
    };
    header.emit(&mut Ipv4Packet::new_unchecked(&mut frame[start..]), &ChecksumCapabilities::default());
    let mut udp = UdpPacket::new_unchecked(&mut frame[start + IPV4_HEADER_LEN..]);
    udp.set_src_port(67);
    udp.set_dst_port(68);
    udp.set_len(udp_len);
    frame.extend_from_slice(payload);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn message(options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; FIXED - MAGIC.len()];
        message[YOUR_ADDRESS..YOUR_ADDRESS + 4].copy_from_slice(&[172, 20, 1, 2]);
        [&message, MAGIC.as_slice(), options].concat()
    }

    fn route(network: [u8; 4], len: u8, router: Option<[u8; 4]>) -> RouteEntry {
        let network = IpCidr::Ipv4(Ipv4Cidr::new(network.into(), len));
        RouteEntry { network, gateway: router.map(|router| Ipv4Addr::from(router).into()), metric: 0 }
    }

    #[test]
    fn classless_routes_are_those_of_rfc_3442() {
        let option = [
            &[121, 13, 24, 10, 27, 129, 0, 0, 0, 0, 0][..],
            &[10, 0, 0, 1],
            // The same option goes on (RFC 3396).
            &[121, 9, 32, 10, 229, 0, 128, 10, 0, 0, 1, 255],
        ];
        let message = message(&option.concat());
        let routes = Message::parse(&message).unwrap().routes().unwrap();
        assert_eq!(
            routes,
            [
                route([10, 27, 129, 0], 24, None),
                route([0; 4], 0, Some([10, 0, 0, 1])),
                route([10, 229, 0, 128], 32, Some([10, 0, 0, 1])),
            ]
        );
        let completed = Message::parse(&message).unwrap().completed(None);
        assert_eq!(Message::parse(&completed).unwrap().routes().unwrap(), routes);
    }

    #[test]
    fn what_is_missing_or_absurd_is_completed() {
        let options =
            [3, 12, 0, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 51, 4, 0, 0, 0, 0, 58, 4, 0, 0, 0, 0, 255];
        let message = message(&options);
        let completed = Message::parse(&message).unwrap().completed(None);
        let completed = Message::parse(&completed).unwrap();
        assert_eq!(completed.option(MASK), Some(&[255, 255, 0, 0][..]));
        assert_eq!(completed.option(ROUTERS), Some(&[10, 0, 0, 1][..]));
        assert_eq!(completed.seconds(LEASE_TIME), Some(LEAST_LEASE));
        assert_eq!(completed.seconds(RENEWAL_TIME), None);
    }

    #[test]
    fn time_servers_are_stations() {
        let message = message(&[42, 16, 10, 0, 0, 1, 0, 0, 0, 0, 224, 0, 0, 1, 10, 0, 0, 2, 255]);
        let servers = Message::parse(&message).unwrap().time_servers();
        assert_eq!(servers, [[10, 0, 0, 1], [10, 0, 0, 2]].map(Ipv4Addr::from));
    }

    proptest! {
        #[test]
        fn any_message_is_read_and_completed(options: Vec<u8>) {
            let message = message(&options);
            let message = Message::parse(&message).unwrap();
            let _ = message.routes();
            let completed = message.completed(None);
            let completed = Message::parse(&completed).unwrap();
            prop_assert!(completed.option(MASK).is_some());
            prop_assert_eq!(completed.routes(), message.routes());
            prop_assert_eq!(completed.time_servers(), message.time_servers());
        }
    }
}
