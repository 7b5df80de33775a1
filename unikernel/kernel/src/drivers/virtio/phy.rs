//! The network card as a device of `smoltcp`: tokens that read a frame where the device put it and
//! write one where the device will fetch it.
//!
//! Checksums of TCP and UDP are left to the device where it offers that. On the way in, a frame
//! that the device vouches for is believed; one that it says nothing about is verified here, since
//! `smoltcp`'s capabilities hold for the device and not for a frame.

use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use unikernel_machine::checksum;
use unikernel_net::pcapng::Direction;

use super::net::{HEADER_BYTES, Nic, Receiver, Sender};
use super::ring::Completion;

/// Header flags (section 5.1.6): the checksum is partial; the checksum was verified.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
/// Offsets in the header.
const CSUM_START: usize = 6;
const CSUM_OFFSET: usize = 8;
const ETHERNET_HEADER_BYTES: usize = 14;

/// A frame that came in. Dropping it gives its buffer back to the device.
pub struct Incoming<'a> {
    receiver: &'a mut Receiver,
    completion: Completion,
}

/// Room for a frame to send.
pub struct Outgoing<'a> {
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
        let incoming = self.rx.next()?;
        Some((incoming, Outgoing { sender: &mut self.tx }))
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
        capabilities.max_transmission_unit = self.mtu() + ETHERNET_HEADER_BYTES;
        capabilities.max_burst_size = Some(usize::from(self.tx.ring.size()));
        capabilities.checksum = checksum;
        capabilities
    }
}

impl Receiver {
    /// The next frame that is worth looking at.
    #[inline]
    fn next(&mut self) -> Option<Incoming<'_>> {
        loop {
            let completion = self.ring.take()?;
            if self.tap.is_some() {
                self.show(completion);
            }
            if self.is_acceptable(completion) {
                self.frames += 1;
                self.bytes += u64::from(completion.len) - self.header_bytes as u64;
                return Some(Incoming { receiver: self, completion });
            }
            self.dropped += 1;
            self.give_back(completion);
        }
    }

    #[cold]
    fn show(&mut self, completion: Completion) {
        let (tap, header_bytes) = (self.tap, self.header_bytes);
        let bytes = &self.ring.buffer(completion.buffer)[..completion.len as usize];
        if let (Some(tap), Some(frame)) = (tap, bytes.get(header_bytes..)) {
            (tap.see)(tap.interface, Direction::In, frame);
        }
    }

    #[inline]
    fn is_acceptable(&mut self, completion: Completion) -> bool {
        let (header_bytes, verifies) = (self.header_bytes, self.verifies_checksums);
        let bytes = &self.ring.buffer(completion.buffer)[..completion.len as usize];
        if bytes.len() < header_bytes + ETHERNET_HEADER_BYTES {
            return false;
        }
        !verifies
            || bytes[0] & (NEEDS_CSUM | DATA_VALID) != 0
            || checksum::is_plausible(&bytes[header_bytes..])
    }

    #[inline]
    fn give_back(&mut self, completion: Completion) {
        let len = self.ring.buffer_bytes();
        self.ring.post(completion.buffer, len);
    }
}

impl RxToken for Incoming<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let header_bytes = self.receiver.header_bytes;
        f(&self.receiver.ring.buffer(self.completion.buffer)[header_bytes..self.completion.len as usize])
    }
}

impl Drop for Incoming<'_> {
    #[inline]
    fn drop(&mut self) {
        self.receiver.give_back(self.completion);
    }
}

impl TxToken for Outgoing<'_> {
    /// # Panics
    ///
    /// If `len` is more than the capabilities allow, which `smoltcp` never asks for.
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let sender = self.sender;
        let buffer = sender.free.pop().expect("a token stands for a free buffer");
        let bytes = &mut sender.ring.buffer(buffer)[..sender.header_bytes + len];
        let (header, frame) = bytes.split_at_mut(sender.header_bytes);
        let result = f(frame);
        let partial = if sender.offloads_checksums { checksum::begin(frame) } else { None };
        write_header(header, partial);
        if let Some(tap) = sender.tap {
            (tap.see)(tap.interface, Direction::Out, frame);
        }
        sender.frames += 1;
        sender.bytes += len as u64;
        sender.ring.post(buffer, sender.header_bytes + len);
        result
    }
}

/// Fills the header of an outgoing frame: nothing to segment, perhaps a checksum to complete.
#[inline]
fn write_header(header: &mut [u8], partial: Option<checksum::PartialChecksum>) {
    let mut bytes = [0; HEADER_BYTES];
    if let Some(partial) = partial {
        bytes[0] = NEEDS_CSUM;
        bytes[CSUM_START..CSUM_START + 2].copy_from_slice(&partial.start.to_le_bytes());
        bytes[CSUM_OFFSET..CSUM_OFFSET + 2].copy_from_slice(&partial.offset.to_le_bytes());
    }
    header.copy_from_slice(&bytes[..header.len()]);
}
