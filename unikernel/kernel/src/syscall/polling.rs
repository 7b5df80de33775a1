//! Waiting for several files at once, the old way (poll(2), select(2)).

use alloc::vec::Vec;

use linux_raw_sys::general::*;
use smallvec::SmallVec;

use super::restart::interrupted;
use super::signal::{read_mask, with_mask};
use crate::abi::{Errno, SysResult};
use crate::event::poll_set::{self, PollEntry, PollError};
use crate::file::{self, Readiness};
use crate::kmem::room;
use crate::mem::user::{Fault, UserPtr};
use crate::platform;
use crate::process::clocks::{self, ClockBase};
use crate::task::restart::Restart;
use crate::task::signal::SignalSet;
use crate::task::wait::WaitError;
use crate::task::{limits, scheduler};

const NANOS_PER_MILLI: u64 = 1_000_000;
const BITS_PER_WORD: usize = 64;

/// The deadline for a time-out in milliseconds, negative for none. 0 stands for one look only.
pub(crate) fn deadline_of_millis(timeout_ms: i32) -> Option<u64> {
    match u64::try_from(timeout_ms) {
        Err(_) => None,
        Ok(0) => Some(0),
        Ok(millis) => Some(platform::time::now_ns().saturating_add(millis * NANOS_PER_MILLI)),
    }
}

/// The deadline for an optional relative `timespec`, in the same way.
pub(crate) fn deadline_of_timespec(timeout: UserPtr<__kernel_timespec>) -> Result<Option<u64>, Errno> {
    let Some(timeout) = timeout.non_null() else { return Ok(None) };
    match clocks::timespec_ns(timeout.read()?)? {
        0 => Ok(Some(0)),
        span_ns => Ok(Some(clocks::deadline_ns(span_ns, ClockBase::Relative))),
    }
}

/// poll(2).
pub(crate) fn sys_poll(fds: UserPtr<pollfd>, count: u32, timeout_ms: i32) -> SysResult {
    poll_or_restart(fds, count as usize, deadline_of_millis(timeout_ms))
}

/// poll(2) with its time-out as a deadline.
pub(super) fn poll_or_restart(entries: UserPtr<pollfd>, count: usize, deadline_ns: Option<u64>) -> SysResult {
    match poll(entries, count, deadline_ns) {
        Err(Errno::RESTART_NO_HANDLER) => {
            interrupted(Restart::Poll { entries: entries.address(), count, deadline_ns })
        }
        outcome => outcome,
    }
}

/// Tells the app how much of its time-out is left, as Linux does, whatever the result: a call that restarts goes on
/// with that. The app may keep its time-out where it cannot be written.
fn tell_rest(
    result: SysResult,
    deadline_ns: Option<u64>,
    write: impl FnOnce(__kernel_timespec) -> Result<(), Fault>,
) -> SysResult {
    let Some(deadline_ns) = deadline_ns.filter(|&deadline_ns| deadline_ns != 0) else { return result };
    let rest_ns = deadline_ns.saturating_sub(platform::time::now_ns());
    match write(clocks::to_timespec(rest_ns)) {
        Err(Fault) if result == Err(Errno::RESTART_NO_HANDLER) => Err(Errno::EINTR),
        _ => result,
    }
}

/// ppoll(2).
pub(crate) fn sys_ppoll(
    fds: UserPtr<pollfd>,
    count: u32,
    timeout: UserPtr<__kernel_timespec>,
    mask: UserPtr<SignalSet>,
    mask_size: usize,
) -> SysResult {
    let deadline_ns = deadline_of_timespec(timeout)?;
    let result = with_mask(read_mask(mask, mask_size)?, || poll(fds, count as usize, deadline_ns));
    tell_rest(result, deadline_ns, |rest| timeout.write(rest))
}

fn poll(fds: UserPtr<pollfd>, count: usize, deadline_ns: Option<u64>) -> SysResult {
    if count as u64 > limits::soft(RLIMIT_NOFILE) {
        return Err(Errno::EINVAL);
    }
    let mut raw: SmallVec<[pollfd; 8]> = SmallVec::new();
    let mut entries: SmallVec<[PollEntry; 8]> = SmallVec::new();
    let mut invalid = 0;
    for index in 0..count {
        let mut entry = fds.element(index).read()?;
        entry.revents = 0;
        let opened = if entry.fd < 0 { None } else { file::get(entry.fd).ok() };
        if entry.fd >= 0 && opened.is_none() {
            entry.revents = POLLNVAL as i16;
            invalid += 1;
        }
        let wanted = Readiness::from_bits_truncate(u32::from(entry.events as u16));
        entries.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        raw.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        entries.push(PollEntry::new(opened, wanted));
        raw.push(entry);
        scheduler::breathe_now_and_then(index);
    }
    // A bad descriptor is an event, so there is nothing to wait for.
    let ready = wait(&mut entries, if invalid > 0 { Some(0) } else { deadline_ns })?;
    for (index, (raw, entry)) in raw.iter_mut().zip(&entries).enumerate() {
        raw.revents |= entry.found.bits() as i16;
        fds.element(index).write(*raw)?;
        scheduler::breathe_now_and_then(index);
    }
    Ok(ready + invalid)
}

