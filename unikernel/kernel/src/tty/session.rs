//! The app's controlling terminal (credentials(7), "Sessions and process groups"). The app is a session of its own, and
//! its only group of processes, which is always in the foreground. A terminal that is merely opened becomes the
//! controlling one only after setsid(2), which most programs never call: they do not expect to be hung up.
//!
//! Without another one, the console is it as far as its keys send signals and `/dev/tty` leads there.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::general::{SIGCONT, SIGHUP};

use super::pty::Pty;
use crate::abi::Errno;
use crate::process::signal;
use crate::sync::SpinLock;
use crate::task::signal::SignalInfo;

/// The app has called setsid(2).
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
static CONTROLLING: SpinLock<Option<Weak<Pty>>> = SpinLock::new(None);

/// Begins the app's session; false if it has begun.
pub(crate) fn begin() -> bool {
    !HAS_BEGUN.swap(true, Ordering::Relaxed)
}

/// A terminal was opened to be the controlling one, if there is none.
pub(crate) fn opened(pty: &Arc<Pty>) {
    if HAS_BEGUN.load(Ordering::Relaxed) {
        // Another one stays.
        let _ = take(pty);
    }
}

/// The pseudo-terminal that controls the app, if one does.
pub(crate) fn controlling() -> Option<Arc<Pty>> {
    CONTROLLING.lock().as_ref().and_then(Weak::upgrade)
}

/// True if this one does.
pub(crate) fn is_controlling(pty: &Pty) -> bool {
    let controlling = CONTROLLING.lock();
    controlling.as_ref().is_some_and(|controlling| core::ptr::eq(controlling.as_ptr(), pty))
}

/// Makes a terminal the controlling one, unless another is.
pub(crate) fn take(pty: &Arc<Pty>) -> Result<(), Errno> {
    let mut controlling = CONTROLLING.lock();
    let is_free = controlling.as_ref().is_none_or(|other| other.strong_count() == 0);
    if is_free {
        *controlling = Some(Arc::downgrade(pty));
        return Ok(());
    }
    let is_same = controlling.as_ref().is_some_and(|other| core::ptr::eq(other.as_ptr(), Arc::as_ptr(pty)));
    if is_same { Ok(()) } else { Err(Errno::EPERM) }
}

/// The terminal is gone, or the app has given it up: the app is told, if it was the controlling one.
pub(crate) fn end(pty: &Pty) -> Result<(), Errno> {
    if !is_controlling(pty) {
        return Err(Errno::ENOTTY);
    }
    let before = CONTROLLING.lock().take();
    drop(before);
    signal(SIGHUP);
    signal(SIGCONT);
    Ok(())
}

/// Sends a signal to those in the foreground.
pub(crate) fn signal(number: u32) {
    signal::send_to_process(SignalInfo::from_kernel(number));
}
