//! Where a server's time goes, request by request: what `cargo unikernel tail` prints of a recording.
//!
//! A request begins with its first bytes from the card and ends with the last bytes of its answer to it. Which thread reads it and which
//! answers is known by the calls on the connection's descriptor; what those threads do meanwhile, by the scheduler's events. So an app need
//! not say anything about its requests. What goes to and fro on a connection at once is one request here: the kernel does not read what an
//! app means by its bytes.
//!
//! [`threads`] is what each thread does at each time, [`connections`] which requests there are, [`divide`] puts both together, and
//! [`report`] is the text.

mod connections;
mod divide;
mod report;
mod threads;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::recording::{Clock, Recording};
pub use connections::Connection;
pub use report::write;

/// What a request's time is spent on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(usize)]
pub enum Part {
    /// From its first bytes to its last, on their way from the client.
    Arrival,
    /// Until the thread that reads it is told of it.
    Wake,
    /// A thread could run, and others have the core.
    Core,
    /// The thread serves other connections.
    Others,
    /// The app runs.
    App,
    /// The kernel runs, for the app or for a device.
    Kernel,
    /// A thread sleeps in futex(2): a lock or a condition of the app's.
    Futex,
    /// A thread sleeps for a lock of the kernel's.
    Lock,
    /// A thread sleeps while a disk works.
    Disk,
    /// A thread sleeps for a time (nanosleep(2)).
    Sleep,
    /// A thread sleeps in epoll_wait(2) or its like, with the request read: for another connection, a timer, another thread.
    Events,
    /// A thread sleeps in a call on another socket or pipe.
    Peer,
    /// A thread sleeps in another call.
    Call,
    /// From the call that writes the answer to its last bytes.
    Sending,
    /// Bytes were lost on their way, and sent once more.
    Resending,
    /// What the recording does not tell.
    Unknown,
}

impl Part {
    const COUNT: usize = Self::Unknown as usize + 1;

    /// All of them, in a request's order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Arrival,
        Self::Wake,
        Self::Core,
        Self::Others,
        Self::App,
        Self::Kernel,
        Self::Futex,
        Self::Lock,
        Self::Disk,
        Self::Sleep,
        Self::Events,
        Self::Peer,
        Self::Call,
        Self::Sending,
        Self::Resending,
        Self::Unknown,
    ];

    /// For a table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Arrival => "the request arrives",
            Self::Wake => "until its thread is woken",
            Self::Core => "waits for a core",
            Self::Others => "other connections first",
            Self::App => "app runs",
            Self::Kernel => "kernel runs",
            Self::Futex => "futex (lock, condition)",
            Self::Lock => "lock of the kernel",
            Self::Disk => "disk",
            Self::Sleep => "sleeps for a time",
            Self::Events => "epoll (timer, other event)",
            Self::Peer => "other socket or pipe",
            Self::Call => "sleeps in another call",
            Self::Sending => "written until sent",
            Self::Resending => "lost, and sent again",
            Self::Unknown => "not known",
        }
    }
}

/// A stretch of a request's time that something other than its own work took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// What it was.
    pub part: Part,
    /// When, in steps of the time-stamp counter.
    pub begin: u64,
    /// Until when.
    pub end: u64,
    /// The thread.
    pub thread: u64,
    /// The call that it was in, and its first argument.
    pub call: Option<(u32, u64)>,
    /// Who woke it; where it waited for a core, who had that for the longest. 0 is the kernel, or nobody that is known.
    pub other: u64,
}

impl Stretch {
    fn length(&self) -> u64 {
        self.end.saturating_sub(self.begin)
    }
}

/// A request that was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Its connection.
    pub connection: Connection,
    /// When its first bytes came.
    pub begin: u64,
    /// When the last bytes of its answer went out.
    pub end: u64,
    /// When something came back, an acknowledgement or the next request.
    pub acknowledged: Option<u64>,
    /// Bytes of the request and of the answer.
    pub bytes: [u64; 2],
    /// Its time by [`Part`], which are all of it.
    pub parts: [u64; Part::COUNT],
    /// The longest stretch in which nobody worked on it.
    pub longest: Option<Stretch>,
}

impl Request {
    /// From the first byte in to the last byte out, in steps of the time-stamp counter.
    pub fn length(&self) -> u64 {
        self.end.saturating_sub(self.begin)
    }
}

/// What a recording tells of a server's requests.
#[derive(Debug)]
pub struct Tail {
    /// Those that were answered, the fastest first.
    pub requests: Vec<Request>,
    /// Connections with requests.
    pub connections: usize,
    /// When requests began that were not answered when the recording ended.
    pub unanswered: Vec<(Connection, u64)>,
    /// The time of the recording.
    pub span: Range<u64>,
    /// Events that are missing.
    pub lost: u64,
    clock: Clock,
    names: BTreeMap<u64, String>,
}

impl Tail {
    /// Reads them out of a recording. `call_name` knows the names of system calls.
    pub fn of(recording: &Recording<'_>, call_name: &dyn Fn(u32) -> Option<&'static str>) -> Self {
        let events = recording.by_time();
        let at = |event: Option<&(u32, crate::event::Event)>| event.map_or(0, |(_, event)| event.at);
        let span = at(events.first())..at(events.last());
        let threads = threads::Threads::of(recording, &events, call_name);
        let connections = connections::Connections::of(recording, &events);
        let found = connections.requests(&threads.accesses);
        let mut with_requests: Vec<Connection> =
            found.answered.iter().map(|found| found.connection).collect();
        with_requests.extend(found.unanswered.iter().map(|(connection, _)| *connection));
        with_requests.sort_unstable();
        with_requests.dedup();
        let busy = divide::Busy::of(&found.answered);
        let mut requests: Vec<Request> =
            found.answered.iter().map(|found| divide::divide(found, &busy, &threads)).collect();
        requests.sort_by_key(Request::length);
        Self {
            requests,
            connections: with_requests.len(),
            unanswered: found.unanswered,
            span,
            lost: recording.lost(),
            clock: recording.clock,
            names: recording.names().map(|(id, name)| (id, String::from(name))).collect(),
        }
    }

    /// The requests around a rank of a thousand by their time: a twentieth of all around the middle, and a hundredth around the 99th percentile.
    pub fn around(&self, per_mille: usize) -> &[Request] {
        let count = self.requests.len();
        let width = if per_mille > 900 { count / 100 } else { count / 20 };
        let begin = (count * per_mille / 1000).saturating_sub(width / 2);
        &self.requests[begin.min(count.saturating_sub(1))..(begin + width.max(1)).min(count)]
    }
}

#[cfg(test)]
mod tests;
