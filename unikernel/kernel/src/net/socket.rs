//! A socket. What differs between the kinds is in [`stream`], [`datagram`], [`unix`] and [`endpoint`]; here is what they share, and
//! the choice among them. [`super::socket_file`] makes it the file behind a descriptor.
//!
//! [`stream`]: super::stream
//! [`datagram`]: super::datagram
//! [`unix`]: super::unix
//! [`endpoint`]: super::endpoint

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::net;
use unikernel_net::{Stack, TcpId};

use super::address::{Address, Family, UserAddress};
use super::datagram::Datagram;
use super::endpoint::Endpoint;
pub(crate) use super::message::{Beside, MessageFlags, Outgoing, Received, SendControl, Timestamping};
use super::options::SocketOptions;
use super::peek_offset::PeekOffset;
use super::stream::Stream;
use super::unix::{SocketType, Unix};
use super::urgent::Owner;
use crate::abi::{Errno, SysResult};
use crate::file::{AttemptError, PollSource, WaitMode, broken_pipe, complete};
use crate::mem::user::UserSlice;
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::credentials::{self, Capability};

/// Nobody else runs on the core for so long at most, in microseconds, whatever `SO_BUSY_POLL` asks for.
const MAX_BUSY_POLL_US: u32 = 1000;

/// Which of a socket's two time-outs counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// Receiving and accepting.
    Receive,
    /// Sending and connecting.
    Send,
}

/// Which direction a shutdown ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shutdown {
    /// No more reading.
    Receive,
    /// No more writing.
    Send,
    /// Neither.
    Both,
}

impl Shutdown {
    /// Reading ends.
    pub(crate) fn ends_receiving(self) -> bool {
        self != Self::Send
    }

    /// Writing ends.
    pub(crate) fn ends_sending(self) -> bool {
        self != Self::Receive
    }
}

/// The kinds of socket.
pub(crate) enum Kind {
    /// TCP.
    Stream(Stream),
    /// UDP.
    Datagram(Datagram),
    /// Within the machine.
    Unix(Unix),
    /// Something else.
    Other(Box<dyn Endpoint>),
}

/// A socket.
pub(crate) struct Socket {
    /// The protocol family it was made for.
    pub family: Family,
    /// What it is.
    pub kind: Kind,
    /// What `setsockopt` set.
    pub options: SpinLock<SocketOptions>,
    /// Who is told of urgent data.
    pub owner: Owner,
    pub(super) source: PollSource,
    pub(super) inode: u64,
    me: Weak<Self>,
}

impl Socket {
    /// Makes a socket around its kind.
    pub(crate) fn new(family: Family, kind: Kind, options: SocketOptions) -> Arc<Self> {
        static NEXT_INODE: AtomicU64 = AtomicU64::new(1);
        Arc::new_cyclic(|me| Self {
            family,
            kind,
            options: SpinLock::new(options),
            owner: Owner::default(),
            source: PollSource::new(),
            inode: NEXT_INODE.fetch_add(1, Ordering::Relaxed),
            me: Weak::clone(me),
        })
    }

    /// Its number, which `/proc` and `fstat` show.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// The counted reference to itself.
    pub(super) fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// A reference to itself that does not keep it alive.
    pub(super) fn weak(&self) -> Weak<Self> {
        Weak::clone(&self.me)
    }

    /// What it is within the machine, if that.
    pub(crate) fn unix(&self) -> Option<&Unix> {
        match &self.kind {
            Kind::Unix(unix) => Some(unix),
            _ => None,
        }
    }

    /// bind(2).
    pub(crate) fn bind(&self, address: UserAddress) -> Result<(), Errno> {
        if self.check_reachable(&address).is_err() {
            return Err(Errno::EINVAL);
        }
        match &self.kind {
            Kind::Stream(stream) => stream.bind(self, own_port(address.internet()?)?),
            Kind::Datagram(datagram) => datagram.bind(self, own_port(address.internet()?)?),
            Kind::Unix(unix) => unix.bind(self, address.unix()?),
            Kind::Other(endpoint) => endpoint.bind(self, &address.other()?),
        }
    }

    /// listen(2).
    pub(crate) fn listen(&self, backlog: usize) -> Result<(), Errno> {
        match &self.kind {
            Kind::Stream(stream) => stream.listen(self, backlog),
            Kind::Unix(unix) => unix.listen(backlog),
            Kind::Datagram(_) => Err(Errno::EOPNOTSUPP),
            Kind::Other(endpoint) => endpoint.listen(self, backlog),
        }
    }

    /// accept(2): the new socket and its peer.
    pub(crate) fn accept(&self, mode: WaitMode) -> Result<(Arc<Self>, Address), Errno> {
        match &self.kind {
            Kind::Stream(stream) => {
                let (socket, peer) = stream.accept(self, mode)?;
                Ok((socket, Address::Internet(peer)))
            }
            Kind::Unix(unix) => unix.accept(self, mode),
            Kind::Datagram(_) => Err(Errno::EOPNOTSUPP),
            Kind::Other(endpoint) => {
                let (socket, peer) = endpoint.accept(self, mode)?;
                Ok((socket, Address::Other(peer)))
            }
        }
    }

