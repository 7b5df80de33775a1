//! timerfd_create(2): a timer whose expirations are read as a count.

use alloc::sync::{Arc, Weak};

use unikernel_fs::Expirations;

use crate::abi::{Errno, SysResult};
use crate::file::{File, Metadata, PollSource, Readiness, WaitMode};
use crate::mem::user::{UserPtr, UserSlice};
use crate::platform::time;
use crate::process::clocks::{ClockBase, first_expiration};
use crate::sync::SpinLock;
use crate::task::timer::{self, Timer, TimerTarget};

/// Bytes of the count.
const COUNT_BYTES: usize = 8;

/// When a timer expires.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setting {
    /// The next expiration: for [`TimerFd::set`] on the clock that its base says, and for answers
    /// from now; 0 disarms.
    pub first_ns: u64,
    /// The time between expirations; 0 for only one.
    pub interval_ns: u64,
}

#[derive(Default)]
struct State {
    /// On the clock since boot.
    expirations: Expirations,
    timer: Option<Timer>,
}

/// A timer.
pub(crate) struct TimerFd {
    state: SpinLock<State>,
    source: PollSource,
    myself: Weak<Self>,
    /// Which clock absolute times are on.
    pub absolute_base: ClockBase,
}

impl TimerFd {
    /// Makes a disarmed timer.
    pub(crate) fn new(absolute_base: ClockBase) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            state: SpinLock::default(),
            source: PollSource::new(),
            myself: Weak::clone(myself),
            absolute_base,
        })
    }

    /// Arms or disarms; answers what was set before.
    pub(crate) fn set(&self, setting: Setting, base: ClockBase) -> Setting {
        let mut state = self.state.lock();
        let before = state.remaining();
        let first =
            (setting.first_ns != 0).then(|| first_expiration(setting.first_ns, setting.interval_ns, base));
        state.expirations.set(first.map(|(next_ns, _)| next_ns), setting.interval_ns);
        state.expirations.add_missed(first.map_or(0, |(_, missed)| missed));
        // What has passed since the clock began counts at once as well: a read may come before the timer's interrupt.
        state.expirations.advance(time::now_ns());
        let timer = self.start(&state);
        let old = core::mem::replace(&mut state.timer, timer);
        let has_count = state.expirations.count() > 0;
        drop(state);
        drop(old);
        if has_count {
            self.source.notify(Readiness::READABLE);
        }
        before
    }

    /// What is set.
    pub(crate) fn setting(&self) -> Setting {
        self.state.lock().remaining()
    }

    fn start(&self, state: &State) -> Option<Timer> {
        let myself = self.myself.upgrade()?;
        state.expirations.next_ns().map(|next_ns| timer::call_at(next_ns, myself))
    }

    fn take_count(&self) -> Result<u64, Errno> {
        self.state.lock().expirations.take().ok_or(Errno::EAGAIN)
    }
}

impl State {
    fn remaining(&self) -> Setting {
        let first_ns = self.expirations.remaining_ns(time::now_ns());
        Setting { first_ns, interval_ns: self.expirations.interval_ns() }
    }
}

impl TimerTarget for TimerFd {
    fn expired(&self) {
        let mut state = self.state.lock();
        state.expirations.advance(time::now_ns());
        let timer = self.start(&state);
        let old = core::mem::replace(&mut state.timer, timer);
        let has_count = state.expirations.count() > 0;
        drop(state);
        drop(old);
        if has_count {
            self.source.notify(Readiness::READABLE);
        }
    }
}

impl File for TimerFd {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        if into.len() < COUNT_BYTES {
            return Err(Errno::EINVAL);
        }
        let count = self.source.block_on(mode, None, || self.take_count())?;
        UserPtr::new(into.address()).write(count)?;
        Ok(COUNT_BYTES)
    }

    fn readiness(&self) -> Readiness {
        if self.state.lock().expirations.count() > 0 { Readiness::READABLE } else { Readiness::empty() }
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.source)
    }

    fn metadata(&self) -> Metadata {
        Metadata::anonymous(0, 0)
    }

    fn close(&self) {
        // The running timer holds a reference; without it the file can be freed.
        let timer = self.state.lock().timer.take();
        drop(timer);
    }

    fn name(&self) -> alloc::string::String {
        "anon_inode:[timerfd]".into()
    }
}
