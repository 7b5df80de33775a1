//! Waiting for many sockets (epoll(7)).

use core::fmt;
use core::time::Duration;

use linux_raw_sys::general::*;

use crate::Error;
use crate::sys::{self, Fd};

/// Something that can be waited for.
pub trait Pollable {
    /// Its descriptor.
    fn descriptor(&self) -> i32;
}

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Something to read or accept.
    Read,
    /// Room to write.
    Write,
    /// Either.
    Both,
}

impl Interest {
    fn bits(self) -> u32 {
        match self {
            Self::Read => EPOLLIN | EPOLLRDHUP,
            Self::Write => EPOLLOUT,
            Self::Both => EPOLLIN | EPOLLRDHUP | EPOLLOUT,
        }
    }
}

/// A set of things to wait for. Level-triggered: what is ready is reported until it is dealt with.
///
/// ```
/// use core::net::{Ipv4Addr, SocketAddr};
/// use core::time::Duration;
/// use unikernel::net::{TcpListener, TcpStream};
/// use unikernel::poll::{Events, Interest, Poller};
///
/// const LISTENER: u64 = 0;
///
/// let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
/// listener.set_nonblocking(true)?;
/// let poller = Poller::new()?;
/// poller.add(&listener, LISTENER, Interest::Read)?;
/// let _client = TcpStream::connect(listener.local_address()?)?;
///
/// let mut events = Events::<64>::new();
/// poller.wait(&mut events, Some(Duration::from_secs(1)))?;
/// for event in events.iter() {
///     assert!(event.key() == LISTENER && event.is_readable());
///     let (connection, _peer) = listener.accept_nonblocking()?;
///     poller.add(&connection, 1, Interest::Both)?;
/// }
/// assert_eq!(events.len(), 1);
/// # Ok::<(), unikernel::Error>(())
/// ```
#[derive(Debug)]
pub struct Poller(Fd);

impl Poller {
    /// Makes an empty set.
    pub fn new() -> Result<Self, Error> {
        sys::epoll_create().map(Self)
    }

    /// Adds something under a key of the caller's choice.
    pub fn add(&self, source: &impl Pollable, key: u64, interest: Interest) -> Result<(), Error> {
        sys::epoll_control(&self.0, EPOLL_CTL_ADD, source.descriptor(), interest.bits(), key)
    }

    /// Changes what something is waited for.
    pub fn modify(&self, source: &impl Pollable, key: u64, interest: Interest) -> Result<(), Error> {
        sys::epoll_control(&self.0, EPOLL_CTL_MOD, source.descriptor(), interest.bits(), key)
    }

    /// Takes something out. Dropping a source does the same.
    pub fn remove(&self, source: &impl Pollable) -> Result<(), Error> {
        sys::epoll_control(&self.0, EPOLL_CTL_DEL, source.descriptor(), 0, 0)
    }

    /// Waits until something is ready, at most for `timeout` (rounded up to milliseconds). Fills
    /// `events`, which is used again from call to call.
    pub fn wait<const N: usize>(
        &self,
        events: &mut Events<N>,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        let timeout_ms =
            timeout.map_or(-1, |timeout| timeout.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32);
        events.len = 0;
        events.len = sys::epoll_wait(&self.0, &mut events.buffer, timeout_ms)?;
        Ok(())
    }
}

/// Room for `N` events at a time.
pub struct Events<const N: usize> {
    buffer: [epoll_event; N],
    len: usize,
}

impl<const N: usize> Events<N> {
    /// Makes room.
    pub const fn new() -> Self {
        Self { buffer: [epoll_event { events: 0, data: 0 }; N], len: 0 }
    }

    /// What the last wait found.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.buffer[..self.len].iter().map(|event| Event { bits: event.events, key: event.data })
    }

    /// How many events the last wait found.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the last wait found nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for Events<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for Events<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Something is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    bits: u32,
    key: u64,
}

impl Event {
    /// The key it was added under.
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// There is something to read, or the end of it, or an error to fetch.
    pub const fn is_readable(&self) -> bool {
        self.bits & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR) != 0
    }

    /// There is room to write, or an error to fetch.
    pub const fn is_writable(&self) -> bool {
        self.bits & (EPOLLOUT | EPOLLHUP | EPOLLERR) != 0
    }
}
