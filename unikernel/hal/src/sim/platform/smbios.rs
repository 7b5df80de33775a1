//! Of the SMBIOS tables there is the serial number, if the test has set one.

use alloc::string::String;

use crate::sim::engine::Single;

static SERIAL: Single<Option<&'static str>> = Single::new(None);

/// Sets the serial number of the machine that is about to boot.
pub fn set_serial(serial: &'static str) {
    SERIAL.with(|slot| *slot = Some(serial));
}

/// The system's serial number.
pub fn system_serial() -> Option<String> {
    SERIAL.with(|slot| *slot).map(String::from)
}
