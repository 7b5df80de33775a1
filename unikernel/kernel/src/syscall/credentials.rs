//! Whom the app runs as (setuid(2), setresuid(2), getgroups(2), capget(2)). It starts as root, or as whom
//! `user=` names, and may become
//! somebody else, as servers do once they have what only root may have. The change is remembered and, as on Linux,
//! not to be taken back; there is nobody else here that files would have to be kept from.

use alloc::vec::Vec;

use linux_raw_sys::general::*;

use crate::abi::{Errno, SysResult};
use crate::mem::user::UserPtr;
use crate::sync::SpinLock;

/// Groups that a process may have (`NGROUPS_MAX`).
pub const MAX_GROUPS: usize = 65_536;
/// "Leave it as it is" (setresuid(2)).
const KEEP: u32 = u32::MAX;

/// The three ids of a kind (credentials(7)).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ids {
    real: u32,
    effective: u32,
    saved: u32,
}

impl Ids {
    const ROOT: Self = Self { real: 0, effective: 0, saved: 0 };

    /// Sets those that are not to be kept. Without privilege each may only become one of the present three.
    fn set(&mut self, wanted: [u32; 3], is_privileged: bool) -> Result<(), Errno> {
        let before = [self.real, self.effective, self.saved];
        let may = |id: &u32| *id == KEEP || is_privileged || before.contains(id);
        if !wanted.iter().all(may) {
            return Err(Errno::EPERM);
        }
        let or_kept = |index: usize| if wanted[index] == KEEP { before[index] } else { wanted[index] };
        *self = Self { real: or_kept(0), effective: or_kept(1), saved: or_kept(2) };
        Ok(())
    }

    /// setuid(2) and setgid(2): all three with privilege, else the effective one.
    fn set_one(&mut self, id: u32, is_privileged: bool) -> Result<(), Errno> {
        if id == KEEP {
            return Err(Errno::EINVAL);
        }
        self.set(if is_privileged { [id; 3] } else { [KEEP, id, KEEP] }, is_privileged)
    }

    /// setreuid(2) and setregid(2): the saved one follows the effective one once that leaves the real one.
    fn set_pair(&mut self, real: u32, effective: u32, is_privileged: bool) -> Result<(), Errno> {
        let before = *self;
        let is_swap = |id: u32| id == KEEP || id == before.real || id == before.effective;
        if !is_privileged && !is_swap(real) {
            return Err(Errno::EPERM);
        }
        self.set([real, effective, KEEP], is_privileged)?;
        if real != KEEP || effective != KEEP && effective != before.real {
            self.saved = self.effective;
        }
        Ok(())
    }
}

struct Credentials {
    user: Ids,
    group: Ids,
    groups: Vec<u32>,
}

impl Credentials {
    fn is_privileged(&self) -> bool {
        self.user.effective == 0
    }
}

static CREDENTIALS: SpinLock<Credentials> =
    SpinLock::new(Credentials { user: Ids::ROOT, group: Ids::ROOT, groups: Vec::new() });

/// Has the app run as somebody, from its start (`user=`).
pub fn become_user(user: u32, group: u32) {
    let all = |id| Ids { real: id, effective: id, saved: id };
    let mut credentials = CREDENTIALS.lock();
    (credentials.user, credentials.group) = (all(user), all(group));
}

/// Changes the ids of the user.
fn change_user(change: impl FnOnce(&mut Ids, bool) -> Result<(), Errno>) -> SysResult {
    let mut credentials = CREDENTIALS.lock();
    let is_privileged = credentials.is_privileged();
    change(&mut credentials.user, is_privileged).map(|()| 0)
}

/// Changes the ids of the group.
fn change_group(change: impl FnOnce(&mut Ids, bool) -> Result<(), Errno>) -> SysResult {
    let mut credentials = CREDENTIALS.lock();
    let is_privileged = credentials.is_privileged();
    change(&mut credentials.group, is_privileged).map(|()| 0)
}

/// Real, effective and saved ids of user and group, for `/proc`.
pub fn ids() -> ([u32; 3], [u32; 3]) {
    let credentials = CREDENTIALS.lock();
    let of = |ids: Ids| [ids.real, ids.effective, ids.saved];
    (of(credentials.user), of(credentials.group))
}

/// True for root.
pub fn is_privileged() -> bool {
    CREDENTIALS.lock().is_privileged()
}

/// The capabilities that the app has: root has all, and everybody else none.
pub fn capabilities() -> u64 {
    if CREDENTIALS.lock().is_privileged() { CAPABILITIES } else { 0 }
}

/// getuid(2).
pub fn sys_getuid() -> SysResult {
    Ok(CREDENTIALS.lock().user.real as usize)
}

