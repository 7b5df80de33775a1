//! Datagrams that are written in several calls (send(2), `MSG_MORE`; udp(7), `UDP_CORK`).

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};

use super::Datagram;
use super::transfer::try_gather;
use crate::abi::{Errno, SysResult};
use crate::file::WaitMode;
use crate::kmem::room;
use crate::mem::fault::paging_in;
use crate::mem::user::{UserSlice, with_kernel_buffer};
use crate::net::message::{MessageFlags, SendControl};
use crate::net::socket::Socket;
use crate::sync::SpinLock;

/// The longest datagram, without the headers of UDP and IPv4.
const MAX_BYTES: usize = u16::MAX as usize - 28;

/// The datagram that waits for more.
#[derive(Default)]
pub(super) struct Cork {
    is_on: AtomicBool,
    is_there: AtomicBool,
    pending: SpinLock<Option<Pending>>,
}

/// Its bytes so far, and what the first call said of it.
struct Pending {
    bytes: Vec<u8>,
    to: Option<SocketAddr>,
    control: SendControl,
    flags: MessageFlags,
}

impl Cork {
    /// True if a call of send has to add to a datagram.
    #[inline]
    pub(super) fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    /// True if every call adds to a datagram (`UDP_CORK`).
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Pending> {
        let mut pending = self.pending.lock();
        self.is_there.store(false, Ordering::Relaxed);
        pending.take()
    }

    /// Adds bytes, to a new datagram if there is none. One that has become too long is lost.
    fn add(&self, part: Pending) -> Result<(), Errno> {
        let mut pending = self.pending.lock();
        let Some(begun) = pending.as_mut() else {
            self.is_there.store(true, Ordering::Relaxed);
            *pending = Some(part);
            return Ok(());
        };
        let added = if begun.bytes.len() + part.bytes.len() > MAX_BYTES {
            Err(Errno::EMSGSIZE)
        } else {
            begun.bytes.try_reserve(part.bytes.len()).map_err(|_| Errno::ENOBUFS)
        };
        match added {
            Ok(()) => begun.bytes.extend_from_slice(&part.bytes),
            Err(_) => {
                *pending = None;
                self.is_there.store(false, Ordering::Relaxed);
            }
        }
        added
    }
}

impl Datagram {
    /// Adds to the datagram that waits, or begins one; sends it unless there will be more.
    #[cold]
    pub(super) fn send_part(
        &self,
        socket: &Socket,
        from: &[UserSlice],
        to: Option<SocketAddr>,
        (control, flags): (&SendControl, MessageFlags),
        (has_more, mode): (bool, WaitMode),
    ) -> SysResult {
        if to.is_none() && !self.cork.is_there() {
            self.peer(socket).map_err(|_| Errno::EDESTADDRREQ)?;
        }
        let len = from.iter().map(UserSlice::len).sum();
        if len > MAX_BYTES {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = room::filled(0, len)?;
        paging_in(|| try_gather(from, &mut bytes))?;
        self.cork.add(Pending { bytes, to, control: *control, flags })?;
        if !has_more {
            self.uncork(socket, mode)?;
        }
        Ok(len)
    }

    /// True if `UDP_CORK` is on.
    pub(crate) fn is_corked(&self) -> bool {
        self.cork.is_on()
    }

    /// Sets `UDP_CORK`; what waits is sent when it ends.
    pub(crate) fn set_corked(&self, socket: &Socket, is_corked: bool) -> Result<(), Errno> {
        self.cork.is_on.store(is_corked, Ordering::Relaxed);
        if is_corked { Ok(()) } else { self.uncork(socket, WaitMode::NonBlocking) }
    }

    /// Sends the datagram that waits, if one does.
    fn uncork(&self, socket: &Socket, mode: WaitMode) -> Result<(), Errno> {
        let Some(Pending { mut bytes, to, control, flags }) = self.cork.take() else { return Ok(()) };
        with_kernel_buffer(&mut bytes, |from| {
            self.send_whole(socket, &[from], to, (&control, flags), mode).map(|_| ())
        })
    }
}
