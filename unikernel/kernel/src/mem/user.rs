//! The only way to touch the app's memory. A pointer from the app is untrusted: it is a
//! plain number until an accessor here has checked its range, and the access itself survives a
//! fault (it answers [`Fault`], which becomes `EFAULT`).
//!
//! A page that is not in memory is waited for, so `read` and `write` may sleep: they are not for who holds a spin
//! lock or has announced to sleep, as the condition of a wait has. `try_read` and `try_write` are; they answer
//! [`Missing`], which no error number is made of.
//!
//! - [`UserPtr<T>`]: one value of a plain ABI type;
//! - [`UserSlice`]: a run of bytes, with cheap sub-slicing.

use core::marker::PhantomData;
use core::mem::{MaybeUninit, size_of};

use super::fault::{Missing, paging_in};
use crate::arch::user_copy;
use crate::kmem::layout::USER_END;
use crate::task::scheduler::assert_may_sleep;

/// The app named memory that it may not use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// Types which cross the boundary as bytes.
///
/// # Safety
///
/// Every bit pattern of the type must be valid (integers, arrays and structs of such).
pub unsafe trait UserAbi: Sized {
    /// The all-zero value; start from it so that padding never carries kernel bytes out.
    fn zeroed() -> Self {
        // SAFETY: the implementer promises that every bit pattern is valid, zero included.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}

/// Marks ABI types as plain: `user_abi!(timespec, iovec)`.
#[macro_export]
macro_rules! user_abi {
    ($($ty:ty),* $(,)?) => {
        // SAFETY: each type named consists of integers (and raw pointers, which carry no
        // invariant), so every bit pattern is valid; the author of the line checked that.
        $(unsafe impl $crate::mem::user::UserAbi for $ty {})*
    };
}

user_abi!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

// SAFETY: an array of values for which every bit pattern is valid is valid in every pattern too.
unsafe impl<T: UserAbi, const N: usize> UserAbi for [T; N] {}

/// True if `[address, address + len)` lies where an app may have memory at all.
#[inline]
fn range_is_user(address: u64, len: usize) -> bool {
    let Some(end) = address.checked_add(len as u64) else { return false };
    end <= USER_END
}

/// An alleged pointer to one `T` in the app's memory.
pub struct UserPtr<T>(u64, PhantomData<fn() -> T>);

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserPtr<T> {}

impl<T> UserPtr<T> {
    /// Takes an address at the app's word.
    pub const fn new(address: u64) -> Self {
        Self(address, PhantomData)
    }

    /// The alleged address.
    pub const fn address(self) -> u64 {
        self.0
    }

    /// True for the null pointer, which many calls take as "absent".
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// `None` for the null pointer.
    pub fn non_null(self) -> Option<Self> {
        (!self.is_null()).then_some(self)
    }

    /// The pointer to element `index` of an array that starts here.
    #[must_use]
    pub const fn element(self, index: usize) -> Self {
        Self::new(self.0.wrapping_add((index as u64).wrapping_mul(size_of::<T>() as u64)))
    }

    /// The same address as a pointer to another type.
    pub const fn cast<U>(self) -> UserPtr<U> {
        UserPtr::new(self.0)
    }
}

impl<T: UserAbi> UserPtr<T> {
    fn slice(self) -> UserSlice {
        UserSlice::new(self.0, size_of::<T>())
    }

    /// Reads the value. May sleep.
    #[inline]
    pub fn read(self) -> Result<T, Fault> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the destination is our own `T`.
        unsafe { self.slice().read_raw(value.as_mut_ptr().cast(), size_of::<T>()) }?;
        // SAFETY: all bytes were written, and `UserAbi` makes every pattern valid.
        Ok(unsafe { value.assume_init() })
    }

    /// Reads the value if it is in memory.
    #[inline]
    pub fn try_read(self) -> Result<T, Missing> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the destination is our own `T`.
        unsafe { self.slice().try_read_raw(value.as_mut_ptr().cast(), size_of::<T>()) }?;
        // SAFETY: all bytes were written, and `UserAbi` makes every pattern valid.
        Ok(unsafe { value.assume_init() })
    }

    /// Writes the value. May sleep.
    #[inline]
    pub fn write(self, value: T) -> Result<(), Fault> {
        // SAFETY: the source is our own `T`, whose padding is the caller's (`zeroed`).
        unsafe { self.slice().write_raw((&raw const value).cast(), size_of::<T>()) }
    }

    /// Writes the value if its place is in memory.
    #[inline]
    pub fn try_write(self, value: T) -> Result<(), Missing> {
        // SAFETY: as above.
        unsafe { self.slice().try_write_raw((&raw const value).cast(), size_of::<T>()) }
    }
}

