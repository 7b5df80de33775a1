//! One client: bytes in, whole requests found, answers out.

use alloc::rc::Rc;
use alloc::vec::Vec;

use unikernel::Error;
use unikernel::embedded_io::{Read, Write};
use unikernel::net::TcpStream;
use unikernel::poll::Event;

use crate::files::Files;
use crate::metrics::Metrics;
use crate::request::{self, Parsed};
use crate::response;

/// Room for request heads; longer ones are refused. It bounds what a slow client can hold.
const HEAD_BYTES: usize = 2048;
/// Answers beyond this wait until the client has taken some: a client that sends requests and reads
/// nothing must not fill the memory.
const MAX_PENDING_BYTES: usize = 64 * 1024;

/// Where a connection stands after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It waits for more.
    Waiting,
    /// It is over.
    Finished,
}

/// Room that connections use in turn. It is made once, as zeroing it for each request would cost
/// more than the request.
pub(crate) struct Scratch {
    input: [u8; HEAD_BYTES],
    output: [u8; HEAD_BYTES],
}

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self { input: [0; HEAD_BYTES], output: [0; HEAD_BYTES] }
    }
}

/// What the socket had no room for, in this order.
#[derive(Default)]
struct Pending {
    /// Answers, and how much of them has been sent since.
    answers: Vec<u8>,
    sent: usize,
    /// A file, and how much of it has been sent. Nothing is answered before it is out.
    file: Option<(Rc<[u8]>, usize)>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.file.is_none()
    }

    /// Sends what there is room for.
    fn send(&mut self, stream: &mut TcpStream) -> Result<(), Error> {
        if !self.answers.is_empty() {
            self.sent += stream.write(&self.answers[self.sent..])?;
            if self.sent < self.answers.len() {
                return Ok(());
            }
            (self.answers, self.sent) = (Vec::new(), 0);
        }
        if let Some((content, sent)) = &mut self.file {
            *sent += stream.write(&content[*sent..])?;
            if *sent == content.len() {
                self.file = None;
            }
        }
        Ok(())
    }
}

/// A client's socket, and what could not be dealt with at once. Both buffers are empty, and take no
/// memory, while the client is quiet or quick.
pub(crate) struct Connection {
    stream: TcpStream,
    /// The beginning of a request whose rest is still to come.
    partial: Vec<u8>,
    pending: Pending,
    ends_after_send: bool,
    idle_sweeps: u8,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            partial: Vec::new(),
            pending: Pending::default(),
            ends_after_send: false,
            idle_sweeps: 0,
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// True if the client has to read before anything else happens.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// True at the second sweep without an event in between.
    pub(crate) fn is_stale(&mut self) -> bool {
        self.idle_sweeps += 1;
        self.idle_sweeps > 1
    }

    /// Does what can be done without waiting.
    pub(crate) fn advance(
        &mut self,
        event: Event,
        files: &Files,
        metrics: &mut Metrics,
        scratch: &mut Scratch,
    ) -> Progress {
        self.idle_sweeps = 0;
        if self.is_blocked() {
            if !event.is_writable() {
                return Progress::Finished;
            }
            match self.pending.send(&mut self.stream) {
                Ok(()) | Err(Error::WOULD_BLOCK | Error::INTERRUPTED) => {}
                Err(_) => return Progress::Finished,
            }
            if self.is_blocked() {
                return Progress::Waiting;
            }
            if self.ends_after_send {
                return Progress::Finished;
            }
        }
        match self.receive(files, metrics, scratch) {
            Ok(()) if self.ends_after_send && !self.is_blocked() => Progress::Finished,
            Ok(()) | Err(Error::WOULD_BLOCK | Error::INTERRUPTED) => Progress::Waiting,
            Err(_) => Progress::Finished,
        }
    }

