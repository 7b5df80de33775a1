//! Records that wait, in a memory that does not grow.
//!
//! What finds no room is counted. Before the next record that finds some stands one that tells the count, so the server learns
//! of the gap where it is.

use alloc::collections::{TryReserveError, VecDeque};
use alloc::vec::Vec;
use core::fmt::Write;

use arrayvec::ArrayString;

use crate::record::{MAX_TEXT_BYTES, MAX_TOPIC_BYTES, Origin, Record, Severity};

/// Time, length of the text, length of the topic, severity, origin.
const HEADER_BYTES: usize = 8 + 2 + 1 + 1 + 1;
/// Of the text of a gap, with any number in it.
const GAP_BYTES: usize = 64;

/// A bounded queue of records.
#[derive(Debug)]
pub struct Queue {
    /// Records, one behind the other; its capacity is never exceeded.
    bytes: VecDeque<u8>,
    capacity: usize,
    /// How many found no room since the last that did.
    lost: u32,
}

impl Queue {
    /// An empty queue of so many bytes; fails if there is no memory for it.
    pub fn new(capacity: usize) -> Result<Self, TryReserveError> {
        let mut bytes = VecDeque::new();
        bytes.try_reserve_exact(capacity)?;
        Ok(Self { bytes, capacity, lost: 0 })
    }

    /// Appends a record, or counts it.
    pub fn push(&mut self, record: &Record<'_>) {
        let mut text = ArrayString::<GAP_BYTES>::new();
        let mut needed = size_of(record);
        if self.lost > 0 {
            // The longest number fits.
            let _ = write!(text, "{} lines were lost: the queue is full", self.lost);
        }
        let (origin, severity) = (Origin::Kernel, Severity::Warning);
        let gap = Record { origin, severity, topic: "syslog", text: text.as_bytes(), ..*record };
        if self.lost > 0 {
            needed += size_of(&gap);
        }
        if self.capacity - self.bytes.len() < needed {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        if core::mem::take(&mut self.lost) > 0 {
            self.put(&gap);
        }
        self.put(record);
    }

    fn put(&mut self, record: &Record<'_>) {
        let (topic, text) = parts(record);
        self.bytes.extend(record.at_ns.to_le_bytes());
        self.bytes.extend((text.len() as u16).to_le_bytes());
        self.bytes.extend([topic.len() as u8, record.severity as u8, record.origin as u8]);
        self.bytes.extend(topic);
        self.bytes.extend(text);
    }

    /// True if no record waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the first record out. Its topic and text come into `buffer`.
    pub fn pop<'a>(&mut self, buffer: &'a mut Vec<u8>) -> Option<Record<'a>> {
        let at_ns = u64::from_le_bytes(self.take()?);
        let text_len = usize::from(u16::from_le_bytes(self.take()?));
        let [topic_len, severity, origin] = self.take()?;
        let topic_len = usize::from(topic_len);
        buffer.clear();
        buffer.extend(self.bytes.drain(..(topic_len + text_len).min(self.bytes.len())));
        let (topic, text) = buffer.split_at_checked(topic_len)?;
        Some(Record {
            at_ns,
            origin: if origin == Origin::App as u8 { Origin::App } else { Origin::Kernel },
            severity: Severity::from_number(severity)?,
            topic: core::str::from_utf8(topic).ok()?,
            text,
        })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.bytes.len() < N {
            return None;
        }
        let mut taken = [0; N];
        taken.iter_mut().zip(self.bytes.drain(..N)).for_each(|(into, byte)| *into = byte);
        Some(taken)
    }
}

/// Topic and text, as long as they may be.
fn parts<'a>(record: &Record<'a>) -> (&'a [u8], &'a [u8]) {
    let topic = &record.topic[..record.topic.floor_char_boundary(MAX_TOPIC_BYTES)];
    (topic.as_bytes(), &record.text[..record.text.len().min(MAX_TEXT_BYTES)])
}

fn size_of(record: &Record<'_>) -> usize {
    let (topic, text) = parts(record);
    HEADER_BYTES + topic.len() + text.len()
}
