//! A request from its start to its end.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use linux_raw_sys::io_uring::{IORING_CQE_F_MORE, IORING_CQE_F_NOTIF};
use unikernel_sched::ready::ReadyQueue;

use super::Ring;
use super::attempt::Attempt;
use super::operation::{opcode, takes_file};
use super::request::{Action, Request};
use super::slots::{Cause, Key, Taken};
use super::sqe::SqeFlags;
use super::timeout::{Expiry, Timeout};
use super::workers::wants_worker;
use crate::abi::{Errno, SysResult};
use crate::file::poll_source::Watch;
use crate::file::{self, Readiness};
use crate::platform::events::{self, Kind};
use crate::task::confinement;
use crate::task::scheduler::breathe_now_and_then;
use crate::task::{self, credentials};

impl Ring {
    /// Runs a chain for as long as its requests can be done at once.
    pub(super) fn start(&self, first: Box<Request>) {
        let mut next = Some(first);
        for done in 0.. {
            let Some(mut request) = next else { break };
            breathe_now_and_then(done);
            let sqe = &request.sqe;
            events::note(Kind::RingSubmit, u32::from(sqe.opcode), sqe.user_data, sqe.fd as u64);
            next = match self.resolve(&mut request) {
                Ok(()) => self.drive(request),
                Err(error) => self.finish(request, Err(error), 0),
            };
        }
    }

    /// Finds the request's file, now that those before it in the chain are done.
    fn resolve(&self, request: &mut Request) -> Result<(), Errno> {
        let sqe = &request.sqe;
        if !takes_file(sqe.opcode) || matches!(request.action, Action::Refused(_)) {
            return Ok(());
        }
        let opened = if sqe.flags.contains(SqeFlags::FIXED_FILE) {
            self.registered.lock().file(sqe.fd as u32)?
        } else {
            file::get(sqe.fd)?
        };
        let is_itself = opened.downcast::<Self>().is_some_and(|other| core::ptr::eq(other, self));
        if is_itself && sqe.opcode != opcode::MSG_RING {
            // It would keep itself alive.
            return Err(Errno::EBADF);
        }
        request.file = Some(opened);
        if let Action::Splice(splice) = &mut request.action {
            splice.from = Some(self.source_of(&request.sqe)?);
        }
        Ok(())
    }

    /// Works on a request until it is complete or has to wait; answers what is to be started next.
    pub(super) fn drive(&self, mut request: Box<Request>) -> Option<Box<Request>> {
        if wants_worker(&request) {
            let (request, error) = self.hand_over(request).err()?;
            return self.finish(request, Err(error), 0);
        }
        loop {
            let domain = request.domain.clone();
            let outcome = confinement::acting_in(&domain, || self.attempt_for_owner(&mut request));
            let wanted = match outcome {
                Attempt::Done(result, flags) => return self.finish(request, result, flags),
                Attempt::Blocked(wanted) => Some(wanted),
                Attempt::Waits => None,
            };
            let key = match request.key {
                Some(key) if !self.waits_elsewhere(&request) => key,
                Some(key) => match self.watch(&mut request, key, wanted) {
                    Ok(false) => key,
                    Ok(true) => continue,
                    Err(error) => return self.finish(request, Err(error), 0),
                },
                None => match self.make_waiting(&mut request, wanted) {
                    Ok((key, false)) => key,
                    Ok((_, true)) => continue,
                    Err(error) => return self.finish(request, Err(error), 0),
                },
            };
            // The next try may be made elsewhere.
            request.is_with_worker = false;
            let back = self.slots.lock().park(key, request);
            match back {
                Some(back) => request = back,
                None => return None,
            }
        }
    }

    /// Tries a request. A thread of the kernel's acts for whom the request is.
    fn attempt_for_owner(&self, request: &mut Request) -> Attempt {
        if !credentials::may_be_restricted() || !task::is_kernel_thread() {
            return self.attempt(request);
        }
        let owner = Arc::clone(&self.owner.lock());
        credentials::acting_as(owner, || self.attempt(request))
    }

