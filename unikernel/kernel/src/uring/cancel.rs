//! Ending and changing requests that wait.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use linux_raw_sys::general::__kernel_timespec;
use linux_raw_sys::io_uring::*;

use super::Ring;
use super::operation::opcode;
use super::request::{Action, Request};
use super::slots::{Cause, Key, Taken};
use super::sqe::Sqe;
use super::timeout;
use crate::abi::{Errno, SysResult};
use crate::file::{self, OpenFile, Readiness};
use crate::mem::user::UserPtr;
use crate::platform::time;
use crate::process::clocks::{deadline_ns, timespec_ns};
use crate::task::WaitQueue;
use crate::task::scheduler::{breathe, breathe_now_and_then};

/// Which requests are meant (io_uring_prep_cancel(3)).
pub(super) struct Target {
    user_data: Option<u64>,
    file: Option<Arc<OpenFile>>,
    opcode: Option<u8>,
    takes_all: bool,
}

impl Ring {
    /// The operations that end or change others.
    pub(super) fn cancel(&self, sqe: &Sqe) -> SysResult {
        // The search looks at all that waits.
        breathe();
        match sqe.opcode {
            opcode::POLL_REMOVE
                if sqe.len & (IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA) != 0 =>
            {
                self.change_poll(sqe)
            }
            opcode::POLL_REMOVE if sqe.len != 0 => Err(Errno::EINVAL),
            opcode::POLL_REMOVE => {
                self.end_one(sqe.addr, |request| matches!(request.action, Action::Poll { .. }))
            }
            opcode::TIMEOUT_REMOVE if sqe.op_flags & IORING_TIMEOUT_UPDATE_MASK != 0 => {
                self.change_timeout(sqe)
            }
            opcode::TIMEOUT_REMOVE => {
                let is_timeout = |request: &Request| matches!(&request.action, Action::Timeout(timeout) if timeout.victim.is_none());
                self.end_one(sqe.addr, is_timeout)
            }
            _ => {
                let target = self.target(sqe.op_flags, sqe.addr, sqe.fd, sqe.len as u8)?;
                self.end_all(&target)
            }
        }
    }

    /// Reads whom a cancellation means.
    pub(super) fn target(&self, flags: u32, user_data: u64, fd: i32, operation: u8) -> Result<Target, Errno> {
        let known = IORING_ASYNC_CANCEL_ALL
            | IORING_ASYNC_CANCEL_FD
            | IORING_ASYNC_CANCEL_ANY
            | IORING_ASYNC_CANCEL_FD_FIXED
            | IORING_ASYNC_CANCEL_USERDATA
            | IORING_ASYNC_CANCEL_OP;
        if flags & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let has = |bit| flags & bit != 0;
        let by_file = has(IORING_ASYNC_CANCEL_FD);
        let by_any = has(IORING_ASYNC_CANCEL_ANY);
        if by_file && by_any {
            return Err(Errno::EINVAL);
        }
        let by_word =
            !by_any && !by_file && !has(IORING_ASYNC_CANCEL_OP) || has(IORING_ASYNC_CANCEL_USERDATA);
        let file = match (by_file, has(IORING_ASYNC_CANCEL_FD_FIXED)) {
            (false, _) => None,
            (true, true) => Some(self.registered.lock().file(fd as u32)?),
            (true, false) => Some(file::get(fd)?),
        };
        Ok(Target {
            user_data: by_word.then_some(user_data),
            file,
            opcode: has(IORING_ASYNC_CANCEL_OP).then_some(operation),
            takes_all: by_any || has(IORING_ASYNC_CANCEL_ALL),
        })
    }

    /// Ends what is meant: all, and answers how many; or one, and answers 0.
    pub(super) fn end_all(&self, target: &Target) -> SysResult {
        let matches = |user_data: u64, request: Option<&Request>| {
            let is_guard = |request: &Request| matches!(&request.action, Action::Timeout(timeout) if timeout.victim.is_some());
            target.user_data.is_none_or(|wanted| wanted == user_data)
                && match request {
                    None => target.user_data.is_some(),
                    Some(request) => {
                        !is_guard(request)
                            && target.opcode.is_none_or(|wanted| wanted == request.sqe.opcode)
                            && target.file.as_ref().is_none_or(|wanted| {
                                request.file.as_ref().is_some_and(|file| Arc::ptr_eq(file, wanted))
                            })
                    }
                }
        };
        if !target.takes_all {
            let found = self.slots.lock().find(0, matches);
            return self.end(found.ok_or(Errno::ENOENT)?);
        }
        let (mut ended, mut from) = (0, 0);
        for done in 0.. {
            let found = self.slots.lock().find(from, matches);
            let Some(key) = found else { break };
            from = key.index as usize + 1;
            ended += usize::from(self.end(key).is_ok());
            breathe_now_and_then(done);
        }
        if ended > 0 || target.user_data.is_none() { Ok(ended) } else { Err(Errno::ENOENT) }
    }

