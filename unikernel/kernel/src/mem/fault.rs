//! Page faults of the app, and of the kernel on the app's behalf (`arch::user_copy`).

//!
//! A page of a file that is not in memory has to be read first, which sleeps. The app's own fault does that at
//! once. A fault of the kernel may come with locks held: the copy fails, and leaves a note with the thread;
//! whoever finds that a copy failed where it may sleep calls [`load_noted`] and tries again. At the latest
//! that is the door (`syscall::enter`), which repeats the call.

use super::space::{self, Obstacle};
use super::{layout, user};
use crate::fs::disk::flusher;
use crate::task::{self, scheduler};

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
    /// The file's page is not in memory, and cannot be read.
    NotReadable,
}

/// Tries to make an access of the app possible: brings in a page of a region that allows it, and waits for it if
/// it has to be read.
pub fn handle(address: u64, access: Access) -> Result<(), Failure> {
    loop {
        match bring_in(address, access) {
            Ok(()) => return Ok(()),
            Err(Obstacle::Failed(Failure::OutOfMemory)) if flusher::make_room() => {}
            Err(Obstacle::Failed(failure)) => return Err(failure),
            Err(Obstacle::Absent(source, index)) if source.load(index) => {}
            Err(Obstacle::Absent(..)) => return Err(Failure::NotReadable),
        }
    }
}

/// The same for an access of the kernel's, which must not sleep.
pub fn handle_in_kernel(address: u64, access: Access) -> Result<(), Failure> {
    match bring_in(address, access) {
        Ok(()) => Ok(()),
        Err(Obstacle::Failed(failure)) => Err(failure),
        Err(Obstacle::Absent(source, index)) => {
            let before = task::current().absent_page.lock().replace((source, index));
            drop(before);
            Err(Failure::NotReadable)
        }
    }
}

fn bring_in(address: u64, access: Access) -> Result<(), Obstacle> {
    if address >= user::USER_END || layout::overlaps_kernel(address, address + 1) {
        return Err(Failure::NotMapped.into());
    }
    space::bring_in(address, access)
}

/// Reads the page in for which a copy of this thread failed, if that was the reason. True if it is worth to try
/// again.
pub fn load_noted() -> bool {
    if !scheduler::can_block() {
        return false;
    }
    let noted = task::current().absent_page.lock().take();
    noted.is_some_and(|(source, index)| source.load(index))
}

/// Runs a copy from or to the app until it needs no further page to be read in. The caller may sleep.
pub fn retrying(mut copy: impl FnMut() -> Result<(), user::Fault>) -> Result<(), user::Fault> {
    loop {
        match copy() {
            Err(user::Fault) if load_noted() => {}
            outcome => return outcome,
        }
    }
}
