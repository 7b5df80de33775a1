//! Connecting and accepting (listen(2), accept(2), connect(2)). There is no handshake: who connects makes both ends, and puts
//! one into the listener's queue.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::{Role, SocketType, Unix, UnixName, names};
use crate::abi::Errno;
use crate::file::{Readiness, WaitMode};
use crate::net::address::Address;
use crate::net::socket::{Direction, Socket};

impl Unix {
    pub(in crate::net) fn listen(&self, backlog: usize) -> Result<(), Errno> {
        if self.socket_type == SocketType::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        if state.name == UnixName::Unnamed {
            return Err(Errno::EINVAL);
        }
        match &mut state.role {
            Role::Listener { backlog: old, .. } => *old = backlog,
            role @ Role::Fresh => *role = Role::Listener { queue: VecDeque::new(), backlog },
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// True if it accepts connections.
    pub(crate) fn is_listening(&self) -> bool {
        matches!(self.state.lock().role, Role::Listener { .. })
    }

    pub(in crate::net) fn accept(
        &self,
        socket: &Socket,
        mode: WaitMode,
    ) -> Result<(Arc<Socket>, Address), Errno> {
        if self.socket_type == SocketType::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let accepted = socket.block_on(mode, Direction::Receive, || {
            let next = match &mut self.state.lock().role {
                Role::Listener { queue, .. } => queue.pop_front(),
                _ => return Err(Errno::EINVAL),
            };
            // Who would wait is told that nobody comes any more.
            let is_over = || mode == WaitMode::MayBlock && self.incoming.lock().is_read_shut;
            next.ok_or_else(|| if is_over() { Errno::EINVAL } else { Errno::EAGAIN })
        })?;
        // Somebody may wait for room in the queue.
        socket.source.notify(Readiness::WRITABLE);
        let peer = accepted.unix().and_then(Self::connection).map(|connection| connection.peer_name);
        Ok((accepted, Address::Unix(peer.unwrap_or_default())))
    }

    pub(in crate::net) fn connect(
        &self,
        socket: &Arc<Socket>,
        name: Option<UnixName>,
        mode: WaitMode,
    ) -> Result<(), Errno> {
        let Some(name) = name else { return self.disconnect() };
        match &self.state.lock().role {
            Role::Connected(_) if self.socket_type != SocketType::Datagram => return Err(Errno::EISCONN),
            Role::Listener { .. } => return Err(Errno::EINVAL),
            _ => {}
        }
        let target = names::find(&name, self.socket_type)?;
        let unix = target.unix().ok_or(Errno::ECONNREFUSED)?;
        if unix.socket_type != self.socket_type {
            return Err(Errno::EPROTOTYPE);
        }
        if self.socket_type == SocketType::Datagram {
            self.state.lock().role = Role::Connected(unix.connection_to(&target, name));
            return Ok(());
        }
        let own_name = self.state.lock().name.clone();
        let server = super::socket(self.socket_type);
        let served = server.unix().ok_or(Errno::EINVAL)?;
        {
            let mut state = served.state.lock();
            state.role = Role::Connected(self.connection_to(socket, own_name));
        }
        let (served_name, connection) = (name.clone(), served.connection_to(&server, name));
        served.state.lock().name = served_name;
        // Connected before it is queued: the other side may answer at once.
        self.state.lock().role = Role::Connected(connection);
        let deadline_ns = socket.options.lock().deadline(Direction::Send);
        let queued = target.source.block_on(mode, deadline_ns, || {
            if unix.incoming.lock().is_read_shut {
                return Err(Errno::ECONNREFUSED);
            }
            match &mut unix.state.lock().role {
                Role::Listener { queue, backlog } if queue.len() <= *backlog => {
                    queue.push_back(Arc::clone(&server));
                    Ok(())
                }
                Role::Listener { .. } => Err(Errno::EAGAIN),
                _ => Err(Errno::ECONNREFUSED),
            }
        });
        if queued.is_err() {
            served.discard();
            self.state.lock().role = Role::Fresh;
        }
        queued?;
        target.source.notify(Readiness::READABLE);
        Ok(())
    }

    /// A datagram socket forgets its addressee (`AF_UNSPEC`).
    fn disconnect(&self) -> Result<(), Errno> {
        if self.socket_type != SocketType::Datagram {
            return Err(Errno::EINVAL);
        }
        self.state.lock().role = Role::Fresh;
        Ok(())
    }
}
