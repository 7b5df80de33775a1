//! futex(2): the arguments, decoded; the queues are `task::futex`.

use linux_raw_sys::general::*;

use super::restart::interrupted;
use crate::abi::{Errno, SysResult};
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice};
use crate::process::clocks::{self, ClockBase};
use crate::process::futex::{self, FutexError};
use crate::process::{futex_many, futex_pi};
use crate::task::restart::Restart;

/// Words that one call waits for at most (`FUTEX_WAITV_MAX`).
const MAX_WORDS: u32 = 128;

/// futex(2). The fourth argument is a time-out or a second count, by operation.
pub(crate) fn sys_futex(
    address: u64,
    operation: u32,
    value: u32,
    fourth: u64,
    address2: u64,
    value3: u32,
) -> SysResult {
    // One process: private and shared futexes are the same thing.
    let command = operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    let is_realtime = operation & FUTEX_CLOCK_REALTIME != 0;
    // In the order of Linux: the time-out, what the call itself says, and only then the words.
    let deadline_ns = match clock_of(command, is_realtime) {
        Some(base) => clocks::read_deadline(UserPtr::new(fourth), base)?,
        None => None,
    };
    let takes_clock = matches!(command, FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2);
    if is_realtime && !takes_clock {
        return Err(Errno::ENOSYS);
    }
    check_values(command, (address, address2), (value, fourth as u32), value3)?;
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if operation & FUTEX_PRIVATE_FLAG == 0 {
        // A futex that may be shared is known by its page, which must be there.
        UserPtr::<u32>::new(address).read()?;
    } else {
        UserSlice::checked(address, 4)?;
    }
    match command {
        FUTEX_WAIT => sleep(address, value, u32::MAX, deadline_ns),
        FUTEX_WAIT_BITSET => sleep(address, value, value3, deadline_ns),
        FUTEX_WAKE => wake(address, value, u32::MAX),
        FUTEX_WAKE_BITSET => wake(address, value, value3),
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => {
            let expected = (command == FUTEX_CMP_REQUEUE).then_some(value3);
            requeue(address, address2, value, fourth as u32, expected)
        }
        FUTEX_WAKE_OP => wake_op(address, address2, value, fourth as u32, value3),
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => with_owner(futex_pi::lock(address, deadline_ns)),
        FUTEX_TRYLOCK_PI => with_owner(futex_pi::try_lock(address)),
        FUTEX_UNLOCK_PI => with_owner(futex_pi::unlock(address)),
        FUTEX_WAIT_REQUEUE_PI => {
            check_word(address2)?;
            with_owner(futex_pi::wait_requeue((address, address2), value, deadline_ns))
        }
        FUTEX_CMP_REQUEUE_PI => requeue_to_lock(address, address2, fourth as u32, value3),
        _ => Err(Errno::ENOSYS),
    }
}

/// How the time-out of an operation is counted; none if it has none.
fn clock_of(command: u32, is_realtime: bool) -> Option<ClockBase> {
    match command {
        FUTEX_WAIT => Some(ClockBase::Relative),
        FUTEX_LOCK_PI => Some(ClockBase::AbsoluteWall),
        FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2 if is_realtime => {
            Some(ClockBase::AbsoluteWall)
        }
        FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2 => Some(ClockBase::AbsoluteMonotonic),
        _ => None,
    }
}

