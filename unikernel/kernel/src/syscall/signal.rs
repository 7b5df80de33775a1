//! Signals (rt_sigaction(2), rt_sigprocmask(2), sigaltstack(2), kill(2), tgkill(2)).

use alloc::sync::Arc;

use linux_raw_sys::general::*;

use crate::abi::{Errno, SysResult};
use crate::mem::user::UserPtr;
use crate::process::clocks::{self, ClockBase};
use crate::process::signal;
use crate::process::signal_delivery;
use crate::process::signal_frame::{self, StackT};
use crate::task::process::{PROCESS_ID, process};
use crate::task::signal::{
    AlternateStack, MAX_SIGNAL, SigAction, SignalInfo, SignalSet, UNBLOCKABLE, set_of,
};
use crate::task::signal_queue::Sent;
use crate::task::wait::WaitError;
use crate::task::{WaitQueue, current};

/// Bytes of a signal set in the raw calls.
const SET_BYTES: usize = size_of::<SignalSet>();

pub(super) fn check_signal(signal: u32) -> Result<u32, Errno> {
    if (1..=MAX_SIGNAL).contains(&signal) { Ok(signal) } else { Err(Errno::EINVAL) }
}

/// Flags of an action that are kept: the others read as zero again, which tells the app that they are not known.
const KNOWN_FLAGS: u64 = (SA_NOCLDSTOP
    | SA_NOCLDWAIT
    | SA_SIGINFO
    | SA_EXPOSE_TAGBITS
    | SA_RESTORER
    | SA_ONSTACK
    | SA_RESTART
    | SA_NODEFER
    | SA_RESETHAND) as u64;

/// rt_sigaction(2).
pub(crate) fn sys_rt_sigaction(
    signal: u32,
    new: UserPtr<SigAction>,
    old: UserPtr<SigAction>,
    size: usize,
) -> SysResult {
    check_signal(signal)?;
    if size != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let new = new.non_null().map(UserPtr::read).transpose()?;
    if new.is_some() && set_of(signal) & UNBLOCKABLE != 0 {
        return Err(Errno::EINVAL);
    }
    let before = {
        let mut dispositions = process().dispositions.lock();
        let action = dispositions.get_mut(signal);
        let before = *action;
        if let Some(new) = new {
            *action = SigAction { mask: new.mask & !UNBLOCKABLE, flags: new.flags & KNOWN_FLAGS, ..new };
        }
        before
    };
    if new.is_some() && process().dispositions.lock().is_ignored(signal) {
        signal::discard(signal);
    }
    if let Some(old) = old.non_null() {
        old.write(before)?;
    }
    Ok(0)
}

/// rt_sigprocmask(2).
pub(crate) fn sys_rt_sigprocmask(
    how: u32,
    new: UserPtr<SignalSet>,
    old: UserPtr<SignalSet>,
    size: usize,
) -> SysResult {
    if size != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let before = current().signals.lock().mask;
    if let Some(new) = new.non_null() {
        let new = new.read()? & !UNBLOCKABLE;
        set_mask(match how {
            SIG_BLOCK => before | new,
            SIG_UNBLOCK => before & !new,
            SIG_SETMASK => new,
            _ => return Err(Errno::EINVAL),
        });
    }
    if let Some(old) = old.non_null() {
        old.write(before)?;
    }
    Ok(0)
}

/// Sets the calling thread's mask; what it unblocks is delivered on the way out.
fn set_mask(mask: SignalSet) {
    signal::set_mask(mask);
    signal::look_again();
}

/// Runs a call under a temporary mask (`ppoll`, `epoll_pwait`, `sigsuspend`). The old mask comes
/// back after the signal that ended the call was delivered.
pub(crate) fn with_mask(mask: Option<SignalSet>, call: impl FnOnce() -> SysResult) -> SysResult {
    let Some(mask) = mask else { return call() };
    let before = current().signals.lock().mask;
    set_mask(mask);
    let result = call();
    let is_interrupted = [Errno::EINTR, Errno::RESTART, Errno::RESTART_NO_HANDLER];
    if !result.is_err_and(|error| is_interrupted.contains(&error)) {
        set_mask(before);
        return result;
    }
    current().signals.lock().saved_mask = Some(before);
    signal::look_again();
    if result == Err(Errno::RESTART) { Err(Errno::EINTR) } else { result }
}

