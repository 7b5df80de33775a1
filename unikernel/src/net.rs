//! TCP and UDP sockets. Blocking unless told otherwise; streams are [`embedded_io`] readers and
//! writers.

use core::net::SocketAddr;

use embedded_io::{ErrorType, Read, Write};
use linux_raw_sys::net::{IPPROTO_TCP, SO_REUSEADDR, SOL_SOCKET, TCP_NODELAY};

use crate::Error;
use crate::poll::Pollable;
use crate::sys::{self, Fd, SocketKind};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A socket that waits for connections.
///
/// ```
/// use core::net::{Ipv4Addr, SocketAddr};
/// use unikernel::embedded_io::{Read, Write};
/// use unikernel::net::{TcpListener, TcpStream};
///
/// // A server binds to `Ipv4Addr::UNSPECIFIED` and a port of its own.
/// let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
/// let mut client = TcpStream::connect(listener.local_address()?)?;
/// let (mut connection, _peer) = listener.accept()?;
/// client.write_all(b"ping")?;
/// let mut request = [0; 64];
/// let filled = connection.read(&mut request)?;
/// assert_eq!(&request[..filled], b"ping");
/// # Ok::<(), unikernel::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpListener(Fd);

impl TcpListener {
    /// Listens on an address.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let fd = sys::socket(&address, SocketKind::Stream)?;
        sys::set_option(&fd, SOL_SOCKET, SO_REUSEADDR, 1)?;
        sys::bind(&fd, address)?;
        sys::listen(&fd, BACKLOG)?;
        Ok(Self(fd))
    }

    /// Takes a connection and its peer's address; waits for one if the listener may wait.
    pub fn accept(&self) -> Result<(TcpStream, SocketAddr), Error> {
        sys::accept(&self.0, false).map(|(fd, peer)| (TcpStream(fd), peer))
    }

    /// Takes a connection whose own calls will not wait.
    pub fn accept_nonblocking(&self) -> Result<(TcpStream, SocketAddr), Error> {
        sys::accept(&self.0, true).map(|(fd, peer)| (TcpStream(fd), peer))
    }

    /// Chooses whether [`Self::accept`] may wait.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        sys::set_nonblocking(&self.0, nonblocking)
    }

    /// The address it listens on.
    pub fn local_address(&self) -> Result<SocketAddr, Error> {
        sys::local_address(&self.0)
    }
}

impl Pollable for TcpListener {
    fn descriptor(&self) -> i32 {
        self.0.number()
    }
}

/// Which direction of a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// Nothing more will be read.
    Read,
    /// Nothing more will be written.
    Write,
    /// Both.
    Both,
}

/// A connection.
///
/// [`Read::read`] answers 0 after the peer has ended its direction. [`Write::write`] may take a part of the bytes.
///
/// ```
/// # use core::net::{Ipv4Addr, SocketAddr};
/// use unikernel::embedded_io::{Read, Write};
/// use unikernel::net::{Shutdown, TcpListener, TcpStream};
///
/// # let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
/// let mut stream = TcpStream::connect(listener.local_address()?)?;
/// stream.set_nodelay(true)?;
/// stream.write_all(b"the last words")?;
/// stream.shutdown(Shutdown::Write)?;
/// # let (mut peer, _) = listener.accept()?;
/// # let mut bytes = [0; 64];
/// # assert_eq!((peer.read(&mut bytes)?, peer.read(&mut bytes)?), (14, 0));
/// # Ok::<(), unikernel::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpStream(Fd);

impl TcpStream {
    /// Connects to an address.
    pub fn connect(address: SocketAddr) -> Result<Self, Error> {
        let fd = sys::socket(&address, SocketKind::Stream)?;
        sys::connect(&fd, address)?;
        Ok(Self(fd))
    }

    /// Sends small writes at once (`TCP_NODELAY`).
    pub fn set_nodelay(&self, nodelay: bool) -> Result<(), Error> {
        sys::set_option(&self.0, IPPROTO_TCP as u32, TCP_NODELAY, i32::from(nodelay))
    }

    /// Chooses whether calls may wait.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        sys::set_nonblocking(&self.0, nonblocking)
    }

    /// Ends one direction or both.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Error> {
        sys::shutdown(&self.0, how as u32)
    }
}

impl Pollable for TcpStream {
    fn descriptor(&self) -> i32 {
        self.0.number()
    }
}

impl ErrorType for TcpStream {
    type Error = Error;
}

impl Read for TcpStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        sys::read(self.0.number(), buffer)
    }
}

impl Write for TcpStream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        sys::send(&self.0, bytes)
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// A datagram socket.
///
/// ```
/// use core::net::{Ipv4Addr, SocketAddr};
/// use unikernel::net::UdpSocket;
///
/// let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
/// let (sender, receiver) = (UdpSocket::bind(any_port)?, UdpSocket::bind(any_port)?);
/// sender.send_to(b"ping", receiver.local_address()?)?;
/// let mut datagram = [0; 1500];
/// let (len, from) = receiver.receive_from(&mut datagram)?;
/// assert_eq!((&datagram[..len], from), (&b"ping"[..], sender.local_address()?));
/// # Ok::<(), unikernel::Error>(())
/// ```
#[derive(Debug)]
pub struct UdpSocket(Fd);

impl UdpSocket {
    /// Binds to an address.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let fd = sys::socket(&address, SocketKind::Datagram)?;
        sys::bind(&fd, address)?;
        Ok(Self(fd))
    }

    /// Sends one datagram.
    pub fn send_to(&self, bytes: &[u8], address: SocketAddr) -> Result<usize, Error> {
        sys::send_to(&self.0, bytes, address)
    }

    /// Receives one datagram; answers its length and sender.
    pub fn receive_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        sys::receive_from(&self.0, buffer)
    }

    /// Chooses whether calls may wait.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        sys::set_nonblocking(&self.0, nonblocking)
    }

    /// The address it is bound to.
    pub fn local_address(&self) -> Result<SocketAddr, Error> {
        sys::local_address(&self.0)
    }
}

impl Pollable for UdpSocket {
    fn descriptor(&self) -> i32 {
        self.0.number()
    }
}
