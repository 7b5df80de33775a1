//! Sockets that keep only each other open. An open file on its way to a socket is kept by that socket; sockets that were
//! sent over each other, and are open nowhere else, would stay for ever. As in Linux (`net/unix/garbage.c`), they are
//! looked for among the sockets on their way.
//!
//! A socket on its way is a candidate if every reference to it is one of those on their way. What is held by something else
//! than a candidate is in use, and so is all that is on its way to it; the other candidates are garbage.
//!
//! [`InFlight`]'s lock is held by whoever moves open files into a lane or out of one. So a candidate stays one while
//! they are looked at: who could make a new reference to it would need an old one. Lock order: in flight, then a
//! socket's state or a lane.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{Rights, Role, Unix};
use crate::file::{OpenFile, release};
use crate::net::socket::Socket;
use crate::sync::{SpinLock, SpinLockGuard};
use crate::syscall::Errno;

/// Different sockets on their way at most: a search looks at them all.
const MAX_SOCKETS: usize = 16_384;

static IN_FLIGHT: SpinLock<InFlight> = SpinLock::new(InFlight { sockets: BTreeMap::new(), changes: 0 });
/// How many sockets there are in it. Changed with its lock held.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The sockets of this family that are on their way to others.
pub(super) struct InFlight {
    /// By the addresses of their open files.
    sockets: BTreeMap<usize, Counted>,
    /// Times that garbage may have come to be, since it was last looked for.
    changes: usize,
}

struct Counted {
    file: Weak<OpenFile>,
    /// How often it is on its way.
    count: usize,
}

struct Candidate {
    file: Arc<OpenFile>,
    /// References that are not held by candidates.
    others: usize,
    is_in_use: bool,
}

/// The lock that moving open files into a lane or out of one needs.
pub(super) fn lock() -> SpinLockGuard<'static, InFlight> {
    IN_FLIGHT.lock()
}

fn address(file: &Arc<OpenFile>) -> usize {
    Arc::as_ptr(file).addr()
}

fn unix(file: &OpenFile) -> Option<&Unix> {
    file.downcast::<Socket>().and_then(Socket::unix)
}

impl InFlight {
    /// Notes that files are on their way from now on.
    pub(super) fn add(&mut self, rights: &Rights) -> Result<(), Errno> {
        let sockets = rights.iter().filter(|file| unix(file).is_some());
        if self.sockets.len() + sockets.clone().count() > MAX_SOCKETS {
            return Err(Errno::ETOOMANYREFS);
        }
        for file in sockets {
            let new = || Counted { file: Arc::downgrade(file), count: 0 };
            self.sockets.entry(address(file)).or_insert_with(new).count += 1;
        }
        COUNT.store(self.sockets.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Notes that files have arrived, or will not.
    pub(super) fn remove(&mut self, rights: &Rights) {
        for file in rights {
            let Some(counted) = self.sockets.get_mut(&address(file)) else { continue };
            counted.count -= 1;
            if counted.count == 0 {
                self.sockets.remove(&address(file));
            }
        }
        COUNT.store(self.sockets.len(), Ordering::Relaxed);
    }

    /// True once there have been so many changes that a search costs little for each.
    fn is_due(&mut self) -> bool {
        self.changes += 1;
        let is_due = self.changes >= self.sockets.len() / 2;
        if is_due {
            self.changes = 0;
        }
        is_due
    }

    /// The garbage. None of the references that are dropped here is a file's last, as each is on its way too.
    fn find(&self) -> Vec<Arc<OpenFile>> {
        let mut candidates: BTreeMap<usize, Candidate> = BTreeMap::new();
        for (&address, counted) in &self.sockets {
            let Some(file) = counted.file.upgrade() else { continue };
            if Arc::strong_count(&file) == counted.count + 1 {
                candidates.insert(address, Candidate { file, others: counted.count, is_in_use: false });
            }
        }
        let holders: Vec<Arc<OpenFile>> = candidates.values().map(|one| Arc::clone(&one.file)).collect();
        for holder in &holders {
            each_held(holder, |held| {
                if let Some(candidate) = candidates.get_mut(&held) {
                    candidate.others -= 1;
                }
            });
        }
        let mut in_use: Vec<Arc<OpenFile>> = Vec::new();
        for candidate in candidates.values_mut().filter(|candidate| candidate.others > 0) {
            candidate.is_in_use = true;
            in_use.push(Arc::clone(&candidate.file));
        }
        while let Some(holder) = in_use.pop() {
            each_held(&holder, |held| {
                if let Some(candidate) = candidates.get_mut(&held)
                    && !candidate.is_in_use
                {
                    candidate.is_in_use = true;
                    in_use.push(Arc::clone(&candidate.file));
                }
            });
        }
        candidates
            .into_values()
            .filter(|candidate| !candidate.is_in_use)
            .map(|candidate| candidate.file)
            .collect()
    }
}

/// Calls `visit` with the address of each file that is on its way to a socket, or to one that waits to be accepted there.
fn each_held(holder: &OpenFile, mut visit: impl FnMut(usize)) {
    let Some(holder) = unix(holder) else { return };
    let unaccepted = holder.unaccepted();
    let lanes = unaccepted.iter().filter_map(|socket| socket.unix()).chain([holder]);
    for receiver in lanes {
        receiver.incoming.lock().rights().for_each(|file| visit(address(file)));
    }
}

impl Unix {
    /// The sockets that wait to be accepted.
    fn unaccepted(&self) -> Vec<Arc<Socket>> {
        match &self.state.lock().role {
            Role::Listener { queue, .. } => queue.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

/// Looks for garbage, if there may be enough of it, and closes it. Called where a descriptor has been closed or a file
/// sent; without locks.
#[inline]
pub fn collect() {
    if COUNT.load(Ordering::Relaxed) > 0 {
        search();
    }
}

#[cold]
fn search() {
    let garbage = {
        let mut in_flight = lock();
        if !in_flight.is_due() {
            return;
        }
        in_flight.find()
    };
    // Nobody can ask for what is on its way to them any more.
    for socket in garbage.iter().filter_map(|file| unix(file)) {
        socket.unaccepted().iter().filter_map(|socket| socket.unix()).for_each(|socket| _ = socket.discard());
        socket.discard();
    }
    release::release(garbage);
}