/// Reads the optional mask argument of those calls.
pub(crate) fn read_mask(pointer: UserPtr<SignalSet>, size: usize) -> Result<Option<SignalSet>, Errno> {
    let Some(pointer) = pointer.non_null() else { return Ok(None) };
    if size != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    Ok(Some(pointer.read()?))
}

/// rt_sigpending(2).
pub(crate) fn sys_rt_sigpending(set: UserPtr<SignalSet>, size: usize) -> SysResult {
    if size > SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let mask = current().signals.lock().mask;
    set.write(signal::pending_set() & mask)?;
    Ok(0)
}

/// rt_sigsuspend(2).
pub(crate) fn sys_rt_sigsuspend(mask: UserPtr<SignalSet>, size: usize) -> SysResult {
    let mask = read_mask(mask, size)?.ok_or(Errno::EFAULT)?;
    with_mask(Some(mask), sys_pause)
}

/// pause(2).
pub(crate) fn sys_pause() -> SysResult {
    let _ = WaitQueue::new().wait_until(None, || None::<()>);
    Err(Errno::RESTART_NO_HANDLER)
}

/// rt_sigtimedwait(2).
pub(crate) fn sys_rt_sigtimedwait(
    set: UserPtr<SignalSet>,
    info: UserPtr<[u64; 16]>,
    timeout: UserPtr<__kernel_timespec>,
    size: usize,
) -> SysResult {
    let set = read_mask(set, size)?.ok_or(Errno::EFAULT)? & !UNBLOCKABLE;
    let deadline_ns = clocks::read_deadline(timeout, ClockBase::Relative)?;
    let me = Arc::clone(&current());
    me.signals.lock().awaited = set;
    let outcome = WaitQueue::new().wait_until(deadline_ns, || signal::take(set));
    me.signals.lock().awaited = 0;
    // One that came too late may be another thread's to take.
    signal::hand_on(set);
    let taken = match outcome {
        Ok(taken) => taken,
        Err(WaitError::TimedOut) => return Err(Errno::EAGAIN),
        Err(WaitError::Interrupted) => return Err(Errno::EINTR),
    };
    if let Some(info) = info.non_null() {
        let mut words = [0; 16];
        words[0] = u64::from(taken.signal);
        words[1] = u64::from(taken.code as u32);
        words[2] = taken.detail;
        words[3] = taken.value;
        info.write(words)?;
    }
    Ok(taken.signal as usize)
}

/// rt_sigreturn(2): the frame's registers replace all, so there is no result.
pub(crate) fn sys_rt_sigreturn(frame: &mut crate::arch::trap::TrapFrame) {
    // The handler has come between the call that it cut short and its rest.
    *current().restart.lock() = None;
    if signal_frame::pop(frame).is_err() {
        signal_delivery::force(frame, signal_delivery::Cause::GENERAL_PROTECTION);
    }
    signal::look_again();
}

/// sigaltstack(2).
pub(crate) fn sys_sigaltstack(new: UserPtr<StackT>, old: UserPtr<StackT>) -> SysResult {
    let me = current();
    let stack_pointer = me.user_frame().rsp;
    let new = new.non_null().map(UserPtr::read).transpose()?;
    let before = me.signals.lock().alternate_stack;
    if let Some(new) = new {
        if before.contains(stack_pointer) && !before.is_auto_disarm {
            return Err(Errno::EPERM);
        }
        me.signals.lock().alternate_stack = decode_stack(new)?;
    }
    if let Some(old) = old.non_null() {
        old.write(signal_frame::describe(&before, stack_pointer))?;
    }
    Ok(0)
}

