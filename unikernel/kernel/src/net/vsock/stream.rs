//! Stream sockets of `AF_VSOCK`.

use alloc::boxed::Box;
use alloc::sync::Arc;

use linux_raw_sys::net::{AF_VSOCK, SOCK_STREAM};
use linux_raw_sys::vm_sockets::{VMADDR_CID_ANY, VMADDR_CID_LOCAL, VMADDR_PORT_ANY};
use unikernel_net::vsock::{ANY_PORT, Attempt, VsockAddress, VsockId};

use super::with;
use crate::abi::{Errno, SysResult};
use crate::file::{AttemptError, Readiness, WaitMode};
use crate::kmem::room;
use crate::mem::user::UserSlice;
use crate::net::address::Family;
use crate::net::endpoint::{Endpoint, Name};
use crate::net::options::SocketOptions;
use crate::net::routes::to_file;
use crate::net::socket::{Direction, Kind, MessageFlags, Received, Shutdown, Socket};
use crate::platform::time;
use crate::sync::SpinLock;

/// Bytes of a `sockaddr_vm`.
pub(crate) const NAME_BYTES: usize = 16;
/// How long an attempt to connect may take (Linux: `VSOCK_DEFAULT_CONNECT_TIMEOUT`).
const CONNECT_NS: u64 = 2_000_000_000;
/// Bytes that go from the app to the stream at once.
const CHUNK_BYTES: usize = 16 * 1024;
const ANY: u32 = VMADDR_CID_ANY as u32;

/// What a socket is just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Fresh,
    Bound(u32),
    Listener(u32),
    /// A connection, or an attempt at one, and the port that was bound for it.
    Connection(VsockId, Option<u32>),
    Closed,
}

struct Stream {
    role: SpinLock<Role>,
}

/// Makes a socket.
pub(crate) fn socket() -> Arc<Socket> {
    with_role(Role::Fresh)
}

fn with_role(role: Role) -> Arc<Socket> {
    let stream = Stream { role: SpinLock::new(role) };
    Socket::new(Family::Vsock, Kind::Other(Box::new(stream)), SocketOptions::default())
}

fn name(cid: u32, port: u32) -> Name {
    let mut name = Name::new();
    name.extend((AF_VSOCK as u16).to_ne_bytes().into_iter().chain([0; 2]));
    name.extend(port.to_ne_bytes().into_iter().chain(cid.to_ne_bytes()).chain([0; 4]));
    name
}

fn name_of(address: VsockAddress) -> Name {
    name(address.cid as u32, address.port)
}

/// Context id and port of a `sockaddr_vm`.
fn parse(name: &Name) -> Result<(u32, u32), Errno> {
    match name[..] {
        [_, _, _, _, a, b, c, d, e, f, g, h, ..] => {
            Ok((u32::from_ne_bytes([e, f, g, h]), u32::from_ne_bytes([a, b, c, d])))
        }
        _ => Err(Errno::EINVAL),
    }
}

impl Stream {
    fn connection(&self) -> Result<VsockId, Errno> {
        match *self.role.lock() {
            Role::Connection(id, _) => Ok(id),
            _ => Err(Errno::ENOTCONN),
        }
    }

    /// Starts an attempt to connect, unless one is under way. Answers the connection, and whether it is new.
    fn begin(&self, socket: &Socket, peer: VsockAddress) -> Result<(VsockId, bool), Errno> {
        let mut role = self.role.lock();
        let bound = match *role {
            Role::Fresh => None,
            Role::Bound(port) => Some(port),
            Role::Connection(id, _) => match attempt(id) {
                Attempt::Pending => return Ok((id, false)),
                Attempt::Connected => return Err(Errno::EISCONN),
                Attempt::Refused => return Err(Errno::ECONNRESET),
            },
            Role::Listener(_) => return Err(Errno::EINVAL),
            Role::Closed => return Err(Errno::EBADF),
        };
        let me = socket.arc().ok_or(Errno::EBADF)?;
        let begun = with(|host| {
            if peer.cid == u64::from(VMADDR_CID_LOCAL) || peer.cid == host.streams.cid() {
                // There is no way from the machine to itself.
                return Err(Errno::ENODEV);
            }
            let id = host.streams.connect(bound.unwrap_or(ANY_PORT), peer).ok_or(Errno::EADDRNOTAVAIL)?;
            host.attach(id, &me);
            Ok(id)
        });
        let id = begun.ok_or(Errno::ENODEV)??;
        *role = Role::Connection(id, bound);
        Ok((id, true))
    }

    /// Gives an attempt up; the socket can be used for another.
    fn give_up(&self, id: VsockId) {
        let mut role = self.role.lock();
        if let Role::Connection(current, bound) = *role
            && current == id
        {
            *role = bound.map_or(Role::Fresh, Role::Bound);
            release(id);
        }
    }
}

