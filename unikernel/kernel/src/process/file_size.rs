//! How large the app lets its files become (`RLIMIT_FSIZE`), and how it is told (`SIGXFSZ`).

use linux_raw_sys::general::{RLIMIT_FSIZE, SIGXFSZ};

use super::signal;
use crate::abi::Errno;
use crate::task::signal::SignalInfo;
use crate::task::{current, limits};

/// How many of `len` bytes can be written at `offset` of a file that can have `most` bytes at all. Who can write none is told, by a
/// signal if it is the app's own limit (setrlimit(2)).
pub(crate) fn room_in_file(offset: u64, len: usize, most: u64) -> Result<usize, Errno> {
    let limit = limits::soft(RLIMIT_FSIZE);
    let room = most.min(limit).saturating_sub(offset);
    if room > 0 || len == 0 {
        return Ok(usize::try_from(room).unwrap_or(usize::MAX).min(len));
    }
    if offset >= limit {
        signal::send(&current(), SignalInfo::from_kernel(SIGXFSZ));
    }
    Err(Errno::EFBIG)
}

/// Whether a file of `old` bytes may become one of `new`.
pub(crate) fn check_file_size(old: u64, new: u64, most: u64) -> Result<(), Errno> {
    if new <= old { Ok(()) } else { room_in_file(new - 1, 1, most).map(drop) }
}
