//! The app's memory, as bytes that are copied and never borrowed.
//!
//! An address from the app is untrusted. It is a plain number here, too: no function believes it. A copy is made only within
//! the lower half of the address space, where nothing of the kernel's is mapped, and it survives a fault. So safe code can give
//! any address to any function of this module; what it can break by that is the app's memory and nothing else.
//!
//! Nothing here waits. A copy that meets an absent page fails with [`CopyError::Faulted`], and the caller decides whether to
//! bring the page in and try again.

mod abi;

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, size_of};

pub use abi::{NoPadding, UserAbi};

use crate::arch::user_copy;
use crate::kmem::layout::USER_END;

/// Why a copy was not made, or not to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyError {
    /// The range is not within the app's half of the address space, or is shorter than what was to be copied. Nothing was
    /// copied.
    OutOfRange,
    /// A page could not be reached: the handler of page faults knows why. A part may have been copied.
    Faulted,
}

/// True if `[address, address + len)` lies where an app may have memory at all.
#[inline]
fn is_user(address: u64, len: usize) -> bool {
    let Some(end) = address.checked_add(len as u64) else { return false };
    end <= USER_END
}

/// A range of the app's memory, which may be absent; or, within [`with_kernel_buffer`], a buffer of the kernel's, so that an
/// operation on a file serves the app and the kernel alike.
///
/// It cannot be misused: the app's range is checked at each copy, and is bytes that only the app relies on. A kernel's buffer is
/// borrowed for `'a` as a slice of cells is, which may be read and written through any copy of this value, by one
/// core only: so it can be sent to no other. What is `'static` is never the kernel's, and may be kept and sent.
#[derive(Clone, Copy, Debug)]
pub struct UserBytes<'a> {
    address: u64,
    len: usize,
    is_kernel: bool,
    memory: PhantomData<&'a [Cell<u8>]>,
}

// SAFETY: a range that is `'static` is the app's, because `with_kernel_buffer` names its buffer for a lifetime that its caller cannot
// choose. The app's is two numbers, with no tie to the core that made them.
unsafe impl Send for UserBytes<'static> {}
// SAFETY: as above.
unsafe impl Sync for UserBytes<'static> {}

impl UserBytes<'static> {
    /// Takes a range at the app's word; the copies check it.
    #[inline]
    pub const fn new(address: u64, len: usize) -> Self {
        Self { address, len, is_kernel: false, memory: PhantomData }
    }
}

/// Runs `work` with a buffer of the kernel's in the place of the app's memory. Copies to and from it are plain, and do not fail but
/// for their length.
///
/// It cannot be misused: the buffer is borrowed until `work` is over, and what `work` gets cannot outlive it, since it has to be ready for
/// any lifetime.
#[inline]
pub fn with_kernel_buffer<R>(buffer: &mut [u8], work: impl FnOnce(UserBytes<'_>) -> R) -> R {
    let (address, len) = (buffer.as_mut_ptr().expose_provenance() as u64, buffer.len());
    work(UserBytes { address, len, is_kernel: true, memory: PhantomData })
}

impl UserBytes<'_> {
    /// The alleged address of the first byte.
    #[inline]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if no bytes are named.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rest after the first `count` bytes (empty if there are fewer).
    #[inline]
    #[must_use]
    pub fn skip(self, count: usize) -> Self {
        let count = count.min(self.len);
        Self { address: self.address.wrapping_add(count as u64), len: self.len - count, ..self }
    }

    /// At most the first `count` bytes.
    #[inline]
    #[must_use]
    pub fn truncate(self, count: usize) -> Self {
        Self { len: self.len.min(count), ..self }
    }

    /// Fills `buffer` from the start of the range, which must be at least as long.
    ///
    /// # Errors
    ///
    /// See [`CopyError`].
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> Result<(), CopyError> {
        // SAFETY: the destination is an exclusive slice of that length.
        unsafe { self.read_raw(buffer.as_mut_ptr(), buffer.len()) }
    }

    /// Writes `bytes` to the start of the range, which must be at least as long.
    ///
    /// # Errors
    ///
    /// See [`CopyError`].
    #[inline]
    pub fn write(&self, bytes: &[u8]) -> Result<(), CopyError> {
        // SAFETY: the source is a slice of that length.
        unsafe { self.write_raw(bytes.as_ptr(), bytes.len()) }
    }

    /// Fills `len` bytes at `buffer` from the start of the range, for memory that others may change meanwhile.
    ///
    /// # Safety
    ///
    /// `buffer` must be valid for writes of `len` bytes, which are not this range's own.
    #[inline]
    pub unsafe fn read_raw(&self, buffer: *mut u8, len: usize) -> Result<(), CopyError> {
        if len > self.len || self.is_kernel || !is_user(self.address, len) {
            let source = self.kernel_bytes(len)?;
            // SAFETY: a kernel's buffer is borrowed for our lifetime and has `len` bytes, by `kernel_bytes`. The destination is valid by
            // the caller. Bytes that were never written may be among them, so they are copied as such.
            unsafe { buffer.cast::<MaybeUninit<u8>>().copy_from_nonoverlapping(source.cast(), len) };
            return Ok(());
        }
        // SAFETY: the source is in the app's half by the check above, where nothing of the kernel's is, and the copy survives a
        // fault there; the destination is valid by the caller.
        let left = unsafe { user_copy::from_user(buffer, self.address, len) };
        if left == 0 { Ok(()) } else { Err(CopyError::Faulted) }
    }

    /// Writes `len` bytes from `bytes` to the start of the range; see [`Self::read_raw`].
    ///
    /// # Safety
    ///
    /// `bytes` must be valid for reads of `len` bytes, which are not this range's own.
    #[inline]
    pub unsafe fn write_raw(&self, bytes: *const u8, len: usize) -> Result<(), CopyError> {
        if len > self.len || self.is_kernel || !is_user(self.address, len) {
            let destination = self.kernel_bytes(len)?;
            // SAFETY: as in `read_raw`; the buffer is there to be written, through any copy of this value.
            unsafe { destination.cast::<MaybeUninit<u8>>().copy_from_nonoverlapping(bytes.cast(), len) };
            return Ok(());
        }
        // SAFETY: the destination is in the app's half by the check above, where nothing of the kernel's is, and the copy survives a
        // fault there; the source is valid by the caller.
        let left = unsafe { user_copy::to_user(self.address, bytes, len) };
        if left == 0 { Ok(()) } else { Err(CopyError::Faulted) }
    }

    /// Where the first `len` bytes of a kernel's buffer lie; an error for a range of the app's.
    #[cold]
    fn kernel_bytes(&self, len: usize) -> Result<*mut u8, CopyError> {
        if self.is_kernel && len <= self.len {
            Ok(core::ptr::with_exposed_provenance_mut(self.address as usize))
        } else {
            Err(CopyError::OutOfRange)
        }
    }
}

