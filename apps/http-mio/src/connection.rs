//! One client: bytes in, requests found in them, responses out.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;

use mio::net::TcpStream;

use crate::response::{self, head_of};

/// Room for request heads. Longer ones are refused.
const BUFFER_BYTES: usize = 4096;
const MAX_HEADERS: usize = 32;

/// Where a connection stands after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// More events are needed.
    Waiting,
    /// It is over.
    Finished,
}

/// A client's socket, what it has said, and what it has not been told yet.
pub(crate) struct Connection {
    stream: TcpStream,
    received: [u8; BUFFER_BYTES],
    filled: usize,
    to_send: Vec<u8>,
    ends_after_send: bool,
}

/// What the front of the buffer holds.
enum Parsed {
    /// A whole request of this many bytes, and its answer.
    Request { bytes: usize, answer: &'static [u8] },
    /// The rest is still to come.
    Partial,
    /// Nothing that can be gone on from; the last answer.
    Broken(&'static [u8]),
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, received: [0; BUFFER_BYTES], filled: 0, to_send: Vec::new(), ends_after_send: false }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Does all that can be done without waiting.
    pub(crate) fn advance(&mut self) -> Progress {
        loop {
            if !self.send() {
                return Progress::Finished;
            }
            if !self.to_send.is_empty() {
                return Progress::Waiting;
            }
            if self.ends_after_send {
                return Progress::Finished;
            }
            match self.stream.read(&mut self.received[self.filled..]) {
                Ok(0) => return Progress::Finished,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waiting,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Progress::Finished,
            }
            self.answer_all();
        }
    }

    /// Sends what is due; false if the client is gone.
    fn send(&mut self) -> bool {
        while !self.to_send.is_empty() {
            match self.stream.write(&self.to_send) {
                Ok(count) => drop(self.to_send.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Answers every whole request in the buffer; clients may send several at once.
    fn answer_all(&mut self) {
        let mut start = 0;
        while start < self.filled && !self.ends_after_send {
            match parse(&self.received[start..self.filled]) {
                Parsed::Request { bytes, answer } => {
                    self.to_send.extend_from_slice(answer);
                    start += bytes;
                }
                Parsed::Partial => break,
                Parsed::Broken(answer) => {
                    self.to_send.extend_from_slice(answer);
                    self.ends_after_send = true;
                }
            }
        }
        self.received.copy_within(start..self.filled, 0);
        self.filled -= start;
        if self.filled == BUFFER_BYTES && !self.ends_after_send {
            self.to_send.extend_from_slice(response::HEAD_TOO_LARGE);
            self.ends_after_send = true;
        }
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    // Left uninitialised: writing all of them costs more than parsing a small request.
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let head_bytes = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(count)) => count,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => return Parsed::Broken(response::HEAD_TOO_LARGE),
        Err(_) => return Parsed::Broken(response::BAD_REQUEST),
    };
    let has_body = request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("transfer-encoding")
            || header.name.eq_ignore_ascii_case("content-length") && header.value != b"0"
    });
    if has_body {
        return Parsed::Broken(response::TOO_LARGE);
    }
    let answer = match request.path {
        Some("/") => response::HELLO,
        Some("/json") => response::JSON,
        _ => response::NOT_FOUND,
    };
    let answer = match request.method {
        Some("GET") => answer,
        Some("HEAD") => head_of(answer),
        _ => response::BAD_METHOD,
    };
    Parsed::Request { bytes: head_bytes, answer }
}
