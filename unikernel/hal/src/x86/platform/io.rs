//! Safe handles for device registers: [`IoPort`] for one x86 port, [`Mmio`] for a range of mapped
//! registers. Making a handle is the unsafe step, because some registers can reach memory (a DMA
//! address, a reset); using one is not, so drivers above are plain code.

use core::marker::PhantomData;

use x86_64::PhysAddr;
use x86_64::structures::port::{PortRead, PortWrite};

use crate::kmem;

/// One I/O port that holds a `T`.
#[derive(Clone, Copy, Debug)]
pub struct IoPort<T> {
    port: u16,
    value: PhantomData<T>,
}

impl<T: PortRead + PortWrite> IoPort<T> {
    /// Names a port.
    ///
    /// # Safety
    ///
    /// No value read from or written to the port may break memory safety. That holds for clocks,
    /// interrupt controllers, configuration and power registers, and not for DMA controllers.
    pub const unsafe fn new(port: u16) -> Self {
        Self { port, value: PhantomData }
    }

    /// Reads the port.
    #[inline]
    pub fn read(self) -> T {
        // SAFETY: the maker of the handle promised that the port cannot break memory safety.
        unsafe { T::read_from_port(self.port) }
    }

    /// Writes the port.
    #[inline]
    pub fn write(self, value: T) {
        // SAFETY: the maker of the handle promised that the port cannot break memory safety.
        unsafe { T::write_to_port(self.port, value) }
    }
}

/// What a register can hold: a plain integer that is read or written in one access.
pub trait Register: Copy {}
impl Register for u8 {}
impl Register for u16 {}
impl Register for u32 {}
impl Register for u64 {}

/// A range of device registers, mapped for ever.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: *mut u8,
    size_bytes: usize,
}

// SAFETY: the handle is an address of registers that stay mapped; each access is one volatile
// instruction, and the device orders accesses from several cores.
unsafe impl Send for Mmio {}
// SAFETY: as above.
unsafe impl Sync for Mmio {}

impl Mmio {
    /// Maps `len` bytes of registers.
    ///
    /// # Safety
    ///
    /// The range must be device registers, not RAM, and no access to them may break memory
    /// safety. For devices with DMA that rests on what addresses the driver hands them.
    pub unsafe fn map(physical: PhysAddr, len: usize) -> Self {
        Self { base: kmem::map_mmio(physical, len).as_mut_ptr(), size_bytes: len }
    }

    /// Bytes in the range.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The first register's address, for crates that bring their own accessors.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base
    }

    /// Reads the register at byte `offset`.
    ///
    /// # Panics
    ///
    /// If the register lies outside the range or is not aligned.
    #[inline]
    pub fn read<T: Register>(&self, offset: usize) -> T {
        // SAFETY: `at` checked bounds and alignment; the registers stay mapped.
        unsafe { self.at::<T>(offset).read_volatile() }
    }

    /// Writes the register at byte `offset`.
    ///
    /// # Panics
    ///
    /// If the register lies outside the range or is not aligned.
    #[inline]
    pub fn write<T: Register>(&self, offset: usize, value: T) {
        // SAFETY: `at` checked bounds and alignment; the registers stay mapped.
        unsafe { self.at::<T>(offset).write_volatile(value) }
    }

    #[inline]
    fn at<T: Register>(&self, offset: usize) -> *mut T {
        assert!(
            offset <= self.size_bytes && self.size_bytes - offset >= size_of::<T>(),
            "register outside its range"
        );
        let pointer = self.base.wrapping_add(offset).cast::<T>();
        assert!(pointer.is_aligned(), "register is not aligned");
        pointer
    }
}
