//! TCP sockets (tcp(7)).

pub(crate) mod own;

use alloc::sync::Arc;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use unikernel_net::{ListenerId, TcpInfo};

use super::address::Family;
use super::cached_readiness::CachedReadiness;
use super::cards;
use super::flows::{self, FlowId};
use super::options::{Linger, SocketOptions};
use super::peek_offset::PeekOffset;
use super::routes::to_file;
use super::socket::{Direction, Kind, Shutdown, Socket};
use crate::abi::Errno;
use crate::file::{Readiness, WaitMode};
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::{self, scheduler};

/// Who asks for what libraries ask for (std, mio, tokio), or more, gets as much as Linux allows at most (`somaxconn`). A SYN that
/// finds the queue full is lost, and repeated after 1, 3, 7, 15 seconds: for an app that is busy for a moment that is
/// much worse than a queue. What waits in it is bounded by memory, as all connections are. POSIX lets a longer
/// one than asked for be kept (listen(3p)).
const USUAL_BACKLOG: usize = 128;
const LEAST_USUAL_BACKLOG: usize = 4096;

/// What listen(2) makes of a backlog; Linux keeps one more than asked for, too.
fn backlog_for(wished: usize) -> usize {
    if wished < USUAL_BACKLOG { wished + 1 } else { wished.max(LEAST_USUAL_BACKLOG) }
}

/// What a TCP socket is just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Role {
    /// Nothing yet.
    #[default]
    Fresh,
    /// Bound to an address.
    Bound(ListenerId),
    /// Listening.
    Listener(ListenerId),
    /// A connection, or an attempt at one, and the binding it was made from.
    Flow(FlowId, Option<ListenerId>),
    /// Closed by the last descriptor.
    Closed,
}

/// How far a connection is.
enum Progress {
    Connecting,
    Connected,
    Over,
}

fn flow_progress(flow: FlowId) -> Progress {
    let net = flow.lock();
    if net.stack.tcp_is_connecting(flow.id) {
        Progress::Connecting
    } else if net.stack.tcp_is_connected(flow.id) {
        Progress::Connected
    } else {
        Progress::Over
    }
}

/// A TCP socket. The default is one that is not bound.
#[derive(Default)]
pub(crate) struct Stream {
    role: SpinLock<Role>,
    /// The id of the flow, or 0: what sending and receiving need, without the lock.
    flow: AtomicU64,
    /// How reading stands.
    pub(super) cached: CachedReadiness,
    /// `SO_RCVLOWAT`, which each call that receives looks at.
    pub(super) receive_low: AtomicU32,
    pub(super) peek_offset: PeekOffset,
}

impl Stream {
    fn connected(id: FlowId, options: &SocketOptions) -> Self {
        let (role, flow) = (SpinLock::new(Role::Flow(id, None)), AtomicU64::new(id.to_bits()));
        let receive_low = AtomicU32::new(options.tcp.receive_low);
        Self {
            role,
            flow,
            cached: CachedReadiness::default(),
            receive_low,
            peek_offset: PeekOffset::default(),
        }
    }

    #[inline]
    pub(super) fn flow(&self) -> Option<FlowId> {
        let bits = self.flow.load(Ordering::Relaxed);
        (bits != 0).then(|| FlowId::from_bits(bits))
    }

