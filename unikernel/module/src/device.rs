//! Character devices in `/dev`.

use alloc::boxed::Box;

use crate::abi::{self, DeviceFunctions};
use crate::{Context, Error};

/// What a device does. Its calls come one at a time, with interrupts masked, and must not wait.
pub trait CharDevice: Send + Sync + 'static {
    /// Somebody opens it, with flags of open(2). The answer is a number by which the opened file is known from then on.
    ///
    /// # Errors
    ///
    /// What open(2) is to answer.
    fn open(&self, flags: u32) -> Result<u32, Error>;

    /// The last descriptor of an opened file is gone.
    fn close(&self, _file: u32) {}

    /// Fills a buffer with what comes `offset` bytes behind the first that the file has read; answers how much, 0 at the end.
    ///
    /// # Errors
    ///
    /// What read(2) is to answer.
    fn read(&self, _file: u32, _offset: u64, _into: &mut [u8]) -> Result<usize, Error> {
        Err(Error::EINVAL)
    }

    /// Takes bytes; answers how many.
    ///
    /// # Errors
    ///
    /// What write(2) is to answer.
    fn write(&self, _file: u32, _from: &[u8]) -> Result<usize, Error> {
        Err(Error::EINVAL)
    }

    /// A request of ioctl(2), with a copy of what its argument points to: as many bytes as the request's number says, and copied back if
    /// it says that, too.
    ///
    /// # Errors
    ///
    /// What ioctl(2) is to answer.
    fn control(&self, _file: u32, _request: u32, _argument: &mut [u8]) -> Result<(), Error> {
        Err(Error::ENOTTY)
    }
}

/// A device that is there until this is dropped. While a file of it is open, the module cannot be unloaded.
pub struct Device<D: CharDevice> {
    context: Context,
    number: i64,
    device: Box<D>,
}

impl<D: CharDevice> Device<D> {
    /// Makes `/dev/NAME`, with these permissions.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is such a name, `EINVAL` if it can be none, `ENOMEM`.
    pub fn add(context: Context, name: &str, mode: u32, device: D) -> Result<Self, Error> {
        let device = Box::new(device);
        let functions = const { functions::<D>() };
        let data: *const D = &raw const *device;
        // SAFETY: name and functions are there while the kernel copies them, the device until `drop` has taken it back.
        let answer = unsafe {
            abi::uk_device_add(
                context.number(),
                name.as_ptr(),
                name.len(),
                mode,
                &raw const functions,
                data.cast(),
            )
        };
        let number = Error::check(answer)? as i64;
        Ok(Self { context, number, device })
    }

    /// What it does.
    pub fn device(&self) -> &D {
        &self.device
    }
}

impl<D: CharDevice> Drop for Device<D> {
    fn drop(&mut self) {
        // SAFETY: a number goes there. Afterwards nobody calls the device's functions any more.
        unsafe { abi::uk_device_remove(self.context.number(), self.number) };
    }
}

const fn functions<D: CharDevice>() -> DeviceFunctions {
    DeviceFunctions {
        bytes: size_of::<DeviceFunctions>() as u32,
        open: open::<D>,
        close: close::<D>,
        read: read::<D>,
        write: write::<D>,
        control: control::<D>,
    }
}

fn of<'a, D: CharDevice>(device: *const ()) -> &'a D {
    // SAFETY: `Device` lends a `D`, and takes it back before that ends; the kernel hands it back while it has it.
    unsafe { &*device.cast::<D>() }
}

fn count(outcome: Result<usize, Error>) -> isize {
    outcome.map_or_else(|error| -(error.number() as isize), |count| count as isize)
}

extern "C" fn open<D: CharDevice>(device: *const (), flags: u32) -> i64 {
    of::<D>(device).open(flags).map_or_else(|error| -i64::from(error.number()), i64::from)
}

extern "C" fn close<D: CharDevice>(device: *const (), file: i64) {
    of::<D>(device).close(file as u32);
}

extern "C" fn read<D: CharDevice>(
    device: *const (),
    file: i64,
    offset: u64,
    into: *mut u8,
    bytes: usize,
) -> isize {
    // SAFETY: the kernel hands over a buffer of so many bytes.
    let into = unsafe { core::slice::from_raw_parts_mut(into, bytes) };
    count(of::<D>(device).read(file as u32, offset, into))
}

extern "C" fn write<D: CharDevice>(device: *const (), file: i64, from: *const u8, bytes: usize) -> isize {
    // SAFETY: as above.
    let from = unsafe { core::slice::from_raw_parts(from, bytes) };
    count(of::<D>(device).write(file as u32, from))
}

extern "C" fn control<D: CharDevice>(
    device: *const (),
    file: i64,
    request: u32,
    argument: *mut u8,
    bytes: usize,
) -> i32 {
    // SAFETY: as above.
    let argument = unsafe { core::slice::from_raw_parts_mut(argument, bytes) };
    of::<D>(device).control(file as u32, request, argument).map_or_else(|error| -error.number(), |()| 0)
}
