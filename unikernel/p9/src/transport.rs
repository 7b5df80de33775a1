//! How messages reach the server.

use core::fmt;

/// Carries messages to a server and back, one at a time.
pub trait Transport: Send {
    /// Sends one message and waits for the answer to it, whose first bytes go to `reply` up to its end; answers how many these were.
    /// Both are whole messages, with their header; `reply` has room for the longest that was agreed on.
    ///
    /// What the answer holds is not checked here.
    fn exchange(&mut self, request: &[u8], reply: &mut [u8]) -> Result<usize, TransportError>;
}

/// The message could not be sent, or nothing came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportError;

impl fmt::Display for TransportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the server does not answer")
    }
}

impl core::error::Error for TransportError {}
