//! A disk that remembers every write and flush, and the disk that a power cut leaves behind.
//!
//! What a cut may leave: everything before the last flush that completed, and of the writes since then any
//! subset. A write of several blocks may be cut between any two of them; a block itself is whole or absent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use super::memory::MemoryDevice;
use crate::{BlockDevice, DeviceError};

/// All writes are multiples of this, the smallest block of ext4.
const GRANULE: usize = 1024;

/// What the disk was told, in order. A write is one block.
#[derive(Clone)]
pub(super) enum Event {
    Write(u64, Arc<[u8]>),
    Flush,
}

/// Remembers what is written to the disk below.
pub(super) struct Recorder<D> {
    below: D,
    block_bytes: usize,
    events: Mutex<Vec<Event>>,
}

impl<D> Recorder<D> {
    pub(super) fn new(below: D, block_bytes: usize) -> Self {
        Self { below, block_bytes, events: Mutex::new(Vec::new()) }
    }

    /// How much has happened so far.
    pub(super) fn count(&self) -> usize {
        self.events.lock().expect("no test panicked with it").len()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no test panicked with it").clone()
    }
}

impl<D: BlockDevice> BlockDevice for Recorder<D> {
    fn size_bytes(&self) -> u64 {
        self.below.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        self.below.read(offset, into)
    }

    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        let mut events = self.events.lock().map_err(|_| DeviceError)?;
        for (offset, bytes) in writes {
            for (index, block) in bytes.chunks(self.block_bytes).enumerate() {
                events.push(Event::Write(offset + (index * self.block_bytes) as u64, block.into()));
            }
        }
        self.below.write(writes)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.events.lock().map_err(|_| DeviceError)?.push(Event::Flush);
        self.below.flush()
    }
}

/// A disk after a power cut: what was durable, and on top what else survived and what recovery writes.
pub(super) struct CrashDevice<'a> {
    durable: &'a [u8],
    top: Mutex<HashMap<u64, Arc<[u8]>>>,
}

impl<'a> CrashDevice<'a> {
    /// The disk on which of the writes in flight those in `survived` are.
    pub(super) fn new<'e>(durable: &'a [u8], survived: impl Iterator<Item = &'e Event>) -> Self {
        let device = Self { durable, top: Mutex::new(HashMap::new()) };
        for event in survived {
            if let Event::Write(offset, bytes) = event {
                device.write(&[(*offset, bytes)]).expect("it fitted before");
            }
        }
        device
    }

    /// The whole disk.
    pub(super) fn image(&self) -> Vec<u8> {
        let mut image = self.durable.to_vec();
        for (granule, bytes) in self.top.lock().expect("no test panicked with it").iter() {
            let at = *granule as usize * GRANULE;
            image[at..at + GRANULE].copy_from_slice(bytes);
        }
        image
    }
}

impl BlockDevice for CrashDevice<'_> {
    fn size_bytes(&self) -> u64 {
        self.durable.len() as u64
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let top = self.top.lock().map_err(|_| DeviceError)?;
        let from = offset as usize;
        into.copy_from_slice(self.durable.get(from..from + into.len()).ok_or(DeviceError)?);
        for (index, part) in into.chunks_mut(GRANULE).enumerate() {
            if let Some(bytes) = top.get(&(offset / GRANULE as u64 + index as u64)) {
                part.copy_from_slice(&bytes[..part.len()]);
            }
        }
        Ok(())
    }

    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        let mut top = self.top.lock().map_err(|_| DeviceError)?;
        for (offset, bytes) in writes {
            assert!(offset.is_multiple_of(GRANULE as u64) && bytes.len().is_multiple_of(GRANULE));
            for (index, part) in bytes.chunks(GRANULE).enumerate() {
                top.insert(offset / GRANULE as u64 + index as u64, part.into());
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// Makes events durable.
pub(super) fn apply(image: &mut [u8], events: &[Event]) {
    for event in events {
        if let Event::Write(offset, bytes) = event {
            let at = *offset as usize;
            image[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// A copy that is not recorded.
pub(super) fn memory(image: &[u8]) -> MemoryDevice {
    MemoryDevice::of(image.to_vec())
}
