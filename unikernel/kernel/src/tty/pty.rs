//! Pseudo-terminals (pty(7), pts(4)): a terminal whose keys and screen are a file of another program's, the master.

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

use linux_raw_sys::general::*;
use unikernel_fs::terminal::{Screen, Terminal, Typed};

use super::{NO_WINDOW, Queues, number_of, session};
use crate::abi::Errno;
use crate::file::{PollSource, Readiness};
use crate::fs::{self, Handle, device::Device};
use crate::kmem::room;
use crate::sync::SpinLock;

/// So many bytes wait in each direction before the writer waits.
pub(super) const MAX_QUEUED_BYTES: usize = 16_384;
/// So many there are at most (`/proc/sys/kernel/pty/max`).
pub(crate) const MAX_PTYS: usize = 4096;
/// Permissions of a slave.
const PERMISSIONS: u16 = 0o620;

/// All, by number.
static PTYS: SpinLock<Vec<Option<Weak<Pty>>>> = SpinLock::new(Vec::new());

/// One pseudo-terminal.
pub(crate) struct Pty {
    pub(super) index: u32,
    /// The node of the slave.
    pub(super) node: Handle,
    pub(super) state: SpinLock<State>,
    /// Who waits at the master, and at the slave.
    pub(super) master: PollSource,
    pub(super) slave: PollSource,
    pub(super) window: SpinLock<winsize>,
    /// Of the slave; the master, which is opened once, can only be asked for what it was set to.
    pub(super) is_exclusive: AtomicBool,
    pub(super) is_master_exclusive: AtomicBool,
}

/// What changes.
pub(super) struct State {
    pub(super) terminal: Terminal,
    /// What the terminal has shown and the master has not read.
    pub(super) shown: VecDeque<u8>,
    /// The slave cannot be opened yet (unlockpt(3)).
    pub(super) is_locked: bool,
    pub(super) is_master_open: bool,
    /// How often the slave is open, and if it ever was.
    pub(super) slaves: usize,
    pub(super) had_slave: bool,
    /// The master reads what happens besides (`TIOCPKT`), and what that was.
    pub(super) is_packet: bool,
    pub(super) packet: u8,
}

/// The queue to the master as a screen. What is echoed beyond twice its length is lost.
pub(super) struct Shown<'a>(pub(super) &'a mut VecDeque<u8>);

