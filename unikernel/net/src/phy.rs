//! Devices between smoltcp and the NIC. smoltcp handles one flow at a time here, so each device
//! carries at most one packet:
//!
//! - [`Inbound`] holds the one received IP packet and the token for an immediate answer;
//! - [`Outbound`] lets a flow send over the NIC.
//!
//! Both frame IP packets for Ethernet in place: the header is written into the token's own buffer,
//! in front of the packet, so nothing is copied on the way out.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken,
};
use smoltcp::time::Instant;

use crate::counters::Traffic;
use crate::track::{Front, Seen};

/// The length of an Ethernet header.
pub(crate) const HEADER_LEN: usize = 14;

/// A whole Ethernet header: destination, source, type.
pub(crate) type Header = [u8; HEADER_LEN];

/// What a flow's interface is told about its device: raw IP, checksums already verified.
pub(crate) fn ip_capabilities(device: &DeviceCapabilities) -> DeviceCapabilities {
    let mut capabilities = device.clone();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = device.ip_mtu();
    let checksum = &mut capabilities.checksum;
    for one in [&mut checksum.ipv4, &mut checksum.tcp, &mut checksum.udp] {
        *one = if one.tx() { Checksum::Tx } else { Checksum::None };
    }
    capabilities
}

/// What loopback can do: nothing is lost, so nothing is summed.
pub(crate) fn loopback_capabilities() -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = LOOPBACK_MTU;
    capabilities.checksum = ChecksumCapabilities::ignored();
    capabilities
}

/// The largest IP packet on loopback: as large as its length field allows, rounded down to words.
pub(crate) const LOOPBACK_MTU: usize = 65_528;

/// A token that puts an Ethernet header in front, if there is one to put.
pub(crate) struct Framed<'t, T> {
    token: T,
    header: Option<Header>,
    traffic: Option<&'t Traffic>,
    watch: Watch<'t>,
}

/// What is done to a flow's segments on their way out, and where is noted what was seen of them.
pub(crate) type Watch<'t> = Option<(Front, &'t Seen)>;

impl<T: TxToken> TxToken for Framed<'_, T> {
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        if let Some(traffic) = self.traffic {
            traffic.count(len + self.header.map_or(0, |header| header.len()));
        }
        let watch = self.watch;
        let fill = |packet: &mut [u8]| {
            let result = f(packet);
            if let Some((front, seen)) = watch {
                front.pass(packet, seen);
            }
            result
        };
        let Some(header) = self.header else { return self.token.consume(len, fill) };
        self.token.consume(len + HEADER_LEN, |buffer| {
            let (front, packet) = buffer.split_at_mut(HEADER_LEN);
            front.copy_from_slice(&header);
            fill(packet)
        })
    }

    #[inline]
    fn set_meta(&mut self, meta: PacketMeta) {
        self.token.set_meta(meta);
    }
}

/// A received packet that stays where the NIC put it.
pub(crate) struct Borrowed<'f>(&'f [u8]);

impl RxToken for Borrowed<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// One received packet and the place for an answer to it.
pub(crate) struct Inbound<'a, T> {
    packet: Option<(&'a [u8], Framed<'a, T>)>,
}

impl<'a, T> Inbound<'a, T> {
    /// `header` goes in front of an answer, and `traffic` counts it; neither for loopback.
    #[inline]
    pub(crate) fn new(
        packet: &'a [u8],
        token: T,
        header: Option<Header>,
        traffic: Option<&'a Traffic>,
    ) -> Self {
        Self { packet: Some((packet, Framed { token, header, traffic, watch: None })) }
    }

    /// The same, with an eye on the answer.
    #[inline]
    pub(crate) fn watched(mut self, watch: Watch<'a>) -> Self {
        if let Some((_, framed)) = &mut self.packet {
            framed.watch = watch;
        }
        self
    }
}

impl<'i, T: TxToken> Device for Inbound<'i, T> {
    type RxToken<'a>
        = Borrowed<'i>
    where
        Self: 'a;
    type TxToken<'a>
        = Framed<'i, T>
    where
        Self: 'a;

    #[inline]
    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let (packet, token) = self.packet.take()?;
        Some((Borrowed(packet), token))
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        DeviceCapabilities::default()
    }
}

/// The way out for one flow: the NIC, with the flow's header in front.
pub(crate) struct Outbound<'a, D: ?Sized> {
    device: &'a mut D,
    header: Option<Header>,
    traffic: Option<&'a Traffic>,
    watch: Watch<'a>,
    /// Set when the device had no room: the flow must try again later.
    pub(crate) exhausted: bool,
}

impl<'a, D: ?Sized> Outbound<'a, D> {
    #[inline]
    pub(crate) fn new(device: &'a mut D, header: Option<Header>, traffic: Option<&'a Traffic>) -> Self {
        Self { device, header, traffic, watch: None, exhausted: false }
    }

    /// The same, with an eye on what is sent.
    #[inline]
    pub(crate) fn watched(mut self, watch: Watch<'a>) -> Self {
        self.watch = watch;
        self
    }
}

impl<D: Device + ?Sized> Device for Outbound<'_, D> {
    type RxToken<'a>
        = Borrowed<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Framed<'a, D::TxToken<'a>>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        None
    }

    #[inline]
    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        let token = self.device.transmit(now);
        self.exhausted = token.is_none();
        Some(Framed { token: token?, header: self.header, traffic: self.traffic, watch: self.watch })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        DeviceCapabilities::default()
    }
}

/// The queue of packets from this machine to itself.
pub(crate) struct Loopback {
    queue: VecDeque<Vec<u8>>,
    limit: usize,
}

impl Loopback {
    pub(crate) fn new(limit: usize) -> Self {
        Self { queue: VecDeque::new(), limit }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        self.queue.pop_front()
    }

    /// Queues a packet; false if the queue is full.
    pub(crate) fn push(&mut self, packet: Vec<u8>) -> bool {
        let has_room = self.queue.len() < self.limit;
        if has_room {
            self.queue.push_back(packet);
        }
        has_room
    }
}

/// Room for one packet in the loopback queue.
pub(crate) struct LoopbackToken<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for LoopbackToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = alloc::vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Loopback {
    /// A token even when the queue is full: for answers, of which there is at most one a packet.
    pub(crate) fn reply_token(&mut self) -> LoopbackToken<'_> {
        LoopbackToken(&mut self.queue)
    }
}

impl Device for Loopback {
    type RxToken<'a> = Borrowed<'a>;
    type TxToken<'a> = LoopbackToken<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        (self.queue.len() < self.limit).then_some(LoopbackToken(&mut self.queue))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        loopback_capabilities()
    }
}

/// Stands in for the NIC on a machine that has none.
#[derive(Debug, Default)]
pub struct NoDevice;

/// The token of a device that never gives one.
#[derive(Debug)]
pub enum NoToken {}

impl RxToken for NoToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, _: F) -> R {
        match self {}
    }
}

impl TxToken for NoToken {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, _: usize, _: F) -> R {
        match self {}
    }
}

impl Device for NoDevice {
    type RxToken<'a> = NoToken;
    type TxToken<'a> = NoToken;

    fn receive(&mut self, _: Instant) -> Option<(NoToken, NoToken)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<NoToken> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A device of capabilities only: what building an interface asks for.
pub(crate) struct Capabilities(pub(crate) DeviceCapabilities);

impl Device for Capabilities {
    type RxToken<'a> = NoToken;
    type TxToken<'a> = NoToken;

    fn receive(&mut self, _: Instant) -> Option<(NoToken, NoToken)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<NoToken> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.0.clone()
    }
}
