//! A record as a message (RFC 5424, section 6), one for each datagram (RFC 5426).

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::date::Timestamp;
use crate::record::{MAX_TOPIC_BYTES, Origin, Record};

/// Every server should take messages of this size (RFC 5426, section 3.2).
pub const MAX_MESSAGE_BYTES: usize = 2048;
/// "User-level messages" would not be wrong either; servers are daemons.
const DAEMON: u8 = 3;
const KERNEL: u8 = 0;
const VERSION: u8 = 1;
/// The longest names (section 6).
const MAX_HOST_BYTES: usize = 255;
const MAX_APP_BYTES: usize = 48;

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What it tells.
    pub record: Record<'a>,
    /// The time of the record by the wall clock, in nanoseconds since 1970; none if nobody knows it.
    pub wall_ns: Option<u64>,
    /// The machine's name.
    pub host: &'a str,
    /// The program's name.
    pub app: &'a str,
    /// Its number, by which the server sees what was lost on the way (section 7.3.1).
    pub sequence: u32,
}

impl Message<'_> {
    /// Writes the message, in place of what `into` has. Never makes it larger than [`MAX_MESSAGE_BYTES`].
    pub fn write(&self, into: &mut Vec<u8>) {
        into.clear();
        let mut out = Bounded(into);
        // Only an error says that the bound was reached, and then the message is as long as it may be.
        let _ = self.write_header(&mut out);
        for &byte in self.record.text {
            let is_written = match byte {
                // "SHOULD avoid the use of control characters" (section 6.4): as rsyslog writes them.
                0..b' ' | 0x7f if byte != b'\t' => write!(out, "#{byte:03o}").is_ok(),
                _ => out.put(byte),
            };
            if !is_written {
                break;
            }
        }
    }

    fn write_header(&self, out: &mut Bounded<'_>) -> fmt::Result {
        let (facility, app, process) = match self.record.origin {
            Origin::Kernel => (KERNEL, "kernel", "-"),
            Origin::App => (DAEMON, self.app, "1"),
        };
        write!(out, "<{}>{VERSION} ", facility * 8 + self.record.severity as u8)?;
        match self.wall_ns {
            Some(wall_ns) => write!(out, "{}", Timestamp(wall_ns))?,
            None => out.write_char('-')?,
        }
        write!(out, " {} ", Name(self.host, MAX_HOST_BYTES))?;
        write!(out, "{} {process} ", Name(app, MAX_APP_BYTES))?;
        write!(out, "{} ", Name(self.record.topic, MAX_TOPIC_BYTES))?;
        // From 1 to 2147483647, then from 1 again.
        write!(out, "[meta sequenceId=\"{}\"] ", self.sequence % 0x7fff_ffff + 1)
    }
}

/// A field of printable ASCII; `-` if it is empty.
struct Name<'a>(&'a str, usize);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_char('-');
        }
        let shown = |character: char| if character.is_ascii_graphic() { character } else { '_' };
        self.0.chars().take(self.1).map(shown).try_for_each(|character| f.write_char(character))
    }
}

/// Writes as long as there is room.
struct Bounded<'a>(&'a mut Vec<u8>);

impl Bounded<'_> {
    fn put(&mut self, byte: u8) -> bool {
        let has_room = self.0.len() < MAX_MESSAGE_BYTES;
        if has_room {
            self.0.push(byte);
        }
        has_room
    }
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| self.put(byte)) { Ok(()) } else { Err(fmt::Error) }
    }
}
