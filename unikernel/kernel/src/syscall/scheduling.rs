//! Who runs where, and how much (sched_setaffinity(2), sched_setscheduler(2), setpriority(2)). There is one policy, a
//! fair one without weights; what asks for another is told so, and what asks how things are gets an answer.

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use unikernel_sched::{CoreSet, Schedulable};

use crate::abi::{Errno, SysResult};
use crate::arch::cpu;
use crate::mem::user::{UserPtr, UserSlice};
use crate::process::clocks::to_timespec;
use crate::task::credentials::{self, Capability};
use crate::task::limits;
use crate::task::process::{PROCESS_ID, process};
use crate::task::thread::Thread;
use crate::task::{current, scheduler};

/// sched_yield(2).
pub(crate) fn sys_sched_yield() -> SysResult {
    scheduler::yield_now();
    Ok(0)
}

/// sched_getaffinity(2). Answers the bytes of the mask, as the raw call does.
pub(crate) fn sys_sched_getaffinity(id: i32, size: u32, mask: u64) -> SysResult {
    let thread = thread_by_id(id)?;
    if size < 8 || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let allowed = thread.allowed().and(CoreSet::first(cpu::online()));
    UserPtr::<u64>::new(mask).write(allowed.0)?;
    Ok(8)
}

/// sched_setaffinity(2): a mask is good if it has a core that there is.
pub(crate) fn sys_sched_setaffinity(id: i32, size: usize, mask: u64) -> SysResult {
    let thread = thread_by_id(id)?;
    let mut bytes = [0; 8];
    let len = size.min(bytes.len());
    UserSlice::new(mask, len).read(&mut bytes[..len])?;
    let allowed = CoreSet(u64::from_le_bytes(bytes)).and(CoreSet::first(cpu::online()));
    if allowed.is_empty() {
        return Err(Errno::EINVAL);
    }
    scheduler::set_allowed(&thread, allowed);
    Ok(0)
}

fn thread_by_id(id: i32) -> Result<Arc<Thread>, Errno> {
    if id == 0 { Ok(Arc::clone(&current())) } else { process().thread(id).ok_or(Errno::ESRCH) }
}

/// getcpu(2): all cores are on one node.
pub(crate) fn sys_getcpu(core: UserPtr<u32>, node: UserPtr<u32>) -> SysResult {
    if let Some(core) = core.non_null() {
        core.write(cpu::this_cpu().index() as u32)?;
    }
    if let Some(node) = node.non_null() {
        node.write(0)?;
    }
    Ok(0)
}

/// Policies by which nobody has a priority.
fn is_ordinary(policy: u32) -> bool {
    matches!(policy & !SCHED_RESET_ON_FORK, SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE)
}

/// sched_getscheduler(2).
pub(crate) fn sys_sched_getscheduler(id: i32) -> SysResult {
    thread_of(id)?;
    Ok(SCHED_NORMAL as usize)
}

/// sched_setscheduler(2). Linux refuses priorities in real time to whoever is not privileged; here they are
/// not there.
pub(crate) fn sys_sched_setscheduler(id: i32, policy: u32, parameter: UserPtr<i32>) -> SysResult {
    let priority = parameter.non_null().filter(|_| id >= 0).ok_or(Errno::EINVAL)?.read()?;
    thread_of(id)?;
    match policy & !SCHED_RESET_ON_FORK {
        policy if is_ordinary(policy) && priority == 0 => Ok(0),
        SCHED_FIFO | SCHED_RR if (1..=MAX_PRIORITY).contains(&priority) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_getparam(2).
pub(crate) fn sys_sched_getparam(id: i32, parameter: UserPtr<i32>) -> SysResult {
    let parameter = parameter.non_null().ok_or(Errno::EINVAL)?;
    thread_of(id)?;
    parameter.write(0)?;
    Ok(0)
}

/// sched_setparam(2).
pub(crate) fn sys_sched_setparam(id: i32, parameter: UserPtr<i32>) -> SysResult {
    sys_sched_setscheduler(id, SCHED_NORMAL, parameter)
}

/// The highest priority of `SCHED_FIFO` and `SCHED_RR` (sched(7)).
const MAX_PRIORITY: i32 = 99;

/// sched_get_priority_max(2).
pub(crate) fn sys_sched_get_priority_max(policy: u32) -> SysResult {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok(MAX_PRIORITY as usize),
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE | SCHED_EXT => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_get_priority_min(2).
pub(crate) fn sys_sched_get_priority_min(policy: u32) -> SysResult {
    sys_sched_get_priority_max(policy).map(|highest| highest.min(1))
}

/// sched_rr_get_interval(2): the time slice.
pub(crate) fn sys_sched_rr_get_interval(id: i32, interval: UserPtr<__kernel_timespec>) -> SysResult {
    thread_of(id)?;
    interval.write(to_timespec(scheduler::SLICE_NS))?;
    Ok(0)
}

/// A thread for the calls that refuse negative numbers.
fn thread_of(id: i32) -> Result<Arc<Thread>, Errno> {
    if id < 0 { Err(Errno::EINVAL) } else { thread_by_id(id) }
}

/// Whether a set of processes or threads has anybody in it (getpriority(2)).
fn check_target(which: u32, who: i32) -> Result<(), Errno> {
    match which {
        PRIO_PROCESS => thread_by_id(who).map(drop),
        PRIO_PGRP if who == 0 || who == PROCESS_ID => Ok(()),
        PRIO_USER if who == 0 => Ok(()),
        PRIO_PGRP | PRIO_USER => Err(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

/// getpriority(2). The raw call answers 20 less the nice value, which is 0.
pub(crate) fn sys_getpriority(which: u32, who: i32) -> SysResult {
    check_target(which, who)?;
    Ok(20)
}

/// setpriority(2): accepted; all threads weigh the same.
pub(crate) fn sys_setpriority(which: u32, who: i32, nice: i32) -> SysResult {
    check_target(which, who)?;
    // `RLIMIT_NICE` counts the other way round (getrlimit(2)).
    let is_within = nice >= 0 || (20 - nice.max(-20)) as u64 <= limits::soft(RLIMIT_NICE);
    if !is_within && !credentials::has(Capability::SysNice) {
        return Err(Errno::EACCES);
    }
    Ok(0)
}
