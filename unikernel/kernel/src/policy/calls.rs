//! Which system calls the app may make: `allow-calls=`, of the image and of the command line. Operations of io_uring are judged as the
//! calls that do the same.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general::SIGKILL;
use spin::Once;
use unikernel_policy::calls::{CallRule, CallSet};

use super::learn;
use super::refusals::{self, name_of};
use crate::abi::Errno;
use crate::process::signal;
use crate::task::signal::SignalInfo;

/// A rule, and how it was written.
pub(crate) type Written = (CallRule, String);

static RULES: Once<Vec<Written>> = Once::new();
/// The calls that all rules allow: all, until [`set`].
static ALLOWED: [AtomicU64; 8] = [const { AtomicU64::new(u64::MAX) }; 8];

/// Sets what the app may do. Each of the rules binds.
pub(crate) fn set(rules: Vec<Written>) {
    let all = rules.iter().fold(CallSet::ALL, |all, (rule, _)| all.intersection(rule.allowed));
    RULES.call_once(|| rules);
    for (word, allowed) in ALLOWED.iter().zip(all.words()) {
        word.store(allowed, Ordering::Relaxed);
    }
}

/// True if the app may make this call.
#[inline]
pub(crate) fn allows(number: u32) -> bool {
    let word = ALLOWED.get(number as usize / 64);
    word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (number % 64) != 0)
}

/// Tells of a call that the app may not make, by the first rule that says so; true if that ends the app.
#[cold]
pub(super) fn refuse(number: u32, by: &str) -> bool {
    let rules = RULES.get().map_or(&[][..], Vec::as_slice);
    let Some((rule, text)) = rules.iter().find(|(rule, _)| !rule.allowed.contains(number)) else {
        return false;
    };
    let outcome = if rule.kills { "the app is ended" } else { "EPERM" };
    refusals::tell(format_args!("policy: {}{by} is not in `allow-calls={text}`: {outcome}", name_of(number)));
    rule.kills
}

/// Judges an operation of a ring that does what these calls do.
pub(crate) fn check_ring(numbers: &[u32]) -> Result<(), Errno> {
    learn::calls(numbers);
    let Some(refused) = numbers.iter().find(|number| !allows(**number)) else { return Ok(()) };
    if refuse(*refused, " by io_uring") {
        // The ring is locked: nothing ends here, but nothing comes back to ring 3, either.
        signal::send_to_process(SignalInfo::from_kernel(SIGKILL));
    }
    Err(Errno::EPERM)
}
