//! inotify(7): events on files and directories, read like a stream.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use linux_raw_sys::general::inotify_event;
use linux_raw_sys::ioctl::FIONREAD;

use crate::abi::{Errno, SysResult};
use crate::file::notify::{Event, Queue};
use crate::file::{AttemptError, File, Metadata, PollSource, Readiness, WaitMode, complete};

use crate::mem::user::{UserPtr, UserSlice};

/// Instances at once (`/proc/sys/fs/inotify/max_user_instances`).
pub(crate) const MAX_INSTANCES: usize = 128;
/// Bytes of an event before its name.
const HEADER_BYTES: usize = size_of::<inotify_event>();

static INSTANCES: AtomicUsize = AtomicUsize::new(0);

/// An instance.
pub(crate) struct Inotify {
    /// Its watches and events.
    pub queue: Arc<Queue>,
}

impl Inotify {
    /// Makes one, if there are not too many.
    pub(crate) fn new() -> Option<Arc<Self>> {
        if INSTANCES.fetch_add(1, Ordering::Relaxed) >= MAX_INSTANCES {
            INSTANCES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Arc::new(Self { queue: Arc::default() }))
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        INSTANCES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a name takes behind an event: with a NUL, and so many more that the next event is aligned.
fn padded(name_len: usize) -> usize {
    if name_len == 0 { 0 } else { (name_len + 1).next_multiple_of(HEADER_BYTES) }
}

/// Writes an event to the start of a buffer; answers its length.
fn put(event: &Event, into: UserSlice) -> Result<usize, AttemptError> {
    let name_bytes = padded(event.name.len());
    let len = HEADER_BYTES + name_bytes;
    if len > into.len() {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = [0; HEADER_BYTES + 256 + HEADER_BYTES];
    let words = [event.watch as u32, event.mask, event.cookie, name_bytes as u32];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes[HEADER_BYTES..][..event.name.len()].copy_from_slice(&event.name);
    into.try_write(&bytes[..len])?;
    Ok(len)
}

impl File for Inotify {
    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        let queue = &self.queue;
        let take = |into| queue.take_first(|event| put(event, into)).unwrap_or(Err(AttemptError::Again));
        let mut done = queue.source.block_on(mode, None, || take(into))?;
        // What does not fit, or cannot be written, waits for the next read.
        while let Ok(len) = complete(|| take(into.skip(done))) {
            done += len;
        }
        Ok(done)
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize =
            self.queue.with_name_lengths(|lengths| lengths.map(|len| HEADER_BYTES + padded(len)).sum());
        UserPtr::new(argument).write(i32::try_from(bytes).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn readiness(&self) -> Readiness {
        if self.queue.is_empty() { Readiness::empty() } else { Readiness::READABLE }
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.queue.source)
    }

    fn metadata(&self) -> Metadata {
        Metadata::anonymous(0, 0)
    }

    fn name(&self) -> alloc::string::String {
        "anon_inode:inotify".into()
    }
}
