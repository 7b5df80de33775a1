//! Devices on the PCI bus that the kernel has no driver for.

use crate::{Context, Error, abi};

/// A function of a device.
#[derive(Debug)]
pub struct Function {
    context: Context,
    number: i64,
}

/// Registers, mapped for as long as the machine runs.
#[derive(Debug)]
pub struct Registers {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: each access is one volatile instruction, and the device orders those of several cores.
unsafe impl Send for Registers {}
// SAFETY: as above.
unsafe impl Sync for Registers {}

impl Function {
    /// The first one of this maker and type.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none.
    pub fn find(context: Context, vendor: u16, device: u16) -> Result<Self, Error> {
        // SAFETY: numbers go there.
        let answer = unsafe { abi::uk_pci_find(context.number(), vendor, device, 0) };
        Ok(Self { context, number: Error::check(answer)? as i64 })
    }

    /// Reads `bytes` (1, 2 or 4) of configuration space at a multiple of as many.
    pub fn read_config(&self, offset: u16, bytes: u32) -> u32 {
        // SAFETY: numbers go there.
        unsafe { abi::uk_pci_config_read(self.context.number(), self.number, offset, bytes) }
    }

    /// Writes as many. There are devices that heed writes of the right width only. What is written must be right for the device: one that is told to use memory on its own
    /// goes where it likes.
    pub fn write_config(&self, offset: u16, bytes: u32, value: u32) {
        // SAFETY: numbers go there; the device's driver knows what they mean.
        unsafe { abi::uk_pci_config_write(self.context.number(), self.number, offset, bytes, value) };
    }

    /// Maps the registers that a BAR shows, and has the function answer there.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it shows none.
    pub fn map(&self, bar: u8, bytes: usize) -> Result<Registers, Error> {
        // SAFETY: numbers go there.
        let start = unsafe { abi::uk_pci_map(self.context.number(), self.number, bar, bytes) };
        if start.is_null() { Err(Error::ENODEV) } else { Ok(Registers { start, bytes }) }
    }
}

/// What a register can hold.
pub trait Register: Copy {}
impl Register for u8 {}
impl Register for u16 {}
impl Register for u32 {}
impl Register for u64 {}

impl Registers {
    fn at<T: Register>(&self, offset: usize) -> *mut T {
        assert!(offset <= self.bytes && self.bytes - offset >= size_of::<T>(), "register outside its range");
        let register = self.start.wrapping_add(offset).cast::<T>();
        assert!(register.is_aligned(), "register is not aligned");
        register
    }

    /// Reads a register.
    ///
    /// # Panics
    ///
    /// If it is outside, or not aligned.
    pub fn read<T: Register>(&self, offset: usize) -> T {
        // SAFETY: `at` has checked; the registers stay mapped.
        unsafe { self.at::<T>(offset).read_volatile() }
    }

    /// Writes a register.
    ///
    /// # Panics
    ///
    /// If it is outside, or not aligned.
    pub fn write<T: Register>(&self, offset: usize, value: T) {
        // SAFETY: as above.
        unsafe { self.at::<T>(offset).write_volatile(value) };
    }
}