    /// Reads once: level-triggered polling comes back if there is more. What was read before and waited behind a file is
    /// answered in any case.
    fn receive(&mut self, files: &Files, metrics: &mut Metrics, scratch: &mut Scratch) -> Result<(), Error> {
        let Scratch { input: buffer, output } = scratch;
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        // There is room: whatever was kept, something before it was answered, or it would have been refused.
        let (count, is_end) = match self.stream.read(&mut buffer[kept..]) {
            Ok(count) => (count, count == 0),
            Err(Error::WOULD_BLOCK) if kept > 0 => (0, false),
            Err(error) => return Err(error),
        };
        self.partial.clear();
        let mut rest = &buffer[..kept + count];
        let mut out = Outbox::new(&mut self.stream, &mut self.pending, output);
        while !rest.is_empty() && !self.ends_after_send && !out.has_file() {
            match request::parse(rest) {
                Parsed::Request(request) => {
                    metrics.requests += 1;
                    response::answer(&request, files, metrics, &mut out);
                    self.ends_after_send = request.wants_close || out.is_overfull();
                    rest = &rest[request.len..];
                }
                Parsed::Partial if rest.len() < HEAD_BYTES => break,
                Parsed::Partial => self.ends_after_send = out.refuse(response::HEAD_TOO_LARGE, metrics),
                Parsed::Broken(answer) => self.ends_after_send = out.refuse(answer, metrics),
            }
        }
        self.ends_after_send |= is_end && !out.has_file();
        let outcome = out.flush();
        if !self.ends_after_send {
            self.partial.extend_from_slice(rest);
        }
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        outcome
    }
}

/// Gathers the answers to one batch of requests, so that they leave with one call.
pub(crate) struct Outbox<'a> {
    stream: &'a mut TcpStream,
    pending: &'a mut Pending,
    buffer: &'a mut [u8; HEAD_BYTES],
    filled: usize,
    error: Option<Error>,
}

impl<'a> Outbox<'a> {
    fn new(stream: &'a mut TcpStream, pending: &'a mut Pending, buffer: &'a mut [u8; HEAD_BYTES]) -> Self {
        Self { stream, pending, buffer, filled: 0, error: None }
    }

    /// Adds bytes to what is sent.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if let Some(room) = self.buffer.get_mut(self.filled..self.filled + bytes.len()) {
            room.copy_from_slice(bytes);
            self.filled += bytes.len();
            return;
        }
        self.send_buffer();
        if bytes.len() <= HEAD_BYTES {
            self.buffer[..bytes.len()].copy_from_slice(bytes);
            self.filled = bytes.len();
        } else {
            self.error = self.error.or(keep(self.stream, self.pending, bytes).err());
        }
    }

    /// Adds a file, which is not copied however long it takes to send it.
    pub(crate) fn push_shared(&mut self, content: &Rc<[u8]>) {
        if content.len() <= HEAD_BYTES {
            return self.push(content);
        }
        self.send_buffer();
        match send(self.stream, self.pending, content) {
            Ok(sent) if sent < content.len() => self.pending.file = Some((Rc::clone(content), sent)),
            Ok(_) => {}
            Err(error) => self.error = self.error.or(Some(error)),
        }
    }

    /// True if a file has to go out before anything is answered.
    fn has_file(&self) -> bool {
        self.pending.file.is_some()
    }

    /// Adds the last answer of a connection that cannot go on. Always true, for the caller's flag.
    fn refuse(&mut self, answer: &[u8], metrics: &mut Metrics) -> bool {
        metrics.bad_requests += 1;
        self.push(answer);
        true
    }

    /// True if the client does not read what it asked for.
    fn is_overfull(&self) -> bool {
        self.pending.answers.len() > MAX_PENDING_BYTES
    }

    fn send_buffer(&mut self) {
        let filled = core::mem::take(&mut self.filled);
        self.error = self.error.or(keep(self.stream, self.pending, &self.buffer[..filled]).err());
    }

    fn flush(mut self) -> Result<(), Error> {
        if self.filled > 0 {
            self.send_buffer();
        }
        self.error.map_or(Ok(()), Err)
    }
}

/// Sends bytes behind what waits already; keeps what the socket has no room for.
fn keep(stream: &mut TcpStream, pending: &mut Pending, bytes: &[u8]) -> Result<(), Error> {
    let sent = send(stream, pending, bytes)?;
    pending.answers.extend_from_slice(&bytes[sent..]);
    Ok(())
}

/// Sends what the socket has room for, if nothing waits already. Answers how much that was.
fn send(stream: &mut TcpStream, pending: &Pending, bytes: &[u8]) -> Result<usize, Error> {
    let mut sent = 0;
    while sent < bytes.len() && pending.is_empty() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(Error::INTERRUPTED) => {}
            Err(Error::WOULD_BLOCK) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
