//! What a message is on its way between the app and a socket.

use alloc::boxed::Box;
use core::net::IpAddr;

use bitflags::bitflags;
use linux_raw_sys::net;
use unikernel_net::{Arrival, QueuedError};

use super::address::{Address, UserAddress};
use super::unix::Rights;
use crate::mem::user::UserSlice;

bitflags! {
    /// Flags of the send and receive calls; the bits are Linux's.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MessageFlags: u32 {
        /// Do not sleep.
        const DONT_WAIT = net::MSG_DONTWAIT;
        /// Urgent data, beside the stream.
        const URGENT = net::MSG_OOB;
        /// Look without taking.
        const PEEK = net::MSG_PEEK;
        /// Answer a datagram's true length; of a stream, throw the bytes away.
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
        /// Take from the queue of errors (recv(2)).
        const ERROR_QUEUE = net::MSG_ERRQUEUE;
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

bitflags! {
    /// Which times of datagrams are told (Linux: `SOF_TIMESTAMPING_*`). Those of the card's clock are never known.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Timestamping: u32 {
        /// That of sending, by the card.
        const TX_HARDWARE = 1;
        /// That of sending.
        const TX_SOFTWARE = 1 << 1;
        /// That of receiving, by the card.
        const RX_HARDWARE = 1 << 2;
        /// That of receiving.
        const RX_SOFTWARE = 1 << 3;
        /// Those of our clock are told.
        const SOFTWARE = 1 << 4;
        /// Those of the card, as ours.
        const SYS_HARDWARE = 1 << 5;
        /// Those of the card.
        const RAW_HARDWARE = 1 << 6;
        /// Datagrams that are sent are counted.
        const OPT_ID = 1 << 7;
        /// That of the decision to send.
        const TX_SCHED = 1 << 8;
        /// That of an acknowledgement, of a stream.
        const TX_ACK = 1 << 9;
        /// With the times of sending comes what is told of a datagram's header.
        const OPT_CMSG = 1 << 10;
        /// The datagram does not come back with its time.
        const OPT_TSONLY = 1 << 11;
        /// With the card's time comes the card's number.
        const OPT_PKTINFO = 1 << 13;
        /// The card's and ours, both.
        const OPT_TX_SWHW = 1 << 14;
    }
}

/// What a receive call got.
pub(crate) struct Received {
    /// Bytes copied.
    pub len: usize,
    /// Bytes that there were: more for a datagram that was cut.
    pub full_len: usize,
    /// Who sent them; connected streams do not say.
    pub from: Option<Address>,
    /// Open files that came along.
    pub rights: Rights,
    /// What else is known of it.
    pub beside: Beside,
}

/// What is known of a message beside its bytes; what of it is told, the socket's options say.
pub(crate) enum Beside {
    /// Nothing.
    Nothing,
    /// A datagram's header, and the number of the interface that it came in by.
    Arrival(Arrival, u32),
    /// It is the urgent byte.
    Urgent,
    /// It is no message, but an error about one.
    Error(Box<QueuedError>),
}

impl Received {
    /// The end.
    pub(crate) fn nothing() -> Self {
        Self::bytes(0)
    }

    /// Bytes of a stream.
    pub(in crate::net) fn bytes(len: usize) -> Self {
        Self { len, full_len: len, from: None, rights: Rights::new(), beside: Beside::Nothing }
    }
}

/// What a send call sends.
pub(crate) struct Outgoing<'a> {
    /// The bytes.
    pub buffers: &'a [UserSlice<'a>],
    /// Whom to; the peer if nothing is said.
    pub to: Option<UserAddress>,
    /// Open files to go along.
    pub rights: Rights,
    /// What this datagram does otherwise than its socket.
    pub control: SendControl,
}

/// What the control messages of IPv4, or of IPv6, ask for one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct HeaderControl {
    /// The source and the interface (`IP_PKTINFO`).
    pub source: Option<IpAddr>,
    /// Its number; 0 for any.
    pub interface: u32,
    /// `IP_TTL`, `IPV6_HOPLIMIT`.
    pub hop_limit: Option<u8>,
    /// `IP_TOS`, `IPV6_TCLASS`.
    pub traffic_class: Option<u8>,
}

/// What control messages ask for one datagram; those for the other protocol than its destination's do not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SendControl {
    /// Of IPv4 and of IPv6.
    pub headers: [HeaderControl; 2],
    /// `IPV6_DONTFRAG`.
    pub is_unsplit: Option<bool>,
    /// `UDP_SEGMENT`.
    pub segment: Option<u16>,
    /// There was one that datagrams of IPv4, or of IPv6, do not know.
    pub is_bad: [bool; 2],
}

impl<'a> Outgoing<'a> {
    /// Bytes for the peer.
    pub(crate) fn bytes(buffers: &'a [UserSlice]) -> Self {
        Self { buffers, to: None, rights: Rights::new(), control: SendControl::default() }
    }
}
