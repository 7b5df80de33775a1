//! How the machine stops, in order. The power button closes the listeners and tells the app (`SIGTERM`), as an init system
//! would; an app that has not ended after `stop=` seconds is ended (`SIGKILL`). Once it ends, for whatever reason, its other
//! threads come to rest, and what it wrote is delivered to its peers in what is left of that time
//! ([`super::process::exit_process`] does it, and unmounts the disks then).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general::{SIGKILL, SIGTERM};

use super::signal::{SignalInfo, send, send_to_process};
use super::timer::{self, TimerTarget};
use super::{WaitQueue, current, process::process};
use crate::net;
use crate::platform::time;
use crate::service::syslog;

/// How long a stop takes at most, if the command line does not say so.
const USUAL_SECONDS: u32 = 5;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// How often it is looked whether connections are drained.
const LOOK_NS: u64 = 1_000_000;

/// How long a stop takes at most.
static PATIENCE_NS: AtomicU64 = AtomicU64::new(USUAL_SECONDS as u64 * NS_PER_SECOND);
/// When it is over; 0 before it has begun.
static DEADLINE_NS: AtomicU64 = AtomicU64::new(0);

/// Sets how long a stop takes at most (`stop=`).
pub fn set_patience(seconds: u32) {
    PATIENCE_NS.store(u64::from(seconds) * NS_PER_SECOND, Ordering::Relaxed);
}

/// Begins the stop, if it has not begun; answers when it is over, and whether it was begun here.
fn begin() -> (u64, bool) {
    let deadline_ns = time::now_ns().saturating_add(PATIENCE_NS.load(Ordering::Relaxed)).max(1);
    match DEADLINE_NS.compare_exchange(0, deadline_ns, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => (deadline_ns, true),
        Err(earlier_ns) => (earlier_ns, false),
    }
}

/// Ends an app that does not end itself.
struct Impatience;

impl TimerTarget for Impatience {
    fn expired(&self) {
        send_to_process(SignalInfo::from_kernel(SIGKILL));
    }
}

/// The power button, from its interrupt.
pub fn power_button() {
    let (deadline_ns, is_first) = begin();
    net::refuse_connections();
    send_to_process(SignalInfo::from_kernel(SIGTERM));
    if is_first {
        // A timer that is dropped is cancelled.
        core::mem::forget(timer::call_at(deadline_ns, Arc::new(Impatience)));
    }
}

/// Has the app's other threads go no further in ring 3 than they are. They end what they do in the kernel first.
pub(super) fn rest_others() {
    for thread in process().threads() {
        if !Arc::ptr_eq(&thread, &current()) {
            send(&thread, SignalInfo::from_kernel(SIGKILL));
        }
    }
}

/// Closes all connections and waits until their peers have everything, as long as a stop may take.
pub(super) fn drain() {
    static NOBODY: WaitQueue = WaitQueue::new();
    let (deadline_ns, _) = begin();
    net::close_all();
    let log_deadline_ns = time::now_ns() + syslog::LAST_WAIT_NS;
    let is_busy = |now_ns| net::has_undelivered() || (syslog::has_unsent() && now_ns < log_deadline_ns);
    while time::now_ns() < deadline_ns && is_busy(time::now_ns()) {
        net::exchange();
        let look_ns = (time::now_ns() + LOOK_NS).min(deadline_ns);
        // The other threads, too, may have something to end.
        let _: Option<()> = NOBODY.wait_uninterrupted(Some(look_ns), || None);
    }
}