impl UserPtr<u32> {
    /// Makes the word `new` if it is `expected`, in one step for all threads of the app, if it is in memory. Answers
    /// what it was.
    pub fn try_compare_exchange(self, expected: u32, new: u32) -> Result<u32, Missing> {
        if !self.slice().is_allowed(size_of::<u32>()) {
            return Err(Missing::FAULT);
        }
        // SAFETY: the range is the app's by the check above.
        unsafe { user_copy::compare_exchange(self.0, expected, new) }.ok_or_else(Missing::noted)
    }

    /// Changes the word to what `change` makes of it, in one step for all threads of the app. Answers
    /// what it was; `None` from `change` leaves it alone. May sleep.
    pub fn update(self, mut change: impl FnMut(u32) -> Option<u32>) -> Result<u32, Fault> {
        let mut current = self.read()?;
        while let Some(new) = change(current) {
            let found = paging_in(|| {
                // SAFETY: `read` has checked that the range is the app's.
                unsafe { user_copy::compare_exchange(self.0, current, new) }.ok_or_else(Missing::noted)
            })?;
            if found == current {
                break;
            }
            current = found;
        }
        Ok(current)
    }
}

/// An alleged run of bytes in the app's memory; or a buffer of the kernel's, where it calls a file
/// on the app's behalf ([`UserSlice::of_kernel`]).
#[derive(Clone, Copy, Debug)]
pub struct UserSlice {
    address: u64,
    len: usize,
    is_kernel: bool,
}

impl UserSlice {
    /// Takes a range at the app's word; the accessors check it.
    pub const fn new(address: u64, len: usize) -> Self {
        Self { address, len, is_kernel: false }
    }

    /// Takes a range that could be the app's as a whole (Linux: `access_ok`), so that what cannot be is
    /// refused before anything happens.
    pub fn checked(address: u64, len: usize) -> Result<Self, Fault> {
        let end = address.checked_add(len as u64).ok_or(Fault)?;
        if end <= USER_END { Ok(Self::new(address, len)) } else { Err(Fault) }
    }

    /// The part up to the end of the page in which it begins: what lies behind may not be there.
    #[must_use]
    pub fn within_page(self) -> Self {
        self.truncate(4096 - (self.address as usize & 4095))
    }

    /// Names a buffer of the kernel's.
    ///
    /// # Safety
    ///
    /// The result and its copies must not be used after the buffer's life, and nobody else may use the
    /// buffer meanwhile.
    pub unsafe fn of_kernel(buffer: &mut [u8]) -> Self {
        Self { address: buffer.as_mut_ptr().expose_provenance() as u64, len: buffer.len(), is_kernel: true }
    }

    /// True if `[address, address + len)` may be touched.
    #[inline]
    fn is_allowed(&self, len: usize) -> bool {
        len <= self.len && (self.is_kernel || range_is_user(self.address, len))
    }

    /// The alleged address of the first byte.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if no bytes are named.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rest after the first `count` bytes (empty if there are fewer).
    #[must_use]
    pub fn skip(self, count: usize) -> Self {
        let count = count.min(self.len);
        Self { address: self.address.wrapping_add(count as u64), len: self.len - count, ..self }
    }

    /// At most the first `count` bytes.
    #[must_use]
    pub fn truncate(self, count: usize) -> Self {
        Self { len: self.len.min(count), ..self }
    }

