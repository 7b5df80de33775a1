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
use core::mem::size_of;

use unikernel_hal::user::{self, CopyError, UserBytes};

pub(crate) use unikernel_hal::user::{NoPadding, UserAbi};

use super::fault::{Missing, paging_in};
use crate::kmem::layout::USER_END;
use crate::task::CurrentThread;
use crate::task::scheduler::assert_may_sleep;

/// The app named memory that it may not use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault;

/// What the caller has to wait for.
#[cold]
fn missing(error: CopyError) -> Missing {
    match error {
        CopyError::OutOfRange => Missing::FAULT,
        CopyError::Faulted => Missing::noted(),
    }
}

/// An alleged pointer to one `T` in the app's memory.
pub(crate) struct UserPtr<T>(u64, PhantomData<fn() -> T>);

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserPtr<T> {}

impl<T> UserPtr<T> {
    /// Takes an address at the app's word.
    pub(crate) const fn new(address: u64) -> Self {
        Self(address, PhantomData)
    }

    /// The alleged address.
    pub(crate) const fn address(self) -> u64 {
        self.0
    }

    /// True for the null pointer, which many calls take as "absent".
    pub(crate) const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// `None` for the null pointer.
    pub(crate) fn non_null(self) -> Option<Self> {
        (!self.is_null()).then_some(self)
    }

    /// The pointer to element `index` of an array that starts here.
    #[must_use]
    pub(crate) const fn element(self, index: usize) -> Self {
        Self::new(self.0.wrapping_add((index as u64).wrapping_mul(size_of::<T>() as u64)))
    }

    /// The pointer to a field that lies `offset` bytes behind the start.
    pub(crate) const fn field<U>(self, offset: usize) -> UserPtr<U> {
        UserPtr::new(self.0.wrapping_add(offset as u64))
    }

    /// The same address as a pointer to another type.
    pub(crate) const fn cast<U>(self) -> UserPtr<U> {
        UserPtr::new(self.0)
    }
}

impl<T: UserAbi> UserPtr<T> {
    /// Reads the value. May sleep.
    pub(crate) fn read(self) -> Result<T, Fault> {
        assert_may_sleep();
        user::read_value(self.0).or_else(|error| {
            user::read_value_with(self.0, |from, into| UserSlice(from).read_slowly(error, into))
        })
    }

    /// Reads the value if it is in memory.
    #[inline]
    pub(crate) fn try_read(self) -> Result<T, Missing> {
        user::read_value(self.0).map_err(missing)
    }
}

impl<T: NoPadding> UserPtr<T> {
    /// Writes the value. May sleep.
    pub(crate) fn write(self, value: T) -> Result<(), Fault> {
        assert_may_sleep();
        user::write_value(self.0, &value).or_else(|error| {
            user::write_value_with(self.0, &value, |into, from| UserSlice(into).write_slowly(error, from))
        })
    }

    /// Writes the value if its place is in memory.
    #[inline]
    pub(crate) fn try_write(self, value: T) -> Result<(), Missing> {
        user::write_value(self.0, &value).map_err(missing)
    }
}

impl UserPtr<u32> {
    /// Makes the word `new` if it is `expected`, in one step for all threads of the app, if it is in memory. Answers
    /// what it was.
    pub(crate) fn try_compare_exchange(self, expected: u32, new: u32) -> Result<u32, Missing> {
        user::compare_exchange(self.0, expected, new).map_err(missing)
    }

    /// Changes the word to what `change` makes of it, in one step for all threads of the app. Answers
    /// what it was; `None` from `change` leaves it alone. May sleep.
    pub(crate) fn update(self, mut change: impl FnMut(u32) -> Option<u32>) -> Result<u32, Fault> {
        let mut current = self.read()?;
        while let Some(new) = change(current) {
            let found = paging_in(|| self.try_compare_exchange(current, new))?;
            if found == current {
                break;
            }
            current = found;
        }
        Ok(current)
    }
}

/// An alleged run of bytes in the app's memory; or a buffer of the kernel's, where it calls a file
/// on the app's behalf ([`with_kernel_buffer`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserSlice<'a>(UserBytes<'a>);

/// Runs `work` with a buffer of the kernel's in the place of the app's memory.
#[inline]
pub(crate) fn with_kernel_buffer<R>(buffer: &mut [u8], work: impl FnOnce(UserSlice<'_>) -> R) -> R {
    user::with_kernel_buffer(buffer, |bytes| work(UserSlice(bytes)))
}

impl UserSlice<'static> {
    /// Takes a range at the app's word; the accessors check it.
    pub(crate) const fn new(address: u64, len: usize) -> Self {
        Self(UserBytes::new(address, len))
    }

    /// Takes a range that could be the app's as a whole (Linux: `access_ok`), so that what cannot be is
    /// refused before anything happens.
    pub(crate) fn checked(address: u64, len: usize) -> Result<Self, Fault> {
        let end = address.checked_add(len as u64).ok_or(Fault)?;
        if end <= USER_END { Ok(Self::new(address, len)) } else { Err(Fault) }
    }
}

