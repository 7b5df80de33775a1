//! One client: a request at a time, and its response as far as the client takes it.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;

use crate::place::Root;
use crate::request::{self, HEAD_BYTES, Parsed};
use crate::response::{self, Piece, Response};

/// What is sent of a file in a turn, in bytes: one client does not hold up the others for longer.
const TURN_BYTES: u64 = 1 << 20;

/// Where a connection stands after its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// An event is needed.
    Waiting,
    /// It could go on at once.
    More,
    /// It is over.
    Finished,
}

/// A client's socket, what it has said, and what it is being told.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    response: Option<Response>,
    active_at: Instant,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, received: Vec::new(), response: None, active_at: Instant::now() }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// When something was last moved, in either direction.
    pub(crate) fn active_at(&self) -> Instant {
        self.active_at
    }

    /// Does what can be done without waiting, up to a turn's share.
    pub(crate) fn advance(&mut self, root: &Root) -> Progress {
        let mut left = TURN_BYTES;
        loop {
            if let Some(progress) = self.go_on_sending(&mut left).or_else(|| self.take_request(root)) {
                return progress;
            }
        }
    }

    /// Sends what is due; `None` once all of it is sent.
    fn go_on_sending(&mut self, left: &mut u64) -> Option<Progress> {
        let response = self.response.as_mut()?;
        let before = *left;
        let outcome = send(&self.stream, response, left);
        if *left < before {
            self.active_at = Instant::now();
        }
        match outcome {
            Ok(()) if !response.pieces.is_empty() => Some(Progress::More),
            Ok(()) => {
                let stays = response.keeps_alive;
                self.response = None;
                (!stays).then_some(Progress::Finished)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(Progress::Waiting),
            Err(_) => Some(Progress::Finished),
        }
    }

    /// Reads until there is a request, and prepares its response; `None` once there is one.
    fn take_request(&mut self, root: &Root) -> Option<Progress> {
        loop {
            match self.next_request() {
                Ok(Some((request, len))) => {
                    self.received.drain(..len);
                    self.response = Some(response::answer(&request, root));
                    // Not before it is whole: who sends a head byte by byte may not stay for ever.
                    self.active_at = Instant::now();
                    return None;
                }
                Err(status) => {
                    self.response = Some(response::broken(status));
                    return None;
                }
                Ok(None) => {}
            }
            match self.receive() {
                Ok(0) => return Some(Progress::Finished),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Progress::Waiting),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Some(Progress::Finished),
            }
        }
    }

    /// The request at the front of what was received, or the status to refuse it with.
    fn next_request(&self) -> Result<Option<(Box<request::Request>, usize)>, u16> {
        match request::parse(&self.received) {
            Parsed::Request(request, len) => Ok(Some((request, len))),
            Parsed::Partial => Ok(None),
            Parsed::Broken(status) => Err(status),
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        let start = self.received.len();
        self.received.resize(HEAD_BYTES, 0);
        let outcome = self.stream.read(&mut self.received[start..]);
        self.received.truncate(start + outcome.as_ref().map_or(0, |&count| count));
        self.received.shrink_to(self.received.len());
        outcome
    }
}

/// Sends up to `left` bytes, and counts them off.
///
/// # Errors
///
/// `WouldBlock` if the client takes no more now; others if it is gone, or the file is shorter than it was.
fn send(mut stream: &TcpStream, response: &mut Response, left: &mut u64) -> io::Result<()> {
    while let Some(piece) = response.pieces.front_mut() {
        if *left == 0 {
            return Ok(());
        }
        let outcome = match piece {
            Piece::Bytes(bytes) => stream.write(bytes).inspect(|&count| drop(bytes.drain(..count))),
            Piece::File(range) => {
                let file = response.file.as_ref().ok_or(ErrorKind::InvalidData)?;
                let count = (range.end - range.start).min(*left);
                // It moves `range.start` on by what was sent.
                rustix::fs::sendfile(stream, file, Some(&mut range.start), count as usize)
                    .map_err(io::Error::from)
            }
        };
        let is_done = match piece {
            Piece::Bytes(bytes) => bytes.is_empty(),
            Piece::File(range) => range.is_empty(),
        };
        match outcome {
            Ok(0) if !is_done => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => *left = left.saturating_sub(count as u64),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if is_done {
            response.pieces.pop_front();
        }
    }
    Ok(())
}
