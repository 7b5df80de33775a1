//! Safe handles for device registers, which are on [`crate::sim::bus`].

use core::marker::PhantomData;

use x86_64::PhysAddr;

use crate::sim::bus;

/// One I/O port that holds a `T`. Nobody answers at any.
#[derive(Clone, Copy, Debug)]
pub struct IoPort<T>(PhantomData<T>);

impl<T: Register> IoPort<T> {
    /// Names a port.
    ///
    /// # Safety
    ///
    /// None here; see `x86`'s.
    pub const unsafe fn new(_: u16) -> Self {
        Self(PhantomData)
    }

    /// Reads the port: all ones, as where nobody answers.
    pub fn read(self) -> T {
        T::from_u64(u64::MAX)
    }

    /// Writes the port.
    pub fn write(self, _: T) {}
}

/// What a register can hold.
pub trait Register: Copy {
    /// The low bits of a number.
    fn from_u64(value: u64) -> Self;
    /// As a number.
    fn into_u64(self) -> u64;
}

macro_rules! registers {
    ($($ty:ty)*) => {
        $(impl Register for $ty {
            fn from_u64(value: u64) -> Self {
                value as Self
            }
            fn into_u64(self) -> u64 {
                self.into()
            }
        })*
    };
}

registers!(u8 u16 u32 u64);

/// A range of device registers.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: PhysAddr,
    size_bytes: usize,
}

impl Mmio {
    /// Names `len` bytes of registers.
    ///
    /// # Safety
    ///
    /// None here; see `x86`'s.
    pub unsafe fn map(physical: PhysAddr, len: usize) -> Self {
        Self { base: physical, size_bytes: len }
    }

    /// Bytes in the range.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The first register's address, for crates that bring their own accessors: there is none.
    pub fn as_ptr(&self) -> *mut u8 {
        core::ptr::null_mut()
    }

    /// Reads the register at byte `offset`.
    ///
    /// # Panics
    ///
    /// If the register lies outside the range or is not aligned.
    pub fn read<T: Register>(&self, offset: usize) -> T {
        T::from_u64(bus::read(self.at::<T>(offset), size_of::<T>()))
    }

    /// Writes the register at byte `offset`.
    ///
    /// # Panics
    ///
    /// If the register lies outside the range or is not aligned.
    pub fn write<T: Register>(&self, offset: usize, value: T) {
        bus::write(self.at::<T>(offset), size_of::<T>(), value.into_u64());
    }

    fn at<T>(&self, offset: usize) -> u64 {
        let is_inside = offset <= self.size_bytes && self.size_bytes - offset >= size_of::<T>();
        assert!(is_inside, "register outside its range");
        let address = self.base.as_u64() + offset as u64;
        assert!(address.is_multiple_of(align_of::<T>() as u64), "register is not aligned");
        address
    }
}
