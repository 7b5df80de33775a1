//! Queues of a device that lies: most requests are done as they should be, so that the guest comes far; some are given
//! back under another number, with another length, twice, late, with nonsense in them, or with an index that jumps.

use std::fs::File;
use std::io::Write;
use std::thread;
use std::time::Duration;

use super::{Address, Device, Memory};
use crate::random::Random;

/// Descriptors of a request at most.
const MAX_CHAIN: usize = 300;
/// Flags of a descriptor: it goes on; the device writes; it is a table.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR_BYTES: u64 = 16;
/// One request in so many is lied about.
pub(super) const HONESTY: u64 = 24;
/// How long an index that has jumped stays as it is.
const JUMP_TIME: Duration = Duration::from_millis(50);

/// A queue as QEMU described it.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) size: u16,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    pub(super) call: Option<File>,
    pub(super) is_enabled: bool,
    next: u16,
    used_index: u16,
    /// What is given back next time.
    late: Vec<(u32, u32)>,
}

/// A part of a request.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(super) address: u64,
    pub(super) len: u32,
    /// By the device.
    pub(super) is_written: bool,
}

impl Queue {
    /// Begins at an index.
    pub(super) fn restart(&mut self, index: u16) {
        (self.next, self.used_index) = (index, index);
        self.late.clear();
    }

    /// The index of the next request.
    pub(super) fn next(&self) -> u16 {
        self.next
    }

    /// Does what the guest has asked for, or says so.
    pub(super) fn serve(
        &mut self,
        number: usize,
        memory: &Memory,
        random: &mut Random,
        device: &mut dyn Device,
    ) {
        if !self.is_enabled || self.size == 0 {
            return;
        }
        let mut has_any = !self.late.is_empty();
        for (id, len) in std::mem::take(&mut self.late) {
            self.complete(memory, id, len);
        }
        let index = memory.read(Address::User(self.available + 2)).map_or(self.next, u16::from_le_bytes);
        for _ in 0..index.wrapping_sub(self.next).min(self.size) {
            if !device.is_ready(number) {
                break;
            }
            let at = self.available + 4 + 2 * u64::from(self.next % self.size);
            let Some(head) = memory.read(Address::User(at)).map(u16::from_le_bytes) else { return };
            self.next = self.next.wrapping_add(1);
            let parts = self.parts(memory, head);
            let len = device.perform(number, memory, &parts, random);
            self.give_back(memory, random, head.into(), len);
            device.meddle(number, memory, &parts, random);
            has_any = true;
        }
        if has_any || random.below(200) == 0 {
            self.interrupt();
        }
    }

    fn interrupt(&self) {
        let _ = self.call.as_ref().map(|mut call| call.write(&1_u64.to_ne_bytes()));
    }

    /// Gives a request back, perhaps not as it was.
    fn give_back(&mut self, memory: &Memory, random: &mut Random, id: u32, len: u32) {
        let odd = [0, 1, 255, 256, 65_535, 65_536, u32::MAX];
        if random.below(HONESTY) > 0 {
            return self.complete(memory, id, len);
        }
        match random.below(6) {
            // Another's number, then the right one.
            0 => {
                let other = if random.below(2) == 0 {
                    random.below(self.size.into()) as u32
                } else {
                    *random.pick(&odd)
                };
                self.complete(memory, other, len);
                self.complete(memory, id, len);
            }
            1 => self.complete(memory, id, *random.pick(&odd)),
            2 => (0..2).for_each(|_| self.complete(memory, id, len)),
            3 => {
                self.used_index = self.used_index.wrapping_add(random.below(65_536) as u16);
                self.publish(memory);
                self.interrupt();
                // The guest has time to see where the index has gone, or it would wait for what it skips.
                thread::sleep(JUMP_TIME);
                self.late.push((id, len));
            }
            4 => self.late.push((id, len)),
            _ => self.complete(memory, id, random.below(1 << 32) as u32),
        }
    }

    fn complete(&mut self, memory: &Memory, id: u32, len: u32) {
        let element = [id.to_le_bytes(), len.to_le_bytes()].concat();
        memory.write(Address::User(self.used + 4 + 8 * u64::from(self.used_index % self.size)), &element);
        self.used_index = self.used_index.wrapping_add(1);
        self.publish(memory);
    }

    fn publish(&self, memory: &Memory) {
        memory.write(Address::User(self.used + 2), &self.used_index.to_le_bytes());
    }

    /// The parts of the request that begins at `head`.
    fn parts(&self, memory: &Memory, head: u16) -> Vec<Part> {
        let mut parts = Vec::new();
        let (mut table, mut number) = (Address::User(self.descriptors), head);
        while parts.len() < MAX_CHAIN {
            let at = u64::from(number) * DESCRIPTOR_BYTES;
            let place = match table {
                Address::User(start) => Address::User(start + at),
                Address::Guest(start) => Address::Guest(start + at),
            };
            let Some(bytes) = memory.read::<16>(place).map(u128::from_le_bytes) else { break };
            let (address, len) = (bytes as u64, (bytes >> 64) as u32);
            let (flags, next) = ((bytes >> 96) as u16, (bytes >> 112) as u16);
            if flags & INDIRECT != 0 {
                (table, number) = (Address::Guest(address), 0);
                continue;
            }
            parts.push(Part { address, len, is_written: flags & WRITE != 0 });
            if flags & NEXT == 0 {
                break;
            }
            number = next;
        }
        parts
    }
}
