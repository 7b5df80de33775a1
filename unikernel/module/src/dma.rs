//! Memory that devices read and write, too.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::{Context, Error, abi};

/// Memory for a device: whole pages, in one run, coherent, zeroed at first. It is given back when this is dropped: the device must not know of it any more, or
/// must be kept from memory ([`DmaSwitch`](crate::pci::DmaSwitch)).
#[derive(Debug)]
pub struct Memory {
    context: Context,
    start: *mut u8,
    address: u64,
    bytes: usize,
}

// SAFETY: it is reached by atomics only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Takes so many bytes.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if they are not there, or are more than a module gets at once.
    pub fn allocate(context: Context, bytes: usize) -> Result<Self, Error> {
        let mut address = 0;
        // SAFETY: the address goes to where it is expected.
        let start = unsafe { abi::uk_dma_alloc(context.number(), bytes, &raw mut address) };
        if start.is_null() { Err(Error::ENOMEM) } else { Ok(Self { context, start, address, bytes }) }
    }

    /// Where it is, for the device.
    pub fn address(&self) -> u64 {
        self.address
    }

    fn at(&self, offset: usize) -> &AtomicU32 {
        let is_inside = offset <= self.bytes && self.bytes - offset >= size_of::<u32>();
        assert!(
            is_inside && offset.is_multiple_of(align_of::<u32>()),
            "outside of the memory, or not aligned"
        );
        // SAFETY: it is inside, by the check, and aligned, as pages are; the memory is ours until `drop`; all accesses are atomic, which allow for a device that
        // writes at any time.
        unsafe { AtomicU32::from_ptr(self.start.add(offset).cast()) }
    }

    /// Reads 32 bits at a multiple of 4; what is read later is not older.
    ///
    /// # Panics
    ///
    /// If they are outside, or not aligned.
    pub fn load(&self, offset: usize) -> u32 {
        self.at(offset).load(Ordering::Acquire)
    }

    /// Writes as many, after all that was written before.
    ///
    /// # Panics
    ///
    /// As [`Self::load`].
    pub fn store(&self, offset: usize, value: u32) {
        self.at(offset).store(value, Ordering::Release);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it came from `uk_dma_alloc`, and nobody has a reference to it any more.
        unsafe { abi::uk_dma_free(self.context.number(), self.start) };
    }
}
