//! Page faults of the app, and of the kernel on the app's behalf (`arch::user_copy`).

use super::{layout, space, user};

/// What the processor tried, from the page fault's error code (SDM Vol. 3, 4.7).
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// A write.
    pub is_write: bool,
    /// An instruction fetch.
    pub is_execute: bool,
}

impl Access {
    /// Decodes the error code.
    pub const fn from_error_code(code: u64) -> Self {
        Self { is_write: code & 2 != 0, is_execute: code & 16 != 0 }
    }
}

/// Why an access cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Nothing is mapped there that the app may know of.
    NotMapped,
    /// The region does not allow the access.
    NotAllowed,
    /// Memory is exhausted.
    OutOfMemory,
}

/// Tries to make the access possible: brings in a page of a region that allows it.
pub fn handle(address: u64, access: Access) -> Result<(), Failure> {
    if address >= user::USER_END || layout::overlaps_kernel(address, address + 1) {
        return Err(Failure::NotMapped);
    }
    space::bring_in(address, access)
}
