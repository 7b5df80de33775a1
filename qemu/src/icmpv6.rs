//! A router of IPv6, and a `ping`: what tests need that the host may not have installed (RFC 4861, RFC 4443).

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Types of messages.
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// What proves that a message has passed no router.
const HOPS: u32 = 255;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn socket() -> Result<Socket> {
    Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).context("raw sockets need root")
}

/// A router on one link.
pub(crate) struct Router {
    socket: Socket,
    interface: u32,
}

impl Router {
    /// On the link of an interface.
    pub(crate) fn on(name: &str) -> Result<Self> {
        let number = nix::net::if_::if_nametoindex(name).with_context(|| format!("no interface {name}"))?;
        let socket = socket()?;
        socket.set_multicast_if_v6(number)?;
        socket.set_multicast_hops_v6(HOPS)?;
        socket.set_unicast_hops_v6(HOPS)?;
        Ok(Self { socket, interface: number })
    }

    /// The interface's number.
    pub(crate) fn interface(&self) -> u32 {
        self.interface
    }

    /// Advertises the router, and a prefix of 64 bits from which addresses may be made (section 4.2, 4.6.2). The host's
    /// kernel fills the checksum in.
    pub(crate) fn advertise(&self, prefix: Ipv6Addr) -> Result<()> {
        const HOP_LIMIT: u8 = 64;
        const ROUTER_SECONDS: u16 = 1800;
        const PREFIX_INFORMATION: u8 = 3;
        const ON_LINK_AND_AUTONOMOUS: u8 = 0xc0;
        const VALID_SECONDS: u32 = 86_400;
        const PREFERRED_SECONDS: u32 = 14_400;
        let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, 0];
        message.extend(ROUTER_SECONDS.to_be_bytes());
        // Reachable time and retransmission timer: not told.
        message.extend([0; 8]);
        // Four times eight bytes.
        message.extend([PREFIX_INFORMATION, 4, 64, ON_LINK_AND_AUTONOMOUS]);
        message.extend(VALID_SECONDS.to_be_bytes());
        message.extend(PREFERRED_SECONDS.to_be_bytes());
        message.extend([0; 4]);
        message.extend(prefix.octets());
        let everybody = SocketAddrV6::new(ALL_NODES, 0, 0, self.interface);
        self.socket.send_to(&message, &everybody.into())?;
        Ok(())
    }
}

/// Asks for an echo, from an address of ours, and waits for it.
pub(crate) fn ping(from: Ipv6Addr, to: Ipv6Addr) -> Result<()> {
    const PAYLOAD: &[u8] = b"an echo, please";
    let socket = socket()?;
    socket.bind(&SocketAddrV6::new(from, 0, 0, 0).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let rest = [&[0x12, 0x34, 0, 1][..], PAYLOAD].concat();
    let request = [&[ECHO_REQUEST, 0, 0, 0][..], &rest].concat();
    socket.send_to(&request, &SocketAddrV6::new(to, 0, 0, 0).into())?;
    let socket: UdpSocket = socket.into();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let mut message = [0; 256];
        let (len, peer) = socket.recv_from(&mut message).context("no answer")?;
        let message = &message[..len];
        if peer.ip() == to && message.first() == Some(&ECHO_REPLY) && message[4..] == rest {
            return Ok(());
        }
    }
    bail!("{to} did not answer")
}
