//! Who watches files and directories is told what happens to them (inotify(7)).
//!
//! Whoever has changed or used something calls a function of this module afterwards, without a spin lock. While nobody
//! watches for such an event, that costs one load.
//!
//! What is written through a mapping tells nobody, as on Linux. An open file that was renamed since tells its old
//! directory nothing more, and a file that is unlinked while it is open is reported as deleted at once.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, LinkedList};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use linux_raw_sys::general::*;
use unikernel_fs::NodeId;

use super::{File, PollSource, Readiness};
use crate::kmem::room;
use crate::sync::SpinLock;

/// Watches of all instances together (`/proc/sys/fs/inotify/max_user_watches`).
pub(crate) const MAX_WATCHES: usize = 8192;
/// Events that wait in one instance (`max_queued_events`).
pub(crate) const MAX_EVENTS: usize = 16384;
/// What the events that wait in all instances may take together. Behind it events are lost, and that is told.
const MAX_EVENT_BYTES: usize = 4 << 20;
/// Memory that events leave to other objects: they may be lost, which is told, and whoever opens a file must not fail for them.
const SPARED_BYTES: usize = 256 << 10;

/// The bits of an event that a watch can ask for.
const EVENTS: u32 = IN_ALL_EVENTS;

/// All watches, by what they watch.
static WATCHES: SpinLock<BTreeMap<FileKey, Vec<Arc<Watch>>>> = SpinLock::new(BTreeMap::new());
/// How many there are.
static WATCH_COUNT: AtomicUsize = AtomicUsize::new(0);
/// Every event that some watch asks for; more while watches come and go.
static WANTED: AtomicU32 = AtomicU32::new(0);
/// What the events that wait take.
static EVENT_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Which file, whatever its names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum FileKey {
    /// A node of the tree. A watch keeps it open, so its id stays its own.
    Node(NodeId),
    /// The address of a mount, and an inode's number there.
    Inode(usize, u64),
}

impl From<NodeId> for FileKey {
    fn from(id: NodeId) -> Self {
        Self::Node(id)
    }
}

/// One file that one instance watches.
struct Watch {
    descriptor: i32,
    key: FileKey,
    /// The events that are wanted, and `IN_ONESHOT`.
    bits: AtomicU32,
    queue: Weak<Queue>,
    /// Keeps the file, so that no other gets its number.
    _pinned: Arc<dyn Any + Send + Sync>,
}

/// Why there is no watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WatchError {
    /// There is one (`IN_MASK_CREATE`).
    Exists,
    /// There are too many.
    Full,
}

/// One event, as the app reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    /// The watch that it is for.
    pub watch: i32,
    /// What happened.
    pub mask: u32,
    /// What the two events of a renaming have in common.
    pub cookie: u32,
    /// The name in the watched directory; empty for what is watched itself.
    pub name: Box<[u8]>,
}

impl Event {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len()
    }
}

/// The events of one instance, and its watches.
#[derive(Default)]
pub(crate) struct Queue {
    /// A list, as a table of so many would take a block that memory in pieces does not have.
    events: SpinLock<LinkedList<Event>>,
    watches: SpinLock<BTreeMap<i32, Arc<Watch>>>,
    last_descriptor: AtomicU32,
    /// Told of each event.
    pub source: PollSource,
}

impl Queue {
    /// Runs `step` with the first event, which is taken off if the answer is a success.
    pub(crate) fn take_first<T, E>(&self, step: impl FnOnce(&Event) -> Result<T, E>) -> Option<Result<T, E>> {
        // Out of the queue meanwhile, so that the app's memory is not touched under a spin lock.
        let first = self.events.lock().pop_front()?;
        let outcome = step(&first);
        match outcome {
            Ok(_) => _ = EVENT_BYTES.fetch_sub(first.bytes(), Ordering::Relaxed),
            Err(_) => self.events.lock().push_front(first),
        }
        Some(outcome)
    }

