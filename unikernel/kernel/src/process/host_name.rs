//! The machine's name (uname(2)), set at boot: from the command line, or by the configuration.

use arrayvec::ArrayString;
use spin::LazyLock;

use crate::sync::SpinLock;

/// The longest name (Linux: `__NEW_UTS_LEN`).
const MAX_BYTES: usize = 64;
/// Who was given no name.
const DEFAULT: &str = "unikernel";

/// A host name.
pub(crate) type HostName = ArrayString<MAX_BYTES>;

static NAME: LazyLock<SpinLock<HostName>> =
    LazyLock::new(|| SpinLock::new(HostName::from(DEFAULT).unwrap_or_default()));

/// The name.
pub(crate) fn get() -> HostName {
    *NAME.lock()
}

/// Gives the machine another name; one that is too long is not taken.
pub(crate) fn set(name: &str) {
    if let Ok(name) = HostName::from(name) {
        *NAME.lock() = name;
    }
}
