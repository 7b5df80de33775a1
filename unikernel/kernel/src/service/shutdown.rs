//! How the machine stops, in order. The power button closes the listeners and tells the app (`SIGTERM`), as an init system
//! would; an app that has not ended after `stop=` seconds is ended (`SIGKILL`). Once it ends, for whatever reason, its other
//! threads come to rest, what it wrote is delivered to its peers in what is left of that time, and the disks are unmounted.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general::{SIGKILL, SIGTERM};
use unikernel_cmdline::ExitAction;

use super::syslog;
use crate::net;
use crate::platform::{interrupts, power, records, time};
use crate::policy;
use crate::process::exit;
use crate::process::signal::send_to_process;
use crate::sync::SpinLock;
use crate::task::WaitQueue;
use crate::task::signal::SignalInfo;
use crate::task::timer::{self, TimerTarget};
use crate::vfs;

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
pub(crate) fn set_patience(seconds: u32) {
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
pub(crate) fn power_button() {
    let (deadline_ns, is_first) = begin();
    net::refuse_connections();
    send_to_process(SignalInfo::from_kernel(SIGTERM));
    if is_first {
        // A timer that is dropped is cancelled.
        core::mem::forget(timer::call_at(deadline_ns, Arc::new(Impatience)));
    }
}

/// Closes all connections and waits until their peers have everything, as long as a stop may take.
fn drain() {
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

/// What happens when the app ends.
static EXIT_ACTION: SpinLock<ExitAction> = SpinLock::new(ExitAction::PowerOff);

/// Sets what happens when the app ends (`exit=`).
pub(crate) fn set_exit_action(action: ExitAction) {
    *EXIT_ACTION.lock() = action;
}

/// The app has ended: the machine has nothing left to do.
pub(crate) fn end(code: i32) -> ! {
    exit::rest_others();
    policy::learn::tell();
    // What the app wrote last should reach its peers: the segments are in the send buffers.
    drain();
    // While the other threads can still run: one of them may be at work in the filesystem.
    vfs::table::unmount_all();
    interrupts::stop_others();
    records::end_line();
    log::info!("the app exited with code {code}");
    syslog::finish();
    net::shut_down();
    let action = *EXIT_ACTION.lock();
    end_machine(action, code as u8)
}

/// Ends the machine as configured. Where the debug-exit port exists, writing to it is the end.
pub(crate) fn end_machine(action: ExitAction, code: u8) -> ! {
    match action {
        ExitAction::Halt => power::halt(),
        ExitAction::Reboot => power::reboot(),
        ExitAction::PowerOff => {
            power::debug_exit(code);
            power::power_off()
        }
        ExitAction::DebugExit => {
            power::debug_exit(code);
            power::halt()
        }
    }
}
