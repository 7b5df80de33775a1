//! Blocks of hashes that were found good. With them, most checks read nothing but the data: a block of 4 KiB has the hashes of 128.

use alloc::vec::Vec;

use crate::digest::Digest;

/// Some blocks, of which those are kept that were used last.
#[derive(Debug)]
pub struct Cache {
    slots: Vec<Slot>,
    most_blocks: usize,
    /// Counts uses.
    now: u64,
}

#[derive(Debug)]
struct Slot {
    block: u64,
    used: u64,
    bytes: Vec<u8>,
}

impl Cache {
    /// One that keeps so many blocks at most.
    pub const fn new(most_blocks: usize) -> Self {
        Self { slots: Vec::new(), most_blocks, now: 0 }
    }

    /// See [`Hashes::known`](crate::Hashes::known).
    pub fn find(&mut self, block: u64, at: usize, len: usize) -> Option<Digest> {
        self.now += 1;
        let slot = self.slots.iter_mut().find(|slot| slot.block == block)?;
        slot.used = self.now;
        Some(Digest::from_bytes(slot.bytes.get(at..at.checked_add(len)?)?))
    }

    /// See [`Hashes::remember`](crate::Hashes::remember). If there is no memory for it, it is not kept.
    pub fn insert(&mut self, block: u64, bytes: Vec<u8>) {
        self.now += 1;
        let slot = Slot { block, used: self.now, bytes };
        let is_full = self.slots.len() >= self.most_blocks;
        // Two may have read one block at a time.
        if let Some(known) = self.slots.iter_mut().find(|known| known.block == block) {
            *known = slot;
        } else if !is_full && self.slots.try_reserve(1).is_ok() {
            self.slots.push(slot);
        } else if let Some(oldest) = self.slots.iter_mut().min_by_key(|slot| slot.used) {
            *oldest = slot;
        }
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
