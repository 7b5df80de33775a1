//! The end of the runner by a signal: every guest ends with it.
//!
//! Guests are in process groups of their own, so that Ctrl-C reaches the runner alone; it decides.

use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Result;

/// Exit code of the runner when it was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// The guests that run at present.
static GUESTS: Mutex<Vec<Weak<Mutex<Child>>>> = Mutex::new(Vec::new());

/// Makes SIGINT, SIGTERM and SIGHUP end all guests, then the runner. To be called once.
pub(crate) fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        // Kept locked until the process is gone: no guest starts in between.
        let guests = GUESTS.lock().unwrap_or_else(PoisonError::into_inner);
        for guest in guests.iter().filter_map(Weak::upgrade) {
            let _ = guest.lock().unwrap_or_else(PoisonError::into_inner).kill();
        }
        eprintln!("\ninterrupted: the guest is ended");
        std::process::exit(INTERRUPTED);
    })?;
    Ok(())
}

/// Starts a guest's process through `start`, and remembers it for [`install`]'s handler.
pub(crate) fn guarded(start: impl FnOnce() -> Result<Child>) -> Result<Arc<Mutex<Child>>> {
    let mut guests = GUESTS.lock().unwrap_or_else(PoisonError::into_inner);
    let child = Arc::new(Mutex::new(start()?));
    guests.retain(|guest| guest.strong_count() > 0);
    guests.push(Arc::downgrade(&child));
    Ok(child)
}
