//! UDP sockets (udp(7)). A socket is in the first stack of every card, under the same number: what comes in is read from
//! whichever has something, what goes out leaves by the card that [`cards::towards`] says.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::AtomicUsize;

use unikernel_net::{Stack, UdpId};

use super::address::{Family, UserAddress};
use super::cards::{self, InterfaceId};
use super::options::SocketOptions;
use super::peek_offset::PeekOffset;
use super::routes::to_file;
use super::shards::{self, Guard};
use super::socket::{SendControl, Shutdown, Socket};
use crate::abi::Errno;
use crate::file::Readiness;
use crate::sync::SpinLock;

mod cork;
pub(crate) mod own;
mod transfer;

use cork::Cork;
pub(super) use transfer::{try_gather, try_scatter};

/// Groups that can be joined before there is a port, as many as after (Linux: `igmp_max_memberships`).
const EARLY_GROUPS: usize = 20;
/// Senders that a socket can name, of all groups together (Linux: `igmp_max_msf` for each of twenty groups is more).
const MAX_SOURCES: usize = 64;

/// Held while ports are bound and given back, so that every stack sees the same changes in the same order: then a socket
/// has the same number in each.
static PORTS: SpinLock<()> = SpinLock::new(());

/// A group, and the interface that was named for it.
type Joined = (IpAddr, Option<InterfaceId>);

/// A UDP socket: a port, once it has one.
pub(crate) struct Datagram {
    port: SpinLock<Port>,
    /// Groups joined before there was a port. `port`'s lock comes first.
    early: SpinLock<Vec<Joined>>,
    /// The senders, by group, that it wants to hear alone; all of a group that has none here.
    sources: SpinLock<Vec<(IpAddr, IpAddr)>>,
    /// Which card is looked at first, so that a busy one does not keep the others waiting.
    turn: AtomicUsize,
    cork: Cork,
    pub(super) peek_offset: PeekOffset,
}

#[derive(Clone, Copy, Default)]
struct Port {
    id: Option<UdpId>,
    is_send_shut: bool,
    is_receive_shut: bool,
}

impl Default for Datagram {
    // Not derived: locks that are made at one place are of one class, and these two are held together.
    fn default() -> Self {
        let port = SpinLock::new(Port::default());
        let early = SpinLock::new(Vec::new());
        let (sources, turn) = (SpinLock::new(Vec::new()), AtomicUsize::new(0));
        Self { port, early, sources, turn, cork: Cork::default(), peek_offset: PeekOffset::default() }
    }
}

impl Datagram {
    fn id(&self) -> Option<UdpId> {
        self.port.lock().id
    }

    pub(super) fn bind(&self, socket: &Socket, address: SocketAddr) -> Result<(), Errno> {
        let mut port = self.port.lock();
        if port.id.is_some() {
            return Err(Errno::EINVAL);
        }
        port.id = Some(self.do_bind(socket, address)?);
        Ok(())
    }

    /// The port, chosen now if there is none (udp(7): "auto-binds").
    fn id_or_bind(&self, socket: &Socket) -> Result<UdpId, Errno> {
        let mut port = self.port.lock();
        if let Some(id) = port.id {
            return Ok(id);
        }
        let id = self.do_bind(socket, socket.family.unspecified())?;
        port.id = Some(id);
        Ok(id)
    }

    fn do_bind(&self, socket: &Socket, address: SocketAddr) -> Result<UdpId, Errno> {
        let options = *socket.options.lock();
        let bind_options = options.bind_options(socket.family);
        let (address, _) = cards::unscoped(address);
        let order = PORTS.lock();
        let (id, local) = {
            let stack = &mut super::lock().stack;
            let id = stack.udp_bind(address, bind_options)?;
            (id, stack.udp_local(id).unwrap_or(address))
        };
        for shard in cards::firsts().skip(1) {
            let same = shards::lock(shard).stack.udp_bind_alike(local, bind_options);
            debug_assert_eq!(same.ok(), Some(id), "cards have the same ports");
        }
        drop(order);
        for (card, shard) in cards::firsts().enumerate() {
            let mut net = shards::lock(shard);
            options.apply_to_port(&mut net.stack, id, socket.family, card);
            net.routes.set_udp(id, socket.arc());
        }
        let early = core::mem::take(&mut *self.early.lock());
        for (group, link) in early {
            // It was checked when it was joined; only the machine's bound may have been reached since.
            if let Err(error) = join_by(id, group, link) {
                log::warn!("group {group}: {error:?}");
            }
        }
        self.apply_sources(id);
        Ok(id)
    }

    /// Joins a group for what one sender sends to it.
    pub(crate) fn join_source(
        &self,
        group: IpAddr,
        source: IpAddr,
        link: Option<InterfaceId>,
    ) -> Result<(), Errno> {
        let is_first = {
            let sources = self.sources.lock();
            if sources.contains(&(group, source)) {
                return Err(Errno::EADDRNOTAVAIL);
            }
            if sources.len() >= MAX_SOURCES {
                return Err(Errno::ENOBUFS);
            }
            !sources.iter().any(|(known, _)| *known == group)
        };
        if is_first {
            match self.join(group, link) {
                // For everybody's until now.
                Ok(()) | Err(Errno::EADDRINUSE) => {}
                Err(error) => return Err(error),
            }
        }
        self.change_sources(|sources| sources.push((group, source)));
        Ok(())
    }

