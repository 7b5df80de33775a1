//! The buffers that a call names: one, or an array of `iovec`.

use smallvec::SmallVec;

use crate::abi::Errno;
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice};

/// One call moves so many bytes at most (Linux: `MAX_RW_COUNT`).
pub(crate) const MAX_TRANSFER_BYTES: usize = 0x7fff_f000;
/// Buffers in one call at most (`UIO_MAXIOV`).
const MAX_BUFFERS: usize = 1024;

/// An `iovec` as two words: the address, the length.
pub(crate) type RawBuffer = [u64; 2];

/// The buffers of a vectored call.
pub(crate) type Buffers = SmallVec<[UserSlice<'static>; 8]>;

/// A buffer of the app's. That all of it could be the app's is checked before anything is moved; that it
/// is, as it is moved.
pub(crate) fn buffer(address: u64, len: usize) -> Result<UserSlice<'static>, Errno> {
    Ok(UserSlice::checked(address, len)?.truncate(MAX_TRANSFER_BYTES))
}

/// Reads an array of `iovec`. All together are cut to what one call moves.
pub(crate) fn read_buffers(array: UserPtr<RawBuffer>, count: usize) -> Result<Buffers, Errno> {
    // The kernel's own count is an `unsigned int`.
    let count = count as u32 as usize;
    if count > MAX_BUFFERS {
        return Err(Errno::EINVAL);
    }
    let mut left = MAX_TRANSFER_BYTES;
    let mut buffers = Buffers::new();
    if count > buffers.inline_size() {
        room::ask()?;
        buffers.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    }
    for index in 0..count {
        let [address, len] = array.element(index).read()?;
        if len > isize::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let buffer = UserSlice::checked(address, len as usize)?.truncate(left);
        left -= buffer.len();
        buffers.push(buffer);
    }
    Ok(buffers)
}
