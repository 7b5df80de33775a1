//! What a thread has forbidden itself (seccomp(2), landlock(7)): it cannot be taken back, threads that it starts have it from the start, and it
//! outlives execve(2).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::ptrace::{SECCOMP_MODE_DISABLED, SECCOMP_MODE_FILTER, SECCOMP_MODE_STRICT};
use unikernel_policy::access::Domain;
use unikernel_policy::seccomp::Chain;

use super::current;
use super::process::process;
use super::thread::{Thread, ThreadId};
use crate::sync::SpinLock;

/// Which system calls a thread may make.
#[derive(Clone, Default)]
pub(crate) enum Seccomp {
    /// All.
    #[default]
    Off,
    /// read(2), write(2), _exit(2) and the return from handlers.
    Strict,
    /// Those that filters let pass.
    Filters(Arc<Chain>),
}

impl Seccomp {
    /// `SECCOMP_MODE_*`.
    pub(crate) const fn mode(&self) -> u32 {
        match self {
            Self::Off => SECCOMP_MODE_DISABLED,
            Self::Strict => SECCOMP_MODE_STRICT,
            Self::Filters(_) => SECCOMP_MODE_FILTER,
        }
    }

    /// How many filters there are.
    pub(crate) fn filters(&self) -> usize {
        match self {
            Self::Filters(chain) => chain.count(),
            Self::Off | Self::Strict => 0,
        }
    }

    /// True if a thread that has this may be given `chain`, because it would lose nothing by it.
    fn may_become(&self, chain: &Chain) -> bool {
        match self {
            Self::Off => true,
            Self::Strict => false,
            Self::Filters(own) => chain.extends(own),
        }
    }
}

/// All that a thread has forbidden itself.
#[derive(Clone, Default)]
pub(crate) struct Confinement {
    /// Which calls it may make.
    pub seccomp: Seccomp,
    /// Which files and ports it may use; all if there is none.
    pub domain: Option<Arc<Domain>>,
}

/// Held by who starts a thread, from the copy of its confinement until it is on the list, and by who changes that of all threads: no
/// thread slips through between.
static CHANGES: SpinLock<()> = SpinLock::new(());

/// Gives a new thread what the calling one has, and starts it.
pub(crate) fn inherit(child: &Thread, start: impl FnOnce()) {
    let _changes = CHANGES.lock();
    let own = current().confinement.lock().clone();
    *child.confinement.lock() = own;
    start();
}

/// Changes the calling thread's mode, and with `is_for_all` that of all threads to the same. `make` sees the mode before.
///
/// An error of `make` leaves all as it was. So does a thread that would be allowed more than before: its id is the answer.
pub(crate) fn set_seccomp<E>(
    is_for_all: bool,
    make: impl FnOnce(&Seccomp) -> Result<Seccomp, E>,
) -> Result<Option<ThreadId>, E> {
    let _changes = CHANGES.lock();
    let me = current();
    let own = me.confinement.lock().seccomp.clone();
    let new = make(&own)?;
    if is_for_all && let Seccomp::Filters(chain) = &new {
        let others = || process().threads().filter(|thread| !Arc::ptr_eq(thread, &me));
        let resists = |thread: &Arc<Thread>| !thread.confinement.lock().seccomp.may_become(chain);
        if let Some(thread) = others().find(resists) {
            return Ok(Some(thread.id));
        }
        let has_no_new_privileges = me.settings.lock().has_no_new_privileges;
        for thread in others() {
            let before = core::mem::replace(&mut thread.confinement.lock().seccomp, new.clone());
            thread.settings.lock().has_no_new_privileges |= has_no_new_privileges;
            drop(before);
        }
    }
    let before = core::mem::replace(&mut me.confinement.lock().seccomp, new);
    drop(before);
    Ok(None)
}

/// Takes its filters from a thread that ends and makes no more calls.
pub(crate) fn forget(thread: &Thread) {
    let _before = core::mem::take(&mut thread.confinement.lock().seccomp);
}

/// A thread has a domain, or had one.
static HAS_DOMAINS: AtomicBool = AtomicBool::new(false);

/// What binds the calling thread in its use of files and ports.
pub(crate) fn domain() -> Option<Arc<Domain>> {
    if !HAS_DOMAINS.load(Ordering::Relaxed) {
        return None;
    }
    current().confinement.lock().domain.clone()
}

/// Binds the calling thread.
pub(crate) fn set_domain(domain: Arc<Domain>) {
    HAS_DOMAINS.store(true, Ordering::Relaxed);
    let before = current().confinement.lock().domain.replace(domain);
    drop(before);
}

/// Does something for who was bound by `domain` when it was asked for, whichever thread does it.
pub(crate) fn acting_in<R>(domain: &Option<Arc<Domain>>, work: impl FnOnce() -> R) -> R {
    if !HAS_DOMAINS.load(Ordering::Relaxed) {
        return work();
    }
    let own = core::mem::replace(&mut current().confinement.lock().domain, domain.clone());
    let result = work();
    let asked = core::mem::replace(&mut current().confinement.lock().domain, own);
    drop(asked);
    result
}
