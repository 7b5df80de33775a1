//! Sends what is logged and what the app writes to the console to a syslog server (`syslog=`), as RFC 5424 over UDP.
//! `platform::records` keeps the lines meanwhile, and `unikernel_syslog` makes messages of them.
//!
//! A line waits until the server, or the gateway towards it, can be reached. What then does not fit the queue is counted, and
//! the server is told how much it was. Nobody who writes ever waits.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};

use unikernel_cmdline::SystemOptions;
use unikernel_syslog::{MAX_MESSAGE_BYTES, MAX_TEXT_BYTES, MAX_TOPIC_BYTES, Message};

use crate::net::datagram::own::Client;
use crate::platform::{records, time};
use crate::process::host_name;
use crate::process::program;
use crate::sync::SpinLock;
use crate::task::{WaitQueue, scheduler};

/// How long the end of the machine waits for a network that is not there.
pub(crate) const LAST_WAIT_NS: u64 = 1_000_000_000;
/// How long a sender waits that could not send, at first and at most.
const FIRST_PAUSE_NS: u64 = 10_000_000;
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;
/// Lines that are sent in a row, before others may run.
const BURST: usize = 32;
/// Before that, the clock has not been set (2000-01-01).
const EARLIEST_WALL_NS: u64 = 946_684_800 * time::NS_PER_SECOND;

static SENDER: SpinLock<Option<Sender>> = SpinLock::new(None);
static NEWS: WaitQueue = WaitQueue::new();
static HAS_NEW_ADDRESSES: AtomicBool = AtomicBool::new(false);

/// Does as the command line says.
pub(super) fn init(options: &SystemOptions) {
    let Some(server) = options.syslog else { return };
    match Sender::new(server) {
        Ok(sender) => *SENDER.lock() = Some(sender),
        Err(_) => return log::warn!("`syslog=`: there is no memory for it"),
    }
    if scheduler::start_kernel_thread("syslog", main).is_err() {
        log::warn!("`syslog=`: there is no memory for its thread");
    }
}

/// Wakes the sender if there are lines. Call it without locks.
#[inline]
pub(crate) fn wake() {
    if records::take_news() {
        NEWS.wake_all();
    }
}

/// There may be a way to the server now.
pub(super) fn addresses_changed() {
    HAS_NEW_ADDRESSES.store(true, Ordering::Relaxed);
    NEWS.wake_all();
}

/// True if lines wait that could be sent.
pub(crate) fn has_unsent() -> bool {
    SENDER.lock().as_ref().is_some_and(Sender::has_unsent)
}

/// Sends what can be sent now: the machine is about to end, and no other thread runs.
pub(crate) fn finish() {
    // A core that was stopped may have held the lock.
    if let Some(mut sender) = SENDER.try_lock()
        && let Some(sender) = &mut *sender
    {
        while sender.step() == Step::Sent {}
    }
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    let mut pause_ns = FIRST_PAUSE_NS;
    loop {
        let step = || SENDER.lock().as_mut().map_or(Step::Empty, Sender::step);
        match (0..BURST).map(|_| step()).find(|step| *step != Step::Sent) {
            None => {
                pause_ns = FIRST_PAUSE_NS;
                scheduler::yield_now();
            }
            Some(Step::Stuck) => {
                let has_way = || HAS_NEW_ADDRESSES.swap(false, Ordering::Relaxed).then_some(());
                let has_way = NEWS.wait_uninterrupted(Some(time::now_ns() + pause_ns), has_way);
                pause_ns =
                    if has_way.is_some() { FIRST_PAUSE_NS } else { (pause_ns * 2).min(LONGEST_PAUSE_NS) };
            }
            Some(_) => {
                pause_ns = FIRST_PAUSE_NS;
                NEWS.wait_uninterrupted(None, || records::has_any().then_some(()));
            }
        }
    }
}

/// What came of an attempt to send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Sent,
    /// There is no way now.
    Stuck,
    Empty,
}

struct Sender {
    server: SocketAddr,
    client: Client,
    /// The next message, and the line that it is made of.
    message: Vec<u8>,
    line: Vec<u8>,
    has_message: bool,
    /// How many messages there were.
    count: u32,
}

impl Sender {
    fn new(server: SocketAddr) -> Result<Self, TryReserveError> {
        let (mut message, mut line) = (Vec::new(), Vec::new());
        message.try_reserve_exact(MAX_MESSAGE_BYTES)?;
        line.try_reserve_exact(MAX_TEXT_BYTES + MAX_TOPIC_BYTES)?;
        Ok(Self { server, client: Client::default(), message, line, has_message: false, count: 0 })
    }

    fn has_unsent(&self) -> bool {
        self.has_message || records::has_any()
    }

    /// Sends one message.
    fn step(&mut self) -> Step {
        if !self.has_message && !self.take_line() {
            return Step::Empty;
        }
        if !records::quietly(|| self.send()) {
            return Step::Stuck;
        }
        self.has_message = false;
        Step::Sent
    }

    fn send(&self) -> bool {
        // The first attempt may be told of an earlier datagram, such as that nobody listens.
        let mut attempts = (0..2).map(|_| self.client.send(self.server, &self.message));
        self.client.can_reach(self.server) && attempts.any(|attempt| attempt.is_ok())
    }

    /// Makes the next line a message.
    fn take_line(&mut self) -> bool {
        let Some(record) = records::pop(&mut self.line) else { return false };
        let age_ns = time::now_ns().saturating_sub(record.at_ns);
        // By the clock as it is now: it may have been set since.
        let wall_ns = time::wall_ns().checked_sub(age_ns).filter(|wall_ns| *wall_ns >= EARLIEST_WALL_NS);
        let path = program::path();
        let app = path.rsplit('/').next().unwrap_or_default();
        let message = Message { record, wall_ns, host: &host_name::get(), app, sequence: self.count };
        message.write(&mut self.message);
        self.count = self.count.wrapping_add(1);
        self.has_message = true;
        true
    }
}
