//! An image with a few bytes changed, of which only what changes is kept, so that an input costs no copy.

use std::collections::BTreeMap;
use std::sync::Mutex;

use unikernel_ext4::{BlockDevice, DeviceError};
use unikernel_vfs::{ReadError, Volume};

/// What is changed at once.
const UNIT: usize = 1024;

/// A disk.
pub(super) struct Patched {
    base: &'static [u8],
    state: Mutex<State>,
    /// Reads that are made at most.
    most_reads: u32,
}

#[derive(Default)]
struct State {
    changed: BTreeMap<usize, Box<[u8; UNIT]>>,
    reads: u32,
}

impl Patched {
    /// `base` is a whole number of units.
    pub(super) fn new(base: &'static [u8], most_reads: u32) -> Self {
        Self { base, state: Mutex::default(), most_reads }
    }

    pub(super) fn base(&self) -> &'static [u8] {
        self.base
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// Copies out; none if it is not all on the disk.
    pub(super) fn copy_out(&self, offset: usize, into: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(into.len())?;
        into.copy_from_slice(self.base.get(offset..end)?);
        let state = self.state();
        for (number, unit) in state.changed.range(offset / UNIT..end.div_ceil(UNIT)) {
            let start = number * UNIT;
            let (from, to) = (start.max(offset), (start + UNIT).min(end));
            into[from - offset..to - offset].copy_from_slice(&unit[from - start..to - start]);
        }
        Some(())
    }

    /// Changes bytes; what lies behind the end is lost.
    pub(super) fn put(&self, offset: usize, bytes: &[u8]) {
        let mut state = self.state();
        let mut at = offset;
        let end = self.base.len().min(offset.saturating_add(bytes.len()));
        while at < end {
            let (number, within) = (at / UNIT, at % UNIT);
            let count = (UNIT - within).min(end - at);
            let unit = state.changed.entry(number).or_insert_with(|| {
                let mut unit = Box::new([0; UNIT]);
                unit.copy_from_slice(&self.base[number * UNIT..][..UNIT]);
                unit
            });
            unit[within..within + count].copy_from_slice(&bytes[at - offset..][..count]);
            at += count;
        }
    }

    fn count_read(&self) {
        let mut state = self.state();
        state.reads += 1;
        assert!(state.reads <= self.most_reads, "reads without end");
    }
}

impl Volume for Patched {
    fn size_bytes(&self) -> u64 {
        self.base.len() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.count_read();
        usize::try_from(offset).ok().and_then(|offset| self.copy_out(offset, into)).ok_or(ReadError)
    }
}

impl BlockDevice for Patched {
    fn size_bytes(&self) -> u64 {
        self.base.len() as u64
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        assert!(offset.is_multiple_of(512) && into.len().is_multiple_of(512));
        Volume::read(self, offset, into).map_err(|ReadError| DeviceError)
    }

    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        for (offset, bytes) in writes {
            assert!(offset.is_multiple_of(512) && bytes.len().is_multiple_of(512));
            let end = offset.checked_add(bytes.len() as u64).ok_or(DeviceError)?;
            if end > self.base.len() as u64 {
                return Err(DeviceError);
            }
            self.put(*offset as usize, bytes);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}
