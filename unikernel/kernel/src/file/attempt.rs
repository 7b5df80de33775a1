//! One try at something that may have to be tried again: when the file is ready for it, or when the app's memory that
//! it copies from or to is there. What is tried holds locks, so it must not sleep itself; whoever tries does, between
//! two tries ([`complete`], [`super::PollSource::block_on`]).
//!
//! The rule for a try: it copies before it takes anything, or it notes how far it came. Then nothing is lost or done
//! twice when it begins again.

use crate::abi::Errno;
use crate::mem::fault::{Missing, paging_in};

/// Why a try did not succeed.
pub(crate) enum AttemptError {
    /// The file is not ready.
    Again,
    /// For another reason, which is the answer.
    Errno(Errno),
    /// A page of the app's memory has to be waited for.
    Missing(Missing),
}

impl<E: Into<Errno>> From<E> for AttemptError {
    fn from(error: E) -> Self {
        match error.into() {
            Errno::EAGAIN => Self::Again,
            error => Self::Errno(error),
        }
    }
}

impl From<Missing> for AttemptError {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

/// Tries until no page is missing. Does not wait for the file.
#[inline]
pub(crate) fn complete<T, E: Into<AttemptError>>(
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, Errno> {
    paging_in(|| match attempt().map_err(Into::into) {
        Ok(value) => Ok(Ok(value)),
        Err(AttemptError::Again) => Ok(Err(Errno::EAGAIN)),
        Err(AttemptError::Errno(error)) => Ok(Err(error)),
        Err(AttemptError::Missing(missing)) => Err(missing),
    })?
}
