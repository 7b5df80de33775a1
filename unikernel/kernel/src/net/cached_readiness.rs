//! How reading from a connection stands, kept beside the socket: most of epoll's questions are answered by it,
//! without the shard's lock.

use core::sync::atomic::{AtomicU8, Ordering};

use unikernel_net::{Stack, TcpId};

use crate::file::Readiness;

const UNKNOWN: u8 = 0;
/// There is something to read: nothing else is to be told of the connection, but perhaps that it can be written.
const READABLE: u8 = 1;
/// All that had come was read.
const DRAINED: u8 = 2;

/// What was last known. It is changed with the shard locked, as is whatever it depends on, and each change but those of
/// whoever reads is told to the socket's watches afterwards: who sees an old value is about to be told.
#[derive(Default)]
pub(super) struct CachedReadiness(AtomicU8);

impl CachedReadiness {
    /// Something has happened to the connection, or it was read from.
    #[inline]
    pub(super) fn note(&self, stack: &Stack, id: TcpId) {
        let standing = match stack.tcp_plain_queue(id) {
            Some(0) => DRAINED,
            Some(_) => READABLE,
            None => UNKNOWN,
        };
        self.0.store(standing, Ordering::Relaxed);
    }

    /// The socket has no connection any more, or another.
    pub(super) fn forget(&self) {
        self.0.store(UNKNOWN, Ordering::Relaxed);
    }

    /// What of `wanted` the socket is ready for, if that can be told.
    #[inline]
    pub(super) fn readiness(&self, wanted: Readiness) -> Option<Readiness> {
        match self.0.load(Ordering::Relaxed) {
            _ if wanted.intersects(Readiness::WRITABLE) => None,
            READABLE => Some(Readiness::READABLE),
            DRAINED => Some(Readiness::empty()),
            _ => None,
        }
    }
}