    fn end_one(&self, user_data: u64, is_kind: impl Fn(&Request) -> bool) -> SysResult {
        let key = self.find_one(user_data, is_kind)?;
        self.end(key)
    }

    fn find_one(&self, user_data: u64, is_kind: impl Fn(&Request) -> bool) -> Result<Key, Errno> {
        let matches = |word, request: Option<&Request>| word == user_data && request.is_some_and(&is_kind);
        let found = self.slots.lock().find(0, matches);
        found.ok_or(Errno::ENOENT)
    }

    fn end(&self, key: Key) -> SysResult {
        // Whether somebody works on it must be known before it is driven to its end.
        let is_waiting = self.slots.lock().change(key, |_| ()).is_some();
        match self.resume(key, Cause::Cancel) {
            Taken::Gone => Err(Errno::ENOENT),
            _ if is_waiting => Ok(0),
            _ => Err(Errno::EALREADY),
        }
    }

    fn change_poll(&self, sqe: &Sqe) -> SysResult {
        let key = self.find_one(sqe.addr, |request| matches!(request.action, Action::Poll { .. }))?;
        let change = |request: &mut Request| {
            if sqe.len & IORING_POLL_UPDATE_USER_DATA != 0 {
                request.sqe.user_data = sqe.off;
            }
            if sqe.len & IORING_POLL_UPDATE_EVENTS != 0
                && let Action::Poll { wanted, is_one_shot } = &mut request.action
            {
                *wanted = Readiness::from_bits_truncate(sqe.op_flags) | Readiness::ALWAYS;
                *is_one_shot = sqe.len & IORING_POLL_ADD_MULTI == 0;
                if let Some(watch) = &request.watch {
                    watch.set_wanted(*wanted);
                }
            }
            request.sqe.user_data
        };
        let user_data = self.slots.lock().change(key, change).ok_or(Errno::EALREADY)?;
        self.slots.lock().rename(key, user_data);
        // What is wanted now may be there already.
        self.resume(key, Cause::Event);
        Ok(0)
    }

    fn change_timeout(&self, sqe: &Sqe) -> SysResult {
        let time = timespec_ns(UserPtr::<__kernel_timespec>::new(sqe.off).read()?)?;
        let deadline_ns = deadline_ns(time, timeout::base(sqe.op_flags));
        let wants_guard = sqe.op_flags & IORING_LINK_TIMEOUT_UPDATE != 0;
        let key = self.find_one(sqe.addr, |request| {
            matches!(&request.action, Action::Timeout(timeout) if timeout.victim.is_some() == wants_guard)
        })?;
        let mut timer = Some(self.alarm(deadline_ns, key));
        let changed = self.slots.lock().change(key, |request| {
            if let Action::Timeout(timeout) = &mut request.action {
                timeout.deadline_ns = deadline_ns;
            }
            core::mem::swap(&mut request.timer, &mut timer);
        });
        // The timer that is not needed is let go without the lock.
        drop(timer);
        changed.map(|()| 0).ok_or(Errno::EALREADY)
    }

    /// Ends everything and waits until nobody is at work on any of it: the address space goes. False if a request does not end.
    pub(crate) fn end_requests(&self) -> bool {
        static NOBODY: WaitQueue = WaitQueue::new();
        const LOOK_NS: u64 = 100_000;
        // A disk that does not answer is given up after a minute, and what was asked of it ends then.
        const MOST_NS: u64 = 90_000_000_000;
        self.cancel_all();
        let deadline_ns = time::now_ns() + MOST_NS;
        while self.outstanding.load(Ordering::Relaxed) != 0 && time::now_ns() < deadline_ns {
            super::run_scheduled();
            let _: Option<()> = NOBODY.wait_uninterrupted(Some(time::now_ns() + LOOK_NS), || None);
        }
        self.outstanding.load(Ordering::Relaxed) == 0
    }

    /// Ends everything: the ring is being closed.
    pub(super) fn cancel_all(&self) {
        loop {
            let chain = self.deferred.lock().take_chain();
            let chain = chain.or_else(|| self.followers.lock().pop_front());
            if chain.is_none() {
                break;
            }
            self.cancel_chain(chain);
        }
        let mut from = 0;
        for done in 0.. {
            let found = self.slots.lock().find(from, |_, _| true);
            let Some(key) = found else { break };
            from = key.index as usize + 1;
            self.resume(key, Cause::Cancel);
            breathe_now_and_then(done);
        }
        loop {
            let follower = self.followers.lock().pop_front();
            if follower.is_none() {
                break;
            }
            self.cancel_chain(follower);
        }
    }
}
