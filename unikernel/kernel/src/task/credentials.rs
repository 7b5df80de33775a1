//! Whom the app runs as (credentials(7)). It starts as root, or as whom `user=` names, and may become somebody else, as
//! servers do once they have what only root may have. The change is remembered and, as on Linux, not to be taken back;
//! there is nobody else here that files would have to be kept from.
//!
//! What needs a privilege asks for its capability ([`Capability`]), not for root: root may have given it up, and somebody
//! else may have kept it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::{
    CAP_IPC_LOCK, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, CAP_SYS_ADMIN, CAP_SYS_RESOURCE,
};

use crate::abi::{Errno, SysResult};
use crate::sync::SpinLock;

/// Groups that a process may have (`NGROUPS_MAX`).
pub(crate) const MAX_GROUPS: usize = 65_536;
/// "Leave it as it is" (setresuid(2)).
const KEEP: u32 = u32::MAX;
/// Capabilities that Linux 6.1 knows (capabilities(7)).
pub(crate) const CAPABILITY_COUNT: u64 = 41;
/// All of them.
pub(crate) const CAPABILITIES: u64 = (1 << CAPABILITY_COUNT) - 1;

/// What the kernel asks for one by one (capabilities(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Capability {
    /// Any group, and a list of them.
    SetGid = CAP_SETGID,
    /// Any user.
    SetUid = CAP_SETUID,
    /// Any inheritable capability.
    SetPcap = CAP_SETPCAP,
    /// More locked memory than `RLIMIT_MEMLOCK`.
    IpcLock = CAP_IPC_LOCK,
    /// Terminals that somebody has for himself alone, and more.
    SysAdmin = CAP_SYS_ADMIN,
    /// Higher limits, and more than they allow.
    SysResource = CAP_SYS_RESOURCE,
}

/// The three ids of a kind (credentials(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ids {
    /// Who has started it.
    pub real: u32,
    /// Who it is for what it does.
    pub effective: u32,
    /// Who it may become again.
    pub saved: u32,
}

impl Ids {
    const ROOT: Self = Self::all(0);

    const fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id }
    }

    /// Sets those that are not to be kept. Without privilege each may only become one of the present three.
    pub(crate) fn set(&mut self, wanted: [u32; 3], is_privileged: bool) -> Result<(), Errno> {
        let before = [self.real, self.effective, self.saved];
        let may = |id: &u32| *id == KEEP || is_privileged || before.contains(id);
        if !wanted.iter().all(may) {
            return Err(Errno::EPERM);
        }
        let or_kept = |index: usize| if wanted[index] == KEEP { before[index] } else { wanted[index] };
        *self = Self { real: or_kept(0), effective: or_kept(1), saved: or_kept(2) };
        Ok(())
    }

    /// setuid(2) and setgid(2): all three with privilege, else the effective one, which becomes the real or the saved
    /// one.
    pub(crate) fn set_one(&mut self, id: u32, is_privileged: bool) -> Result<(), Errno> {
        match id {
            KEEP => return Err(Errno::EINVAL),
            _ if is_privileged => *self = Self::all(id),
            _ if id == self.real || id == self.saved => self.effective = id,
            _ => return Err(Errno::EPERM),
        }
        Ok(())
    }

    /// setreuid(2) and setregid(2): the saved one follows the effective one once that leaves the real one.
    pub(crate) fn set_pair(&mut self, real: u32, effective: u32, is_privileged: bool) -> Result<(), Errno> {
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

/// Sets of capabilities (capabilities(7)). The bounding set has all, always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Capabilities {
    /// `CapEff`.
    pub effective: u64,
    /// `CapPrm`.
    pub permitted: u64,
    /// `CapInh`.
    pub inheritable: u64,
}

impl Capabilities {
    const OF_ROOT: Self = Self { effective: CAPABILITIES, permitted: CAPABILITIES, inheritable: 0 };

    /// What a program starts with.
    fn at_start(self, user: Ids) -> Self {
        let all_if = |has_all: bool| if has_all { CAPABILITIES } else { 0 };
        let effective = all_if(user.effective == 0);
        Self { effective, permitted: effective | all_if(user.real == 0), ..self }
    }

    /// "Effect of user ID changes on capabilities".
    fn follow(&mut self, before: Ids, after: Ids, keeps: bool) {
        let has_root = |ids: Ids| [ids.real, ids.effective, ids.saved].contains(&0);
        if has_root(before) && !has_root(after) && !keeps {
            self.permitted = 0;
        }
        match (before.effective == 0, after.effective == 0) {
            (true, false) => self.effective = 0,
            (false, true) => self.effective = self.permitted,
            _ => self.effective &= self.permitted,
        }
    }
}

