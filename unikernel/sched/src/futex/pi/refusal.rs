//! Why a step on a lock fails in the tests, with one thread or under loom.

use super::{LockError, OutOfMemory};

#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    Lock(LockError),
    OutOfMemory,
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl From<OutOfMemory> for Refusal {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}
