//! The owner's channel (`observe=`): the kernel tells what goes on in the machine, over HTTP, also when the app does not answer any more.
//! [`pages`] is what can be asked for, [`threads`], [`recording`] and [`frames`] the longest of them.
//!
//! The kernel's own threads serve it, so the app cannot keep them from it: the scheduler takes the core from an app that never gives it
//! away. Who asks is at most kept waiting, and what is told takes memory that may be missing; the app goes on in any case. The packet
//! filter keeps everybody away whom the word does not name.

mod frames;
mod pages;
mod recording;
mod threads;

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, Ordering};

use spin::Once;
use unikernel_cmdline::Options;
use unikernel_trace::request::{self, Parsed, Request, Status};

use crate::abi::Errno;
use crate::file::long_text::LongText;
use crate::net::stream::own::{Connection, Listener};
use crate::platform::time;
use crate::task::{WaitQueue, scheduler};
use pages::{Content, Refusal};

/// Connections that are served at once: one may be slow, and another is to get in.
const SERVERS: usize = 2;
const BACKLOG: usize = 16;
/// How long a request may take to arrive, and each piece of an answer to leave.
const PATIENCE_NS: u64 = 10 * time::NS_PER_SECOND;
/// How long one answer may take in all.
const LONGEST_ANSWER_NS: u64 = 60 * time::NS_PER_SECOND;
const PIECE_BYTES: usize = 64 << 10;
/// After a connection that could not be accepted, for want of memory perhaps.
const PAUSE_NS: u64 = 100_000_000;

static LISTENER: Once<Listener> = Once::new();
/// Where it listens.
static PORT: AtomicU16 = AtomicU16::new(0);

/// Does as the command line says.
pub(crate) fn start(options: &Options) {
    let Some(observe) = &options.observe else { return };
    match Listener::open(observe.port, BACKLOG) {
        Ok(listener) => {
            PORT.store(observe.port, Ordering::Relaxed);
            LISTENER.call_once(|| listener)
        }
        Err(error) => {
            return log::warn!("`observe=`: port {} cannot be used: {}", observe.port, error.name());
        }
    };
    for _ in 0..SERVERS {
        if scheduler::start_kernel_thread("observe", main).is_err() {
            log::warn!("`observe=`: there is no memory for a thread");
        }
    }
    log::info!("what goes on here is told at port {}", observe.port);
}

/// The channel's port.
fn port() -> u16 {
    PORT.load(Ordering::Relaxed)
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    let nobody = WaitQueue::new();
    loop {
        // What becomes of a connection is its client's business.
        match LISTENER.get().map(Listener::accept) {
            // The app is not to learn what its owner may.
            Some(Ok(connection)) if connection.is_from_here() => {}
            Some(Ok(connection)) => drop(serve(&connection)),
            _ => drop(nobody.wait_uninterrupted(Some(time::now_ns() + PAUSE_NS), || None::<()>)),
        }
    }
}

/// Answers requests until the client wants no more, or takes too long.
fn serve(connection: &Connection) -> Result<(), Errno> {
    let mut bytes = Vec::new();
    let mut deadline_ns = time::now_ns() + PATIENCE_NS;
    loop {
        let (is_persistent, length) = match request::parse(&bytes) {
            Parsed::Partial => {
                if connection.receive(&mut bytes, deadline_ns)? == 0 {
                    return Ok(());
                }
                continue;
            }
            Parsed::Refused(status) => {
                let answer = Answer::text(status, String::from(status.line()));
                return answer.send(connection, false, false);
            }
            Parsed::Whole(request, length) => {
                let answer = Answer::to(&request);
                answer.send(connection, request.is_head, request.is_persistent)?;
                (request.is_persistent, length)
            }
        };
        if !is_persistent {
            return Ok(());
        }
        bytes.drain(..length);
        deadline_ns = time::now_ns() + PATIENCE_NS;
    }
}

/// What a client is told.
struct Answer {
    status: Status,
    content_type: &'static str,
    /// In pieces.
    body: Vec<Vec<u8>>,
}

impl Answer {
    fn to(request: &Request<'_>) -> Self {
        let Some(page) = pages::find(request.path) else {
            return Self::text(Status::NotFound, pages::index());
        };
        let body = match page.content {
            Content::Text(write) => {
                let mut text = LongText::default();
                let written = write(&mut text, request);
                // Nothing else can fail.
                written
                    .map(|()| alloc::vec![String::from(text).into_bytes()])
                    .map_err(|_| Refusal::OutOfMemory)
            }
            Content::Bytes(make) => make(request),
        };
        let refusal = match body {
            Ok(body) => return Self { status: Status::Ok, content_type: page.content_type, body },
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::OutOfMemory => {
                Self::text(Status::Unavailable, String::from("there is no memory for the answer\n"))
            }
            Refusal::Busy => Self::text(
                Status::Unavailable,
                String::from("somebody else has this page; it has one reader at a time\n"),
            ),
            Refusal::BadFilter => Self::text(Status::BadRequest, String::from(frames::FILTERS)),
        }
    }

    fn text(status: Status, text: String) -> Self {
        Self { status, content_type: pages::TEXT, body: alloc::vec![text.into_bytes()] }
    }

    fn send(&self, connection: &Connection, is_head: bool, is_persistent: bool) -> Result<(), Errno> {
        let end_ns = time::now_ns() + LONGEST_ANSWER_NS;
        let length = self.body.iter().map(Vec::len).sum();
        let head = request::head(self.status, self.content_type, length, is_persistent);
        let body: &[Vec<u8>] = if is_head { &[] } else { &self.body };
        let pieces = body.iter().flat_map(|part| part.chunks(PIECE_BYTES));
        for piece in core::iter::once(head.as_bytes()).chain(pieces) {
            connection.send(piece, end_ns.min(time::now_ns() + PATIENCE_NS))?;
        }
        Ok(())
    }
}