struct Credentials {
    user: Ids,
    group: Ids,
    capabilities: Capabilities,
    /// `PR_SET_KEEPCAPS`.
    keeps_capabilities: bool,
    /// None before the first change.
    groups: Option<Arc<Vec<u32>>>,
}

impl Credentials {
    fn has(&self, capability: Capability) -> bool {
        self.capabilities.effective & 1 << capability as u32 != 0
    }
}

static CREDENTIALS: SpinLock<Credentials> = SpinLock::new(Credentials {
    user: Ids::ROOT,
    group: Ids::ROOT,
    capabilities: Capabilities::OF_ROOT,
    keeps_capabilities: false,
    groups: None,
});

/// Has the app run as somebody, from its start (`user=`).
pub(crate) fn become_user(user: u32, group: u32) {
    let mut credentials = CREDENTIALS.lock();
    (credentials.user, credentials.group) = (Ids::all(user), Ids::all(group));
    credentials.capabilities = credentials.capabilities.at_start(credentials.user);
}

/// Changes the ids of the user.
pub(crate) fn change_user(change: impl FnOnce(&mut Ids, bool) -> Result<(), Errno>) -> SysResult {
    let mut credentials = CREDENTIALS.lock();
    let (before, is_privileged) = (credentials.user, credentials.has(Capability::SetUid));
    change(&mut credentials.user, is_privileged)?;
    let (after, keeps) = (credentials.user, credentials.keeps_capabilities);
    credentials.capabilities.follow(before, after, keeps);
    Ok(0)
}

/// Changes the ids of the group.
pub(crate) fn change_group(change: impl FnOnce(&mut Ids, bool) -> Result<(), Errno>) -> SysResult {
    let mut credentials = CREDENTIALS.lock();
    let is_privileged = credentials.has(Capability::SetGid);
    change(&mut credentials.group, is_privileged).map(|()| 0)
}

/// The ids of user and group.
pub(crate) fn ids() -> (Ids, Ids) {
    let credentials = CREDENTIALS.lock();
    (credentials.user, credentials.group)
}

/// The groups that the app is in beside its own.
pub(crate) fn groups() -> Option<Arc<Vec<u32>>> {
    CREDENTIALS.lock().groups.clone()
}

/// Has the app be in these groups. Not checked: only who has [`Capability::SetGid`] may do so.
pub(crate) fn set_groups(groups: Vec<u32>) {
    // What was there is freed without the lock.
    let _before = CREDENTIALS.lock().groups.replace(Arc::new(groups));
}

/// Whether the app has a capability, and has it in force.
pub(crate) fn has(capability: Capability) -> bool {
    CREDENTIALS.lock().has(capability)
}

/// The capabilities of the app.
pub(crate) fn capabilities() -> Capabilities {
    CREDENTIALS.lock().capabilities
}

/// Has the app give up capabilities (capset(2)). It cannot take more than it is permitted.
pub(crate) fn set_capabilities(wanted: Capabilities) -> Result<(), Errno> {
    let mut credentials = CREDENTIALS.lock();
    let held = credentials.capabilities;
    let Capabilities { effective, permitted, inheritable } = wanted;
    let is_less = permitted & !held.permitted == 0
        && effective & !permitted == 0
        && (inheritable & !(held.inheritable | held.permitted) == 0 || credentials.has(Capability::SetPcap));
    if !is_less {
        return Err(Errno::EPERM);
    }
    credentials.capabilities = wanted;
    Ok(())
}

/// Whether capabilities outlive the change to somebody else (`PR_SET_KEEPCAPS`).
pub(crate) fn keeps_capabilities() -> bool {
    CREDENTIALS.lock().keeps_capabilities
}

/// Sets that.
pub(crate) fn keep_capabilities(keeps: bool) {
    CREDENTIALS.lock().keeps_capabilities = keeps;
}

/// The app has put another program in its place (execve(2)).
pub(crate) fn executed() {
    let mut credentials = CREDENTIALS.lock();
    credentials.user.saved = credentials.user.effective;
    credentials.group.saved = credentials.group.effective;
    credentials.capabilities = credentials.capabilities.at_start(credentials.user);
    credentials.keeps_capabilities = false;
}
