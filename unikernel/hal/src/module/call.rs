//! Functions of a module that the kernel calls.
//!
//! What a module hands over is *unbound*: addresses that mean nothing. The kernel binds it to the code of the module that it came from, which stays
//! mapped then, and only functions in that code are accepted. What was taken back by the module must not be called any more; that is the
//! kernel's to see to (`docs/boundary.md`).

use alloc::string::String;

use unikernel_machine::disk::Memory;
use unikernel_module::abi::{
    self, DeviceFunctions, DiskAnswer, DiskFunctions, DiskLimits, DiskPart, DiskRequest, PacketFunction,
    WorkFunction,
};

use super::{Code, Loaded};

/// The longest text of a parameter.
const MOST_TEXT_BYTES: usize = 1024;

macro_rules! may_cross_cores {
    ($($type:ty),*) => {
        $(
            // SAFETY: addresses of functions that may be called on any core, with what they are to be called with.
            unsafe impl Send for $type {}
            // SAFETY: as above.
            unsafe impl Sync for $type {}
        )*
    };
}
may_cross_cores!(Parameter, UnboundDevice, Device, UnboundDisk, Disk, UnboundWork, Work, UnboundHook, Hook);

/// A parameter of a module.
#[derive(Clone, Debug)]
pub struct Parameter {
    module: Loaded,
    raw: abi::Parameter,
}

impl Parameter {
    pub(super) fn new(module: Loaded, raw: abi::Parameter) -> Self {
        Self { module, raw }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.module.text(self.raw.name).unwrap_or_default()
    }

    /// Who may read and write it.
    pub fn mode(&self) -> u32 {
        self.raw.mode
    }

    /// Its value; `None` if it is no text.
    pub fn get(&self) -> Option<String> {
        let mut text = [0; MOST_TEXT_BYTES];
        let len = (self.raw.get)(self.raw.value, text.as_mut_ptr(), text.len());
        let text = text.get(..usize::try_from(len).ok()?)?;
        core::str::from_utf8(text).ok().map(String::from)
    }

    /// Sets it.
    ///
    /// # Errors
    ///
    /// The module's error number, which is positive.
    pub fn set(&self, text: &str) -> Result<(), i32> {
        match (self.raw.set)(self.raw.value, text.as_ptr(), text.len()) {
            0 => Ok(()),
            error => Err(error.wrapping_neg()),
        }
    }
}

/// A character device, as a module has described it.
pub struct UnboundDevice {
    pub(super) functions: DeviceFunctions,
    pub(super) data: *const (),
}

impl UnboundDevice {
    /// Binds it; `None` if the functions are not that module's.
    pub fn bind(self, code: &Code) -> Option<Device> {
        let DeviceFunctions { open, close, read, write, control, .. } = self.functions;
        let all = [open as usize, close as usize, read as usize, write as usize, control as usize];
        let is_good = all.into_iter().all(|function| code.has_function(function));
        is_good.then(|| Device { functions: self.functions, data: self.data, _code: code.clone() })
    }
}

/// A character device.
pub struct Device {
    functions: DeviceFunctions,
    data: *const (),
    _code: Code,
}

/// What was counted, or a positive error number.
type Counted = Result<usize, i32>;

fn counted(answer: isize, most: usize) -> Counted {
    match usize::try_from(answer) {
        // A module that claims to have written past a buffer has done so, or has not: the bytes that are there count.
        Ok(count) => Ok(count.min(most)),
        Err(_) => Err(answer.wrapping_neg() as i32),
    }
}

impl Device {
    /// Opens it; answers what the file is called.
    ///
    /// # Errors
    ///
    /// The module's error number, which is positive.
    pub fn open(&self, flags: u32) -> Result<i64, i32> {
        match (self.functions.open)(self.data, flags) {
            file @ 0.. => Ok(file),
            error => Err(error.wrapping_neg() as i32),
        }
    }

    /// The file is closed.
    pub fn close(&self, file: i64) {
        (self.functions.close)(self.data, file);
    }

    /// Fills a buffer.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn read(&self, file: i64, offset: u64, into: &mut [u8]) -> Counted {
        let answer = (self.functions.read)(self.data, file, offset, into.as_mut_ptr(), into.len());
        counted(answer, into.len())
    }

    /// Hands bytes over.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn write(&self, file: i64, from: &[u8]) -> Counted {
        counted((self.functions.write)(self.data, file, from.as_ptr(), from.len()), from.len())
    }

    /// A request of ioctl(2).
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn control(&self, file: i64, request: u32, argument: &mut [u8]) -> Result<(), i32> {
        match (self.functions.control)(self.data, file, request, argument.as_mut_ptr(), argument.len()) {
            0 => Ok(()),
            error => Err(error.wrapping_neg()),
        }
    }
}

