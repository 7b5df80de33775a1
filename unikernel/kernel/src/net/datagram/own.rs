//! UDP sockets of the kernel's own: datagrams between its memory and the stacks.

use alloc::sync::Arc;
use core::net::SocketAddr;

use unikernel_net::{Arrival, RecvError, SendError, UdpId};

use super::Datagram;
use crate::abi::Errno;
use crate::net::address::Family;
use crate::net::options::SocketOptions;
use crate::net::socket::{Kind, SendControl, Socket};
use crate::net::{cards, shards};

/// A socket of the kernel's, with a port of its own from the first datagram on.
pub(crate) struct Client(Arc<Socket>);

impl Default for Client {
    fn default() -> Self {
        // One of IPv6 speaks IPv4, too.
        Self(Socket::new(Family::V6, Kind::Datagram(Datagram::default()), SocketOptions::default()))
    }
}

impl Client {
    fn datagram(&self) -> Option<&Datagram> {
        match &self.0.kind {
            Kind::Datagram(datagram) => Some(datagram),
            _ => None,
        }
    }

    /// True if a datagram would leave now. If there is a way and the next machine on it is not known yet, that is asked for.
    pub(crate) fn can_reach(&self, to: SocketAddr) -> bool {
        let Some(datagram) = self.datagram() else { return false };
        let Ok(id) = datagram.id_or_bind(&self.0) else { return false };
        let options = *self.0.options.lock();
        let (mut net, _) = datagram.lock_towards(&options, id, Some(to), &SendControl::default());
        let can_reach = net.stack.can_reach(to.ip());
        drop(net);
        crate::net::flush();
        can_reach
    }

    /// Sends a datagram now, or fails; it does not wait.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) -> Result<(), Errno> {
        let datagram = self.datagram().ok_or(Errno::EBADF)?;
        let id = datagram.id_or_bind(&self.0)?;
        let options = *self.0.options.lock();
        let (mut net, to) = datagram.lock_towards(&options, id, Some(to), &SendControl::default());
        net.stack.udp_send(id, to, bytes.len(), |room| {
            room.copy_from_slice(bytes);
            Ok::<(), SendError>(())
        })?;
        drop(net);
        crate::net::flush();
        Ok(())
    }

    /// Lends each datagram that comes to `take`, until that has found what it looks for, or the deadline passes. The calling
    /// thread sleeps meanwhile.
    pub(crate) fn receive<T>(
        &self,
        deadline_ns: u64,
        mut take: impl FnMut(&[u8], &Arrival) -> Option<T>,
    ) -> Option<T> {
        let id = self.datagram()?.id_or_bind(&self.0).ok()?;
        let look = || cards::firsts().find_map(|shard| take_at(shard, id, &mut take));
        self.0.source.wait(Some(deadline_ns), look).ok()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(datagram) = self.datagram() {
            datagram.close();
        }
    }
}

fn take_at<T>(shard: usize, id: UdpId, take: &mut impl FnMut(&[u8], &Arrival) -> Option<T>) -> Option<T> {
    let stack = &mut shards::lock(shard).stack;
    loop {
        match stack.udp_recv(id, &mut *take) {
            Ok(Some(found)) => return Some(found),
            Err(RecvError::WouldBlock | RecvError::BadId) => return None,
            // Errors, such as that nobody listens there, are no datagrams; each is told once.
            Ok(None) | Err(_) => {}
        }
    }
}
