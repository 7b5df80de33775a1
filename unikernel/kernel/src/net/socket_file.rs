//! The file that a socket is.

use alloc::string::String;

use linux_raw_sys::general::S_IFSOCK;
use linux_raw_sys::ioctl::{FIOGETOWN, FIONREAD, FIOSETOWN, SIOCATMARK, SIOCGPGRP, SIOCSPGRP};

use super::interface;
use super::socket::{Kind, MessageFlags, Socket};
use crate::abi::{Errno, SysResult};
use crate::file::{File, Metadata, PollSource, Readiness, WaitMode};
use crate::mem::user::{UserPtr, UserSlice};

/// `SIOCOUTQ`, which is `TIOCOUTQ` under another name (tcp(7)).
const SIOCOUTQ: u32 = linux_raw_sys::ioctl::TIOCOUTQ;

impl Socket {
    /// Bytes that wait to be read, and to be sent, of a socket that the stacks serve.
    pub(crate) fn internet_queues(&self) -> Result<(usize, usize), Errno> {
        match &self.kind {
            Kind::Stream(stream) => stream.queues(),
            Kind::Datagram(datagram) => Ok(datagram.queues()),
            Kind::Unix(_) | Kind::Other(_) => Err(Errno::EOPNOTSUPP),
        }
    }
}

impl File for Socket {
    #[inline]
    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        // Unlike recv(2) of no bytes, this neither waits nor takes a datagram.
        if into.is_empty() {
            return Ok(0);
        }
        self.receive_bytes(&[into], mode)
    }

    #[inline]
    fn write(&self, from: UserSlice, mode: WaitMode) -> SysResult {
        self.send_bytes(&[from], MessageFlags::empty(), mode)
    }

    fn read_vectored(&self, into: &[UserSlice], mode: WaitMode) -> SysResult {
        self.receive_bytes(into, mode)
    }

    fn write_vectored(&self, from: &[UserSlice], mode: WaitMode) -> SysResult {
        self.send_bytes(from, MessageFlags::empty(), mode)
    }

    fn readiness(&self) -> Readiness {
        match &self.kind {
            Kind::Stream(stream) => stream.readiness(),
            Kind::Datagram(datagram) => datagram.readiness(),
            Kind::Unix(unix) => unix.readiness(self),
            Kind::Other(endpoint) => endpoint.readiness(),
        }
    }

    #[inline]
    fn readiness_for(&self, wanted: Readiness) -> Readiness {
        match &self.kind {
            Kind::Stream(stream) => stream.cached.readiness(wanted).unwrap_or_else(|| stream.readiness()),
            _ => self.readiness(),
        }
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.source)
    }

    fn metadata(&self) -> Metadata {
        Metadata::anonymous(S_IFSOCK, self.inode)
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        if let Some(result) = interface::ioctl(request, argument) {
            return result;
        }
        if let (SIOCATMARK, Kind::Stream(stream)) = (request, &self.kind) {
            UserPtr::new(argument).write(i32::from(stream.ask_mark()))?;
            return Ok(0);
        }
        match request {
            FIOSETOWN | SIOCSPGRP => {
                self.owner.set(UserPtr::new(argument).read()?)?;
                return Ok(0);
            }
            FIOGETOWN | SIOCGPGRP => {
                UserPtr::new(argument).write(self.owner.get())?;
                return Ok(0);
            }
            _ => {}
        }
        let (receive_queue, send_queue) = match &self.kind {
            Kind::Stream(stream) => stream.queues()?,
            Kind::Datagram(datagram) => datagram.queues(),
            Kind::Unix(unix) => unix.queues(),
            Kind::Other(endpoint) => endpoint.queues()?,
        };
        let count = match request {
            FIONREAD => receive_queue,
            SIOCOUTQ => send_queue,
            _ => return Err(Errno::ENOTTY),
        };
        UserPtr::new(argument).write(count as i32)?;
        Ok(0)
    }

    fn close(&self) {
        match &self.kind {
            Kind::Stream(stream) => stream.close(self),
            Kind::Datagram(datagram) => datagram.close(),
            Kind::Unix(unix) => unix.close(),
            Kind::Other(endpoint) => endpoint.close(self),
        }
    }

    fn name(&self) -> String {
        alloc::format!("socket:[{}]", self.inode)
    }
}
