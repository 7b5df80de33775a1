//! The Linux error numbers. Memory, devices and the pure crates have small error enums of their own; the conversions
//! stand in the room that makes the errors (`errors.rs`), or that uses the crate.

use linux_raw_sys::errno as raw;

/// A Linux error number (errno(3)), positive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(u16);

/// What a system call answers: a value for `rax`, or an error number.
pub(crate) type SysResult = Result<usize, Errno>;

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`, see errno(3).")]
            pub(crate) const $name: Self = Self(raw::$name as u16);)*

            /// The symbolic name, as `strace` prints it.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::RESTART => "ERESTARTSYS",
                    Self::RESTART_NO_HANDLER => "ERESTARTNOHAND",
                    Self::RESTART_BLOCK => "ERESTART_RESTARTBLOCK",
                    Self::RESTART_ALWAYS => "ERESTARTNOINTR",
                    _ => "E?",
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ETOOMANYREFS
    ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP
    EOVERFLOW ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT
    ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN
    ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETIMEDOUT
    ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED EPROTO
    ENODATA EBADMSG ENOMSG ETIME EBADFD ELIBBAD EKEYREJECTED
}

impl Errno {
    /// A sleep was cut short by a signal: the call restarts if the handler has `SA_RESTART`, and
    /// answers `EINTR` otherwise. Never reaches the app (Linux: `ERESTARTSYS`, 512).
    pub(crate) const RESTART: Self = Self(512);
    /// The same for calls that a handler ends whatever its flags: they restart only if none ran (Linux:
    /// `ERESTARTNOHAND`, 514).
    pub(crate) const RESTART_NO_HANDLER: Self = Self(514);
    /// The same for calls that would begin with their time-out anew: they go on as the thread has noted
    /// (`syscall::restart`; Linux: `ERESTART_RESTARTBLOCK`, 516).
    pub(crate) const RESTART_BLOCK: Self = Self(516);

    /// The same for calls that begin again after any handler (Linux: `ERESTARTNOINTR`, 513).
    pub(crate) const RESTART_ALWAYS: Self = Self(513);

    /// Those that never reach the app: what becomes of the call is settled with the signal.
    pub(crate) const RESTARTS: [Self; 4] =
        [Self::RESTART, Self::RESTART_NO_HANDLER, Self::RESTART_BLOCK, Self::RESTART_ALWAYS];

    /// The value for `rax`: the negated number.
    pub(crate) const fn to_rax(self) -> u64 {
        (self.0 as i64).wrapping_neg() as u64
    }

    /// What a module has answered; `EINVAL` for what is no error number, or none that may reach the app.
    pub(crate) const fn of_module(number: i32) -> Self {
        const MOST: i32 = 133;
        if number > 0 && number <= MOST { Self(number as u16) } else { Self::EINVAL }
    }

    /// The positive number, as `SO_ERROR` reports it.
    pub(crate) const fn number(self) -> i32 {
        self.0 as i32
    }
}
