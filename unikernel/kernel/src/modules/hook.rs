//! Modules that see the frames that come in (`unikernel_net::Observer`).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI64, Ordering};

use unikernel_hal::module::Hook;
use unikernel_net::FramePlace;

use crate::abi::Errno;
use crate::net;
use crate::sync::SpinLock;

/// Hooks that there may be.
const MOST_HOOKS: usize = 16;

struct Entry {
    number: i64,
    module: u64,
    place: FramePlace,
    /// None when it was taken away. Held while it runs.
    hook: SpinLock<Option<Hook>>,
}

static HOOKS: SpinLock<Vec<Arc<Entry>>> = SpinLock::new(Vec::new());

/// Has a hook see the frames that pass at a place.
pub(super) fn add(module: u64, place: u32, hook: Hook) -> Result<i64, Errno> {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    let place = [FramePlace::Received, FramePlace::Filtered].into_iter().find(|known| *known as u32 == place);
    let place = place.ok_or(Errno::EINVAL)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let entry = Arc::new(Entry { number, module, place, hook: SpinLock::new(Some(hook)) });
    {
        let mut hooks = HOOKS.lock();
        if hooks.len() == MOST_HOOKS {
            return Err(Errno::ENOSPC);
        }
        hooks.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        hooks.push(entry);
    }
    net::set_frame_observer(Some(passes));
    Ok(number)
}

/// Takes a hook away: nobody is in it then, and nobody will be.
pub(super) fn remove(module: u64, number: i64) {
    remove_where(|entry| entry.number == number && entry.module == module);
}

/// The same with all hooks of a module.
pub(super) fn remove_all(module: u64) {
    while remove_where(|entry| entry.module == module) {}
}

fn remove_where(is_meant: impl Fn(&Entry) -> bool) -> bool {
    let (removed, is_last) = {
        let mut hooks = HOOKS.lock();
        let place = hooks.iter().position(|entry| is_meant(entry));
        (place.map(|place| hooks.remove(place)), hooks.is_empty())
    };
    let Some(entry) = removed else { return false };
    if is_last {
        net::set_frame_observer(None);
    }
    let hook = entry.hook.lock().take();
    drop(hook);
    true
}

/// Shows a frame to all hooks of its place; false if one of them drops it.
fn passes(place: FramePlace, frame: &[u8]) -> bool {
    for index in 0..MOST_HOOKS {
        // The list is not held while a hook runs; one that comes or goes meanwhile may be passed over for this frame.
        let Some(entry) = HOOKS.lock().get(index).cloned() else { break };
        if entry.place == place
            && let Some(hook) = &*entry.hook.lock()
            && !hook.passes(place as u32, frame)
        {
            return false;
        }
    }
    true
}
