//! eventfd(2): a counter that one thread adds to and another takes. `mio` wakes itself with one.

use alloc::sync::Arc;
use core::fmt::Write;

use crate::abi::{Errno, SysResult};
use crate::file::{File, Metadata, PollSource, Readiness, WaitMode};
use crate::mem::user::{UserPtr, UserSlice};
use crate::sync::SpinLock;

/// Bytes of the counter, which is what `read` and `write` move.
const COUNTER_BYTES: usize = 8;
/// The highest count; one more would look like an overflow to the reader.
const MAX_COUNT: u64 = u64::MAX - 1;

/// How much a read takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Take {
    /// All of the count.
    All,
    /// One (`EFD_SEMAPHORE`).
    One,
}

/// A counter.
pub(crate) struct EventFd {
    count: SpinLock<u64>,
    take: Take,
    source: PollSource,
}

impl EventFd {
    /// Makes a counter.
    pub(crate) fn new(count: u64, take: Take) -> Arc<Self> {
        Arc::new(Self { count: SpinLock::new(count), take, source: PollSource::new() })
    }

    /// Adds one, unless the count is at its end; for the kernel's own news.
    pub(crate) fn signal(&self) {
        if self.try_add(1).is_ok() {
            self.source.notify(Readiness::READABLE);
        }
    }

    fn try_take(&self) -> Result<u64, Errno> {
        let mut count = self.count.lock();
        let taken = match self.take {
            Take::All => *count,
            Take::One => (*count).min(1),
        };
        *count -= taken;
        if taken == 0 { Err(Errno::EAGAIN) } else { Ok(taken) }
    }

    fn try_add(&self, value: u64) -> Result<(), Errno> {
        let mut count = self.count.lock();
        let sum = count.checked_add(value).filter(|&sum| sum <= MAX_COUNT).ok_or(Errno::EAGAIN)?;
        *count = sum;
        Ok(())
    }
}

impl File for EventFd {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        if into.len() < COUNTER_BYTES {
            return Err(Errno::EINVAL);
        }
        let taken = self.source.block_on(mode, None, || self.try_take())?;
        self.source.notify(Readiness::WRITABLE);
        UserPtr::new(into.address()).write(taken)?;
        Ok(COUNTER_BYTES)
    }

    fn write(&self, from: UserSlice, mode: WaitMode) -> SysResult {
        // Linux 6.10 and later take exactly a counter.
        if from.len() != COUNTER_BYTES {
            return Err(Errno::EINVAL);
        }
        let value: u64 = UserPtr::new(from.address()).read()?;
        if value > MAX_COUNT {
            return Err(Errno::EINVAL);
        }
        self.source.block_on(mode, None, || self.try_add(value))?;
        self.source.notify(Readiness::READABLE);
        Ok(COUNTER_BYTES)
    }

    fn readiness(&self) -> Readiness {
        let count = *self.count.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::READABLE, count > 0);
        ready.set(Readiness::WRITABLE, count < MAX_COUNT);
        ready
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.source)
    }

    fn metadata(&self) -> Metadata {
        Metadata::anonymous(0, 0)
    }

    fn describe(&self, text: &mut alloc::string::String) {
        let count = *self.count.lock();
        let is_semaphore = u8::from(self.take == Take::One);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "eventfd-count: {count:16x}\neventfd-semaphore: {is_semaphore}");
    }

    fn name(&self) -> alloc::string::String {
        "anon_inode:[eventfd]".into()
    }
}
