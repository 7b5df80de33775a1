//! epoll(7): an instance holds a [`Watch`] on each file of interest. Watches whose files may be
//! ready stand on a ready list, and waiting looks at those only: idle connections cost nothing.
//!
//! Level-triggered watches go back to the end of the list after each report, as in Linux; the next
//! wait drops them if their files are no longer ready.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use linux_raw_sys::general::*;
use smallvec::SmallVec;
use unikernel_sched::ready::ReadyQueue;

use super::epoll_nesting::{self, Below};
use crate::abi::{Errno, SysResult};
use crate::file::poll_source::{PollSource, Watch, WatchKey, WatchOwner};
use crate::file::ready_list::{Batch, ReadyList};
use crate::file::{AttemptError, File, Metadata, OpenFile, Readiness, complete};
use crate::mem::fault::Missing;
use crate::mem::user::UserPtr;
use crate::net;
use crate::sync::SpinLock;
use crate::task::scheduler;
use crate::task::wait::WaitError;

/// Bits of a watch that stay when a one-shot watch is spent.
const PRIVATE_BITS: u32 = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
/// What may stand beside `EPOLLEXCLUSIVE` (epoll_ctl(2)).
const EXCLUSIVE_COMPANIONS: u32 =
    EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

/// Batches of watches that are looked at before others may run.
const BATCHES_IN_A_ROW: usize = 4;

/// One epoll instance.
pub(crate) struct Epoll {
    watches: SpinLock<HashMap<WatchKey, Arc<Watch>>>,
    ready: Arc<ReadyList>,
    /// How often a thread has begun to take watches off the ready list, to look at them.
    started: AtomicU64,
    /// How often it was done, and had given back what is still ready.
    finished: AtomicU64,
    /// The instances among what it watches.
    pub(super) below: Below,
    myself: Weak<Self>,
}

/// What is watched for: the events and flags, and the app's word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest {
    /// `EPOLLIN` and so on, `EPOLLET`, `EPOLLONESHOT`, `EPOLLEXCLUSIVE`.
    pub bits: u32,
    /// Handed back with each event.
    pub data: u64,
}

fn key_of(descriptor: i32, opened: &Arc<OpenFile>) -> WatchKey {
    (descriptor, Arc::as_ptr(opened).addr())
}

