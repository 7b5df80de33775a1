//! How much of each resource the app may use (getrlimit(2)). Who uses a resource asks [`soft`] for its limit.
//!
//! A limit that nobody would keep to is not accepted: see [`most`]. `RLIMIT_RSS` and `RLIMIT_LOCKS` are remembered and
//! have no effect, as on Linux; `RLIMIT_NICE` says who may ask to be faster, and of `RLIMIT_RTPRIO` there is nothing that could be
//! used. As on Linux, root is free of `RLIMIT_NPROC` and `RLIMIT_MEMLOCK`.

use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general::*;
use spin::Once;

use super::credentials::{self, Capability};
use super::process::MAX_THREADS;
use super::signal_queue::MAX_QUEUED;
use crate::abi::Errno;
use crate::sync::SpinLock;

/// How many resources have limits.
pub(crate) const COUNT: usize = 16;
/// Soft and hard limit on open files.
pub(crate) const MAX_OPEN_FILES: u64 = 1_048_576;
/// The most that the first stack grows to.
pub(crate) const MAX_STACK_BYTES: u64 = 8 << 20;
/// No limit (`RLIM_INFINITY`).
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// What message queues may come to hold until the app says otherwise (`MQ_BYTES_MAX`).
const MESSAGE_QUEUE_BYTES: u64 = 819_200;

/// The limits of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit {
    /// What counts.
    pub soft: u64,
    /// What the soft limit may be raised to.
    pub hard: u64,
}

/// What the app set, for each resource.
static LIMITS: SpinLock<[Limit; COUNT]> = SpinLock::new(first());
/// The soft limits again: what uses a resource looks here.
static SOFT: [AtomicU64; COUNT] = {
    let (mut soft, limits) = ([const { AtomicU64::new(UNLIMITED) }; COUNT], first());
    let mut index = 0;
    while index < COUNT {
        soft[index] = AtomicU64::new(limits[index].soft);
        index += 1;
    }
    soft
};

/// Who keeps to new limits.
static LISTENER: Once<fn(u32, Limit)> = Once::new();

/// Sets who keeps to new limits, beside those who ask [`soft`] each time: it is told the resource and its limits, with all
/// limits locked.
pub(crate) fn set_listener(apply: fn(u32, Limit)) {
    LISTENER.call_once(|| apply);
}

/// The highest limit of a resource: what the machine is made for. There are no core dumps, and no real-time threads whose
/// time could be bounded.
const fn most(resource: u32) -> u64 {
    match resource {
        RLIMIT_NOFILE => MAX_OPEN_FILES,
        RLIMIT_STACK => MAX_STACK_BYTES,
        RLIMIT_CORE => 0,
        RLIMIT_SIGPENDING => MAX_QUEUED as u64,
        RLIMIT_NPROC => MAX_THREADS as u64,
        _ => UNLIMITED,
    }
}

const fn first() -> [Limit; COUNT] {
    let mut limits = [Limit { soft: 0, hard: 0 }; COUNT];
    let mut resource = 0;
    while resource < COUNT {
        let most = most(resource as u32);
        limits[resource] = Limit { soft: most, hard: most };
        resource += 1;
    }
    // Who is not privileged begins without a claim to be faster than others.
    limits[RLIMIT_NICE as usize] = Limit { soft: 0, hard: 0 };
    limits[RLIMIT_MSGQUEUE as usize] = Limit { soft: MESSAGE_QUEUE_BYTES, hard: MESSAGE_QUEUE_BYTES };
    limits
}

/// The limits of a resource; none if there is no such resource.
pub(crate) fn get(resource: u32) -> Option<Limit> {
    LIMITS.lock().get(resource as usize).copied()
}

/// Changes them, and answers what they were. Only who has [`Capability::SysResource`] may raise a hard limit.
pub(crate) fn set(resource: u32, new: Limit) -> Result<Limit, Errno> {
    let is_privileged = credentials::has(Capability::SysResource);
    let mut limits = LIMITS.lock();
    let limit = limits.get_mut(resource as usize).ok_or(Errno::EINVAL)?;
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    let before = *limit;
    let is_kept = resource != RLIMIT_RTTIME || new == before;
    if new.hard > most(resource) || new.hard > before.hard && !is_privileged || !is_kept {
        return Err(Errno::EPERM);
    }
    *limit = new;
    SOFT[resource as usize].store(new.soft, Ordering::Relaxed);
    if let Some(apply) = LISTENER.get() {
        apply(resource, new);
    }
    Ok(before)
}

/// The soft limit of a resource that there is.
#[inline]
pub(crate) fn soft(resource: u32) -> u64 {
    SOFT[resource as usize].load(Ordering::Relaxed)
}
