//! Bound TCP addresses: who holds a port, who listens on it, and who waits to be accepted.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hashbrown::HashMap;
use slotmap::SlotMap;
use smoltcp::time::Duration;

use crate::error::BindError;
use crate::id::{ListenerId, TcpId};

/// Which addresses a binding covers and what it tolerates beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BindOptions {
    /// Others that also say so may be bound to the port as long as nobody listens
    /// (`SO_REUSEADDR`).
    pub reuse_address: bool,
    /// Others that also say so may listen on the port too (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// An unspecified IPv6 address covers IPv4 too (not `IPV6_V6ONLY`).
    pub dual_stack: bool,
    /// The address need not be ours (`IP_FREEBIND`).
    pub is_free: bool,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self { reuse_address: false, reuse_port: false, dual_stack: true, is_free: false }
    }
}

/// A bound address.
pub(crate) struct Listener {
    pub(crate) local: SocketAddr,
    options: BindOptions,
    /// None while merely bound.
    backlog: Option<usize>,
    queue: VecDeque<TcpId>,
    /// How long a connection may wait for its first data before it is queued without; none to queue it at
    /// once (`TCP_DEFER_ACCEPT`).
    pub(crate) defers: Option<Duration>,
    /// The largest payload that peers are told to send in one segment (`TCP_MAXSEG`); 0 for what the link takes.
    pub(crate) largest_mss: u16,
    pub(crate) has_event: bool,
}

impl Listener {
    fn covers(&self, address: IpAddr) -> bool {
        covers(self.local.ip(), self.options.dual_stack, address)
    }

    fn conflicts(&self, address: IpAddr, options: &BindOptions) -> bool {
        let overlaps = self.covers(address) || covers(address, options.dual_stack, self.local.ip());
        let shares_port = self.options.reuse_port && options.reuse_port;
        let shares_address = self.options.reuse_address && options.reuse_address && !self.is_listening();
        overlaps && !shares_port && !shares_address
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.backlog.is_some()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.backlog.is_none_or(|backlog| self.queue.len() >= backlog)
    }

    pub(crate) fn push(&mut self, id: TcpId) {
        self.queue.push_back(id);
    }

    pub(crate) fn pop(&mut self) -> Option<TcpId> {
        self.queue.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// True if a socket bound to `bound` receives what is sent to `address`.
pub(crate) fn covers(bound: IpAddr, dual_stack: bool, address: IpAddr) -> bool {
    match (bound, address) {
        (IpAddr::V6(v6), IpAddr::V4(_)) => v6.is_unspecified() && dual_stack,
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
        _ => bound.is_unspecified() || bound == address,
    }
}

/// Every bound TCP address.
pub(crate) struct Listeners {
    listeners: SlotMap<ListenerId, Listener>,
    ports: HashMap<u16, Vec<ListenerId>>,
    max_backlog: usize,
    /// Nobody from outside can connect any more.
    pub(crate) is_refusing: bool,
}

impl Listeners {
    /// Everyone who listens: id, address, and how many connections wait.
    pub(crate) fn listening(&self) -> impl Iterator<Item = (ListenerId, SocketAddr, usize)> {
        let listening = self.listeners.iter().filter(|(_, listener)| listener.is_listening());
        listening.map(|(id, listener)| (id, listener.local, listener.queue.len()))
    }

    pub(crate) fn new(max_backlog: usize) -> Self {
        Self {
            listeners: SlotMap::with_key(),
            ports: HashMap::new(),
            max_backlog: max_backlog.max(1),
            is_refusing: false,
        }
    }

    pub(crate) fn get(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.listeners.get_mut(id)
    }

    /// True if somebody is bound to `port`.
    pub(crate) fn is_port_bound(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    /// Binds `local`, whose port must be chosen already.
    pub(crate) fn bind(&mut self, local: SocketAddr, options: BindOptions) -> Result<ListenerId, BindError> {
        if self.at_port(local.port()).any(|(_, other)| other.conflicts(local.ip(), &options)) {
            return Err(BindError::InUse);
        }
        self.listeners.try_reserve(1).map_err(|_| BindError::NoMemory)?;
        self.ports.try_reserve(1).map_err(|_| BindError::NoMemory)?;
        let id = self.listeners.insert(Listener {
            local,
            options,
            backlog: None,
            queue: VecDeque::new(),
            defers: None,
            largest_mss: 0,
            has_event: false,
        });
        self.ports.entry(local.port()).or_default().push(id);
        Ok(id)
    }

    /// Starts listening, or changes the backlog. False if another listens on the address.
    pub(crate) fn listen(&mut self, id: ListenerId, backlog: usize) -> bool {
        let Some(listener) = self.listeners.get(id) else { return false };
        let (local, options) = (listener.local, listener.options);
        let is_taken = self
            .at_port(local.port())
            .any(|(other, l)| other != id && l.is_listening() && l.conflicts(local.ip(), &options));
        if is_taken {
            return false;
        }
        let backlog = backlog.clamp(1, self.max_backlog);
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.backlog = Some(backlog);
        }
        true
    }

    /// Gives the address back; answers the connections that nobody accepted.
    pub(crate) fn remove(&mut self, id: ListenerId) -> VecDeque<TcpId> {
        let Some(listener) = self.listeners.remove(id) else { return VecDeque::new() };
        let port = listener.local.port();
        if let Some(ids) = self.ports.get_mut(&port) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.ports.remove(&port);
            }
        }
        listener.queue
    }

    /// Who listens for a connection to `address` and `port`: the most specific address first, and
    /// among equals (`SO_REUSEPORT`) the one that `hash` picks.
    pub(crate) fn lookup(&self, address: IpAddr, port: u16, hash: u64) -> Option<ListenerId> {
        let rank = |listener: &Listener| match listener.local.ip() {
            exact if exact == address => 2,
            any if any.is_ipv4() == address.is_ipv4() => 1,
            _ => 0,
        };
        let candidates = || self.at_port(port).filter(|(_, l)| l.is_listening() && l.covers(address));
        let best = candidates().map(|(_, l)| rank(l)).max()?;
        let equals = || candidates().filter(|(_, l)| rank(l) == best);
        let index = hash % equals().count() as u64;
        equals().nth(index as usize).map(|(id, _)| id)
    }

    /// Who listens on the loopback address alone for connections that came to `local`. One of IPv6 takes those of IPv4, too,
    /// as its socket shows their peers.
    pub(crate) fn lookup_loopback(&self, local: SocketAddr, hash: u64) -> Option<ListenerId> {
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        let v4 = self.lookup(v4, local.port(), hash).filter(|_| local.is_ipv4());
        v4.or_else(|| self.lookup(v6, local.port(), hash))
    }

    fn at_port(&self, port: u16) -> impl Iterator<Item = (ListenerId, &Listener)> {
        let ids = self.ports.get(&port).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| Some((*id, self.listeners.get(*id)?)))
    }
}
