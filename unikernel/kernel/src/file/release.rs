//! Closing files that others hold, one after the other.
//!
//! An open file can keep others open: a socket those that are on their way to it. Closing each where its holder is
//! closed would go as deep as the app likes to nest them, and a kernel stack is short. So a thread that closes holders
//! has a list of what is still to be closed, which runs through the open files themselves and needs no memory.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::OpenFile;
use crate::sync::SpinLock;
use crate::task;

/// What a thread has still to close.
#[derive(Default)]
pub struct Releases {
    first: Option<Arc<OpenFile>>,
    /// A caller further up in this thread works the list off.
    is_running: bool,
}

/// Lets go of open files that another object has kept. All that is closed by that is closed when the outermost call of
/// this thread returns.
pub fn release(files: Vec<Arc<OpenFile>>) {
    if files.is_empty() {
        return;
    }
    let releases = &task::current().releases;
    // One that others keep open is not closed here: it must not be on two threads' lists.
    files.into_iter().filter(|file| Arc::strong_count(file) == 1).for_each(|file| push(releases, file));
    if core::mem::replace(&mut releases.lock().is_running, true) {
        return;
    }
    while let Some(file) = pop(releases) {
        drop(file);
    }
}

fn push(releases: &SpinLock<Releases>, file: Arc<OpenFile>) {
    let mut releases = releases.lock();
    *file.next_release.lock() = releases.first.take();
    releases.first = Some(file);
}

/// Takes the first off; notes the end of the list.
fn pop(releases: &SpinLock<Releases>) -> Option<Arc<OpenFile>> {
    let mut releases = releases.lock();
    let file = releases.first.take();
    match &file {
        Some(file) => releases.first = file.next_release.lock().take(),
        None => releases.is_running = false,
    }
    file
}
