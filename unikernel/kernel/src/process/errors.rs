//! What goes wrong with futexes, as error numbers.

use unikernel_sched::futex::pi::LockError;

use super::futex::FutexError;
use crate::abi::Errno;

impl From<FutexError> for Errno {
    fn from(error: FutexError) -> Self {
        match error {
            FutexError::ValueChanged => Self::EAGAIN,
            FutexError::Fault => Self::EFAULT,
            FutexError::OutOfMemory => Self::ENOMEM,
            FutexError::TimedOut => Self::ETIMEDOUT,
            FutexError::Interrupted => Self::RESTART,
            FutexError::IsLock | FutexError::Lock(LockError::Inconsistent) => Self::EINVAL,
            FutexError::Taken | FutexError::Lock(LockError::Changed) => Self::EAGAIN,
            FutexError::Lock(LockError::Deadlock) => Self::EDEADLK,
            FutexError::Lock(LockError::NotOwner) => Self::EPERM,
            FutexError::Lock(LockError::NoSuchOwner) => Self::ESRCH,
        }
    }
}
