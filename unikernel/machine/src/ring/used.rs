//! An element of the used ring, by which the device gives a buffer back.

use core::sync::atomic::{AtomicU32, Ordering};

/// An element of the used ring (section 2.7.8).
#[derive(Default, Debug)]
#[repr(C)]
pub struct Used {
    id: AtomicU32,
    len: AtomicU32,
}

impl Used {
    /// Which descriptor comes back, and how many bytes were written, as far as the device says.
    #[inline]
    pub(super) fn read(&self) -> (u32, u32) {
        (self.id.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed))
    }

    /// Writes the element, as the device does: for devices that a test plays.
    pub fn write(&self, id: u32, len: u32) {
        self.id.store(id, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
    }
}
