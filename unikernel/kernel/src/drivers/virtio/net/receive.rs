//! The way in of a pair of queues: buffers posted ahead, packets read where the device put them.
//!
//! A device that merges buffers (section 5.1.6.4) spreads a large packet over as many as it takes. It takes them in the
//! order in which they were posted, and they are posted again in the order in which they were taken, so
//! they lie one behind the other and so does the packet: nothing is copied. Where the buffers begin anew, or with
//! a device that has an order of its own, the packet is gathered in a place of its own.

use alloc::vec::Vec;

use unikernel_machine::{checksum, packet};
use unikernel_net::pcapng::Direction;

use super::super::ring::{Completion, Ring};
use super::{ETHERNET_HEADER_BYTES, Features, Tap};

/// Buffers on the way in: as many as QEMU's queue has, so that a burst of 256 connections fits.
pub(super) const RX_BUFFERS: u16 = 256;
/// Header, Ethernet header and 1,500 bytes fit, and two buffers make a page.
pub(super) const BUFFER_BYTES: usize = 2048;
/// The largest packet of several segments (section 5.1.6.3.1), and its header.
const MOST_BYTES: usize = packet::HEADER_BYTES + 65_550;

/// The way in.
pub(super) struct Receiver {
    ring: Ring,
    header_bytes: usize,
    pub(super) verifies_checksums: bool,
    merges: bool,
    /// The buffers of a packet that takes several, and the place to gather it in; with room from the start.
    parts: Vec<Completion>,
    gathered: Vec<u8>,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) dropped: u64,
    /// Packets in several buffers that were no packets.
    bad_merges: u64,
    pub(super) tap: Option<Tap>,
}

/// Where a packet and its header lie.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// In so many buffers from the first on.
    Buffers { first: u16, count: u16, len: usize },
    /// In the place for such packets; the buffers have gone back.
    Gathered,
}

impl Receiver {
    pub(super) fn new(mut ring: Ring, features: Features) -> Self {
        for buffer in 0..ring.size() {
            ring.post(buffer, ring.buffer_bytes());
        }
        let merges = features.contains(Features::MRG_RXBUF);
        let is_large = features.intersects(Features::GUEST_TSO4 | Features::GUEST_TSO6);
        Self {
            parts: Vec::with_capacity(if merges { ring.size().into() } else { 0 }),
            gathered: Vec::with_capacity(if is_large { MOST_BYTES } else { 0 }),
            ring,
            header_bytes: features.header_bytes(),
            verifies_checksums: features.contains(Features::GUEST_CSUM),
            merges,
            frames: 0,
            bytes: 0,
            dropped: 0,
            bad_merges: 0,
            tap: None,
        }
    }

    #[inline]
    pub(super) fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// True if the device has given something back.
    #[inline]
    pub(super) fn has_completions(&self) -> bool {
        self.ring.has_completions()
    }

    /// Nonsense that the device has written.
    pub(super) fn bad_completions(&self) -> u64 {
        self.ring.bad_completions() + self.bad_merges
    }

    /// The next frame that is worth looking at.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Place> {
        self.look()?.or_else(|| self.look_further())
    }

    /// The next frame that is worth looking at, after one that was not.
    #[cold]
    fn look_further(&mut self) -> Option<Place> {
        // A device that brings nothing but nonsense is left in between, for others to have their turn.
        (1..self.ring.size()).map_while(|_| self.look()).find_map(|place| place)
    }

    /// Looks at the next frame, if there is one. The inner answer is none if it is not worth looking at.
    #[inline(always)]
    fn look(&mut self) -> Option<Option<Place>> {
        let first = self.ring.take()?;
        let (header_bytes, verifies, tap) = (self.header_bytes, self.verifies_checksums, self.tap);
        let mut place = Place::Buffers { first: first.buffer, count: 1, len: first.len as usize };
        let mut bytes = &self.ring.buffer(first.buffer)[..first.len as usize];
        let count = if self.merges { packet::buffers(bytes) } else { 1 };
        if count != 1 {
            let Some(wide) = self.place_of_many(first, count) else {
                self.bad_merges += 1;
                return Some(None);
            };
            (place, bytes) = (wide, self.packet(wide));
        }
        let (len, is_acceptable) = (bytes.len(), is_acceptable(bytes, header_bytes, verifies));
        if let (Some(tap), Some(frame)) = (tap, bytes.get(header_bytes..)) {
            (tap.see)(tap.interface, Direction::In, frame);
        }
        if is_acceptable {
            self.frames += 1;
            self.bytes += (len - header_bytes) as u64;
            return Some(Some(place));
        }
        self.dropped += 1;
        self.give_back(place);
        Some(None)
    }

    /// Where the packet lies that begins in `first` and takes `count` buffers, a number that nobody has checked yet.
    /// None if the device has told nonsense of it.
    fn place_of_many(&mut self, first: Completion, count: u16) -> Option<Place> {
        let ring = &mut self.ring;
        if !packet::collect(&mut self.parts, first, count, || ring.take()) {
            self.repost();
            return None;
        }
        if let Some(len) = packet::contiguous_len(&self.parts, self.ring.buffer_bytes()) {
            return Some(Place::Buffers { first: first.buffer, count, len });
        }
        let is_gathered = self.gather();
        self.repost();
        is_gathered.then_some(Place::Gathered)
    }

    /// Copies the parts together. False if that is more than a packet can be.
    #[cold]
    fn gather(&mut self) -> bool {
        let Self { parts, ring, gathered, .. } = self;
        if packet::gathered_len(parts, gathered.capacity()).is_none() {
            return false;
        }
        gathered.clear();
        for part in parts {
            gathered.extend_from_slice(&ring.buffer(part.buffer)[..part.len as usize]);
        }
        true
    }

    fn repost(&mut self) {
        let len = self.ring.buffer_bytes();
        self.parts.drain(..).for_each(|part| self.ring.post(part.buffer, len));
    }

    /// Header and frame.
    #[inline]
    fn packet(&mut self, place: Place) -> &[u8] {
        match place {
            Place::Buffers { first, count: 1, len } => &self.ring.buffer(first)[..len],
            Place::Buffers { first, count, len } => &self.ring.run(first, count)[..len],
            Place::Gathered => &self.gathered,
        }
    }

    /// The frame of a packet that [`Self::next`] has found acceptable.
    #[inline]
    pub(super) fn frame(&mut self, place: Place) -> &[u8] {
        let header_bytes = self.header_bytes;
        &self.packet(place)[header_bytes..]
    }

    #[inline]
    pub(super) fn give_back(&mut self, place: Place) {
        let len = self.ring.buffer_bytes();
        if let Place::Buffers { first, count, .. } = place {
            (first..first + count).for_each(|buffer| self.ring.post(buffer, len));
        }
    }
}

/// True for a packet that can be a frame, and whose checksums somebody has looked at, or need not.
#[inline]
fn is_acceptable(packet: &[u8], header_bytes: usize, verifies: bool) -> bool {
    packet.len() >= header_bytes + ETHERNET_HEADER_BYTES
        && (!verifies || packet::is_vouched_for(packet) || checksum::is_plausible(&packet[header_bytes..]))
}