/// geteuid(2).
pub fn sys_geteuid() -> SysResult {
    Ok(CREDENTIALS.lock().user.effective as usize)
}

/// getgid(2).
pub fn sys_getgid() -> SysResult {
    Ok(CREDENTIALS.lock().group.real as usize)
}

/// getegid(2).
pub fn sys_getegid() -> SysResult {
    Ok(CREDENTIALS.lock().group.effective as usize)
}

/// setuid(2).
pub fn sys_setuid(id: u32) -> SysResult {
    change_user(|ids, is_privileged| ids.set_one(id, is_privileged))
}

/// setgid(2).
pub fn sys_setgid(id: u32) -> SysResult {
    change_group(|ids, is_privileged| ids.set_one(id, is_privileged))
}

/// setreuid(2).
pub fn sys_setreuid(real: u32, effective: u32) -> SysResult {
    change_user(|ids, is_privileged| ids.set_pair(real, effective, is_privileged))
}

/// setregid(2).
pub fn sys_setregid(real: u32, effective: u32) -> SysResult {
    change_group(|ids, is_privileged| ids.set_pair(real, effective, is_privileged))
}

/// setresuid(2).
pub fn sys_setresuid(real: u32, effective: u32, saved: u32) -> SysResult {
    change_user(|ids, is_privileged| ids.set([real, effective, saved], is_privileged))
}

/// setresgid(2).
pub fn sys_setresgid(real: u32, effective: u32, saved: u32) -> SysResult {
    change_group(|ids, is_privileged| ids.set([real, effective, saved], is_privileged))
}

fn write_ids(ids: Ids, places: [UserPtr<u32>; 3]) -> SysResult {
    for (place, id) in places.into_iter().zip([ids.real, ids.effective, ids.saved]) {
        place.write(id)?;
    }
    Ok(0)
}

/// getresuid(2).
pub fn sys_getresuid(real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> SysResult {
    let ids = CREDENTIALS.lock().user;
    write_ids(ids, [real, effective, saved])
}

/// getresgid(2).
pub fn sys_getresgid(real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> SysResult {
    let ids = CREDENTIALS.lock().group;
    write_ids(ids, [real, effective, saved])
}

/// getgroups(2).
pub fn sys_getgroups(count: i32, list: UserPtr<u32>) -> SysResult {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let groups = CREDENTIALS.lock().groups.clone();
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
pub fn sys_setgroups(count: u32, list: UserPtr<u32>) -> SysResult {
    if !CREDENTIALS.lock().is_privileged() {
        return Err(Errno::EPERM);
    }
    if count as usize > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    let mut groups = Vec::new();
    for index in 0..count as usize {
        groups.push(list.element(index).read()?);
    }
    groups.sort_unstable();
    CREDENTIALS.lock().groups = groups;
    Ok(0)
}

/// Three words for each 32 capabilities: effective, permitted, inheritable (capget(2)).
type CapabilityWords = [[u32; 3]; 2];
/// Capabilities there are: the highest is `CAP_CHECKPOINT_RESTORE`.
const CAPABILITIES: u64 = (1 << (CAP_CHECKPOINT_RESTORE + 1)) - 1;

/// The version that both sides speak and the process meant, of the header. Another version is answered by ours.
fn check_version(header: UserPtr<u32>) -> Result<i32, Errno> {
    if header.read()? != _LINUX_CAPABILITY_VERSION_3 {
        header.write(_LINUX_CAPABILITY_VERSION_3)?;
        return Err(Errno::EINVAL);
    }
    Ok(header.element(1).read()? as i32)
}

/// capget(2).
pub fn sys_capget(header: UserPtr<u32>, data: UserPtr<CapabilityWords>) -> SysResult {
    match check_version(header) {
        // Without a place for the answer, the version was the question.
        Err(Errno::EINVAL) if data.is_null() => return Ok(0),
        outcome if outcome? < 0 => return Err(Errno::EINVAL),
        _ => {}
    }
    let held = capabilities();
    let words = |bits: u64| [bits as u32, bits as u32, 0];
    data.write([words(held), words(held >> 32)])?;
    Ok(0)
}

/// capset(2): nothing depends on capabilities here, so giving them up is accepted, and taking more is not.
pub fn sys_capset(header: UserPtr<u32>, data: UserPtr<CapabilityWords>) -> SysResult {
    check_version(header)?;
    let [low, high] = data.read()?;
    let permitted = u64::from(low[1]) | u64::from(high[1]) << 32;
    let may_have = CREDENTIALS.lock().is_privileged() || permitted == 0;
    if may_have { Ok(0) } else { Err(Errno::EPERM) }
}
