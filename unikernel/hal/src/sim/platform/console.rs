//! The console: what is written is kept for the test, what the test has given is read.

use core::fmt;
use std::vec::Vec;

use spin::Once;

use crate::sim::engine::Single;

/// A console that a driver brings.
pub trait Port: Sync {
    /// Writes bytes as they are to be shown.
    fn write(&self, bytes: &[u8]);
    /// The same in a panic.
    fn write_in_panic(&self, bytes: &[u8]);
    /// Waits until all is shown.
    fn flush(&self);
    /// Reads what has come in, without waiting; answers how many bytes.
    fn read(&self, buffer: &mut [u8]) -> usize;
    /// True if [`Self::read`] would answer something.
    fn has_input(&self) -> bool;
}

/// More than this is not kept.
const MOST_BYTES: usize = 1 << 20;

static WRITTEN: Single<Vec<u8>> = Single::new(Vec::new());
static INPUT: Single<Vec<u8>> = Single::new(Vec::new());
static ON_INPUT: Once<fn()> = Once::new();
/// The second console.
static PORT: Once<&'static dyn Port> = Once::new();

/// Writes all of `bytes`.
pub fn write(bytes: &[u8]) {
    keep(bytes);
    if let Some(port) = PORT.get() {
        port.write(bytes);
    }
}

fn keep(bytes: &[u8]) {
    WRITTEN.with(|written| {
        let room = MOST_BYTES.saturating_sub(written.len()).min(bytes.len());
        written.extend_from_slice(&bytes[..room]);
    });
}

/// Writes bytes in which line ends are as they are to be shown.
pub fn write_processed(bytes: &[u8]) {
    write(bytes);
}

/// Takes a second console into use.
pub fn attach(port: &'static dyn Port) {
    port.write(&written());
    PORT.call_once(|| port);
}

/// Waits until all is shown.
pub(in crate::sim) fn flush() {
    if let Some(port) = PORT.get() {
        port.flush();
    }
}

/// There will be no second console.
pub fn forget_early() {}

/// Writes although a lock may be held.
pub fn write_in_panic(bytes: &[u8]) {
    keep(bytes);
    if let Some(port) = PORT.get() {
        port.write_in_panic(bytes);
    }
}

/// Reads what has come in, without waiting; answers how many bytes.
pub fn read(buffer: &mut [u8]) -> usize {
    let count = INPUT.with(|input| {
        let count = buffer.len().min(input.len());
        buffer[..count].copy_from_slice(&input[..count]);
        input.drain(..count);
        count
    });
    count + PORT.get().map_or(0, |port| port.read(&mut buffer[count..]))
}

/// True if [`read`] would answer something.
pub fn has_input() -> bool {
    INPUT.with(|input| !input.is_empty()) || PORT.get().is_some_and(|port| port.has_input())
}

/// Calls `on_input` whenever input came.
pub fn enable_input(on_input: fn()) {
    ON_INPUT.call_once(|| on_input);
}

/// From the interrupt of whatever brings input.
pub fn input_arrived() {
    if let Some(on_input) = ON_INPUT.get() {
        on_input();
    }
}

/// Types on the console; the kernel hears of it at once.
pub(in crate::sim) fn type_in(bytes: &[u8]) {
    INPUT.with(|input| input.extend_from_slice(bytes));
}

/// What was written so far.
pub(in crate::sim) fn written() -> Vec<u8> {
    WRITTEN.with(|written| written.clone())
}

/// Formats straight to the console.
pub struct Writer;

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
