//! The master of a pseudo-terminal: what is written to it is typed, and what it reads is what is shown.

use alloc::string::String;
use alloc::sync::Arc;

use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::*;

use super::pty::{self, MAX_QUEUED_BYTES, Pty};
use super::slave::Slave;
use super::{Queues, session};
use crate::abi::{Errno, SysResult};
use crate::file::table::{self, OnExec};
use crate::file::{
    self, AttemptError, File, FileFlags, Metadata, NamedNode, PollSource, Readiness, WaitMode,
};
use crate::fs::{self, Handle, node};
use crate::mem::user::{UserPtr, UserSlice};
use crate::task::signal::MAX_SIGNAL;

/// Keys are copied from the app in pieces of this size.
const CHUNK_BYTES: usize = 512;

/// The master.
pub(crate) struct Master {
    pty: Arc<Pty>,
    /// The node that was opened.
    handle: Handle,
}

impl Master {
    /// Opens `/dev/ptmx`: makes a pseudo-terminal.
    pub(crate) fn open(handle: Handle) -> Result<Arc<Self>, Errno> {
        Ok(Arc::new(Self { pty: pty::make()?, handle }))
    }

    fn try_read(&self, into: UserSlice) -> Result<usize, AttemptError> {
        let mut state = self.pty.state.lock();
        if state.has_packet() {
            into.try_write(&[state.packet])?;
            state.packet = 0;
            return Ok(1);
        }
        if state.shown.is_empty() {
            return Err(if state.has_lost_slaves() { Errno::EIO } else { Errno::EAGAIN }.into());
        }
        let mut done = 0;
        if state.is_packet {
            into.try_write(&[TIOCPKT_DATA as u8])?;
            done = 1;
        }
        let count = state.shown.len().min(into.len() - done);
        let (head, tail) = state.shown.as_slices();
        let head = &head[..count.min(head.len())];
        let tail = &tail[..count - head.len()];
        into.skip(done).try_write(head)?;
        into.skip(done + head.len()).try_write(tail)?;
        state.shown.drain(..count);
        Ok(done + count)
    }

    fn set_packet(&self, is_packet: bool) {
        let mut state = self.pty.state.lock();
        if state.is_packet != is_packet {
            (state.is_packet, state.packet) = (is_packet, 0);
        }
    }

    /// Opens the slave without its name (ioctl_tty(2), `TIOCGPTPEER`).
    fn open_peer(&self, flags: u32) -> SysResult {
        let handle = self.pty.node.again(&mut fs::tree());
        let slave = Slave::open(Arc::clone(&self.pty), handle)?;
        let status = FileFlags::from_bits_truncate(flags);
        if flags & O_NOCTTY == 0 && status.can_read() {
            session::opened(&self.pty);
        }
        let on_exec = if flags & O_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep };
        table::install(file::open(slave, status), on_exec)
    }

    /// Drops what the master has not read, or has typed.
    fn flush(&self, queues: Queues) {
        let mut state = self.pty.state.lock();
        if queues.input {
            state.shown.clear();
        }
        if queues.output {
            state.terminal.clear_input();
        }
        drop(state);
        if queues.input {
            self.pty.slave.notify(Readiness::WRITABLE);
        }
        if queues.output {
            self.pty.master.notify(Readiness::WRITABLE);
        }
    }
}

impl File for Master {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&self.handle)
    }

    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        if into.is_empty() {
            return Ok(0);
        }
        let count = self.pty.master.block_on(mode, None, || self.try_read(into))?;
        self.pty.slave.notify(Readiness::WRITABLE);
        Ok(count)
    }

    fn write(&self, from: UserSlice, mode: WaitMode) -> SysResult {
        super::write_chunks::<CHUNK_BYTES>(from, mode, |keys, mode| {
            self.pty.master.block_on(mode, None, || self.pty.type_keys(keys))
        })
    }

    fn readiness(&self) -> Readiness {
        let state = self.pty.state.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::READABLE, !state.shown.is_empty() || state.has_packet());
        ready.set(Readiness::PRI, state.has_packet());
        ready.set(Readiness::WRITABLE, state.terminal.has_room(MAX_QUEUED_BYTES));
        ready.set(Readiness::HUP, state.has_lost_slaves());
        ready
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.pty.master)
    }

    fn metadata(&self) -> Metadata {
        node::metadata(self.handle.id)
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        match request {
            TIOCGPTN => UserPtr::new(argument).write(self.pty.index)?,
            TIOCSPTLCK => {
                let is_locked = UserPtr::<i32>::new(argument).read()? != 0;
                self.pty.state.lock().is_locked = is_locked;
            }
            TIOCGPTLCK => {
                let is_locked = self.pty.state.lock().is_locked;
                UserPtr::new(argument).write(i32::from(is_locked))?;
            }
            TIOCPKT => self.set_packet(UserPtr::<i32>::new(argument).read()? != 0),
            TIOCGPKT => {
                let is_packet = self.pty.state.lock().is_packet;
                UserPtr::new(argument).write(i32::from(is_packet))?;
            }
            TIOCGPTPEER => return self.open_peer(argument as u32),
            TIOCSIG if argument == 0 || argument > u64::from(MAX_SIGNAL) => return Err(Errno::EINVAL),
            TIOCSIG if session::is_controlling(&self.pty) => session::signal(argument as u32),
            TIOCSIG => {}
            FIONREAD => {
                let len = self.pty.state.lock().shown.len();
                UserPtr::new(argument).write(len as i32)?;
            }
            TCFLSH => self.flush(super::queues_of(argument)?),
            TIOCGPGRP if !session::is_controlling(&self.pty) => UserPtr::new(argument).write(0_i32)?,
            TIOCEXCL | TIOCNXCL | TIOCGEXCL => {
                super::exclude(&self.pty.is_master_exclusive, request, argument)?;
            }
            // Of the other end.
            TIOCSCTTY | TIOCNOTTY => return Err(Errno::ENOTTY),
            _ => return super::ioctl(&self.pty, request, argument),
        }
        Ok(0)
    }

    fn close(&self) {
        self.pty.hang_up();
    }

    fn name(&self) -> String {
        node::name_of(&self.handle)
    }
}
