//! Whom the app runs as (credentials(7)). It starts as root, or as whom `user=` names, and may become somebody else, as
//! servers do once they have what only root may have. The change is remembered and, as on Linux, not to be taken back;
//! there is nobody else here that files would have to be kept from.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::CAP_CHECKPOINT_RESTORE;

use crate::abi::{Errno, SysResult};
use crate::sync::SpinLock;

/// Groups that a process may have (`NGROUPS_MAX`).
pub const MAX_GROUPS: usize = 65_536;
/// "Leave it as it is" (setresuid(2)).
const KEEP: u32 = u32::MAX;
/// Capabilities that Linux 6.1 knows (capabilities(7)).
pub const CAPABILITY_COUNT: u64 = 41;
/// Capabilities there are: the highest is `CAP_CHECKPOINT_RESTORE`.
const CAPABILITIES: u64 = (1 << (CAP_CHECKPOINT_RESTORE + 1)) - 1;

/// The three ids of a kind (credentials(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ids {
    /// Who has started it.
    pub real: u32,
    /// Who it is for what it does.
    pub effective: u32,
    /// Who it may become again.
    pub saved: u32,
}

impl Ids {
    const ROOT: Self = Self { real: 0, effective: 0, saved: 0 };

    /// Sets those that are not to be kept. Without privilege each may only become one of the present three.
    pub fn set(&mut self, wanted: [u32; 3], is_privileged: bool) -> Result<(), Errno> {
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
    pub fn set_one(&mut self, id: u32, is_privileged: bool) -> Result<(), Errno> {
        if id == KEEP {
            return Err(Errno::EINVAL);
        }
        self.set(if is_privileged { [id; 3] } else { [KEEP, id, KEEP] }, is_privileged)
    }

    /// setreuid(2) and setregid(2): the saved one follows the effective one once that leaves the real one.
    pub fn set_pair(&mut self, real: u32, effective: u32, is_privileged: bool) -> Result<(), Errno> {
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
    /// None before the first change.
    groups: Option<Arc<Vec<u32>>>,
}

impl Credentials {
    fn is_privileged(&self) -> bool {
        self.user.effective == 0
    }
}

static CREDENTIALS: SpinLock<Credentials> =
    SpinLock::new(Credentials { user: Ids::ROOT, group: Ids::ROOT, groups: None });

/// Has the app run as somebody, from its start (`user=`).
pub fn become_user(user: u32, group: u32) {
    let all = |id| Ids { real: id, effective: id, saved: id };
    let mut credentials = CREDENTIALS.lock();
    (credentials.user, credentials.group) = (all(user), all(group));
}

/// Changes the ids of the user.
pub fn change_user(change: impl FnOnce(&mut Ids, bool) -> Result<(), Errno>) -> SysResult {
    let mut credentials = CREDENTIALS.lock();
    let is_privileged = credentials.is_privileged();
    change(&mut credentials.user, is_privileged).map(|()| 0)
}

/// Changes the ids of the group.
pub fn change_group(change: impl FnOnce(&mut Ids, bool) -> Result<(), Errno>) -> SysResult {
    let mut credentials = CREDENTIALS.lock();
    let is_privileged = credentials.is_privileged();
    change(&mut credentials.group, is_privileged).map(|()| 0)
}

/// The ids of user and group.
pub fn ids() -> (Ids, Ids) {
    let credentials = CREDENTIALS.lock();
    (credentials.user, credentials.group)
}

/// The groups that the app is in beside its own.
pub fn groups() -> Option<Arc<Vec<u32>>> {
    CREDENTIALS.lock().groups.clone()
}

/// Has the app be in these groups. Not checked: only root may do so.
pub fn set_groups(groups: Vec<u32>) {
    // What was there is freed without the lock.
    let _before = CREDENTIALS.lock().groups.replace(Arc::new(groups));
}

/// True for root.
pub fn is_privileged() -> bool {
    CREDENTIALS.lock().is_privileged()
}

/// The capabilities that the app has: root has all, and everybody else none.
pub fn capabilities() -> u64 {
    if CREDENTIALS.lock().is_privileged() { CAPABILITIES } else { 0 }
}
