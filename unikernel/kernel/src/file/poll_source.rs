//! How a file tells that its readiness changed: to threads asleep in a blocking call, and to
//! epoll instances and `poll` calls, which keep a [`Watch`] on it each.
//!
//! The cost of an event is the number of watches that want it, usually one: the watch goes onto
//! its owner's ready list, unless it is there already, and a thread that waits there is woken.
//! Nothing is allocated: a ready list has room for all its watches.
//!
//! Lock order: an owner's interest table, then a source's watches, then a ready list, then the
//! wait queues. A file may notify with its own lock held, and is never asked for its readiness
//! with one of these locks held but the interest table's.

use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use arrayvec::ArrayVec;
use linux_raw_sys::general::{EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT};
use smallvec::SmallVec;
use unikernel_sched::ready::{Mark, ReadyQueue, Watching};

use super::attempt::{AttemptError, complete};
use super::ready_list::ReadyList;
use super::{File, Readiness, WaitMode};
use crate::abi::Errno;
use crate::kmem::room::{self, OutOfMemory};
use crate::mem::fault::Pins;
use crate::platform::events::{self, Kind};
use crate::sync::SpinLock;
use crate::task::wait::WaitError;
use crate::task::{WaitQueue, scheduler};

/// Bits of a watch that are not events.
const INPUT_BITS: u32 = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE;

/// Where a file's waiters gather. One per file that can block.
#[derive(Default)]
pub(crate) struct PollSource {
    pub(super) threads: WaitQueue,
    watches: SpinLock<SmallVec<[Arc<Watch>; 1]>>,
    /// How many watches there are. Changed with their lock held.
    watched: AtomicUsize,
}

/// How a sleep ended that may have had a deadline, for calls whose time-out reads as "try again". With a deadline a
/// signal ends the call for good, as its time-out would begin anew (Linux: `sock_intr_errno`).
const fn errno_of_wait(error: WaitError, deadline_ns: Option<u64>) -> Errno {
    match (error, deadline_ns) {
        (WaitError::Interrupted, None) => Errno::RESTART,
        (WaitError::Interrupted, Some(_)) => Errno::EINTR,
        (WaitError::TimedOut, _) => Errno::EAGAIN,
    }
}

impl PollSource {
    /// Makes a source that nobody waits for.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Tells everybody that the file is now ready for `news`. Call it after the change is visible
    /// to [`File::readiness`]. Bits that are not news may be left out, but edge-triggered watches
    /// depend on each arrival of data being told, even if there was data before.
    #[inline]
    pub(crate) fn notify(&self, news: Readiness) {
        self.threads.wake_all();
        if !self.is_unwatched() {
            self.notify_each(news);
        }
    }

    #[inline]
    fn notify_each(&self, news: Readiness) {
        let mut has_exclusive_woken = false;
        for watch in self.watches.lock().iter() {
            let is_exclusive = watch.bits.load(Ordering::Relaxed) & EPOLLEXCLUSIVE != 0;
            if !(is_exclusive && has_exclusive_woken) {
                has_exclusive_woken |= Watch::notify(watch, news) && is_exclusive;
            }
        }
    }

