//! Sending signals, and taking those that wait. [`signal_delivery`](super::signal_delivery) does what they ask for.

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use spin::Once;

use super::signal_timer;
use crate::arch::cpu::{exit_work, this_cpu};
use crate::task::process::process;
use crate::task::signal::{SignalInfo, SignalSet, UNBLOCKABLE, set_of};
use crate::task::signal_queue::Sent;
use crate::task::thread::Thread;
use crate::task::{current, scheduler};

/// True if a signal that is sent has no effect: it is ignored, and `thread` does not keep it back. What is blocked is
/// kept even if it is ignored: the disposition may change before it is unblocked, and `sigtimedwait` may fetch it.
fn is_dropped(thread: &Thread, signal: u32) -> bool {
    let kept = {
        let signals = thread.signals.lock();
        signals.mask & !UNBLOCKABLE | signals.awaited
    };
    kept & set_of(signal) == 0 && process().dispositions.lock().is_ignored(signal)
}

/// Signals that stop a process elsewhere.
const STOPS: [u32; 4] = [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU];

/// A signal to stop takes back those to go on, and the other way round, even if nobody wants it (signal(7)).
fn take_back_opposite(signal: u32) {
    match signal {
        SIGCONT => STOPS.into_iter().for_each(discard),
        _ if STOPS.contains(&signal) => discard(SIGCONT),
        _ => {}
    }
}

/// Who is told of each signal that becomes pending.
static OBSERVER: Once<fn(u32)> = Once::new();

/// Sets who is told of each signal that becomes pending, in the context of whoever sends it.
pub(crate) fn set_observer(observer: fn(u32)) {
    OBSERVER.call_once(|| observer);
}

fn tell_observer(signal: u32) {
    if let Some(observer) = OBSERVER.get() {
        observer(signal);
    }
}

/// Sends a signal to one thread.
pub(crate) fn send(thread: &Arc<Thread>, info: SignalInfo) -> Sent {
    take_back_opposite(info.signal);
    if is_dropped(thread, info.signal) {
        return Sent::Ignored;
    }
    let (sent, wants_in) = {
        let mut signals = thread.signals.lock();
        (signals.pending.push(info), signals.has_deliverable())
    };
    if wants_in {
        scheduler::interrupt(thread);
    }
    tell_observer(info.signal);
    sent
}

/// Sends a signal to the app: any thread that lets it in may take it, the oldest that does is made to look.
pub(crate) fn send_to_process(info: SignalInfo) -> Sent {
    take_back_opposite(info.signal);
    let first = process().find_thread(|_| true);
    if first.is_none_or(|first| is_dropped(&first, info.signal)) {
        return Sent::Ignored;
    }
    let sent = process().pending.push(info);
    if let Some(thread) =
        process().find_thread(|thread| thread.signals.lock().open() & set_of(info.signal) != 0)
    {
        scheduler::interrupt(&thread);
    }
    tell_observer(info.signal);
    sent
}

/// Takes a signal of `wanted` for the calling thread: of its own first, then of the app's.
pub(crate) fn take(wanted: SignalSet) -> Option<SignalInfo> {
    loop {
        let own = current().signals.lock().pending.take(wanted);
        let info = own.or_else(|| process().pending.take(wanted))?;
        let taken = signal_timer::take(info);
        if taken.is_some() {
            return taken;
        }
    }
}

/// The signals that [`take`] would find.
pub(crate) fn pending_set() -> SignalSet {
    current().signals.lock().pending.set() | process().pending.set()
}

/// Drops what waits of a signal that is ignored from now on.
pub(crate) fn discard(signal: u32) {
    let drop_all = |count: usize, take: &dyn Fn() -> Option<SignalInfo>| {
        // One more, which may wait without details.
        for _ in 0..=count {
            let Some(info) = take() else { break };
            signal_timer::signal_dropped(&info);
        }
    };
    let set = set_of(signal);
    drop_all(process().pending.count(), &|| process().pending.take(set));
    for thread in process().threads() {
        let count = thread.signals.lock().pending.count();
        drop_all(count, &|| thread.signals.lock().pending.take(set));
    }
}

/// Sets the calling thread's mask. What it lets in now is delivered on the way out, if that looks
/// ([`look_again`]); what it blocks now, another thread may take.
pub(crate) fn set_mask(mask: SignalSet) {
    let mask = mask & !UNBLOCKABLE;
    let before = core::mem::replace(&mut current().signals.lock().mask, mask);
    hand_on(mask & !before);
}

/// Has other threads look for the app's signals of `set`: the calling one, which may have been chosen for them, does
/// not take them any more.
pub(crate) fn hand_on(set: SignalSet) {
    let mut left = process().pending.set() & set;
    if left == 0 {
        return;
    }
    let me = Arc::clone(&current());
    process().find_thread(|thread| {
        let open = if Arc::ptr_eq(thread, &me) { 0 } else { thread.signals.lock().open() };
        if open & left != 0 {
            scheduler::interrupt(thread);
            left &= !open;
        }
        left == 0
    });
}

/// Makes the way out look for signals again: the calling thread's mask changed.
pub(crate) fn look_again() {
    this_cpu().request(exit_work::SIGNAL);
}