    /// Leaves a group for what one sender sends to it, and for good if it was the last.
    pub(crate) fn leave_source(
        &self,
        group: IpAddr,
        source: IpAddr,
        link: Option<InterfaceId>,
    ) -> Result<(), Errno> {
        let (is_known, count) = {
            let sources = self.sources.lock();
            let count = sources.iter().filter(|(known, _)| *known == group).count();
            (sources.contains(&(group, source)), count)
        };
        match count {
            0 => Err(Errno::EINVAL),
            _ if !is_known => Err(Errno::EADDRNOTAVAIL),
            // Its senders are forgotten with the group.
            1 => self.leave(group, link),
            _ => {
                self.change_sources(|sources| sources.retain(|known| *known != (group, source)));
                Ok(())
            }
        }
    }

    fn change_sources(&self, change: impl FnOnce(&mut Vec<(IpAddr, IpAddr)>)) {
        change(&mut self.sources.lock());
        if let Some(id) = self.id() {
            self.apply_sources(id);
        }
    }

    fn apply_sources(&self, id: UdpId) {
        let sources = self.sources.lock().clone();
        for shard in cards::firsts() {
            shards::lock(shard).stack.udp_set_sources(id, &sources);
        }
    }

    /// Joins a group.
    pub(crate) fn join(&self, group: IpAddr, link: Option<InterfaceId>) -> Result<(), Errno> {
        let port = self.port.lock();
        if let Some(id) = port.id {
            return join_by(id, group, link);
        }
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        let mut early = self.early.lock();
        if early.contains(&(group, link)) {
            return Err(Errno::EADDRINUSE);
        }
        if early.len() == EARLY_GROUPS {
            return Err(Errno::ENOBUFS);
        }
        early.push((group, link));
        Ok(())
    }

    /// Leaves a group: that of a link, or if none is named the first.
    pub(crate) fn leave(&self, group: IpAddr, link: Option<InterfaceId>) -> Result<(), Errno> {
        if self.sources.lock().iter().any(|(known, _)| *known == group) {
            self.change_sources(|sources| sources.retain(|(known, _)| *known != group));
        }
        let port = self.port.lock();
        if let Some(id) = port.id {
            let card = match link {
                Some(InterfaceId::Card(card)) => Some(card),
                Some(InterfaceId::Loopback) | None => None,
            };
            let is_meant = |shard: &usize| card.is_none_or(|card| cards::first_of(card) == *shard);
            let leave =
                |shard| shards::lock(shard).stack.udp_leave(id, group, link.map(InterfaceId::in_stack));
            let mut outcomes = cards::firsts().filter(is_meant).map(leave);
            let first = outcomes.next().ok_or(Errno::ENODEV)?;
            return Ok(outcomes.fold(first, Result::or)?);
        }
        let mut early = self.early.lock();
        let index = early.iter().position(|(joined, _)| *joined == group).ok_or(Errno::EADDRNOTAVAIL)?;
        early.swap_remove(index);
        Ok(())
    }

    /// What the path to the peer carries, in bytes; none without a peer.
    pub(crate) fn path_mtu(&self, socket: &Socket) -> Option<usize> {
        let id = self.id()?;
        let options = *socket.options.lock();
        self.lock_towards(&options, id, None, &SendControl::default()).0.stack.udp_path_mtu(id)
    }

    /// The stack that a datagram to `to`, or else to the peer, leaves by, and that destination.
    fn lock_towards(
        &self,
        options: &SocketOptions,
        id: UdpId,
        to: Option<SocketAddr>,
        control: &SendControl,
    ) -> (Guard, Option<SocketAddr>) {
        let net = super::lock();
        let to = to.or(net.stack.udp_peer(id)).map(cards::unscoped);
        if cards::all().len() <= 1 {
            return (net, to.map(|(to, _)| to));
        }
        let local = net.stack.udp_local(id);
        let Some((to, scope)) = to else { return (net, None) };
        drop(net);
        let header = control.headers[usize::from(to.is_ipv6())];
        let card_of = |link: Option<InterfaceId>| match link {
            Some(InterfaceId::Card(card)) => Some(card),
            Some(InterfaceId::Loopback) | None => None,
        };
        let group_link = options.hints.multicast_link.filter(|_| to.ip().is_multicast());
        let wished = card_of(InterfaceId::by_number(header.interface)).or(options.card).or(scope);
        let from = header.source.or(local.map(|local| local.ip()));
        let card = cards::towards(to.ip(), from, wished.or(card_of(group_link)));
        (shards::lock(cards::first_of(card)), Some(to))
    }

