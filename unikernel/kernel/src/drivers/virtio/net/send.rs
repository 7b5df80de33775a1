//! The way out of a pair of queues. Sent buffers are taken back when the next is needed, without an interrupt.
//!
//! Beside the buffers for single frames there are a few for what the device cuts into segments. They have no
//! memory before the first bulk send asks for it, and keep it then.

use alloc::vec::Vec;
use core::ops::Range;

use unikernel_machine::checksum;
use unikernel_machine::packet::{self, TsoParams};
use unikernel_net::pcapng::Direction;

use super::super::ring::Ring;
use super::{Features, Tap};

/// Buffers on the way out. QEMU takes them back within a batch, so fewer do.
pub(super) const TX_BUFFERS: u16 = 256;
/// Those of them for what the device cuts: half a megabyte under way, twice what one connection has.
pub(super) const LARGE_BUFFERS: u16 = 8;
/// What they hold: header, Ethernet header, and an IP packet that its length field can just tell of.
const LARGE_BYTES: usize = 64 * 1024;

/// The way out.
pub(super) struct Sender {
    pub(super) ring: Ring,
    free: Vec<u16>,
    /// Free, and with memory.
    free_large: Vec<u16>,
    /// Without memory.
    unborn: Range<u16>,
    pub(super) header_bytes: usize,
    pub(super) offloads_checksums: bool,
    /// What the device cuts, over IPv4 and over IPv6.
    cuts: (bool, bool),
    is_waiting: bool,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// Frames that the device cuts.
    pub(super) large: u64,
    pub(super) full: u64,
    pub(super) tap: Option<Tap>,
}

impl Sender {
    pub(super) fn new(mut ring: Ring, features: Features) -> Self {
        ring.disable_interrupts();
        Self {
            free: ring.small_buffers().rev().collect(),
            free_large: Vec::with_capacity(ring.large_buffers().len()),
            unborn: ring.large_buffers(),
            ring,
            header_bytes: features.header_bytes(),
            offloads_checksums: features.contains(Features::CSUM),
            cuts: (features.contains(Features::HOST_TSO4), features.contains(Features::HOST_TSO6)),
            is_waiting: false,
            frames: 0,
            bytes: 0,
            large: 0,
            full: 0,
            tap: None,
        }
    }

    /// True if a frame can be sent now. When none can, the device will interrupt as soon as one
    /// can again.
    #[inline]
    pub(super) fn is_ready(&mut self) -> bool {
        !self.free.is_empty() || self.reclaim()
    }

    /// The longest frame that can be sent now to be cut, in bytes; 0 if there is none.
    #[inline]
    pub(super) fn largest_frame(&mut self, is_ipv4: bool) -> usize {
        let cuts = if is_ipv4 { self.cuts.0 } else { self.cuts.1 };
        let has_room = cuts && (!self.free_large.is_empty() || self.find_large());
        if has_room { LARGE_BYTES - self.header_bytes } else { 0 }
    }

    fn find_large(&mut self) -> bool {
        self.take_back();
        if self.free_large.is_empty()
            && let Some(buffer) = self.unborn.clone().next()
            && self.ring.grow(buffer, LARGE_BYTES)
        {
            self.unborn.start += 1;
            self.free_large.push(buffer);
        }
        !self.free_large.is_empty()
    }

    /// True if a sender found no buffer, and there is one now.
    #[inline]
    pub(super) fn can_send_again(&self) -> bool {
        self.is_waiting && self.ring.has_completions()
    }

    /// True if the device has taken all frames that it was given.
    pub(super) fn has_sent_all(&mut self) -> bool {
        self.take_back();
        let born = usize::from(self.unborn.start - self.ring.large_buffers().start);
        self.free.len() == self.ring.small_buffers().len() && self.free_large.len() == born
    }

    fn take_back(&mut self) {
        while let Some(completion) = self.ring.take() {
            let is_small = self.ring.small_buffers().contains(&completion.buffer);
            if is_small { &mut self.free } else { &mut self.free_large }.push(completion.buffer);
        }
    }

    /// Takes sent buffers back.
    fn reclaim(&mut self) -> bool {
        self.take_back();
        if self.free.is_empty() && !self.wait_for_room() {
            return false;
        }
        if self.is_waiting {
            self.ring.disable_interrupts();
            self.is_waiting = false;
        }
        true
    }

    #[cold]
    fn wait_for_room(&mut self) -> bool {
        self.full += 1;
        self.is_waiting = true;
        // Once: a device that only says that there are some would have us look for ever.
        if self.ring.enable_interrupts() {
            self.take_back();
        }
        !self.free.is_empty()
    }

    /// Sends a frame of `len` bytes that `fill` writes; nothing, and false, if there is no buffer for it.
    #[inline]
    pub(super) fn send<R>(
        &mut self,
        len: usize,
        cut: Option<TsoParams>,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> Option<R> {
        let buffer = if cut.is_some() { self.free_large.pop() } else { self.free.pop() }?;
        let bytes = &mut self.ring.buffer(buffer)[..self.header_bytes + len];
        let (header, frame) = bytes.split_at_mut(self.header_bytes);
        let result = fill(frame);
        let partial = if self.offloads_checksums { checksum::begin(frame) } else { None };
        let said = packet::outgoing(partial, cut);
        // Either length as one of its own, so that it is a few stores and not a call of memcpy.
        if let Some(modern) = header.first_chunk_mut() {
            *modern = said;
        } else if let (Some(legacy), Some(said)) =
            (header.first_chunk_mut::<{ packet::LEGACY_HEADER_BYTES }>(), said.first_chunk())
        {
            *legacy = *said;
        }
        if let Some(tap) = self.tap {
            (tap.see)(tap.interface, Direction::Out, frame);
        }
        self.frames += 1;
        self.bytes += len as u64;
        self.large += u64::from(cut.is_some());
        self.ring.post(buffer, self.header_bytes + len);
        Some(result)
    }
}
