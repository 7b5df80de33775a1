//! Names for addresses: the host's debugger has them.

use unikernel_report::symbols::{Symbol, Table};

/// The image's table of names. It has none.
pub fn table() -> Option<Table<'static>> {
    None
}

/// The function around an address.
pub fn find(_: u64) -> Option<Symbol<'static>> {
    None
}

/// How far the app runs from its own addresses.
pub fn set_app_bias(_: u64) {}

/// The app's names are not of the program that runs.
pub fn forget_app() {}
