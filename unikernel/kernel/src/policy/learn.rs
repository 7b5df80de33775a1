//! `trace=policy`: what the app does, kept to be told at its end in the words that would allow it.

use alloc::string::String;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};

use unikernel_policy::access::FileAccess;
use unikernel_policy::learn::Recorder;
use unikernel_policy::net::NetAction;

use super::access;
use crate::platform::console;
use crate::sync::SpinLock;

static IS_ON: AtomicBool = AtomicBool::new(false);
static RECORDER: SpinLock<Recorder> = SpinLock::new(Recorder::new());

/// Begins to record.
pub(crate) fn turn_on() {
    IS_ON.store(true, Ordering::Relaxed);
    access::turn_on();
}

#[inline]
fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Records a system call.
pub(crate) fn call(number: u32) {
    RECORDER.lock().call(number);
}

/// Records what a ring does.
pub(super) fn calls(numbers: &[u32]) {
    if is_on() {
        numbers.iter().for_each(|number| call(*number));
    }
}

/// Records the use of a file; its path is asked for only if that is wanted.
pub(crate) fn file(access: FileAccess, path: impl FnOnce() -> String) {
    if is_on() && !access.is_empty() {
        let path = path();
        RECORDER.lock().file(&path, access);
    }
}

/// Records the use of an address.
pub(crate) fn address(action: NetAction, address: SocketAddr) {
    if is_on() {
        RECORDER.lock().address(action, address);
    }
}

/// Tells what was recorded, each word on a line of its own behind `policy: learnt `.
pub(crate) fn tell() {
    if !is_on() {
        return;
    }
    let words = RECORDER.lock().words();
    for word in words {
        console::write(alloc::format!("policy: learnt {word}\n").as_bytes());
    }
}
