//! Lines in the kernel's log, which name the module.

use core::fmt::{self, Write};

use crate::{Context, abi};

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Level {
    /// Something does not work.
    Error = 1,
    /// Something is odd.
    Warn = 2,
    /// For whoever reads logs.
    Info = 3,
    /// For whoever looks for something.
    Debug = 4,
}

/// The longest line.
const MOST_BYTES: usize = 256;

/// A line; what does not fit is left out.
struct Line {
    bytes: [u8; MOST_BYTES],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut count = text.len().min(MOST_BYTES - self.len);
        while !text.is_char_boundary(count) {
            count -= 1;
        }
        self.bytes[self.len..self.len + count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        Ok(())
    }
}

fn with_line(text: fmt::Arguments<'_>, work: impl FnOnce(*const u8, usize)) {
    let mut line = Line { bytes: [0; MOST_BYTES], len: 0 };
    // It takes everything.
    let _ = line.write_fmt(text);
    work(line.bytes.as_ptr(), line.len);
}

impl Context {
    /// Writes a line; see [`crate::info!`].
    pub fn log(self, level: Level, text: fmt::Arguments<'_>) {
        with_line(text, |start, bytes| {
            // SAFETY: the line is there while the kernel reads it.
            unsafe { abi::uk_log(self.number(), level as u32, start, bytes) };
        });
    }
}

/// Ends the machine with a report.
#[cfg(feature = "loadable")]
pub(crate) fn panic(module: u64, text: fmt::Arguments<'_>) -> ! {
    let mut line = Line { bytes: [0; MOST_BYTES], len: 0 };
    let _ = line.write_fmt(text);
    // SAFETY: the line is there while the kernel reads it.
    unsafe { abi::uk_panic(module, line.bytes.as_ptr(), line.len) }
}

/// Logs for whoever reads logs: `info!(context, "{count} things")`.
#[macro_export]
macro_rules! info {
    ($context:expr, $($text:tt)*) => { $context.log($crate::Level::Info, ::core::format_args!($($text)*)) };
}

/// Logs that something is odd.
#[macro_export]
macro_rules! warn {
    ($context:expr, $($text:tt)*) => { $context.log($crate::Level::Warn, ::core::format_args!($($text)*)) };
}

/// Logs that something does not work.
#[macro_export]
macro_rules! error {
    ($context:expr, $($text:tt)*) => { $context.log($crate::Level::Error, ::core::format_args!($($text)*)) };
}
