//! The slave of a pseudo-terminal: a terminal for whoever opens it.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;

use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::TIOCSPGRP;
use unikernel_fs::terminal::{Screen, Settings};

use super::pty::{self, Pty, Shown, State};
use super::{Line, Queues, session};
use crate::abi::{Errno, SysResult};
use crate::file::{AttemptError, File, Metadata, NamedNode, PollSource, Readiness, WaitMode};
use crate::fs::{Handle, device::Device, node};
use crate::kmem::room;
use crate::mem::user::UserSlice;

/// Output is copied from the app in pieces of this size.
const CHUNK_BYTES: usize = 512;

/// The slave, as opened.
pub(crate) struct Slave {
    pty: Arc<Pty>,
    /// The node that was opened.
    handle: Handle,
}

impl Slave {
    /// Opens it, if that is allowed (unlockpt(3)).
    pub(super) fn open(pty: Arc<Pty>, handle: Handle) -> Result<Arc<Self>, Errno> {
        super::check_open(&pty)?;
        let mut state = pty.state.lock();
        if !state.is_master_open || state.is_locked {
            return Err(Errno::EIO);
        }
        state.slaves += 1;
        state.had_slave = true;
        drop(state);
        Ok(Arc::new(Self { pty, handle }))
    }

    /// Opens the one with this number.
    pub(crate) fn open_index(index: u32, handle: Handle) -> Result<Arc<Self>, Errno> {
        Self::open(pty::find(index).ok_or(Errno::EIO)?, handle)
    }

    /// Opens the one that controls the app, if one does.
    pub(crate) fn open_controlling(handle: &Handle) -> Option<Result<Arc<Self>, Errno>> {
        let pty = session::controlling()?;
        let handle = handle.again(&mut crate::fs::tree());
        Some(Self::open(pty, handle))
    }

    /// It was opened by a session's leader that may read it: it becomes the controlling terminal, if there is none.
    pub(crate) fn control(&self) {
        session::opened(&self.pty);
    }

    fn show(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut state = self.pty.state.lock();
        if !state.is_master_open {
            return Err(Errno::EIO);
        }
        // The queue grows.
        room::ask_locked()?;
        let mut count = 0;
        while count < bytes.len() && state.can_show() {
            state.with_screen(|terminal, screen| terminal.write(bytes[count], screen));
            count += 1;
        }
        drop(state);
        if count == 0 {
            return Err(Errno::EAGAIN);
        }
        self.pty.tell_master();
        Ok(count)
    }
}

impl Line for Arc<Pty> {
    fn source(&self) -> &PollSource {
        &self.slave
    }

    fn try_read(&self, into: UserSlice) -> Result<usize, AttemptError> {
        let mut state = self.state.lock();
        if !state.is_master_open {
            return Err(Errno::EIO.into());
        }
        let [head, tail] = state.terminal.content(into.len()).ok_or(Errno::EAGAIN)?;
        into.try_write(head)?;
        into.skip(head.len()).try_write(tail)?;
        let count = head.len() + tail.len();
        state.terminal.consume(count);
        Ok(count)
    }

    fn settings(&self) -> Settings {
        *self.state.lock().terminal.settings()
    }

    fn set(&self, settings: Settings) {
        let mut state = self.state.lock();
        let was_usual = state.terminal.settings().has_usual_flow();
        state.with_screen(|terminal, screen| terminal.set(settings, screen));
        if was_usual != settings.has_usual_flow() {
            state.note_usual_flow(settings.has_usual_flow());
        }
        let ready = readiness(&state);
        drop(state);
        self.slave.notify(ready);
        self.tell_master();
    }

    fn input_len(&self) -> usize {
        self.state.lock().terminal.len()
    }

    fn flush(&self, queues: Queues) {
        let mut state = self.state.lock();
        if queues.input {
            state.terminal.clear_input();
        }
        if queues.output {
            state.shown.clear();
        }
        state.note_flushed(queues);
        drop(state);
        self.master.notify(Readiness::WRITABLE);
        self.slave.notify(Readiness::WRITABLE);
        self.tell_master();
    }

    fn hold(&self, is_held: bool) {
        let mut state = self.state.lock();
        let typed = state.with_screen(|terminal, screen| terminal.hold(is_held, screen));
        state.note_typed(&typed);
        drop(state);
        self.slave.notify(Readiness::WRITABLE);
        self.tell_master();
    }

    fn send(&self, byte: u8) {
        if byte != 0 {
            Shown(&mut self.state.lock().shown).put(byte);
            self.tell_master();
        }
    }

    fn window(&self) -> winsize {
        *self.window.lock()
    }

    fn set_window(&self, size: winsize) -> bool {
        let parts = |size: &winsize| [size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel];
        let before = core::mem::replace(&mut *self.window.lock(), size);
        parts(&before) != parts(&size)
    }

    fn is_exclusive(&self) -> &AtomicBool {
        &self.is_exclusive
    }

    fn device(&self) -> u64 {
        Device::Slave(self.index).number()
    }

    fn is_controlling(&self) -> bool {
        session::is_controlling(self)
    }

    fn take_control(&self) -> Result<(), Errno> {
        session::take(self)
    }

    fn give_up_control(&self) -> Result<(), Errno> {
        session::end(self)
    }
}

fn readiness(state: &State) -> Readiness {
    if !state.is_master_open {
        return Readiness::READABLE | Readiness::WRITABLE | Readiness::ERR | Readiness::HUP;
    }
    let mut ready = Readiness::empty();
    ready.set(Readiness::READABLE, state.terminal.is_readable());
    ready.set(Readiness::WRITABLE, state.can_show());
    ready
}

impl File for Slave {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&self.handle)
    }

    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        // Only who waits already is told of the hang-up; for others the terminal has ended.
        if !self.pty.state.lock().is_master_open {
            return Ok(0);
        }
        let outcome = super::read(&self.pty, into, mode);
        self.pty.master.notify(Readiness::WRITABLE);
        outcome
    }

    fn write(&self, from: UserSlice, mode: WaitMode) -> SysResult {
        super::write_chunks::<CHUNK_BYTES>(from, mode, |bytes, mode| {
            self.pty.slave.block_on(mode, None, || self.show(bytes))
        })
    }

    fn readiness(&self) -> Readiness {
        readiness(&self.pty.state.lock())
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.pty.slave)
    }

    fn metadata(&self) -> Metadata {
        node::metadata(self.handle.id)
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        let is_master_open = self.pty.state.lock().is_master_open;
        match request {
            TIOCSPGRP if !is_master_open => Err(Errno::ENOTTY),
            _ if !is_master_open => Err(Errno::EIO),
            _ => super::ioctl(&self.pty, request, argument),
        }
    }

    fn close(&self) {
        let mut state = self.pty.state.lock();
        state.slaves -= 1;
        let is_last = state.slaves == 0;
        drop(state);
        if is_last {
            self.pty.master.notify(Readiness::HUP);
        }
    }

    fn name(&self) -> String {
        node::name_of(&self.handle)
    }
}