    fn become_flow(&self, role: &mut Role, id: FlowId, bound: Option<ListenerId>) {
        *role = Role::Flow(id, bound);
        self.flow.store(id.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn bind(&self, socket: &Socket, address: SocketAddr) -> Result<(), Errno> {
        let mut role = self.role.lock();
        if *role != Role::Fresh {
            return Err(Errno::EINVAL);
        }
        *role = Role::Bound(do_bind(socket, address)?);
        Ok(())
    }

    pub(super) fn listen(&self, socket: &Socket, backlog: usize) -> Result<(), Errno> {
        let mut role = self.role.lock();
        let id = match *role {
            Role::Bound(id) | Role::Listener(id) => id,
            Role::Fresh => do_bind(socket, socket.family.unspecified())?,
            _ => return Err(Errno::EINVAL),
        };
        *role = Role::Bound(id);
        // A copy: the options' lock is never held while a shard's is taken.
        let options = *socket.options.lock();
        flows::listen(id, backlog_for(backlog), options.card, socket.arc().as_ref())?;
        flows::apply(id, &options.tcp);
        *role = Role::Listener(id);
        Ok(())
    }

    pub(super) fn accept(&self, socket: &Socket, mode: WaitMode) -> Result<(Arc<Socket>, SocketAddr), Errno> {
        let Role::Listener(id) = *self.role.lock() else { return Err(Errno::EINVAL) };
        let options = *socket.options.lock();
        socket.block_on(mode, Direction::Receive, || -> Result<_, Errno> {
            let (mut net, flow) = flows::accept(id)?;
            let accepted = Socket::new(
                socket.family,
                Kind::Stream(Self::connected(flow, &options)),
                options.inherited(),
            );
            options.apply_to_new(&mut net.stack, flow.id);
            let peer = net.stack.tcp_peer(flow.id).ok_or(Errno::ECONNABORTED)?;
            net.routes.set_tcp(flow.id, Some(Arc::clone(&accepted)));
            Ok((accepted, cards::scoped(peer, flow.shard)))
        })
    }

    pub(super) fn connect(&self, socket: &Socket, to: SocketAddr, mode: WaitMode) -> Result<(), Errno> {
        let is_new = self.begin_connect(socket, to)?;
        if mode == WaitMode::NonBlocking && !is_new {
            return Err(Errno::EALREADY);
        }
        match socket.block_on(mode, Direction::Send, || self.connect_outcome()) {
            Err(Errno::EAGAIN) => Err(Errno::EINPROGRESS),
            outcome => outcome,
        }
    }

    /// Starts an attempt to connect, unless one is under way. True if it did.
    fn begin_connect(&self, socket: &Socket, to: SocketAddr) -> Result<bool, Errno> {
        let mut role = self.role.lock();
        let bound = match *role {
            Role::Fresh => None,
            Role::Bound(id) => Some(id),
            Role::Flow(id, bound) => match flow_progress(id) {
                Progress::Connecting => return Ok(false),
                Progress::Connected => return Err(Errno::EISCONN),
                Progress::Over => {
                    self.leave_flow(id)?;
                    bound
                }
            },
            Role::Listener(_) => return Err(Errno::EISCONN),
            Role::Closed => return Err(Errno::EBADF),
        };
        if to.port() == 0 {
            // Nobody can listen there.
            return Err(Errno::ECONNREFUSED);
        }
        let options = *socket.options.lock();
        let local = bound.and_then(|id| super::lock().stack.listener_local(id));
        let (to, scope) = cards::unscoped(to);
        let local = local.map(|local| as_source(local, to));
        let card = cards::towards(to.ip(), local.map(|local| local.ip()), options.card.or(scope));
        let shard = flows::shard_for(card, local, to);
        let mut net = super::shards::lock(shard);
        if options.is_direct && !net.stack.reaches_directly(to.ip()) {
            return Err(Errno::ENETUNREACH);
        }
        let id = net.stack.tcp_connect(super::now(), local, to)?;
        options.apply_to_new(&mut net.stack, id);
        net.routes.set_tcp(id, socket.arc());
        drop(net);
        self.become_flow(&mut role, FlowId { shard, id }, bound);
        super::flush();
        Ok(true)
    }

    /// What became of an attempt to connect; `EAGAIN` while it goes on.
    fn connect_outcome(&self) -> Result<(), Errno> {
        let mut role = self.role.lock();
        let Role::Flow(id, bound) = *role else { return Err(Errno::ECONNABORTED) };
        match flow_progress(id) {
            Progress::Connecting => Err(Errno::EAGAIN),
            Progress::Connected => Ok(()),
            Progress::Over => {
                *role = bound.map_or(Role::Fresh, Role::Bound);
                self.leave_flow(id).and(Err(Errno::ECONNABORTED))
            }
        }
    }

    /// Gives up a connection that is over; answers why it is, if that was not told yet.
    fn leave_flow(&self, flow: FlowId) -> Result<(), Errno> {
        self.flow.store(0, Ordering::Relaxed);
        self.cached.forget();
        let mut net = flow.lock();
        let error = net.stack.tcp_take_error(flow.id);
        net.stack.tcp_close(flow.id);
        net.routes.set_tcp(flow.id, None);
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Gives up a connection, an attempt at one, or listening (connect(2), `AF_UNSPEC`).
    pub(super) fn disconnect(&self, socket: &Socket) -> Result<(), Errno> {
        let mut role = self.role.lock();
        match *role {
            Role::Flow(flow, bound) => {
                flow.lock().stack.tcp_abort(flow.id);
                *role = bound.map_or(Role::Fresh, Role::Bound);
                // That it was given up is no error to whoever gave it up.
                let _ = self.leave_flow(flow);
            }
            Role::Listener(id) => {
                *role = Role::Fresh;
                flows::unbind(id);
            }
            Role::Fresh | Role::Bound(_) | Role::Closed => {}
        }
        drop(role);
        // Who waits to accept or to receive finds nothing to wait for.
        socket.source.notify(Readiness::READABLE | Readiness::WRITABLE | Readiness::HUP);
        Ok(())
    }

    pub(super) fn shutdown(&self, socket: &Socket, how: Shutdown) -> Result<(), Errno> {
        let role = *self.role.lock();
        match role {
            // Listening ends when nothing more is to be received (tcp(7) is silent; Linux: inet_shutdown).
            Role::Listener(_) if how.ends_receiving() => self.disconnect(socket),
            Role::Listener(_) => Ok(()),
            Role::Flow(flow, _) => {
                // What was sent on loopback before has arrived before, as on Linux, and is not answered by a reset.
                super::flush();
                super::poll();
                let (mut net, id) = (flow.lock(), flow.id);
                if how.ends_receiving() {
                    net.stack.tcp_shutdown_recv(id)?;
                }
                if how.ends_sending() {
                    net.stack.tcp_shutdown_send(id)?;
                }
                net.dispatch();
                Ok(())
            }
            _ => Err(Errno::ENOTCONN),
        }
    }

    pub(super) fn local(&self, socket: &Socket) -> SocketAddr {
        let role = *self.role.lock();
        let local = match role {
            Role::Bound(id) | Role::Listener(id) => super::lock().stack.listener_local(id),
            Role::Flow(flow, _) => {
                let local = flow.lock().stack.tcp_local(flow.id);
                local.map(|local| cards::scoped(local, flow.shard))
            }
            Role::Fresh | Role::Closed => None,
        };
        local.unwrap_or_else(|| socket.family.unspecified())
    }

    pub(super) fn peer(&self) -> Result<SocketAddr, Errno> {
        let flow = self.flow().ok_or(Errno::ENOTCONN)?;
        let net = flow.lock();
        if net.stack.tcp_is_connected(flow.id) {
            let peer = net.stack.tcp_peer(flow.id).ok_or(Errno::ENOTCONN)?;
            Ok(cards::scoped(peer, flow.shard))
        } else {
            Err(Errno::ENOTCONN)
        }
    }

    pub(super) fn take_error(&self) -> Option<Errno> {
        let flow = self.flow()?;
        flow.lock().stack.tcp_take_error(flow.id).map(Errno::from)
    }

    /// True after `listen`.
    pub(crate) fn is_listening(&self) -> bool {
        matches!(*self.role.lock(), Role::Listener(_))
    }

    /// Brings a live connection in line with options that were changed.
    pub(super) fn apply(&self, options: &SocketOptions) {
        self.receive_low.store(options.tcp.receive_low, Ordering::Relaxed);
        if let Some(flow) = self.flow() {
            options.apply(&mut flow.lock().stack, flow.id);
        } else if let Role::Listener(id) = *self.role.lock() {
            flows::apply(id, &options.tcp);
        }
    }

    /// What is known of the connection, if there is one.
    pub(crate) fn info(&self) -> Option<TcpInfo> {
        let flow = self.flow()?;
        flow.lock().stack.tcp_info(flow.id)
    }

    /// What the path to the peer carries, in bytes; none without a peer.
    pub(crate) fn path_mtu(&self) -> Option<usize> {
        let flow = self.flow()?;
        flow.look().stack.tcp_path_mtu(flow.id)
    }

    /// The number of the shard that serves the connection, which is that of its core.
    pub(crate) fn shard(&self) -> usize {
        self.flow().map_or(0, |flow| flow.shard)
    }

    /// Finishes sending and waits until the peer has everything (`SO_LINGER`).
    fn linger(&self, socket: &Socket, seconds: u32) {
        let Some(flow) = self.flow() else { return };
        // What is not connected has nothing to deliver.
        let _ = flow.lock().stack.tcp_shutdown_send(flow.id);
        super::flush();
        let deadline_ns = time::now_ns().saturating_add(u64::from(seconds) * 1_000_000_000);
        let is_delivered = || match flow.lock().stack.tcp_has_delivered(flow.id) {
            true => Ok(()),
            false => Err(Errno::EAGAIN),
        };
        // Time is up, or a signal came: the stack goes on by itself.
        let _ = socket.source.block_on(WaitMode::MayBlock, Some(deadline_ns), is_delivered);
    }

    #[inline]
    pub(super) fn readiness(&self) -> Readiness {
        if let Some(flow) = self.flow() {
            return to_file(flow.look().stack.tcp_readiness(flow.id));
        }
        match *self.role.lock() {
            Role::Listener(id) => to_file(flows::listener_readiness(id)),
            // A socket that was never connected is closed in both directions (tcp_poll).
            _ => Readiness::WRITABLE | Readiness::HUP,
        }
    }

    pub(super) fn queues(&self) -> Result<(usize, usize), Errno> {
        if self.is_listening() {
            return Err(Errno::EINVAL);
        }
        let Some(flow) = self.flow() else { return Ok((0, 0)) };
        Self::carry_over(flow);
        let net = flow.lock();
        Ok((net.stack.tcp_recv_queue(flow.id), net.stack.tcp_send_queue(flow.id)))
    }

    pub(super) fn close(&self, socket: &Socket) {
        let linger = socket.options.lock().linger;
        // A thread of the kernel's waits for nobody: it has other files to close, other requests to do. Nor does an idle core.
        if let Linger::Wait(seconds) = linger
            && scheduler::can_block()
            && !task::is_kernel_thread()
        {
            self.linger(socket, seconds);
        }
        let role = core::mem::replace(&mut *self.role.lock(), Role::Closed);
        self.flow.store(0, Ordering::Relaxed);
        let bound = match role {
            Role::Bound(id) | Role::Listener(id) => Some(id),
            Role::Flow(flow, bound) => {
                let mut net = flow.lock();
                net.routes.set_tcp(flow.id, None);
                match linger {
                    Linger::Abort => net.stack.tcp_abort(flow.id),
                    Linger::Background | Linger::Wait(_) => net.stack.tcp_close(flow.id),
                }
                bound
            }
            Role::Fresh | Role::Closed => None,
        };
        if let Some(id) = bound {
            flows::unbind(id);
        }
    }
}

fn do_bind(socket: &Socket, address: SocketAddr) -> Result<ListenerId, Errno> {
    let options = socket.options.lock().bind_options(socket.family);
    flows::bind(cards::unscoped(address).0, options)
}

/// A bound address as the source of a connection: "any" of IPv6 serves IPv4 too.
fn as_source(local: SocketAddr, to: SocketAddr) -> SocketAddr {
    if local.ip().is_unspecified() && local.is_ipv4() != to.is_ipv4() {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        return SocketAddr::new(family.unspecified().ip(), local.port());
    }
    local
}
