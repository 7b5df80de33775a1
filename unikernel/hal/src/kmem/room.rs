//! Room for what the kernel makes on the app's behalf: pipes, sockets, threads, watches, requests.
//!
//! The rule: **before the kernel makes something for the app, it asks for room; what makes many asks for
//! each.** A system call is asked for at its entry, by default (`syscall::admission`); loops and tables that
//! grow ask where they do. Whoever has asked may allocate what one object takes, some ten kilobytes, and
//! need not think of failure: the rest of the kernel's reserve is there for that, and for what nobody asks
//! for (interrupts, the network, closing and freeing). Larger allocations say `try_reserve`
//! ([`heap`](super::heap) says from what size on).
//!
//! The app's memory ends at the reserve ([`frames::can_app_take`]), the kernel's objects for it at half of
//! that ([`frames::can_objects_take`]): so an app that has mapped all it can get may still open and close files.

use alloc::vec::Vec;

use spin::Once;

use super::frames;
use crate::arch::memory;

/// There is no room for another object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// Who makes room for so many pages where there is none, without sleeping.
static RECLAIM: Once<fn(usize)> = Once::new();

/// Sets who makes room where there is none.
pub fn set_reclaim(reclaim: fn(usize)) {
    RECLAIM.call_once(|| reclaim);
}

/// True if there is room for another object. One load of a counter, never waits, may be called with locks.
#[inline]
pub fn is_left() -> bool {
    is_left_for(0)
}

/// True if there is room for `bytes` in one piece, or as many objects as that takes.
#[inline]
pub fn is_left_for(bytes: usize) -> bool {
    frames::can_objects_take(bytes.div_ceil(super::PAGE_BYTES))
        && !frames::is_last_resort_short()
        && !memory::is_refused()
}

/// Asks for room for another object, and gives up caches for it. Call it without locks.
#[inline]
pub fn ask() -> Result<(), OutOfMemory> {
    if is_left() { Ok(()) } else { reclaim() }
}

#[cold]
fn reclaim() -> Result<(), OutOfMemory> {
    if let Some(reclaim) = RECLAIM.get() {
        reclaim(1);
    }
    if is_left() { Ok(()) } else { Err(OutOfMemory) }
}

/// The same where locks are held: caches stay as they are.
#[inline]
pub fn ask_locked() -> Result<(), OutOfMemory> {
    if is_left() { Ok(()) } else { Err(OutOfMemory) }
}

/// An empty vector that has room for `len`, for lengths that the app chooses.
pub fn with_capacity<T>(len: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut list = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    if bytes > super::PAGE_BYTES && !is_left_for(bytes) {
        return Err(OutOfMemory);
    }
    list.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
    Ok(list)
}

/// A vector of `len` times `value`, for lengths that the app chooses.
pub fn filled<T: Clone>(value: T, len: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut list = with_capacity(len)?;
    list.resize(len, value);
    Ok(list)
}

/// Adds to a list that the app makes as long as it likes.
pub fn push<T>(list: &mut Vec<T>, value: T) -> Result<(), OutOfMemory> {
    list.try_reserve(1).map_err(|_| OutOfMemory)?;
    list.push(value);
    Ok(())
}