impl Epoll {
    /// Makes an instance that watches nothing.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            watches: SpinLock::default(),
            ready: Arc::default(),
            started: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            below: Below::default(),
            myself: Weak::clone(myself),
        })
    }

    /// `EPOLL_CTL_ADD`.
    pub(crate) fn add(
        &self,
        descriptor: i32,
        opened: &Arc<OpenFile>,
        interest: Interest,
    ) -> Result<(), Errno> {
        let source = opened.file.poll_source().ok_or(Errno::EPERM)?;
        let nested = opened.downcast::<Self>();
        if interest.bits & EPOLLEXCLUSIVE != 0
            && (nested.is_some() || interest.bits & !EXCLUSIVE_COMPANIONS != 0)
        {
            return Err(Errno::EINVAL);
        }
        let watch = match nested {
            None => self.attach(descriptor, opened, source, interest)?,
            Some(nested) if core::ptr::eq(self, nested) => return Err(Errno::EINVAL),
            Some(nested) => {
                epoll_nesting::nest(self, nested, || self.attach(descriptor, opened, source, interest))?
            }
        };
        Watch::look(&watch);
        Ok(())
    }

    fn attach(
        &self,
        descriptor: i32,
        opened: &Arc<OpenFile>,
        source: &PollSource,
        interest: Interest,
    ) -> Result<Arc<Watch>, Errno> {
        let mut watches = self.watches.lock();
        watches.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let count = watches.len() + 1;
        let hashbrown::hash_map::Entry::Vacant(entry) = watches.entry(key_of(descriptor, opened)) else {
            return Err(Errno::EEXIST);
        };
        let bits = interest.bits | EPOLLERR | EPOLLHUP;
        let watch = Watch::new(
            Arc::clone(&opened.file),
            key_of(descriptor, opened),
            (bits, interest.data),
            Arc::clone(&self.ready),
            Some(Weak::clone(&self.myself) as _),
        );
        self.ready.reserve(count)?;
        source.attach(Arc::clone(&watch))?;
        entry.insert(Arc::clone(&watch));
        Ok(watch)
    }

    /// The watches of other instances on this one.
    pub(super) fn watchers(&self) -> SmallVec<[Arc<Watch>; 4]> {
        self.ready.source.owned_watches()
    }

    /// `EPOLL_CTL_MOD`.
    pub(crate) fn modify(
        &self,
        descriptor: i32,
        opened: &Arc<OpenFile>,
        interest: Interest,
    ) -> Result<(), Errno> {
        let watches = self.watches.lock();
        let watch = watches.get(&key_of(descriptor, opened)).ok_or(Errno::ENOENT)?;
        if (watch.bits.load(Ordering::Relaxed) | interest.bits) & EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        watch.data.store(interest.data, Ordering::Relaxed);
        watch.bits.store(interest.bits | EPOLLERR | EPOLLHUP, Ordering::Relaxed);
        Watch::look(watch);
        Ok(())
    }

    /// `EPOLL_CTL_DEL`.
    pub(crate) fn remove(&self, descriptor: i32, opened: &Arc<OpenFile>) -> Result<(), Errno> {
        let watch = self.watches.lock().remove(&key_of(descriptor, opened)).ok_or(Errno::ENOENT)?;
        retire(&watch);
        Ok(())
    }

    /// Waits until there are events, at most until the deadline, and writes up to `max` of them to
    /// the app. Answers how many.
    pub(crate) fn wait(
        &self,
        events: UserPtr<epoll_event>,
        max: usize,
        deadline_ns: Option<u64>,
    ) -> SysResult {
        // The app has done what it could do: what it sent leaves in one batch, and what has come
        // in meanwhile is looked at before anything sleeps.
        net::flush();
        let mut round = Round { events, max, count: 0, unseen: None };
        complete(|| self.collect(&mut round))?;
        if round.count == 0 {
            net::poll();
            complete(|| self.collect(&mut round))?;
        }
        if round.count == 0 && deadline_ns != Some(0) {
            self.sleep(&mut round, deadline_ns)?;
        }
        // What is still on the list is for the next thread that waits: a watch on it does not wake
        // anybody again.
        if round.count > 0 && self.ready.len() > 0 {
            self.ready.wake_sleeper();
        }
        Ok(round.count)
    }

    fn sleep(&self, round: &mut Round, deadline_ns: Option<u64>) -> Result<(), Errno> {
        let collected = self.ready.source.wait(deadline_ns, || match self.collect(round) {
            Ok(()) if round.count == 0 => None,
            outcome => Some(outcome),
        });
        match collected {
            Ok(Ok(())) | Err(WaitError::TimedOut) => Ok(()),
            // A page of the app's array has to be waited for, with the thread off the list of those who wait.
            Ok(Err(_)) => complete(|| self.collect(round)),
            Err(WaitError::Interrupted) => Err(Errno::EINTR),
        }
    }

    /// Looks once at each watch on the ready list, and writes those that have events. If a page is missing, the next
    /// call goes on where this one ended.
    fn collect(&self, round: &mut Round) -> Result<(), AttemptError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let mut unseen = round.unseen.take().unwrap_or_else(|| self.ready.len());
        let mut outcome = Ok(());
        let mut batches = 0;
        while unseen > 0 && round.count < round.max && outcome.is_ok() {
            // Of many watches most may be on files that were closed, which nobody hears of.
            batches += 1;
            if batches % BATCHES_IN_A_ROW == 0 {
                scheduler::breathe();
            }
            let mut batch = Batch::new();
            let most = unseen.min(round.max - round.count).min(batch.remaining_capacity());
            self.ready.take(most, &mut batch);
            if batch.is_empty() {
                break;
            }
            unseen -= batch.len();
            outcome = self.report(batch, round, &mut unseen);
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
        match outcome {
            Err(missing) if !missing.is_fault() => {
                round.unseen = Some(unseen);
                Err(missing.into())
            }
            Err(missing) if round.count == 0 => Err(missing.into()),
            _ => Ok(()),
        }
    }

    /// Looks at a batch of watches, and writes those that have events behind those that the round has. Watches that it
    /// does not get to are unseen again.
    fn report(&self, batch: Batch, round: &mut Round, unseen: &mut usize) -> Result<(), Missing> {
        let mut level_triggered = Batch::new();
        let mut watches = batch.into_iter();
        let mut outcome = Ok(());
        while let Some(watch) = watches.next() {
            watch.begin_look();
            let found = watch.found();
            if found == 0 {
                continue;
            }
            let event = epoll_event { events: found, data: watch.data.load(Ordering::Relaxed) };
            outcome = round.events.element(round.count).try_write(event);
            if outcome.is_err() {
                *unseen += watches.len();
                self.ready.give_back(watches.by_ref());
                *unseen += usize::from(self.ready.put_first(watch));
                break;
            }
            round.count += 1;
            let bits = watch.bits.load(Ordering::Relaxed);
            if bits & EPOLLONESHOT != 0 {
                watch.bits.store(bits & PRIVATE_BITS, Ordering::Relaxed);
            } else if bits & EPOLLET == 0 {
                level_triggered.push(watch);
            }
        }
        if !level_triggered.is_empty() {
            self.ready.put_back(level_triggered);
        }
        if outcome.is_err() {
            self.ready.wake_sleeper();
        }
        outcome
    }
}

