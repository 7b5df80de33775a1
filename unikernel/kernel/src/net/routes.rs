//! From the stack's ids to the sockets that wait. Ids carry small slot numbers, so this is three
//! arrays, in pieces of a page: one large block would have to be found when a peer connects.

use alloc::sync::Arc;
use alloc::vec::Vec;

use unikernel_net::{ListenerId, Readiness as NetReadiness, SocketId, Stack, TcpId, UdpId};

use super::socket::Socket;
use crate::file::Readiness;

/// Slots in a piece.
const PIECE_SLOTS: usize = 512;

/// Sockets by slot number.
#[derive(Default)]
struct Table(Vec<Vec<Option<Arc<Socket>>>>);

impl Table {
    fn put(&mut self, slot: usize, socket: Option<Arc<Socket>>) {
        let piece = slot / PIECE_SLOTS;
        if piece >= self.0.len() {
            self.0.resize_with(piece + 1, Vec::new);
        }
        if self.0[piece].is_empty() {
            self.0[piece].resize_with(PIECE_SLOTS, || None);
        }
        self.0[piece][slot % PIECE_SLOTS] = socket;
    }

    #[inline]
    fn get(&self, slot: usize) -> Option<&Arc<Socket>> {
        self.0.get(slot / PIECE_SLOTS)?.get(slot % PIECE_SLOTS)?.as_ref()
    }
}

/// Who waits for what.
#[derive(Default)]
pub(super) struct Routes {
    tcp: Table,
    listeners: Table,
    udp: Table,
}

impl Routes {
    /// Sends the events of a connection to `socket`, or to nobody.
    pub(super) fn set_tcp(&mut self, id: TcpId, socket: Option<Arc<Socket>>) {
        self.tcp.put(id.slot(), socket);
    }

    /// Sends the events of a listener to `socket`, or to nobody.
    pub(super) fn set_listener(&mut self, id: ListenerId, socket: Option<Arc<Socket>>) {
        self.listeners.put(id.slot(), socket);
    }

    /// Sends the events of a UDP socket to `socket`, or to nobody.
    pub(super) fn set_udp(&mut self, id: UdpId, socket: Option<Arc<Socket>>) {
        self.udp.put(id.slot(), socket);
    }

    /// The number of the socket that has `id`, 0 if none does (proc_net(5)).
    pub(super) fn inode(&self, id: SocketId) -> u64 {
        let (table, slot) = match id {
            SocketId::Tcp(id) => (&self.tcp, id.slot()),
            SocketId::Listener(id) => (&self.listeners, id.slot()),
            SocketId::Udp(id) => (&self.udp, id.slot()),
        };
        table.get(slot).map_or(0, |socket| socket.inode())
    }

    /// Wakes who waits for `id`, with all that it is ready for. Of a connection it may well be told more than that, because
    /// whoever is woken asks anyway.
    #[inline]
    pub(super) fn notify(&self, stack: &mut Stack, id: SocketId) {
        let (table, slot, ready) = match id {
            SocketId::Tcp(id) => (&self.tcp, id.slot(), to_file(NetReadiness::all())),
            SocketId::Listener(id) => (&self.listeners, id.slot(), to_file(stack.listener_readiness(id))),
            SocketId::Udp(id) => (&self.udp, id.slot(), to_file(stack.udp_readiness(id))),
        };
        if let Some(socket) = table.get(slot) {
            if let SocketId::Tcp(id) = id {
                socket.note_standing(stack, id);
                socket.tell_owner(stack, id);
            }
            socket.source.notify(ready);
        }
    }
}

/// The stack's bits as a file's.
#[inline]
pub(super) fn to_file(ready: NetReadiness) -> Readiness {
    let mut bits = Readiness::empty();
    bits.set(Readiness::READABLE, ready.contains(NetReadiness::IN));
    bits.set(Readiness::WRITABLE, ready.contains(NetReadiness::OUT));
    bits.set(Readiness::PRI, ready.contains(NetReadiness::PRI));
    bits.set(Readiness::RDHUP, ready.contains(NetReadiness::RDHUP));
    bits.set(Readiness::HUP, ready.contains(NetReadiness::HUP));
    bits.set(Readiness::ERR, ready.contains(NetReadiness::ERR));
    bits
}