    /// Prepares a request for its first wait. True if there is reason to look again before it.
    fn make_waiting(&self, request: &mut Request, wanted: Option<Readiness>) -> Result<(Key, bool), Errno> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Errno::ECANCELED);
        }
        let (key, count) = {
            let mut slots = self.slots.lock();
            let key = slots.reserve(request.sqe.user_data).ok_or(Errno::EAGAIN)?;
            (key, slots.count())
        };
        request.key = Some(key);
        // Room for the events of all, as they come where nobody can be refused.
        self.expired.lock().try_reserve(2 * count).map_err(|_| Errno::ENOMEM)?;
        self.followers.lock().try_reserve(count).map_err(|_| Errno::ENOMEM)?;
        self.guard(request, key);
        if let Action::Timeout(timeout) = &mut request.action {
            if timeout.count > 0 {
                timeout.target = Some(self.completions.lock().count_down(timeout.count, key));
            }
            request.timer = Some(self.alarm(timeout.deadline_ns, key));
        }
        self.ready.reserve(count)?;
        Ok((key, self.watch(request, key, wanted)?))
    }

    /// True if a request has to wait for another file than before.
    fn waits_elsewhere(&self, request: &Request) -> bool {
        let watched = request.watch.as_ref().map(|watch| &watch.file);
        let awaited = request.awaited.as_ref().map(|opened| &opened.file);
        awaited.is_some_and(|awaited| !watched.is_some_and(|watched| Arc::ptr_eq(watched, awaited)))
    }

    /// Watches the file that a request waits for, and no other. True if there is reason to look again.
    fn watch(&self, request: &mut Request, key: Key, wanted: Option<Readiness>) -> Result<bool, Errno> {
        unwatch(request);
        let awaited = request.awaited.as_ref().or(request.file.as_ref());
        let (Some(wanted), Some(opened)) = (wanted, awaited) else { return Ok(false) };
        // A file that cannot tell when it is ready cannot be waited for.
        let source = opened.file.poll_source().ok_or(Errno::EAGAIN)?;
        let bits = (wanted | Readiness::ALWAYS | Readiness::RDHUP).bits();
        let watch_key = (key.index as i32, key.generation as usize);
        let file = Arc::clone(&opened.file);
        let ready = Arc::clone(&self.ready);
        let watch = Watch::new(file, watch_key, (bits, 0), ready, None);
        source.attach(Arc::clone(&watch))?;
        let is_ready = opened.file.readiness().bits() & bits != 0;
        request.watch = Some(watch);
        Ok(is_ready)
    }

    /// Starts the time-out that watches over a request, if the next in its chain is one.
    fn guard(&self, request: &mut Request, victim: Key) {
        let Some(mut guard) = request.next.take_if(|next| next.is_link_timeout()) else { return };
        request.next = guard.next.take();
        if let Action::Timeout(timeout) = &mut guard.action {
            timeout.victim = Some(victim);
        }
        let Action::Timeout(timeout) = &guard.action else { return drop(self.finish_cancelled(guard)) };
        let deadline_ns = timeout.deadline_ns;
        let reserved = self.slots.lock().reserve(guard.sqe.user_data);
        let Some(key) = reserved else { return drop(self.finish_cancelled(guard)) };
        guard.key = Some(key);
        guard.timer = Some(self.alarm(deadline_ns, key));
        request.guard = Some(key);
        self.park_timeout(key, guard);
    }

    /// Lets a time-out wait, unless it shall end.
    fn park_timeout(&self, key: Key, request: Box<Request>) {
        let mut back = self.slots.lock().park(key, request);
        while let Some(request) = back {
            if request.is_cancelled {
                return drop(self.finish(request, Err(Errno::ECANCELED), 0));
            }
            // Its time came a moment ago: whoever found it busy comes again.
            back = self.slots.lock().park(key, request);
        }
    }

    /// Completes a request; answers what is to be started next.
    pub(super) fn finish(
        &self,
        mut request: Box<Request>,
        result: SysResult,
        flags: u32,
    ) -> Option<Box<Request>> {
        self.leave(&mut request);
        let value = match result {
            Ok(value) => value as i32,
            Err(error) => -error.number(),
        };
        let is_zero_copy = matches!(request.sqe.opcode, opcode::SEND_ZC | opcode::SENDMSG_ZC);
        let flags = if is_zero_copy && result.is_ok() { flags | IORING_CQE_F_MORE } else { flags };
        let has_failed = result.is_err() && !is_good_end(&request, result);
        if has_failed || !request.sqe.flags.contains(SqeFlags::SKIP_SUCCESS) {
            self.post(request.sqe.user_data, value, flags);
        }
        if is_zero_copy && result.is_ok() {
            // The bytes were copied: their memory is the app's again.
            self.post(request.sqe.user_data, 0, IORING_CQE_F_NOTIF);
        }
        self.count_end();
        if let Some(guard) = request.guard.take() {
            self.end_guard(guard);
        }
        let mut next = request.next.take();
        if next.as_ref().is_some_and(|next| next.is_link_timeout()) {
            // The request was done before its time-out began.
            let guard = next.take();
            next = guard.and_then(|guard| self.finish_cancelled(guard));
        }
        let goes_on =
            !has_failed && !is_short(&request, result) || request.sqe.flags.contains(SqeFlags::HARD_LINK);
        if goes_on {
            return next;
        }
        self.cancel_chain(next);
        None
    }

    fn finish_cancelled(&self, mut request: Box<Request>) -> Option<Box<Request>> {
        let reason = if let Action::Refused(reason) = request.action { reason } else { Errno::ECANCELED };
        self.post(request.sqe.user_data, -reason.number(), 0);
        self.count_end();
        request.next.take()
    }

    /// A request is complete. Chains may have waited for that, whoever has brought it to its end.
    fn count_end(&self) {
        // Either this core sees that there are chains, or who puts one there sees the end.
        self.outstanding.fetch_sub(1, Ordering::SeqCst);
        if self.has_deferred.load(Ordering::SeqCst) {
            self.schedule();
        }
    }

    /// Ends a chain that was not started.
    pub(super) fn cancel_chain(&self, first: Option<Box<Request>>) {
        let mut next = first;
        for done in 0.. {
            let Some(request) = next else { break };
            next = self.finish_cancelled(request);
            breathe_now_and_then(done);
        }
    }

    /// Takes back what a waiting request has set up.
    fn leave(&self, request: &mut Request) {
        unwatch(request);
        drop(request.timer.take());
        if let Some(key) = request.key.take() {
            if let Action::Timeout(Timeout { target: Some(target), .. }) = request.action {
                self.completions.lock().stop_counting(target, key);
            }
            self.slots.lock().release(key);
        }
    }

    fn end_guard(&self, guard: Key) {
        let taken = self.slots.lock().take(guard, Cause::Cancel);
        if let Taken::Request(mut request) = taken {
            self.leave(&mut request);
            let _ = self.finish_cancelled(request);
        }
    }

    /// Goes on with a request to which something has happened.
    pub(super) fn resume(&self, key: Key, cause: Cause) -> Taken {
        let taken = self.slots.lock().take(key, cause);
        match taken {
            Taken::Request(request) => {
                self.follow(self.drive(request));
                Taken::Noted
            }
            other => other,
        }
    }

    /// Has the rest of a chain started soon. Not at once: chains that cancel each other could go on so for as
    /// long as they like, each in the call of the one before.
    pub(super) fn follow(&self, next: Option<Box<Request>>) {
        if let Some(next) = next {
            self.followers.lock().push_back(next);
            self.schedule();
        }
    }

    /// Does what is to be done for this ring just now.
    pub(super) fn work(&self) {
        // First, so that what comes from here on schedules the ring again.
        self.is_scheduled.store(false, Ordering::SeqCst);
        for done in 0.. {
            let Some(watch) = self.ready.pop() else { break };
            let key = Key { index: watch.key.0 as u32, generation: watch.key.1 as u32 };
            self.resume(key, Cause::Event);
            breathe_now_and_then(done);
        }
        // One by one: the queue keeps its memory, which was reserved for all requests that wait.
        let count = self.expired.lock().len();
        for done in 0..count {
            let first = self.expired.lock().pop_front();
            let Some((key, expiry)) = first else { break };
            self.expire(key, expiry);
            breathe_now_and_then(done);
        }
        for done in 0.. {
            let next = self.followers.lock().pop_front();
            let Some(next) = next else { break };
            self.start(next);
            breathe_now_and_then(done);
        }
        self.start_deferred();
        self.announce();
    }

    /// A time-out's time has come.
    fn expire(&self, key: Key, expiry: Expiry) {
        let taken = self.slots.lock().take(key, Cause::Event);
        let mut request = match taken {
            Taken::Request(request) => request,
            Taken::Gone => return,
            Taken::Noted => {
                // It is about to be parked, on another core.
                self.expired.lock().push_back((key, expiry));
                return self.schedule();
            }
        };
        let Action::Timeout(timeout) = &mut request.action else { return };
        if let Some(victim) = timeout.victim {
            let result = match self.resume(victim, Cause::Cancel) {
                Taken::Gone => Err(Errno::ECANCELED),
                _ => Err(Errno::ETIME),
            };
            // What it stood in front of hangs on its victim now.
            return drop(self.finish(request, result, 0));
        }
        if expiry == Expiry::Time && timeout.advance() {
            let deadline_ns = timeout.deadline_ns;
            request.timer = Some(self.alarm(deadline_ns, key));
            if self.post(request.sqe.user_data, -Errno::ETIME.number(), IORING_CQE_F_MORE) {
                return self.park_timeout(key, request);
            }
            // The queue is full: whoever wants more asks anew.
        }
        let result = if expiry == Expiry::Time { Err(Errno::ETIME) } else { Ok(0) };
        self.follow(self.finish(request, result, 0));
    }
}

fn unwatch(request: &mut Request) {
    if let Some(watch) = request.watch.take()
        && let Some(source) = watch.file.poll_source()
    {
        source.detach(&watch);
    }
}

/// True if an error is what the app wanted to happen.
fn is_good_end(request: &Request, result: SysResult) -> bool {
    matches!(&request.action, Action::Timeout(timeout) if timeout.is_success && result == Err(Errno::ETIME))
}

/// True if less was moved than asked for, which ends a chain.
fn is_short(request: &Request, result: SysResult) -> bool {
    let wanted = match &request.action {
        Action::Read { buffers, .. } | Action::Write { buffers, .. } => buffers,
        Action::Receive { buffers, flags } | Action::Send { buffers, flags, .. }
            if flags.contains(crate::net::socket::MessageFlags::WAIT_ALL) =>
        {
            buffers
        }
        Action::Splice(_) => return result.is_ok_and(|count| count < request.sqe.len as usize),
        _ => return false,
    };
    let wanted: usize = wanted.iter().map(crate::mem::user::UserSlice::len).sum();
    result.is_ok_and(|count| count < wanted) && request.selected.is_none()
}
