//! What was typed and not yet read: a line being edited, and what can be read.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The longest line, its end included; more is not taken (`MAX_CANON`).
pub const MAX_LINE_BYTES: usize = 4096;
/// What can be read is kept up to here for an app that does not; what comes then is lost.
pub const MAX_INPUT_BYTES: usize = 65_536;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: VecDeque<u8>,
    /// Lengths of the complete lines in it, as far as they were not read; none if bytes are read as they come.
    lines: VecDeque<usize>,
    /// The line that is being typed.
    pub(super) edited: Vec<u8>,
}

impl Input {
    pub(super) const fn new() -> Self {
        Self { bytes: VecDeque::new(), lines: VecDeque::new(), edited: Vec::new() }
    }

    /// Bytes that can be read, those of all lines together.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn has_line(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Adds to the line being typed, if that is not too long: one byte stays free for its end.
    pub(super) fn edit(&mut self, byte: u8) {
        if self.edited.len() < MAX_LINE_BYTES - 1 && self.edited.try_reserve(1).is_ok() {
            self.edited.push(byte);
        }
    }

    /// Ends the line being typed, with `end` if it has one.
    pub(super) fn end_line(&mut self, end: Option<u8>) {
        let len = self.edited.len() + usize::from(end.is_some());
        let fits = self.bytes.len() + len <= MAX_INPUT_BYTES && self.lines.len() < MAX_INPUT_BYTES;
        if fits && self.bytes.try_reserve(len).is_ok() && self.lines.try_reserve(1).is_ok() {
            self.lines.push_back(len);
            self.bytes.extend(&self.edited);
            self.bytes.extend(end);
        }
        self.edited.clear();
    }

    /// Adds a byte that can be read at once.
    pub(super) fn push(&mut self, byte: u8) {
        if self.bytes.len() < MAX_INPUT_BYTES && self.bytes.try_reserve(1).is_ok() {
            self.bytes.push_back(byte);
        }
    }

    /// From here on bytes are read as they come.
    pub(super) fn dissolve_lines(&mut self) {
        self.lines.clear();
        let edited = core::mem::take(&mut self.edited);
        edited.into_iter().for_each(|byte| self.push(byte));
    }

    /// From here on lines are read: what is there already is one.
    pub(super) fn make_line(&mut self) {
        if !self.bytes.is_empty() && self.lines.try_reserve(1).is_ok() {
            self.lines.push_back(self.bytes.len());
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
        self.edited.clear();
    }

    /// The oldest bytes: of the oldest line, where there are lines. An empty line is the end of the input; `None` means
    /// that there is nothing to read.
    pub(super) fn content(&self, is_canonical: bool, wanted: usize) -> Option<[&[u8]; 2]> {
        let available = if is_canonical { *self.lines.front()? } else { self.bytes.len() };
        if !is_canonical && available == 0 {
            return None;
        }
        let count = wanted.min(available);
        let (head, tail) = self.bytes.as_slices();
        let head = &head[..count.min(head.len())];
        Some([head, &tail[..count - head.len()]])
    }

    /// Takes out what [`Self::content`] showed, or the start of it.
    pub(super) fn consume(&mut self, count: usize) {
        let mut count = count.min(self.bytes.len());
        if let Some(line) = self.lines.front_mut() {
            count = count.min(*line);
            *line -= count;
            if *line == 0 {
                self.lines.pop_front();
            }
        }
        self.bytes.drain(..count);
    }
}