    /// The lengths of the names that wait, in their order.
    pub(crate) fn with_name_lengths<T>(&self, step: impl FnOnce(&mut dyn Iterator<Item = usize>) -> T) -> T {
        step(&mut self.events.lock().iter().map(|event| event.name.len()))
    }

    /// True if no event waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.lock().is_empty()
    }

    fn push(&self, event: Event) {
        let bytes = event.bytes();
        let mut events = self.events.lock();
        // The same once more tells nothing new (inotify(7)).
        if events.back() == Some(&event) {
            return;
        }
        let overflow = Event { watch: -1, mask: IN_Q_OVERFLOW, cookie: 0, name: Box::default() };
        if events.back() == Some(&overflow) {
            return;
        }
        let has_room = events.len() < MAX_EVENTS - 1
            && EVENT_BYTES.load(Ordering::Relaxed) + bytes <= MAX_EVENT_BYTES
            && room::is_left_for(SPARED_BYTES);
        // That there was an overflow is told without asking for room: once, until somebody reads.
        let event = if has_room { event } else { overflow };
        EVENT_BYTES.fetch_add(event.bytes(), Ordering::Relaxed);
        events.push_back(event);
        drop(events);
        self.source.notify(Readiness::READABLE);
    }

    /// Watches a file, which `pinned` keeps, or changes how it is watched; answers the watch's descriptor.
    pub(crate) fn watch(
        self: &Arc<Self>,
        key: FileKey,
        pinned: Arc<dyn Any + Send + Sync>,
        mask: u32,
    ) -> Result<i32, WatchError> {
        let bits = mask & (EVENTS | IN_ONESHOT);
        let mut watches = WATCHES.lock();
        let here = watches.entry(key).or_default();
        if let Some(watch) = here.iter().find(|watch| core::ptr::eq(watch.queue.as_ptr(), Arc::as_ptr(self)))
        {
            if mask & IN_MASK_CREATE != 0 {
                return Err(WatchError::Exists);
            }
            let kept = if mask & IN_MASK_ADD != 0 { watch.bits.load(Ordering::Relaxed) } else { 0 };
            watch.bits.store(kept | bits, Ordering::Relaxed);
            WANTED.fetch_or(bits, Ordering::Relaxed);
            return Ok(watch.descriptor);
        }
        if WATCH_COUNT.load(Ordering::Relaxed) >= MAX_WATCHES {
            if here.is_empty() {
                watches.remove(&key);
            }
            return Err(WatchError::Full);
        }
        WATCH_COUNT.fetch_add(1, Ordering::Relaxed);
        let descriptor = (self.last_descriptor.fetch_add(1, Ordering::Relaxed) + 1) as i32;
        let queue = Arc::downgrade(self);
        let watch = Arc::new(Watch { descriptor, key, bits: AtomicU32::new(bits), queue, _pinned: pinned });
        here.push(Arc::clone(&watch));
        WANTED.fetch_or(bits, Ordering::Relaxed);
        drop(watches);
        self.watches.lock().insert(descriptor, watch);
        Ok(descriptor)
    }

    /// Ends a watch, which is told. False if there is none.
    pub(crate) fn unwatch(&self, descriptor: i32) -> bool {
        let Some(watch) = self.watches.lock().remove(&descriptor) else { return false };
        forget(&watch);
        self.push(Event { watch: descriptor, mask: IN_IGNORED, cookie: 0, name: Box::default() });
        true
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let watches = core::mem::take(&mut *self.watches.lock());
        watches.values().for_each(forget);
        let bytes: usize = self.events.lock().iter().map(Event::bytes).sum();
        EVENT_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Takes a watch out of [`WATCHES`]; the caller has the last reference, which is not to be dropped under the lock.
fn forget(watch: &Arc<Watch>) {
    let mut watches = WATCHES.lock();
    let Some(here) = watches.get_mut(&watch.key) else { return };
    here.retain(|other| !Arc::ptr_eq(other, watch));
    if here.is_empty() {
        watches.remove(&watch.key);
    }
    WATCH_COUNT.fetch_sub(1, Ordering::Relaxed);
    if watches.is_empty() {
        WANTED.store(0, Ordering::Relaxed);
    }
}

/// True if some watch may want such an event. `IN_ONLYDIR` and the like are no events.
#[inline]
pub(crate) fn is_wanted(mask: u32) -> bool {
    WANTED.load(Ordering::Relaxed) & mask & EVENTS != 0
}

/// Tells all that watch a file, or a directory about a name in it.
fn tell(key: FileKey, mask: u32, cookie: u32, name: &[u8]) {
    let is_interested = |watch: &&Arc<Watch>| watch.bits.load(Ordering::Relaxed) & mask & EVENTS != 0;
    let interested: Vec<Arc<Watch>> = match WATCHES.lock().get(&key) {
        Some(watches) => watches.iter().filter(is_interested).map(Arc::clone).collect(),
        None => return,
    };
    for watch in interested {
        let Some(queue) = watch.queue.upgrade() else { continue };
        queue.push(Event { watch: watch.descriptor, mask, cookie, name: name.into() });
        if watch.bits.load(Ordering::Relaxed) & IN_ONESHOT != 0 {
            queue.unwatch(watch.descriptor);
        }
    }
}

/// The bit that says that an event is about a directory.
fn directory_bit(is_directory: bool) -> u32 {
    if is_directory { IN_ISDIR } else { 0 }
}

/// A directory has a new name.
pub(crate) fn created(parent: FileKey, name: &[u8], is_directory: bool) {
    if is_wanted(IN_CREATE) {
        tell(parent, IN_CREATE | directory_bit(is_directory), 0, name);
    }
}

/// A directory has lost a name, and a file the last of its names if it `is_gone`.
pub(crate) fn removed(parent: FileKey, name: &[u8], file: FileKey, is_directory: bool, is_gone: bool) {
    // Whatever they ask for, the watches on a file that is gone end.
    if WATCH_COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    if !is_directory {
        tell(file, IN_ATTRIB, 0, b"");
    }
    tell(parent, IN_DELETE | directory_bit(is_directory), 0, name);
    if is_gone {
        gone(file);
    }
}

/// A file is no more: its watches end.
pub(crate) fn gone(file: FileKey) {
    tell(file, IN_DELETE_SELF, 0, b"");
    let watches = match WATCHES.lock().get(&file) {
        Some(watches) => watches.clone(),
        None => return,
    };
    for watch in watches {
        if let Some(queue) = watch.queue.upgrade() {
            queue.unwatch(watch.descriptor);
        }
    }
}

/// A file has another name.
pub(crate) fn renamed(from: (FileKey, &[u8]), to: (FileKey, &[u8]), file: FileKey, is_directory: bool) {
    static COOKIE: AtomicU32 = AtomicU32::new(1);
    if !is_wanted(IN_MOVE | IN_MOVE_SELF) {
        return;
    }
    let cookie = COOKIE.fetch_add(1, Ordering::Relaxed);
    tell(from.0, IN_MOVED_FROM | directory_bit(is_directory), cookie, from.1);
    tell(to.0, IN_MOVED_TO | directory_bit(is_directory), cookie, to.1);
    tell(file, IN_MOVE_SELF, 0, b"");
}

/// Something was done with an open file.
#[inline]
pub(crate) fn used(file: &dyn File, mask: u32) {
    if is_wanted(mask) {
        used_file(file, mask);
    }
}

#[cold]
fn used_file(file: &dyn File, mask: u32) {
    if let Some(node) = file.node() {
        node.tell_watches(mask);
    }
}

/// The same, for who knows the file by itself: it tells who watches the file and, by the name that led to it, its directory.
pub(crate) fn used_named(file: FileKey, name: Option<(FileKey, &[u8])>, is_directory: bool, mask: u32) {
    let mask = mask | directory_bit(is_directory);
    if let Some((parent, name)) = name {
        tell(parent, mask, 0, name);
    }
    tell(file, mask, 0, b"");
}

/// The last name of a path.
pub(crate) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}