fn attempt(id: VsockId) -> Attempt {
    with(|host| host.streams.attempt(id)).unwrap_or(Attempt::Refused)
}

fn release(id: VsockId) {
    with(|host| {
        host.connections.remove(&id);
        host.streams.abort(id);
    });
}

impl Endpoint for Stream {
    fn kind(&self) -> (u32, u32) {
        (SOCK_STREAM, 0)
    }

    fn bind(&self, _: &Socket, name: &Name) -> Result<(), Errno> {
        let (cid, port) = parse(name)?;
        let mut role = self.role.lock();
        if *role != Role::Fresh {
            return Err(Errno::EINVAL);
        }
        let bound = with(|host| {
            if cid != ANY && u64::from(cid) != host.streams.cid() {
                return Err(Errno::EADDRNOTAVAIL);
            }
            Ok(host.streams.bind(port)?)
        });
        *role = Role::Bound(bound.ok_or(Errno::ENODEV)??);
        Ok(())
    }

    fn listen(&self, socket: &Socket, backlog: usize) -> Result<(), Errno> {
        let mut role = self.role.lock();
        let (Role::Bound(port) | Role::Listener(port)) = *role else { return Err(Errno::EINVAL) };
        with(|host| {
            host.streams.listen(port, backlog);
            host.listeners.insert(port, socket.weak());
        });
        *role = Role::Listener(port);
        Ok(())
    }

    fn is_listening(&self) -> bool {
        matches!(*self.role.lock(), Role::Listener(_))
    }

    fn accept(&self, socket: &Socket, mode: WaitMode) -> Result<(Arc<Socket>, Name), Errno> {
        let Role::Listener(port) = *self.role.lock() else { return Err(Errno::EINVAL) };
        socket.block_on(mode, Direction::Receive, || -> Result<_, Errno> {
            let accepted = with(|host| {
                let id = host.streams.accept(port)?;
                let accepted = with_role(Role::Connection(id, None));
                host.attach(id, &accepted);
                let (_, peer) = host.streams.addresses(id).ok_or(Errno::ECONNABORTED)?;
                Ok((accepted, name_of(peer)))
            });
            accepted.ok_or(Errno::ENODEV)?
        })
    }

    fn connect(&self, socket: &Socket, name: Option<&Name>, mode: WaitMode) -> Result<(), Errno> {
        let (cid, port) = parse(name.ok_or(Errno::EINVAL)?)?;
        let (id, is_new) = self.begin(socket, VsockAddress { cid: cid.into(), port })?;
        if mode == WaitMode::NonBlocking && !is_new {
            return Err(Errno::EALREADY);
        }
        let deadline_ns = Some(time::now_ns() + CONNECT_NS);
        let outcome = socket.source.block_on(mode, deadline_ns, || match attempt(id) {
            Attempt::Pending => Err(Errno::EAGAIN),
            Attempt::Connected => Ok(()),
            Attempt::Refused => Err(Errno::ECONNRESET),
        });
        match outcome {
            Err(Errno::EAGAIN) if mode == WaitMode::NonBlocking => Err(Errno::EINPROGRESS),
            Err(Errno::EAGAIN) => {
                self.give_up(id);
                Err(Errno::ETIMEDOUT)
            }
            Err(error @ (Errno::ECONNRESET | Errno::EINTR)) => {
                self.give_up(id);
                Err(error)
            }
            outcome => outcome,
        }
    }

    fn shutdown(&self, _: &Socket, how: Shutdown) -> Result<(), Errno> {
        let id = self.connection()?;
        with(|host| host.streams.shut_down(id, how.ends_receiving(), how.ends_sending()));
        Ok(())
    }

    fn local(&self) -> Name {
        match *self.role.lock() {
            Role::Bound(port) | Role::Listener(port) => name(ANY, port),
            Role::Connection(id, _) => {
                let local = with(|host| host.streams.addresses(id)).flatten();
                local.map_or_else(|| name(ANY, VMADDR_PORT_ANY as u32), |(local, _)| name_of(local))
            }
            Role::Fresh | Role::Closed => name(ANY, VMADDR_PORT_ANY as u32),
        }
    }

    fn peer(&self) -> Result<Name, Errno> {
        let id = self.connection()?;
        if attempt(id) != Attempt::Connected {
            return Err(Errno::ENOTCONN);
        }
        let addresses = with(|host| host.streams.addresses(id)).flatten();
        addresses.map(|(_, peer)| name_of(peer)).ok_or(Errno::ENOTCONN)
    }

