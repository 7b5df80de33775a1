//! The network card as a device of `smoltcp`: tokens that read a frame where the device put it and
//! write one where the device will fetch it.
//!
//! Checksums of TCP and UDP are left to the device where it offers that. On the way in, a frame
//! that the device vouches for is believed; one that it says nothing about is verified here, since
//! `smoltcp`'s capabilities hold for the device and not for a frame.

use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use unikernel_machine::packet;
use unikernel_net::{Segmenter, TsoParams};

use super::receive::{Place, Receiver};
use super::send::Sender;
use super::{ETHERNET_HEADER_BYTES, Nic};

/// A frame that came in. Dropping it gives its buffers back to the device.
pub(crate) struct Incoming<'a> {
    receiver: &'a mut Receiver,
    place: Place,
}

/// Room for a frame to send.
pub(crate) struct Outgoing<'a> {
    sender: &'a mut Sender,
}

impl Device for Nic {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    #[inline]
    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        if !self.tx.is_ready() {
            return None;
        }
        let place = self.rx.next()?;
        Some((Incoming { receiver: &mut self.rx, place }, Outgoing { sender: &mut self.tx }))
    }

    #[inline]
    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        self.tx.is_ready().then_some(Outgoing { sender: &mut self.tx })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let offload = match (self.tx.offloads_checksums, self.rx.verifies_checksums) {
            (true, true) => Checksum::None,
            (true, false) => Checksum::Rx,
            (false, true) => Checksum::Tx,
            (false, false) => Checksum::Both,
        };
        let mut checksum = ChecksumCapabilities::default();
        (checksum.tcp, checksum.udp) = (offload, offload);
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + ETHERNET_HEADER_BYTES;
        capabilities.max_burst_size = Some(usize::from(self.tx.ring.size()));
        capabilities.checksum = checksum;
        capabilities
    }
}

impl Segmenter for Nic {
    #[inline]
    fn largest_frame(&mut self, is_ipv4: bool) -> usize {
        self.tx.largest_frame(is_ipv4)
    }

    #[inline]
    fn send_to_be_cut(&mut self, cut: TsoParams, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let TsoParams { segment_bytes, header_bytes, is_ipv4 } = cut;
        let cut = packet::TsoParams { segment_bytes, header_bytes, is_ipv4 };
        self.tx.send(len, Some(cut), fill).is_some()
    }
}

impl RxToken for Incoming<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.receiver.frame(self.place))
    }
}

impl Drop for Incoming<'_> {
    #[inline]
    fn drop(&mut self) {
        self.receiver.give_back(self.place);
    }
}

impl TxToken for Outgoing<'_> {
    /// # Panics
    ///
    /// If `len` is more than the capabilities allow, which `smoltcp` never asks for.
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.sender.send(len, None, f).expect("a token stands for a free buffer")
    }
}