impl UserSlice<'_> {
    /// The part up to the end of the page in which it begins: what lies behind may not be there.
    #[must_use]
    pub(crate) fn within_page(self) -> Self {
        self.truncate(4096 - (self.address() as usize & 4095))
    }

    /// The alleged address of the first byte.
    pub(crate) const fn address(&self) -> u64 {
        self.0.address()
    }

    /// Length in bytes.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// True if no bytes are named.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rest after the first `count` bytes (empty if there are fewer).
    #[must_use]
    pub(crate) fn skip(self, count: usize) -> Self {
        Self(self.0.skip(count))
    }

    /// At most the first `count` bytes.
    #[must_use]
    pub(crate) fn truncate(self, count: usize) -> Self {
        Self(self.0.truncate(count))
    }

    /// Fills `buffer` from the start of the range; the range must be at least as long. May sleep.
    #[inline]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<(), Fault> {
        assert_may_sleep();
        self.0.read(buffer).or_else(|error| self.read_slowly(error, buffer))
    }

    /// The rest of a read of any kind: one function for all of them.
    #[cold]
    #[inline(never)]
    fn read_slowly(&self, error: CopyError, buffer: &mut [u8]) -> Result<(), Fault> {
        self.page_by_page(error, buffer.len(), |part, at| part.read(&mut buffer[at..at + part.len()]))
    }

    /// The same of a write.
    #[cold]
    #[inline(never)]
    fn write_slowly(&self, error: CopyError, bytes: &[u8]) -> Result<(), Fault> {
        self.page_by_page(error, bytes.len(), |part, at| part.write(&bytes[at..at + part.len()]))
    }

    /// The same if all of it is in memory.
    #[inline]
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> Result<(), Missing> {
        self.0.read(buffer).map_err(missing)
    }

    /// Writes `bytes` to the start of the range; the range must be at least as long. May sleep.
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Fault> {
        assert_may_sleep();
        self.0.write(bytes).or_else(|error| {
            self.page_by_page(error, bytes.len(), |part, at| part.write(&bytes[at..at + part.len()]))
        })
    }

    /// The same if all of the range is in memory.
    #[inline]
    pub(crate) fn try_write(&self, bytes: &[u8]) -> Result<(), Missing> {
        self.0.write(bytes).map_err(missing)
    }

    /// Writes the vector state of the running thread to the start of the range, if all of it is in memory.
    pub(crate) fn try_write_vector_state(&self, me: &CurrentThread) -> Result<(), Missing> {
        me.copy_vector_state(self.0).map_err(missing)
    }

    /// Copies `len` bytes by `copy`, which gets a part of the range and how far in it that lies. All at first, and page by page if
    /// that fails. May sleep.
    #[inline]
    pub(super) fn copy_with(
        &self,
        len: usize,
        mut copy: impl FnMut(UserBytes<'_>, usize) -> Result<(), CopyError>,
    ) -> Result<(), Fault> {
        assert_may_sleep();
        copy(self.0, 0).or_else(|error| self.page_by_page(error, len, copy))
    }

    /// Makes a copy of `len` bytes that failed as a whole a page at a time, waiting for each: so it comes to its end
    /// however little memory there is. `copy` gets a part and how far in the range that lies.
    #[cold]
    fn page_by_page(
        &self,
        error: CopyError,
        len: usize,
        mut copy: impl FnMut(UserBytes<'_>, usize) -> Result<(), CopyError>,
    ) -> Result<(), Fault> {
        // The thread forgets what it has missed: the first page that is absent will say it again.
        drop(missing(error));
        if len > self.len() {
            return Err(Fault);
        }
        let mut done = 0;
        while done < len {
            let part = self.skip(done).truncate(len - done).within_page();
            paging_in(|| copy(part.0, done).map_err(missing))?;
            done += part.len();
        }
        Ok(())
    }
}

/// Reads a NUL-terminated string of at most `max_len` bytes (without the NUL).
///
/// Answers `Ok(None)` when no NUL came within `max_len` bytes.
pub(crate) fn read_c_string(
    pointer: UserPtr<u8>,
    max_len: usize,
) -> Result<Option<alloc::vec::Vec<u8>>, Fault> {
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
