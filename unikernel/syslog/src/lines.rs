//! Lines out of what a program writes: without the terminal's colours, with the severity that a line may begin with.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use crate::record::{MAX_TEXT_BYTES, Severity};

const ESCAPE: u8 = 0x1b;

/// Where in a control sequence the writer is (ECMA-48, section 5.4): `ESC [`, parameters, a final byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Text,
    Escape,
    Sequence,
}

/// The line that is being written.
#[derive(Debug)]
pub struct Lines {
    /// Its capacity is never exceeded.
    line: Vec<u8>,
    state: State,
}

impl Lines {
    /// No line yet; fails if there is no memory for one.
    pub fn new() -> Result<Self, TryReserveError> {
        let mut line = Vec::new();
        line.try_reserve_exact(MAX_TEXT_BYTES)?;
        Ok(Self { line, state: State::Text })
    }

    /// Takes what was written, and gives each line that is whole, or too long, to `tell`.
    pub fn write(&mut self, bytes: &[u8], mut tell: impl FnMut(Severity, &[u8])) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (_, b'\n') => {
                    self.end(&mut tell);
                    State::Text
                }
                (_, ESCAPE) => State::Escape,
                (State::Escape, b'[') => State::Sequence,
                (State::Sequence, b' '..=b'?') => State::Sequence,
                // The final byte, of which `m` is the colour's.
                (State::Sequence, b'@'..=b'~') => State::Text,
                _ => {
                    self.put(byte, &mut tell);
                    State::Text
                }
            };
        }
    }

    /// Ends the line that was begun, if one was.
    pub fn end(&mut self, mut tell: impl FnMut(Severity, &[u8])) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let (severity, text) = severity(line);
        if !text.is_empty() {
            tell(severity, text);
        }
        self.line.clear();
    }

    fn put(&mut self, byte: u8, tell: &mut impl FnMut(Severity, &[u8])) {
        if self.line.len() == MAX_TEXT_BYTES {
            let rest = self.cut();
            let (severity, text) = severity(&self.line[..self.line.len() - rest]);
            tell(severity, text);
            self.line.drain(..self.line.len() - rest);
        }
        self.line.push(byte);
    }

    /// How many bytes at the end begin a character that is not whole.
    fn cut(&self) -> usize {
        match core::str::from_utf8(&self.line) {
            Err(error) if error.error_len().is_none() => self.line.len() - error.valid_up_to(),
            _ => 0,
        }
    }
}

/// `<3>` at the front says how much a line matters (sd-daemon(3)).
fn severity(line: &[u8]) -> (Severity, &[u8]) {
    if let [b'<', digit @ b'0'..=b'7', b'>', text @ ..] = line
        && let Some(severity) = Severity::from_number(digit - b'0')
    {
        return (severity, text);
    }
    (Severity::Informational, line)
}
