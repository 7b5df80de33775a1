//! Connections, each on one shard, and listeners, which are on all of them.

use alloc::sync::Arc;
use core::net::SocketAddr;
use core::ops::Deref;

use unikernel_net::{AcceptError, BindOptions, ListenerId, Readiness, TcpId};

use super::options::TcpOptions;
use super::shards::{self, Guard, Net};
use super::socket::Socket;
use super::{cards, loopback};
use crate::abi::Errno;
use crate::arch::cpu::this_cpu;
use crate::sync::SpinLock;

/// Where the shard's number stands in the bits of an id: slots are numbered from 0, and there are fewer than
/// sixteen million.
const SHARD_SHIFT: u32 = 24;
const SHARD_MASK: u64 = 0xff << SHARD_SHIFT;

/// A connection and its shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FlowId {
    pub(super) shard: usize,
    pub(super) id: TcpId,
}

impl FlowId {
    /// As a number that is never zero, to keep in an atomic.
    pub(super) fn to_bits(self) -> u64 {
        self.id.to_bits() | (self.shard as u64) << SHARD_SHIFT
    }

    /// What [`Self::to_bits`] gave.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Self {
        let shard = (bits & SHARD_MASK) >> SHARD_SHIFT;
        Self { shard: shard as usize, id: TcpId::from_bits(bits & !SHARD_MASK) }
    }

    /// Its shard, for as long as the guard lives.
    #[inline]
    pub(super) fn lock(self) -> Guard {
        shards::lock(self.shard)
    }

    /// The same for who changes nothing.
    #[inline]
    pub(super) fn look(self) -> impl Deref<Target = Net> {
        shards::look(self.shard)
    }
}

/// Held while listeners change, so that every shard sees the same changes in the same order: then a listener
/// has the same id on each.
static LISTENERS: SpinLock<()> = SpinLock::new(());

/// Binds an address; port 0 chooses one. The first shard decides, the others do alike.
pub(super) fn bind(address: SocketAddr, options: BindOptions) -> Result<ListenerId, Errno> {
    let _order = LISTENERS.lock();
    let (id, local) = {
        let stack = &mut shards::lock(0).stack;
        let id = stack.tcp_bind(address, options)?;
        (id, stack.listener_local(id).unwrap_or(address))
    };
    for shard in 1..shards::count() {
        let same = shards::lock(shard).stack.tcp_bind_alike(local, options);
        debug_assert_eq!(same.ok(), Some(id), "shards have the same listeners");
    }
    Ok(id)
}

/// Starts listening, or changes the backlog; on one card only if the socket is bound to it.
pub(super) fn listen(
    id: ListenerId,
    backlog: usize,
    card: Option<usize>,
    socket: Option<&Arc<Socket>>,
) -> Result<(), Errno> {
    let _order = LISTENERS.lock();
    let shards =
        card.and_then(|card| cards::all().get(card)).map_or(0..shards::count(), |card| card.shards.clone());
    for shard in shards {
        let mut net = shards::lock(shard);
        net.stack.tcp_listen(id, backlog)?;
        net.routes.set_listener(id, socket.cloned());
    }
    loopback::report(&shards::look(0).stack, id);
    Ok(())
}

/// Brings a listener in line with options that were changed: how long connections may wait for their first data before they can
/// be accepted, and the largest segment that their peers are told of.
pub(super) fn apply(id: ListenerId, options: &TcpOptions) {
    for shard in 0..shards::count() {
        let stack = &mut shards::lock(shard).stack;
        stack.listener_set_defer(id, options.defer());
        stack.listener_set_max_segment(id, options.max_segment);
    }
}

/// Gives the address back.
pub(super) fn unbind(id: ListenerId) {
    let _order = LISTENERS.lock();
    for shard in 0..shards::count() {
        let mut net = shards::lock(shard);
        net.routes.set_listener(id, None);
        net.stack.listener_close(id);
    }
}

/// Takes a connection that waits, of this core's shard first. Answers its shard's guard, too.
pub(super) fn accept(id: ListenerId) -> Result<(Guard, FlowId), AcceptError> {
    let mut outcome = AcceptError::WouldBlock;
    for shard in shards::from_here() {
        let mut net = shards::lock(shard);
        match net.stack.tcp_accept(id) {
            Ok(id) => return Ok((net, FlowId { shard, id })),
            Err(error) => outcome = error,
        }
    }
    Err(outcome)
}

/// What a listener is ready for.
pub(super) fn listener_readiness(id: ListenerId) -> Readiness {
    let shards = (0..shards::count()).map(|shard| shards::lock(shard).stack.listener_readiness(id));
    shards.fold(Readiness::empty(), |all, ready| all | ready)
}

/// The shard to begin a connection on: of the card's, this core's, unless the local port is fixed.
pub(super) fn shard_for(card: usize, local: Option<SocketAddr>, to: SocketAddr) -> usize {
    let shards = cards::shards_with(cards::first_of(card));
    if shards.len() == 1 {
        return shards.start;
    }
    let owner = shards::lock(shards.start).stack.owner_of(local, to);
    shards.start + owner.unwrap_or_else(|| this_cpu().index() % shards.len())
}
