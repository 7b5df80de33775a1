//! A queue (Virtual I/O Device specification 1.2, section 2.7) as a device sees it.

use std::collections::VecDeque;
use std::vec::Vec;

use unikernel_machine::ring::needs_event;

use super::number_at;
use crate::sim::memory;

/// Descriptor flags.
const NEXT: u16 = 1;
const WRITABLE: u16 = 2;
const INDIRECT: u16 = 4;
/// The driver wants no interrupt.
const NO_INTERRUPT: u16 = 1;
/// Longer chains are none.
const MOST_PARTS: usize = 1024;

/// The largest queue.
const MOST_QUEUE: u16 = 256;

/// The memory of one request.
#[derive(Clone, Debug)]
pub struct Chain {
    head: u16,
    /// What the device reads: addresses and lengths.
    pub readable: Vec<(u64, u32)>,
    /// What it writes.
    pub writable: Vec<(u64, u32)>,
}

impl Chain {
    /// What the driver has written.
    pub fn read(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &(address, len) in &self.readable {
            let start = bytes.len();
            bytes.resize(start + len as usize, 0);
            memory::read(address, &mut bytes[start..]);
        }
        bytes
    }

    /// Writes from the start of what the device may write to; answers how many bytes.
    pub fn write(&self, mut bytes: &[u8]) -> u32 {
        let mut written = 0;
        for &(address, len) in &self.writable {
            let (now, rest) = bytes.split_at(bytes.len().min(len as usize));
            memory::write(address, now);
            written += now.len() as u32;
            bytes = rest;
        }
        written
    }

    /// How much the device may write.
    pub fn room(&self) -> usize {
        self.writable.iter().map(|(_, len)| *len as usize).sum()
    }
}

#[derive(Clone, Default)]
pub(super) struct Queue {
    pub(super) size: u16,
    pub(super) vector: u16,
    pub(super) is_enabled: bool,
    /// Addresses of the descriptors, and of the rings of available and of used ones.
    pub(super) descriptors: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
    /// Both sides say at which request to call them (section 2.7.10).
    pub(super) has_event_index: bool,
    next_available: u16,
    used: u16,
    /// Requests that wait for something from outside.
    pub(super) waiting: VecDeque<Chain>,
}

fn read_u16(address: u64) -> u16 {
    let mut bytes = [0; 2];
    memory::read(address, &mut bytes);
    u16::from_le_bytes(bytes)
}

impl Queue {
    /// One that the driver has not set up yet.
    pub(super) fn new() -> Self {
        Self { size: MOST_QUEUE, ..Self::default() }
    }

    /// The chain that begins at a descriptor.
    fn chain(&self, head: u16) -> Chain {
        let mut chain = Chain { head, readable: Vec::new(), writable: Vec::new() };
        let (mut table, mut size, mut index) = (self.descriptors, self.size, head);
        for _ in 0..MOST_PARTS {
            let mut bytes = [0; 16];
            memory::read(table + u64::from(index % size.max(1)) * 16, &mut bytes);
            let address = number_at(&bytes, 0, 8);
            let len = number_at(&bytes, 8, 4) as u32;
            let flags = number_at(&bytes, 12, 2) as u16;
            if flags & INDIRECT != 0 {
                (table, size, index) = (address, (len / 16) as u16, 0);
                continue;
            }
            let parts = if flags & WRITABLE != 0 { &mut chain.writable } else { &mut chain.readable };
            parts.push((address, len));
            if flags & NEXT == 0 {
                break;
            }
            index = number_at(&bytes, 14, 2) as u16;
        }
        chain
    }

    /// The next request that the driver has made available.
    pub(super) fn take(&mut self) -> Option<Chain> {
        if !self.is_enabled {
            return None;
        }
        if read_u16(self.driver + 2) == self.next_available {
            self.ask_for_notification();
            return None;
        }
        let slot = u64::from(self.next_available % self.size.max(1));
        self.next_available = self.next_available.wrapping_add(1);
        Some(self.chain(read_u16(self.driver + 4 + slot * 2)))
    }

    /// Says that the next request is to be told of.
    fn ask_for_notification(&self) {
        if self.has_event_index {
            let avail_event = self.device + 4 + u64::from(self.size) * 8;
            memory::write(avail_event, &self.next_available.to_le_bytes());
        }
    }

    /// Gives a request back; true if the driver wants to hear of it.
    pub(super) fn give_back(&mut self, chain: &Chain, written: u32) -> bool {
        self.push_used(chain.head.into(), written)
    }

    /// Writes an element of the ring of used requests, whatever it says.
    pub(super) fn push_used(&mut self, id: u32, written: u32) -> bool {
        let slot = self.device + 4 + u64::from(self.used % self.size.max(1)) * 8;
        memory::write(slot, &id.to_le_bytes());
        memory::write(slot + 4, &written.to_le_bytes());
        let old = self.used;
        self.used = old.wrapping_add(1);
        memory::write(self.device + 2, &self.used.to_le_bytes());
        if self.has_event_index {
            let used_event = self.driver + 4 + u64::from(self.size) * 2;
            return needs_event(read_u16(used_event), self.used, old);
        }
        read_u16(self.driver) & NO_INTERRUPT == 0
    }
}