    fn take_error(&self) -> Option<Errno> {
        let id = self.connection().ok()?;
        let is_refused = attempt(id) == Attempt::Refused;
        if is_refused {
            self.give_up(id);
        }
        is_refused.then_some(Errno::ECONNRESET)
    }

    fn receive(
        &self,
        socket: &Socket,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> Result<Received, Errno> {
        let id = self.connection()?;
        let is_peek = flags.contains(MessageFlags::PEEK);
        let wanted: usize = into.iter().map(UserSlice::len).sum();
        let mut done = 0;
        let outcome = socket.block_on(mode, Direction::Receive, || {
            let count = receive_some(id, into, done, is_peek)?;
            done += count;
            let goes_on = flags.contains(MessageFlags::WAIT_ALL) && !is_peek && count > 0 && done < wanted;
            if goes_on { Err(AttemptError::Again) } else { Ok(()) }
        });
        match outcome {
            Err(error) if done == 0 => Err(error),
            _ => Ok(Received::bytes(done)),
        }
    }

    fn send(&self, socket: &Socket, from: &[UserSlice], to: Option<&Name>, mode: WaitMode) -> SysResult {
        let id = self.connection()?;
        if to.is_some() {
            return Err(Errno::EISCONN);
        }
        let wanted: usize = from.iter().map(UserSlice::len).sum();
        let mut done = 0;
        let outcome = socket.block_on(mode, Direction::Send, || {
            while done < wanted {
                done += send_some(id, from, done)?;
            }
            Ok::<_, AttemptError>(())
        });
        match outcome {
            Err(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    fn readiness(&self) -> Readiness {
        let ready = match *self.role.lock() {
            Role::Listener(port) => with(|host| host.streams.listener_readiness(port)),
            Role::Connection(id, _) => with(|host| host.streams.readiness(id)),
            Role::Fresh | Role::Bound(_) | Role::Closed => {
                return Readiness::SOCKET_WRITABLE | Readiness::HUP;
            }
        };
        let mut ready = ready.map_or(Readiness::HUP, to_file);
        ready.set(Readiness::WRBAND, ready.contains(Readiness::WRITABLE));
        ready
    }

    fn queues(&self) -> Result<(usize, usize), Errno> {
        let id = self.connection()?;
        Ok(with(|host| host.streams.queues(id)).unwrap_or_default())
    }

    fn close(&self, _: &Socket) {
        let role = core::mem::replace(&mut *self.role.lock(), Role::Closed);
        with(|host| {
            let bound = match role {
                Role::Bound(port) | Role::Listener(port) => Some(port),
                Role::Connection(id, bound) => {
                    host.connections.remove(&id);
                    host.streams.close(id);
                    bound
                }
                Role::Fresh | Role::Closed => None,
            };
            if let Some(port) = bound {
                host.listeners.remove(&port);
                host.streams.unbind(port);
            }
        });
    }
}

/// The part of the buffers past the first `done` bytes that is in one piece.
fn next_piece<'a>(buffers: &[UserSlice<'a>], done: usize) -> Option<UserSlice<'a>> {
    let mut skip = done;
    buffers.iter().find_map(|buffer| {
        let here = skip.min(buffer.len());
        skip -= here;
        Some(buffer.skip(here)).filter(|rest| !rest.is_empty())
    })
}

/// Copies received bytes into the app's buffers, past the first `done` bytes of them; 0 at the stream's end.
fn receive_some(id: VsockId, into: &[UserSlice], done: usize, is_peek: bool) -> Result<usize, AttemptError> {
    let Some(piece) = next_piece(into, done) else { return Ok(0) };
    let copy = |bytes: &[u8]| {
        let count = bytes.len().min(piece.len());
        match piece.try_write(&bytes[..count]) {
            Ok(()) => (if is_peek { 0 } else { count }, Ok(count)),
            Err(missing) => (0, Err(missing.into())),
        }
    };
    match with(|host| host.streams.recv(id, copy)).ok_or(Errno::ENODEV)? {
        Ok(copied) => copied,
        Err(unikernel_net::RecvError::Finished) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Copies the app's bytes past the first `done` into the stream, as far as there is room.
fn send_some(id: VsockId, from: &[UserSlice], done: usize) -> Result<usize, AttemptError> {
    let Some(piece) = next_piece(from, done) else { return Ok(0) };
    let sent = with(|host| {
        room::ask_locked()?;
        let mut chunk = alloc::vec![0; host.streams.room(id)?.min(piece.len()).min(CHUNK_BYTES)];
        piece.try_read(&mut chunk)?;
        host.streams.send(id, &chunk)?;
        Ok(chunk.len())
    });
    sent.ok_or(Errno::ENODEV)?
}