/// Waits; nothing found by the deadline is 0, a signal with a handler ends the call for good.
fn wait(entries: &mut [PollEntry], deadline_ns: Option<u64>) -> SysResult {
    match poll_set::wait(entries, deadline_ns) {
        Ok(count) => Ok(count),
        Err(PollError::Wait(WaitError::TimedOut)) => Ok(0),
        Err(PollError::Wait(WaitError::Interrupted)) => Err(Errno::RESTART_NO_HANDLER),
        Err(PollError::OutOfMemory) => Err(Errno::ENOMEM),
    }
}

/// What `select` asks of a descriptor in each of its sets, and what answers it (select(2),
/// "Correspondence between select() and poll() notifications").
const SET_MEANINGS: [(Readiness, Readiness); 3] = [
    (Readiness::READABLE, Readiness::READABLE.union(Readiness::ALWAYS)),
    (Readiness::WRITABLE, Readiness::WRITABLE.union(Readiness::ERR)),
    (Readiness::PRI, Readiness::PRI),
];

/// One bit a descriptor.
type FdSet = Vec<u64>;

fn has(set: &FdSet, descriptor: usize) -> bool {
    set[descriptor / BITS_PER_WORD] >> (descriptor % BITS_PER_WORD) & 1 != 0
}

fn read_set(pointer: UserPtr<u64>, words: usize) -> Result<FdSet, Errno> {
    let mut set = room::filled(0, words)?;
    if let Some(pointer) = pointer.non_null() {
        for (index, word) in set.iter_mut().enumerate() {
            *word = pointer.element(index).read()?;
        }
    }
    Ok(set)
}

/// select(2).
pub(crate) fn sys_select(
    count: i32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    timeout: UserPtr<__kernel_old_timeval>,
) -> SysResult {
    let deadline_ns = match timeout.non_null() {
        None => None,
        Some(timeout) => {
            let timeout = timeout.read()?;
            // Linux takes more than a million microseconds, and carries them over.
            let (seconds, micros) = (u64::try_from(timeout.tv_sec), u64::try_from(timeout.tv_usec));
            let (Ok(seconds), Ok(micros)) = (seconds, micros) else { return Err(Errno::EINVAL) };
            match seconds.saturating_mul(1_000_000).saturating_add(micros).saturating_mul(1000) {
                0 => Some(0),
                span_ns => Some(clocks::deadline_ns(span_ns, ClockBase::Relative)),
            }
        }
    };
    let result = select(count, [read, write, except], deadline_ns);
    tell_rest(result, deadline_ns, |rest| {
        let rest = __kernel_old_timeval { tv_sec: rest.tv_sec, tv_usec: rest.tv_nsec / 1000 };
        timeout.write(rest)
    })
}

/// pselect6(2). The sixth argument points to the mask and its size.
pub(crate) fn sys_pselect6(
    count: i32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    timeout: UserPtr<__kernel_timespec>,
    mask: UserPtr<[u64; 2]>,
) -> SysResult {
    let deadline_ns = deadline_of_timespec(timeout)?;
    let mask = match mask.non_null() {
        None => None,
        Some(mask) => {
            let [address, size] = mask.read()?;
            read_mask(UserPtr::new(address), size as usize)?
        }
    };
    let result = with_mask(mask, || select(count, [read, write, except], deadline_ns));
    tell_rest(result, deadline_ns, |rest| timeout.write(rest))
}

fn select(count: i32, pointers: [UserPtr<u64>; 3], deadline_ns: Option<u64>) -> SysResult {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(file::table::span());
    let words = count.div_ceil(BITS_PER_WORD);
    let mut sets = [FdSet::new(), FdSet::new(), FdSet::new()];
    for (set, pointer) in sets.iter_mut().zip(pointers) {
        *set = read_set(pointer, words)?;
    }
    let mut descriptors = Vec::new();
    let mut entries = Vec::new();
    for descriptor in 0..count {
        let wanted = sets.iter().zip(SET_MEANINGS).filter(|(set, _)| has(set, descriptor));
        let wanted = wanted.fold(Readiness::empty(), |wanted, (_, (asked, _))| wanted | asked);
        if !wanted.is_empty() {
            room::push(&mut descriptors, descriptor)?;
            room::push(&mut entries, PollEntry::new(Some(file::get(descriptor as i32)?), wanted))?;
        }
    }
    wait(&mut entries, deadline_ns)?;
    let mut total = 0;
    for ((set, pointer), (_, answers)) in sets.iter().zip(pointers).zip(SET_MEANINGS) {
        let mut found = room::filled(0_u64, words)?;
        for (&descriptor, entry) in descriptors.iter().zip(&entries) {
            if has(set, descriptor) && entry.found.intersects(answers) {
                found[descriptor / BITS_PER_WORD] |= 1 << (descriptor % BITS_PER_WORD);
                total += 1;
            }
        }
        if let Some(pointer) = pointer.non_null() {
            for (index, word) in found.iter().enumerate() {
                pointer.element(index).write(*word)?;
            }
        }
    }
    Ok(total)
}
