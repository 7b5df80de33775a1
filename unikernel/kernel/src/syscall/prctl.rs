//! prctl(2): what a thread and the process are called, and what they say of themselves.
//!
//! What Linux would do for other processes, or with other privileges, has no effect here and is kept only to be told.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::prctl::*;
use unikernel_vfs::access::{Ambient, CapabilitySet};

use crate::abi::{Errno, SysResult};
use crate::exec::stack;
use crate::mem::user::{UserPtr, UserSlice, read_c_string};
use crate::task::credentials;
use crate::task::current;
use crate::task::settings::Settings;
use crate::task::signal::MAX_SIGNAL;

/// The longest name of a region, with its NUL (`PR_SET_VMA_ANON_NAME`).
const MAX_REGION_NAME: usize = 80;

static IS_SUBREAPER: AtomicU32 = AtomicU32::new(0);
static IS_THP_DISABLED: AtomicU32 = AtomicU32::new(0);

/// A switch: 0 or 1.
fn switch(argument: u64) -> Result<u32, Errno> {
    if argument <= 1 { Ok(argument as u32) } else { Err(Errno::EINVAL) }
}

/// Options that look at their further arguments want zeros there.
fn check_zero(rest: &[u64]) -> Result<(), Errno> {
    if rest.iter().all(|&argument| argument == 0) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// prctl(2).
pub(crate) fn sys_prctl(option: u32, argument: u64, third: u64, fourth: u64, fifth: u64) -> SysResult {
    let rest = [third, fourth, fifth];
    match option {
        PR_SET_NAME => set_name(argument),
        PR_GET_NAME => {
            let name = *current().name.lock();
            UserPtr::new(argument).write(name)?;
            Ok(0)
        }
        PR_GET_AUXV => {
            let vector = stack::auxiliary_vector_bytes();
            let room = UserSlice::new(argument, (third as usize).min(vector.len()));
            room.write(&vector[..room.len()])?;
            Ok(vector.len())
        }
        PR_GET_DUMPABLE => Ok(credentials::dumpable() as usize),
        PR_SET_DUMPABLE => {
            credentials::set_dumpable(switch(argument)?);
            Ok(0)
        }
        PR_SET_CHILD_SUBREAPER => store(&IS_SUBREAPER, u32::from(argument != 0)),
        PR_GET_CHILD_SUBREAPER => put(argument, IS_SUBREAPER.load(Ordering::Relaxed)),
        PR_SET_THP_DISABLE => {
            check_zero(&rest).and_then(|()| store(&IS_THP_DISABLED, u32::from(argument != 0)))
        }
        PR_GET_THP_DISABLE => {
            check_zero(&[argument, third, fourth, fifth])?;
            Ok(IS_THP_DISABLED.load(Ordering::Relaxed) as usize)
        }
        PR_GET_KEEPCAPS | PR_SET_KEEPCAPS | PR_CAPBSET_READ | PR_CAPBSET_DROP | PR_GET_SECUREBITS
        | PR_SET_SECUREBITS | PR_CAP_AMBIENT => of_credentials(option, argument, rest),
        PR_GET_SECCOMP => Ok(current().confinement.lock().seccomp.mode() as usize),
        PR_SET_SECCOMP => super::seccomp::set_mode(argument, third),
        PR_GET_TSC => put(argument, PR_TSC_ENABLE),
        PR_SET_TSC if argument == u64::from(PR_TSC_ENABLE) => Ok(0),
        // There are no counters and no tracers that they could concern.
        PR_TASK_PERF_EVENTS_DISABLE | PR_TASK_PERF_EVENTS_ENABLE | PR_SET_PTRACER => Ok(0),
        PR_SET_VMA => name_region(argument, fifth),
        _ => of_thread(option, argument, rest),
    }
}

/// The options about capabilities (capabilities(7)).
fn of_credentials(option: u32, argument: u64, rest: [u64; 3]) -> SysResult {
    let one = |number| {
        let set = CapabilitySet::of_number(number);
        if set.is_empty() { Err(Errno::EINVAL) } else { Ok(set) }
    };
    match option {
        PR_GET_KEEPCAPS => return Ok(credentials::mine().keeps_capabilities().into()),
        PR_GET_SECUREBITS => return Ok(credentials::mine().secure_bits.bits() as usize),
        PR_CAPBSET_READ => {
            let bounding = credentials::mine().capabilities.bounding;
            return Ok(bounding.contains(one(argument)?).into());
        }
        PR_SET_KEEPCAPS => {
            let keeps = switch(argument)? != 0;
            credentials::change(|who| who.set_keeps_capabilities(keeps))?;
        }
        PR_SET_SECUREBITS => credentials::change(|who| who.set_secure_bits(argument))?,
        PR_CAPBSET_DROP => {
            // Who may drop none is not told which there are.
            let dropped = one(argument);
            credentials::change(|who| who.drop_bounding(*dropped.as_ref().unwrap_or(&CapabilitySet::NONE)))?;
            dropped?;
        }
        _ => return ambient(argument, rest),
    }
    Ok(0)
}

/// `PR_CAP_AMBIENT`.
fn ambient(what: u64, [number, fourth, fifth]: [u64; 3]) -> SysResult {
    if what == u64::from(PR_CAP_AMBIENT_CLEAR_ALL) {
        check_zero(&[number, fourth, fifth])?;
        credentials::change(|who| who.change_ambient(Ambient::Lower, CapabilitySet::ALL))?;
        return Ok(0);
    }
    check_zero(&[fourth, fifth])?;
    let which = CapabilitySet::of_number(number);
    let change = match u32::try_from(what) {
        _ if which.is_empty() => return Err(Errno::EINVAL),
        Ok(PR_CAP_AMBIENT_IS_SET) => {
            return Ok(credentials::mine().capabilities.ambient.contains(which).into());
        }
        Ok(PR_CAP_AMBIENT_RAISE) => Ambient::Raise,
        Ok(PR_CAP_AMBIENT_LOWER) => Ambient::Lower,
        _ => return Err(Errno::EINVAL),
    };
    credentials::change(|who| who.change_ambient(change, which))?;
    Ok(0)
}

/// The options that are kept in the thread.
fn of_thread(option: u32, argument: u64, rest: [u64; 3]) -> SysResult {
    let mut settings = *current().settings.lock();
    match option {
        PR_GET_PDEATHSIG => return put(argument, settings.death_signal),
        PR_GET_TIMERSLACK => return Ok(settings.timer_slack_ns as usize),
        PR_GET_NO_NEW_PRIVS => {
            check_zero(&[argument, rest[0], rest[1], rest[2]])?;
            return Ok(settings.has_no_new_privileges.into());
        }
        PR_MCE_KILL_GET => {
            check_zero(&[argument, rest[0], rest[1], rest[2]])?;
            return Ok(settings.machine_check_policy as usize);
        }
        PR_SET_PDEATHSIG if argument <= u64::from(MAX_SIGNAL) => settings.death_signal = argument as u32,
        // 0 stands for the value at the start (prctl(2)).
        PR_SET_TIMERSLACK if argument as i64 <= 0 => {
            settings.timer_slack_ns = Settings::INITIAL.timer_slack_ns;
        }
        PR_SET_TIMERSLACK => settings.timer_slack_ns = argument,
        // It cannot be taken back: programs bring no privileges from now on (`Credentials::execute`).
        PR_SET_NO_NEW_PRIVS if argument == 1 => {
            check_zero(&rest)?;
            settings.has_no_new_privileges = true;
        }
        PR_MCE_KILL => settings.machine_check_policy = machine_check_policy(argument, rest)?,
        _ => return Err(Errno::EINVAL),
    }
    *current().settings.lock() = settings;
    Ok(0)
}

fn machine_check_policy(argument: u64, rest: [u64; 3]) -> Result<u32, Errno> {
    let [policy, ..] = rest;
    check_zero(&rest[1..])?;
    match (argument as u32, policy as u32) {
        (PR_MCE_KILL_CLEAR, 0) => Ok(PR_MCE_KILL_DEFAULT),
        (PR_MCE_KILL_SET, policy @ (PR_MCE_KILL_EARLY | PR_MCE_KILL_LATE | PR_MCE_KILL_DEFAULT)) => {
            Ok(policy)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn store(place: &AtomicU32, value: u32) -> SysResult {
    place.store(value, Ordering::Relaxed);
    Ok(0)
}

fn put(address: u64, value: u32) -> SysResult {
    UserPtr::new(address).write(value)?;
    Ok(0)
}

fn set_name(address: u64) -> SysResult {
    let name = UserPtr::<u8>::new(address);
    let mut bytes = [0; 16];
    for (index, byte) in bytes.iter_mut().take(15).enumerate() {
        *byte = name.element(index).read()?;
        if *byte == 0 {
            break;
        }
    }
    *current().name.lock() = bytes;
    Ok(0)
}

/// Naming anonymous regions is a courtesy to `/proc/self/maps`, which does not show the names; a name is checked.
fn name_region(what: u64, address: u64) -> SysResult {
    if what != u64::from(PR_SET_VMA_ANON_NAME) {
        return Err(Errno::EINVAL);
    }
    let Some(name) = UserPtr::<u8>::new(address).non_null() else { return Ok(0) };
    let name: Vec<u8> = read_c_string(name, MAX_REGION_NAME - 1)?.ok_or(Errno::EINVAL)?;
    let is_good = |byte: &u8| matches!(byte, b' '..=b'~') && !b"\\`$[]".contains(byte);
    if name.iter().all(is_good) { Ok(0) } else { Err(Errno::EINVAL) }
}