/// What is wrong with an operation whatever its words are.
fn check_values(command: u32, words: (u64, u64), counts: (u32, u32), value3: u32) -> Result<(), Errno> {
    let is_negative = (counts.0 | counts.1) >> 31 != 0;
    let is_wrong = match command {
        FUTEX_WAIT_BITSET | FUTEX_WAKE_BITSET => value3 == 0,
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => is_negative,
        FUTEX_WAIT_REQUEUE_PI => words.0 == words.1,
        // One waiter gets the lock at most, so no more can be woken.
        FUTEX_CMP_REQUEUE_PI => is_negative || words.0 == words.1 || counts.0 != 1,
        _ => false,
    };
    if is_wrong { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Calls on locks with an owner begin again whatever handler ran: their time-outs are absolute.
fn with_owner(outcome: Result<(), FutexError>) -> SysResult {
    match outcome {
        Ok(()) => Ok(0),
        Err(FutexError::Interrupted) => Err(Errno::RESTART_ALWAYS),
        Err(error) => Err(error.into()),
    }
}

/// The second word of an operation.
fn check_word(address: u64) -> Result<(), Errno> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    UserSlice::checked(address, 4)?;
    Ok(())
}

fn requeue_to_lock(from: u64, to: u64, move_count: u32, expected: u32) -> SysResult {
    check_word(to)?;
    match futex_pi::requeue((from, to), move_count as usize, Some(expected)) {
        Err(FutexError::Interrupted) => Err(Errno::RESTART_ALWAYS),
        outcome => Ok(outcome?),
    }
}

/// FUTEX_WAIT with its time-out as a deadline.
pub(super) fn sleep(address: u64, expected: u32, bits: u32, deadline_ns: Option<u64>) -> SysResult {
    match (futex::wait(address, expected, bits, deadline_ns), deadline_ns) {
        (Err(FutexError::Interrupted), Some(deadline_ns)) => {
            interrupted(Restart::Futex { address, expected, bits, deadline_ns })
        }
        (outcome, _) => Ok(outcome.map(|()| 0)?),
    }
}

/// The count is an `int`; Linux wakes one even for zero and for negative numbers.
fn count_of(value: u32) -> usize {
    if value as i32 <= 0 { 1 } else { value as usize }
}

fn wake(address: u64, count: u32, bits: u32) -> SysResult {
    Ok(futex::wake(address, count_of(count), bits)?)
}

fn requeue(from: u64, to: u64, wake_count: u32, move_count: u32, expected: Option<u32>) -> SysResult {
    check_word(to)?;
    let done = futex::requeue((from, to), (wake_count as usize, move_count as usize), expected)?;
    Ok(done.woken + done.moved)
}

/// FUTEX_WAKE_OP: changes the second word, wakes waiters of the first, and of the second if its
/// old value compares.
fn wake_op(address: u64, address2: u64, count: u32, count2: u32, encoded: u32) -> SysResult {
    let sign_extend_12 = |bits: u32| ((bits << 20) as i32 >> 20) as u32;
    let (operation, comparison) = (encoded >> 28 & 0xf, encoded >> 24 & 0xf);
    let (mut operand, compared) = (sign_extend_12(encoded >> 12), sign_extend_12(encoded));
    if operation & FUTEX_OP_OPARG_SHIFT != 0 {
        operand = 1 << (operand & 31);
    }
    if operation & 7 > FUTEX_OP_XOR {
        return Err(Errno::ENOSYS);
    }
    let old = UserPtr::<u32>::new(address2).update(|old| {
        Some(match operation & 7 {
            FUTEX_OP_SET => operand,
            FUTEX_OP_ADD => old.wrapping_add(operand),
            FUTEX_OP_OR => old | operand,
            FUTEX_OP_ANDN => old & !operand,
            _ => old ^ operand,
        })
    })?;
    let (old, compared) = (old as i32, compared as i32);
    let holds = match comparison {
        FUTEX_OP_CMP_EQ => old == compared,
        FUTEX_OP_CMP_NE => old != compared,
        FUTEX_OP_CMP_LT => old < compared,
        FUTEX_OP_CMP_LE => old <= compared,
        FUTEX_OP_CMP_GT => old > compared,
        FUTEX_OP_CMP_GE => old >= compared,
        _ => return Err(Errno::ENOSYS),
    };
    let woken = futex::wake(address, count_of(count), u32::MAX)?;
    Ok(if holds { woken + futex::wake(address2, count_of(count2), u32::MAX)? } else { woken })
}

/// futex_waitv(2).
pub(crate) fn sys_futex_waitv(
    words: UserPtr<futex_waitv>,
    count: u32,
    flags: u32,
    timeout: UserPtr<__kernel_timespec>,
    clock: u32,
) -> SysResult {
    if flags != 0 || !(1..=MAX_WORDS).contains(&count) || words.is_null() {
        return Err(Errno::EINVAL);
    }
    let deadline_ns = match (timeout.is_null(), clock) {
        (true, _) => None,
        (_, CLOCK_MONOTONIC) => clocks::read_deadline(timeout, ClockBase::AbsoluteMonotonic)?,
        (_, CLOCK_REALTIME) => clocks::read_deadline(timeout, ClockBase::AbsoluteWall)?,
        _ => return Err(Errno::EINVAL),
    };
    let mut all = room::with_capacity(count as usize)?;
    for index in 0..count as usize {
        let word = words.element(index).read()?;
        if word.flags & !FUTEX2_PRIVATE != FUTEX2_SIZE_U32 || word.__reserved != 0 {
            return Err(Errno::EINVAL);
        }
        all.push((word.uaddr, word.val as u32));
    }
    for &(address, _) in &all {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        UserSlice::checked(address, 4)?;
    }
    Ok(futex_many::wait(&all, deadline_ns)?)
}