/// Reads a value of the app's.
///
/// It cannot be misused: every pattern of bytes is a `T` ([`UserAbi`]).
///
/// # Errors
///
/// See [`CopyError`].
#[inline]
pub fn read_value<T: UserAbi>(address: u64) -> Result<T, CopyError> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the destination is our own `T`.
    unsafe { UserBytes::new(address, size_of::<T>()).read_raw(value.as_mut_ptr().cast(), size_of::<T>()) }?;
    // SAFETY: all bytes were written, and `UserAbi` makes every pattern valid.
    Ok(unsafe { value.assume_init() })
}

/// Writes a value to the app.
///
/// It cannot be misused: all that goes out is what was put into the value ([`NoPadding`]).
///
/// # Errors
///
/// See [`CopyError`].
#[inline]
pub fn write_value<T: NoPadding>(address: u64, value: &T) -> Result<(), CopyError> {
    // SAFETY: the source is a `T` that is borrowed.
    unsafe {
        UserBytes::new(address, size_of::<T>()).write_raw(core::ptr::from_ref(value).cast(), size_of::<T>())
    }
}

/// Reads a value by `copy`, which gets its place in the app and its bytes, and may fill them in parts.
///
/// It cannot be misused: the bytes are zeros at first, and every pattern of them is a `T` ([`UserAbi`]).
#[inline]
pub fn read_value_with<T: UserAbi, E>(
    address: u64,
    copy: impl FnOnce(UserBytes<'static>, &mut [u8]) -> Result<(), E>,
) -> Result<T, E> {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: so many bytes are the value's own, zeroed, and borrowed for no longer than the call.
    let bytes = unsafe { core::slice::from_raw_parts_mut(value.as_mut_ptr().cast(), size_of::<T>()) };
    copy(UserBytes::new(address, size_of::<T>()), bytes)?;
    // SAFETY: all bytes are initialised, and `UserAbi` makes every pattern valid.
    Ok(unsafe { value.assume_init() })
}

/// Writes a value by `copy`, which gets its place in the app and its bytes.
#[inline]
pub fn write_value_with<T: NoPadding, E>(
    address: u64,
    value: &T,
    copy: impl FnOnce(UserBytes<'static>, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    // SAFETY: so many bytes are the value's, which is borrowed, and all of them are of fields (`NoPadding`).
    let bytes = unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) };
    copy(UserBytes::new(address, size_of::<T>()), bytes)
}

/// Makes a word of the app's `new` if it is `expected`, in one step for all threads of the app. Answers what it was.
///
/// # Errors
///
/// See [`CopyError`].
#[inline]
pub fn compare_exchange(address: u64, expected: u32, new: u32) -> Result<u32, CopyError> {
    if !is_user(address, size_of::<u32>()) {
        return Err(CopyError::OutOfRange);
    }
    // SAFETY: the word is in the app's half by the check above, where nothing of the kernel's is.
    unsafe { user_copy::compare_exchange(address, expected, new) }.ok_or(CopyError::Faulted)
}
