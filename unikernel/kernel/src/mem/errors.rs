//! What goes wrong with memory, as error numbers.

use super::space::{PopulateError, SpaceError};
use super::user::Fault;
use crate::abi::Errno;
use crate::kmem::room::OutOfMemory;

impl From<Fault> for Errno {
    fn from(_: Fault) -> Self {
        Self::EFAULT
    }
}

impl From<OutOfMemory> for Errno {
    fn from(_: OutOfMemory) -> Self {
        Self::ENOMEM
    }
}

impl From<PopulateError> for Errno {
    fn from(error: PopulateError) -> Self {
        match error {
            PopulateError::NotAllowed => Self::EINVAL,
            PopulateError::NotMapped | PopulateError::OutOfMemory => Self::ENOMEM,
            PopulateError::NoPage => Self::EFAULT,
            PopulateError::Interrupted => Self::EINTR,
        }
    }
}

impl From<SpaceError> for Errno {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::BadRange | SpaceError::NotSuitable => Self::EINVAL,
            SpaceError::Taken => Self::EEXIST,
            SpaceError::NotAllowed => Self::EACCES,
            SpaceError::Sealed => Self::EPERM,
            SpaceError::NotMapped | SpaceError::OutOfMemory => Self::ENOMEM,
        }
    }
}
