//! Epoll instances that watch other instances (epoll(7)): how deep, how many, and never in a circle.
//!
//! An instance has a height: 0 if it watches no other one, else one more than the highest of those that it watches. News climb from
//! an instance to those that watch it, with locks held: so heights are bounded, as in Linux (`EP_MAX_NESTS`), and the ways that lead up.
//! Linux counts those from each file (`path_limits`), over all that an instance holds; here each instance has its bound, and all
//! together have one.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::epoll::Epoll;
use crate::abi::Errno;
use crate::file::poll_source::{NOT_COUNTED, Watch};
use crate::sync::SpinLock;

/// The greatest height.
const MAX_HEIGHT: usize = 4;
/// By how many an instance of each height can be watched: 16 times 500 ways lead up from the lowest.
const MAX_WATCHERS: [usize; MAX_HEIGHT] = [500, 4, 2, 2];
/// Watches on instances by instances, in all.
const MAX_NESTED: usize = 4096;

/// How many nested watches there are. Whoever changes heights holds the lock.
static NESTED: SpinLock<usize> = SpinLock::new(0);

/// How many instances of each height an instance watches.
#[derive(Default)]
pub(super) struct Below([AtomicUsize; MAX_HEIGHT]);

impl Below {
    fn height(&self) -> usize {
        self.0.iter().rposition(|count| count.load(Ordering::Relaxed) > 0).map_or(0, |highest| highest + 1)
    }

    fn change(&self, height: usize, change: impl FnOnce(usize) -> usize) {
        let Some(count) = self.0.get(height) else { return };
        count.store(change(count.load(Ordering::Relaxed)), Ordering::Relaxed);
    }
}

/// Has `attach` make the watch of `outer` on `inner`, if that is allowed.
pub(super) fn nest(
    outer: &Epoll,
    inner: &Epoll,
    attach: impl FnOnce() -> Result<Arc<Watch>, Errno>,
) -> Result<Arc<Watch>, Errno> {
    let mut nested = NESTED.lock();
    check_rise(outer, inner.below.height() + 1, inner)?;
    let has_room = inner.watchers().len() < MAX_WATCHERS[inner.below.height()];
    if !has_room {
        return Err(Errno::EINVAL);
    }
    if *nested == MAX_NESTED {
        return Err(Errno::ENOSPC);
    }
    let watch = attach()?;
    *nested += 1;
    count(outer, &watch, inner.below.height());
    Ok(watch)
}

/// The instance that keeps a watch.
fn instance_of(watch: &Watch) -> Option<Arc<Epoll>> {
    let owner: Arc<dyn Any + Send + Sync> = watch.owner.as_ref()?.upgrade()?;
    owner.downcast().ok()
}

/// A watch, which no source has any more, has ended.
pub(super) fn end(watch: &Watch) {
    if watch.nested_height.load(Ordering::Relaxed) == NOT_COUNTED {
        return;
    }
    let mut nested = NESTED.lock();
    // Both may be closed at once.
    if watch.nested_height.load(Ordering::Relaxed) == NOT_COUNTED {
        return;
    }
    *nested -= 1;
    match instance_of(watch) {
        Some(outer) => count(&outer, watch, NOT_COUNTED),
        None => watch.nested_height.store(NOT_COUNTED, Ordering::Relaxed),
    }
}

/// Checks whether an instance can become so high, when it comes to watch `inner`.
fn check_rise(instance: &Epoll, height: usize, inner: &Epoll) -> Result<(), Errno> {
    if height > MAX_HEIGHT || core::ptr::eq(instance, inner) {
        return Err(Errno::ELOOP);
    }
    if instance.below.height() >= height {
        return Ok(());
    }
    let watchers = instance.watchers();
    if watchers.len() > MAX_WATCHERS.get(height).copied().unwrap_or(0) {
        return Err(if height == MAX_HEIGHT { Errno::ELOOP } else { Errno::EINVAL });
    }
    let mut outer = watchers.iter().filter_map(|watch| instance_of(watch));
    outer.try_for_each(|outer| check_rise(&outer, height + 1, inner))
}

/// Counts a watch of `outer` for another height of what it watches, and for those that watch `outer` what follows.
fn count(outer: &Epoll, watch: &Watch, height: usize) {
    let before = outer.below.height();
    outer.below.change(watch.nested_height.swap(height, Ordering::Relaxed), |count| count - 1);
    outer.below.change(height, |count| count + 1);
    let after = outer.below.height();
    if after != before {
        for watch in outer.watchers() {
            if let Some(outer) = instance_of(&watch) {
                count(&outer, &watch, after);
            }
        }
    }
}
