//! The Linux error numbers, as the syscall layer speaks them. Nothing below this layer knows one:
//! each room has its own small error enums, and the conversions stand here or beside the family
//! that needs them.

use linux_raw_sys::errno as raw;

/// A Linux error number (errno(3)), positive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(u16);

/// What a system call answers: a value for `rax`, or an error number.
pub type SysResult = Result<usize, Errno>;

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`, see errno(3).")]
            pub const $name: Self = Self(raw::$name as u16);)*

            /// The symbolic name, as `strace` prints it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::RESTART => "ERESTARTSYS",
                    _ => "E?",
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC
    ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP
    EOVERFLOW ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT
    ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN
    ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETIMEDOUT
    ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED EPROTO
    ENODATA EBADMSG ETIME EBADFD
}

impl Errno {
    /// A sleep was cut short by a signal: the call restarts if the handler has `SA_RESTART`, and
    /// answers `EINTR` otherwise. Never reaches the app (Linux: `ERESTARTSYS`, 512).
    pub const RESTART: Self = Self(512);

    /// The value for `rax`: the negated number.
    pub const fn to_rax(self) -> u64 {
        (self.0 as i64).wrapping_neg() as u64
    }

    /// The positive number, as `SO_ERROR` reports it.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }
}

impl From<crate::mem::user::Fault> for Errno {
    fn from(_: crate::mem::user::Fault) -> Self {
        Self::EFAULT
    }
}

impl From<crate::task::wait::WaitError> for Errno {
    /// For calls that restart after a signal and whose time-out reads as "try again".
    fn from(error: crate::task::wait::WaitError) -> Self {
        match error {
            crate::task::wait::WaitError::Interrupted => Self::RESTART,
            crate::task::wait::WaitError::TimedOut => Self::EAGAIN,
        }
    }
}
