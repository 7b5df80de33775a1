//! Whom threads act for (credentials(7)). What credentials are, and how calls change them, is `unikernel_vfs::access`; here is where they are kept:
//! each thread has its own, as on Linux, and shares them until it changes them. The first thread begins as root, or as whom `user=` names.
//!
//! As long as everybody is root with all capabilities, which is how most appliances run, nothing has to be asked: [`restricted`] is one
//! branch then. What needs a privilege asks for its capability ([`has`]), not for root: root may have given it up, and somebody else may have
//! kept it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use spin::Once;
pub(crate) use unikernel_vfs::access::{Capability, Credentials};
use unikernel_vfs::access::{Execution, ProgramFile, Refusal};

use super::current;
use super::thread::Thread;
use crate::abi::Errno;
use crate::sync::SpinLock;

/// Groups that a process may have (`NGROUPS_MAX`).
pub(crate) const MAX_GROUPS: usize = 65_536;

/// Somebody is not root with all capabilities, or was not once.
static ARE_RESTRICTED: AtomicBool = AtomicBool::new(false);
/// Whom all start as.
static ROOT: Once<Arc<Credentials>> = Once::new();
/// Whom the first thread starts as, if `user=` says so.
static FIRST: SpinLock<Option<Arc<Credentials>>> = SpinLock::new(None);
/// `PR_SET_DUMPABLE`: others may look into the process. It goes with a change of credentials (prctl(2)).
static DUMPABLE: AtomicU32 = AtomicU32::new(IS_DUMPABLE);

/// Everybody who may send it signals may look into it.
const IS_DUMPABLE: u32 = 1;
/// Nobody may, and its files in `/proc` are root's.
const IS_NOT_DUMPABLE: u32 = 0;

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self::EACCES,
            Refusal::NotPermitted => Self::EPERM,
        }
    }
}

/// Root's, who may do everything.
pub(super) fn of_root() -> Arc<Credentials> {
    Arc::clone(ROOT.call_once(|| Arc::new(Credentials::root())))
}

/// Has the app run as somebody, from its start (`user=`).
pub(crate) fn become_user(user: u32, group: u32, groups: Vec<u32>) {
    *FIRST.lock() = Some(Arc::new(Credentials::of_user(user, group, groups)));
}

/// Whom the first thread will act for.
pub(crate) fn first() -> Arc<Credentials> {
    FIRST.lock().clone().unwrap_or_else(of_root)
}

/// Gives the first thread its credentials, which is about to run. Until then the kernel alone has used files.
pub(crate) fn begin(thread: &Thread, first: Arc<Credentials>) {
    note(&first);
    *thread.credentials.lock() = first;
}

/// Gives a new thread those of the one that starts it, or takes the place of.
pub(crate) fn pass_on(to: &Thread) {
    if may_be_restricted() {
        *to.credentials.lock() = mine();
    }
}

/// Somebody will act with these.
fn note(credentials: &Credentials) {
    if *credentials != *of_root() {
        ARE_RESTRICTED.store(true, Ordering::SeqCst);
    }
}

/// True if somebody may not do everything.
#[inline]
pub(crate) fn may_be_restricted() -> bool {
    ARE_RESTRICTED.load(Ordering::Relaxed)
}

/// Whom the running thread acts for.
pub(crate) fn mine() -> Arc<Credentials> {
    if may_be_restricted() { Arc::clone(&current().credentials.lock()) } else { of_root() }
}

/// Whom the running thread acts for, unless all may do everything: then nothing has to be checked, and what is made is root's.
#[inline]
pub(crate) fn restricted() -> Option<Arc<Credentials>> {
    if may_be_restricted() { Some(mine()) } else { None }
}

/// Those of another thread.
pub(crate) fn of(thread: &Thread) -> Arc<Credentials> {
    Arc::clone(&thread.credentials.lock())
}

/// Whether the running thread has a capability in force.
#[inline]
pub(crate) fn has(capability: Capability) -> bool {
    !may_be_restricted() || mine().has(capability)
}

/// `EPERM` unless the running thread has a capability in force.
#[inline]
pub(crate) fn check(capability: Capability) -> Result<(), Errno> {
    if has(capability) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Changes the running thread's credentials; an error leaves them as they are.
pub(crate) fn change(change: impl FnOnce(&mut Credentials) -> Result<(), Refusal>) -> Result<(), Errno> {
    let before = mine();
    let mut new = Credentials::clone(&before);
    change(&mut new)?;
    if new != *before {
        settle(&before, new);
    }
    Ok(())
}

/// What Linux does in `commit_creds`.
fn settle(before: &Credentials, new: Credentials) {
    note(&new);
    if is_other(before, &new) {
        DUMPABLE.store(IS_NOT_DUMPABLE, Ordering::Relaxed);
        current().settings.lock().death_signal = 0;
    }
    let new = Arc::new(new);
    // What was there may be freed, without the lock.
    let _before = core::mem::replace(&mut *current().credentials.lock(), new);
}

/// True if who might have looked into the process before could now look into what was not meant for him.
fn is_other(before: &Credentials, new: &Credentials) -> bool {
    before.user.effective != new.user.effective
        || before.group.effective != new.group.effective
        || before.user_fs != new.user_fs
        || before.group_fs != new.group_fs
        || !before.capabilities.permitted.contains(new.capabilities.permitted)
}

/// What a program will run as; `EPERM` if that is less than it counts on.
pub(crate) fn to_execute(file: &ProgramFile) -> Result<Execution, Errno> {
    let has_no_new_privileges = current().settings.lock().has_no_new_privileges;
    Ok(mine().execute(file, has_no_new_privileges)?)
}

/// A program has taken the place of the running thread's.
pub(crate) fn executed(execution: Execution) {
    let new = execution.credentials;
    let is_own = new.user.effective == new.user.real && new.group.effective == new.group.real;
    DUMPABLE.store(if is_own { IS_DUMPABLE } else { IS_NOT_DUMPABLE }, Ordering::Relaxed);
    let before = mine();
    if new != *before {
        settle(&before, new);
    }
    if execution.is_secure {
        current().settings.lock().death_signal = 0;
    }
}

/// Runs `work` as somebody else: as the real ids (access(2)), or as who has asked a thread of the kernel's for it.
pub(crate) fn acting_as<T>(who: Arc<Credentials>, work: impl FnOnce() -> T) -> T {
    let before = core::mem::replace(&mut *current().credentials.lock(), who);
    let outcome = work();
    let _who = core::mem::replace(&mut *current().credentials.lock(), before);
    outcome
}

/// Owner and group of what the running thread makes.
pub(crate) fn owner() -> (u32, u32) {
    restricted().map_or((0, 0), |who| (who.user_fs, who.group_fs))
}

/// `PR_GET_DUMPABLE`.
pub(crate) fn dumpable() -> u32 {
    DUMPABLE.load(Ordering::Relaxed)
}

/// `PR_SET_DUMPABLE`.
pub(crate) fn set_dumpable(dumpable: u32) {
    DUMPABLE.store(dumpable, Ordering::Relaxed);
}

/// Owner and group of the process's files in `/proc`, which everybody may look into or not (proc_pid(5)).
pub(crate) fn owner_of_process(is_public: bool) -> (u32, u32) {
    if is_public || dumpable() == IS_DUMPABLE {
        restricted().map_or((0, 0), |who| (who.user.effective, who.group.effective))
    } else {
        (0, 0)
    }
}
