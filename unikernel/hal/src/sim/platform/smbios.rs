//! There is no SMBIOS table.

use alloc::string::String;

/// The system's serial number.
pub fn system_serial() -> Option<String> {
    None
}