    /// Runs `attempt` until it answers something else than `EAGAIN`; sleeps in between until the
    /// next notification, if `mode` allows that. A signal ends it with [`Errno::RESTART`], or with a deadline `EINTR`; the
    /// deadline with `EAGAIN`. Pages that an attempt misses are waited for, whatever the mode.
    pub(crate) fn block_on<T, E: Into<AttemptError>>(
        &self,
        mode: WaitMode,
        deadline_ns: Option<u64>,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, Errno> {
        let first = complete(&mut attempt);
        if mode == WaitMode::NonBlocking || !matches!(first, Err(Errno::EAGAIN)) {
            return first;
        }
        self.sleep_on(deadline_ns, attempt)
    }

    /// The rest of [`Self::block_on`], out of the way of attempts that succeed at once.
    #[inline(never)]
    fn sleep_on<T, E: Into<AttemptError>>(
        &self,
        deadline_ns: Option<u64>,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, Errno> {
        let mut pins = Pins::default();
        loop {
            let awaited = self.wait(deadline_ns, || match attempt().map_err(Into::into) {
                Err(AttemptError::Again) => None,
                Err(AttemptError::Errno(error)) => Some(Err(error)),
                Err(AttemptError::Missing(missing)) => Some(Ok(Err(missing))),
                Ok(value) => Some(Ok(Ok(value))),
            });
            match awaited.map_err(|error| errno_of_wait(error, deadline_ns))?? {
                Ok(value) => return Ok(value),
                Err(missing) => pins.page_in(missing)?,
            }
        }
    }

    /// Sleeps until `condition` answers `Some`, looking after each notification.
    pub(crate) fn wait<T>(
        &self,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        self.threads.wait_until(deadline_ns, condition)
    }

    /// Adds a watch. The caller looks at the file after that: what changed before is told to nobody.
    pub(crate) fn attach(&self, watch: Arc<Watch>) -> Result<(), OutOfMemory> {
        room::ask_locked()?;
        self.change(|watches| {
            watches.try_reserve(1).map_err(|_| OutOfMemory)?;
            watch.place.store(watches.len(), Ordering::Relaxed);
            watches.push(watch);
            Ok(())
        })?;
        // Pairs with the fence that waking begins with: the caller's look sees a change, or `notify` sees the watch.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Takes a watch back, however many there are: each knows its place.
    pub(crate) fn detach(&self, watch: &Arc<Watch>) {
        self.change(|watches| {
            let place = watch.place.load(Ordering::Relaxed);
            if watches.get(place).is_some_and(|attached| Arc::ptr_eq(attached, watch)) {
                // The caller has another reference.
                take_out(watches, place);
            }
        });
    }

    fn change<R>(&self, change: impl FnOnce(&mut SmallVec<[Arc<Watch>; 1]>) -> R) -> R {
        let mut watches = self.watches.lock();
        let outcome = change(&mut watches);
        self.watched.store(watches.len(), Ordering::Relaxed);
        outcome
    }

    /// Ends the watches on an open file that is being closed, which so become no more. The file may have others.
    pub(super) fn end_watches_on(&self, open_file: usize) {
        /// Watches that are looked at with one lock: what takes some microseconds.
        const STEP: usize = 64;
        // Downwards: where one is taken out, the last takes its place, which has been looked at or is new.
        let mut top = usize::MAX;
        loop {
            let mut ended = ArrayVec::<Arc<Watch>, STEP>::new();
            self.change(|watches| {
                top = top.min(watches.len());
                for place in (top.saturating_sub(STEP)..top).rev() {
                    if watches[place].key.1 == open_file {
                        ended.push(take_out(watches, place));
                    }
                }
                top = top.saturating_sub(STEP);
            });
            for watch in ended {
                if let Some(owner) = watch.owner.as_ref().and_then(Weak::upgrade) {
                    owner.forget(&watch);
                }
            }
            if top == 0 {
                return;
            }
            scheduler::breathe();
        }
    }
}

/// Takes the watch at a place out; the last takes its place.
fn take_out(watches: &mut SmallVec<[Arc<Watch>; 1]>, place: usize) -> Arc<Watch> {
    let watch = watches.swap_remove(place);
    if let Some(moved) = watches.get(place) {
        moved.place.store(place, Ordering::Relaxed);
    }
    watch
}

impl PollSource {
    /// True if no epoll instance or `poll` call watches.
    pub(crate) fn is_unwatched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) == 0
    }

    /// The watches that have an owner: few, if the file is an epoll instance itself.
    pub(crate) fn owned_watches(&self) -> SmallVec<[Arc<Watch>; 4]> {
        let is_owned =
            |watch: &&Arc<Watch>| watch.owner.as_ref().is_some_and(|owner| owner.strong_count() > 0);
        self.watches.lock().iter().filter(is_owned).cloned().collect()
    }

    /// As [`Self::notify`], for a source whose threads share the work.
    #[inline]
    pub(super) fn notify_one(&self, news: Readiness) {
        self.threads.wake_one();
        self.notify_watches(news);
    }

    /// Tells the watches alone.
    ///
    /// Called while the watches of the file that has changed are held. An epoll instance may watch
    /// another, but never in a circle (`event::epoll_nesting`).
    #[inline]
    fn notify_watches(&self, news: Readiness) {
        if !self.is_unwatched() {
            self.notify_nested(news);
        }
    }

    fn notify_nested(&self, news: Readiness) {
        for watch in self.watches.lock_nested().iter() {
            Watch::notify(watch, news);
        }
    }
}

/// How an owner tells its watches apart: by descriptor (or index) and open file. Linux needs both,
/// as a number can be reused while the old file lives on under another number.
pub(crate) type WatchKey = (i32, usize);

/// Who keeps watches for longer than a call: an epoll instance.
pub(crate) trait WatchOwner: Any + Send + Sync {
    /// The file of one of its watches has been closed.
    fn forget(&self, watch: &Arc<Watch>);
}

/// [`Watch::nested_height`] of a watch that is not on an epoll instance.
pub(crate) const NOT_COUNTED: usize = usize::MAX;

/// One owner's interest in one file.
pub(crate) struct Watch {
    /// The file, which the watch does not keep open, but in memory.
    pub(crate) file: Arc<dyn File>,
    /// What the owner knows it by.
    pub(crate) key: WatchKey,
    /// The app's word, handed back with each event.
    pub(crate) data: AtomicU64,
    /// The wanted events and `EPOLLET`, `EPOLLONESHOT`, `EPOLLEXCLUSIVE`; 0 while a one-shot watch
    /// is spent, and after its removal.
    pub(crate) bits: AtomicU32,
    /// Who is told when the file is closed; nobody for calls that wait for many files.
    pub(crate) owner: Option<Weak<dyn WatchOwner>>,
    /// The height that its instance counts it for, if it is on another instance (`event::epoll_nesting`).
    pub(crate) nested_height: AtomicUsize,
    mark: Mark,
    ready: Arc<ReadyList>,
    /// Where it is among those of its file's source; changed under that one's lock only.
    place: AtomicUsize,
}

impl Watching for Watch {
    #[inline]
    fn mark(&self) -> &Mark {
        &self.mark
    }
}

impl Watch {
    /// A watch of `owner`, or of a call, for the events of `bits`; news put it on `ready`.
    pub(crate) fn new(
        file: Arc<dyn File>,
        key: WatchKey,
        (bits, data): (u32, u64),
        ready: Arc<ReadyList>,
        owner: Option<Weak<dyn WatchOwner>>,
    ) -> Arc<Self> {
        let (bits, data) = (AtomicU32::new(bits), AtomicU64::new(data));
        let (mark, place) = (Mark::new(), AtomicUsize::new(0));
        let nested_height = AtomicUsize::new(NOT_COUNTED);
        Arc::new(Self { file, key, data, bits, owner, nested_height, mark, ready, place })
    }

