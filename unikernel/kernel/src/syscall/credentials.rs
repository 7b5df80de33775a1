//! Whom a thread acts for (setuid(2), setresuid(2), setfsuid(2), getgroups(2), capget(2)).

use alloc::vec::Vec;

use linux_raw_sys::general::*;
use unikernel_vfs::access::{CapabilitySet, Ids, Refusal};

use crate::abi::{Errno, SysResult};
use crate::kmem::room;
use crate::mem::user::UserPtr;
use crate::task::credentials::{self, Capability, Credentials, MAX_GROUPS};
use crate::task::current;
use crate::task::process::process;

/// getuid(2).
pub(crate) fn sys_getuid() -> SysResult {
    Ok(credentials::mine().user.real as usize)
}

/// geteuid(2).
pub(crate) fn sys_geteuid() -> SysResult {
    Ok(credentials::mine().user.effective as usize)
}

/// getgid(2).
pub(crate) fn sys_getgid() -> SysResult {
    Ok(credentials::mine().group.real as usize)
}

/// getegid(2).
pub(crate) fn sys_getegid() -> SysResult {
    Ok(credentials::mine().group.effective as usize)
}

fn change(how: impl FnOnce(&mut Credentials) -> Result<(), Refusal>) -> SysResult {
    credentials::change(how).map(|()| 0)
}

/// "Nobody", where all ids are to be given.
const NO_ID: u32 = u32::MAX;

fn valid(id: u32) -> Result<u32, Errno> {
    if id == NO_ID { Err(Errno::EINVAL) } else { Ok(id) }
}

/// setuid(2).
pub(crate) fn sys_setuid(id: u32) -> SysResult {
    let id = valid(id)?;
    change(|who| who.set_user(id))
}

/// setgid(2).
pub(crate) fn sys_setgid(id: u32) -> SysResult {
    let id = valid(id)?;
    change(|who| who.set_group(id))
}

/// setreuid(2).
pub(crate) fn sys_setreuid(real: u32, effective: u32) -> SysResult {
    change(|who| who.set_user_pair(real, effective))
}

/// setregid(2).
pub(crate) fn sys_setregid(real: u32, effective: u32) -> SysResult {
    change(|who| who.set_group_pair(real, effective))
}

/// setresuid(2).
pub(crate) fn sys_setresuid(real: u32, effective: u32, saved: u32) -> SysResult {
    change(|who| who.set_user_each([real, effective, saved]))
}

/// setresgid(2).
pub(crate) fn sys_setresgid(real: u32, effective: u32, saved: u32) -> SysResult {
    change(|who| who.set_group_each([real, effective, saved]))
}

/// setfsuid(2): answers the id of before, whatever comes of it.
pub(crate) fn sys_setfsuid(id: u32) -> SysResult {
    let before = credentials::mine().user_fs;
    change(|who| {
        who.set_user_fs(id);
        Ok(())
    })?;
    Ok(before as usize)
}

/// setfsgid(2): the same.
pub(crate) fn sys_setfsgid(id: u32) -> SysResult {
    let before = credentials::mine().group_fs;
    change(|who| {
        who.set_group_fs(id);
        Ok(())
    })?;
    Ok(before as usize)
}

fn write_ids(ids: Ids, places: [UserPtr<u32>; 3]) -> SysResult {
    for (place, id) in places.into_iter().zip([ids.real, ids.effective, ids.saved]) {
        place.write(id)?;
    }
    Ok(0)
}

/// getresuid(2).
pub(crate) fn sys_getresuid(real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> SysResult {
    write_ids(credentials::mine().user, [real, effective, saved])
}

/// getresgid(2).
pub(crate) fn sys_getresgid(real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> SysResult {
    write_ids(credentials::mine().group, [real, effective, saved])
}

/// getgroups(2).
pub(crate) fn sys_getgroups(count: i32, list: UserPtr<u32>) -> SysResult {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let credentials = credentials::mine();
    let groups: &[u32] = &credentials.groups;
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
    credentials::check(Capability::SetGid)?;
    if count as usize > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    let mut groups: Vec<u32> = room::with_capacity(count as usize)?;
    for index in 0..count as usize {
        groups.push(valid(list.element(index).read()?)?);
    }
    change(|who| who.set_groups(groups))
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
    let id = match check_version(header) {
        // Without a place for the answer, the version was the question.
        Err(Errno::EINVAL) if data.is_null() => return Ok(0),
        outcome => outcome?,
    };
    let credentials = match id {
        ..0 => return Err(Errno::EINVAL),
        0 => credentials::mine(),
        id => credentials::of(&*process().thread(id).ok_or(Errno::ESRCH)?),
    };
    let sets = credentials.capabilities;
    let sets = [sets.effective, sets.permitted, sets.inheritable].map(CapabilitySet::bits);
    let words = |shift: u32| sets.map(|set| (set >> shift) as u32);
    data.write([words(0), words(32)])?;
    Ok(0)
}

/// capset(2): a thread gives capabilities up.
pub(crate) fn sys_capset(header: UserPtr<u32>, data: UserPtr<CapabilityWords>) -> SysResult {
    // Nobody but oneself.
    if ![0, current().id].contains(&check_version(header)?) {
        return Err(Errno::EPERM);
    }
    let [low, high] = data.read()?;
    // What there is not is left out, as by Linux.
    let set = |index: usize| CapabilitySet::from_bits(u64::from(low[index]) | u64::from(high[index]) << 32);
    change(|who| who.set_capabilities(set(0), set(1), set(2)))
}
