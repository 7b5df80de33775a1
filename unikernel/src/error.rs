//! What a call can answer instead of success.

use core::fmt;

use embedded_io::ErrorKind;
use linux_raw_sys::errno;

/// An error number of the kernel (errno(3)).
///
/// ```
/// use unikernel::Error;
/// use unikernel::fs::File;
///
/// let error = File::open("/no/such/file").unwrap_err();
/// assert_eq!(error, Error::NOT_FOUND);
/// assert_eq!(error.number(), 2); // ENOENT
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(u16);

impl Error {
    /// The call would have to wait, and was told not to.
    pub const WOULD_BLOCK: Self = Self(errno::EAGAIN as u16);
    /// A signal came first.
    pub const INTERRUPTED: Self = Self(errno::EINTR as u16);
    /// No such file.
    pub const NOT_FOUND: Self = Self(errno::ENOENT as u16);
    /// The argument makes no sense to the kernel.
    pub const INVALID: Self = Self(errno::EINVAL as u16);
    /// A name is too long.
    pub const NAME_TOO_LONG: Self = Self(errno::ENAMETOOLONG as u16);

    pub(crate) const fn from_number(number: u16) -> Self {
        Self(number)
    }

    /// The number, as in errno(3).
    pub const fn number(self) -> i32 {
        self.0 as i32
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}: {self})", self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match u32::from(self.0) {
            errno::EAGAIN => "the call would have to wait",
            errno::EINTR => "interrupted by a signal",
            errno::ENOENT => "no such file",
            errno::EACCES | errno::EPERM => "not permitted",
            errno::EINVAL => "invalid argument",
            errno::ENOMEM => "out of memory",
            errno::EMFILE => "too many open files",
            errno::EADDRINUSE => "the address is in use",
            errno::EADDRNOTAVAIL => "the address is not ours",
            errno::ECONNREFUSED => "the connection was refused",
            errno::ECONNRESET => "the connection was reset",
            errno::ECONNABORTED => "the connection was aborted",
            errno::EPIPE => "the peer does not read any more",
            errno::ETIMEDOUT => "timed out",
            errno::ENETUNREACH | errno::EHOSTUNREACH => "no way to that address",
            errno::ENOSYS => "the kernel has no such call",
            number => return write!(f, "error number {number}"),
        };
        f.write_str(text)
    }
}

impl core::error::Error for Error {}

impl embedded_io::Error for Error {
    fn kind(&self) -> ErrorKind {
        match u32::from(self.0) {
            errno::ENOENT => ErrorKind::NotFound,
            errno::EACCES | errno::EPERM => ErrorKind::PermissionDenied,
            errno::ECONNREFUSED => ErrorKind::ConnectionRefused,
            errno::ECONNRESET => ErrorKind::ConnectionReset,
            errno::ECONNABORTED => ErrorKind::ConnectionAborted,
            errno::ENOTCONN => ErrorKind::NotConnected,
            errno::EADDRINUSE => ErrorKind::AddrInUse,
            errno::EADDRNOTAVAIL => ErrorKind::AddrNotAvailable,
            errno::EPIPE => ErrorKind::BrokenPipe,
            errno::EEXIST => ErrorKind::AlreadyExists,
            errno::EINVAL => ErrorKind::InvalidInput,
            errno::ETIMEDOUT => ErrorKind::TimedOut,
            errno::EINTR => ErrorKind::Interrupted,
            errno::ENOMEM => ErrorKind::OutOfMemory,
            errno::ENOSYS | errno::EOPNOTSUPP => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        }
    }
}