fn decode_stack(new: StackT) -> Result<AlternateStack, Errno> {
    let mode = new.flags & !SS_AUTODISARM;
    if !matches!(mode, 0 | SS_ONSTACK | SS_DISABLE) {
        return Err(Errno::EINVAL);
    }
    if mode == SS_DISABLE {
        return Ok(AlternateStack::default());
    }
    if new.size < u64::from(MINSIGSTKSZ) {
        return Err(Errno::ENOMEM);
    }
    Ok(AlternateStack { base: new.base, size: new.size, is_auto_disarm: new.flags & SS_AUTODISARM != 0 })
}

/// kill(2): the only process is the app itself (or its group).
pub(crate) fn sys_kill(pid: i32, signal: u32) -> SysResult {
    if ![PROCESS_ID, 0, -1, -PROCESS_ID].contains(&pid) {
        return Err(Errno::ESRCH);
    }
    if signal != 0 {
        signal::send_to_process(SignalInfo::from_app(check_signal(signal)?, SI_USER as i32));
    }
    Ok(0)
}

/// Tells a sender that there was no room (sigqueue(3)); kill(2) alone never hears of it, as on Linux.
pub(super) fn queued(sent: Sent) -> Result<(), Errno> {
    if sent == Sent::Full { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// tkill(2).
pub(crate) fn sys_tkill(id: i32, signal: u32) -> SysResult {
    sys_tgkill(PROCESS_ID, id, signal)
}

/// tgkill(2).
pub(crate) fn sys_tgkill(pid: i32, id: i32, signal: u32) -> SysResult {
    if pid <= 0 || id <= 0 || signal > MAX_SIGNAL {
        return Err(Errno::EINVAL);
    }
    let thread = process().thread(id).filter(|_| pid == PROCESS_ID).ok_or(Errno::ESRCH)?;
    if signal != 0 {
        queued(signal::send(&thread, SignalInfo::from_app(signal, SI_TKILL)))?;
    }
    Ok(0)
}

/// The start of a `siginfo_t` of a queued signal: number, error, code; sender; value.
pub(super) type QueuedInfo = [u64; 4];

/// What the app wants to tell. To others it must not look like the kernel, or like kill(2).
fn read_queued(pid: i32, signal: u32, info: UserPtr<QueuedInfo>) -> Result<SignalInfo, Errno> {
    let told = told_by_app(signal, info.read()?);
    if pid != PROCESS_ID && looks_like_kernel(&told) {
        return Err(Errno::EPERM);
    }
    Ok(told)
}

/// What the app wants to tell with a signal.
pub(super) fn told_by_app(signal: u32, [_, code, detail, value]: QueuedInfo) -> SignalInfo {
    SignalInfo { signal, code: code as i32, detail, value, timer: None }
}

/// True if its receiver could take it for the kernel's, or for one of kill(2).
pub(super) fn looks_like_kernel(info: &SignalInfo) -> bool {
    info.code >= 0 || info.code == SI_TKILL
}

/// rt_sigqueueinfo(2).
pub(crate) fn sys_rt_sigqueueinfo(pid: i32, signal: u32, info: UserPtr<QueuedInfo>) -> SysResult {
    let info = read_queued(pid, signal, info)?;
    if pid != PROCESS_ID {
        return Err(Errno::ESRCH);
    }
    if signal != 0 {
        check_signal(signal)?;
        queued(signal::send_to_process(info))?;
    }
    Ok(0)
}

/// rt_tgsigqueueinfo(2).
pub(crate) fn sys_rt_tgsigqueueinfo(pid: i32, id: i32, signal: u32, info: UserPtr<QueuedInfo>) -> SysResult {
    let info = info.read().map(|_| info)?;
    if pid <= 0 || id <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = read_queued(pid, signal, info)?;
    let thread = process().thread(id).filter(|_| pid == PROCESS_ID).ok_or(Errno::ESRCH)?;
    if signal != 0 {
        check_signal(signal)?;
        queued(signal::send(&thread, info))?;
    }
    Ok(0)
}
