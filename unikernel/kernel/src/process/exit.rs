//! How threads and the app end.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use linux_raw_sys::general::SIGKILL;
use spin::Once;

use super::{futex, futex_pi, futex_robust, signal};
use crate::mem::user::UserPtr;
use crate::task::process::{begin_end, process};
use crate::task::signal::SignalInfo;
use crate::task::{WaitQueue, confinement, current, scheduler};

/// Ends the calling thread (`exit`); the last one ends the app with `code`.
pub(crate) fn exit_thread(code: i32) -> ! {
    let me = Arc::clone(&current());
    // Before anybody is told: who waits for the end may bind all threads then, of which this is none (Linux: `PF_EXITING`).
    confinement::forget(&me);
    futex_robust::release(&me);
    let clear = me.clear_child_tid.load(Ordering::Relaxed);
    if clear != 0 {
        // A joiner sleeps on this word. If the app has unmapped it, nobody can be waiting there.
        let _ = UserPtr::<u32>::new(clear).write(0);
        // Nor for a lock with an owner: the word is none.
        let _ = futex::wake(clear, 1, u32::MAX);
    }
    if process().remove_thread(&me) {
        exit_process(code);
    }
    futex_pi::inherit(&me);
    me.tell_end();
    signal::hand_on(!0);
    drop(me);
    scheduler::exit_current()
}

/// Keeps the calling thread from going on, for good.
pub(crate) fn rest() -> ! {
    static NOBODY: WaitQueue = WaitQueue::new();
    loop {
        let _: Option<()> = NOBODY.wait_uninterrupted(None, || None);
    }
}

/// What is done once the app has ended.
static END: Once<fn(i32) -> !> = Once::new();

/// Sets what is done once the app has ended, with its code: the machine has nothing left to do.
pub(crate) fn set_end(end: fn(i32) -> !) {
    END.call_once(|| end);
}

/// Ends the app (`exit_group`).
pub(crate) fn exit_process(code: i32) -> ! {
    if !begin_end() {
        // Another thread was first, which may want this core.
        rest();
    }
    END.get().expect("it is set before the app starts")(code)
}

/// Has the app's other threads go no further in ring 3 than they are. They end what they do in the kernel first.
pub(crate) fn rest_others() {
    for thread in process().threads() {
        if !Arc::ptr_eq(&thread, &current()) {
            signal::send(&thread, SignalInfo::from_kernel(SIGKILL));
        }
    }
}

/// Ends the app because of a signal; the code is the one a shell would show.
pub(crate) fn exit_by_signal(signal: u32) -> ! {
    exit_process(128 + signal as i32)
}
