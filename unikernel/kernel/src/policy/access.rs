//! Which files the app may use: `allow-paths=`, and whether anybody asks at all.

use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;
use unikernel_policy::access::Domain;

/// Somebody is bound, or somebody records.
static IS_ON: AtomicBool = AtomicBool::new(false);
static DOMAIN: Once<Domain> = Once::new();

/// True if it is to be asked what may be done with files and addresses.
#[inline]
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Has it be asked from now on.
pub(crate) fn turn_on() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// Sets what the words allow.
pub(crate) fn set_domain(domain: Domain) {
    DOMAIN.call_once(|| domain);
    turn_on();
}

/// What the words allow, if they say anything of files.
pub(crate) fn domain() -> Option<&'static Domain> {
    DOMAIN.get()
}