/// The events that one call has found, in the app's array.
struct Round {
    events: UserPtr<epoll_event>,
    max: usize,
    count: usize,
    /// Watches at the front of the list that are still to be looked at, if the last look was cut short.
    unseen: Option<usize>,
}

/// Ends a watch that is no longer in its table.
fn retire(watch: &Arc<Watch>) {
    watch.bits.store(0, Ordering::Relaxed);
    if let Some(source) = watch.file.poll_source() {
        source.detach(watch);
    }
    epoll_nesting::end(watch);
}

impl WatchOwner for Epoll {
    fn forget(&self, watch: &Arc<Watch>) {
        watch.bits.store(0, Ordering::Relaxed);
        self.watches.lock().remove(&watch.key);
        epoll_nesting::end(watch);
    }
}

impl File for Epoll {
    fn ioctl(&self, _request: u32, _argument: u64) -> SysResult {
        Err(Errno::EINVAL)
    }

    fn ignores_seek(&self) -> bool {
        true
    }

    fn readiness(&self) -> Readiness {
        let finished = self.finished.load(Ordering::SeqCst);
        let started = self.started.fetch_add(1, Ordering::SeqCst);
        let is_ready = (0..self.ready.len()).map_while(|_| self.ready.pop()).any(|watch| {
            let is_ready = watch.found() != 0;
            if is_ready {
                self.ready.put_back(Batch::from_iter([watch]));
                // A thread that looked meanwhile has found nothing.
                self.ready.wake_sleeper();
            }
            is_ready
        });
        self.finished.fetch_add(1, Ordering::SeqCst);
        // Another thread may have had ready watches in its hands meanwhile: nobody must believe that there are none.
        let is_certain = finished == started && self.started.load(Ordering::SeqCst) == started + 1;
        if is_ready || !is_certain { Readiness::READABLE } else { Readiness::empty() }
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.ready.source)
    }

    fn metadata(&self) -> Metadata {
        Metadata::anonymous(0, 0)
    }

    fn close(&self) {
        let watches = core::mem::take(&mut *self.watches.lock());
        for (done, watch) in watches.into_values().enumerate() {
            retire(&watch);
            scheduler::breathe_now_and_then(done);
        }
        self.ready.clear();
    }

    fn name(&self) -> alloc::string::String {
        "anon_inode:[eventpoll]".into()
    }
}
