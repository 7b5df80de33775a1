//! From the submission queue to the start of each chain, in the order that the app asks for.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::sync::atomic::Ordering;

use linux_raw_sys::io_uring::IORING_SETUP_SUBMIT_ALL;
use smallvec::SmallVec;

use super::Ring;
use super::request::{Action, Request};
use super::sqe::SqeFlags;
use crate::abi::Errno;
use crate::kmem::room;
use crate::task::scheduler::breathe_now_and_then;

/// Chains that wait for those before them (`IOSQE_IO_DRAIN`).
#[derive(Default)]
pub(super) struct Deferred {
    chains: VecDeque<Box<Request>>,
    /// Requests in them: they are outstanding, but nobody waits for them.
    requests: u32,
    /// The chain that was started last waits for nobody, and all wait for it.
    is_draining: bool,
}

impl Deferred {
    /// Takes the first chain out.
    pub(super) fn take_chain(&mut self) -> Option<Box<Request>> {
        let chain = self.chains.pop_front()?;
        self.requests -= len(&chain);
        Some(chain)
    }
}

/// Requests in a chain.
fn len(chain: &Request) -> u32 {
    core::iter::successors(Some(chain), |request| request.next.as_deref()).count() as u32
}

impl Ring {
    /// Takes up to `count` entries from the queue and starts them; answers how many were taken.
    pub(super) fn submit(&self, count: u32) -> usize {
        let mut left = count;
        for done in 0.. {
            if left == 0 || !self.has_room_for_chain() {
                break;
            }
            breathe_now_and_then(done);
            let requests = self.next_chain(&mut left);
            let mut chain: Option<Box<Request>> = None;
            for mut request in requests.into_iter().rev() {
                request.next = chain.take();
                chain = Some(request);
            }
            let Some(chain) = chain else { break };
            let is_bad = matches!(chain.action, Action::Refused(_));
            self.start_in_order(chain);
            if is_bad && self.setup_flags & IORING_SETUP_SUBMIT_ALL == 0 {
                // The app may want to know before more is done.
                break;
            }
        }
        (count - left) as usize
    }

    /// True if a chain may be begun, and kept where it has to wait.
    fn has_room_for_chain(&self) -> bool {
        room::is_left()
            && self.deferred.lock().chains.try_reserve(1).is_ok()
            && self.followers.lock().try_reserve(1).is_ok()
    }

    /// The requests of the next chain; of a long one only as many as there is room for, as the app may have written
    /// any number.
    fn next_chain(&self, left: &mut u32) -> SmallVec<[Box<Request>; 2]> {
        let mut chain = SmallVec::new();
        let _turn = self.submission.lock();
        let mut head = self.sq_head.load(Ordering::Relaxed);
        let mut available = self.memory.submitted_behind(head);
        while *left > 0 && available > 0 {
            let has_room = chain.is_empty() || room::is_left() && chain.try_reserve(1).is_ok();
            if !has_room {
                break;
            }
            let entry = self.memory.entry(head);
            head = head.wrapping_add(1);
            self.sq_head.store(head, Ordering::Relaxed);
            self.memory.set_sq_head(head);
            *left -= 1;
            available -= 1;
            let Some(entry) = entry else { continue };
            let is_last = !entry.is_linked();
            chain.push(Request::new(entry));
            if is_last {
                break;
            }
        }
        chain
    }

    /// Starts a chain, unless it has to wait for others.
    fn start_in_order(&self, mut chain: Box<Request>) {
        let len = len(&chain);
        self.outstanding.fetch_add(len, Ordering::Relaxed);
        if chain.is_link_timeout() {
            // There is nothing before it to watch over.
            chain.action = Action::Refused(Errno::EINVAL);
        }
        refuse_whole(&mut chain);
        let drains = chain.sqe.flags.contains(SqeFlags::DRAIN);
        {
            let mut deferred = self.deferred.lock();
            if drains || deferred.is_draining || !deferred.chains.is_empty() {
                deferred.requests += len;
                deferred.chains.push_back(chain);
                self.has_deferred.store(true, Ordering::SeqCst);
                drop(deferred);
                return self.start_deferred();
            }
        }
        self.start(chain);
    }

    /// Starts the chains that have waited long enough.
    pub(super) fn start_deferred(&self) {
        for done in 0.. {
            breathe_now_and_then(done);
            let chain = {
                let mut deferred = self.deferred.lock();
                let is_quiet = self.outstanding.load(Ordering::SeqCst) == deferred.requests;
                if is_quiet {
                    deferred.is_draining = false;
                }
                let Some(first) = deferred.chains.front() else {
                    return self.has_deferred.store(false, Ordering::SeqCst);
                };
                let drains = first.sqe.flags.contains(SqeFlags::DRAIN);
                if deferred.is_draining || drains && !is_quiet {
                    return;
                }
                deferred.is_draining = drains;
                deferred.take_chain()
            };
            if let Some(chain) = chain {
                self.start(chain);
            }
        }
    }
}

/// One bad entry spoils its chain: none of it starts, and the bad one tells why.
fn refuse_whole(chain: &mut Request) {
    let mut next = Some(&*chain);
    while let Some(request) = next {
        if matches!(request.action, Action::Refused(_)) {
            let mut spoil = Some(chain);
            while let Some(request) = spoil {
                if !matches!(request.action, Action::Refused(_)) {
                    request.action = Action::Refused(Errno::ECANCELED);
                }
                spoil = request.next.as_deref_mut();
            }
            return;
        }
        next = request.next.as_deref();
    }
}
