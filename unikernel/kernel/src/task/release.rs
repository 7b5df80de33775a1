//! Letting go of objects that hold others, one after the other.
//!
//! An open file can keep others open: a socket those that are on their way to it. Closing each where its holder is
//! closed would go as deep as the app likes to nest them, and a kernel stack is short. So a thread that closes holders
//! has a list of what is still to be closed, which runs through the objects themselves and needs no memory.
//!
//! Closing may sleep, for a disk. A core that has nobody to run, and meets the last reference to an open file at the end of
//! what it does for others, leaves it to a thread of the kernel's.

use alloc::sync::Arc;

use super::WaitQueue;
use super::scheduler::{self, breathe_now_and_then};
use crate::sync::SpinLock;

/// What can hold others of its kind.
pub(crate) trait Release: Send + Sync {
    /// The next on a thread's list of what is to be let go.
    fn next_release(&self) -> &SpinLock<Option<Arc<dyn Release>>>;
}

/// What a thread has still to let go.
#[derive(Default)]
pub(crate) struct Releases {
    first: Option<Arc<dyn Release>>,
    /// A caller further up in this thread works the list off.
    is_running: bool,
}

/// What cores without a thread have left to the thread that lets go of it, if there is one yet.
static LEFT: SpinLock<Releases> = SpinLock::new(Releases { first: None, is_running: false });
static NEWS: WaitQueue = WaitQueue::new();

/// Lets go of what another object has kept. All that goes by that is gone when the outermost call of this thread
/// returns, or later if no thread runs here. Call it without spin locks.
pub(crate) fn release<T: Release + 'static>(objects: impl IntoIterator<Item = Arc<T>>) {
    // One that others keep does not end here: it must not be on two threads' lists.
    let mut last = objects.into_iter().filter(|object| Arc::strong_count(object) == 1).peekable();
    if last.peek().is_none() {
        return;
    }
    if !scheduler::can_block() {
        return last.for_each(|object| leave(object));
    }
    let releases = &super::current().releases;
    last.for_each(|object| releases.lock().push(object));
    if core::mem::replace(&mut releases.lock().is_running, true) {
        return;
    }
    for done in 0.. {
        let Some(object) = pop(releases) else { break };
        drop(object);
        breathe_now_and_then(done);
    }
}

impl Releases {
    fn push(&mut self, object: Arc<dyn Release>) {
        *object.next_release().lock() = self.first.take();
        self.first = Some(object);
    }

    fn pop(&mut self) -> Option<Arc<dyn Release>> {
        let object = self.first.take()?;
        self.first = object.next_release().lock().take();
        Some(object)
    }
}

/// Takes the first off; notes the end of the list.
fn pop(releases: &SpinLock<Releases>) -> Option<Arc<dyn Release>> {
    let mut releases = releases.lock();
    let object = releases.pop();
    releases.is_running = object.is_some();
    object
}

/// Leaves an object to the thread that closes. Without memory for one it waits for the next time.
fn leave(object: Arc<dyn Release>) {
    let mut left = LEFT.lock();
    left.push(object);
    left.is_running = left.is_running || scheduler::start_kernel_thread("closer", main).is_ok();
    drop(left);
    NEWS.wake_one();
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    loop {
        drop(NEWS.wait_uninterrupted(None, || LEFT.lock().pop()));
    }
}
