//! Sockets that keep only each other open. An open file on its way to a socket is kept by that socket; sockets that were
//! sent over each other, and are open nowhere else, would stay for ever. As in Linux (`net/unix/garbage.c`), they are
//! looked for among the sockets on their way.
//!
//! A socket on its way is a candidate if every reference to it is one of those on their way. What is held by something else
//! than a candidate is in use, and so is all that is on its way to it; the other candidates are garbage.
//!
//! [`InFlight`]'s lock is held by whoever moves open files into a queue or out of one. So a candidate stays one while
//! they are looked at: who could make a new reference to it would need an old one. Lock order: in flight, then a
//! socket's state or a queue.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Bound;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{Rights, Role, Unix};
use crate::abi::Errno;
use crate::file::OpenFile;
use crate::net::socket::Socket;
use crate::sync::{SpinLock, SpinLockGuard};
use crate::task::release;

/// Different sockets on their way at most: a search looks at them all.
const MAX_SOCKETS: usize = 16_384;

static IN_FLIGHT: SpinLock<InFlight> =
    SpinLock::new(InFlight { sockets: BTreeMap::new(), changes: 0, is_searched: false });
/// How many sockets there are in it. Changed with its lock held.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The sockets of this family that are on their way to others.
pub(super) struct InFlight {
    /// By the addresses of their open files.
    sockets: BTreeMap<usize, Counted>,
    /// Times that garbage may have come to be, since it was last looked for.
    changes: usize,
    /// A thread works off what it has found.
    is_searched: bool,
}

struct Counted {
    file: Weak<OpenFile>,
    /// How often it is on its way.
    count: usize,
    // What a search knows of it, which so needs no memory: it may be what frees some.
    mark: Mark,
    /// References that are not held by candidates.
    others: usize,
    /// The next candidate that is in use and whose queues have not been looked into.
    next_in_use: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    InUse,
    /// Nothing says that it is in use; after the search, it is garbage.
    Candidate,
}

/// The lock that moving open files into a queue or out of one needs.
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
            let new = || Counted {
                file: Arc::downgrade(file),
                count: 0,
                mark: Mark::InUse,
                others: 0,
                next_in_use: None,
            };
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

    /// Marks the garbage as candidates, all else as in use.
    fn find(&mut self) {
        for counted in self.sockets.values_mut() {
            let has_others = Weak::strong_count(&counted.file) != counted.count;
            counted.mark = if has_others { Mark::InUse } else { Mark::Candidate };
            counted.others = counted.count;
            counted.next_in_use = None;
        }
        let mut place = Bound::Unbounded;
        while let Some((address, holder)) = self.candidate_behind(place) {
            each_held(&holder, |held| {
                if let Some(candidate) = self.candidate(held) {
                    candidate.others -= 1;
                }
            });
            place = Bound::Excluded(address);
        }
        let mut first_in_use = None;
        for (&address, candidate) in &mut self.sockets {
            if candidate.mark == Mark::Candidate && candidate.others > 0 {
                candidate.mark = Mark::InUse;
                candidate.next_in_use = first_in_use.replace(address);
            }
        }
        while let Some(address) = first_in_use {
            let Some(counted) = self.sockets.get_mut(&address) else { break };
            first_in_use = counted.next_in_use.take();
            let Some(holder) = counted.file.upgrade() else { continue };
            each_held(&holder, |held| {
                if let Some(candidate) = self.candidate(held) {
                    candidate.mark = Mark::InUse;
                    candidate.next_in_use = first_in_use.replace(held);
                }
            });
        }
    }

    fn candidate(&mut self, address: usize) -> Option<&mut Counted> {
        self.sockets.get_mut(&address).filter(|counted| counted.mark == Mark::Candidate)
    }

    /// The first candidate behind a place. The reference is not the file's last, while it is on its way.
    fn candidate_behind(&self, place: Bound<usize>) -> Option<(usize, Arc<OpenFile>)> {
        let behind = self.sockets.range((place, Bound::Unbounded));
        let mut candidates = behind.filter(|(_, counted)| counted.mark == Mark::Candidate);
        candidates.find_map(|(&address, counted)| Some((address, counted.file.upgrade()?)))
    }
}

/// Calls `visit` with the address of each file that is on its way to a socket, or to one that waits to be accepted there.
fn each_held(holder: &OpenFile, mut visit: impl FnMut(usize)) {
    let Some(holder) = unix(holder) else { return };
    let unaccepted = holder.unaccepted();
    let queues = unaccepted.iter().filter_map(|socket| socket.unix()).chain([holder]);
    for receiver in queues {
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
pub(crate) fn collect() {
    if COUNT.load(Ordering::Relaxed) > 0 {
        search();
    }
}

#[cold]
fn search() {
    {
        let mut in_flight = lock();
        if !in_flight.is_due() || in_flight.is_searched {
            return;
        }
        in_flight.is_searched = true;
        in_flight.find();
    }
    let mut place = Bound::Unbounded;
    loop {
        let mut in_flight = lock();
        let Some((address, file)) = in_flight.candidate_behind(place) else {
            in_flight.is_searched = false;
            return;
        };
        drop(in_flight);
        // Nobody can ask for what is on its way to it any more.
        if let Some(socket) = unix(&file) {
            socket
                .unaccepted()
                .iter()
                .filter_map(|socket| socket.unix())
                .for_each(|socket| _ = socket.discard());
            socket.discard();
        }
        release::release([file]);
        place = Bound::Excluded(address);
    }
}
