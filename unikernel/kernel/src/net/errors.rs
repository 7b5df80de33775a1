//! The stack's errors as Linux's, one conversion each.

use unikernel_net::{
    AcceptError, BindError, ConnectError, GroupError, ListenError, RecvError, SendError, SocketError,
    StateError,
};

use crate::abi::Errno;

impl From<SocketError> for Errno {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Refused => Self::ECONNREFUSED,
            SocketError::Reset => Self::ECONNRESET,
            SocketError::TimedOut => Self::ETIMEDOUT,
            SocketError::HostUnreachable => Self::EHOSTUNREACH,
            SocketError::NetworkUnreachable => Self::ENETUNREACH,
            SocketError::TooLong => Self::EMSGSIZE,
            SocketError::NoProtocol => Self::ENOPROTOOPT,
            SocketError::Forbidden => Self::EACCES,
            SocketError::Closed => Self::EPIPE,
            SocketError::AddressLost => Self::ENETDOWN,
        }
    }
}

impl From<BindError> for Errno {
    fn from(error: BindError) -> Self {
        match error {
            BindError::InUse | BindError::NoPort => Self::EADDRINUSE,
            BindError::NotOurs => Self::EADDRNOTAVAIL,
            BindError::BadId => Self::EBADF,
            BindError::NoMemory => Self::ENOMEM,
        }
    }
}

impl From<ListenError> for Errno {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::InUse => Self::EADDRINUSE,
            ListenError::BadId => Self::EBADF,
        }
    }
}

impl From<AcceptError> for Errno {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::WouldBlock => Self::EAGAIN,
            AcceptError::NotListening | AcceptError::BadId => Self::EINVAL,
        }
    }
}

impl From<ConnectError> for Errno {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unaddressable => Self::EINVAL,
            ConnectError::NoRoute => Self::ENETUNREACH,
            ConnectError::InUse | ConnectError::NoPort => Self::EADDRNOTAVAIL,
            ConnectError::NoMemory => Self::ENOBUFS,
            ConnectError::BadId => Self::EBADF,
        }
    }
}

impl From<RecvError> for Errno {
    /// The end of the stream is no error: the caller turns it into a count of zero first.
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::WouldBlock => Self::EAGAIN,
            RecvError::Finished | RecvError::NotConnected | RecvError::BadId => Self::ENOTCONN,
            RecvError::Refused => Self::ECONNREFUSED,
            RecvError::Reset => Self::ECONNRESET,
            RecvError::TimedOut => Self::ETIMEDOUT,
            RecvError::Unreachable => Self::EHOSTUNREACH,
            RecvError::NetworkUnreachable => Self::ENETUNREACH,
            RecvError::TooLong => Self::EMSGSIZE,
            RecvError::NoProtocol => Self::ENOPROTOOPT,
            RecvError::Forbidden => Self::EACCES,
        }
    }
}

impl From<SendError> for Errno {
    fn from(error: SendError) -> Self {
        match error {
            SendError::WouldBlock => Self::EAGAIN,
            SendError::Closed => Self::EPIPE,
            SendError::NoMemory => Self::ENOBUFS,
            SendError::NotConnected | SendError::BadId => Self::ENOTCONN,
            SendError::NoDestination => Self::EDESTADDRREQ,
            SendError::TooLong => Self::EMSGSIZE,
            SendError::NoRoute => Self::ENETUNREACH,
            SendError::NoProtocol => Self::ENOPROTOOPT,
            SendError::Broadcast | SendError::Forbidden => Self::EACCES,
            SendError::Invalid => Self::EINVAL,
            SendError::Refused => Self::ECONNREFUSED,
            SendError::Reset => Self::ECONNRESET,
            SendError::TimedOut => Self::ETIMEDOUT,
            SendError::Unreachable => Self::EHOSTUNREACH,
        }
    }
}

impl From<GroupError> for Errno {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::NotAGroup => Self::EINVAL,
            GroupError::Already => Self::EADDRINUSE,
            GroupError::NotJoined => Self::EADDRNOTAVAIL,
            GroupError::TooMany => Self::ENOBUFS,
            GroupError::NoSuchLink => Self::ENODEV,
            GroupError::BadId => Self::EBADF,
        }
    }
}

impl From<StateError> for Errno {
    fn from(error: StateError) -> Self {
        match error {
            StateError::NotConnected => Self::ENOTCONN,
            StateError::NoMemory => Self::ENOBUFS,
            StateError::BadId => Self::EBADF,
        }
    }
}
