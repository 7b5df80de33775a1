//! One line in the log for what is refused. An app can cause refusals as often as it likes, so not each is told.

use core::fmt;

use unikernel_policy::rate::RateLimit;

use crate::platform::time;
use crate::sync::SpinLock;

static LIMIT: SpinLock<RateLimit> = SpinLock::new(RateLimit::new());

/// Tells what was refused, and by which rule.
pub(crate) fn tell(what: fmt::Arguments<'_>) {
    let untold = LIMIT.lock().ask(time::now_ns());
    match untold {
        None => {}
        Some(0) => log::warn!("{what}"),
        Some(untold) => log::warn!("{what} ({untold} more refusals were not told)"),
    }
}

/// The name of a system call, for people.
pub(crate) fn name_of(number: u32) -> &'static str {
    unikernel_report::calls::name(number).unwrap_or("a call that Linux has not")
}