    pub(super) fn connect(&self, socket: &Socket, to: UserAddress) -> Result<(), Errno> {
        let id = self.id_or_bind(socket)?;
        let to = match to {
            UserAddress::Internet(address) => Some(address),
            UserAddress::Unspecified => None,
            UserAddress::Unix(_) | UserAddress::Other(_) => return Err(Errno::EAFNOSUPPORT),
        };
        let _order = PORTS.lock();
        let (local, peer) = {
            let options = *socket.options.lock();
            let (mut net, _) = self.lock_towards(&options, id, to, &SendControl::default());
            net.stack.udp_connect(id, to.map(|to| cards::unscoped(to).0))?;
            (net.stack.udp_local(id).ok_or(Errno::EBADF)?, net.stack.udp_peer(id))
        };
        if cards::all().len() > 1 {
            on_each_card(|net| net.stack.udp_connect_alike(id, peer, local));
        }
        Ok(())
    }

    pub(super) fn shutdown(&self, socket: &Socket, how: Shutdown) -> Result<(), Errno> {
        // The directions of an unconnected socket are shut all the same, but the call fails (Linux: inet_shutdown).
        let id = {
            let mut port = self.port.lock();
            port.is_send_shut |= how.ends_sending();
            port.is_receive_shut |= how.ends_receiving();
            port.id
        };
        socket.source.notify(self.readiness());
        let peer = id.and_then(|id| super::lock().stack.udp_peer(id));
        peer.map(drop).ok_or(Errno::ENOTCONN)
    }

    pub(super) fn local(&self, socket: &Socket) -> SocketAddr {
        let local = self.id().and_then(|id| super::lock().stack.udp_local(id));
        local.unwrap_or_else(|| socket.family.unspecified())
    }

    pub(super) fn peer(&self, socket: &Socket) -> Result<SocketAddr, Errno> {
        let id = self.id().ok_or(Errno::ENOTCONN)?;
        let options = *socket.options.lock();
        let (net, _) = self.lock_towards(&options, id, None, &SendControl::default());
        let peer = net.stack.udp_peer(id).ok_or(Errno::ENOTCONN)?;
        Ok(cards::scoped(peer, net.shard()))
    }

    pub(super) fn take_error(&self) -> Option<Errno> {
        let id = self.id()?;
        cards::firsts().find_map(|shard| shards::lock(shard).stack.udp_take_error(id)).map(Errno::from)
    }

    /// Brings the socket in line with options that were changed.
    pub(super) fn apply(&self, options: &SocketOptions, family: Family) {
        if let Some(id) = self.id() {
            for (card, shard) in cards::firsts().enumerate() {
                options.apply_to_port(&mut shards::lock(shard).stack, id, family, card);
            }
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        let port = *self.port.lock();
        let mut ready = match port.id {
            Some(id) => {
                let each = cards::firsts().map(|shard| to_file(shards::lock(shard).stack.udp_readiness(id)));
                each.fold(Readiness::empty(), |all, ready| all | ready)
            }
            None => Readiness::WRITABLE,
        };
        ready.set(Readiness::WRBAND, ready.contains(Readiness::WRITABLE));
        if port.is_receive_shut {
            ready |= Readiness::READABLE | Readiness::RDHUP;
        }
        ready.set(Readiness::HUP, port.is_receive_shut && port.is_send_shut);
        ready
    }

    pub(super) fn queues(&self) -> (usize, usize) {
        let Some(id) = self.id() else { return (0, 0) };
        let queued = |shard| Some(shards::lock(shard).stack.udp_recv_queue(id)).filter(|bytes| *bytes > 0);
        (cards::firsts().find_map(queued).unwrap_or(0), 0)
    }

    pub(super) fn close(&self) {
        let port = core::mem::take(&mut *self.port.lock());
        if let Some(id) = port.id {
            let _order = PORTS.lock();
            on_each_card(|net| {
                net.routes.set_udp(id, None);
                net.stack.udp_close(id);
            });
        }
    }
}

/// Does the same in the first stack of every card.
fn on_each_card(mut act: impl FnMut(&mut Guard)) {
    cards::firsts().for_each(|shard| act(&mut shards::lock(shard)));
}

/// Joins a group on a link, or where a route leads to it.
fn join_by(id: UdpId, group: IpAddr, link: Option<InterfaceId>) -> Result<(), Errno> {
    let card = match link {
        Some(InterfaceId::Card(card)) => card,
        Some(InterfaceId::Loopback) => 0,
        None => cards::towards(group, None, None),
    };
    Ok(shards::lock(cards::first_of(card)).stack.udp_join(id, group, link.map(InterfaceId::in_stack))?)
}

impl SocketOptions {
    fn apply_to_port(&self, stack: &mut Stack, id: UdpId, family: Family, card: usize) {
        stack.udp_set_deaf(id, self.card.is_some_and(|own| own != card));
        stack.udp_set_multicast(id, self.multicast(family == Family::V6));
        stack.udp_set_headers(id, self.headers_v4(), self.headers_v6());
        stack.udp_set_coalescing(id, self.datagram.coalesces);
        stack.udp_set_broadcast(id, self.may_broadcast);
        stack.udp_set_hop_limit(id, self.hop_limit);
        stack.udp_set_receives_errors(id, self.receives_errors);
    }
}