// A part of a request is the same to the kernel and to a module.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Memory>() == size_of::<DiskPart>() && align_of::<Memory>() == align_of::<DiskPart>());
    assert!(offset_of!(Memory, address) == offset_of!(DiskPart, address));
    assert!(offset_of!(Memory, len) == offset_of!(DiskPart, bytes));
};

/// A disk, as a module has described it.
pub struct UnboundDisk {
    pub(super) functions: DiskFunctions,
    pub(super) data: *const (),
    /// What requests must keep to, says the module.
    pub limits: DiskLimits,
}

impl UnboundDisk {
    /// Binds it; `None` if the functions are not that module's.
    pub fn bind(self, code: &Code) -> Option<Disk> {
        let DiskFunctions { submit, notify, poll, stop, .. } = self.functions;
        let all = [submit as usize, notify as usize, poll as usize, stop as usize];
        let is_good = all.into_iter().all(|function| code.has_function(function));
        is_good.then(|| Disk { functions: self.functions, data: self.data, _code: code.clone() })
    }
}

/// A disk. Its functions are to be called one at a time.
pub struct Disk {
    functions: DiskFunctions,
    data: *const (),
    _code: Code,
}

/// Answers that are taken at once.
const ANSWERS: usize = 16;

impl Disk {
    /// Submits a request; false if the module refuses it, and then there is no answer.
    ///
    /// It cannot be misused more than a driver in the kernel can: where a device reads and writes is the word of who asks (`dma`).
    pub fn submit(&self, operation: u32, tag: u32, sector: u64, parts: &[Memory]) -> bool {
        let request =
            DiskRequest { operation, tag, sector, parts: parts.as_ptr().cast(), part_count: parts.len() };
        (self.functions.submit)(self.data, &raw const request) == 0
    }

    /// Begins what was submitted.
    pub fn notify(&self) {
        (self.functions.notify)(self.data);
    }

    /// Takes some answers: tells of each its tag, and whether the request was done. False if there were none.
    pub fn poll(&self, mut tell: impl FnMut(u32, bool)) -> bool {
        let mut answers = [DiskAnswer::default(); ANSWERS];
        let count = (self.functions.poll)(self.data, answers.as_mut_ptr(), ANSWERS);
        answers.iter().take(count).for_each(|answer| tell(answer.tag, answer.error == 0));
        count > 0
    }

    /// Keeps the device from memory.
    pub fn stop(&self) {
        (self.functions.stop)(self.data);
    }
}

/// Work, as a module has described it.
pub struct UnboundWork {
    pub(super) function: WorkFunction,
    pub(super) data: *const (),
}

impl UnboundWork {
    /// Binds it; `None` if the function is not that module's.
    pub fn bind(self, code: &Code) -> Option<Work> {
        let is_good = code.has_function(self.function as usize);
        is_good.then(|| Work { function: self.function, data: self.data, _code: code.clone() })
    }
}

/// Something to be done later.
pub struct Work {
    function: WorkFunction,
    data: *const (),
    _code: Code,
}

impl Work {
    /// Does it; answers after how many nanoseconds again, if at all.
    pub fn run(&self) -> Option<u64> {
        Some((self.function)(self.data)).filter(|&delay_ns| delay_ns != abi::NEVER)
    }
}

/// A packet hook, as a module has described it.
pub struct UnboundHook {
    pub(super) function: PacketFunction,
    pub(super) data: *const (),
}

impl UnboundHook {
    /// Binds it; `None` if the function is not that module's.
    pub fn bind(self, code: &Code) -> Option<Hook> {
        let is_good = code.has_function(self.function as usize);
        is_good.then(|| Hook { function: self.function, data: self.data, _code: code.clone() })
    }
}

/// Who sees frames.
pub struct Hook {
    function: PacketFunction,
    data: *const (),
    _code: Code,
}

impl Hook {
    /// Shows a frame that passes at a place; true if it goes on.
    pub fn passes(&self, place: u32, frame: &[u8]) -> bool {
        (self.function)(self.data, place, frame.as_ptr(), frame.len()) == 0
    }
}