    /// From here on news put it on the list again. The caller has taken it off, and looks at the file next.
    #[inline]
    pub(crate) fn begin_look(&self) {
        self.mark.begin_look();
    }

    /// Changes what is wanted.
    pub(crate) fn set_wanted(&self, wanted: Readiness) {
        self.bits.store(wanted.bits(), Ordering::Relaxed);
    }

    /// The events that this watch wants, of those in `ready`.
    #[inline]
    pub(crate) fn wanted(&self, ready: Readiness) -> u32 {
        ready.bits() & (self.bits.load(Ordering::Relaxed) & !INPUT_BITS)
    }

    /// The wanted events that there are.
    #[inline]
    pub(crate) fn found(&self) -> u32 {
        let wanted = Readiness::from_bits_truncate(self.wanted(Readiness::all()));
        self.wanted(self.file.readiness_for(wanted))
    }

    /// Something has happened to the file: queues the watch if it wants the news. True if a thread may have been
    /// woken for it.
    #[inline]
    pub(crate) fn notify(this: &Arc<Self>, news: Readiness) -> bool {
        if this.wanted(news) == 0 {
            return false;
        }
        let is_new = this.ready.push(this);
        if is_new {
            events::note(Kind::EpollReady, news.bits(), this.key.0 as u64, 0);
            this.ready.wake();
        } else {
            // Nothing is new for who asks the list what is on it. But who watches the list for edges has been told of
            // the last event, and waits for this one.
            this.ready.source.notify_watches(Readiness::READABLE);
        }
        is_new
    }

    /// Queues the watch if its file is ready now, because it is new itself or wants something else.
    pub(crate) fn look(this: &Arc<Self>) {
        if this.found() != 0 && this.ready.push(this) {
            this.ready.wake();
        }
    }
}
