//! Devices on the PCI bus that the kernel has no driver for.

use alloc::boxed::Box;

use crate::{Context, Error, abi, boxed};

/// A function of a device: this module's alone, until it is dropped. Then it does not use memory on its own any more.
#[derive(Debug)]
pub struct Function {
    context: Context,
    number: i64,
}

/// Registers, mapped for as long as the machine runs.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: each access is one volatile instruction, and the device orders those of several cores.
unsafe impl Send for Registers {}
// SAFETY: as above.
unsafe impl Sync for Registers {}

/// The command register, and its bits: the function may use memory, and does not raise its line (PCI specification, section 6.2.2).
const COMMAND: u16 = 0x04;
const COMMAND_MASTER: u32 = 1 << 2;
const COMMAND_NO_LINE: u32 = 1 << 10;

impl Function {
    /// The first one of this maker and type that nobody drives.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none.
    pub fn find(context: Context, vendor: u16, device: u16) -> Result<Self, Error> {
        Self::find_where(context, vendor.into(), device.into(), abi::PCI_ANY)
    }

    /// The first one of a class, whoever made it, that nobody drives: class, subclass and programming interface (PCI code and ID assignment specification).
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none.
    pub fn find_class(context: Context, [class, subclass, interface]: [u8; 3]) -> Result<Self, Error> {
        let class = u32::from_be_bytes([0, class, subclass, interface]);
        Self::find_where(context, abi::PCI_ANY, abi::PCI_ANY, class)
    }

    fn find_where(context: Context, vendor: u32, device: u32, class: u32) -> Result<Self, Error> {
        // SAFETY: numbers go there.
        let answer = unsafe { abi::uk_pci_find(context.number(), vendor, device, class) };
        Ok(Self { context, number: Error::check(answer)? as i64 })
    }

    /// Lets it use memory on its own. Its line stays off: interrupts come by [`Interrupt`].
    pub fn enable_dma(&self) {
        self.write_config(COMMAND, 2, self.read_config(COMMAND, 2) | COMMAND_MASTER | COMMAND_NO_LINE);
    }

    /// What keeps it from that, for who has not the function itself.
    pub fn dma_switch(&self) -> DmaSwitch {
        DmaSwitch { context: self.context, number: self.number }
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

/// Keeps a function from memory. Without effect once the function is given back, which does the same.
#[derive(Clone, Copy, Debug)]
pub struct DmaSwitch {
    context: Context,
    number: i64,
}

impl DmaSwitch {
    /// The function does not use memory on its own from now on.
    pub fn turn_off(self) {
        let (module, number) = (self.context.number(), self.number);
        // SAFETY: numbers go there, and what is written takes a permission away.
        unsafe {
            let command = abi::uk_pci_config_read(module, number, COMMAND, 2);
            abi::uk_pci_config_write(module, number, COMMAND, 2, command & !COMMAND_MASTER);
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // SAFETY: numbers go there.
        unsafe { abi::uk_pci_release(self.context.number(), self.number) };
    }
}

/// What is done when a device raises an interrupt: between two instructions of the app, or while the core has nothing to do. It must be short.
pub trait Handler: Send + Sync + 'static {
    /// The interrupt was raised.
    fn interrupt(&self);
}

/// An interrupt (MSI-X) that is handled until this is dropped.
pub struct Interrupt<H: Handler> {
    context: Context,
    number: i64,
    _handler: Box<[H]>,
}

extern "C" fn interrupt<H: Handler>(handler: *const ()) -> u64 {
    // SAFETY: `Interrupt` lends an `H`, and takes it back before that ends.
    unsafe { &*handler.cast::<H>() }.interrupt();
    abi::NEVER
}

impl<H: Handler> Interrupt<H> {
    /// Has an entry of the function's MSI-X table handled.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the function has no such entry, `ENOSPC` if the machine has no vector left, `ENOMEM`.
    pub fn add(function: &Function, entry: u32, handler: H) -> Result<Self, Error> {
        let context = function.context;
        let handler = boxed(handler)?;
        let (module, data) = (context.number(), handler.as_ptr().cast());
        // SAFETY: the handler is there until `drop` has taken it back.
        let answer =
            unsafe { abi::uk_pci_interrupt_add(module, function.number, entry, interrupt::<H>, data) };
        Ok(Self { context, number: Error::check(answer)? as i64, _handler: handler })
    }
}

impl<H: Handler> Drop for Interrupt<H> {
    fn drop(&mut self) {
        // SAFETY: numbers go there. Afterwards nobody calls the handler any more.
        unsafe { abi::uk_pci_interrupt_remove(self.context.number(), self.number) };
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
