//! One client: bytes in, commands carried out, replies kept until they may be sent.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

use crate::commands::{self, Then};
use crate::database::Database;
use crate::error::CommandError;
use crate::reply;
use crate::resp::{Parsed, Parser};

/// With so many bytes still to be sent, a client's further requests wait.
const PAUSE_BYTES: usize = 256 << 10;
/// Room for replies that a client keeps.
const KEPT_BYTES: usize = 4 << 10;

/// A client.
pub(crate) struct Client {
    stream: TcpStream,
    parser: Parser,
    /// Of a request that is not whole, or, in a pause, of further ones.
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output has been sent.
    sent: usize,
    /// How much of the output was there before this turn: what follows must not be sent before the turn's
    /// changes are durable.
    settled: usize,
    /// There may be more to read: mio tells of it once only.
    is_readable: bool,
    /// Requests wait in the input.
    is_paused: bool,
    /// Nothing more is read, and the end of the output is the end.
    is_closing: bool,
    /// In the server's list of those to be served.
    pub(crate) is_queued: bool,
}

impl Client {
    /// A client whose strings have at most so many bytes.
    pub(crate) fn new(stream: TcpStream, max_bulk: usize) -> Self {
        Self {
            stream,
            parser: Parser::new(max_bulk),
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            settled: 0,
            is_readable: false,
            is_paused: false,
            is_closing: false,
            is_queued: false,
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// There is something to read, or the end.
    pub(crate) fn note_readable(&mut self) {
        self.is_readable = true;
    }

    /// Memory that it holds beside its own.
    pub(crate) fn held_bytes(&self) -> usize {
        self.input.capacity() + self.output.capacity() + self.parser.held_bytes()
    }

    fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Reads once and carries out what is whole.
    pub(crate) fn work(&mut self, scratch: &mut [u8], database: &mut Database) {
        self.settled = self.output.len();
        if self.is_paused && self.unsent() < PAUSE_BYTES {
            self.take(&[], database);
        }
        if self.is_closing || self.is_paused || !self.is_readable || self.unsent() >= PAUSE_BYTES {
            return;
        }
        match self.stream.read(scratch) {
            Ok(0) => self.is_closing = true,
            Ok(count) => {
                // Less than there was room for is all there was (epoll(7)).
                self.is_readable = count == scratch.len();
                self.take(&scratch[..count], database);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.is_closing = true,
        }
    }

    /// Carries out what is whole in the input and in `more`, and keeps the rest.
    fn take(&mut self, more: &[u8], database: &mut Database) {
        if self.input.is_empty() {
            let used = self.run(more, database);
            self.input.extend_from_slice(&more[used..]);
            return;
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(more);
        let used = self.run(&input, database);
        if used < input.len() {
            input.drain(..used);
            input.shrink_to(2 * input.len().max(KEPT_BYTES));
            self.input = input;
        }
    }

    /// Carries out the requests at the front of `input`; answers their length.
    fn run(&mut self, input: &[u8], database: &mut Database) -> usize {
        let mut start = 0;
        self.is_paused = false;
        while !self.is_closing {
            if self.unsent() >= PAUSE_BYTES {
                self.is_paused = true;
                break;
            }
            let rest = &input[start..];
            match self.parser.parse(rest) {
                Ok(Parsed::Partial) => break,
                Ok(Parsed::Request(bytes)) => {
                    let arguments = self.parser.arguments(rest);
                    if arguments.len() > 0 {
                        let then = commands::execute(database, arguments, &mut self.output);
                        self.is_closing |= then == Then::Close;
                    }
                    self.parser.reset();
                    start += bytes;
                }
                Err(error) => {
                    reply::error(&mut self.output, &format_args!("ERR {error}"));
                    self.is_closing = true;
                }
            }
        }
        if self.is_closing { input.len() } else { start }
    }

    /// This turn's changes are not durable: none of its replies is sent, and, for the client cannot tell
    /// which they were, the connection ends.
    pub(crate) fn fail(&mut self, why: &str) {
        if self.output.len() > self.settled {
            self.output.truncate(self.settled);
            reply::error(&mut self.output, &CommandError::Log(why.to_owned()));
            self.is_closing = true;
        }
    }

    /// Sends what it can.
    ///
    /// # Errors
    ///
    /// If the client is gone.
    pub(crate) fn send(&mut self) -> io::Result<()> {
        while self.unsent() > 0 {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
        Ok(())
    }

    /// True if it is to be forgotten.
    pub(crate) fn is_over(&self) -> bool {
        self.is_closing && self.unsent() == 0
    }

    /// True if it can go on without an event.
    pub(crate) fn wants_turn(&self) -> bool {
        !self.is_closing && self.unsent() < PAUSE_BYTES && (self.is_readable || self.is_paused)
    }
}
