//! A disk with a cache of its own: what was written survives a power cut once it was flushed, and before that sector by
//! sector, as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec;

use super::faults::{Faults, Operation};
use super::random::Random;
use crate::Error;

pub(super) const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

pub(super) struct Disk {
    pub(super) faults: Arc<Faults>,
    /// What was never written reads as zeros.
    durable: Mutex<BTreeMap<usize, Sector>>,
    /// Sectors that take no write.
    bad: Mutex<BTreeSet<usize>>,
    /// Sectors that cannot be read.
    unreadable: Mutex<BTreeSet<usize>>,
    /// In the order in which they came.
    cached: Mutex<Vec<(usize, Sector)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("one thread")
}

fn set(sectors: &Mutex<BTreeSet<usize>>, sector: usize, is_in: bool) {
    if is_in {
        lock(sectors).insert(sector);
    } else {
        lock(sectors).remove(&sector);
    }
}

/// True if one of the sectors of a request is among `sectors`.
fn has_any(sectors: &Mutex<BTreeSet<usize>>, first: u64, len: usize) -> bool {
    let first = first as usize;
    lock(sectors).range(first..first + len / SECTOR_BYTES).next().is_some()
}

impl Disk {
    pub(super) fn new(faults: Arc<Faults>) -> Self {
        Self {
            faults,
            durable: Mutex::default(),
            bad: Mutex::default(),
            unreadable: Mutex::default(),
            cached: Mutex::default(),
        }
    }

    /// From now on a sector takes no write, or does again.
    pub(super) fn set_bad(&self, sector: usize, is_bad: bool) {
        set(&self.bad, sector, is_bad);
    }

    /// From now on a sector cannot be read, or can again.
    pub(super) fn set_unreadable(&self, sector: usize, is_unreadable: bool) {
        set(&self.unreadable, sector, is_unreadable);
    }

    /// What a read finds.
    fn sector(&self, sector: usize) -> Sector {
        let cached = lock(&self.cached);
        let latest = cached.iter().rev().find(|(at, _)| *at == sector);
        latest.map_or_else(|| self.durable(sector as u64), |(_, bytes)| *bytes)
    }

    /// One request.
    pub(super) fn read(&self, sector: u64, into: &mut [u8]) -> Result<(), Error> {
        self.faults.check(Operation::Read)?;
        if has_any(&self.unreadable, sector, into.len()) {
            return Err(Error::Device);
        }
        for (index, bytes) in into.chunks_mut(SECTOR_BYTES).enumerate() {
            bytes.copy_from_slice(&self.sector(sector as usize + index));
        }
        Ok(())
    }

    /// One request.
    pub(super) fn write(&self, sector: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(&[(sector, bytes.to_vec())])
    }

    /// Requests of which all fail or none.
    pub(super) fn write_all(&self, writes: &[(u64, Vec<u8>)]) -> Result<(), Error> {
        self.faults.check(Operation::Write)?;
        if writes.iter().any(|(sector, bytes)| has_any(&self.bad, *sector, bytes.len())) {
            return Err(Error::Device);
        }
        for (sector, bytes) in writes {
            for (index, bytes) in bytes.chunks(SECTOR_BYTES).enumerate() {
                let bytes = bytes.try_into().expect("whole sectors");
                lock(&self.cached).push((*sector as usize + index, bytes));
            }
        }
        Ok(())
    }

    /// What was written is durable.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.faults.check(Operation::Flush)?;
        let mut durable = lock(&self.durable);
        for (sector, bytes) in lock(&self.cached).drain(..) {
            durable.insert(sector, bytes);
        }
        Ok(())
    }

    /// The power is cut: of each sector in the cache survives one of its states, or the durable one.
    pub(super) fn cut_power(&self, random: &mut Random) {
        let mut durable = lock(&self.durable);
        for (sector, bytes) in lock(&self.cached).drain(..) {
            if random.below(2) == 0 {
                durable.insert(sector, bytes);
            }
        }
    }

    /// What is durable.
    pub(super) fn durable(&self, sector: u64) -> Sector {
        lock(&self.durable).get(&(sector as usize)).copied().unwrap_or([0; SECTOR_BYTES])
    }
}