impl Screen for Shown<'_> {
    fn put(&mut self, byte: u8) {
        if self.0.len() < 2 * MAX_QUEUED_BYTES && self.0.try_reserve(1).is_ok() {
            self.0.push_back(byte);
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl State {
    pub(super) fn with_screen<R>(&mut self, work: impl FnOnce(&mut Terminal, &mut Shown<'_>) -> R) -> R {
        work(&mut self.terminal, &mut Shown(&mut self.shown))
    }

    /// True if a write by the slave can go on.
    pub(super) fn can_show(&self) -> bool {
        !self.terminal.is_held() && self.shown.len() + Terminal::MAX_EXPANSION <= MAX_QUEUED_BYTES
    }

    pub(super) fn has_lost_slaves(&self) -> bool {
        self.had_slave && self.slaves == 0
    }

    pub(super) fn has_packet(&self) -> bool {
        self.is_packet && self.packet != 0
    }

    fn note(&mut self, bits: u32) {
        if self.is_packet {
            self.packet |= bits as u8;
        }
    }

    /// Notes what a key, or a call, has led to.
    pub(super) fn note_typed(&mut self, typed: &Typed) {
        if typed.has_flushed {
            self.note(TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE);
        }
        if let Some(is_held) = typed.is_held {
            let (new, old) =
                if is_held { (TIOCPKT_STOP, TIOCPKT_START) } else { (TIOCPKT_START, TIOCPKT_STOP) };
            self.packet &= !(old as u8);
            self.note(new);
        }
    }

    pub(super) fn note_flushed(&mut self, queues: Queues) {
        let bits = |is_wanted, bit| if is_wanted { bit } else { 0 };
        self.note(bits(queues.input, TIOCPKT_FLUSHREAD) | bits(queues.output, TIOCPKT_FLUSHWRITE));
    }

    pub(super) fn note_usual_flow(&mut self, is_usual: bool) {
        self.packet &= !((TIOCPKT_DOSTOP | TIOCPKT_NOSTOP) as u8);
        self.note(if is_usual { TIOCPKT_DOSTOP } else { TIOCPKT_NOSTOP });
    }
}

/// Makes one, locked.
pub(super) fn make() -> Result<Arc<Pty>, Errno> {
    let index = reserve()?;
    let made = fs::create_slave(index.to_string().as_bytes(), Device::Slave(index), PERMISSIONS);
    let Ok(node) = made else {
        PTYS.lock()[index as usize] = None;
        return Err(Errno::ENOSPC);
    };
    let state = State {
        terminal: Terminal::new(),
        shown: VecDeque::new(),
        is_locked: true,
        is_master_open: true,
        slaves: 0,
        had_slave: false,
        is_packet: false,
        packet: 0,
    };
    let pty = Arc::new(Pty {
        index,
        node,
        state: SpinLock::new(state),
        master: PollSource::new(),
        slave: PollSource::new(),
        window: SpinLock::new(NO_WINDOW),
        is_exclusive: AtomicBool::new(false),
        is_master_exclusive: AtomicBool::new(false),
    });
    PTYS.lock()[index as usize] = Some(Arc::downgrade(&pty));
    Ok(pty)
}

/// Takes the lowest free number.
fn reserve() -> Result<u32, Errno> {
    let mut ptys = PTYS.lock();
    let index = ptys.iter().position(Option::is_none).unwrap_or(ptys.len());
    if index >= MAX_PTYS {
        return Err(Errno::ENOSPC);
    }
    if index == ptys.len() {
        ptys.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        ptys.push(None);
    }
    // Not one that could be found yet.
    ptys[index] = Some(Weak::new());
    Ok(index as u32)
}

/// The one with this number.
pub(super) fn find(index: u32) -> Option<Arc<Pty>> {
    PTYS.lock().get(index as usize)?.as_ref()?.upgrade()
}

/// How many there are.
pub(crate) fn count() -> usize {
    PTYS.lock().iter().flatten().count()
}

impl Drop for Pty {
    fn drop(&mut self) {
        if let Some(slot) = PTYS.lock().get_mut(self.index as usize) {
            *slot = None;
        }
    }
}

impl Pty {
    /// Types keys, as many as there is room for. Answers how many; the slave's readers are told, and the app of signals.
    pub(super) fn type_keys(&self, keys: &[u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        // The queues grow.
        room::ask_locked()?;
        let (mut count, mut is_readable, mut has_room) = (0, false, false);
        let mut signals = Vec::new();
        for &key in keys {
            if !state.terminal.has_room(MAX_QUEUED_BYTES) {
                break;
            }
            let typed = state.with_screen(|terminal, screen| terminal.key(key, screen));
            state.note_typed(&typed);
            is_readable |= typed.is_readable;
            has_room |= typed.has_flushed || typed.is_held == Some(false);
            if let Some(signal) = typed.signal
                && !signals.contains(&number_of(signal))
                && signals.try_reserve(1).is_ok()
            {
                signals.push(number_of(signal));
            }
            count += 1;
        }
        drop(state);
        if count == 0 {
            // Nobody is told, or the caller would wake itself for ever.
            return Err(Errno::EAGAIN);
        }
        if session::is_controlling(self) {
            signals.into_iter().for_each(session::signal);
        }
        if is_readable {
            self.slave.notify(Readiness::READABLE);
        }
        if has_room {
            self.slave.notify(Readiness::WRITABLE);
        }
        self.tell_master();
        Ok(count)
    }

    /// There may be something for the master to read.
    pub(super) fn tell_master(&self) {
        let state = self.state.lock();
        let (is_readable, is_urgent) = (!state.shown.is_empty() || state.has_packet(), state.has_packet());
        drop(state);
        if is_readable {
            let urgent = if is_urgent { Readiness::PRI } else { Readiness::empty() };
            self.master.notify(Readiness::READABLE | urgent);
        }
    }

    /// The master is gone: so is the terminal.
    pub(super) fn hang_up(&self) {
        fs::remove_slave(&self.node);
        let mut state = self.state.lock();
        state.is_master_open = false;
        state.terminal.clear_input();
        state.shown.clear();
        drop(state);
        // Nothing to tell if it does not control the app.
        let _ = session::end(self);
        self.slave.notify(Readiness::all());
    }
}
