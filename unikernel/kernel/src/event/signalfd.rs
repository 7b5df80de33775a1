//! signalfd(2): signals that are read instead of handled. They must be blocked, as the manual says.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::fmt::Write;
use core::ops::Bound;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Errno, SysResult};
use crate::file::{File, Metadata, PollSource, Readiness, WaitMode};
use crate::mem::user::UserSlice;
use crate::process::signal;
use crate::sync::SpinLock;
use crate::task::signal::{SignalInfo, SignalSet, UNBLOCKABLE, set_of};

/// Bytes of a `struct signalfd_siginfo`.
const RECORD_BYTES: usize = 128;

/// Every one that is open, by its number, to be told of new signals.
static ALL: SpinLock<BTreeMap<u64, Weak<SignalFd>>> = SpinLock::new(BTreeMap::new());

/// Where the signals of a set are read.
pub(crate) struct SignalFd {
    number: u64,
    set: AtomicU64,
    source: PollSource,
}

impl SignalFd {
    /// Makes one for a set.
    pub(crate) fn new(set: SignalSet) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let set = AtomicU64::new(set & !UNBLOCKABLE);
        let file = Arc::new(Self { number, set, source: PollSource::new() });
        ALL.lock().insert(number, Arc::downgrade(&file));
        file
    }

    /// Changes the set.
    pub(crate) fn set(&self, set: SignalSet) {
        self.set.store(set & !UNBLOCKABLE, Ordering::Relaxed);
        self.source.notify(self.readiness());
    }

    fn wanted(&self) -> SignalSet {
        self.set.load(Ordering::Relaxed)
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        let removed = ALL.lock().remove(&self.number);
        drop(removed);
    }
}

/// The first one behind a place in [`ALL`]. Not to be dropped under the lock, which its end takes.
fn first_behind(place: Bound<u64>) -> Option<Arc<SignalFd>> {
    let all = ALL.lock();
    all.range((place, Bound::Unbounded)).find_map(|(_, file)| file.upgrade())
}

/// A signal became pending.
pub(crate) fn notify(signal: u32) {
    let mut place = Bound::Unbounded;
    while let Some(file) = first_behind(place) {
        if file.wanted() & set_of(signal) != 0 {
            file.source.notify(Readiness::READABLE);
        }
        place = Bound::Excluded(file.number);
    }
}

/// A `struct signalfd_siginfo`: number, errno, code, sender and its user, descriptor, timer, ...
fn encode(info: &SignalInfo) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let mut put = |at: usize, word: u32| record[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    put(0, info.signal);
    put(8, info.code as u32);
    if info.code == linux_raw_sys::general::SI_TIMER {
        put(24, info.detail as u32);
        put(32, (info.detail >> 32) as u32);
    } else {
        put(12, info.detail as u32);
        put(16, (info.detail >> 32) as u32);
    }
    put(44, info.value as u32);
    record[48..56].copy_from_slice(&info.value.to_ne_bytes());
    record
}

impl File for SignalFd {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        if into.len() < RECORD_BYTES {
            return Err(Errno::EINVAL);
        }
        let take = || signal::take(self.wanted()).ok_or(Errno::EAGAIN);
        let first = self.source.block_on(mode, None, take)?;
        into.write(&encode(&first))?;
        let mut done = RECORD_BYTES;
        while into.len() - done >= RECORD_BYTES {
            let Some(next) = signal::take(self.wanted()) else { break };
            into.skip(done).write(&encode(&next))?;
            done += RECORD_BYTES;
        }
        Ok(done)
    }

    fn readiness(&self) -> Readiness {
        if signal::pending_set() & self.wanted() != 0 { Readiness::READABLE } else { Readiness::empty() }
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.source)
    }

    fn metadata(&self) -> Metadata {
        Metadata::anonymous(0, 0)
    }

    fn describe(&self, text: &mut alloc::string::String) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "sigmask:\t{:016x}", self.wanted());
    }

    fn name(&self) -> alloc::string::String {
        "anon_inode:[signalfd]".into()
    }
}
