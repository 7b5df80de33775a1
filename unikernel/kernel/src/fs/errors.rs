//! What goes wrong with names, as error numbers.

use unikernel_fs::EditError;

use super::LookupError;
use crate::abi::Errno;

impl From<LookupError> for Errno {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::NotFound => Self::ENOENT,
            LookupError::NotADirectory => Self::ENOTDIR,
            LookupError::TooManyLinks => Self::ELOOP,
            LookupError::NameTooLong => Self::ENAMETOOLONG,
            LookupError::Denied => Self::EACCES,
        }
    }
}

impl From<EditError> for Errno {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Exists => Self::EEXIST,
            EditError::NotFound => Self::ENOENT,
            EditError::NotADirectory => Self::ENOTDIR,
            EditError::IsADirectory => Self::EISDIR,
            EditError::NotEmpty => Self::ENOTEMPTY,
            EditError::IntoItself => Self::EINVAL,
            EditError::OutOfMemory => Self::ENOMEM,
            EditError::OtherFilesystem => Self::EXDEV,
            EditError::Busy => Self::EBUSY,
        }
    }
}