    /// connect(2).
    pub(crate) fn connect(&self, address: UserAddress, mode: WaitMode) -> Result<(), Errno> {
        self.check_reachable(&address)?;
        match &self.kind {
            Kind::Stream(stream) if address == UserAddress::Unspecified => stream.disconnect(self),
            Kind::Stream(stream) => stream.connect(self, address.internet()?, mode),
            Kind::Datagram(datagram) => datagram.connect(self, address),
            Kind::Unix(unix) => {
                let name = match address {
                    UserAddress::Unspecified => None,
                    given => Some(given.unix()?),
                };
                unix.connect(&self.arc().ok_or(Errno::EBADF)?, name, mode)
            }
            Kind::Other(endpoint) if address == UserAddress::Unspecified => {
                endpoint.connect(self, None, mode)
            }
            Kind::Other(endpoint) => endpoint.connect(self, Some(&address.other()?), mode),
        }
    }

    /// shutdown(2).
    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        match &self.kind {
            Kind::Stream(stream) => stream.shutdown(self, how),
            Kind::Datagram(datagram) => datagram.shutdown(self, how),
            Kind::Unix(unix) => {
                unix.shutdown(self, how);
                Ok(())
            }
            Kind::Other(endpoint) => endpoint.shutdown(self, how),
        }
    }

    /// Our address.
    pub(crate) fn local(&self) -> Address {
        match &self.kind {
            Kind::Stream(stream) => Address::Internet(stream.local(self)),
            Kind::Datagram(datagram) => Address::Internet(datagram.local(self)),
            Kind::Unix(unix) => Address::Unix(unix.name()),
            Kind::Other(endpoint) => Address::Other(endpoint.local()),
        }
    }

    /// The peer's address.
    pub(crate) fn peer(&self) -> Result<Address, Errno> {
        match &self.kind {
            Kind::Stream(stream) => stream.peer().map(Address::Internet),
            Kind::Datagram(datagram) => datagram.peer(self).map(Address::Internet),
            Kind::Unix(unix) => unix.peer_name().map(Address::Unix),
            Kind::Other(endpoint) => endpoint.peer().map(Address::Other),
        }
    }

    /// The error that waits, which is then forgotten (`SO_ERROR`).
    pub(crate) fn take_error(&self) -> Option<Errno> {
        match &self.kind {
            Kind::Stream(stream) => stream.take_error(),
            Kind::Datagram(datagram) => datagram.take_error(),
            Kind::Unix(unix) => unix.take_error(),
            Kind::Other(endpoint) => endpoint.take_error(),
        }
    }

    /// recv(2) and its relatives.
    pub(crate) fn receive(
        &self,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> Result<Received, Errno> {
        match &self.kind {
            // Connections have no errors but the one that ends them.
            Kind::Stream(_) if flags.contains(MessageFlags::ERROR_QUEUE) => Err(Errno::EAGAIN),
            Kind::Stream(stream) if flags.contains(MessageFlags::URGENT) => {
                stream.receive_urgent(into, flags)
            }
            Kind::Unix(_) | Kind::Other(_) if flags.contains(MessageFlags::URGENT) => Err(Errno::EOPNOTSUPP),
            Kind::Stream(stream) => stream
                .receive(self, into, flags, mode)
                .inspect(|&len| stream.peek_offset.advance(flags, len, len))
                .map(Received::bytes),
            Kind::Datagram(datagram) => datagram.receive(self, into, flags, mode),
            Kind::Unix(unix) => unix.receive(self, into, flags, mode),
            Kind::Other(endpoint) => endpoint.receive(self, into, flags, mode),
        }
    }

    /// Something has happened to its connection.
    #[inline]
    pub(super) fn note_standing(&self, stack: &Stack, id: TcpId) {
        if let Kind::Stream(stream) = &self.kind {
            stream.cached.note(stack, id);
        }
    }

    /// Where peeking goes on, if that can be said (`SO_PEEK_OFF`).
    pub(crate) fn peek_offset(&self) -> Option<&PeekOffset> {
        match &self.kind {
            Kind::Stream(stream) => Some(&stream.peek_offset),
            Kind::Datagram(datagram) => Some(&datagram.peek_offset),
            Kind::Unix(unix) => Some(&unix.peek_offset),
            Kind::Other(_) => None,
        }
    }

    /// Puts what the kernel has to say where the app receives it, which a netlink socket alone takes.
    pub(crate) fn push(&self, bytes: &[u8]) -> Result<(), Errno> {
        match &self.kind {
            Kind::Other(endpoint) => endpoint.push(self, bytes),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    /// send(2) and its relatives.
    pub(crate) fn send(&self, message: Outgoing<'_>, flags: MessageFlags, mode: WaitMode) -> SysResult {
        let Outgoing { buffers, to, rights, control } = message;
        let result = match &self.kind {
            Kind::Stream(stream) => stream.send(self, buffers, flags, mode),
            _ if flags.contains(MessageFlags::URGENT) => Err(Errno::EOPNOTSUPP),
            Kind::Datagram(datagram) => {
                // Without a family an address counts as one without a port, too.
                let to =
                    to.map(
                        |to| if to == UserAddress::Unspecified { Err(Errno::EINVAL) } else { to.internet() },
                    );
                datagram.send(self, buffers, to.transpose()?, (&control, flags), mode)
            }
            Kind::Unix(unix) => unix.send(self, buffers, to, rights, mode),
            Kind::Other(endpoint) => {
                let to = to.map(UserAddress::other).transpose()?;
                endpoint.send(self, buffers, to.as_ref(), mode)
            }
        };
        self.signalled(result, flags)
    }

    /// Receives bytes alone, which is all that most callers of streams want.
    #[inline]
    pub(super) fn receive_bytes(&self, into: &[UserSlice], mode: WaitMode) -> SysResult {
        match &self.kind {
            Kind::Stream(stream) => {
                let taken = stream.receive(self, into, MessageFlags::empty(), mode);
                taken.inspect(|&len| stream.peek_offset.advance(MessageFlags::empty(), len, len))
            }
            _ => Ok(self.receive(into, MessageFlags::empty(), mode)?.len),
        }
    }

    /// Sends bytes alone, to the peer.
    #[inline]
    pub(crate) fn send_bytes(&self, buffers: &[UserSlice], flags: MessageFlags, mode: WaitMode) -> SysResult {
        match &self.kind {
            Kind::Stream(stream) => self.signalled(stream.send(self, buffers, flags, mode), flags),
            _ => self.send(Outgoing::bytes(buffers), flags, mode),
        }
    }

    /// What a send call answers; that nobody reads any more streams tell by a signal, too, unless the caller has said
    /// otherwise.
    #[inline]
    fn signalled(&self, result: SysResult, flags: MessageFlags) -> SysResult {
        let is_quiet = || flags.contains(MessageFlags::NO_SIGNAL) || kind_number(self) != net::SOCK_STREAM;
        match result {
            Err(Errno::EPIPE) if !is_quiet() => Err(broken_pipe()),
            result => result,
        }
    }

    /// Runs `attempt` until it answers something else than `EAGAIN`, if `mode` allows sleeping
    /// and for as long as the socket's time-out for the direction says. Before it sleeps, what was
    /// written leaves and what has come in meanwhile is looked at.
    #[inline]
    pub(super) fn block_on<T, E: Into<AttemptError>>(
        &self,
        mode: WaitMode,
        direction: Direction,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, Errno> {
        let first = complete(&mut attempt);
        if mode == WaitMode::NonBlocking || !matches!(first, Err(Errno::EAGAIN)) {
            return first;
        }
        super::flush();
        super::poll();
        let busy_us = self.options.lock().busy_poll_us;
        if busy_us > 0 {
            let outcome = busy_poll(busy_us, &mut attempt);
            if !matches!(outcome, Err(Errno::EAGAIN)) {
                return outcome;
            }
        }
        let deadline_ns = self.options.lock().deadline(direction);
        self.source.block_on(mode, deadline_ns, attempt)
    }
}

/// Looks at the network again and again, for so long, instead of sleeping (socket(7), `SO_BUSY_POLL`).
#[cold]
fn busy_poll<T, E: Into<AttemptError>>(
    microseconds: u32,
    attempt: &mut impl FnMut() -> Result<T, E>,
) -> Result<T, Errno> {
    let until_ns = time::now_ns() + u64::from(microseconds.min(MAX_BUSY_POLL_US)) * 1000;
    loop {
        let outcome = complete(&mut *attempt);
        if !matches!(outcome, Err(Errno::EAGAIN)) || time::now_ns() >= until_ns {
            return outcome;
        }
        super::poll();
        core::hint::spin_loop();
    }
}

/// Linux's number for what a socket is (socket(2)).
pub(crate) fn kind_number(socket: &Socket) -> u32 {
    match &socket.kind {
        Kind::Stream(_) => net::SOCK_STREAM,
        Kind::Datagram(_) => net::SOCK_DGRAM,
        Kind::Unix(unix) => match unix.style() {
            SocketType::Stream => net::SOCK_STREAM,
            SocketType::Datagram => net::SOCK_DGRAM,
            SocketType::SeqPacket => net::SOCK_SEQPACKET,
        },
        Kind::Other(endpoint) => endpoint.kind().0,
    }
}

/// Ports below this one are root's to give (capabilities(7), `CAP_NET_BIND_SERVICE`).
pub(crate) const FIRST_FREE_PORT: u16 = 1024;

/// `EACCES` if the running thread may not have the port of an address for its own.
fn own_port(address: SocketAddr) -> Result<SocketAddr, Errno> {
    let is_free = address.port() == 0 || address.port() >= FIRST_FREE_PORT;
    if is_free || credentials::has(Capability::NetBindService) { Ok(address) } else { Err(Errno::EACCES) }
}