    /// Fills `buffer` from the start of the range; the range must be at least as long. May sleep.
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: the destination is an exclusive kernel slice of that length.
        unsafe { self.read_raw(buffer.as_mut_ptr(), buffer.len()) }
    }

    /// The same if all of it is in memory.
    #[inline]
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<(), Missing> {
        // SAFETY: as above.
        unsafe { self.try_read_raw(buffer.as_mut_ptr(), buffer.len()) }
    }

    /// Fills `len` bytes at `buffer` from the start of the range, for memory that others may change
    /// meanwhile. May sleep.
    ///
    /// # Safety
    ///
    /// `buffer` must be valid kernel memory for writes of `len` bytes.
    #[inline]
    pub unsafe fn read_raw(&self, buffer: *mut u8, len: usize) -> Result<(), Fault> {
        assert_may_sleep();
        // SAFETY: valid by the caller.
        if unsafe { self.try_read_raw(buffer, len) }.is_ok() {
            return Ok(());
        }
        self.page_by_page(len, |part, at| {
            // SAFETY: the part lies in the caller's buffer.
            unsafe { part.try_read_raw(buffer.add(at), part.len) }
        })
    }

    /// See [`Self::read_raw`] and [`Self::try_read`].
    #[inline]
    unsafe fn try_read_raw(&self, buffer: *mut u8, len: usize) -> Result<(), Missing> {
        if !self.is_allowed(len) {
            return Err(Missing::FAULT);
        }
        if self.is_kernel {
            // SAFETY: `of_kernel`'s caller answers for the source, ours for the destination.
            unsafe { buffer.copy_from(core::ptr::with_exposed_provenance(self.address as usize), len) };
            return Ok(());
        }
        // SAFETY: the source range is the app's by the check above and the copy survives a fault in
        // it; the destination is valid by the caller.
        let left = unsafe { user_copy::from_user(buffer, self.address, len) };
        if left == 0 { Ok(()) } else { Err(Missing::noted()) }
    }

    /// Writes `len` bytes from `bytes` to the start of the range; see [`Self::read_raw`]. May sleep.
    ///
    /// # Safety
    ///
    /// `bytes` must be valid kernel memory for reads of `len` bytes.
    #[inline]
    pub unsafe fn write_raw(&self, bytes: *const u8, len: usize) -> Result<(), Fault> {
        assert_may_sleep();
        // SAFETY: valid by the caller.
        if unsafe { self.try_write_raw(bytes, len) }.is_ok() {
            return Ok(());
        }
        self.page_by_page(len, |part, at| {
            // SAFETY: the part lies in the caller's bytes.
            unsafe { part.try_write_raw(bytes.add(at), part.len) }
        })
    }

    /// See [`Self::write_raw`] and [`Self::try_write`].
    #[inline]
    unsafe fn try_write_raw(&self, bytes: *const u8, len: usize) -> Result<(), Missing> {
        if !self.is_allowed(len) {
            return Err(Missing::FAULT);
        }
        if self.is_kernel {
            let destination = core::ptr::with_exposed_provenance_mut::<u8>(self.address as usize);
            // SAFETY: `of_kernel`'s caller answers for the destination, ours for the source.
            unsafe { destination.copy_from(bytes, len) };
            return Ok(());
        }
        // SAFETY: the destination range is the app's by the check above and the copy survives a fault
        // in it; the source is valid by the caller.
        let left = unsafe { user_copy::to_user(self.address, bytes, len) };
        if left == 0 { Ok(()) } else { Err(Missing::noted()) }
    }

    /// Writes `bytes` to the start of the range; the range must be at least as long. May sleep.
    #[inline]
    pub fn write(&self, bytes: &[u8]) -> Result<(), Fault> {
        // SAFETY: the source is a kernel slice of that length.
        unsafe { self.write_raw(bytes.as_ptr(), bytes.len()) }
    }

    /// The same if all of the range is in memory.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> Result<(), Missing> {
        // SAFETY: as above.
        unsafe { self.try_write_raw(bytes.as_ptr(), bytes.len()) }
    }

    /// Makes a copy of `len` bytes that failed as a whole a page at a time, waiting for each: so it comes to its end
    /// however little memory there is. `copy` gets a part and how far in the range that lies.
    #[cold]
    fn page_by_page(
        &self,
        len: usize,
        mut copy: impl FnMut(Self, usize) -> Result<(), Missing>,
    ) -> Result<(), Fault> {
        if len > self.len {
            return Err(Fault);
        }
        let mut done = 0;
        while done < len {
            let part = self.skip(done).truncate(len - done).within_page();
            paging_in(|| copy(part, done))?;
            done += part.len;
        }
        Ok(())
    }
}

/// Reads a NUL-terminated string of at most `max_len` bytes (without the NUL).
///
/// Answers `Ok(None)` when no NUL came within `max_len` bytes.
pub fn read_c_string(pointer: UserPtr<u8>, max_len: usize) -> Result<Option<alloc::vec::Vec<u8>>, Fault> {
    let mut bytes = alloc::vec::Vec::new();
    let mut address = pointer.address();
    while bytes.len() <= max_len {
        // Never past the end of a page in one step: the next page may not be the app's.
        let in_page = 4096 - (address as usize & 4095);
        let mut chunk = [0u8; 64];
        let chunk = &mut chunk[..in_page.min(64)];
        UserSlice::new(address, chunk.len()).read(chunk)?;
        if let Some(end) = chunk.iter().position(|&byte| byte == 0) {
            bytes.extend_from_slice(&chunk[..end]);
            return Ok((bytes.len() <= max_len).then_some(bytes));
        }
        bytes.extend_from_slice(chunk);
        address += chunk.len() as u64;
    }
    Ok(None)
}
