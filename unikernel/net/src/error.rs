//! What can go wrong, one small enum per operation. Nothing here knows an errno.

use core::fmt;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[doc = $text:literal])+ $variant:ident,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, Debug)]
            pub enum $name {
                $($(#[doc = $text])+ $variant,)*
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(match self {
                        $(Self::$variant => concat!($($text),+).trim_ascii(),)*
                    })
                }
            }

            impl core::error::Error for $name {}
        )*
    };
}

errors! {
    /// Why a socket failed; kept until somebody takes it, as `SO_ERROR` does.
    SocketError {
        /// The peer refused the connection.
        Refused,
        /// The peer reset the connection.
        Reset,
        /// The peer stopped answering.
        TimedOut,
        /// No neighbour or router answers for the address.
        HostUnreachable,
        /// No router knows the network.
        NetworkUnreachable,
        /// A datagram did not fit a path on the way.
        TooLong,
        /// The peer does not know the protocol.
        NoProtocol,
        /// Somebody on the way does not let it pass.
        Forbidden,
        /// The peer had closed, and refused what it was sent.
        Closed,
        /// The address this connection used is no longer ours.
        AddressLost,
    }
    /// Why an address cannot be bound.
    BindError {
        /// Another socket holds the address.
        InUse,
        /// The address is not one of ours.
        NotOurs,
        /// Every ephemeral port is taken.
        NoPort,
        /// There is no memory for another socket.
        NoMemory,
        /// The id names no socket.
        BadId,
    }
    /// Why a socket cannot listen.
    ListenError {
        /// Another socket listens there.
        InUse,
        /// The id names no socket.
        BadId,
    }
    /// Why nothing was accepted.
    AcceptError {
        /// No connection waits.
        WouldBlock,
        /// The socket does not listen.
        NotListening,
        /// The id names no socket.
        BadId,
    }
    /// Why a connection attempt cannot start.
    ConnectError {
        /// The address cannot be a peer.
        Unaddressable,
        /// There is no route to the address.
        NoRoute,
        /// The same pair of addresses is connected already.
        InUse,
        /// Every ephemeral port towards the peer is taken.
        NoPort,
        /// The bound on connections is reached.
        NoMemory,
        /// The id names no socket.
        BadId,
    }
    /// Why nothing was received.
    RecvError {
        /// No data waits.
        WouldBlock,
        /// The peer has finished, and everything was read.
        Finished,
        /// The connection is not established.
        NotConnected,
        /// The peer refused the connection.
        Refused,
        /// The peer reset the connection.
        Reset,
        /// The peer stopped answering.
        TimedOut,
        /// No neighbour or router answers for the peer.
        Unreachable,
        /// No router knows the peer's network.
        NetworkUnreachable,
        /// A datagram did not fit a path on the way.
        TooLong,
        /// The peer does not know the protocol.
        NoProtocol,
        /// Somebody on the way does not let it pass.
        Forbidden,
        /// The id names no socket.
        BadId,
    }
    /// Why nothing was sent.
    SendError {
        /// There is no memory for it.
        NoMemory,
        /// There is no room, or no memory for it.
        WouldBlock,
        /// The sending direction is closed.
        Closed,
        /// The connection is not established.
        NotConnected,
        /// No destination was given, and the socket has no peer.
        NoDestination,
        /// The datagram does not fit a packet.
        TooLong,
        /// There is no route to the destination.
        NoRoute,
        /// Broadcast was not allowed on this socket.
        Broadcast,
        /// The peer does not know the protocol.
        NoProtocol,
        /// Somebody on the way does not let it pass.
        Forbidden,
        /// The source is not ours, or the pieces are too many.
        Invalid,
        /// The peer refused the connection.
        Refused,
        /// The peer reset the connection.
        Reset,
        /// The peer stopped answering.
        TimedOut,
        /// No neighbour or router answers for the peer.
        Unreachable,
        /// The id names no socket.
        BadId,
    }
    /// Why a group cannot be joined or left.
    GroupError {
        /// The address is not one of a group.
        NotAGroup,
        /// The socket is in the group.
        Already,
        /// The socket is not in the group.
        NotJoined,
        /// The bound on memberships is reached.
        TooMany,
        /// There is no network card.
        NoSuchLink,
        /// The id names no socket.
        BadId,
    }
    /// Why a connection cannot be shut down or asked about.
    StateError {
        /// The connection is not established.
        NotConnected,
        /// There is no memory to do it.
        NoMemory,
        /// The id names no socket.
        BadId,
    }
}

impl From<SocketError> for RecvError {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Refused => Self::Refused,
            SocketError::Reset | SocketError::AddressLost => Self::Reset,
            SocketError::Closed => Self::Finished,
            SocketError::TimedOut => Self::TimedOut,
            SocketError::HostUnreachable => Self::Unreachable,
            SocketError::NetworkUnreachable => Self::NetworkUnreachable,
            SocketError::TooLong => Self::TooLong,
            SocketError::NoProtocol => Self::NoProtocol,
            SocketError::Forbidden => Self::Forbidden,
        }
    }
}

impl From<SocketError> for SendError {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Refused => Self::Refused,
            SocketError::Reset | SocketError::AddressLost => Self::Reset,
            SocketError::Closed => Self::Closed,
            SocketError::TimedOut => Self::TimedOut,
            SocketError::HostUnreachable => Self::Unreachable,
            SocketError::NetworkUnreachable => Self::NoRoute,
            SocketError::TooLong => Self::TooLong,
            SocketError::NoProtocol => Self::NoProtocol,
            SocketError::Forbidden => Self::Forbidden,
        }
    }
}
