//! The end of the runner by a signal: every guest ends with it.
//!
//! A guest that a person runs is asked first, by its power button; the second signal kills it.
//! Guests are in process groups of their own, so that Ctrl-C reaches the runner alone; it decides.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use anyhow::Result;

use crate::qmp;

/// Exit code of the runner when it was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// The guests that run at present.
static GUESTS: Mutex<Vec<Weak<Mutex<Child>>>> = Mutex::new(Vec::new());

/// The control socket of the guest whose power button the first signal presses.
static BUTTON: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Whether signals are for a debugger that runs in the foreground.
static HAS_DEBUGGER: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT, SIGTERM and SIGHUP end all guests, then the runner. To be called once.
pub(crate) fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if HAS_DEBUGGER.load(Ordering::Relaxed) {
            return;
        }
        let button = BUTTON.lock().unwrap_or_else(PoisonError::into_inner).take();
        match button {
            // Apart, so that the second signal is heard while QEMU does not answer.
            Some(button) => _ = thread::spawn(move || ask(&button)),
            None => end(),
        }
    })?;
    Ok(())
}

/// Makes signals do nothing here: a debugger gets them as well, and ends when its user says so.
pub(crate) fn leave_to_debugger() {
    HAS_DEBUGGER.store(true, Ordering::Relaxed);
}

/// Makes the first signal press a guest's power button, by its control socket.
pub(crate) fn ask_first(button: PathBuf) {
    *BUTTON.lock().unwrap_or_else(PoisonError::into_inner) = Some(button);
}

fn ask(button: &Path) {
    eprintln!("\nthe power button is pressed: the guest stops in order (Ctrl-C again kills it)");
    if let Err(error) = qmp::press_power_button(button) {
        eprintln!("{error:#}");
        end();
    }
}

fn end() -> ! {
    // All kept locked until the process is gone: no guest starts in between, and nobody takes a guest's end for its own.
    let guests = GUESTS.lock().unwrap_or_else(PoisonError::into_inner);
    let running = running(&guests);
    let _held = kill(&running);
    eprintln!("\ninterrupted: the guest is ended");
    std::process::exit(INTERRUPTED);
}

fn running(guests: &[Weak<Mutex<Child>>]) -> Vec<Arc<Mutex<Child>>> {
    guests.iter().filter_map(Weak::upgrade).collect()
}

/// Kills guests, and returns when they are gone: whoever comes after the runner finds their ports and disks free.
fn kill(guests: &[Arc<Mutex<Child>>]) -> Vec<MutexGuard<'_, Child>> {
    let mut held: Vec<_> =
        guests.iter().map(|guest| guest.lock().unwrap_or_else(PoisonError::into_inner)).collect();
    for guest in &mut held {
        let _ = guest.kill().and_then(|()| guest.wait());
    }
    held
}

/// Ends all guests: whoever talks to one of them, and waits for an answer, sees its connection closed.
pub(crate) fn end_guests() {
    let guests = GUESTS.lock().unwrap_or_else(PoisonError::into_inner);
    kill(&running(&guests));
}

/// Starts a guest's process through `start`, and remembers it for [`install`]'s handler.
pub(crate) fn guarded(start: impl FnOnce() -> Result<Child>) -> Result<Arc<Mutex<Child>>> {
    let mut guests = GUESTS.lock().unwrap_or_else(PoisonError::into_inner);
    let child = Arc::new(Mutex::new(start()?));
    guests.retain(|guest| guest.strong_count() > 0);
    guests.push(Arc::downgrade(&child));
    Ok(child)
}
