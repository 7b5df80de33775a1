//! Whom the app runs as (setuid(2), setresuid(2), getgroups(2), capget(2)).

use alloc::vec::Vec;

use linux_raw_sys::general::*;

use crate::abi::{Errno, SysResult};
use crate::kmem::room;
use crate::mem::user::UserPtr;
use crate::task::credentials::{
    self, CAPABILITIES, Capabilities, Capability, Ids, MAX_GROUPS, change_group, change_user,
};
use crate::task::current;
use crate::task::process::process;

/// getuid(2).
pub(crate) fn sys_getuid() -> SysResult {
    Ok(credentials::ids().0.real as usize)
}

/// geteuid(2).
pub(crate) fn sys_geteuid() -> SysResult {
    Ok(credentials::ids().0.effective as usize)
}

/// getgid(2).
pub(crate) fn sys_getgid() -> SysResult {
    Ok(credentials::ids().1.real as usize)
}

/// getegid(2).
pub(crate) fn sys_getegid() -> SysResult {
    Ok(credentials::ids().1.effective as usize)
}

/// setuid(2).
pub(crate) fn sys_setuid(id: u32) -> SysResult {
    change_user(|ids, is_privileged| ids.set_one(id, is_privileged))
}

/// setgid(2).
pub(crate) fn sys_setgid(id: u32) -> SysResult {
    change_group(|ids, is_privileged| ids.set_one(id, is_privileged))
}

/// setreuid(2).
pub(crate) fn sys_setreuid(real: u32, effective: u32) -> SysResult {
    change_user(|ids, is_privileged| ids.set_pair(real, effective, is_privileged))
}

/// setregid(2).
pub(crate) fn sys_setregid(real: u32, effective: u32) -> SysResult {
    change_group(|ids, is_privileged| ids.set_pair(real, effective, is_privileged))
}

/// setresuid(2).
pub(crate) fn sys_setresuid(real: u32, effective: u32, saved: u32) -> SysResult {
    change_user(|ids, is_privileged| ids.set([real, effective, saved], is_privileged))
}

/// setresgid(2).
pub(crate) fn sys_setresgid(real: u32, effective: u32, saved: u32) -> SysResult {
    change_group(|ids, is_privileged| ids.set([real, effective, saved], is_privileged))
}

fn write_ids(ids: Ids, places: [UserPtr<u32>; 3]) -> SysResult {
    for (place, id) in places.into_iter().zip([ids.real, ids.effective, ids.saved]) {
        place.write(id)?;
    }
    Ok(0)
}

/// getresuid(2).
pub(crate) fn sys_getresuid(real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> SysResult {
    let ids = credentials::ids().0;
    write_ids(ids, [real, effective, saved])
}

/// getresgid(2).
pub(crate) fn sys_getresgid(real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> SysResult {
    let ids = credentials::ids().1;
    write_ids(ids, [real, effective, saved])
}

/// getgroups(2).
pub(crate) fn sys_getgroups(count: i32, list: UserPtr<u32>) -> SysResult {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let groups = credentials::groups();
    let groups = groups.as_deref().map_or(&[][..], Vec::as_slice);
    if count == 0 {
        return Ok(groups.len());
    }
    if groups.len() > count {
        return Err(Errno::EINVAL);
    }
    for (index, group) in groups.iter().enumerate() {
        list.element(index).write(*group)?;
    }
    Ok(groups.len())
}

/// setgroups(2).
pub(crate) fn sys_setgroups(count: u32, list: UserPtr<u32>) -> SysResult {
    if !credentials::has(Capability::SetGid) {
        return Err(Errno::EPERM);
    }
    if count as usize > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    let mut groups = room::with_capacity(count as usize)?;
    for index in 0..count as usize {
        groups.push(list.element(index).read()?);
    }
    groups.sort_unstable();
    credentials::set_groups(groups);
    Ok(0)
}

/// Three words for each 32 capabilities: effective, permitted, inheritable (capget(2)).
type CapabilityWords = [[u32; 3]; 2];

/// The version that both sides speak and the process meant, of the header. Another version is answered by ours.
fn check_version(header: UserPtr<u32>) -> Result<i32, Errno> {
    if header.read()? != _LINUX_CAPABILITY_VERSION_3 {
        header.write(_LINUX_CAPABILITY_VERSION_3)?;
        return Err(Errno::EINVAL);
    }
    Ok(header.element(1).read()? as i32)
}

/// capget(2).
pub(crate) fn sys_capget(header: UserPtr<u32>, data: UserPtr<CapabilityWords>) -> SysResult {
    match check_version(header) {
        // Without a place for the answer, the version was the question.
        Err(Errno::EINVAL) if data.is_null() => return Ok(0),
        outcome => {
            let id = outcome?;
            if id < 0 {
                return Err(Errno::EINVAL);
            }
            if id != 0 && process().thread(id).is_none() {
                return Err(Errno::ESRCH);
            }
        }
    }
    let Capabilities { effective, permitted, inheritable } = credentials::capabilities();
    let words = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    data.write([words(0), words(32)])?;
    Ok(0)
}

/// capset(2): the app gives capabilities up.
pub(crate) fn sys_capset(header: UserPtr<u32>, data: UserPtr<CapabilityWords>) -> SysResult {
    // Nobody but oneself.
    if ![0, current().id].contains(&check_version(header)?) {
        return Err(Errno::EPERM);
    }
    let [low, high] = data.read()?;
    // What there is not is left out, as by Linux.
    let set = |index: usize| (u64::from(low[index]) | u64::from(high[index]) << 32) & CAPABILITIES;
    let (effective, permitted, inheritable) = (set(0), set(1), set(2));
    credentials::set_capabilities(Capabilities { effective, permitted, inheritable }).map(|()| 0)
}
