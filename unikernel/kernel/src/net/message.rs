//! What a message is on its way between the app and a socket.

use bitflags::bitflags;
use linux_raw_sys::net;

use super::address::{Address, Given};
use super::unix::Rights;
use crate::mem::user::UserSlice;

bitflags! {
    /// Flags of the send and receive calls; the bits are Linux's.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MessageFlags: u32 {
        /// Do not sleep.
        const DONT_WAIT = net::MSG_DONTWAIT;
        /// Look without taking.
        const PEEK = net::MSG_PEEK;
        /// Answer a datagram's true length.
        const TRUNCATE = net::MSG_TRUNC;
        /// Fill the whole buffer.
        const WAIT_ALL = net::MSG_WAITALL;
        /// No `SIGPIPE`.
        const NO_SIGNAL = net::MSG_NOSIGNAL;
        /// More follows: a hint that is not needed, since sending waits for the batch anyway.
        const MORE = net::MSG_MORE;
        /// Descriptors that are received close at `execve`.
        const CLOSE_ON_EXEC = net::MSG_CMSG_CLOEXEC;
        /// The way to the neighbour is known to be good: a hint.
        const CONFIRM = net::MSG_CONFIRM;
        /// There is one network only, and no other way to go.
        const DONT_ROUTE = net::MSG_DONTROUTE;
        /// Marks the end of a record, which streams and datagrams do not have.
        const END_OF_RECORD = net::MSG_EOR;
    }
}

impl MessageFlags {
    /// True if a receive call goes on until its buffer is full.
    #[inline]
    pub(super) fn waits_for_all(self) -> bool {
        self & (Self::WAIT_ALL | Self::PEEK) == Self::WAIT_ALL
    }
}

/// What a receive call got.
pub struct Received {
    /// Bytes copied.
    pub len: usize,
    /// Bytes that there were: more for a datagram that was cut.
    pub full_len: usize,
    /// Who sent them; connected streams do not say.
    pub from: Option<Address>,
    /// Open files that came along.
    pub rights: Rights,
}

impl Received {
    /// The end.
    pub fn nothing() -> Self {
        Self::bytes(0)
    }

    /// Bytes of a stream.
    pub(super) fn bytes(len: usize) -> Self {
        Self { len, full_len: len, from: None, rights: Rights::new() }
    }
}

/// What a send call sends.
pub struct Outgoing<'a> {
    /// The bytes.
    pub buffers: &'a [UserSlice],
    /// Whom to; the peer if nothing is said.
    pub to: Option<Given>,
    /// Open files to go along.
    pub rights: Rights,
}

impl<'a> Outgoing<'a> {
    /// Bytes for the peer.
    pub fn bytes(buffers: &'a [UserSlice]) -> Self {
        Self { buffers, to: None, rights: Rights::new() }
    }
}
