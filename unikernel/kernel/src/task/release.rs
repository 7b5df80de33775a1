//! Letting go of objects that hold others, one after the other.
//!
//! An open file can keep others open: a socket those that are on their way to it. Closing each where its holder is
//! closed would go as deep as the app likes to nest them, and a kernel stack is short. So a thread that closes holders
//! has a list of what is still to be closed, which runs through the objects themselves and needs no memory.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::sync::SpinLock;

/// What can hold others of its kind.
pub trait Release: Send + Sync {
    /// The next on a thread's list of what is to be let go.
    fn next_release(&self) -> &SpinLock<Option<Arc<dyn Release>>>;
}

/// What a thread has still to let go.
#[derive(Default)]
pub struct Releases {
    first: Option<Arc<dyn Release>>,
    /// A caller further up in this thread works the list off.
    is_running: bool,
}

/// Lets go of what another object has kept. All that goes by that is gone when the outermost call of this thread
/// returns.
pub fn release<T: Release + 'static>(objects: Vec<Arc<T>>) {
    if objects.is_empty() {
        return;
    }
    let releases = &super::current().releases;
    // One that others keep does not end here: it must not be on two threads' lists.
    objects
        .into_iter()
        .filter(|object| Arc::strong_count(object) == 1)
        .for_each(|object| push(releases, object));
    if core::mem::replace(&mut releases.lock().is_running, true) {
        return;
    }
    while let Some(object) = pop(releases) {
        drop(object);
    }
}

fn push(releases: &SpinLock<Releases>, object: Arc<dyn Release>) {
    let mut releases = releases.lock();
    *object.next_release().lock() = releases.first.take();
    releases.first = Some(object);
}

/// Takes the first off; notes the end of the list.
fn pop(releases: &SpinLock<Releases>) -> Option<Arc<dyn Release>> {
    let mut releases = releases.lock();
    let object = releases.first.take();
    match &object {
        Some(object) => releases.first = object.next_release().lock().take(),
        None => releases.is_running = false,
    }
    object
}
